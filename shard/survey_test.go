package shard_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
)

// Two shards of one node get all the work: one of them gets another owner, and what is
// written on the way is there.
func TestOwnersFollowTheLoad(t *testing.T) {
	t.Parallel()
	c := openTestCluster(t, 4, 8, shard.Versions{}, 300*time.Millisecond)
	c.spread(1, 2, 3, 4)
	hot := c.twoOfOneOwner()

	ctx, stop := context.WithCancel(c.ctx())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	for _, s := range hot {
		c.write(1, s, "k", "before")
		load.Go(func() {
			for ctx.Err() == nil {
				if value, err := c.look(ctx, 2, s, "k"); err == nil && value != "before" {
					t.Errorf("shard %d: %q", s, value)
					return
				}
			}
		})
	}
	var place [2]shard.ShardPlace
	require.Eventually(t, func() bool {
		for i, s := range hot {
			place[i], _ = c.node(1).node.State().Place(s)
			c.write(3, s, fmt.Sprint("k", i), "during")
		}
		return place[0].Owner != 0 && place[1].Owner != 0 && place[0].Owner != place[1].Owner
	}, 2*time.Minute, 100*time.Millisecond)
	for i, s := range hot {
		require.Equal(t, "during", c.read(1, s, fmt.Sprint("k", i)))
	}
}

// twoOfOneOwner returns two data shards that one node owns, and one of which each other
// node could own.
func (c *testCluster) twoOfOneOwner() [2]shard.ID {
	var found [2]shard.ID
	require.Eventually(c.t, func() bool {
		places := c.node(1).node.State().Shards
		for i, p := range places {
			for _, q := range places[:i] {
				hosts := map[string]bool{}
				for _, seat := range slices.Concat(p.Voters, q.Voters) {
					hosts[seat.Host] = true
				}
				if q.Shard != shard.System && p.Owner == q.Owner && p.Owner != 0 && len(hosts) == 4 {
					found = [2]shard.ID{q.Shard, p.Shard}
					return true
				}
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond)
	return found
}
