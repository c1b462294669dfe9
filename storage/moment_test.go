package storage

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// A moment shows what was committed to each of its spaces before, and nothing later.
func TestMoment(t *testing.T) {
	e, err := Open(Options{Dir: "moment", FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	a, b := e.Space(1), e.Space(2)
	put := func(s *Space, k, v string, at Timestamp) {
		commit(t, s, func(b *Batch) { b.PutVersion(Key(k), at, at, []byte(v)) })
	}
	put(a, "k", "a", 1)
	put(b, "k", "b", 1)
	m, err := MomentOf([]*Space{a, b})
	require.NoError(t, err)
	put(a, "k", "later", 2)
	put(b, "l", "later", 2)
	for _, s := range []*Space{b, a, b} {
		want := map[*Space]string{a: "a", b: "b"}[s]
		got, err := m.Snapshot(s).GetVersion(Key("k"), MaxTimestamp)
		require.NoError(t, err)
		require.Equal(t, want, string(got.Value))
		it := m.Snapshot(s).Scan(ScanOptions{At: MaxTimestamp, NoIntents: true, Alone: true})
		require.True(t, it.Next())
		require.Equal(t, "k", string(it.Key()))
		require.Equal(t, want, string(it.Read().Value))
		require.False(t, it.Next())
		require.NoError(t, it.Close())
		got, err = m.Snapshot(s).GetVersion(Key("l"), MaxTimestamp)
		require.NoError(t, err)
		require.Zero(t, got)
	}
	m.Close()

	other, err := Open(Options{Dir: "other", FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	_, err = MomentOf([]*Space{a, other.Space(1)})
	require.Error(t, err)
}

// Who opens a moment while one of its spaces is being replaced opens it again.
func TestMomentBesideASwap(t *testing.T) {
	e, err := Open(Options{Dir: "moment", FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	spaces := []*Space{e.Space(1), e.Space(2)}
	counts := []uint64{spaces[0].swap.wait(), spaces[1].swap.wait()}
	require.True(t, unswapped(spaces, counts))
	spaces[1].swap.begin()
	require.False(t, unswapped(spaces, counts))
	spaces[1].swap.end()
	require.False(t, unswapped(spaces, counts))
}
