package codec

import (
	"bytes"
	"testing"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// contains asks the engine's own cuts whether a value lies in a column's range.
func contains(t require.TestingT, r sql.MySQLRangeColumnExpr, v any) bool {
	ctx := sql.NewEmptyContext()
	var below, above sql.MySQLRangeCut = sql.Below{Key: v, Typ: r.Typ}, sql.Above{Key: v, Typ: r.Typ}
	if v == nil {
		below, above = sql.BelowNull{}, sql.AboveNull{}
	}
	lower, err := r.LowerBound.Compare(ctx, below, r.Typ)
	require.NoError(t, err)
	upper, err := r.UpperBound.Compare(ctx, above, r.Typ)
	require.NoError(t, err)
	return lower <= 0 && upper >= 0
}

func inSpan(s Span, key []byte) bool {
	return bytes.Compare(s.Lo, key) <= 0 && (s.Hi == nil || bytes.Compare(key, s.Hi) < 0)
}

func TestSpansHoldTheirRows(t *testing.T) {
	ctx := sql.NewEmptyContext()
	number := func(t *rapid.T) any { return int64(rapid.IntRange(0, 5).Draw(t, "number")) }
	word := func(t *rapid.T) any { return rapid.StringMatching("[abAB]{0,4}").Draw(t, "word") }
	ci := text(sql.Collation_utf8mb4_0900_ai_ci)
	kinds := []struct {
		column KeyColumn
		draw   func(*rapid.T) any
	}{
		{KeyColumn{Type: types.Int64}, number},
		{KeyColumn{Type: types.Int64, Desc: true}, number},
		{KeyColumn{Type: ci}, word},
		{KeyColumn{Type: ci, PrefixLength: 2}, word},
		{KeyColumn{Type: ci, PrefixLength: 2, Desc: true}, word},
	}
	rapid.Check(t, func(t *rapid.T) {
		var columns []KeyColumn
		var draws []func(*rapid.T) any
		for range rapid.IntRange(1, 3).Draw(t, "columns") {
			k := rapid.SampledFrom(kinds).Draw(t, "kind")
			columns, draws = append(columns, k.column), append(draws, k.draw)
		}
		c := must(NewKeyCodec(columns))
		prefix := rapid.SampledFrom([][]byte{nil, []byte("t1")}).Draw(t, "prefix")
		var ranges sql.MySQLRangeCollection
		for range rapid.IntRange(1, 3).Draw(t, "ranges") {
			var r sql.MySQLRange
			for i := range columns[:rapid.IntRange(1, len(columns)).Draw(t, "width")] {
				r = append(r, drawRange(t, columns[i].Type, draws[i]))
			}
			ranges = append(ranges, r)
		}
		spans, exact, err := c.Spans(ctx, prefix, ranges)
		require.NoError(t, err)
		for i := 1; i < len(spans); i++ {
			require.NotNil(t, spans[i-1].Hi)
			require.LessOrEqual(t, bytes.Compare(spans[i-1].Hi, spans[i].Lo), 0, "overlap or disorder")
		}
		for range 20 {
			row := make([]any, len(columns))
			for i := range row {
				if rapid.IntRange(0, 5).Draw(t, "null") > 0 {
					row[i] = draws[i](t)
				}
			}
			key := must(c.AppendKey(ctx, append([]byte{}, prefix...), row))
			want := false
			for _, r := range ranges {
				all := true
				for i := range r {
					all = all && contains(t, r[i], row[i])
				}
				want = want || all
			}
			got := 0
			for _, s := range spans {
				if inSpan(s, key) {
					got++
					require.True(t, !s.Point || bytes.Equal(s.Lo, key), "a point holds one key")
				}
			}
			if want && got != 1 || !want && got > 0 && exact {
				t.Fatalf("row %v: in ranges %v: %v; in %d spans, exact %v", row, ranges, want, got, exact)
			}
		}
	})
}

func drawRange(t *rapid.T, typ sql.Type, draw func(*rapid.T) any) sql.MySQLRangeColumnExpr {
	switch a := draw(t); rapid.IntRange(0, 9).Draw(t, "range") {
	case 0:
		return sql.AllRangeColumnExpr(typ)
	case 1:
		return sql.NullRangeColumnExpr(typ)
	case 2:
		return sql.NotNullRangeColumnExpr(typ)
	case 3:
		return sql.GreaterThanRangeColumnExpr(a, typ)
	case 4:
		return sql.GreaterOrEqualRangeColumnExpr(a, typ)
	case 5:
		return sql.LessThanRangeColumnExpr(a, typ)
	case 6:
		return sql.LessOrEqualRangeColumnExpr(a, typ)
	case 7:
		return sql.EmptyRangeColumnExpr(typ)
	case 8:
		return sql.ClosedRangeColumnExpr(a, draw(t), typ)
	default:
		return sql.ClosedRangeColumnExpr(a, a, typ)
	}
}

func TestSpanShapes(t *testing.T) {
	ctx := sql.NewEmptyContext()
	c := must(NewKeyCodec([]KeyColumn{{Type: types.Int64}, {Type: types.Int64}}))
	equal := func(v any) sql.MySQLRangeColumnExpr { return sql.ClosedRangeColumnExpr(v, v, types.Int64) }
	all := sql.AllRangeColumnExpr(types.Int64)
	for _, tc := range []struct {
		name   string
		ranges sql.MySQLRangeCollection
		spans  int
		exact  bool
		equal  int
		point  bool
	}{
		{"both columns fixed", sql.MySQLRangeCollection{{equal(int64(1)), equal(int64(2))}}, 1, true, 2, true},
		{"a list of points", sql.MySQLRangeCollection{{equal(int64(3)), equal(int64(2))}, {equal(int64(1)), equal(int64(2))}}, 2, true, 2, true},
		{"the same point twice", sql.MySQLRangeCollection{{equal(int64(1)), equal(int64(2))}, {equal(int64(1)), equal(int64(2))}}, 1, true, 2, true},
		{"NULL is not a point", sql.MySQLRangeCollection{{equal(int64(1)), sql.NullRangeColumnExpr(types.Int64)}}, 1, true, 2, false},
		{"a fixed first column", sql.MySQLRangeCollection{{equal(int64(1)), sql.GreaterThanRangeColumnExpr(int64(1), types.Int64)}}, 1, true, 1, false},
		{"nothing fixed", sql.MySQLRangeCollection{{all, all}}, 1, true, 0, false},
		{"a condition behind a range", sql.MySQLRangeCollection{{sql.GreaterThanRangeColumnExpr(int64(1), types.Int64), equal(int64(1))}}, 1, false, 0, false},
		{"equal to a fraction", sql.MySQLRangeCollection{{equal(1.5), equal(int64(1))}}, 0, true, 0, false},
		{"a bound out of range", sql.MySQLRangeCollection{{sql.GreaterThanRangeColumnExpr(1e30, types.Int64), all}}, 0, true, 0, false},
		{"nothing", sql.MySQLRangeCollection{{sql.EmptyRangeColumnExpr(types.Int64), all}}, 0, true, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spans, exact, err := c.Spans(ctx, []byte("p"), tc.ranges)
			require.NoError(t, err)
			require.Len(t, spans, tc.spans)
			require.Equal(t, tc.exact, exact)
			for _, s := range spans {
				require.Equal(t, tc.equal, s.Equal)
				require.Equal(t, tc.point, s.Point)
			}
		})
	}
	_, _, err := c.Spans(ctx, nil, sql.MySQLRangeCollection{{all, all, all}})
	require.Error(t, err)
}

func TestTupleRange(t *testing.T) {
	ctx := sql.NewEmptyContext()
	c := must(NewKeyCodec([]KeyColumn{{Type: types.Int64}, {Type: types.Int64}}))
	key := func(values ...any) []byte { return must(c.AppendKey(ctx, []byte("p"), values)) }
	in := func(lower, upper Bound, values ...any) bool {
		return inSpan(must(c.Range(ctx, []byte("p"), lower, upper)), key(values...))
	}
	one := []any{int64(1)}
	require.True(t, in(Bound{one, true}, Bound{}, int64(1), int64(9)))
	require.False(t, in(Bound{one, false}, Bound{}, int64(1), int64(9)))
	require.True(t, in(Bound{}, Bound{one, true}, int64(1), int64(9)))
	require.False(t, in(Bound{}, Bound{one, false}, int64(1), int64(9)))
	require.True(t, in(Bound{[]any{int64(1), int64(5)}, false}, Bound{[]any{int64(2), int64(0)}, true}, int64(2), int64(0)))
	require.False(t, in(Bound{[]any{int64(1), int64(5)}, false}, Bound{[]any{int64(2), int64(0)}, true}, int64(1), int64(5)))
	require.False(t, in(Bound{}, Bound{}, nil) && inSpan(must(c.Range(ctx, []byte("p"), Bound{}, Bound{})), []byte("q")))
}
