package txn_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/txn"
)

// A statement asks several shards at once. The verdict of one ends the waits at
// the others: the victim of a deadlock does not wait for a bystander.
func TestVerdictEndsTheStatementsOtherWaits(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *txn.Txn, []txn.Key) error{
		"keys": func(ctx context.Context, tx *txn.Txn, keys []txn.Key) error {
			_, err := tx.GetMany(ctx, keys, exclusive)
			return err
		},
		"scan": func(ctx context.Context, tx *txn.Txn, _ []txn.Key) error {
			c, err := tx.Scan(ctx, txn.Scan{Where: txn.AllShards, Lock: txn.LockExclusive})
			if err == nil {
				c.Close()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			co := c.coordinator(nil)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			shards := c.node.Router().DataShards()
			mine, theirs, apart := c.key(shards[0], "mine"), c.key(shards[1], "theirs"), c.key(shards[2], "apart")
			c.put(co, "v", mine, theirs, apart)
			hold := func(k txn.Key) *txn.Txn {
				tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
				_, err := tx.Get(ctx, k, exclusive)
				require.NoError(t, err)
				return tx
			}
			other, bystander, victim := hold(theirs), hold(apart), hold(mine) // the youngest is chosen
			waited := make(chan error, 1)
			go func() { _, err := other.Get(ctx, mine, exclusive); waited <- err }()
			c.awaitWaiter(shards[0])

			requireCode(t, txn.Deadlock, ask(ctx, victim, []txn.Key{theirs, apart}))
			require.NoError(t, <-waited, "the victim's locks are free")
			require.NoError(t, bystander.Rollback(ctx), "and its holder had not ended yet")
			require.NoError(t, other.Rollback(ctx))
		})
	}
}
