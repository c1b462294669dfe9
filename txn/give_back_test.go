package txn_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// queueOf stores n rows on each shard: a00, a01, ... in turn over the shards.
func queueOf(t *testing.T, c *cluster, co *txn.Coordinator, n int) {
	tx := co.Begin(txn.Options{})
	for i := range n * testShards {
		k := c.key(shard.ID(1+i%testShards), fmt.Sprintf("a%02d", i))
		_, err := tx.GetMany(context.Background(), []txn.Key{k}, txn.ReadOptions{Lock: txn.LockExclusive})
		require.NoError(t, err)
		require.NoError(t, tx.Put(k, []byte("job")))
	}
	require.NoError(t, tx.Commit(context.Background()))
}

// takeFrom opens a scan as SELECT ... LIMIT n FOR UPDATE SKIP LOCKED does, and takes n rows.
func takeFrom(t *testing.T, tx *txn.Txn, n int, reverse bool) []string {
	cursor, err := tx.Scan(context.Background(), txn.Scan{Lo: []byte("a"), Hi: []byte("b"), Limit: 1, Reverse: reverse,
		Lock: txn.LockExclusive, Wait: txn.SkipLocked})
	require.NoError(t, err)
	defer cursor.Close()
	var keys []string
	for range n {
		row, ok, err := cursor.Next(context.Background())
		require.NoError(t, err)
		if !ok {
			break
		}
		keys = append(keys, string(row.Key))
	}
	return keys
}

// A consumer of a queue keeps locked what it took and nothing else, so that the
// next one gets the next rows, in order, whatever shard they are on.
func TestSkipLockedKeepsOnlyWhatItReturns(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	queueOf(t, c, co, 10)
	var open []*txn.Txn
	next := 0
	for _, n := range []int{1, 3, 1, 5} {
		tx := co.Begin(txn.Options{})
		open = append(open, tx)
		var want []string
		for range n {
			want = append(want, fmt.Sprintf("a%02d", next))
			next++
		}
		require.Equal(t, want, takeFrom(t, tx, n, false))
	}
	last := co.Begin(txn.Options{})
	open = append(open, last)
	require.Equal(t, []string{"a29", "a28"}, takeFrom(t, last, 2, true))
	locked := 0
	for _, tx := range open {
		locked += tx.Info().Locks
		require.NoError(t, tx.Commit(context.Background()))
	}
	require.Equal(t, 12, locked)
}

// What another read of the same transaction wants stays locked.
func TestGivenBackIsNotWhatIsWantedTwice(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	queueOf(t, c, co, 2)
	ctx := context.Background()
	one, two := co.Begin(txn.Options{}), co.Begin(txn.Options{})
	cursor, err := one.Scan(ctx, txn.Scan{Lo: []byte("a"), Hi: []byte("b"), Lock: txn.LockExclusive, Wait: txn.SkipLocked})
	require.NoError(t, err) // locks the first page, which is everything
	_, err = one.GetMany(ctx, []txn.Key{c.key(1, "a03")}, txn.ReadOptions{Lock: txn.LockShared})
	require.NoError(t, err)
	_, ok, err := cursor.Next(ctx)
	require.NoError(t, err)
	require.True(t, ok)
	cursor.Close()
	require.Equal(t, []string{"a01", "a02", "a04", "a05"}, takeFrom(t, two, 10, false))
	require.NoError(t, one.Commit(ctx))
	require.NoError(t, two.Commit(ctx))
}
