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

// TestRowsFollowEveryChange: a change of another kind than there are must not pass
// unnoticed.
func TestRowsFollowEveryChange(t *testing.T) {
	s := busySpace(t)
	s.swap.rows.follow()
	b := s.NewBatch()
	defer b.Close()
	require.NoError(t, b.b.DeleteRange(s.start, s.end, nil))
	require.Panics(t, func() { _ = b.Commit() })
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
	require.Equal(t, uint64(1), m.RowCacheHits)
	require.Equal(t, uint64(3), m.RowCacheMisses)
	require.NotZero(t, m.RowCacheBytes)
}

// TestRowsFollowLargeBatches: the store takes the memory of a batch that does not fit
// into a memtable; what is in it is followed all the same.
func TestRowsFollowLargeBatches(t *testing.T) {
	e, err := Open(Options{Dir: "large", FS: vfs.NewMem(), MemTableBytes: 256 << 10})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	s := e.Space(1)
	s.swap.rows.follow()
	commit(t, s, func(b *Batch) { put1("a", 5, "")(b); put1("z", 5, "")(b) })
	snap := s.Snapshot()
	for _, k := range []string{"a", "m", "z"} {
		_, err := snap.GetVersion(Key(k), MaxTimestamp)
		require.NoError(t, err)
	}
	snap.Close()
	commit(t, s, func(b *Batch) {
		put1("a", 9, "first")(b)
		for i := range 2000 {
			put1(fmt.Sprint("filler", i), 9, string(make([]byte, 1000)))(b)
		}
		put1("m", 9, "new")(b)
		put1("z", 9, "last")(b)
	})
	for k, want := range map[string]string{"a": "first", "m": "new", "z": "last"} {
		got, ok := s.Cached(Key(k), MaxTimestamp)
		require.True(t, ok, k)
		require.Equal(t, want, string(got.Value))
		require.Equal(t, Timestamp(9), got.Commit)
		snap := s.Snapshot()
		stored, err := snap.GetVersion(Key(k), MaxTimestamp)
		snap.Close()
		require.NoError(t, err)
		require.Equal(t, stored, got)
	}
}

// TestRowsHaveLives: what was read before a space was replaced or removed is not found
// after it, nor remembered then.
func TestRowsHaveLives(t *testing.T) {
	s := busySpace(t)
	s.swap.rows.follow()
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
