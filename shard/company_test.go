package shard

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
)

// sharedGroup is the group of the tests' trunks.
const sharedGroup paxos.GroupID = 9

// sharing is shards 1 to 3 on nodes that are members of one group, which runs a trunk.
// Its shards have the same places on all nodes; the nodes' names are n1, n2, n3.
type sharing struct {
	trio
	last  atomic.Uint64
	hosts [3]paxos.Host
	lanes [3]map[ID]*memberLane
}

// memberLane is one shard's group, whose log is that of the trunk.
type memberLane struct {
	*watchedGroup
	shard ID
}

func (l *memberLane) Propose(ctx context.Context, command []byte) ([]byte, error) {
	return l.Submit(ctx, command)()
}

func (l *memberLane) Submit(ctx context.Context, command []byte) func() ([]byte, error) {
	return submit(ctx, l.Group, appendPart(nil, l.shard, command))
}

// newSharing founds the group on some of the nodes. The first owns all shards.
func newSharing(t *testing.T, founders ...paxos.ReplicaID) *sharing {
	w := &sharing{trio: trio{t: t, network: memory.NewNetwork(1), shards: make(map[ID][3]*Replica)}}
	w.last.Store(1 << 20)
	w.times = testTimes{&w.last}
	members := map[paxos.ReplicaID]string{}
	for _, id := range founders {
		members[id] = fmt.Sprint("n", id)
	}
	for _, id := range founders {
		w.start(id, paxos.GroupSpec{Members: members})
	}
	require.NoError(t, atOnce(w.node(1), func(r *Replica) error { return r.BecomeOwner(w.ctx()) }))
	return w
}

// start starts a node's replica of the group.
func (w *sharing) start(id paxos.ReplicaID, spec paxos.GroupSpec) {
	e := newTestEngine(w.t)
	host := w.network.Host(fmt.Sprint("n", id))
	w.t.Cleanup(func() { _ = host.Close() })
	trunk := NewTrunk(e.Space(4), e.Sync, uint64(id))
	machines := map[ID]*Machine{}
	for s := ID(1); s <= 3; s++ {
		machines[s] = NewMachine(e.Space(uint64(s)), e.Sync, uint64(id))
		trunk.Carry(s, machines[s])
	}
	spec.Group, spec.Replica = sharedGroup, id
	group, err := host.Start(spec, trunk)
	require.NoError(w.t, err)
	w.hosts[id-1], w.lanes[id-1] = host, map[ID]*memberLane{}
	noted := &changes{}
	for s := ID(1); s <= 3; s++ {
		lane := &memberLane{&watchedGroup{Group: group}, s}
		w.lanes[id-1][s] = lane
		r := NewReplica(ReplicaConfig{Shard: s, Node: uint64(id), Process: uint64(100 + id), Space: e.Space(uint64(s)), Machine: machines[s],
			Group: lane, Times: w.times, Company: func() []*Replica { return w.node(id) }, Changes: noted})
		w.t.Cleanup(r.Close)
		three := w.shards[s]
		three[id-1] = r
		w.shards[s] = three
	}
}

// node is all replicas of a node, by shard.
func (w *sharing) node(id paxos.ReplicaID) []*Replica {
	return []*Replica{w.shards[1][id-1], w.shards[2][id-1], w.shards[3][id-1]}
}

// server answers for a node.
func (w *sharing) server(id paxos.ReplicaID) *Server {
	return &Server{Replica: func(s ID) *Replica { return w.shards[s][id-1] }}
}

// ask brings a request to a node, as messages would, and what is answered back.
func (w *sharing) ask(id paxos.ReplicaID) func(context.Context, *TakeOverTogetherRequest) []error {
	r := &Router{self: "to", encode: true, directory: NewDirectory(), server: w.server(id)}
	return func(ctx context.Context, q *TakeOverTogetherRequest) []error { return r.sendTakeOver(ctx, "to", q) }
}

// handAllOver hands all shards over from one node to another.
func (w *sharing) handAllOver(from, to paxos.ReplicaID) {
	w.t.Helper()
	require.NoError(w.t, w.shards[1][from-1].handOverTogether(w.ctx(), w.node(from), w.ask(to)))
}

// epochs are those of the shards, as a node has applied them.
func (w *sharing) epochs(id paxos.ReplicaID) (all [3]uint64) {
	for i, r := range w.node(id) {
		require.NoError(w.t, r.c.Group.ReadBarrier(w.ctx()))
		all[i], _, _, _ = r.c.Machine.Owner()
	}
	return all
}

// serving are the shards that a node serves.
func (w *sharing) serving(id paxos.ReplicaID) (all []ID) {
	for _, r := range w.node(id) {
		if r.serving.Load() != nil {
			all = append(all, r.c.Shard)
		}
	}
	return all
}

// wantIdle: no takeover is under way on a node.
func (w *sharing) wantIdle(id paxos.ReplicaID) {
	w.t.Helper()
	for _, r := range w.node(id) {
		require.True(w.t, r.takeover.TryLock(), "shard %d", r.c.Shard)
		r.takeover.Unlock()
	}
}
