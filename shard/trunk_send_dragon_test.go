package shard

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/storage"
)

// sentMember is a host with a trunk's replica.
type sentMember struct {
	host  paxos.Host
	trunk *testTrunk
	group paxos.Group
}

// TestTrunkGetsMembers: over Dragonboat, a trunk that begins with a state that is in no
// log gets a learner, which is sent that state and follows. Its log is cut under way. A
// member that comes when the shards have left learns that, and has nothing of them.
func TestTrunkGetsMembers(t *testing.T) {
	const shards, group = 2, 7
	network := dragon.NewNetwork()
	id := func(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begin := func(i int, spec paxos.GroupSpec, before func(*testTrunk)) *sentMember {
		h, err := dragon.Open(dragon.Options{
			Dir: filepath.Join(t.TempDir(), "log"), NodeHostID: id(i), Network: network, RTT: 5 * time.Millisecond,
			Election: 20, SnapshotEntries: 20, Overhead: 5, Failed: func(err error) { t.Errorf("host %d: %v", i, err) },
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, h.Close()) })
		b, err := openShared(newTestEngine(t), 0, shards)
		require.NoError(t, err)
		before(b)
		spec.Group, spec.Replica = group, paxos.ReplicaID(i)
		g, err := h.Start(spec, b)
		require.NoError(t, err)
		return &sentMember{h, b, g}
	}
	a := begin(1, paxos.GroupSpec{Members: map[paxos.ReplicaID]string{1: id(1)}}, func(b *testTrunk) {
		for s := range ID(shards) {
			m, c := b.machines[s], Command{Kind: KindBeginEpoch, Node: 1, Process: 1}
			m.trunk = nil // the state comes from elsewhere
			require.NoError(t, m.Apply([]paxos.Entry{{Index: 1, Command: c.AppendBinary(nil)}}))
			m.trunk = b.Trunk
			change(t, m.space, func(w *storage.Batch) { w.SetApplied(storage.Applied{Replica: 1}) })
		}
	})
	commits := 0
	propose := func(command []byte) {
		_, err := a.group.Propose(ctx, command)
		require.NoError(t, err)
	}
	some := func() {
		for range 60 {
			commits++
			c := put(uint64(commits), uint64(1000+commits), fmt.Sprint("k", commits))
			propose(appendPart(nil, ID(1+commits%shards), c.AppendBinary(nil)))
		}
	}
	join := func(i int) *sentMember {
		m, err := a.group.Membership(ctx)
		require.NoError(t, err)
		require.NoError(t, a.group.AddLearner(ctx, paxos.ReplicaID(i), id(i), m.ChangeID))
		b := begin(i, paxos.GroupSpec{Join: true, Learner: true}, func(*testTrunk) {})
		require.NoError(t, b.group.ReadBarrier(ctx))
		return b
	}
	some()
	b := join(2)
	require.NoError(t, b.group.ReadBarrier(ctx))
	require.Equal(t, a.trunk.sums(t), b.trunk.sums(t))
	some()
	require.NoError(t, b.group.ReadBarrier(ctx))
	require.Equal(t, a.trunk.sums(t), b.trunk.sums(t))
	propose(encodeEnd(trunkEnd{kind: trunkLeave}))
	require.NoError(t, b.group.ReadBarrier(ctx))
	require.True(t, b.trunk.Left())
	for range 60 { // until the entry by which they left is gone from the log
		propose(encodeEnd(trunkEnd{kind: trunkLeave}))
	}
	c := join(3)
	require.True(t, c.trunk.Left())
	for s, m := range c.trunk.machines {
		for _, x := range []*sentMember{a, b} {
			founds, err := x.trunk.Founds(ID(s + 1))
			require.NoError(t, err)
			require.True(t, founds)
		}
		founds, err := c.trunk.Founds(ID(s + 1))
		require.NoError(t, err)
		require.False(t, founds)
		require.NotEqual(t, sumOf(t, a.trunk.machines[s]), sumOf(t, m))
	}
}
