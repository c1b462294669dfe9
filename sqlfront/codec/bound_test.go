package codec

import (
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"
	"github.com/stretchr/testify/require"
)

func decimal(s string) *apd.Decimal { return must(first(apd.NewFromString(s))) }

func first(d *apd.Decimal, _ apd.Condition, err error) (*apd.Decimal, error) { return d, err }

// TestBoundsBetweenValues places bounds that are no values of the column: for
// every condition, the column's values that its span holds.
func TestBoundsBetweenValues(t *testing.T) {
	day := func(s string) time.Time { return must(time.Parse("2006-01-02", s)) }
	noon := day("2024-01-01").Add(12 * time.Hour)
	dates := []any{day("2023-12-31"), day("2024-01-01"), day("2024-01-02")}
	for _, tc := range []struct {
		name   string
		typ    sql.Type
		values []any // ascending
		bound  any
		below  int // how many values are below the bound
		equal  int // how many are equal
	}{
		{"a fraction", types.Int32, []any{int32(-2), int32(-1), int32(0)}, decimal("-1.5"), 1, 0},
		{"a fraction of many digits", types.Int32, []any{int32(-1), int32(0), int32(1)}, decimal("-1e-300"), 1, 0},
		{"a whole decimal", types.Int32, []any{int32(1), int32(2)}, decimal("2.000"), 1, 1},
		{"above all integers", types.Uint64, []any{uint64(0), uint64(1<<64 - 1)}, decimal("1e300"), 2, 0},
		{"below all integers", types.Uint8, []any{uint8(0)}, int64(-1), 0, 0},
		{"an integer the type has no room for", types.Int8, []any{int8(-128), int8(127)}, int64(128), 2, 0},
		{"a bit string too long", types.MustCreateBitType(10), []any{uint64(0), uint64(1023)}, int64(1024), 2, 0},
		{"a year before the first", types.Year, []any{int16(0), int16(1901)}, int64(1900), 1, 0},
		{"a float between", types.Float32, []any{float32(-1.1), float32(0)}, -1.1, 1, 0},
		{"a float", types.Float64, []any{0.1, 0.2}, decimal("0.10"), 0, 1},
		{"beyond all floats", types.Float32, []any{float32(3e38)}, decimal("1e400"), 1, 0},
		{"digits beyond the scale", types.MustCreateColumnDecimalType(10, 3), []any{decimal("1.555"), decimal("1.556")}, decimal("1.5555"), 1, 0},
		{"beyond the precision", types.MustCreateColumnDecimalType(10, 3), []any{decimal("9999999.999")}, 1e20, 1, 0},
		{"a time of day", types.Date, dates, noon, 2, 0},
		{"the same as text", types.Date, dates, "2024-01-01 12:00:00", 2, 0},
		{"a day", types.Date, dates, "2024-01-01", 1, 1},
		{"parts of a second", types.Datetime, []any{noon, noon.Add(time.Second)}, noon.Add(time.Millisecond), 1, 0},
		{"before all timestamps", types.Timestamp, []any{noon}, "1000-01-01", 0, 0},
		{"a member", types.MustCreateEnumType([]string{"z", "m"}, sql.Collation_Default), []any{uint16(1), uint16(2)}, "m", 1, 1},
		{"text longer than the column's", types.MustCreateString(sqltypes.VarChar, 2, sql.Collation_utf8mb4_bin), []any{"ab", "ac"}, "abc", 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, desc := range []bool{false, true} {
				b := bounds{t, must(NewKeyCodec([]KeyColumn{{Type: tc.typ, Desc: desc}})), append([]any{nil}, tc.values...)}
				low, high := 1+tc.below, 1+tc.below+tc.equal
				b.holds(sql.LessThanRangeColumnExpr(tc.bound, tc.typ), b.values[1:low])
				b.holds(sql.LessOrEqualRangeColumnExpr(tc.bound, tc.typ), b.values[1:high])
				b.holds(sql.GreaterThanRangeColumnExpr(tc.bound, tc.typ), b.values[high:])
				b.holds(sql.GreaterOrEqualRangeColumnExpr(tc.bound, tc.typ), b.values[low:])
				b.holds(sql.ClosedRangeColumnExpr(tc.bound, tc.bound, tc.typ), b.values[low:high])
			}
		})
	}
}

type bounds struct {
	*testing.T
	codec  *KeyCodec
	values []any
}

// holds asks the spans and the check.
func (b bounds) holds(r sql.MySQLRangeColumnExpr, want []any) {
	ctx := sql.NewEmptyContext()
	ranges := sql.MySQLRangeCollection{{r}}
	spans, exact, err := b.codec.Spans(ctx, []byte("p"), ranges)
	require.NoError(b, err)
	require.True(b, exact)
	check, err := b.codec.NewCheck(ctx, ranges)
	require.NoError(b, err)
	var got []any
	for _, v := range b.values {
		key := must(b.codec.AppendKey(ctx, []byte("p"), []any{v}))
		found := false
		for _, s := range spans {
			found = found || inSpan(s, key)
		}
		require.Equal(b, found, must(check.Contains(ctx, []any{v})), "%v in %v", v, r)
		if found {
			got = append(got, v)
		}
	}
	require.ElementsMatch(b, want, got, r.String())
}

// TestBoundTypesKeepValues converts as the planner does.
func TestBoundTypesKeepValues(t *testing.T) {
	ctx := sql.NewEmptyContext()
	enum := types.MustCreateEnumType([]string{"z", "m"}, sql.Collation_Default)
	for _, tc := range []struct {
		typ   sql.Type
		value any
		where sql.ConvertInRange
	}{
		{types.Year, int64(1900), sql.InRange},
		{types.MustCreateBitType(3), int64(-1), sql.InRange},
		{types.MustCreateColumnDecimalType(5, 1), 1e20, sql.InRange},
		{types.Float32, decimal("1.23456789012345678"), sql.InRange},
		{types.Date, "2024-01-01 12:00:00.000001", sql.InRange},
		{enum, "q", sql.Overflow},
		{enum, "m", sql.InRange},
	} {
		bound := BoundType(tc.typ)
		v, where, err := bound.Convert(ctx, tc.value)
		require.NoError(t, err)
		require.Equal(t, tc.where, where, "%v as %s", tc.value, tc.typ)
		if where == sql.InRange {
			again, _, err := bound.Convert(ctx, v)
			require.NoError(t, err)
			order, err := bound.Compare(ctx, v, again)
			require.NoError(t, err)
			require.Zero(t, order)
		}
		require.True(t, bound.Equals(BoundType(tc.typ)))
		require.Equal(t, bound, BoundType(bound))
	}
	for _, typ := range []sql.Type{types.Year, types.Float64, types.Date} {
		_, _, err := BoundType(typ).Convert(ctx, types.JSONDocument{})
		require.True(t, sql.ErrInvalidValueType.Is(err), "the planner uses no index then: %v", err)
	}
}
