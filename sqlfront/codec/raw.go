package codec

import (
	"encoding/binary"
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/sqltypes"
)

// Raw is a value of a row as it is stored, for who has no use for the engine's form of it.
type Raw struct {
	Null  bool
	Whole uint64 // of a whole number: the number, in two's complement if it has a sign
	Text  []byte // of text; part of the row
	Other any    // of what is neither: as Project gives it
}

// RawForm says which field of Raw a column fills.
type RawForm uint8

// The forms.
const (
	RawOther RawForm = iota
	RawSigned
	RawUnsigned
	RawText
)

// RawFormOf is the form of columns of a type. Whole numbers are the integer types; YEAR, BIT, ENUM and SET are not.
func RawFormOf(t sql.Type) RawForm {
	switch t.Type() {
	case sqltypes.Int8, sqltypes.Int16, sqltypes.Int24, sqltypes.Int32, sqltypes.Int64:
		return RawSigned
	case sqltypes.Uint8, sqltypes.Uint16, sqltypes.Uint24, sqltypes.Uint32, sqltypes.Uint64:
		return RawUnsigned
	case sqltypes.Char, sqltypes.VarChar, sqltypes.Text:
		return RawText
	}
	return RawOther
}

// RawProjection is a Projection that leaves values as they are stored.
type RawProjection struct{ wanted []rawWanted }

type rawWanted struct {
	column *rowColumn
	id     uint64
	form   RawForm
	least  Raw // what a row has that was written before the column existed
	dst    int
}

// NewRawProjection is NewProjection. The positions must differ.
func (c *RowCodec) NewRawProjection(positions []int) (*RawProjection, error) {
	plain, err := c.NewProjection(positions)
	if err != nil {
		return nil, err
	}
	p := &RawProjection{wanted: make([]rawWanted, len(plain.wanted))}
	for i, w := range plain.wanted {
		n := rawWanted{column: w.column, id: uint64(w.column.ID), form: RawFormOf(w.column.Type), dst: w.dst}
		if i > 0 && n.id == p.wanted[i-1].id {
			return nil, fmt.Errorf("project column id %d twice", n.id)
		}
		if n.least, err = n.defaultValue(); err != nil {
			return nil, fmt.Errorf("default of column id %d: %w", n.id, err)
		}
		p.wanted[i] = n
	}
	return p, nil
}

// Len is the number of projected columns.
func (p *RawProjection) Len() int { return len(p.wanted) }

func (w *rawWanted) defaultValue() (v Raw, err error) {
	b := w.column.Default
	if b == nil {
		return Raw{Null: true}, nil
	}
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag > wireMask {
		return v, ErrCorrupt
	}
	rest, err := w.read(tag, b[n:], &v)
	if err == nil && len(rest) != 0 {
		err = ErrCorrupt
	}
	return v, err
}

// Read reads the columns of p; dst[i] gets the i-th of them. It stops at the last column it needs, as RowCodec.Project does.
func (p *RawProjection) Read(data []byte, dst []Raw) error {
	if len(dst) != len(p.wanted) {
		return fmt.Errorf("decode row: room for %d of %d columns", len(dst), len(p.wanted))
	}
	_, b, err := header(data)
	if err != nil {
		return fmt.Errorf("decode row: %w", err)
	}
	want := p.wanted
	for id := uint64(0); len(b) > 0 && len(want) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>wireBits == 0 || tag>>wireBits > 1<<32-1-id {
			return fmt.Errorf("decode row: %w: column tag", ErrCorrupt)
		}
		id, b = id+tag>>wireBits, b[n:]
		for ; len(want) > 0 && want[0].id < id; want = want[1:] {
			dst[want[0].dst] = want[0].least
		}
		if len(want) == 0 || want[0].id != id {
			b, err = skipPayload(tag&wireMask, b)
		} else {
			b, err = want[0].read(tag&wireMask, b, &dst[want[0].dst])
			want = want[1:]
		}
		if err != nil {
			return fmt.Errorf("decode row: column id %d: %w", id, err)
		}
	}
	for i := range want {
		dst[want[i].dst] = want[i].least
	}
	return nil
}

// read reads a value of a wire form, and returns what follows it.
func (w *rawWanted) read(wire uint64, b []byte, to *Raw) (rest []byte, err error) {
	switch {
	case wire == wireNull:
		*to = Raw{Null: true}
		return b, nil
	case w.form == RawText && wire == wireBytes:
		body, rest, err := sized(b)
		*to = Raw{Text: body[:len(body):len(body)]}
		return rest, err
	case w.form != RawOther && w.form != RawText && wire == wireVarint:
		u, n := binary.Uvarint(b)
		if n <= 0 || !w.column.kind.wholeFits(u) {
			return nil, ErrCorrupt
		}
		if w.form == RawSigned {
			u = uint64(unzigzag(u))
		}
		*to = Raw{Whole: u}
		return b[n:], nil
	}
	*to = Raw{}
	to.Other, rest, err = w.column.decode(wire, b)
	return rest, err
}

// wholeFits tells whether fromVarint takes a stored whole number.
func (k kind) wholeFits(u uint64) bool {
	switch k {
	case kindInt8:
		return u < 1<<8
	case kindInt16:
		return u < 1<<16
	case kindInt32:
		return u < 1<<32
	case kindUint8:
		return u < 1<<8
	case kindUint16:
		return u < 1<<16
	case kindUint32:
		return u < 1<<32
	}
	return k == kindInt64 || k == kindUint64
}

// Value is what Project gives for a value of a column of type t.
func (v *Raw) Value(t sql.Type) (any, error) {
	if v.Null {
		return nil, nil
	}
	k, err := kindOf(t)
	if err != nil {
		return nil, err
	}
	switch RawFormOf(t) {
	case RawSigned:
		return k.fromVarint(zigzag(int64(v.Whole)))
	case RawUnsigned:
		return k.fromVarint(v.Whole)
	case RawText:
		return string(v.Text), nil
	}
	return v.Other, nil
}
