package codec

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"
)

// kind is the Go type the engine uses for the values of a column type. It decides both encodings.
type kind uint8

const (
	kindInvalid kind = iota
	kindInt8
	kindInt16
	kindInt32
	kindInt64
	kindUint8
	kindUint16
	kindUint32
	kindUint64 // BIGINT UNSIGNED, BIT and SET
	kindFloat32
	kindFloat64
	kindDecimal
	kindString
	kindBytes // BINARY, VARBINARY, BLOB and vectors
	kindEnum
	kindTime // DATETIME and TIMESTAMP
	kindDate
	kindSpan // TIME
	kindYear
	kindJSON
	kindGeometry
	kindNull // the type of a bare NULL: it has no other value
)

func kindOf(t sql.Type) (kind, error) {
	if t == nil {
		return kindInvalid, fmt.Errorf("column without a type")
	}
	switch t.Type() {
	case sqltypes.Int8:
		return kindInt8, nil
	case sqltypes.Int16:
		return kindInt16, nil
	case sqltypes.Int24, sqltypes.Int32:
		return kindInt32, nil
	case sqltypes.Int64:
		return kindInt64, nil
	case sqltypes.Uint8:
		return kindUint8, nil
	case sqltypes.Uint16:
		return kindUint16, nil
	case sqltypes.Uint24, sqltypes.Uint32:
		return kindUint32, nil
	case sqltypes.Uint64, sqltypes.Bit, sqltypes.Set:
		return kindUint64, nil
	case sqltypes.Float32:
		return kindFloat32, nil
	case sqltypes.Float64:
		return kindFloat64, nil
	case sqltypes.Decimal:
		return kindDecimal, nil
	case sqltypes.Char, sqltypes.VarChar, sqltypes.Text:
		return kindString, nil
	case sqltypes.Binary, sqltypes.VarBinary, sqltypes.Blob, sqltypes.Vector:
		return kindBytes, nil
	case sqltypes.Enum:
		return kindEnum, nil
	case sqltypes.Datetime, sqltypes.Timestamp:
		return kindTime, nil
	case sqltypes.Date:
		return kindDate, nil
	case sqltypes.Time:
		return kindSpan, nil
	case sqltypes.Year:
		return kindYear, nil
	case sqltypes.TypeJSON:
		return kindJSON, nil
	case sqltypes.Geometry:
		return kindGeometry, nil
	case sqltypes.Null:
		return kindNull, nil
	}
	return kindInvalid, fmt.Errorf("type %s cannot be stored", t)
}

// holds tells whether v already is the Go type of k.
func (k kind) holds(v any) (ok bool) {
	switch k {
	case kindInt8:
		_, ok = v.(int8)
	case kindInt16, kindYear:
		_, ok = v.(int16)
	case kindInt32:
		_, ok = v.(int32)
	case kindInt64:
		_, ok = v.(int64)
	case kindUint8:
		_, ok = v.(uint8)
	case kindUint16, kindEnum:
		_, ok = v.(uint16)
	case kindUint32:
		_, ok = v.(uint32)
	case kindUint64:
		_, ok = v.(uint64)
	case kindFloat32:
		_, ok = v.(float32)
	case kindFloat64:
		_, ok = v.(float64)
	case kindDecimal:
		_, ok = v.(*apd.Decimal)
	case kindString:
		_, ok = v.(string)
	case kindBytes:
		_, ok = v.([]byte)
	case kindTime, kindDate:
		_, ok = v.(time.Time)
	case kindSpan:
		_, ok = v.(types.Timespan)
	case kindJSON:
		_, ok = v.(sql.JSONWrapper)
	case kindGeometry:
		_, ok = v.(types.GeometryValue)
	}
	return ok
}

// native returns v as the Go type of k, converting it as an assignment to a column of type t does. Out of range is an error:
// a value must never be stored as something else.
func (k kind) native(ctx context.Context, t sql.Type, v any) (any, error) {
	if k.holds(v) {
		return v, nil
	}
	v, err := sql.UnwrapAny(ctx, v)
	if err != nil {
		return nil, err
	}
	if v == nil || k.holds(v) {
		return v, nil
	}
	if floats, ok := v.([]float32); ok && k == kindBytes {
		return sql.EncodeVector(floats), nil // the zero of the VECTOR type, which its own Convert does not take
	}
	converted, inRange, err := t.Convert(ctx, v)
	if err != nil {
		return nil, err
	}
	if inRange != sql.InRange {
		return nil, sql.ErrValueOutOfRange.New(v, t)
	}
	if converted, err = sql.UnwrapAny(ctx, converted); err != nil {
		return nil, err
	}
	if converted != nil && !k.holds(converted) {
		return nil, fmt.Errorf("value of Go type %T in a column of type %s", v, t)
	}
	return converted, nil
}
