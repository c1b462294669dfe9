package codec

import (
	"encoding/binary"
	"math"

	"github.com/dolthub/go-mysql-server/sql/types"
)

// Geometries are stored in MySQL's own form: four bytes of SRID, little endian, then Well-Known Binary. The reader is ours
// because the engine's trusts the counts inside.
type wkbReader struct {
	b      []byte
	srid   uint32
	order  binary.ByteOrder
	failed bool
}

// maxWKBDepth bounds collections inside collections.
const maxWKBDepth = 100

func decodeGeometry(b []byte) (any, error) {
	if len(b) < 4 {
		return nil, ErrCorrupt
	}
	r := &wkbReader{b: b[4:], srid: binary.LittleEndian.Uint32(b)}
	g := r.geometry(0)
	if r.failed || g == nil || len(r.b) != 0 {
		return nil, ErrCorrupt
	}
	return g, nil
}

func (r *wkbReader) take(n int) []byte {
	if r.failed || len(r.b) < n {
		r.failed = true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *wkbReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return r.order.Uint32(b)
	}
	return 0
}

// count reads a number of items that take size bytes each at least.
func (r *wkbReader) count(size int) int {
	n := r.uint32()
	if uint64(n)*uint64(size) > uint64(len(r.b)) {
		r.failed = true
		return 0
	}
	return int(n)
}

// header reads the byte order and the type that stand before every geometry.
func (r *wkbReader) header() uint32 {
	b := r.take(1)
	if b == nil {
		return 0
	}
	r.order = binary.LittleEndian
	if b[0] == 0 {
		r.order = binary.BigEndian
	}
	return r.uint32()
}

const (
	wkbHeaderSize = 5
	wkbCountSize  = 4
	wkbPointSize  = 16
)

func (r *wkbReader) geometry(depth int) types.GeometryValue {
	if depth > maxWKBDepth {
		r.failed = true
		return nil
	}
	switch r.header() {
	case types.WKBPointID:
		return r.point()
	case types.WKBLineID:
		return r.line()
	case types.WKBPolyID:
		return r.polygon()
	case types.WKBMultiPointID:
		g := types.MultiPoint{SRID: r.srid, Points: make([]types.Point, r.count(wkbHeaderSize+wkbPointSize))}
		for i := range g.Points {
			r.expect(types.WKBPointID)
			g.Points[i] = r.point()
		}
		return g
	case types.WKBMultiLineID:
		g := types.MultiLineString{SRID: r.srid, Lines: make([]types.LineString, r.count(wkbHeaderSize+wkbCountSize))}
		for i := range g.Lines {
			r.expect(types.WKBLineID)
			g.Lines[i] = r.line()
		}
		return g
	case types.WKBMultiPolyID:
		g := types.MultiPolygon{SRID: r.srid, Polygons: make([]types.Polygon, r.count(wkbHeaderSize+wkbCountSize))}
		for i := range g.Polygons {
			r.expect(types.WKBPolyID)
			g.Polygons[i] = r.polygon()
		}
		return g
	case types.WKBGeomCollID:
		g := types.GeomColl{SRID: r.srid, Geoms: make([]types.GeometryValue, r.count(wkbHeaderSize))}
		for i := range g.Geoms {
			if g.Geoms[i] = r.geometry(depth + 1); r.failed {
				return nil
			}
		}
		return g
	}
	r.failed = true
	return nil
}

func (r *wkbReader) expect(typ uint32) {
	if r.header() != typ {
		r.failed = true
	}
}

func (r *wkbReader) point() types.Point {
	b := r.take(wkbPointSize)
	if b == nil {
		return types.Point{}
	}
	return types.Point{
		SRID: r.srid,
		X:    math.Float64frombits(r.order.Uint64(b)),
		Y:    math.Float64frombits(r.order.Uint64(b[8:])),
	}
}

func (r *wkbReader) line() types.LineString {
	g := types.LineString{SRID: r.srid, Points: make([]types.Point, r.count(wkbPointSize))}
	for i := range g.Points {
		g.Points[i] = r.point()
	}
	return g
}

func (r *wkbReader) polygon() types.Polygon {
	g := types.Polygon{SRID: r.srid, Lines: make([]types.LineString, r.count(wkbCountSize))}
	for i := range g.Lines {
		g.Lines[i] = r.line()
	}
	return g
}
