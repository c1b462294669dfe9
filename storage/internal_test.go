package storage

import (
	"bytes"
	"cmp"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// genPhysical draws keys close to each other: short bodies of few letters, with
// bytes that play a part in the layout.
var genPhysical = rapid.Custom(func(t *rapid.T) []byte {
	letters := rapid.SampledFrom([]byte{0, 1, 9, 'a', 'b', 0xfe, 0xff})
	body := rapid.SliceOfN(letters, 0, 11).Draw(t, "body")
	k := appendRecordKey(nil, rapid.Uint64Range(0, 2).Draw(t, "space"), kindVersion, body)
	if rapid.Bool().Draw(t, "version") {
		k = appendSuffix(k, genCommit.Draw(t, "commit"))
	}
	return k
})

var genCommit = rapid.Custom(func(t *rapid.T) Timestamp {
	return Timestamp(rapid.OneOf(rapid.Uint64Range(1, 3), rapid.Uint64Range(1, uint64(MaxTimestamp))).Draw(t, "commit"))
})

// TestComparer checks what Pebble demands of a comparer, over random keys.
func TestComparer(t *testing.T) {
	c := comparer
	rapid.Check(t, func(t *rapid.T) {
		a, b, x := genPhysical.Draw(t, "a"), genPhysical.Draw(t, "b"), genPhysical.Draw(t, "x")
		order := c.Compare(a, b)
		require.Equal(t, -order, c.Compare(b, a))
		require.Equal(t, order == 0, c.Equal(a, b))
		require.Equal(t, order == 0, bytes.Equal(a, b))
		if order <= 0 && c.Compare(b, x) <= 0 {
			require.LessOrEqual(t, c.Compare(a, x), 0, "transitive")
		}

		// Prefixes order first, suffixes break ties, none before any.
		ap, bp := c.Split.Prefix(a), c.Split.Prefix(b)
		prefixes := bytes.Compare(ap, bp)
		require.Equal(t, prefixes, c.Compare(ap, bp))
		if prefixes != 0 {
			require.Equal(t, prefixes, order)
		} else {
			as, bs := a[len(ap):], b[len(bp):]
			require.Equal(t, order, c.ComparePointSuffixes(as, bs))
			require.Equal(t, order, c.CompareRangeSuffixes(as, bs))
			if len(as) > 0 && len(bs) > 0 {
				require.Equal(t, order, c.Compare(as, bs))
			}
		}
		require.Equal(t, len(ap), c.Split(ap), "a prefix is a key without suffix")
		if len(ap) < len(a) {
			require.Negative(t, c.Compare(ap, a))
			require.Zero(t, c.Split(a[len(ap):]), "a suffix splits at its start")
		}

		// Short keys in between.
		if order < 0 {
			s := c.Separator(nil, a, b)
			require.LessOrEqual(t, c.Compare(a, s), 0)
			require.Negative(t, c.Compare(s, b))
			require.Equal(t, append([]byte("x"), s...), c.Separator([]byte("x"), a, b))
		}
		require.LessOrEqual(t, c.Compare(a, c.Successor(nil, a)), 0)
		next := c.ImmediateSuccessor(nil, ap)
		require.Equal(t, len(next), c.Split(next))
		require.Negative(t, c.Compare(ap, next))
		if c.Compare(ap, bp) < 0 {
			require.LessOrEqual(t, c.Compare(next, bp), 0, "nothing lies between a key and its successor")
		}

		if x, y := c.AbbreviatedKey(a), c.AbbreviatedKey(b); x != y {
			require.Equal(t, cmp.Compare(x, y), order)
		}
	})
	require.NotEqual(t, pebble.DefaultComparer.Name, c.Name)
	require.LessOrEqual(t, c.Compare(nil, c.Successor(nil, nil)), 0)
}

// TestKeyOrder: physical keys sort by space, then all intents before all versions,
// then by user key bytewise, then from the newest version on.
func TestKeyOrder(t *testing.T) {
	type entry struct {
		space  uint64
		key    string
		commit Timestamp // 0: intent
	}
	gen := rapid.Custom(func(t *rapid.T) entry {
		e := entry{space: rapid.Uint64().Draw(t, "space"), key: string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "key"))}
		if rapid.Bool().Draw(t, "version") {
			e.commit = genCommit.Draw(t, "commit")
		}
		return e
	})
	encode := func(e entry) []byte {
		if e.commit == 0 {
			return appendRecordKey(nil, e.space, kindIntent, e.key)
		}
		return appendSuffix(appendRecordKey(nil, e.space, kindVersion, e.key), e.commit)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		if rapid.Bool().Draw(t, "same key") {
			b.space, b.key = a.space, a.key
		}
		intentsFirst := cmp.Compare(min(a.commit, 1), min(b.commit, 1))
		want := cmp.Or(cmp.Compare(a.space, b.space), intentsFirst, cmp.Compare(a.key, b.key),
			cmp.Compare(b.commit, a.commit))
		ka, kb := encode(a), encode(b)
		require.Equal(t, want, compareKeys(ka, kb))
		n := splitKey(ka)
		require.Equal(t, a.key, string(bodyOf(ka[:n])))
		if a.commit != 0 {
			require.Equal(t, a.commit, commitOf(ka, n))
		}
		require.NoError(t, validateKey(ka[spaceSize:]))
		require.Negative(t, compareKeys(spaceStart(a.space), ka))
		require.Negative(t, compareKeys(ka, spaceEnd(a.space)))
	})
}

// TestSyncerShares: a call is answered by a flush that began after it, and all
// calls made during one flush share the next.
func TestSyncerShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, flushed := make(chan error), 0
		var s syncer
		s.flush = func() error { flushed++; return <-gate }
		var wait sync.WaitGroup
		var mu sync.Mutex
		results := map[string]int{}
		call := func() {
			wait.Go(func() {
				err := s.wait()
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					results[err.Error()]++
				} else {
					results["ok"]++
				}
			})
			synctest.Wait()
		}
		call()
		for range 5 {
			call()
		}
		require.Equal(t, 1, flushed)
		gate <- nil
		synctest.Wait()
		require.Equal(t, map[string]int{"ok": 1}, results, "the five came too late for the first flush")
		require.Equal(t, 2, flushed)
		call()
		gate <- errors.New("disk full")
		synctest.Wait()
		require.Equal(t, map[string]int{"ok": 1, "disk full": 5}, results)
		gate <- nil
		wait.Wait()
		require.Equal(t, map[string]int{"ok": 2, "disk full": 5}, results)
		require.Equal(t, 3, flushed)
	})
}

// TestCommitTimesSkipBlocks: a filter passes exactly the blocks with a version
// in its interval.
func TestCommitTimesSkipBlocks(t *testing.T) {
	block := func(commits ...Timestamp) []byte {
		c := newCommitTimes()
		bare := appendRecordKey(nil, 1, kindVersion, "k")
		for _, at := range append([]Timestamp{0}, commits...) {
			k := bare
			if at != 0 {
				k = appendSuffix(bytes.Clone(bare), at)
			}
			require.NoError(t, c.AddPointKey(pebble.MakeInternalKey(k, 1, sstable.InternalKeyKindSet), nil))
		}
		property, err := c.FinishDataBlock(nil)
		require.NoError(t, err)
		return property
	}
	passes := func(lo, hi Timestamp, property []byte) bool {
		ok, err := committedWithin(lo, hi)[0].Intersects(property)
		require.NoError(t, err)
		return ok
	}
	mixed := block(20, 10)
	require.False(t, passes(1, 9, mixed))
	require.True(t, passes(1, 10, mixed))
	require.True(t, passes(15, 16, mixed), "an interval, not a set")
	require.True(t, passes(20, 30, mixed))
	require.False(t, passes(21, 30, mixed))
	require.False(t, passes(1, MaxTimestamp, block()), "records without a timestamp do not count")
	require.True(t, passes(MaxTimestamp, MaxTimestamp, block(MaxTimestamp)))
}
