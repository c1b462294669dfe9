package codec

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
)

// ErrVersion says that a row was written in a format this build does not know.
var ErrVersion = errors.New("unknown row format")

// rowFormat is the first byte of every row.
//
// Format 1 goes on with a uvarint, the version of the schema that wrote the row, and then holds one value per column in the
// order of column ids: a uvarint of the distance from the previous id (the first distance counts from 0) and, in its lowest
// two bits, the wire form; then the payload. NULL is a wire form of its own, without payload.
const rowFormat = 1

// Column describes one column of a table, in the table's own order.
type Column struct {
	// ID is stable for the column's life and never used again; the first is 1. A column that changes its type gets a new one.
	ID   uint32
	Type sql.Type
	// Default is what a row written before the column existed holds: RowCodec.AppendValue's bytes; nil is NULL.
	Default []byte
}

// RowCodec writes and reads the rows of one version of a table's schema.
type RowCodec struct {
	schema  uint64
	columns []rowColumn
	byID    []int       // positions of columns in the order of their ids
	all     *Projection // every column
}

type rowColumn struct {
	Column
	kind kind
}

// NewRowCodec returns the codec for a schema version; ids must be distinct and not 0, defaults must decode.
func NewRowCodec(schemaVersion uint64, columns []Column) (*RowCodec, error) {
	c := &RowCodec{schema: schemaVersion, columns: make([]rowColumn, len(columns)), byID: make([]int, len(columns))}
	for i, col := range columns {
		k, err := kindOf(col.Type)
		if err != nil {
			return nil, fmt.Errorf("row codec, column %d: %w", i, err)
		}
		c.columns[i], c.byID[i] = rowColumn{Column: col, kind: k}, i
	}
	slices.SortFunc(c.byID, func(a, b int) int { return int(int64(columns[a].ID) - int64(columns[b].ID)) })
	previous := uint32(0)
	for _, i := range c.byID {
		if columns[i].ID == previous {
			return nil, fmt.Errorf("row codec, column %d: id %d is 0 or used twice", i, previous)
		}
		previous = columns[i].ID
		if _, err := c.columns[i].defaultValue(); err != nil {
			return nil, fmt.Errorf("row codec, default of column %d: %w", i, err)
		}
	}
	positions := make([]int, len(columns))
	for i := range positions {
		positions[i] = i
	}
	var err error
	c.all, err = c.NewProjection(positions)
	return c, err
}

// Len is the number of columns.
func (c *RowCodec) Len() int { return len(c.columns) }

// Append appends the encoding of row, whose values stand in the order of the codec's columns.
func (c *RowCodec) Append(ctx context.Context, dst []byte, row sql.Row) ([]byte, error) {
	if len(row) != len(c.columns) {
		return nil, fmt.Errorf("encode row: %d values for %d columns", len(row), len(c.columns))
	}
	dst = binary.AppendUvarint(append(dst, rowFormat), c.schema)
	previous := uint32(0)
	for _, i := range c.byID {
		col := &c.columns[i]
		var err error
		if dst, err = col.append(ctx, dst, uint64(col.ID-previous), row[i]); err != nil {
			return nil, fmt.Errorf("encode column %d: %w", i, err)
		}
		previous = col.ID
	}
	return dst, nil
}

func (col *rowColumn) append(ctx context.Context, dst []byte, distance uint64, v any) ([]byte, error) {
	if v != nil {
		var err error
		if v, err = col.kind.native(ctx, col.Type, v); err != nil {
			return nil, err
		}
	}
	if v == nil {
		return binary.AppendUvarint(dst, distance<<wireBits|wireNull), nil
	}
	dst = binary.AppendUvarint(dst, distance<<wireBits|col.kind.wire())
	return col.kind.appendPayload(ctx, dst, v)
}

// AppendValue appends the encoding of one value of column i, in the form Column.Default takes.
func (c *RowCodec) AppendValue(ctx context.Context, dst []byte, i int, value any) ([]byte, error) {
	return c.columns[i].append(ctx, dst, 0, value)
}

// AppendDefault appends the encoding of value as the default of a column of type t, for a descriptor that is being built.
func AppendDefault(ctx context.Context, dst []byte, t sql.Type, value any) ([]byte, error) {
	k, err := kindOf(t)
	if err != nil {
		return nil, err
	}
	col := rowColumn{Column: Column{Type: t}, kind: k}
	return col.append(ctx, dst, 0, value)
}

func (col *rowColumn) defaultValue() (any, error) {
	if col.Default == nil {
		return nil, nil
	}
	tag, n := binary.Uvarint(col.Default)
	if n <= 0 || tag > wireMask {
		return nil, ErrCorrupt
	}
	v, rest, err := col.decode(tag, col.Default[n:])
	if err == nil && len(rest) != 0 {
		err = ErrCorrupt
	}
	return v, err
}

func (col *rowColumn) decode(wire uint64, b []byte) (v any, rest []byte, err error) {
	switch wire {
	case wireNull:
		return nil, b, nil
	case col.kind.wire():
		return col.kind.decodePayload(b)
	}
	return nil, nil, fmt.Errorf("%w: column of type %s has another form", ErrCorrupt, col.Type)
}

// Projection is a choice of columns, prepared once and used for many rows.
type Projection struct {
	wanted []wanted // in the order of column ids
}

type wanted struct {
	column *rowColumn
	dst    int
}

// NewProjection prepares the columns with these positions; they may repeat and come in any order.
func (c *RowCodec) NewProjection(positions []int) (*Projection, error) {
	p := &Projection{wanted: make([]wanted, len(positions))}
	for i, position := range positions {
		if position < 0 || position >= len(c.columns) {
			return nil, fmt.Errorf("project column %d of %d", position, len(c.columns))
		}
		p.wanted[i] = wanted{column: &c.columns[position], dst: i}
	}
	slices.SortStableFunc(p.wanted, func(a, b wanted) int { return int(int64(a.column.ID) - int64(b.column.ID)) })
	return p, nil
}

// Len is the number of projected columns.
func (p *Projection) Len() int { return len(p.wanted) }

// Decode reads every column of data into dst, whose length must be the number of columns.
func (c *RowCodec) Decode(ctx context.Context, data []byte, dst sql.Row) error {
	return c.Project(ctx, c.all, data, dst)
}

// Project reads only the columns of p; dst[i] gets the i-th projected column. It stops at the last column it needs, so damage
// behind it stays unseen.
func (c *RowCodec) Project(_ context.Context, p *Projection, data []byte, dst sql.Row) error {
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
		for ; len(want) > 0 && uint64(want[0].column.ID) < id; want = want[1:] {
			if dst[want[0].dst], err = want[0].column.defaultValue(); err != nil {
				return fmt.Errorf("decode row: default of column id %d: %w", want[0].column.ID, err)
			}
		}
		if want, b, err = readColumn(want, id, tag&wireMask, b, dst); err != nil {
			return fmt.Errorf("decode row: column id %d: %w", id, err)
		}
	}
	for _, w := range want {
		if dst[w.dst], err = w.column.defaultValue(); err != nil {
			return fmt.Errorf("decode row: default of column id %d: %w", w.column.ID, err)
		}
	}
	return nil
}

// readColumn fills every place that wants column id, or skips it, and returns what is still wanted.
func readColumn(want []wanted, id, wire uint64, b []byte, dst sql.Row) ([]wanted, []byte, error) {
	if len(want) == 0 || uint64(want[0].column.ID) != id {
		rest, err := skipPayload(wire, b)
		return want, rest, err
	}
	var rest []byte
	for ; len(want) > 0 && uint64(want[0].column.ID) == id; want = want[1:] {
		v, r, err := want[0].column.decode(wire, b)
		if err != nil {
			return nil, nil, err
		}
		dst[want[0].dst], rest = v, r
	}
	return want, rest, nil
}

// SchemaVersion returns the version of the schema that wrote data.
func SchemaVersion(data []byte) (uint64, error) {
	version, _, err := header(data)
	return version, err
}

func header(data []byte) (schema uint64, rest []byte, err error) {
	if len(data) == 0 {
		return 0, nil, fmt.Errorf("%w: empty", ErrCorrupt)
	}
	if data[0] != rowFormat {
		return 0, nil, fmt.Errorf("%w %d, this build knows %d", ErrVersion, data[0], rowFormat)
	}
	schema, n := binary.Uvarint(data[1:])
	if n <= 0 {
		return 0, nil, fmt.Errorf("%w: schema version", ErrCorrupt)
	}
	return schema, data[1+n:], nil
}
