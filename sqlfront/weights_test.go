package sqlfront

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/hash"
	"github.com/dolthub/go-mysql-server/sql/sorters"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/stretchr/testify/require"
)

// weighedCollations are those whose weights are looked up.
func weighedCollations() (ids []sql.CollationID) {
	all := sql.NewCollationsIterator()
	for c, ok := all.Next(); ok; c, ok = all.Next() {
		if weightsOf(c.ID) != nil {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// randomText is short and of few characters, so that much is equal; some are not ASCII.
func randomText(rng *rand.Rand) string {
	letters := []rune("aAbBzZ09 -_\x00\x7fe")
	if rng.IntN(4) == 0 {
		letters = append(letters, []rune("éÉßsœ漢😀")...)
	}
	text := make([]rune, rng.IntN(6))
	for i := range text {
		text[i] = letters[rng.IntN(len(letters))]
	}
	return string(text)
}

// Text is compared and hashed as the engine does, in every collation that has weights.
func TestWeights(t *testing.T) {
	ctx := sql.NewEmptyContext()
	ids := weighedCollations()
	require.Contains(t, ids, sql.Collation_utf8mb4_0900_ai_ci)
	require.Contains(t, ids, sql.Collation_utf8mb4_0900_bin)
	require.Contains(t, ids, sql.Collation_latin1_swedish_ci)
	require.NotContains(t, ids, sql.Collation_binary)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, id := range ids {
		typ := collatedType(id).(types.StringType)
		column := orderColumn{typ: typ, weights: weightsOf(id), SortCondition: sql.SortCondition{Order: sql.Ascending, NullOrdering: sql.NullsFirst}}
		rows := &collatedRows{schema: sql.Schema{{Type: typ}, {Type: types.Int64}, {Type: typ}}, weights: []*asciiWeights{weightsOf(id), nil, weightsOf(id)}}
		for range 300 {
			a, b := randomText(rng), randomText(rng)
			want, err := typ.Compare(ctx, a, b)
			require.NoError(t, err)
			got, err := column.compare(ctx, a, b)
			require.NoError(t, err)
			require.Equal(t, want, got, "%q and %q by %s", a, b, id.Name())
			for _, row := range []sql.Row{{a}, {a, nil, b}, {nil, int64(1), a}, {nil, nil, nil}, {a, int64(1), b}} {
				want, err := hash.HashOf(ctx, rows.schema, row)
				require.NoError(t, err)
				got, err := rows.HashOf(ctx, row)
				require.NoError(t, err)
				require.Equal(t, want, got, "%q by %s", row, id.Name())
			}
		}
	}
	a, ok := (&collatedRows{weights: []*asciiWeights{weightsOf(sql.Collation_utf8mb4_0900_ai_ci)}}).hashText(sql.Row{"abc"})
	b, alike := (&collatedRows{weights: []*asciiWeights{weightsOf(sql.Collation_utf8mb4_0900_ai_ci)}}).hashText(sql.Row{"AbC"})
	require.True(t, ok && alike)
	require.Equal(t, a, b)
}

// Rows come in the engine's order, which keeps the places of equal ones.
func TestSortAsTheEngine(t *testing.T) {
	ctx := sql.NewEmptyContext()
	rng := rand.New(rand.NewPCG(3, 4))
	text := func(id sql.CollationID) sql.Type { return types.CreateLongText(id) }
	columns := []sql.Type{text(sql.Collation_utf8mb4_0900_ai_ci), types.Int64, text(sql.Collation_utf8mb4_0900_bin), types.LongBlob,
		types.MustCreateEnumType([]string{"b", "a"}, sql.Collation_utf8mb4_0900_ai_ci)}
	value := func(i int) any {
		switch {
		case rng.IntN(5) == 0:
			return nil
		case i == 1:
			return int64(rng.IntN(4) - 2)
		case i == 3:
			return []byte(randomText(rng))
		case i == 4:
			return uint16(1 + rng.IntN(2))
		}
		return randomText(rng)
	}
	for range 300 {
		var conditions sql.SortConditions
		for range 1 + rng.IntN(3) {
			i := rng.IntN(len(columns))
			conditions = append(conditions, sql.SortCondition{Expr: expression.NewGetField(i, columns[i], fmt.Sprint("c", i), true),
				Order: []sql.SortOrder{sql.Ascending, sql.Descending}[rng.IntN(2)], NullOrdering: []sql.NullOrdering{sql.NullsFirst, sql.NullsLast}[rng.IntN(2)]})
		}
		var rows []sql.Row
		for n := range rng.IntN(60) {
			row := sql.Row{}
			for i := range columns {
				row = append(row, value(i))
			}
			rows = append(rows, append(row, n))
		}
		want := slices.Clone(rows)
		sorter := sorters.NewRowSorterWithRows(ctx, conditions, want)
		sort.Stable(sorter)
		require.NoError(t, sorter.GetError())
		require.NoError(t, newRowOrder(ctx, conditions).sort(ctx, rows))
		require.Equal(t, want, rows)
	}
}

// BenchmarkOrder puts a hundred rows like those of sysbench in order, or takes the
// different ones.
func BenchmarkOrder(b *testing.B) {
	ctx := sql.NewEmptyContext()
	rng := rand.New(rand.NewPCG(5, 6))
	typ := collatedType(sql.Collation_utf8mb4_0900_ai_ci)
	rows := make([]sql.Row, 100)
	for i := range rows {
		text := ""
		for range 10 {
			text += fmt.Sprintf("%011d-", rng.Uint64N(1e11))
		}
		rows[i] = sql.Row{text}
	}
	b.Run("sort", func(b *testing.B) {
		b.ReportAllocs()
		conditions := sql.SortConditions{{Expr: expression.NewGetField(0, typ, "c", false), Order: sql.Ascending, NullOrdering: sql.NullsFirst}}
		order, unsorted := newRowOrder(ctx, conditions), make([]sql.Row, len(rows))
		for b.Loop() {
			copy(unsorted, rows)
			require.NoError(b, order.sort(ctx, unsorted))
		}
	})
	b.Run("distinct", func(b *testing.B) {
		b.ReportAllocs()
		hashed := &collatedRows{schema: sql.Schema{{Type: typ}}, weights: []*asciiWeights{weightsOf(sql.Collation_utf8mb4_0900_ai_ci)}}
		for b.Loop() {
			for _, row := range rows {
				if _, err := hashed.HashOf(ctx, row); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
