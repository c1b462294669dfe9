package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
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
	hashes, known := r.c.begin(repr, 0, nil)
	return func() { r.c.end(repr, 0, hashes, known) }
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

// TestRowsFollowEveryChange: a change of another kind than there are must not pass
// unnoticed.
func TestRowsFollowEveryChange(t *testing.T) {
	s := busySpace(t)
	b := s.NewBatch()
	defer b.Close()
	require.NoError(t, b.b.DeleteRange(s.start, s.end, nil))
	require.Panics(t, func() { _ = b.Commit() })
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
			require.LessOrEqual(t, bytes, uint64(size)*17/16)
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

// TestRowsAreCounted: what a snapshot has read is found without one, in its own space
// and as long as the engine is open.
func TestRowsAreCounted(t *testing.T) {
	s := busySpace(t)
	commit(t, s, put1("k", 5, "v"))
	_, ok := s.Cached(Key("k"), 5)
	require.False(t, ok)
	snap := s.Snapshot()
	want, err := snap.GetVersion(Key("k"), 5)
	require.NoError(t, err)
	snap.Close()
	got, ok := s.Cached(Key("k"), 5)
	require.True(t, ok)
	require.Equal(t, want, got)
	_, ok = s.Cached(Key("k"), 4)
	require.False(t, ok, "an older version is not known")
	_, ok = s.e.Space(2).Cached(Key("k"), 5)
	require.False(t, ok)
	m := s.e.Metrics()
	require.Equal(t, uint64(2), m.RowCacheHits)
	require.Equal(t, uint64(2), m.RowCacheMisses)
	require.NotZero(t, m.RowCacheBytes)
}

// TestRowsHaveLives: what was read before a space was replaced or removed is not found
// after it, nor remembered then.
func TestRowsHaveLives(t *testing.T) {
	s := busySpace(t)
	read := func(snap *Snapshot) {
		for _, k := range []Key{Key("k"), Key("l")} {
			_, err := snap.GetVersion(k, MaxTimestamp)
			require.NoError(t, err)
		}
	}
	unknown := func() {
		t.Helper()
		for _, k := range []Key{Key("k"), Key("l")} {
			_, ok := s.Cached(k, MaxTimestamp)
			require.False(t, ok)
			_, ok = s.CachedNewest(k)
			require.False(t, ok)
		}
	}
	commit(t, s, put1("k", 5, "saved"))
	var stream bytes.Buffer
	st := s.StreamSnapshot()
	require.NoError(t, st.WriteTo(&stream, nil))
	require.NoError(t, st.Close())
	for name, change := range map[string]func() error{
		"restore": func() error { return s.Restore(bytes.NewReader(stream.Bytes())) },
		"destroy": s.Destroy,
		"nothing": func() error { return s.Restore(bytes.NewReader(nil)) },
	} {
		commit(t, s, put1("k", 9, "later"))
		old := s.Snapshot()
		moment, err := MomentOf([]*Space{s.e.Space(2), s})
		require.NoError(t, err)
		read(old)
		got, ok := s.Cached(Key("k"), MaxTimestamp)
		require.True(t, ok)
		require.Equal(t, Timestamp(9), got.Commit)
		err = change()
		if name == "nothing" {
			require.Error(t, err, "no stream")
			got, ok = s.Cached(Key("k"), MaxTimestamp)
			require.True(t, ok)
			require.Equal(t, Timestamp(9), got.Commit)
		} else {
			require.NoError(t, err)
			unknown()
			read(old)
			read(moment.Snapshot(s))
			unknown()
			now := s.Snapshot()
			read(now)
			now.Close()
			_, ok = s.Cached(Key("l"), MaxTimestamp)
			require.True(t, ok)
		}
		moment.Close()
		old.Close()
	}

	// While tables are swapped in nothing is known.
	commit(t, s, put1("k", 9, "later"))
	snap := s.Snapshot()
	read(snap)
	snap.Close()
	_, ok := s.Cached(Key("k"), MaxTimestamp)
	require.True(t, ok)
	s.swap.begin()
	unknown()
	s.swap.end()
	unknown()
}

// TestRowsNeverGoBack: readers that find a commit in the store or in the cache find
// nothing older in either from then on, and the writer finds its own at once.
func TestRowsNeverGoBack(t *testing.T) {
	s := busySpace(t)
	other := s.e.Space(2)
	keys := []Key{Key("a"), Key("b"), Key("c")}
	done := make(chan struct{})
	var readers, writers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			var seen [3]Timestamp
			for n := i; ; n++ {
				k := n % len(keys)
				read, known := s.Cached(keys[k], MaxTimestamp)
				if n%3 == 0 || !known && n%2 == 0 {
					snap := s.Snapshot()
					var err error
					if read, err = snap.GetVersion(keys[k], MaxTimestamp); err != nil {
						t.Error(err)
					}
					snap.Close()
					known = true
				}
				if known {
					if read.Newest < seen[k] || read.Value != nil && string(read.Value) != fmt.Sprint(read.Newest) {
						t.Errorf("key %s: %q at %d after %d", keys[k], read.Value, read.Newest, seen[k])
						return
					}
					seen[k] = read.Newest
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	put := func(at Timestamp) func(*Batch) {
		return func(b *Batch) {
			for i, k := range keys {
				switch (int(at) + i) % 3 {
				case 0:
					b.PutTombstone(k, at, at)
				case 1:
					b.PutVersion(k, at, at, fmt.Append(nil, at))
				}
			}
		}
	}
	writers.Go(func() {
		for at := Timestamp(1); at <= 1500; at++ {
			commit(t, s, put(at))
			for i, k := range keys {
				if read, ok := s.Cached(k, MaxTimestamp); ok && (int(at)+i)%3 != 2 && read.Newest != at {
					t.Errorf("key %s: %d after the commit of %d", k, read.Newest, at)
				}
			}
		}
	})
	writers.Go(func() {
		for at := Timestamp(1); at <= 1500; at++ {
			commit(t, other, put(at))
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
}

// TestRowsBesideEverything: a writer that changes its space in every way there is finds
// in the cache what it left there, or nothing, however others read meanwhile.
func TestRowsBesideEverything(t *testing.T) {
	s := busySpace(t)
	keys := []Key{Key("a"), Key("b"), Key("c"), Key("d")}
	saved := map[string]Timestamp{}
	for i, k := range keys[:3] {
		saved[string(k)] = Timestamp(i + 1)
		commit(t, s, put1(string(k), Timestamp(i+1), "v"))
	}
	var stream bytes.Buffer
	st := s.StreamSnapshot()
	require.NoError(t, st.WriteTo(&stream, nil))
	require.NoError(t, st.Close())
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			for {
				read := func(snap *Snapshot) {
					for _, k := range keys {
						if _, err := snap.GetVersion(k, MaxTimestamp); err != nil {
							t.Error(err)
						}
					}
				}
				if i == 0 {
					m, err := MomentOf([]*Space{s.e.Space(3), s, s.e.Space(2)})
					if err != nil {
						t.Error(err)
						return
					}
					read(m.Snapshot(s))
					m.Close()
				} else {
					snap := s.Snapshot()
					read(snap)
					snap.Close()
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	now := map[string]Timestamp{} // newest of each key
	tombstone := map[string]bool{}
	forget := func() { clear(now); clear(tombstone) }
	for k, at := range saved {
		now[k] = at
	}
	for at := Timestamp(10); at < 250; at++ {
		switch rng.IntN(12) {
		case 0:
			require.NoError(t, s.Restore(bytes.NewReader(stream.Bytes())))
			forget()
			for k, at := range saved {
				now[k] = at
			}
		case 1:
			require.NoError(t, s.Destroy())
			forget()
		case 2, 3:
			commit(t, s, func(b *Batch) {
				_, _, err := b.CollectGarbage(nil, nil, at, 1000)
				require.NoError(t, err)
			})
			for k := range tombstone {
				delete(now, k)
			}
			clear(tombstone)
		default:
			commit(t, s, func(b *Batch) {
				for _, k := range keys[:1+rng.IntN(len(keys))] {
					now[string(k)] = at
					if tombstone[string(k)] = rng.IntN(3) == 0; tombstone[string(k)] {
						b.PutTombstone(k, at, at)
					} else {
						delete(tombstone, string(k))
						b.PutVersion(k, at, at, nil)
					}
				}
			})
		}
		for _, k := range keys {
			if read, ok := s.Cached(k, MaxTimestamp); ok {
				require.Equal(t, now[string(k)], read.Newest, "key %s", k)
				require.Equal(t, tombstone[string(k)], read.Tombstone, "key %s", k)
			}
			if newest, ok := s.CachedNewest(k); ok {
				require.Equal(t, now[string(k)], newest, "key %s", k)
			}
		}
	}
	close(done)
	readers.Wait()
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
