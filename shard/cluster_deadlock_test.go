package shard_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// lockIn takes an exclusive lock through a node's router and waits for it.
func (c *testCluster) lockIn(node int, id storage.TxnID, s shard.ID, key string) error {
	_, err := c.node(node).node.Router().Lock(c.ctx(), s, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive,
		Keys: []storage.Key{storage.Key(key)}, Timeout: time.Minute})
	return err
}

// Cycles of waits whose shards have owners on different nodes end with one victim,
// whichever node owns the system shard, and also when it has just changed.
func TestDeadlocksOverNodes(t *testing.T) {
	c := newTestCluster(t, 4)
	c.spread(1, 2, 3, 4)
	seq := uint64(0)
	begin := func(node int) storage.TxnID {
		n := c.node(node).node
		start, err := n.Router().Timestamp(c.ctx())
		require.NoError(t, err)
		seq++
		return storage.TxnID{Start: start, Gateway: n.Gateway(), Seq: seq}
	}
	system := func() shard.ShardPlace {
		state := c.node(1).node.State()
		at := slices.IndexFunc(state.Shards, func(p shard.ShardPlace) bool { return p.Shard == shard.System })
		return state.Shards[at]
	}
	for round := range 4 {
		if round >= 2 { // another node finds them from here on
			require.Eventually(t, func() bool { // the picture of node 1 may be a beat old
				from := system().Owner
				return c.node(int(from)).node.HandOver(c.ctx(), shard.System, shard.NodeAddr(fmt.Sprint(from%4+1))) == nil
			}, 2*time.Minute, 20*time.Millisecond)
		}
		var shards []shard.ID
		owners := map[uint64]bool{}
		for _, p := range c.node(1).node.State().Shards {
			if p.Shard != shard.System && !owners[p.Owner] {
				owners[p.Owner] = true
				shards = append(shards, p.Shard)
			}
		}
		require.GreaterOrEqual(t, len(shards), 2)
		// As many transactions as there are owners, each begun on another node.
		ids := make([]storage.TxnID, len(shards))
		key := fmt.Sprint("row ", round)
		for i, s := range shards {
			ids[i] = begin(i%3 + 1)
			require.NoError(t, c.lockIn(i%4+1, ids[i], s, key))
		}
		began := time.Now()
		ended := make(chan error, len(shards))
		for i := range shards {
			go func() {
				err := c.lockIn(i%4+1, ids[i], shards[(i+1)%len(shards)], key)
				for _, s := range shards { // whoever ends lets the others go on
					_ = c.node(1).node.Router().Release(c.ctx(), s, &shard.ReleaseRequest{Txn: ids[i]})
				}
				ended <- err
			}()
		}
		victims := 0
		for range shards {
			err := <-ended
			if err != nil {
				require.Equal(t, shard.Deadlock, shard.CodeOf(err), "%v", err)
				victims++
				t.Logf("%d owners, system shard on node %d: found after %v", len(shards), system().Owner, time.Since(began))
			}
		}
		require.Equal(t, 1, victims)
	}
}
