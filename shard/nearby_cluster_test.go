package shard_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
)

// nearbyRead reads a row of each shard at one snapshot of the near past, at a node.
func (c *testCluster) nearbyRead(at int, staleness time.Duration, key string) (values []string, here bool) {
	r := c.node(at).node.Router()
	_, before := r.NearbyReads()
	ts, err := r.StaleTimestamp(c.ctx(), staleness, 0)
	require.NoError(c.t, err)
	for s := shard.ID(1); s <= 4; s++ {
		response, err := r.ReadNearby(c.ctx(), s, &shard.ReadRequest{At: ts, Keys: keys(key)})
		require.NoError(c.t, err)
		values = append(values, string(response.Rows[0].Value))
	}
	_, after := r.NearbyReads()
	return values, after == before
}

// A read of the near past sends nothing to any other node, and needs none.
func TestFollowerReadsAskNobody(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.settle(1, 3)
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "k", fmt.Sprint("old", s))
	}
	want := []string{"old1", "old2", "old3", "old4"}
	require.Eventually(t, func() bool {
		got, here := c.nearbyRead(2, time.Hour, "k")
		require.Equal(t, want, got, "it was acknowledged before the first draw")
		return here
	}, time.Minute, 10*time.Millisecond)

	// No bound is kept that cannot be: what may be no older than nothing is of now.
	c.write(1, 1, "k", "new1")
	want[0] = "new1"
	got, _ := c.nearbyRead(2, 1, "k")
	require.Equal(t, want, got)

	require.Eventually(t, func() bool {
		got, here := c.nearbyRead(2, time.Hour, "k")
		return here && got[0] == "new1"
	}, time.Minute, 10*time.Millisecond, "what is closed moves on")

	c.mu.Lock()
	c.lose = func([]byte) bool { return true }
	c.mu.Unlock()
	for range 100 {
		got, here := c.nearbyRead(2, time.Hour, "k")
		require.Equal(t, want, got)
		require.True(t, here)
	}
	r := c.node(2).node.Router()
	ts, err := r.StaleTimestamp(c.ctx(), time.Hour, 0)
	require.NoError(t, err)
	require.True(t, r.KnownIssued(ts))
	require.False(t, r.KnownIssued(ts+1<<40))
	c.mu.Lock()
	c.lose = nil
	c.mu.Unlock()
}
