package txn_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

var (
	shared    = txn.ReadOptions{Lock: txn.LockShared}
	exclusive = txn.ReadOptions{Lock: txn.LockExclusive}
)

// awaitWaiter returns once somebody waits for a lock of the shard.
func (c *cluster) awaitWaiter(s shard.ID) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		infos, err := c.node.Router().Locks(context.Background(), s)
		require.NoError(c.t, err)
		for _, l := range infos {
			if l.Waiting {
				return true
			}
		}
		return false
	}, time.Minute, time.Millisecond)
}

// H6: a reader on one shard commits without a vote. A writer that waited for its
// lock began before something that the reader saw, and must still come after it:
// no snapshot may show the writer and not what the reader saw.
func TestWriterComesAfterTheReaderItWaitedFor(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	ctx := t.Context()
	s := c.node.Router().DataShards()[0]
	x, y := c.key(s, "x"), c.key(s, "y")
	c.put(co, "old", x, y)
	auto := txn.Options{Isolation: txn.Serializable, Autocommit: true}

	reader := co.Begin(auto)
	reader.BeginStatement(ctx, "SELECT x, y FOR SHARE")
	row, err := reader.Get(ctx, x, shared)
	require.NoError(t, err)
	require.Equal(t, "old", string(row.Value))

	writer := co.Begin(auto)
	writer.BeginStatement(ctx, "UPDATE x")
	locked := make(chan error, 1)
	go func() { _, err := writer.Get(ctx, x, exclusive); locked <- err }()
	c.awaitWaiter(s)

	snapshot := co.Begin(txn.Options{Isolation: txn.Serializable, ReadOnly: true})
	_, err = snapshot.Snapshot(ctx)
	require.NoError(t, err)

	c.put(co, "new", y)
	row, err = reader.Get(ctx, y, shared)
	require.NoError(t, err)
	require.Equal(t, "new", string(row.Value))
	require.NoError(t, reader.Commit(ctx))

	require.NoError(t, <-locked)
	require.NoError(t, writer.Put(x, []byte("new")))
	require.NoError(t, writer.Commit(ctx))

	rows, err := snapshot.GetMany(ctx, []txn.Key{x, y}, txn.ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"old", "old"}, []string{string(rows[0].Value), string(rows[1].Value)},
		"the snapshot was taken before y changed, which the reader saw and the writer followed")
	require.NoError(t, snapshot.Commit(ctx))
}

// A plain SELECT outside a transaction reads a snapshot at every level once it
// is declared read only, and takes shared locks under SERIALIZABLE before that.
func TestReadOnlyStatementTakesNoLocks(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	ctx := t.Context()
	s := c.node.Router().DataShards()[0]
	x := c.key(s, "x")
	c.put(co, "old", x)
	for _, readOnly := range []bool{false, true} {
		tx := co.Begin(txn.Options{Isolation: txn.Serializable, Autocommit: true})
		tx.BeginStatement(ctx, "SELECT x")
		if readOnly {
			require.NoError(t, tx.SetReadOnly())
		}
		_, err := tx.Get(ctx, x, txn.ReadOptions{})
		require.NoError(t, err)
		infos, err := c.node.Router().Locks(ctx, s)
		require.NoError(t, err)
		require.Equal(t, readOnly, len(infos) == 0)
		if !readOnly {
			require.Error(t, tx.SetReadOnly(), "it has a lock already")
		}
		require.NoError(t, tx.Commit(ctx))
	}
}
