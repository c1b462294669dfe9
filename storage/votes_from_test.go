package storage_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// VotesFrom visits exactly those votes that Votes does, from an id on, and none
// of another space.
func TestVotesFrom(t *testing.T) {
	e, err := storage.Open(storage.Options{Dir: "d", FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	var ids []storage.TxnID
	for _, start := range []storage.Timestamp{1, 5, 5, 0x100, 1 << 40} {
		ids = append(ids, storage.TxnID{Start: start, Gateway: 3, Seq: uint64(len(ids))})
	}
	for space := uint64(1); space <= 3; space++ {
		b := e.Space(space).NewBatch()
		for _, id := range ids {
			b.PutVote(id, storage.Vote{State: storage.VoteCommitted, Commit: id.Start + 1})
		}
		require.NoError(t, b.Commit())
		b.Close()
	}
	snap := e.Space(2).Snapshot()
	defer snap.Close()
	from := func(id storage.TxnID) (got []storage.TxnID) {
		require.NoError(t, snap.VotesFrom(id, func(id storage.TxnID, v storage.Vote) error {
			require.Equal(t, id.Start+1, v.Commit)
			got = append(got, id)
			return nil
		}))
		return got
	}
	require.Equal(t, ids, from(storage.TxnID{}))
	for i, id := range ids {
		require.Equal(t, ids[i:], from(id))
		id.Seq++
		require.Equal(t, ids[i+1:], append([]storage.TxnID{}, from(id)...))
	}
	stop := errors.New("stop")
	n := 0
	require.ErrorIs(t, snap.VotesFrom(ids[1], func(storage.TxnID, storage.Vote) error { n++; return stop }), stop)
	require.Equal(t, 1, n)
}
