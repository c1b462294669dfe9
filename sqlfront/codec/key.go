package codec

import (
	"context"
	"errors"

	"github.com/dolthub/go-mysql-server/sql"
)

// ErrNotIndexable says that values of a type have no order a key could keep (JSON, geometry, vectors).
var ErrNotIndexable = errors.New("type cannot be part of a key")

// ErrNotDecodable says that a key column's bytes do not determine its value: a collation's weights, or a prefix.
var ErrNotDecodable = errors.New("value cannot be read back from its key")

// ErrCorrupt says that bytes are not an encoding this package wrote.
var ErrCorrupt = errors.New("corrupt encoding")

// KeyColumn describes one column of an index.
type KeyColumn struct {
	Type sql.Type
	Desc bool
	// PrefixLength cuts the value: characters of a text, bytes of a binary string; 0 is the whole value.
	PrefixLength int
}

// KeyCodec encodes the columns of one index.
type KeyCodec struct {
	columns []keyColumn
}

type keyColumn struct {
	KeyColumn
}

// NewKeyCodec returns the codec for columns in index order; the error is ErrNotIndexable with the column's position and type.
func NewKeyCodec(columns []KeyColumn) (*KeyCodec, error) { return nil, errors.New("not built") }

// Len is the number of columns.
func (c *KeyCodec) Len() int { return len(c.columns) }

// Decodable tells whether column i's value can be read back from a key.
func (c *KeyCodec) Decodable(i int) bool { return false }

// AppendKey appends the encoding of the first len(values) columns to dst.
func (c *KeyCodec) AppendKey(ctx context.Context, dst []byte, values []any) ([]byte, error) {
	return nil, nil
}

// AppendColumn appends the encoding of column i alone.
func (c *KeyCodec) AppendColumn(ctx context.Context, dst []byte, i int, value any) ([]byte, error) {
	return nil, nil
}

// Decode reads up to len(dst) columns from the start of key and returns what follows them. Columns that are not decodable
// are skipped and leave their dst untouched.
func (c *KeyCodec) Decode(key []byte, dst []any) (rest []byte, err error) { return nil, nil }

// Skip returns what follows the first n columns of key.
func (c *KeyCodec) Skip(key []byte, n int) (rest []byte, err error) { return nil, nil }
