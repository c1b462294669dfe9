package reduce

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
)

// Filter says which rows are wanted, and what of them.
type Filter struct {
	Columns []Column // ascending by id
	Where   Condition
	// OrNull wants also rows for which the condition is NULL: who asks evaluates more
	// of them.
	OrNull bool
	// Keep are the ids of the columns that are wanted, ascending; nil: all.
	Keep []uint32
}

// Valid reports whether the filter is one that a Chooser can run.
func (f *Filter) Valid() error {
	p := Program{Columns: f.Columns, Where: &f.Where}
	if len(f.Keep) > maxColumns || !slices.IsSorted(f.Keep) {
		return ErrFormat
	}
	return p.Valid()
}

// Append appends the encoding of a valid filter.
func (f *Filter) Append(b []byte) []byte {
	p := Program{Columns: f.Columns, Where: &f.Where}
	b = appendBool(p.Append(append(b, format)), f.OrNull)
	b = appendBool(b, f.Keep != nil)
	if f.Keep == nil {
		return b
	}
	b = appendUint(b, uint64(len(f.Keep)))
	for _, id := range f.Keep {
		b = appendUint(b, uint64(id))
	}
	return b
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func (d *decoder) bool() bool { return d.small(1) == 1 }

// DecodeFilter reads what Append wrote.
func DecodeFilter(b []byte) (*Filter, error) {
	d := decoder{b: b}
	if d.byte() != format {
		return nil, ErrFormat
	}
	p := d.program()
	f := &Filter{OrNull: d.bool()}
	if d.bool() {
		f.Keep = []uint32{}
		d.each(maxColumns, func() { f.Keep = append(f.Keep, uint32(d.small(1<<32-1))) })
	}
	if err := d.done(); err != nil || p.Where == nil || len(p.Groups)+len(p.Aggregates) > 0 {
		return nil, ErrFormat
	}
	f.Columns, f.Where = p.Columns, *p.Where
	return f, f.Valid()
}

// Chooser runs a filter over rows. It belongs to one goroutine.
type Chooser struct {
	filter *Filter
	where  Condition
	reader reader
	kept   []byte
}

// NewChooser returns a chooser for a valid filter.
func NewChooser(f *Filter) *Chooser {
	return &Chooser{filter: f, where: f.Where.ready(), reader: newReader(f.Columns)}
}

// Row returns what is wanted of a stored row, as a stored row; false if nothing is. It
// is valid until the next call.
func (c *Chooser) Row(value []byte) (kept []byte, wanted bool, err error) {
	if err := c.reader.read(value); err != nil {
		return nil, false, err
	}
	switch c.where.holds(c.filter.Columns, c.reader.row) {
	case no:
		return nil, false, nil
	case unknown:
		if !c.filter.OrNull {
			return nil, false, nil
		}
	}
	if c.filter.Keep == nil {
		return value, true, nil
	}
	err = c.keep(value)
	return c.kept, err == nil, err
}

// keep copies the wanted columns of a row. One that is missing stays so: who reads the
// row knows its default.
func (c *Chooser) keep(value []byte) error {
	_, b, err := codec.Header(value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	c.kept = append(c.kept[:0], value[:len(value)-len(b)]...)
	want, last := c.filter.Keep, uint64(0)
	for id := uint64(0); len(b) > 0 && len(want) > 0; {
		var tag uint64
		if tag, b = uvarint(b); b == nil || tag>>codec.WireBits == 0 || tag>>codec.WireBits > 1<<32-1-id {
			return fmt.Errorf("%w: column tag", ErrCorrupt)
		}
		id += tag >> codec.WireBits
		rest, err := codec.SkipPayload(tag&codec.WireMask, b)
		if err != nil {
			return fmt.Errorf("%w: column id %d", ErrCorrupt, id)
		}
		for len(want) > 0 && uint64(want[0]) < id {
			want = want[1:]
		}
		if len(want) > 0 && uint64(want[0]) == id {
			c.kept = binary.AppendUvarint(c.kept, (id-last)<<codec.WireBits|tag&codec.WireMask)
			c.kept, last = append(c.kept, b[:len(b)-len(rest)]...), id
		}
		b = rest
	}
	return nil
}
