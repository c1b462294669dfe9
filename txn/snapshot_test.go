package txn_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// Transactions that share the snapshot of another one: they see the same, count as
// begun at it, cannot lock what has changed since, and commit in one phase where
// they stay in one part, with a floor of their own.
func TestSharedSnapshot(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.coordinator(router)
	ctx := context.Background()
	options := txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true}
	put := func(value string, keys ...txn.Key) {
		tx := co.Begin(txn.Options{Isolation: txn.ReadCommitted})
		write(t, tx, value, keys...)
		require.NoError(t, tx.Commit(ctx))
	}
	var keys, others []txn.Key
	for s := range shard.ID(testShards) {
		keys, others = append(keys, c.key(s+1, "k")), append(others, c.key(s+1, "other"))
	}
	put("old", keys...)
	reader := co.Begin(options)
	at, err := reader.Snapshot(ctx)
	require.NoError(t, err)
	put("new", keys[0])

	options.Snapshot = at
	for _, first := range []string{"read", "lock"} {
		tx := co.Begin(options)
		if first == "read" {
			row, err := tx.Get(ctx, keys[0], txn.ReadOptions{})
			require.NoError(t, err)
			require.Equal(t, "old", string(row.Value))
		}
		_, err = tx.GetMany(ctx, []txn.Key{others[0], keys[0]}, txn.ReadOptions{Lock: txn.LockExclusive, Wait: txn.SkipLocked})
		var e *txn.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, txn.Conflict, e.Code)
		require.Equal(t, keys[0].Bytes(), e.Key)
		require.Equal(t, at, tx.ID().Start)
	}
	require.Equal(t, testShards, co.Parts())
	require.NoError(t, co.Flush(ctx))
	sent := map[string]int{}
	router.set(func(m message) error { sent[m.kind]++; return nil }, nil)
	for n := range co.Parts() {
		tx := co.Begin(options)
		require.Equal(t, n, co.PartOf(others[n]))
		write(t, tx, "v", others[n])
		require.NoError(t, tx.Commit(ctx))
	}
	require.NoError(t, co.Flush(ctx))
	require.Equal(t, map[string]int{"lock": testShards, "timestamp": testShards, "onepc": testShards}, sent)
	router.set(nil, nil)
	for n := range co.Parts() {
		cursor, err := reader.Scan(ctx, txn.Scan{Where: txn.OnePart(n)})
		require.NoError(t, err)
		row, ok, err := cursor.Next(ctx)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, keys[n].Bytes(), row.Key, "the snapshot does not see them")
		_, ok, err = cursor.Next(ctx)
		require.NoError(t, err)
		require.False(t, ok)
		cursor.Close()
	}
	require.NoError(t, reader.Rollback(ctx))
	require.Equal(t, []string{"v", "v", "v"}, c.read(co, others...))
}
