package codec

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/storage/keycodec"
)

// ErrNotIndexable says that values of a type have no order a key could keep (JSON, geometry, vectors).
var ErrNotIndexable = errors.New("type cannot be part of a key")

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
	kind      kind
	collation *collation // of a string
	scale     int32      // of a decimal: digits after the point
	decodable bool
}

// NewKeyCodec returns the codec for columns in index order; the error is ErrNotIndexable with the column's position and type.
func NewKeyCodec(columns []KeyColumn) (*KeyCodec, error) {
	c := &KeyCodec{columns: make([]keyColumn, len(columns))}
	for i, column := range columns {
		var err error
		if c.columns[i], err = newKeyColumn(column); err != nil {
			return nil, fmt.Errorf("key column %d: %w", i, err)
		}
	}
	return c, nil
}

func newKeyColumn(column KeyColumn) (keyColumn, error) {
	k, err := kindOf(column.Type)
	if err != nil {
		return keyColumn{}, err
	}
	c := keyColumn{KeyColumn: column, kind: k, decodable: column.PrefixLength == 0}
	switch t := column.Type.(type) {
	case types.VectorType:
		return keyColumn{}, fmt.Errorf("%w: %s", ErrNotIndexable, t)
	case sql.StringType:
		if k == kindString {
			if c.collation, err = collationOf(t.Collation()); err != nil {
				return keyColumn{}, err
			}
			c.decodable = c.decodable && c.collation.raw
		}
	case sql.DecimalType:
		c.scale = int32(t.Scale())
	}
	switch k {
	case kindJSON, kindGeometry, kindNull:
		return keyColumn{}, fmt.Errorf("%w: %s", ErrNotIndexable, column.Type)
	case kindString, kindBytes:
	default:
		if column.PrefixLength != 0 {
			return keyColumn{}, fmt.Errorf("prefix length on a column of type %s", column.Type)
		}
	}
	return c, nil
}

// Len is the number of columns.
func (c *KeyCodec) Len() int { return len(c.columns) }

// Decodable tells whether column i's value can be read back from a key.
func (c *KeyCodec) Decodable(i int) bool { return c.columns[i].decodable }

// AppendKey appends the encoding of the first len(values) columns to dst.
func (c *KeyCodec) AppendKey(ctx context.Context, dst []byte, values []any) ([]byte, error) {
	if len(values) > len(c.columns) {
		return nil, fmt.Errorf("encode key: %d values for %d columns", len(values), len(c.columns))
	}
	for i, v := range values {
		var err error
		if dst, err = c.AppendColumn(ctx, dst, i, v); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// AppendColumn appends the encoding of column i alone.
func (c *KeyCodec) AppendColumn(ctx context.Context, dst []byte, i int, value any) ([]byte, error) {
	column := &c.columns[i]
	if value != nil {
		var err error
		if value, err = column.kind.native(ctx, column.Type, value); err != nil {
			return nil, fmt.Errorf("encode key column %d: %w", i, err)
		}
	}
	return column.append(dst, value), nil
}

// append takes a native value or nil.
func (c *keyColumn) append(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return keycodec.AppendNull(dst, c.Desc)
	case int8:
		return keycodec.AppendInt(dst, int64(v), c.Desc)
	case int16:
		return keycodec.AppendInt(dst, int64(v), c.Desc)
	case int32:
		return keycodec.AppendInt(dst, int64(v), c.Desc)
	case int64:
		return keycodec.AppendInt(dst, v, c.Desc)
	case uint8:
		return keycodec.AppendUint(dst, uint64(v), c.Desc)
	case uint16:
		return keycodec.AppendUint(dst, uint64(v), c.Desc)
	case uint32:
		return keycodec.AppendUint(dst, uint64(v), c.Desc)
	case uint64:
		return keycodec.AppendUint(dst, v, c.Desc)
	case float32:
		return keycodec.AppendFloat(dst, float64(v), c.Desc)
	case float64:
		return keycodec.AppendFloat(dst, v, c.Desc)
	case time.Time:
		return keycodec.AppendInt(dst, c.instant(v), c.Desc)
	case types.Timespan:
		return keycodec.AppendInt(dst, int64(v), c.Desc)
	case *apd.Decimal:
		var scratch big.Int
		return keycodec.AppendDecimal(dst, v.Negative, bigInt(&v.Coeff, &scratch), v.Exponent, c.Desc)
	case string:
		return c.appendString(dst, v)
	case []byte:
		if c.PrefixLength > 0 && len(v) > c.PrefixLength {
			v = v[:c.PrefixLength]
		}
		return keycodec.AppendBytes(dst, v, c.Desc)
	}
	panic(fmt.Sprintf("key column of kind %d got a %T", c.kind, v))
}

// bigInt returns coefficient as a big.Int, in scratch when it is small.
func bigInt(coefficient *apd.BigInt, scratch *big.Int) *big.Int {
	if coefficient.IsUint64() {
		return scratch.SetUint64(coefficient.Uint64())
	}
	return coefficient.MathBigInt()
}

// instant is a point in time as a number: microseconds since 1970. A DATE has no time of day, whatever the value says.
func (c *keyColumn) instant(t time.Time) int64 {
	if c.kind == kindDate {
		t = t.UTC().Truncate(24 * time.Hour)
	}
	return t.UnixMicro()
}

func (c *keyColumn) appendString(dst []byte, s string) []byte {
	s, _ = cut(s, c.PrefixLength)
	var scratch [192]byte
	if c.collation.raw {
		return keycodec.AppendBytes(dst, append(scratch[:0], s...), c.Desc)
	}
	return keycodec.AppendBytes(dst, c.collation.appendWeights(scratch[:0], s), c.Desc)
}

// cut returns the first n characters of s (all of them when n is 0), and how many characters s has, counted up to n+1.
func cut(s string, n int) (string, int) {
	if n == 0 {
		return s, 0
	}
	characters := 0
	for i := range s {
		if characters++; characters > n {
			return s[:i], characters
		}
	}
	return s, characters
}

// full tells how the length of a native value compares with the column's prefix length: -1 shorter, so that the key holds all
// of it; 0 exactly as long; 1 longer. Without a prefix length the answer is -1.
func (c *keyColumn) full(v any) int {
	length := 0
	switch v := v.(type) {
	case string:
		_, length = cut(v, c.PrefixLength)
	case []byte:
		length = len(v)
	}
	switch {
	case c.PrefixLength == 0 || length < c.PrefixLength:
		return -1
	case length == c.PrefixLength:
		return 0
	}
	return 1
}

// Decode reads the first len(dst) columns of key and returns what follows them. Columns that are not decodable are skipped and
// leave their dst untouched.
func (c *KeyCodec) Decode(key []byte, dst []any) (rest []byte, err error) {
	if len(dst) > len(c.columns) {
		return nil, fmt.Errorf("decode key: room for %d of %d columns", len(dst), len(c.columns))
	}
	for i := range dst {
		column := &c.columns[i]
		if !column.decodable {
			key, err = keycodec.Skip(key)
		} else {
			dst[i], key, err = column.decode(key)
		}
		if err != nil {
			return nil, fmt.Errorf("decode key column %d: %w", i, err)
		}
	}
	return key, nil
}

// Skip returns what follows the first n columns of key.
func (c *KeyCodec) Skip(key []byte, n int) (rest []byte, err error) {
	for i := range n {
		if key, err = keycodec.Skip(key); err != nil {
			return nil, fmt.Errorf("skip key column %d: %w", i, err)
		}
	}
	return key, nil
}

func (c *keyColumn) decode(key []byte) (v any, rest []byte, err error) {
	if kind, desc := keycodec.PeekKind(key); kind == keycodec.KindNull && desc == c.Desc {
		rest, err = keycodec.DecodeNull(key, desc)
		return nil, rest, err
	}
	switch c.kind {
	case kindInt8, kindInt16, kindInt32, kindInt64, kindYear, kindTime, kindDate, kindSpan:
		i, rest, err := keycodec.DecodeInt(key, c.Desc)
		if err != nil {
			return nil, nil, err
		}
		v, err = c.fromInt(i)
		return v, rest, err
	case kindUint8, kindUint16, kindUint32, kindUint64, kindEnum:
		u, rest, err := keycodec.DecodeUint(key, c.Desc)
		if err != nil {
			return nil, nil, err
		}
		v, err = c.kind.fromVarint(u)
		return v, rest, err
	case kindFloat32, kindFloat64:
		f, rest, err := keycodec.DecodeFloat(key, c.Desc)
		if c.kind == kindFloat32 {
			return float32(f), rest, err
		}
		return f, rest, err
	case kindDecimal:
		return c.decodeDecimal(key)
	}
	return c.decodeText(key)
}

func (c *keyColumn) fromInt(i int64) (any, error) {
	switch c.kind {
	case kindTime, kindDate:
		return time.UnixMicro(i).UTC(), nil
	case kindSpan:
		return types.Timespan(i), nil
	}
	return c.kind.fromVarint(zigzag(i))
}

// decodeDecimal restores the column's scale, which the key leaves out: 1.5 and 1.50 are one key.
func (c *keyColumn) decodeDecimal(key []byte) (any, []byte, error) {
	negative, coefficient, exponent, rest, err := keycodec.DecodeDecimal(key, c.Desc)
	if err != nil {
		return nil, nil, err
	}
	if shift := int64(exponent) + int64(c.scale); shift > 0 && shift <= types.DecimalTypeMaxPrecision {
		coefficient = new(big.Int).Mul(coefficient, new(big.Int).Exp(big.NewInt(10), big.NewInt(shift), nil))
		exponent = -c.scale
	} else if coefficient.Sign() == 0 {
		exponent = -c.scale
	}
	d := &apd.Decimal{Negative: negative, Exponent: exponent}
	d.Coeff.SetMathBigInt(coefficient)
	return d, rest, nil
}

func (c *keyColumn) decodeText(key []byte) (any, []byte, error) {
	b, rest, err := keycodec.DecodeBytes(key, c.Desc)
	if err != nil {
		return nil, nil, err
	}
	if c.kind == kindBytes {
		return append(make([]byte, 0, len(b)), b...), rest, nil
	}
	if !utf8.Valid(b) {
		return nil, nil, fmt.Errorf("%w: text that is not UTF-8", ErrCorrupt)
	}
	return string(b), rest, nil
}
