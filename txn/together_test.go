package txn_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// The votes of a transaction wait for each other before they go to their logs,
// and for nobody who has none to bring: shards that have lost a lock, and logs
// that lose what they are sent. Counters on three shards stay equal.
func TestVotesThatGoTogetherWaitForNobody(t *testing.T) {
	t.Run("by calls", func(t *testing.T) { testTogether(t, true) })
	t.Run("in a message", func(t *testing.T) { testTogether(t, false) })
}

func testTogether(t *testing.T, direct bool) {
	c := newCluster(t)
	c.stop()
	c.direct = direct
	c.start()
	seed := explore.Seed(t)
	co := c.coordinator(nil)
	var done sync.WaitGroup
	committed := make([]int, 4)
	for w := range committed {
		done.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			keys := []txn.Key{c.key(1, strconv.Itoa(w)), c.key(2, strconv.Itoa(w)), c.key(3, strconv.Itoa(w))}
			for range 50 {
				if c.incrementSomehow(t, co, random, keys) {
					committed[w]++
				}
			}
		})
	}
	done.Wait()
	for w, n := range committed {
		require.NotZero(t, n)
		want := strconv.Itoa(n)
		require.Equal(t, []string{want, want, want}, c.read(co, c.key(1, strconv.Itoa(w)), c.key(2, strconv.Itoa(w)), c.key(3, strconv.Itoa(w))))
	}
}

// incrementSomehow increments counters in one transaction, which may lose its
// locks on a shard, or whose vote may get lost there, before it commits.
func (c *cluster) incrementSomehow(t *testing.T, co *txn.Coordinator, random *rand.Rand, keys []txn.Key) bool {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	rows, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive})
	if err != nil {
		require.NoError(t, tx.Rollback(ctx))
		return false
	}
	for i, r := range rows {
		n, _ := strconv.Atoi(string(r.Value))
		require.NoError(t, tx.Put(keys[i], []byte(strconv.Itoa(n+1))))
	}
	lost := shard.ID(1 + random.IntN(testShards))
	switch random.IntN(3) {
	case 0:
		require.NoError(t, c.node.Router().Release(ctx, lost, &shard.ReleaseRequest{Txn: tx.ID()}))
	case 1:
		c.network.SetFaults(faults)
		defer c.network.SetFaults(noFaults)
	}
	err = tx.Commit(ctx)
	var e *txn.Error
	if err != nil && !(errors.As(err, &e) && e.Code == txn.Conflict) {
		t.Errorf("commit: %v", err)
	}
	return err == nil
}
