package codec

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"
	"github.com/dolthub/vitess/go/vt/proto/query"
)

// BoundType returns the type in which an index over a column of type t takes the values it is searched for. The planner
// converts a value to the type the index names before it builds a range. The column's own type would round the value (DATE
// and a time of day, FLOAT and a double), or refuse it (YEAR 1800), although comparing with it is sound; the type returned
// here keeps it, and [KeyCodec.Spans] finds its place among the column's values. It is a column type only in name: it stores
// nothing. Types that need no such care are returned as they are.
func BoundType(t sql.Type) sql.Type {
	switch typ := t.(type) {
	case numberBound, decimalBound, timeBound, spanBound, enumBound, setBound:
		return t
	case sql.DecimalType:
		return decimalBound{typ}
	case sql.DatetimeType:
		return timeBound{t}
	case sql.EnumType:
		return enumBound{typ}
	case sql.SetType:
		return setBound{typ}
	}
	switch t.Type() {
	case sqltypes.Bit, sqltypes.Year, sqltypes.Float32, sqltypes.Float64:
		return numberBound{t}
	case sqltypes.Time:
		return spanBound{t}
	}
	return t
}

// columnType is the type of the column itself, under a name that does not hide its method Type.
type columnType = sql.Type

// numberBound is a number of any size and precision, compared with a BIT, YEAR, FLOAT or DOUBLE column.
type numberBound struct{ columnType }

// Type is what it is, a decimal: the planner has a short cut for lists of floats that asserts Go's type.
func (t numberBound) Type() query.Type { return sqltypes.Decimal }

func (t numberBound) Promote() sql.Type { return t }

func (t numberBound) Equals(other sql.Type) bool {
	o, ok := other.(numberBound)
	return ok && t.columnType.Equals(o.columnType)
}

func (t numberBound) Convert(_ context.Context, v any) (any, sql.ConvertInRange, error) {
	return convertNumber(t.columnType, v)
}

func (t numberBound) Compare(_ context.Context, a, b any) (int, error) {
	return compareNumbers(t.columnType, a, b)
}

// decimalBound is numberBound for a DECIMAL column; it keeps the scale, which foreign keys ask for.
type decimalBound struct{ sql.DecimalType }

func (t decimalBound) Promote() sql.Type { return t }

func (t decimalBound) Equals(other sql.Type) bool {
	o, ok := other.(decimalBound)
	return ok && t.DecimalType.Equals(o.DecimalType)
}

func (t decimalBound) Convert(_ context.Context, v any) (any, sql.ConvertInRange, error) {
	return convertNumber(t.DecimalType, v)
}

func (t decimalBound) Compare(_ context.Context, a, b any) (int, error) {
	return compareNumbers(t.DecimalType, a, b)
}

// errNotNumber stands for a value that is no finite number.
var errNotNumber = errors.New("not a number")

func convertNumber(t sql.Type, v any) (any, sql.ConvertInRange, error) {
	if v == nil {
		return nil, sql.InRange, nil
	}
	if f, ok := v.(float64); ok && math.IsInf(f, 0) {
		if f > 0 {
			return nil, sql.Overflow, nil
		}
		return nil, sql.Underflow, nil
	}
	d, err := exactNumber(v)
	if err != nil {
		// The planner reads this error as: no index for this condition.
		return nil, sql.InRange, sql.ErrInvalidValueType.New(v, t)
	}
	if _, text := v.(string); text && types.IsFloat(t) {
		// Text and a float are compared as floats, also when two bounds of one range are.
		if f, err := strconv.ParseFloat(d.Text('E'), 64); err == nil {
			d = types.DecimalFromFloat64(f)
		}
	}
	return d, sql.InRange, nil
}

func compareNumbers(t sql.Type, a, b any) (int, error) {
	if null, order := types.CompareNulls(a, b); null {
		return order, nil
	}
	x, err := exactNumber(a)
	if err == nil {
		var y *apd.Decimal
		if y, err = exactNumber(b); err == nil {
			return x.Cmp(y), nil
		}
	}
	return 0, sql.ErrInvalidValueType.New(a, t)
}

// exactNumber returns v as a decimal that has lost nothing. A float becomes the shortest decimal that reads back as the same
// float, as in the engine's comparisons. Text counts as far as it is a number. Binary strings are not numbers: the engine
// compares them as strings.
func exactNumber(v any) (*apd.Decimal, error) {
	switch v := v.(type) {
	case *apd.Decimal:
		if v.Form != apd.Finite {
			return nil, errNotNumber
		}
		return v, nil
	case float32:
		return exactNumber(float64(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errNotNumber
		}
		return types.DecimalFromFloat64(v), nil
	case bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, string:
		d, err := types.InternalDecimalType.ConvertToDecimal(v)
		if err != nil && !sql.ErrTruncatedIncorrect.Is(err) {
			return nil, err
		}
		if d == nil || d.Form != apd.Finite {
			return nil, errNotNumber
		}
		return d, nil
	}
	return nil, errNotNumber
}

// timeBound is a point in time, compared with a DATE, DATETIME or TIMESTAMP column.
type timeBound struct{ columnType }

func (t timeBound) Promote() sql.Type { return t }

func (t timeBound) Equals(other sql.Type) bool {
	o, ok := other.(timeBound)
	return ok && t.columnType.Equals(o.columnType)
}

func (t timeBound) Convert(ctx context.Context, v any) (any, sql.ConvertInRange, error) {
	v, err := sql.UnwrapAny(ctx, v)
	if err != nil || v == nil {
		return nil, sql.InRange, err
	}
	switch v.(type) {
	case time.Time, string, []byte:
	default:
		return nil, sql.InRange, sql.ErrInvalidValueType.New(v, t.columnType)
	}
	converted, _, err := types.DatetimeMaxPrecision.Convert(ctx, v)
	if err != nil && !sql.ErrTruncatedIncorrect.Is(err) {
		return nil, sql.InRange, sql.ErrInvalidValueType.New(v, t.columnType)
	}
	return converted, sql.InRange, err
}

func (t timeBound) Compare(ctx context.Context, a, b any) (int, error) {
	return types.DatetimeMaxPrecision.Compare(ctx, a, b)
}

// spanBound is a span of time, compared with a TIME column.
type spanBound struct{ columnType }

func (t spanBound) Promote() sql.Type { return t }

func (t spanBound) Equals(other sql.Type) bool {
	o, ok := other.(spanBound)
	return ok && t.columnType.Equals(o.columnType)
}

func (t spanBound) Convert(ctx context.Context, v any) (any, sql.ConvertInRange, error) {
	converted, where, err := t.columnType.Convert(ctx, v)
	if err != nil {
		return nil, where, sql.ErrInvalidValueType.New(v, t.columnType)
	}
	return converted, where, nil
}

// enumBound is a member of an ENUM. What is none equals no member, and the planner is told that it lies above all of them:
// right for every condition but "greater", for which it must not ask.
type enumBound struct{ sql.EnumType }

func (t enumBound) Promote() sql.Type { return t }

func (t enumBound) Equals(other sql.Type) bool {
	o, ok := other.(enumBound)
	return ok && t.EnumType.Equals(o.EnumType)
}

func (t enumBound) Convert(ctx context.Context, v any) (any, sql.ConvertInRange, error) {
	return convertMember(ctx, t.EnumType, v)
}

// setBound is enumBound for a SET.
type setBound struct{ sql.SetType }

func (t setBound) Promote() sql.Type { return t }

func (t setBound) Equals(other sql.Type) bool {
	o, ok := other.(setBound)
	return ok && t.SetType.Equals(o.SetType)
}

func (t setBound) Convert(ctx context.Context, v any) (any, sql.ConvertInRange, error) {
	return convertMember(ctx, t.SetType, v)
}

func convertMember(ctx context.Context, t sql.Type, v any) (any, sql.ConvertInRange, error) {
	converted, where, err := t.Convert(ctx, v)
	if err != nil {
		return nil, sql.Overflow, nil
	}
	return converted, where, nil
}

// IsBinary tells whether t is a type of byte strings: BINARY, VARBINARY or BLOB.
func IsBinary(t sql.Type) bool {
	switch t.Type() {
	case sqltypes.Binary, sqltypes.VarBinary, sqltypes.Blob:
		return true
	}
	return false
}
