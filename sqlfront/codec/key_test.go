package codec

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestKeysSortAsValuesDo(t *testing.T) {
	ctx := sql.NewEmptyContext()
	for _, s := range samples() {
		if !s.keyed {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			for _, desc := range []bool{false, true} {
				c := must(NewKeyCodec([]KeyColumn{{Type: s.typ, Desc: desc}}))
				rapid.Check(t, func(t *rapid.T) {
					a, b := s.nullable(t), s.nullable(t)
					want := must(s.typ.Compare(ctx, a, b))
					if a == nil || b == nil {
						want = compareNull(a, b) // the engine's Compare puts NULL last; an index puts it first
					}
					if desc {
						want = -want
					}
					ka := must(c.AppendKey(ctx, nil, []any{a}))
					kb := must(c.AppendKey(ctx, nil, []any{b}))
					if got := bytes.Compare(ka, kb); got != want {
						t.Fatalf("%#v and %#v compare %d, their keys %d", a, b, want, got)
					}
				})
			}
		})
	}
}

func compareNull(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	}
	return 1
}

func TestKeysReadBack(t *testing.T) {
	ctx := sql.NewEmptyContext()
	for _, s := range samples() {
		if !s.keyed {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			for _, desc := range []bool{false, true} {
				c := must(NewKeyCodec([]KeyColumn{{Type: s.typ, Desc: desc}, {Type: types.Int64}}))
				rapid.Check(t, func(t *rapid.T) {
					v := s.nullable(t)
					key := must(c.AppendKey(ctx, nil, []any{v, int64(7)}))
					key = append(key, "rest"...)
					got := []any{"untouched", nil}
					rest, err := c.Decode(key, got)
					require.NoError(t, err)
					require.Equal(t, "rest", string(rest))
					require.Equal(t, int64(7), got[1])
					rest, err = c.Skip(key, 2)
					require.NoError(t, err)
					require.Equal(t, "rest", string(rest))
					if !c.Decodable(0) {
						require.Equal(t, "untouched", got[0])
						return
					}
					requireSame(t, s, v, got[0])
				})
			}
		})
	}
}

// requireSame wants the value and its Go type back; decimals also their scale.
func requireSame(t *rapid.T, s sample, want, got any) {
	require.IsType(t, want, got)
	if f, ok := want.(float64); ok && f == 0 {
		want = 0.0 // a key has one zero
	}
	if f, ok := want.(float32); ok && f == 0 {
		want = float32(0)
	}
	if d, ok := want.(interface{ String() string }); ok && s.name == "decimal(30,5)" {
		require.Equal(t, d.String(), got.(interface{ String() string }).String())
		return
	}
	require.Equal(t, want, got)
}

func TestDecodableColumns(t *testing.T) {
	for _, c := range []struct {
		column KeyColumn
		want   bool
	}{
		{KeyColumn{Type: types.Int32}, true},
		{KeyColumn{Type: text(sql.Collation_utf8mb4_0900_bin)}, true},
		{KeyColumn{Type: text(sql.Collation_utf8mb4_0900_ai_ci)}, false},
		{KeyColumn{Type: text(sql.Collation_utf8mb4_0900_bin), PrefixLength: 3}, false},
		{KeyColumn{Type: types.LongBlob}, true},
		{KeyColumn{Type: types.LongBlob, PrefixLength: 3}, false},
	} {
		require.Equal(t, c.want, must(NewKeyCodec([]KeyColumn{c.column})).Decodable(0), "%v", c.column)
	}
}

// Raw collations promise that the weight of every character is its code point, which is what makes UTF-8 a sort key.
func TestRawCollationsWeighByCodePoint(t *testing.T) {
	for _, id := range []sql.CollationID{sql.Collation_utf8mb4_0900_bin, sql.Collation_utf8mb4_bin, sql.Collation_utf8mb3_bin} {
		previous := int32(-1)
		for r := rune(0); r <= utf8.MaxRune; r++ {
			if !utf8.ValidRune(r) || id == sql.Collation_utf8mb3_bin && r > 0xFFFF {
				continue
			}
			w := id.Sorter()(r)
			require.Greater(t, w, previous, "%s %U", id, r)
			previous = w
		}
	}
}

func TestWeightsSort(t *testing.T) {
	var previous []byte
	for w := int64(0); w <= 1<<31-1; w += 1 + w/1000 {
		key := appendWeight(nil, int32(w))
		require.Negative(t, bytes.Compare(previous, key), "%d", w)
		require.NotZero(t, key[0])
		previous = key
	}
	require.Negative(t, bytes.Compare(previous, appendWeight(nil, 1<<31-1)))
}

func TestTypesWithoutOrder(t *testing.T) {
	for _, s := range samples() {
		if s.keyed {
			continue
		}
		_, err := NewKeyCodec([]KeyColumn{{Type: s.typ}})
		require.ErrorIs(t, err, ErrNotIndexable, s.name)
	}
	_, err := NewKeyCodec([]KeyColumn{{Type: types.Int64, PrefixLength: 2}})
	require.Error(t, err)
}

func TestKeyPrefixesCountCharactersAndBytes(t *testing.T) {
	ctx := sql.NewEmptyContext()
	chars := must(NewKeyCodec([]KeyColumn{{Type: text(sql.Collation_utf8mb4_0900_ai_ci), PrefixLength: 2}}))
	octets := must(NewKeyCodec([]KeyColumn{{Type: types.MustCreateBinary(sqltypes.VarBinary, 9), PrefixLength: 2}}))
	key := func(c *KeyCodec, v any) string { return string(must(c.AppendKey(ctx, nil, []any{v}))) }
	require.Equal(t, key(chars, "ÄÖ"), key(chars, "äöx"))
	require.NotEqual(t, key(chars, "ÄÖ"), key(chars, "äx"))
	require.Equal(t, key(octets, []byte("ab")), key(octets, []byte("abc")))
	require.NotEqual(t, key(octets, []byte("ab")), key(octets, []byte("a")))
}

func TestKeysTakeConvertibleValues(t *testing.T) {
	ctx := sql.NewEmptyContext()
	c := must(NewKeyCodec([]KeyColumn{{Type: types.Int32}}))
	require.Equal(t, must(c.AppendKey(ctx, nil, []any{int32(5)})), must(c.AppendKey(ctx, nil, []any{"5"})))
	_, err := c.AppendKey(ctx, nil, []any{int64(1) << 40})
	require.Error(t, err)
}

func FuzzDecodeKey(f *testing.F) {
	ctx := sql.NewEmptyContext()
	var columns []KeyColumn
	for i, s := range samples() {
		if s.keyed {
			columns = append(columns, KeyColumn{Type: s.typ, Desc: i%2 == 1})
		}
	}
	c := must(NewKeyCodec(columns))
	values := make([]any, len(columns))
	f.Add(must(c.AppendKey(ctx, nil, values)))
	for i, column := range columns {
		values[i] = column.Type.Zero()
	}
	f.Add(must(c.AppendKey(ctx, nil, values)))
	f.Fuzz(func(t *testing.T, key []byte) {
		dst := make([]any, len(columns))
		_, _ = c.Decode(key, dst)
		for i := range columns {
			_, _, _ = c.columns[i].decode(key)
		}
	})
}
