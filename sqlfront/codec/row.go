package codec

import (
	"context"
	"errors"

	"github.com/dolthub/go-mysql-server/sql"
)

// ErrVersion says that a row was written in a format this build does not know.
var ErrVersion = errors.New("unknown row format")

// Column describes one column of a table, in the table's own order.
type Column struct {
	// ID is stable for the column's life and never used again; the first is 1.
	ID   uint32
	Type sql.Type
	// Default is what a row written before the column existed holds: RowCodec.AppendValue's bytes; nil is NULL.
	Default []byte
}

// RowCodec writes and reads the rows of one version of a table's schema.
type RowCodec struct {
	schema  uint64
	columns []Column
}

// NewRowCodec returns the codec for a schema version; ids must be distinct and not 0.
func NewRowCodec(schemaVersion uint64, columns []Column) (*RowCodec, error) { return nil, errors.New("not built") }

// Append appends the encoding of row, whose values stand in the order of the codec's columns.
func (c *RowCodec) Append(ctx context.Context, dst []byte, row sql.Row) ([]byte, error) { return nil, nil }

// Decode reads every column of data into dst, whose length must be the number of columns.
func (c *RowCodec) Decode(ctx context.Context, data []byte, dst sql.Row) error { return nil }

// Project reads only the columns of p; dst[i] gets the i-th projected column.
func (c *RowCodec) Project(ctx context.Context, p *Projection, data []byte, dst sql.Row) error { return nil }

// Projection is a choice of columns, prepared once and used for many rows.
type Projection struct{}

// NewProjection prepares the columns with these positions; they may repeat and come in any order.
func (c *RowCodec) NewProjection(positions []int) (*Projection, error) { return nil, nil }

// AppendValue appends the encoding of one value of column i, in the form Column.Default takes.
func (c *RowCodec) AppendValue(ctx context.Context, dst []byte, i int, value any) ([]byte, error) {
	return nil, nil
}

// SchemaVersion returns the version of the schema that wrote data.
func SchemaVersion(data []byte) (uint64, error) { return 0, nil }
