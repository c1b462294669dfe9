package txn_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// A key that is to be locked only is locked as any other, and then may be written. It
// says nothing of its value and of when it changed, unless it comes along with one that
// is to be read, or the transaction has written it.
func TestLockOnly(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(&intercepted{Router: c.node.Router()})
	ctx := context.Background()
	a, b, other := c.key(1, "a"), c.key(1, "b"), c.key(2, "other")
	put := func(value string, keys ...txn.Key) {
		tx := co.Begin(txn.Options{Isolation: txn.ReadCommitted})
		write(t, tx, value, keys...)
		require.NoError(t, tx.Commit(ctx))
	}
	put("old", a, b, other)
	begin := func() *txn.Txn {
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true})
		_, err := tx.Snapshot(ctx)
		require.NoError(t, err)
		return tx
	}
	exclusive := txn.ReadOptions{Lock: txn.LockExclusive}
	for _, test := range []struct {
		name  string
		keys  []txn.Key
		found []bool
	}{
		{"one", []txn.Key{a.LockOnly()}, []bool{false}},
		{"two of a shard", []txn.Key{a.LockOnly(), b.LockOnly()}, []bool{false, false}},
		{"beside one of another shard", []txn.Key{a.LockOnly(), other}, []bool{false, true}},
		{"beside one of its shard", []txn.Key{a.LockOnly(), b}, []bool{true, true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tx := begin()
			rows, err := tx.GetMany(ctx, test.keys, exclusive)
			require.NoError(t, err)
			for i, row := range rows {
				require.Equal(t, test.keys[i].Bytes(), row.Key)
				require.Equal(t, test.found[i], row.Found)
				require.NoError(t, tx.Put(test.keys[i], []byte("new")))
			}
			require.Equal(t, len(test.keys), tx.Info().Locks)
			second := co.Begin(txn.Options{Isolation: txn.ReadCommitted})
			_, err = second.Get(ctx, a.LockOnly(), txn.ReadOptions{Lock: txn.LockShared, Wait: txn.NoWait})
			requireCode(t, txn.WouldBlock, err)
			require.NoError(t, second.Rollback(ctx))
			again, err := tx.Get(ctx, a.LockOnly(), exclusive)
			require.NoError(t, err)
			require.Equal(t, "new", string(again.Value), "own writes are known")
			require.NoError(t, tx.Commit(ctx))
			put("old", a, b, other)
		})
	}
	t.Run("changed since the snapshot", func(t *testing.T) {
		tx := begin()
		put("newer", a, b)
		_, err := tx.GetMany(ctx, []txn.Key{a.LockOnly(), other}, exclusive)
		require.NoError(t, err, "other tells")
		_, err = tx.Get(ctx, b, exclusive)
		requireCode(t, txn.Conflict, err)
	})
	t.Run("every shard votes above what it has not read", func(t *testing.T) {
		for i := range 20 {
			tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, Autocommit: i%2 == 0})
			keys := []txn.Key{a.LockOnly(), c.key(shard.ID(i%2+1), "b").LockOnly()}
			_, err := tx.GetMany(ctx, keys, exclusive)
			require.NoError(t, err)
			for _, k := range keys {
				require.NoError(t, tx.Put(k, []byte{byte(i)}))
			}
			require.NoError(t, tx.Commit(ctx))
			for _, k := range keys {
				row, err := co.Begin(txn.Options{}).Get(ctx, k, txn.ReadOptions{})
				require.NoError(t, err)
				require.Equal(t, []byte{byte(i)}, row.Value)
			}
		}
	})
}
