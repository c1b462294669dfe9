package catalog

import (
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"
	"github.com/dolthub/vitess/go/vt/proto/query"
)

// Type is a column type at rest. Base is the protocol's type code
// (query.Type); the other fields qualify it and mean what they mean in a column
// definition.
type Type struct {
	Base      int32    `json:"base"`
	Length    int64    `json:"length,omitempty"` // characters, bits, digits, display width or dimensions
	Scale     int      `json:"scale,omitempty"`  // decimals, or fractional seconds
	Collation uint16   `json:"collation,omitempty"`
	Values    []string `json:"values,omitempty"`
	// Geometry names the spatial type; SRID is nil when the column accepts any.
	Geometry string  `json:"geometry,omitempty"`
	SRID     *uint32 `json:"srid,omitempty"`
}

// NewType is the stored form of t, or an error for types that columns cannot have.
func NewType(t sql.Type) (Type, error) {
	d := Type{Base: int32(t.Type())}
	switch t := t.(type) {
	case types.VectorType:
		d.Length = int64(t.Dimensions)
	case sql.SpatialColumnType:
		if srid, ok := t.GetSpatialTypeSRID(); ok {
			d.SRID = &srid
		}
		d.Geometry = geometryName(t)
	case sql.EnumType:
		d.Values, d.Collation = t.Values(), uint16(t.Collation())
	case sql.SetType:
		d.Values, d.Collation = t.Values(), uint16(t.Collation())
	case sql.DecimalType:
		d.Length, d.Scale = int64(t.Precision()), int(t.Scale())
	case types.BitType:
		d.Length = int64(t.NumberOfBits())
	case sql.StringType:
		d.Length, d.Collation = stringLength(t), uint16(t.Collation())
	case types.JsonType, types.TimeType:
	case sql.DatetimeType:
		d.Scale = t.Precision()
	case sql.NumberType:
		d.Length = int64(t.DisplayWidth())
	default:
		if t.Type() != sqltypes.Year {
			return Type{}, fmt.Errorf("catalog: a column cannot have the type %s", t)
		}
	}
	return d, nil
}

// stringLength is the length that a definition of t would give: bytes for
// binary strings and the TEXT family, characters for CHAR and VARCHAR.
func stringLength(t sql.StringType) int64 {
	if types.IsTextBlob(t) || types.IsBinaryType(t) {
		return t.MaxByteLength()
	}
	return t.MaxCharacterLength()
}

// SQL is the engine's type.
func (d Type) SQL() (sql.Type, error) {
	base := query.Type(d.Base)
	collation := sql.CollationID(d.Collation)
	switch {
	case d.Geometry != "":
		return d.geometry()
	case base == sqltypes.Enum:
		return types.CreateEnumType(d.Values, collation)
	case base == sqltypes.Set:
		return types.CreateSetType(d.Values, collation)
	case base == sqltypes.Decimal:
		return types.CreateColumnDecimalType(uint8(d.Length), uint8(d.Scale))
	case base == sqltypes.Bit:
		return types.CreateBitType(uint8(d.Length))
	case base == sqltypes.TypeJSON:
		return types.JSON, nil
	case base == sqltypes.Time:
		return types.Time, nil
	case base == sqltypes.Year:
		return types.Year, nil
	case base == sqltypes.Vector:
		return types.CreateVectorType(int(d.Length))
	case base == sqltypes.Date || base == sqltypes.Datetime || base == sqltypes.Timestamp:
		return types.CreateDatetimeType(base, d.Scale)
	case sqltypes.IsText(base) || sqltypes.IsBinary(base):
		return types.CreateString(base, d.Length, collation)
	case sqltypes.IsIntegral(base) || sqltypes.IsFloat(base):
		return types.CreateNumberTypeWithDisplayWidth(base, int(d.Length))
	}
	return nil, fmt.Errorf("%w: type code %d", ErrCorrupt, d.Base)
}

var geometries = map[string]sql.SpatialColumnType{
	"geometry": types.GeometryType{}, "point": types.PointType{}, "linestring": types.LineStringType{},
	"polygon": types.PolygonType{}, "multipoint": types.MultiPointType{}, "multilinestring": types.MultiLineStringType{},
	"multipolygon": types.MultiPolygonType{}, "geometrycollection": types.GeomCollType{},
}

func geometryName(t sql.SpatialColumnType) string {
	switch t.(type) {
	case types.PointType:
		return "point"
	case types.LineStringType:
		return "linestring"
	case types.PolygonType:
		return "polygon"
	case types.MultiPointType:
		return "multipoint"
	case types.MultiLineStringType:
		return "multilinestring"
	case types.MultiPolygonType:
		return "multipolygon"
	case types.GeomCollType:
		return "geometrycollection"
	}
	return "geometry"
}

func (d Type) geometry() (sql.Type, error) {
	t, ok := geometries[d.Geometry]
	if !ok {
		return nil, fmt.Errorf("%w: spatial type %q", ErrCorrupt, d.Geometry)
	}
	if d.SRID == nil {
		return t.(sql.Type), nil
	}
	return t.SetSRID(*d.SRID), nil
}
