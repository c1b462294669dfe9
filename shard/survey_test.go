package shard_test

import (
	"context"
	"fmt"
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
	c := openTestCluster(t, 3, shard.Versions{}, 300*time.Millisecond)
	c.settle(1, 3, 1, 2, 3)
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

// twoOfOneOwner returns two data shards that one node owns: of four shards on three
// nodes there are two.
func (c *testCluster) twoOfOneOwner() [2]shard.ID {
	var found [2]shard.ID
	require.Eventually(c.t, func() bool {
		first := map[uint64]shard.ID{}
		for s := shard.ID(1); s <= 4; s++ {
			place, _ := c.node(1).node.State().Place(s)
			if other := first[place.Owner]; other != 0 && place.Owner != 0 {
				found = [2]shard.ID{other, s}
				return true
			}
			first[place.Owner] = s
		}
		return false
	}, time.Minute, 20*time.Millisecond)
	return found
}
