package shard_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
)

const companyGroup = trunkGroup + 12

// company is what nodes speak whose shards have a trunk with members.
var company = shard.Versions{Oldest: 1, Newest: shard.VersionCompany}

// inTrunk reports whether the data shards of a node are in a trunk with members.
func (c *testCluster) inTrunk(id int) bool {
	return slices.Equal(c.groups(id), []paxos.GroupID{1, companyGroup})
}

// apart reports whether the data shards of a node have logs of their own, and nothing is
// left of a trunk.
func (c *testCluster) apart(id int) bool {
	return !slices.ContainsFunc(c.groups(id), func(g paxos.GroupID) bool { return g > 5 })
}

// formed is a cluster whose data shards are in a trunk with members on all nodes.
func (c *testCluster) formed(nodes int) {
	c.t.Helper()
	c.settle(1, nodes)
	for id := 1; id <= nodes; id++ {
		require.Eventually(c.t, func() bool { return c.inTrunk(id) }, time.Minute, 10*time.Millisecond, "groups %v", c.groups(id))
	}
}

// The data shards of three nodes share one log, and every node has everything.
func TestCompanyForms(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 3, company)
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "before", fmt.Sprint(s))
	}
	c.formed(3)
	for at := 1; at <= 3; at++ {
		for s := shard.ID(1); s <= 4; s++ {
			c.write(at, s, fmt.Sprint("k", at), fmt.Sprint(at, s))
		}
	}
	for at := 1; at <= 3; at++ {
		for s := shard.ID(1); s <= 4; s++ {
			require.Equal(t, fmt.Sprint(s), c.read(at, s, "before"))
			for by := 1; by <= 3; by++ {
				require.Equal(t, fmt.Sprint(by, s), c.read(at, s, fmt.Sprint("k", by)))
			}
		}
	}
	c.sameSums(1, 2)
	c.sameSums(1, 3)
}

// Nodes die, one after the other and then all at once, and come back: nothing that was
// acknowledged is lost, and the copies are the same.
func TestCompanySurvives(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 3, company)
	c.formed(3)
	for dead := 1; dead <= 3; dead++ {
		at := dead%3 + 1
		n := c.crash(dead)
		for s := shard.ID(1); s <= 4; s++ {
			c.write(at, s, "k", fmt.Sprint(dead, s))
		}
		c.start(n)
		c.settle(at, 3)
		for s := shard.ID(1); s <= 4; s++ {
			require.Equal(t, fmt.Sprint(dead, s), c.read(dead, s, "k"))
		}
	}
	var all []*testNode
	for id := 1; id <= 3; id++ {
		all = append(all, c.crash(id))
	}
	var wg sync.WaitGroup
	for _, n := range all {
		wg.Go(func() { c.start(n) })
	}
	wg.Wait()
	c.formed(3)
	for s := shard.ID(1); s <= 4; s++ {
		require.Equal(t, fmt.Sprint(3, s), c.read(2, s, "k"))
	}
	c.sameSums(1, 2)
	c.sameSums(1, 3)
}

// A node that is silent for long is replaced in the trunk by a new one.
func TestCompanyReplacesTheDead(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 3, company)
	c.formed(3)
	c.write(2, 3, "k", "v")
	c.crash(3)
	time.Sleep(5 * time.Second) // until it counts as dead: a fourth node beside three would part the shards
	c.join()
	require.Eventually(t, func() bool { return c.inTrunk(4) && settled(c.node(1).node.State(), 3) }, 2*time.Minute, 20*time.Millisecond)
	require.Equal(t, "v", c.read(4, 3, "k"))
	c.sameSums(1, 4)
}

// The cluster grows beyond its replicas: the shards part, with commits under way, and are
// spread. Nothing that was acknowledged is lost.
func TestCompanyParts(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 3, company)
	c.formed(3)
	c.ahead.Store(int64(time.Minute))
	c.join()
	parted := func() bool {
		for id := 1; id <= 4; id++ {
			if !c.apart(id) {
				return false
			}
		}
		return len(c.groups(4)) > 2 && settled(c.node(1).node.State(), 3)
	}
	acked := c.writeUntil(make(chan struct{}), parted)
	require.NotEmpty(t, acked)
	for _, w := range acked {
		require.Equal(t, "v", c.read(4, w.shard, w.key), "an acknowledged commit of shard %d", w.shard)
	}
	for id := 1; id <= 4; id++ {
		c.start(c.crash(id))
	}
	for _, w := range acked {
		require.Equal(t, "v", c.read(4, w.shard, w.key), "an acknowledged commit of shard %d", w.shard)
	}
}

// The power of one node goes at some step or fsync of parting: the others go on, it comes
// back, and nothing that was acknowledged is lost.
func TestCompanyPartsDespiteCuts(t *testing.T) {
	t.Parallel()
	for _, victim := range []int{1, 2} {
		for _, fsyncs := range []bool{false, true} {
			t.Run(fmt.Sprintf("node %d, fsyncs %t", victim, fsyncs), func(t *testing.T) {
				t.Parallel()
				for cut := 1; cut <= 15 && partWithCut(t, victim, cut, fsyncs); cut += 7 {
				}
			})
		}
	}
}

// partWithCut reports whether there was something to cut.
func partWithCut(t *testing.T, victim, cut int, fsyncs bool) bool {
	c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1, versions: company}
	defer c.close()
	c.start(&testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}, versions: company})
	c.join()
	c.join()
	c.formed(3)
	n := c.crash(victim)
	h := c.newCutHost(n, -1)
	h.rng = rand.New(rand.NewPCG(9, uint64(cut)))
	n.opening = nil
	if fsyncs {
		n.disk = cutDisk{n.fs, h}
	}
	c.start(n)
	c.formed(3)
	c.write(victim, 1, "before", "v")
	c.ahead.Store(int64(time.Minute))
	h.set(nil, cut)
	c.join()
	parted := func() bool {
		for id := 1; id <= 4; id++ {
			if c.node(id).node != nil && !c.apart(id) {
				return false
			}
		}
		return len(c.groups(4)) > 2 && settled(c.node(victim%3+1).node.State(), 3)
	}
	require.Eventually(t, func() bool { return h.isDead() || parted() }, 2*time.Minute, 10*time.Millisecond)
	fell := h.never()
	if fell {
		t.Log("cut ", h.step)
		c.fell(n, h)
		c.write(victim%3+1, 2, "without", "v")
		c.start(n)
	}
	require.Eventually(t, parted, 2*time.Minute, 10*time.Millisecond)
	require.Equal(t, "v", c.read(4, 1, "before"))
	if fell {
		require.Equal(t, "v", c.read(victim, 2, "without"))
	}
	return fell
}
