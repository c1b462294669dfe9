package txn_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// The outcome of a transaction is told by its votes, before and after they are
// resolved, and asking writes nothing.
func TestOutcome(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.coordinator(router)
	ctx := context.Background()
	outcome := func(id storage.TxnID) txn.Outcome {
		t.Helper()
		rounds := c.node.Router().Rounds()
		o, err := co.Outcome(ctx, id)
		require.NoError(t, err)
		require.Equal(t, rounds, c.node.Router().Rounds(), "a look writes nothing")
		return o
	}
	begin := func(keys ...txn.Key) *txn.Txn {
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
		write(t, tx, "1", keys...)
		return tx
	}
	one := begin(c.key(1, "one"))
	id, err := one.Identify(ctx)
	require.NoError(t, err)
	require.Equal(t, txn.Undecided, outcome(id))
	require.NoError(t, one.Commit(ctx))
	require.NoError(t, co.Flush(ctx))
	require.Equal(t, txn.Committed, outcome(id), "a commit on one shard")

	// All have voted, and nobody was told.
	lost := func(kind string, s shard.ID) func(message) error {
		return func(m message) error {
			if m.kind == "resolve" || m.kind == "close" || m.kind == kind && m.shard == s {
				return errLost
			}
			return nil
		}
	}
	router.set(lost("", 0), nil)
	two := begin(c.key(1, "two"), c.key(2, "two"))
	id, err = two.Identify(ctx)
	require.NoError(t, err)
	require.NoError(t, two.Commit(ctx))
	require.Equal(t, txn.Committed, outcome(id))

	// One vote is missing, until its register is closed.
	router.set(lost("prepare", 2), nil)
	three := begin(c.key(1, "three"), c.key(2, "three"))
	id, err = three.Identify(ctx)
	require.NoError(t, err)
	short, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- three.Commit(short) }()
	require.Eventually(t, func() bool {
		v, err := c.node.Router().LookVote(ctx, 1, &shard.LookVoteRequest{Txn: id})
		return err == nil && v.State == storage.VotePrepared
	}, wait, tick)
	require.Equal(t, txn.Undecided, outcome(id))
	_, err = c.node.Router().CloseVote(ctx, 2, &shard.CloseVoteRequest{Txn: id})
	require.NoError(t, err)
	require.Equal(t, txn.RolledBack, outcome(id))
	router.set(nil, nil)
	cancel()
	require.Error(t, <-done)

	require.Equal(t, txn.Undecided, outcome(storage.TxnID{Start: id.Start, Gateway: 99, Seq: 1}), "it may be on its way")
}
