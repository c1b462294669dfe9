package txn_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// H11: a transaction that was planned with a version that the shards refuse by
// now cannot commit, on one shard or on several; nothing of it is visible.
func TestOldSchemasCannotCommit(t *testing.T) {
	ctx := context.Background()
	for name, shards := range map[string][]shard.ID{"one shard": {1}, "two shards": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			co := c.coordinator(nil)
			var keys []txn.Key
			for _, s := range shards {
				keys = append(keys, c.key(s, "x"))
			}
			begin := func(version uint64) *txn.Txn {
				tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
				tx.Uses(5, version)
				_, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive})
				require.NoError(t, err)
				for _, k := range keys {
					require.NoError(t, tx.Put(k, []byte("1")))
				}
				return tx
			}
			old := begin(3)
			require.NoError(t, co.RaiseSchema(ctx, 5, 4))
			var refused *txn.Error
			require.ErrorAs(t, old.Commit(ctx), &refused)
			require.Equal(t, txn.SchemaChanged, refused.Code)
			for _, value := range c.read(co, keys...) {
				require.Empty(t, value)
			}
			require.NoError(t, begin(4).Commit(ctx))
		})
	}
}
