package txn_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// handing is a Router that hands outcomes in, or loses those it says it has.
type handing struct {
	intercepted
	node     *shard.Router
	lose     bool
	handedIn atomic.Int64
}

func (r *handing) HandIn(s shard.ID, id storage.TxnID, commit storage.Timestamp) bool {
	if r.lose {
		return true
	}
	if !r.node.HandIn(s, id, commit) {
		return false
	}
	r.handedIn.Add(1)
	return true
}

func (r *handing) DrainOutcomes() { r.node.DrainOutcomes() }

func newHanding(t *testing.T) (*cluster, *handing) {
	c := newCluster(t)
	c.stop()
	c.direct = true
	c.start()
	return c, &handing{intercepted: intercepted{Router: c.node.Router()}, node: c.node.Router()}
}

// Owners on the gateway's node are told of commits by a call.
func TestOutcomesAreHandedInOnTheSameNode(t *testing.T) {
	c, router := newHanding(t)
	router.set(func(m message) error {
		if m.kind == "resolve" {
			t.Errorf("shard %d is sent a message", m.shard)
		}
		return nil
	}, nil)
	co := c.coordinator(router)
	keys := []txn.Key{c.key(1, "a"), c.key(2, "b"), c.key(3, "c")}
	for range 5 {
		c.put(co, "v", keys...)
	}
	require.Equal(t, int64(15), router.handedIn.Load())
	require.NoError(t, co.Flush(context.Background())) // also what lingers
	for s := range shard.ID(testShards) {
		votes, err := c.node.Router().Undecided(context.Background(), s+1, 0)
		require.NoError(t, err)
		require.Empty(t, votes)
	}
	require.Equal(t, []string{"v", "v", "v"}, c.read(c.coordinator(nil), keys...))
}

// A process that dies when it has answered takes the outcomes along that lingered
// in it. They are found again, and the commit is one.
func TestOutcomesThatWereHandedInAndLost(t *testing.T) {
	c, router := newHanding(t)
	co := c.coordinator(router)
	keys := []txn.Key{c.key(1, "a"), c.key(2, "b"), c.key(3, "c")}
	c.put(co, "old", keys...)
	router.lose = true
	c.put(co, "new", keys...)
	c.stop()
	c.start()
	next := c.coordinator(nil)
	require.Equal(t, []string{"new", "new", "new"}, c.read(next, keys...))
	c.put(next, "newer", keys...)
	require.Equal(t, []string{"newer", "newer", "newer"}, c.read(next, keys...))
}

// Where nobody takes an outcome by a call it goes by a message, until it is there.
func TestOutcomesThatNobodyTakes(t *testing.T) {
	c := newCluster(t) // calls are encoded: none is handed in
	router := &handing{intercepted: intercepted{Router: c.node.Router()}, node: c.node.Router()}
	var sent atomic.Int64
	router.set(func(m message) error {
		if m.kind == "resolve" {
			sent.Add(1)
		}
		return nil
	}, nil)
	co := c.coordinator(router)
	c.put(co, "v", c.key(1, "a"), c.key(2, "b"))
	require.NoError(t, co.Flush(context.Background()))
	require.Equal(t, int64(2), sent.Load())
	require.Zero(t, router.handedIn.Load())
}

// telling is a Router that tells a node outcomes, which takes those for some shards.
type telling struct {
	intercepted
	node  *shard.Router
	takes func(shard.ID) bool
	told  atomic.Int64
}

func (r *telling) NodeOf(shard.ID) shard.NodeAddr { return "node" }

func (r *telling) Tell(ctx context.Context, _ shard.NodeAddr, outcomes []shard.Told) {
	for i := range outcomes {
		o := &outcomes[i]
		if !r.takes(o.Shard) {
			continue
		}
		if o.Done = r.node.Resolve(ctx, o.Shard, &shard.ResolveRequest{Txn: o.Txn, Commit: o.Commit}) == nil; o.Done {
			r.told.Add(1)
		}
	}
}

// An outcome that a node does not take goes alone to whoever owns the shard.
func TestOutcomesThatANodeDoesNotTake(t *testing.T) {
	c := newCluster(t)
	router := &telling{intercepted: intercepted{Router: c.node.Router()}, node: c.node.Router(), takes: func(s shard.ID) bool { return s != 2 }}
	var alone atomic.Int64
	router.set(func(m message) error {
		if m.kind == "resolve" {
			alone.Add(1)
			if m.shard != 2 {
				t.Errorf("shard %d is told twice", m.shard)
			}
		}
		return nil
	}, nil)
	co := c.coordinator(router)
	for range 5 {
		c.put(co, "v", c.key(1, "a"), c.key(2, "b"), c.key(3, "c"))
	}
	require.NoError(t, co.Flush(context.Background()))
	require.Equal(t, int64(10), router.told.Load())
	require.Equal(t, int64(5), alone.Load())
	require.Equal(t, []string{"v", "v", "v"}, c.read(co, c.key(1, "a"), c.key(2, "b"), c.key(3, "c")))
}
