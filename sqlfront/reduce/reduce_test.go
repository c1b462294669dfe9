package reduce

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
)

var update = flag.Bool("update", false, "write the golden file anew")

// testColumns have ids with gaps, for columns that nobody asks for.
var testColumns = []Column{
	{ID: 2, Kind: Signed},
	{ID: 3, Kind: Unsigned, Default: []byte{codec.WireVarint, 7}},
	{ID: 7, Kind: Time},
	{ID: 9, Kind: Any},
}

// testRow are the values of testColumns; nil is NULL, and "missing" one that the row was
// written without.
type testRow [4]any

func (v testRow) encode() []byte {
	b := []byte{1, 5}
	last := uint32(0)
	put := func(id uint32, wire uint64) {
		b = binary.AppendUvarint(b, uint64(id-last)<<codec.WireBits|wire)
		last = id
	}
	put(1, 2) // a string that is skipped
	b = append(b, 2, 'x', 'y')
	for i, c := range testColumns {
		switch x := v[i].(type) {
		case nil:
			put(c.ID, codec.WireNull)
		case int:
			put(c.ID, codec.WireVarint)
			b = binary.AppendUvarint(b, StoredSigned(int64(x)))
		case uint64:
			put(c.ID, codec.WireVarint)
			b = binary.AppendUvarint(b, x)
		case string:
			if x == "missing" {
				continue
			}
			put(c.ID, 2)
			b = append(binary.AppendUvarint(b, uint64(len(x))), x...)
		}
	}
	put(30, codec.WireVarint)
	return append(b, 9)
}

func randomRow(r *rand.Rand) testRow {
	v := testRow{r.IntN(7) - 3, uint64(r.IntN(4)), uint64(2 + r.IntN(8)), "text"}
	for i := range v {
		switch r.IntN(6) {
		case 0:
			v[i] = nil
		case 1:
			v[i] = "missing"
		}
	}
	if r.IntN(50) == 0 {
		v[1] = uint64(1 << 50)
	}
	return v
}

// value is what a reader finds.
func (v testRow) value(i int) field {
	switch x := v[i].(type) {
	case nil:
		return field{null: true}
	case int:
		return field{stored: StoredSigned(int64(x))}
	case uint64:
		return field{stored: x}
	}
	if v[i] == "missing" {
		return defaultOf(testColumns[i])
	}
	return field{}
}

func randomCondition(r *rand.Rand, depth int) Condition {
	if depth > 0 && r.IntN(2) == 0 {
		c := Condition{Test: Test(r.IntN(3))}
		for range 1 + r.IntN(2) {
			c.Args = append(c.Args, randomCondition(r, depth-1))
		}
		if c.Test == Not {
			c.Args = c.Args[:1]
		}
		return c
	}
	c := Condition{Test: IsNull + Test(r.IntN(int(tests-IsNull))), Column: r.IntN(3)}
	switch c.Test {
	case Less, Greater:
		c.Values = []uint64{uint64(r.IntN(8))}
	case In:
		n := r.IntN(3)
		if r.IntN(3) == 0 {
			n = shortList + r.IntN(3)
		}
		for range n {
			c.Values = append(c.Values, uint64(r.IntN(4*n)))
		}
		c.OrNull = r.IntN(3) == 0
	}
	return c
}

func randomProgram(r *rand.Rand) *Program {
	p := &Program{Columns: testColumns}
	for range r.IntN(3) {
		p.Groups = append(p.Groups, r.IntN(3))
	}
	for range 1 + r.IntN(3) {
		a := Aggregate{Op: Op(r.IntN(int(ops)))}
		switch a.Op {
		case Count:
			a.Column = r.IntN(4)
		case Sum:
			a.Column = r.IntN(2)
		case Min, Max:
			a.Column = r.IntN(3)
		}
		p.Aggregates = append(p.Aggregates, a)
	}
	if r.IntN(2) == 0 {
		c := randomCondition(r, 3)
		p.Where = &c
	}
	return p
}

// naive does it row by row, with the plainest code there is.
func naive(p *Program, rows []testRow) []string {
	type sum struct {
		first  string
		states []State
	}
	groups, order := map[string]*sum{}, []string{}
	if len(p.Groups) == 0 {
		groups[""], order = &sum{states: make([]State, len(p.Aggregates))}, []string{""}
	}
	for i, row := range rows {
		fields := make([]field, len(testColumns))
		for c := range fields {
			fields[c] = row.value(c)
		}
		if p.Where != nil && readyOf(p.Where).holds(p.Columns, fields) != yes {
			continue
		}
		name := ""
		for _, g := range p.Groups {
			name += fmt.Sprint(fields[g], " ")
		}
		g := groups[name]
		if g == nil {
			g = &sum{states: make([]State, len(p.Aggregates))}
			groups[name], order = g, append(order, name)
		}
		if g.first == "" {
			g.first = rowKey(i)
		}
		for j, a := range p.Aggregates {
			s, v := &g.states[j], fields[a.Column]
			if a.Op == CountRows {
				s.N++
				continue
			}
			if v.null {
				continue
			}
			kind := p.Columns[a.Column].Kind
			s.N++
			switch {
			case a.Op == Sum && kind == Signed:
				s.Sum += signed(v.stored)
			case a.Op == Sum:
				s.Sum += int64(v.stored)
			case a.Op == Min && (s.N == 1 || Ordinal(kind, v.stored) < Ordinal(kind, s.Stored)),
				a.Op == Max && (s.N == 1 || Ordinal(kind, v.stored) > Ordinal(kind, s.Stored)):
				s.Stored = v.stored
			}
		}
	}
	var out []string
	for _, name := range order {
		g := groups[name]
		if len(p.Groups) == 0 {
			g.first = ""
		}
		out = append(out, show(p, g.first, name, g.states))
	}
	return out
}

func show(p *Program, first, name string, states []State) string {
	text := first + ": " + name
	for i, s := range states {
		text += fmt.Sprintf("| %d", s.N)
		switch p.Aggregates[i].Op {
		case Sum:
			text += fmt.Sprintf(" %d", s.Sum)
		case Min, Max:
			text += fmt.Sprintf(" %d", s.Stored)
		}
	}
	return text
}

func rowKey(i int) string { return fmt.Sprintf("key%05d", i) }

// TestDivisionMakesNoDifference: the rows in any parts, each in its order, the parts'
// results in any order, come to what one naive loop over all of them finds.
func TestDivisionMakesNoDifference(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 3000 {
		var rows []testRow
		for range r.IntN(30) {
			rows = append(rows, randomRow(r))
		}
		p := randomProgram(r)
		sent, err := Decode(p.Append(nil))
		require.NoError(t, err)
		require.Equal(t, p.Append(nil), sent.Append(nil))
		folds := make([]*Fold, 1+r.IntN(4))
		for i := range folds {
			folds[i] = NewFold(sent)
		}
		for i, row := range rows {
			require.NoError(t, folds[r.IntN(len(folds))].Add([]byte(rowKey(i)), row.encode()))
		}
		m := NewMerge(p)
		r.Shuffle(len(folds), func(i, j int) { folds[i], folds[j] = folds[j], folds[i] })
		for _, f := range folds {
			require.NoError(t, m.Add(f.Result(nil)))
		}
		if !m.Exact() {
			require.NotEmpty(t, m.program.Aggregates)
			continue
		}
		var got []string
		for _, g := range m.Groups() {
			name := ""
			for _, v := range g.Values {
				name += fmt.Sprint(field{v.Null, v.Stored}, " ")
			}
			got = append(got, show(p, string(g.First), name, g.States))
		}
		require.Equal(t, naive(p, rows), got, "%+v", p)
	}
}

// TestSumsThatRound: a float adds integers exactly as long as no partial sum, whatever the
// order, is beyond 2^53.
func TestSumsThatRound(t *testing.T) {
	for _, c := range []struct {
		parts [][]any // of a signed column, or of an unsigned one
		exact bool
		sum   int64
	}{
		{[][]any{{1, 2}, {3}}, true, 6},
		{[][]any{{1 << 52}, {1 << 52}}, true, 1 << 53},
		{[][]any{{1 << 52}, {1 << 52}, {1}}, false, 0},
		{[][]any{{1 << 52, -1 << 52, 1 << 52}}, false, 0}, // in another order it would round
		{[][]any{{-1 << 53}, {}}, true, -1 << 53},
		{[][]any{{-1<<53 - 1}}, false, 0},
		{[][]any{{-1 << 63}}, false, 0},
		{[][]any{{uint64(1) << 53}, {nil}}, true, 1 << 53},
		{[][]any{{uint64(1)<<53 + 1}}, false, 0},
		{[][]any{{uint64(1<<64 - 1)}, {uint64(1)}}, false, 0},
	} {
		p := &Program{Columns: testColumns[:2], Aggregates: []Aggregate{{Op: Sum, Column: 0}}}
		for _, v := range slices.Concat(c.parts...) {
			if _, unsigned := v.(uint64); unsigned {
				p.Aggregates[0].Column = 1
			}
		}
		m := NewMerge(p)
		for _, part := range c.parts {
			f := NewFold(p)
			for i, v := range part {
				row := testRow{}
				row[p.Aggregates[0].Column] = v
				require.NoError(t, f.Add([]byte(rowKey(i)), row.encode()))
			}
			require.NoError(t, m.Add(f.Result(nil)))
		}
		require.Equal(t, c.exact, m.Exact(), "%v", c.parts)
		if c.exact {
			require.Equal(t, c.sum, m.Groups()[0].States[0].Sum)
		}
	}
}

// TestOrdinals: points in time are packed in two ways that must compare with each other.
func TestOrdinals(t *testing.T) {
	pack := func(micros int64) uint64 {
		if micros%1e6 == 0 {
			return StoredSigned(micros/1e6) << 1
		}
		return StoredSigned(micros)<<1 | 1
	}
	times := []int64{-62135596800000000, -1500000, -1000000, -999999, -1, 0, 1, 999999, 1000000, 1000001, 253402300799999999}
	require.True(t, slices.IsSortedFunc(times, func(a, b int64) int {
		x, y := Ordinal(Time, pack(a)), Ordinal(Time, pack(b))
		if x < y {
			return -1
		}
		return 1
	}))
	require.Less(t, Ordinal(Signed, StoredSigned(-1<<63)), Ordinal(Signed, StoredSigned(-1)))
	require.Less(t, Ordinal(Signed, StoredSigned(-1)), Ordinal(Signed, StoredSigned(0)))
	require.Less(t, Ordinal(Unsigned, 1), Ordinal(Unsigned, 1<<63))
}

// TestPrograms that no owner runs.
func TestInvalidPrograms(t *testing.T) {
	deep := Condition{Test: IsNull}
	for range maxDepth + 1 {
		deep = Condition{Test: Not, Args: []Condition{deep}}
	}
	for name, p := range map[string]Program{
		"columns out of order":      {Columns: []Column{{ID: 2}, {ID: 1}}},
		"a column twice":            {Columns: []Column{{ID: 2}, {ID: 2}}},
		"a column without id":       {Columns: []Column{{}}},
		"an unknown kind":           {Columns: []Column{{ID: 1, Kind: kinds}}},
		"a default of another form": {Columns: []Column{{ID: 1, Kind: Signed, Default: []byte{codec.WireBits, 1, 'x'}}}},
		"half a default":            {Columns: []Column{{ID: 1, Default: []byte{codec.WireVarint}}}},
		"groups of nothing":         {Groups: []int{0}},
		"groups of anything":        {Columns: testColumns, Groups: []int{3}},
		"a sum of times":            {Columns: testColumns, Aggregates: []Aggregate{{Op: Sum, Column: 2}}},
		"the largest of anything":   {Columns: testColumns, Aggregates: []Aggregate{{Op: Max, Column: 3}}},
		"an unknown aggregate":      {Columns: testColumns, Aggregates: []Aggregate{{Op: ops}}},
		"a comparison without end":  {Columns: testColumns, Where: &Condition{Test: Less}},
		"a comparison of anything":  {Columns: testColumns, Where: &Condition{Test: In, Column: 3}},
		"an unknown test":           {Columns: testColumns, Where: &Condition{Test: tests}},
		"a condition too deep":      {Columns: testColumns, Where: &deep},
	} {
		require.Error(t, p.Valid(), name)
		_, err := Decode(p.Append(nil))
		require.Error(t, err, name)
	}
}

// TestLongLists are looked through by halves, whatever order they come in; the program
// stays as it is.
func TestLongLists(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	c := Condition{Test: In, Column: 0}
	in := map[uint64]bool{}
	for range 1000 {
		v := uint64(r.IntN(3000))
		c.Values, in[v] = append(c.Values, v), true
	}
	sent := slices.Clone(c.Values)
	both := Condition{Test: Not, Args: []Condition{c}}
	ready := both.ready()
	for v := range uint64(3000) {
		require.Equal(t, truthOf(!in[v]), ready.holds(testColumns, []field{{stored: v}}), "%d", v)
	}
	require.Equal(t, sent, c.Values)
	require.True(t, slices.IsSorted(ready.Args[0].Values))
}

// TestWhatDoesNotDecodeIsCheap: it costs no more memory than a few times its size.
func TestWhatDoesNotDecodeIsCheap(t *testing.T) {
	const size = 4 << 20
	many := func(head []byte, each byte) []byte {
		return append(binary.AppendUvarint(head, size), bytes.Repeat([]byte{each}, size)...)
	}
	program := &Program{Columns: testColumns, Groups: []int{0}, Aggregates: []Aggregate{{Op: Count}}}
	for name, decode := range map[string]func() error{
		"bad columns":    func() error { _, err := Decode(many([]byte{format}, 0xff)); return err },
		"columns":        func() error { _, err := Decode(many([]byte{format}, 1)); return err },
		"groups":         func() error { _, err := Decode(many([]byte{format, 0}, 1)); return err },
		"aggregates":     func() error { _, err := Decode(many([]byte{format, 0, 0}, 1)); return err },
		"conditions":     func() error { _, err := Decode(many([]byte{format, 0, 0, 0, 1, byte(And)}, 0)); return err },
		"bad values":     func() error { _, err := Decode(many([]byte{format, 0, 0, 0, 1, byte(In), 0}, 0xff)); return err },
		"kept columns":   func() error { _, err := DecodeFilter(many([]byte{format, format, 0, 0, 0, 0, 0, 1}, 1)); return err },
		"a bad result":   func() error { return NewMerge(program).Add(many([]byte{format, 0}, 0xff)) },
		"another result": func() error { return NewMerge(program).Add(many([]byte{format, 0}, 7)) },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.Error(t, decode(), name)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8*size), name)
	}
}

// TestDamagedRows are reported, never counted.
func TestDamagedRows(t *testing.T) {
	p := &Program{Columns: testColumns, Aggregates: []Aggregate{{Op: Count, Column: 3}}}
	row := testRow{1, uint64(2), uint64(3), "text"}.encode()
	end := len(row) - 2 // behind the last column that is looked at
	for i := range end {
		f := NewFold(p)
		err := f.Add([]byte("k"), row[:i])
		if err == nil { // cut between two columns: a row of an older schema
			require.Less(t, f.groups[0].states[0].N, int64(1))
		}
	}
	require.ErrorIs(t, NewFold(p).Add(nil, testRow{"text", nil, nil, nil}.encode()), ErrCorrupt)
	require.ErrorIs(t, NewFold(p).Add(nil, []byte{99}), ErrCorrupt)
}

// golden are the formats: a program and a result.
func golden() (string, []byte, []byte) {
	p := &Program{Columns: testColumns, Groups: []int{1, 2},
		Aggregates: []Aggregate{{Op: CountRows}, {Op: Count, Column: 3}, {Op: Sum}, {Op: Min, Column: 2}, {Op: Max, Column: 1}},
		Where: &Condition{Test: Or, Args: []Condition{
			{Test: And, Args: []Condition{{Test: Less, Column: 0, Values: []uint64{300}}, {Test: Greater, Column: 1, Values: []uint64{1}}}},
			{Test: Not, Args: []Condition{{Test: IsNull, Column: 3}}},
			{Test: In, Column: 2, Values: []uint64{4, 5}, OrNull: true}, {Test: Never, Column: 1}}}}
	f := NewFold(p)
	for i, row := range []testRow{{1, uint64(2), uint64(3), "text"}, {-5, nil, uint64(4), nil}, {nil, "missing", nil, "x"}} {
		if err := f.Add([]byte(rowKey(i)), row.encode()); err != nil {
			panic(err)
		}
	}
	program, result := p.Append(nil), f.Result(nil)
	text := "program " + hex.EncodeToString(program) + "\nresult " + hex.EncodeToString(result) + "\n"
	return text + "filter " + hex.EncodeToString(goldenFilter().Append(nil)) + "\n", program, result
}

func goldenFilter() *Filter {
	return &Filter{Columns: testColumns[:2], Where: Condition{Test: Greater, Column: 1, Values: []uint64{3}}, OrNull: true, Keep: []uint32{1, 3, 300}}
}

// TestChoosing: what is kept of a row reads as the row does, column by column.
func TestChoosing(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	all := Program{Columns: testColumns, Aggregates: []Aggregate{{Op: Count, Column: 3}}}
	for range 3000 {
		f := &Filter{Columns: testColumns, Where: randomCondition(r, 2), OrNull: r.IntN(2) == 0}
		if r.IntN(3) > 0 {
			f.Keep = []uint32{}
			for _, id := range []uint32{1, 2, 3, 7, 9, 30, 31} {
				if r.IntN(2) == 0 {
					f.Keep = append(f.Keep, id)
				}
			}
		}
		sent, err := DecodeFilter(f.Append(nil))
		require.NoError(t, err)
		require.Equal(t, f, sent)
		v := randomRow(r)
		fields := make([]field, len(testColumns))
		for i := range fields {
			fields[i] = v.value(i)
		}
		kept, wanted, err := NewChooser(sent).Row(v.encode())
		require.NoError(t, err)
		ready := f.Where.ready()
		truth := ready.holds(testColumns, fields)
		require.Equal(t, truth == yes || truth == unknown && f.OrNull, wanted)
		if !wanted {
			continue
		}
		fold := NewFold(&all)
		require.NoError(t, fold.Add(nil, kept))
		for i, c := range testColumns {
			want := v.value(i)
			if f.Keep != nil && !slices.Contains(f.Keep, c.ID) {
				want = defaultOf(c) // left out is as good as missing
			}
			require.Equal(t, want, fold.reader.row[i])
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(goldenFilter().Append(nil))
	row := testRow{1, uint64(2), uint64(3), "text"}.encode()
	f.Fuzz(func(t *testing.T, b []byte) {
		filter, err := DecodeFilter(b)
		if err != nil {
			return
		}
		again, err := DecodeFilter(filter.Append(nil))
		require.NoError(t, err)
		require.Equal(t, filter, again)
		_, _, _ = NewChooser(filter).Row(row)
	})
}

func TestFormatsAreStable(t *testing.T) {
	text, _, _ := golden()
	if *update {
		require.NoError(t, os.WriteFile("testdata/formats.golden", []byte(text), 0o644))
	}
	want, err := os.ReadFile("testdata/formats.golden")
	require.NoError(t, err)
	require.Equal(t, string(want), text)
}

func FuzzProgram(f *testing.F) {
	_, program, _ := golden()
	f.Add(program)
	row := testRow{1, uint64(2), uint64(3), "text"}.encode()
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(p.Append(nil))
		require.NoError(t, err)
		require.Equal(t, p, again)
		fold := NewFold(p)
		if fold.Add([]byte("k"), row) == nil {
			require.NoError(t, NewMerge(p).Add(fold.Result(nil)))
		}
	})
}

func FuzzResult(f *testing.F) {
	_, program, result := golden()
	p, err := Decode(program)
	require.NoError(f, err)
	f.Add(result)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := NewMerge(p)
		if m.Add(b) == nil {
			m.Groups()
		}
	})
}

func FuzzRow(f *testing.F) {
	f.Add(testRow{1, uint64(2), uint64(3), "text"}.encode())
	_, program, _ := golden()
	p, err := Decode(program)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = NewFold(p).Add([]byte("k"), b)
		_, _, _ = NewChooser(goldenFilter()).Row(b)
	})
}

func readyOf(c *Condition) *Condition {
	ready := c.ready()
	return &ready
}
