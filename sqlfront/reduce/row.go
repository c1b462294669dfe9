package reduce

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
)

// ErrCorrupt says that a stored row cannot be read.
var ErrCorrupt = errors.New("reduce: damaged row")

// field is a column of the row at hand.
type field struct {
	null   bool
	stored uint64 // of the kinds that are compared
}

// Ordinal maps the stored forms of a kind to numbers in the order of their values.
func Ordinal(kind Kind, stored uint64) uint64 {
	const sign = 1 << 63
	switch kind {
	case Signed:
		return uint64(signed(stored)) ^ sign
	case Time:
		v := signed(stored >> 1)
		if stored&1 == 0 {
			v *= 1e6
		}
		return uint64(v) ^ sign
	}
	return stored
}

// signed is the integer of a zigzag form.
func signed(stored uint64) int64 { return int64(stored>>1) ^ -int64(stored&1) }

// StoredSigned is the stored form of a Signed integer.
func StoredSigned(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// reader takes the columns of a program out of rows.
type reader struct {
	columns  []Column
	defaults []field
	row      []field
}

func newReader(columns []Column) reader {
	r := reader{columns: columns, defaults: make([]field, len(columns)), row: make([]field, len(columns))}
	for i, c := range columns {
		r.defaults[i] = defaultOf(c)
	}
	return r
}

func validDefault(c Column) bool {
	if c.Default == nil {
		return true
	}
	tag, n := binary.Uvarint(c.Default)
	if n <= 0 || tag > codec.WireMask {
		return false
	}
	rest, err := codec.SkipPayload(tag, c.Default[n:])
	return err == nil && len(rest) == 0 && (tag == codec.WireNull || c.Kind == Any || tag == codec.WireVarint)
}

// defaultOf is the value of a valid default.
func defaultOf(c Column) field {
	if c.Default == nil {
		return field{null: true}
	}
	tag, n := binary.Uvarint(c.Default)
	f := field{null: tag == codec.WireNull}
	if tag == codec.WireVarint {
		f.stored, _ = binary.Uvarint(c.Default[n:])
	}
	return f
}

// read takes the columns out of a stored row. It stops at the last one it needs, as
// codec.RowCodec does.
func (r *reader) read(value []byte) error {
	_, b, err := codec.Header(value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	next := 0
	for id := uint64(0); len(b) > 0 && next < len(r.columns); {
		var tag uint64
		if tag, b = uvarint(b); b == nil || tag>>codec.WireBits == 0 || tag>>codec.WireBits > 1<<32-1-id {
			return fmt.Errorf("%w: column tag", ErrCorrupt)
		}
		id += tag >> codec.WireBits
		for next < len(r.columns) && uint64(r.columns[next].ID) < id {
			r.row[next] = r.defaults[next]
			next++
		}
		if b, err = r.take(&next, id, tag&codec.WireMask, b); err != nil {
			return err
		}
	}
	for ; next < len(r.columns); next++ {
		r.row[next] = r.defaults[next]
	}
	return nil
}

// take reads one stored column, or skips it.
func (r *reader) take(next *int, id, wire uint64, b []byte) ([]byte, error) {
	wanted := *next < len(r.columns) && uint64(r.columns[*next].ID) == id
	var f field
	switch wire {
	case codec.WireVarint:
		if f.stored, b = uvarint(b); b == nil {
			return nil, fmt.Errorf("%w: column id %d", ErrCorrupt, id)
		}
	case codec.WireNull:
		f.null = true
	default:
		rest, err := codec.SkipPayload(wire, b)
		if err != nil || wanted && r.columns[*next].Kind != Any {
			return nil, fmt.Errorf("%w: column id %d", ErrCorrupt, id)
		}
		b = rest
	}
	if wanted {
		r.row[*next] = f
		*next++
	}
	return b, nil
}

// uvarint is binary.Uvarint that returns the rest, nil if there is no number. Most
// numbers of a row have one byte or two.
func uvarint(b []byte) (uint64, []byte) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:]
	}
	if len(b) > 1 && b[1] < 0x80 {
		return uint64(b[0]&0x7f) | uint64(b[1])<<7, b[2:]
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil
	}
	return v, b[n:]
}
