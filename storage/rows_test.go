package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// rowCase is a cache beside batches that no store takes.
type rowCase struct {
	t *testing.T
	c *rows
	s *Space
}

func newRowCase(t *testing.T, size int64) *rowCase {
	e, err := Open(Options{Dir: "rows", FS: vfs.NewMem(), RowCacheBytes: -1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return &rowCase{t: t, c: newRows(size), s: e.Space(1)}
}

func (r *rowCase) key(k string) []byte { return appendRecordKey(nil, r.s.id, kindVersion, k) }

func stored(v string) []byte { return appendVersion(nil, versionValue, 1, []byte(v)) }

// has wants a version of a key, 0 for "it has none".
func (r *rowCase) has(k string, commit Timestamp, v string) {
	r.t.Helper()
	got, b, ok := r.c.get(r.key(k), 0, MaxTimestamp)
	require.True(r.t, ok, "%s is not known", k)
	require.Equal(r.t, commit, got)
	newest, ok := r.c.newest(r.key(k), 0)
	require.True(r.t, ok)
	require.Equal(r.t, commit, newest)
	if commit != 0 {
		require.Equal(r.t, stored(v), b)
	}
}

// unknown wants nothing of a key.
func (r *rowCase) unknown(k string) {
	r.t.Helper()
	_, _, ok := r.c.get(r.key(k), 0, MaxTimestamp)
	require.False(r.t, ok, "%s is known", k)
	_, ok = r.c.newest(r.key(k), 0)
	require.False(r.t, ok, "%s is known", k)
}

// begins is a batch up to where the store would take it; the result is the rest.
func (r *rowCase) begins(fill func(*Batch)) (ends func()) {
	b := r.s.NewBatch()
	fill(b)
	repr := bytes.Clone(b.b.Repr())
	b.Close()
	in := []changed{{space: r.s}}
	hashes, known := r.c.begin(repr, in, nil)
	return func() { r.c.end(repr, in, hashes, known) }
}

func put1(k string, commit Timestamp, v string) func(*Batch) {
	return func(b *Batch) { b.PutVersion(Key(k), commit, 1, []byte(v)) }
}

// TestRowsUnderCommit: while a batch is on its way into the store nothing is read of
// its keys, and nothing that was read before it is visible is remembered.
func TestRowsUnderCommit(t *testing.T) {
	r := newRowCase(t, 1<<20)
	r.unknown("k")
	r.c.fill(r.key("k"), 0, r.c.ticket(), 5, stored("five"))
	r.has("k", 5, "five")
	r.c.fill(r.key("none"), 0, r.c.ticket(), 0, nil)
	r.has("none", 0, "")

	before := r.c.ticket()
	ends := r.begins(func(b *Batch) {
		put1("k", 6, "six")(b)
		put1("none", 6, "some")(b)
		put1("l", 6, "l")(b)
		b.PutIntent(Key("i"), Intent{Prepare: 1})
		b.PutMeta("m", nil)
	})
	for _, k := range []string{"k", "none", "l"} {
		r.unknown(k)
		r.c.fill(r.key(k), 0, r.c.ticket(), 5, stored("of before"))
		r.unknown(k)
	}
	ends()
	r.has("k", 6, "six")
	r.has("none", 6, "some")
	r.unknown("l") // who knows whether it is the newest
	r.c.fill(r.key("l"), 0, before, 5, stored("of before"))
	r.unknown("l")
	r.c.fill(r.key("l"), 0, r.c.ticket(), 6, stored("l"))
	r.has("l", 6, "l")

	// Two commits at once, of different spaces whose keys share a set.
	one, two := r.begins(put1("x", 7, "")), r.begins(put1("x", 7, ""))
	one()
	r.c.fill(r.key("x"), 0, r.c.ticket(), 7, stored(""))
	r.unknown("x")
	two()
	r.c.fill(r.key("x"), 0, r.c.ticket(), 7, stored(""))
	r.has("x", 7, "")
}

// TestRowsKeepTheNewest: a batch may hold versions in any order, older ones too, and
// remove some.
func TestRowsKeepTheNewest(t *testing.T) {
	for name, c := range map[string]struct {
		fill func(*Batch)
		want Timestamp // 0: not known
	}{
		"newer":            {put1("k", 9, "9"), 9},
		"again":            {put1("k", 5, "5"), 5},
		"older":            {put1("k", 4, "4"), 5},
		"newer, then less": {func(b *Batch) { put1("k", 9, "9")(b); put1("k", 7, "7")(b) }, 9},
		"upwards":          {func(b *Batch) { put1("k", 7, "7")(b); put1("k", 9, "9")(b) }, 9},
		"large":            {put1("k", 9, string(make([]byte, 100_000))), 0},
		"newest removed":   {func(b *Batch) { b.remove("k", 5) }, 0},
		"older removed":    {func(b *Batch) { b.remove("k", 4) }, 5},
		"older comes instead": {func(b *Batch) {
			b.remove("k", 5)
			put1("k", 4, "4")(b)
		}, 0},
		"put and removed": {func(b *Batch) { put1("k", 9, "9")(b); b.remove("k", 9) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRowCase(t, 1<<20)
			r.c.fill(r.key("k"), 0, 0, 5, stored("5"))
			r.begins(c.fill)()
			if c.want == 0 {
				r.unknown("k")
			} else {
				r.has("k", c.want, fmt.Sprint(uint64(c.want)))
			}
		})
	}
}

// remove is what CollectGarbage does with one version.
func (b *Batch) remove(k string, commit Timestamp) {
	if err := b.b.Delete(appendSuffix(appendRecordKey(nil, b.space.id, kindVersion, k), commit), nil); err != nil {
		panic(err)
	}
}

// TestRowsMakeRoom writes and reads rows of all sizes through caches that are far too
// small, and finds of each what was last written, or nothing; what is read again and
// again stays.
func TestRowsMakeRoom(t *testing.T) {
	for _, size := range []int64{4 * rowShare, 64 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(size)))
			r := newRowCase(t, size)
			last := map[string]string{}
			hot, found := 0, 0
			for i := range 50_000 {
				k := fmt.Sprint("key ", rng.IntN(3000))
				if i%4 == 0 {
					k = "hot"
				}
				if commit, b, ok := r.c.get(r.key(k), 0, MaxTimestamp); ok {
					require.Equal(t, string(stored(last[k])), string(b))
					require.Equal(t, Timestamp(1), commit)
					if k == "hot" {
						hot++
					}
					found++
					continue
				}
				last[k] = string(bytes.Repeat([]byte(k), rng.IntN(1+rng.IntN(30))))
				r.c.fill(r.key(k), 0, r.c.ticket(), 1, stored(last[k]))
			}
			require.Greater(t, hot, 11_000)
			require.Greater(t, found, hot)
			_, _, bytes := r.c.figures()
			require.LessOrEqual(t, bytes, uint64(size)*9/8)
		})
	}
}

// TestRowsBeginAgain: offsets have an end, after which all is forgotten.
func TestRowsBeginAgain(t *testing.T) {
	r := newRowCase(t, 4*rowShare)
	s := &r.c.stripes[0]
	s.head = (offsetMask - 1000) / s.size * s.size
	for i := range 1000 {
		k, v := fmt.Sprint("k", i), string(make([]byte, 300))
		r.c.fill(r.key(k), 0, 0, 1, stored(v))
		r.has(k, 1, v)
	}
	require.Less(t, s.head, uint64(1<<40))
}

// BenchmarkCached is a hit among 200,000 rows of 200 bytes.
func BenchmarkCached(b *testing.B) {
	c := newRows(128 << 20)
	e := &Engine{rows: c}
	s := newSpace(e, 1)
	key := func(buf []byte, i int) []byte {
		return fmt.Appendf(buf[:0], "table%02d/%016x", i%2, uint64(i)*0x9e3779b97f4a7c15)
	}
	value := appendVersion(nil, versionValue, 1, make([]byte, 200))
	var buf [96]byte
	for i := range 200_000 {
		c.fill(appendRecordKey(nil, 1, kindVersion, key(buf[:0], i)), 0, 0, 1, value)
	}
	hits := 0
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, ok := s.Cached(key(buf[:0], rand.IntN(200_000)), MaxTimestamp); ok {
			hits++
		}
	}
	b.ReportMetric(float64(hits)/float64(b.N), "hits")
}

// TestRowsKeepWhatIsRead: rows of a few bytes that are read now and then stay, however
// many others pass that nobody reads again; larger ones, which are not kept, pass
// without a trace.
func TestRowsKeepWhatIsRead(t *testing.T) {
	for _, size := range []int{8, 100, 400} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r := newRowCase(t, 1<<20)
			fill := func(k string, size int) {
				r.c.fill(r.key(k), 0, r.c.ticket(), 1, stored(string(make([]byte, size))))
			}
			const hot = 100
			for i := range hot {
				fill(fmt.Sprint("hot", i), size)
			}
			known := func() (n int) {
				for i := range hot {
					if _, _, ok := r.c.get(r.key(fmt.Sprint("hot", i)), 0, MaxTimestamp); ok {
						n++
					}
				}
				return n
			}
			require.Equal(t, hot, known())
			for i := range 30_000 {
				fill(fmt.Sprint("cold", i), size)
				if i%300 == 0 {
					known()
				}
			}
			kept := known()
			require.GreaterOrEqual(t, kept, hot*95/100)
			for i := range 5_000 {
				fill(fmt.Sprint("large", i), rowChunk/4)
			}
			require.Equal(t, kept, known())
		})
	}
}
