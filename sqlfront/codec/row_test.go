package codec

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func allColumns() ([]Column, []sample) {
	list := samples()
	columns := make([]Column, len(list))
	for i, s := range list {
		columns[i] = Column{ID: uint32(len(list) - i), Type: s.typ} // ids run against the positions
	}
	return columns, list
}

func TestRowsReadBack(t *testing.T) {
	ctx := sql.NewEmptyContext()
	columns, list := allColumns()
	c := must(NewRowCodec(7, columns))
	rapid.Check(t, func(t *rapid.T) {
		row := make(sql.Row, len(list))
		for i, s := range list {
			row[i] = s.nullable(t)
		}
		data := must(c.Append(ctx, nil, row))
		require.Equal(t, uint64(7), must(SchemaVersion(data)))
		got := make(sql.Row, len(list))
		require.NoError(t, c.Decode(ctx, data, got))
		require.Equal(t, fmt.Sprintf("%#v", row), fmt.Sprintf("%#v", got))

		positions := rapid.SliceOfN(rapid.IntRange(0, len(list)-1), 0, 6).Draw(t, "positions")
		p := must(c.NewProjection(positions))
		some := make(sql.Row, p.Len())
		require.NoError(t, c.Project(ctx, p, data, some))
		for i, position := range positions {
			require.Equal(t, fmt.Sprintf("%#v", row[position]), fmt.Sprintf("%#v", some[i]))
		}
	})
}

// What the engine calls the zero of a type is what non-strict mode stores.
func TestZeroValues(t *testing.T) {
	ctx := sql.NewEmptyContext()
	for _, s := range samples() {
		if s.typ.Zero() == nil {
			continue
		}
		c := must(NewRowCodec(1, []Column{{ID: 1, Type: s.typ}}))
		want, _, err := s.typ.Convert(ctx, s.typ.Zero())
		if err != nil {
			want = s.typ.Zero() // ENUM: the index of the empty string, which no assignment makes
		}
		got := make(sql.Row, 1)
		require.NoError(t, c.Decode(ctx, must(c.Append(ctx, nil, sql.Row{want})), got), s.name)
		if floats, ok := want.([]float32); ok {
			want = sql.EncodeVector(floats)
		}
		require.Equal(t, want, got[0], s.name)
	}
}

func TestColumnsComeAndGo(t *testing.T) {
	ctx := sql.NewEmptyContext()
	old := must(NewRowCodec(1, []Column{{ID: 1, Type: types.Int64}, {ID: 2, Type: types.LongText}, {ID: 3, Type: types.Float64}}))
	data := must(old.Append(ctx, nil, sql.Row{int64(5), "gone", 1.5}))

	five := must(AppendDefault(ctx, nil, types.Int32, "5"))
	blue := must(AppendDefault(ctx, nil, types.LongText, "blue"))
	now := must(NewRowCodec(2, []Column{
		{ID: 6, Type: types.LongText, Default: blue}, {ID: 3, Type: types.Float64}, {ID: 4, Type: types.Int32, Default: five},
		{ID: 1, Type: types.Int64}, {ID: 5, Type: types.JSON},
	}))
	got := make(sql.Row, 5)
	require.NoError(t, now.Decode(ctx, data, got))
	require.Equal(t, sql.Row{"blue", 1.5, int32(5), int64(5), nil}, got)

	// A row of the new schema read by the old one, which still runs on another node.
	data = must(now.Append(ctx, nil, sql.Row{"red", 2.5, nil, int64(6), types.MustJSON(`{"a":1}`)}))
	got = make(sql.Row, 3)
	require.NoError(t, old.Decode(ctx, data, got))
	require.Equal(t, sql.Row{int64(6), nil, 2.5}, got)
}

func TestRowErrors(t *testing.T) {
	ctx := sql.NewEmptyContext()
	columns := []Column{{ID: 1, Type: types.Int32}, {ID: 2, Type: types.LongText}}
	c := must(NewRowCodec(1, columns))
	good := must(c.Append(ctx, nil, sql.Row{int32(1), "abc"}))
	dst := make(sql.Row, 2)
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"empty":                 {nil, ErrCorrupt},
		"unknown version":       {append([]byte{9}, good[1:]...), ErrVersion},
		"cut off":               {good[:len(good)-1], ErrCorrupt},
		"another form":          {[]byte{1, 1, 1<<2 | wireFixed, 0, 0, 0, 0, 0, 0, 0, 0}, ErrCorrupt},
		"length beyond the end": {[]byte{1, 1, 2<<2 | wireBytes, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, ErrCorrupt},
		"no distance":           {[]byte{1, 1, wireNull}, ErrCorrupt},
	} {
		require.ErrorIs(t, c.Decode(ctx, tc.data, dst), tc.want, name)
	}
	_, err := c.Append(ctx, nil, sql.Row{int32(1)})
	require.Error(t, err)
	_, err = c.Append(ctx, nil, sql.Row{int64(1) << 40, "x"})
	require.Error(t, err)
	_, err = NewRowCodec(1, []Column{{ID: 1, Type: types.Int32}, {ID: 1, Type: types.Int32}})
	require.Error(t, err)
	_, err = NewRowCodec(1, []Column{{ID: 0, Type: types.Int32}})
	require.Error(t, err)
	_, err = NewRowCodec(1, []Column{{ID: 1, Type: types.Int32, Default: []byte{0xFF}}})
	require.Error(t, err)
	_, err = c.NewProjection([]int{2})
	require.Error(t, err)
}

// The golden file pins both encodings: a stored row or key has to be readable by every later build.
func TestGolden(t *testing.T) {
	ctx := sql.NewEmptyContext()
	point := types.Point{SRID: 4326, X: 1, Y: 2}
	values := map[string]any{
		"tinyint": int8(-1), "boolean": int8(1), "smallint": int16(300), "mediumint": int32(-70000), "int": int32(1 << 30), "bigint": int64(-1 << 63),
		"tinyint unsigned": uint8(255), "smallint unsigned": uint16(1), "mediumint unsigned": uint32(1 << 23), "int unsigned": uint32(1 << 31),
		"bigint unsigned": uint64(1<<64 - 1), "bit(64)": uint64(5), "float": float32(1.5), "double": -2.25, "decimal(30,5)": apd.New(-150000, -5),
		"date": types.ZeroTime, "datetime": time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), "datetime(6)": time.Date(2026, 3, 4, 5, 6, 7, 89000, time.UTC),
		"timestamp": time.Unix(1, 0).UTC(), "timestamp(6)": time.Unix(1, 1000).UTC(), "time": types.Timespan(-3020399000000), "year": int16(2026),
		"enum": uint16(2), "set": uint64(5), "json": types.MustJSON(`{"b":[1,null,"x"],"a":true}`), "geometry": point, "vector": []byte{0, 0, 128, 63, 0, 0, 0, 64},
		"varbinary": []byte{0, 1, 255}, "blob": []byte("blob"), "latin1_swedish_ci": "Ärger", "ascii_bin": "Key",
	}
	var out strings.Builder
	for _, s := range samples() {
		v, ok := values[s.name]
		if !ok {
			v = "Straße😀 "
		}
		row := must(must(NewRowCodec(300, []Column{{ID: 20, Type: s.typ}})).Append(ctx, nil, sql.Row{v}))
		fmt.Fprintf(&out, "%s\n  row  %s\n", s.name, hex.EncodeToString(row))
		if s.keyed {
			asc := must(must(NewKeyCodec([]KeyColumn{{Type: s.typ}})).AppendKey(ctx, nil, []any{v}))
			fmt.Fprintf(&out, "  key  %s\n", hex.EncodeToString(asc))
		}
	}
	const file = "testdata/encodings.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), out.String())
}

func FuzzDecodeRow(f *testing.F) {
	ctx := sql.NewEmptyContext()
	columns, list := allColumns()
	c := must(NewRowCodec(7, columns))
	row := make(sql.Row, len(list))
	f.Add(must(c.Append(ctx, nil, row)))
	for i, s := range list {
		row[i] = s.typ.Zero()
	}
	f.Add(must(c.Append(ctx, nil, row)))
	for i, s := range list {
		row[i] = rapid.Custom(func(t *rapid.T) any { return s.draw(t) }).Example(i)
	}
	f.Add(must(c.Append(ctx, nil, row)))
	f.Fuzz(func(t *testing.T, data []byte) {
		dst := make(sql.Row, len(list))
		if err := c.Decode(ctx, data, dst); err != nil {
			return
		}
		again, err := c.Append(ctx, nil, dst)
		if err != nil {
			t.Fatalf("a row that was read cannot be written: %v", err)
		}
		if err := c.Decode(ctx, again, dst); err != nil {
			t.Fatalf("a row that was written cannot be read: %v", err)
		}
	})
}

func sysbench() ([]Column, sql.Row) {
	return []Column{{ID: 1, Type: types.Int32}, {ID: 2, Type: types.Int32}, {ID: 3, Type: text(sql.Collation_utf8mb4_0900_ai_ci)}, {ID: 4, Type: text(sql.Collation_utf8mb4_0900_ai_ci)}},
		sql.Row{int32(4711), int32(500123), strings.Repeat("83868641912-", 10)[:119], strings.Repeat("67847967377-", 5)[:59]}
}

func BenchmarkRowEncode(b *testing.B) {
	columns, row := sysbench()
	c := must(NewRowCodec(1, columns))
	ctx := sql.NewEmptyContext()
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst = must(c.Append(ctx, dst[:0], row))
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkRowDecode(b *testing.B) {
	columns, row := sysbench()
	c := must(NewRowCodec(1, columns))
	ctx := sql.NewEmptyContext()
	data := must(c.Append(ctx, nil, row))
	dst := make(sql.Row, len(columns))
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Decode(ctx, data, dst)
		}
	})
	p := must(c.NewProjection([]int{1}))
	b.Run("one column", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Project(ctx, p, data, dst[:1])
		}
	})
}

func BenchmarkKeyEncode(b *testing.B) {
	ctx := sql.NewEmptyContext()
	for _, tc := range []struct {
		name   string
		column KeyColumn
		value  any
	}{
		{"int", KeyColumn{Type: types.Int32}, int32(4711)},
		{"ascii ai_ci 30", KeyColumn{Type: text(sql.Collation_utf8mb4_0900_ai_ci)}, "the quick brown fox jumps over"},
		{"decimal", KeyColumn{Type: types.MustCreateColumnDecimalType(10, 2)}, apd.New(12345, -2)},
	} {
		c := must(NewKeyCodec([]KeyColumn{tc.column}))
		values := []any{tc.value}
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst = must(c.AppendKey(ctx, dst[:0], values))
			}
		})
	}
}

func BenchmarkKeyDecode(b *testing.B) {
	ctx := sql.NewEmptyContext()
	c := must(NewKeyCodec([]KeyColumn{{Type: types.Int32}, {Type: types.Int64}}))
	key := must(c.AppendKey(ctx, nil, []any{int32(4711), int64(1) << 40}))
	dst := make([]any, 2)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Decode(key, dst); err != nil {
			b.Fatal(err)
		}
	}
}
