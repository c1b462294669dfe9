package storage_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

func lockRecords(t *testing.T, s *storage.Space) (ids []storage.LockID, locks []string) {
	snap := s.Snapshot()
	defer snap.Close()
	require.NoError(t, snap.Locks(func(id storage.LockID, r storage.LockRecord) error {
		ids, locks = append(ids, id), append(locks, string(r.Locks))
		return nil
	}))
	return ids, locks
}

// TestLockRecords: written, replaced, deleted and listed in order, apart from
// everything else and from other spaces; they survive a reopening and travel in
// a snapshot.
func TestLockRecords(t *testing.T) {
	fs := vfs.NewMem()
	e, err := storage.Open(options(fs))
	require.NoError(t, err)
	id := func(source storage.LockSource, start, number int) storage.LockID {
		return storage.LockID{Source: source, Txn: storage.TxnID{Start: storage.Timestamp(start), Gateway: 1, Seq: 2}, Number: uint64(number)}
	}
	want := []storage.LockID{id(storage.LocksDurable, 5, 1), id(storage.LocksDurable, 5, 2), id(storage.LocksDurable, 300, 1), id(storage.LocksHandedOver, 5, 1)}
	b := e.Space(1).NewBatch()
	for i := len(want) - 1; i >= 0; i-- {
		b.PutLocks(want[i], storage.LockRecord{Epoch: 1, Generation: 1, Locks: []byte{'a' + byte(i)}})
	}
	b.PutLocks(id(storage.LocksDurable, 7, 1), storage.LockRecord{Locks: []byte("gone")})
	b.PutVote(want[0].Txn, storage.Vote{State: storage.VoteAborted})
	b.PutIntent(storage.Key("k"), storage.Intent{Txn: want[0].Txn})
	b.SetApplied(storage.Applied{Replica: 1, Index: 1})
	require.NoError(t, b.Commit())
	b.Close()
	b = e.Space(1).NewBatch()
	b.DeleteLocks(id(storage.LocksDurable, 7, 1))
	b.DeleteLocks(id(storage.LocksDurable, 8, 1))
	b.PutLocks(want[3], storage.LockRecord{Flush: 9, Heir: 2, Locks: []byte("d2")})
	require.NoError(t, b.Commit())
	b.Close()
	b = e.Space(2).NewBatch()
	b.PutLocks(want[0], storage.LockRecord{Locks: []byte("other space")})
	require.NoError(t, b.Commit())
	b.Close()
	check := func(s *storage.Space) {
		ids, locks := lockRecords(t, s)
		require.Equal(t, want, ids)
		require.Equal(t, []string{"a", "b", "c", "d2"}, locks)
	}
	check(e.Space(1))
	require.NoError(t, e.Sync())
	require.NoError(t, e.Close())
	e, err = storage.Open(options(fs))
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	check(e.Space(1))

	stream := e.Space(1).StreamSnapshot()
	var out bytes.Buffer
	require.NoError(t, stream.WriteTo(&out, nil))
	require.NoError(t, stream.Close())
	require.NoError(t, e.Space(3).Restore(&out))
	check(e.Space(3))
	one, err := e.Space(1).Checksum()
	require.NoError(t, err)
	three, err := e.Space(3).Checksum()
	require.NoError(t, err)
	require.Equal(t, one, three)

	stop := errors.New("stop")
	snap := e.Space(1).Snapshot()
	defer snap.Close()
	seen := 0
	require.ErrorIs(t, snap.Locks(func(storage.LockID, storage.LockRecord) error { seen++; return stop }), stop)
	require.Equal(t, 1, seen)
}
