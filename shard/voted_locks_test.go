package shard

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/storage"
)

// A new owner locks what a vote has written key by key, but for keys inside an
// interval that the vote holds exclusively.
func TestVotedLocks(t *testing.T) {
	v := storage.Vote{Keys: []storage.Key{storage.Key("a"), storage.Key("b"), storage.Key("c"), storage.Key("d"), storage.Key("e"), storage.Key("f")},
		Locks: encodeLockSet([]LockRef{{Mode: LockExclusive, Lo: storage.Key("b"), Hi: storage.Key("d")},
			{Mode: LockShared, Lo: storage.Key("e"), Hi: storage.Key("z")}, {Mode: LockExclusive, Lo: storage.Key("f")}})}
	var got []string
	for _, l := range votedLocks(v) {
		got = append(got, l.Mode.String()+" "+string(l.Span.Lo)+".."+string(l.Span.Hi))
	}
	x, s := locks.Exclusive.String(), locks.Shared.String()
	require.Equal(t, []string{x + " a..", x + " d..", x + " e..", x + " f..", x + " b..d", s + " e..z", x + " f.."}, got)
}

// Intervals may overlap, touch and come in any order, among locks of single rows; whether
// one has a key is as if each were asked.
func TestVotedLocksOfManyIntervals(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	key := func() storage.Key { return storage.Key{byte('a' + r.IntN(20)), byte('a' + r.IntN(3))} }
	for range 2000 {
		var refs []LockRef
		for range r.IntN(8) {
			l := LockRef{Mode: LockExclusive, Lo: key()}
			if r.IntN(4) == 0 {
				l.Mode = LockShared
			}
			if hi := key(); string(l.Lo) < string(hi) && r.IntN(3) > 0 {
				l.Hi = hi
			}
			refs = append(refs, l)
		}
		var keys []storage.Key
		var want []string
		for range 10 {
			k := key()
			keys = append(keys, k)
			if !slices.ContainsFunc(refs, func(l LockRef) bool {
				return l.Mode == LockExclusive && string(l.Lo) <= string(k) && string(k) < string(l.Hi)
			}) {
				want = append(want, string(k))
			}
		}
		var got []string
		voted := votedLocks(storage.Vote{Keys: keys, Locks: encodeLockSet(refs)})
		for _, l := range voted[:len(voted)-len(refs)] {
			got = append(got, string(l.Span.Lo))
		}
		require.Equal(t, want, got, "%v", refs)
	}
}

// A new owner searches what a vote holds by order: it has as many locks of rows as keys
// where each row that was written locks another, and may have as many intervals.
func TestVotedLocksAreSearchedInOrder(t *testing.T) {
	const n = 1 << 12
	var intervals []locks.Span
	for i := range n {
		lo := binary.BigEndian.AppendUint32(nil, uint32(i))
		intervals = append(intervals, locks.Span{Lo: lo, Hi: append(slices.Clone(lo), 1)})
	}
	for i := range n {
		k := storage.Key(intervals[i].Lo)
		require.True(t, coveredBy(intervals, k))
		require.False(t, coveredBy(intervals, append(slices.Clone(k), 2)))
	}
	var refs []LockRef
	for i := range intervals {
		refs = append(refs, LockRef{Mode: LockExclusive, Lo: storage.Key(intervals[i].Lo)})
	}
	require.Empty(t, exclusiveIntervals(refs))
}
