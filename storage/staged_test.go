package storage

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Chunks of one transaction are its own, in order, whatever their numbers; they
// travel in snapshot streams and count in checksums.
func TestStaged(t *testing.T) {
	e, err := Open(Options{Dir: "db", FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	s := e.Space(1)
	a, b := TxnID{Start: 5, Gateway: 1, Seq: 1}, TxnID{Start: 5, Gateway: 1, Seq: 2}
	before, err := s.Checksum()
	require.NoError(t, err)
	commit(t, s, func(batch *Batch) {
		for _, n := range []uint32{0, 1, 255, 256, 1 << 31, 1<<32 - 1} {
			batch.PutStaged(a, n, []byte{byte(n)})
		}
		batch.PutStaged(b, 7, []byte("b"))
	})
	sum, err := s.Checksum()
	require.NoError(t, err)
	require.NotEqual(t, before, sum)

	var stream bytes.Buffer
	st := s.StreamSnapshot()
	require.NoError(t, st.WriteTo(&stream, nil))
	require.NoError(t, st.Close())
	other := e.Space(2)
	require.NoError(t, other.Restore(&stream))
	for _, s := range []*Space{s, other} {
		snap := s.Snapshot()
		var numbers []uint32
		require.NoError(t, snap.StagedOf(a, func(n uint32, v []byte) error {
			require.Equal(t, []byte{byte(n)}, v)
			numbers = append(numbers, n)
			return nil
		}))
		require.Equal(t, []uint32{0, 1, 255, 256, 1 << 31, 1<<32 - 1}, numbers)
		all := 0
		require.NoError(t, snap.AllStaged(func(TxnID, uint32, []byte) error { all++; return nil }))
		require.Equal(t, 7, all)
		_, ok, err := snap.Staged(b, 8)
		require.NoError(t, err)
		require.False(t, ok)
		snap.Close()
	}
	commit(t, s, func(batch *Batch) { batch.DeleteStaged(b, 7) })
	snap := s.Snapshot()
	defer snap.Close()
	_, ok, err := snap.Staged(b, 7)
	require.NoError(t, err)
	require.False(t, ok)
}
