package shard_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
)

var (
	oldRelease = shard.Versions{Oldest: 1, Newest: 1}
	newRelease = shard.Versions{Oldest: 1, Newest: 2}
)

// replace starts a node again with another release.
func (c *testCluster) replace(id int, v shard.Versions) error {
	n := c.crash(id)
	n.versions = v
	return c.tryStart(n)
}

// reaches waits until every node that runs has noted a version.
func (c *testCluster) reaches(v shard.Version, at ...int) {
	c.t.Helper()
	for _, id := range at {
		require.Eventually(c.t, func() bool { return c.node(id).node.Active(v) }, time.Minute, 10*time.Millisecond, "node %d", id)
	}
}

// hears waits until a node has a picture of the cluster in which another speaks v.
func (c *testCluster) hears(at int, of uint64, v shard.Versions) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		m, ok := c.node(at).node.State().Member(of)
		return ok && m.Versions == v
	}, time.Minute, 10*time.Millisecond)
}

// The nodes of a cluster are replaced one by one: the version rises when the last has
// come back, the gates open everywhere, and an old release is refused from then on.
func TestClusterVersionRises(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 3, oldRelease)
	c.settle(1, 3)
	for id := 1; id <= 3; id++ {
		for by := 1; by <= 3; by++ {
			require.EqualValues(t, 1, c.node(by).node.State().Version)
			require.False(t, c.node(by).node.Active(2))
		}
		require.NoError(t, c.replace(id, newRelease))
		c.write(id, 1, "k", "v")
	}
	c.reaches(2, 1, 2, 3)

	require.ErrorContains(t, c.replace(2, oldRelease), "it speaks version 1 between nodes, and the cluster is at version 2 already")
	n := c.node(2)
	n.notes.b = nil // a directory that heard nothing of it
	err := c.tryStart(n)
	require.Equal(t, shard.Refused, shard.CodeOf(err), "%v", err)
	_, err = shard.Join(c.ctx(), c, "1", shard.Member{Host: "host4", Versions: oldRelease}, time.Now())
	require.Equal(t, shard.Refused, shard.CodeOf(err))
	require.ErrorContains(t, err, "it speaks version 1 between nodes")
	_, err = shard.Join(c.ctx(), c, "1", shard.Member{Host: "host4", Versions: shard.Versions{Oldest: 3, Newest: 4}}, time.Now())
	require.ErrorContains(t, err, "it speaks version 3 to 4 between nodes, and the cluster is at version 2 still")
}

// A version that is preserved stays, and the way back is open, until it is finalized.
func TestPreservedVersion(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 2, oldRelease)
	require.NoError(t, c.node(2).node.PreserveVersion(c.ctx(), true))
	for id := 1; id <= 2; id++ {
		require.NoError(t, c.replace(id, newRelease))
	}
	for id := 1; id <= 2; id++ {
		c.hears(id, 2, newRelease)
		require.False(t, c.node(id).node.Active(2))
	}
	require.NoError(t, c.replace(2, oldRelease))
	require.NoError(t, c.node(1).node.PreserveVersion(c.ctx(), false))
	c.hears(1, 2, oldRelease)
	require.False(t, c.node(1).node.Active(2), "not all nodes have it")
	require.NoError(t, c.replace(2, newRelease))
	c.reaches(2, 1, 2)
	require.NoError(t, c.node(1).node.PreserveVersion(c.ctx(), true))
	require.Eventually(t, func() bool { return c.node(2).node.State().Preserve }, time.Minute, 10*time.Millisecond)
	require.EqualValues(t, 2, c.node(2).node.State().Version, "what is raised stays")
}

// A node that speaks an older version holds the cluster back, also when it is down, and
// no longer once it is removed.
func TestRemovedNodeDoesNotHoldTheVersion(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 1, oldRelease)
	n := c.join()
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 1))
	require.NoError(t, c.replace(1, newRelease))
	require.False(t, c.node(1).node.Active(2))
	require.NoError(t, c.node(1).node.SetState(c.ctx(), n.id, shard.MemberLeaving))
	require.Eventually(t, func() bool { return settled(c.node(1).node.State(), 1, 1) }, time.Minute, 10*time.Millisecond)
	require.False(t, c.node(1).node.Active(2))
	require.Eventually(t, func() bool {
		return c.node(1).node.SetState(c.ctx(), n.id, shard.MemberRemoved) == nil
	}, time.Minute, 50*time.Millisecond)
	c.reaches(2, 1)
}

// A cluster begins at the version of the release that makes it.
func TestNewClusterBeginsAtItsRelease(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 1, newRelease)
	require.True(t, c.node(1).node.Active(2))
	require.True(t, slices.ContainsFunc(c.node(1).node.Members(), func(m shard.Member) bool { return m.Versions == newRelease }))
}
