package shard_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/shard"
)

// purgeHost steps in where a host forgets a replica.
type purgeHost struct {
	paxos.Host
	purge func(paxos.GroupID, paxos.ReplicaID) error
}

func (h *purgeHost) Purge(g paxos.GroupID, r paxos.ReplicaID) error {
	if err := h.purge(g, r); err != nil {
		return err
	}
	return h.Host.Purge(g, r)
}

// pair is two nodes with a replica of every shard each.
func newPair(t *testing.T, second func(paxos.Host) paxos.Host) *testCluster {
	c := newTestCluster(t, 1)
	c.hosts = map[uint64]func(paxos.Host) paxos.Host{2: second}
	c.join()
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	c.settle(1, 2)
	return c
}

// The power goes while a replica is being purged, or its group has removed it and
// nobody has told the node: the node opens all the same, without it, and can be given
// another.
func TestStartAfterAnUnfinishedPurge(t *testing.T) {
	t.Parallel()
	tried := make(chan struct{}, 100)
	c := newPair(t, func(h paxos.Host) paxos.Host {
		return &purgeHost{Host: h, purge: func(paxos.GroupID, paxos.ReplicaID) error {
			tried <- struct{}{}
			return errors.New("the power goes")
		}}
	})
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "k", "v")
	}
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 1))
	<-tried
	c.settle(1, 1)
	n := c.crash(2)
	c.hosts = nil
	c.start(n)
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	c.settle(1, 2)
	for s := shard.ID(1); s <= 4; s++ {
		require.Equal(t, "v", c.read(2, s, "k"))
	}
}

// A request to start a replica that comes late must not bring back one that was
// removed here: it has forgotten its votes.
func TestRemovedReplicaDoesNotComeBack(t *testing.T) {
	t.Parallel()
	c := newPair(t, nil)
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 1))
	c.settle(1, 1)
	var gone []shard.ID
	require.Eventually(t, func() bool {
		gone = nil
		for s := shard.ID(0); s <= 4; s++ {
			if c.node(2).node.Replica(s) == 0 {
				gone = append(gone, s)
			}
		}
		return len(gone) > 0
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	c.settle(1, 2)
	for _, s := range gone {
		if now := c.node(2).node.Replica(s); now > 2 {
			require.Error(t, c.node(2).node.StartAdded(s, now-1), "while its successor runs")
			require.Equal(t, now, c.node(2).node.Replica(s))
		}
	}
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 1))
	c.settle(1, 1)
	for s := shard.ID(0); s <= 4; s++ {
		if c.node(2).node.Replica(s) == 0 {
			require.Equal(t, shard.Refused, shard.CodeOf(c.node(2).node.StartAdded(s, 2)))
		}
	}
}

// While a replica is being removed for good nobody starts another of its shard: the
// removal would take that one's data.
func TestNoStartBesideARemoval(t *testing.T) {
	t.Parallel()
	var c *testCluster
	started := make(chan error, 100)
	c = newPair(t, func(h paxos.Host) paxos.Host {
		return &purgeHost{Host: h, purge: func(g paxos.GroupID, r paxos.ReplicaID) error {
			if c.node(2).node.MayStart() {
				started <- errors.New("a replica may be started")
			}
			started <- nil
			return nil
		}}
	})
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 1))
	require.NoError(t, <-started)
}

// A node that is not open any more starts nothing.
func TestNoStartAfterClose(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	n := c.node(2).node
	require.NoError(t, n.Close(c.ctx()))
	require.Equal(t, shard.Unavailable, shard.CodeOf(n.StartAdded(1, 9)))
	require.Empty(t, n.Replicas())
}
