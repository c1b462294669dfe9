package storage

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestSharedBatch: what is put into the parts of a batch is visible in all spaces when
// the batch is committed, and in none before.
func TestSharedBatch(t *testing.T) {
	e, err := Open(Options{Dir: "shared", FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	other, err := Open(Options{Dir: "other", FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	a, b := e.Space(1), e.Space(2)
	has := func(s *Space, want string) {
		t.Helper()
		snap := s.Snapshot()
		defer snap.Close()
		r, err := snap.GetVersion(Key("k"), MaxTimestamp)
		require.NoError(t, err)
		require.Equal(t, want, string(r.Value))
		applied, ok, err := snap.Applied()
		require.NoError(t, err)
		require.Equal(t, want != "", ok)
		require.Equal(t, want != "", applied.Index == s.ID())
	}
	batch := e.NewSharedBatch()
	for _, s := range []*Space{a, b} {
		part := batch.Of(s)
		put1("k", 5, fmt.Sprint(s))(part)
		part.SetApplied(Applied{Replica: 1, Index: s.ID()})
		require.Panics(t, part.Close)
		require.Panics(t, func() { _ = part.Commit() })
		require.Equal(t, batch.Size(), part.Size())
		has(a, "")
		has(b, "")
	}
	require.Panics(t, func() { batch.Of(e.Space(2)) }, "a second part for one space")
	require.Panics(t, func() { batch.Of(other.Space(3)) }, "a part of another engine")
	require.NoError(t, batch.Commit())
	batch.Close()
	has(a, "space 1")
	has(b, "space 2")

	forgotten := e.NewSharedBatch()
	put1("k", 6, "forgotten")(forgotten.Of(a))
	forgotten.Close()
	has(a, "space 1")
}

// TestSharedBatchesTellTheCache: whatever is known of rows in some of the spaces, a batch
// over several leaves nothing known that the store would not say: neither where nobody
// asks, nor in the later life of a space.
func TestSharedBatchesTellTheCache(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 89))
		e, err := Open(Options{Dir: "shared", FS: vfs.NewMem()})
		require.NoError(t, err)
		spaces := []*Space{e.Space(1), e.Space(2), e.Space(3)}
		key := func() Key { return Key(fmt.Sprint("k", rng.IntN(4))) }
		for commit := Timestamp(1); commit < 60; commit++ {
			s := spaces[rng.IntN(3)]
			switch rng.IntN(6) {
			case 0: // somebody asks, and reads
				k := key()
				s.Cached(k, MaxTimestamp)
				snap := s.Snapshot()
				_, err := snap.GetVersion(k, MaxTimestamp)
				require.NoError(t, err)
				snap.Close()
			case 1:
				if rng.IntN(4) == 0 {
					require.NoError(t, s.Destroy())
				}
			default:
				batch := e.NewSharedBatch()
				for _, i := range rng.Perm(3)[:1+rng.IntN(3)] {
					part := batch.Of(spaces[i])
					for range 1 + rng.IntN(2) {
						part.PutVersion(key(), commit, 1, []byte(fmt.Sprint(commit)))
					}
				}
				require.NoError(t, batch.Commit())
				batch.Close()
			}
			agree(t, spaces)
		}
		require.NoError(t, e.Close())
	}
}

// agree wants what is known of rows to be what is stored.
func agree(t *testing.T, spaces []*Space) {
	t.Helper()
	for _, s := range spaces {
		if !s.swap.rows.on.Load() {
			continue // to ask would change what is tested
		}
		snap := s.Snapshot()
		for i := range 4 {
			k := Key(fmt.Sprint("k", i))
			got, ok := s.Cached(k, MaxTimestamp)
			if !ok {
				continue
			}
			it := snap.Scan(ScanOptions{Lower: k, Upper: append(bytes.Clone(k), 0), At: MaxTimestamp, NoIntents: true})
			want := Read{}
			if it.Next() {
				want = it.Read()
			}
			require.Equal(t, want.Commit, got.Commit, "%s of %s", k, s)
			require.Equal(t, string(want.Value), string(got.Value))
			require.NoError(t, it.Close())
		}
		snap.Close()
	}
}
