package shard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
)

// localReplicas are the replicas that run on a node. Readers never wait.
type localReplicas struct {
	sync.Mutex // changes
	// starting is held where replicas are started or removed for good, across I/O on
	// purpose: what is stored of one shard's replicas must not change meanwhile.
	starting sync.Mutex
	open     bool                   // the stored replicas run, others may be added; under starting
	purged   map[ID]paxos.ReplicaID // the last that was removed here; under starting
	now      atomic.Pointer[map[ID]*Replica]
}

func (l *localReplicas) get(s ID) *Replica {
	if m := l.now.Load(); m != nil {
		return (*m)[s]
	}
	return nil
}

// all returns the replicas by shard.
func (l *localReplicas) all() []*Replica {
	m := l.now.Load()
	if m == nil {
		return nil
	}
	var rs []*Replica
	for _, s := range slices.Sorted(maps.Keys(*m)) {
		rs = append(rs, (*m)[s])
	}
	return rs
}

func (l *localReplicas) change(f func(map[ID]*Replica)) {
	l.Lock()
	defer l.Unlock()
	next := map[ID]*Replica{}
	if m := l.now.Load(); m != nil {
		next = maps.Clone(*m)
	}
	f(next)
	l.now.Store(&next)
}

func (l *localReplicas) add(r *Replica) {
	l.change(func(m map[ID]*Replica) { m[r.c.Shard] = r })
}

func (l *localReplicas) remove(r *Replica) {
	l.change(func(m map[ID]*Replica) {
		if m[r.c.Shard] == r {
			delete(m, r.c.Shard)
		}
	})
}

// admit says whether replicas may be added and removed for good.
func (l *localReplicas) admit(open bool) {
	l.starting.Lock()
	defer l.starting.Unlock()
	l.open = open
}

// replica returns this node's replica of a shard, nil if it has none.
func (n *Node) replica(s ID) *Replica { return n.local.get(s) }

// startReplica starts this node's replica of a shard.
func (n *Node) startReplica(s ID, spec paxos.GroupSpec) error {
	machine := n.newMachine(s)
	g, err := n.c.Host.Start(spec, machine)
	if err != nil {
		return fmt.Errorf("start shard %d: %w", s, err)
	}
	n.addReplica(n.newReplica(s, machine, g))
	return nil
}

func (n *Node) newMachine(s ID) *Machine {
	return NewMachine(n.c.Engine.Space(uint64(s)), n.c.Engine.Sync, n.c.NodeID)
}

func (n *Node) newReplica(s ID, m *Machine, g paxos.Group) *Replica {
	c := ReplicaConfig{Shard: s, Node: n.c.NodeID, Process: n.process, Space: n.c.Engine.Space(uint64(s)), Machine: m,
		Group: g, Times: n.router, Graph: n.graph, Logger: n.c.Logger, Clock: n.c.Clock,
		Lease: newLeasePolicy(n.c.Lease, n.c.LeaseDrift), Full: &n.full}
	if l, ok := g.(*lane); ok {
		c.Company, c.Changes = n.sharing, &l.life.changes
	}
	return NewReplica(c)
}

// sharing returns the replicas of this node whose shards share a log, nil if there are none.
func (n *Node) sharing() (all []*Replica) {
	l := n.trunk.Load()
	if l == nil || l.company && l.trunk.Left() || !l.company && !n.Active(VersionCompany) {
		return nil
	}
	for _, lane := range l.lanes {
		all = append(all, lane.replica)
	}
	return all
}

func (n *Node) addReplica(r *Replica) {
	n.local.add(r)
	n.router.directory.Add(r.c.Shard, n.addr())
}

// dropReplica ends a replica that its group has removed, and its data. It may be
// repeated.
func (n *Node) dropReplica(r *Replica) error {
	n.local.starting.Lock()
	defer n.local.starting.Unlock()
	if !n.local.open || n.replica(r.c.Shard) != r {
		return nil
	}
	if l := n.trunk.Load(); l != nil && l.company && r.c.Shard != System {
		switch {
		case !l.trunk.Left():
			return n.dropCompany(l)
		case !l.apart.Load():
			return nil // a start would found what it does not find
		case n.orphaned(r.c.Shard):
			return n.dropOrphan(r)
		}
	}
	group := groupOf(r.c.Shard)
	r.Close()
	if err := n.c.Host.Stop(group); err != nil && !errors.Is(err, paxos.ErrNotRunning) {
		return fmt.Errorf("stop the removed replica of shard %d: %w", r.c.Shard, err)
	}
	n.local.remove(r)
	return n.purge(r.c.Shard, r.c.Group.Replica())
}

// purge removes what is stored of a replica that does not run.
func (n *Node) purge(s ID, replica paxos.ReplicaID) error {
	if n.local.purged == nil {
		n.local.purged = make(map[ID]paxos.ReplicaID)
	}
	n.local.purged[s] = max(n.local.purged[s], replica)
	// The log first: a log whose data is gone could not be started any more, nor
	// the node with it. Data without a log is nobody's, and is removed before
	// another replica comes (startAdded).
	if err := n.c.Host.Purge(groupOf(s), replica); err != nil {
		return fmt.Errorf("remove the log of shard %d: %w", s, err)
	}
	if err := n.c.Engine.Space(uint64(s)).Destroy(); err != nil {
		return fmt.Errorf("remove the data of shard %d: %w", s, err)
	}
	n.c.Logger.Info("replica removed", "shard", uint64(s), "replica", uint64(replica))
	return nil
}

// follow makes owners of the replicas that lead their groups: at once when a hint
// comes, and now and then, because hints are lost.
func (n *Node) follow() {
	n.sweeps.Add(1)
	go func() {
		defer n.sweeps.Done()
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for _, r := range n.local.all() {
			n.reclaim(r) // where nobody is elected there is no hint
		}
		for {
			select {
			case e, ok := <-n.c.Host.Events():
				if !ok {
					return
				}
				n.hint(e)
			case <-ticker.C:
				for _, r := range n.local.all() {
					n.reclaim(r)
				}
			case <-n.life.Done():
				return
			}
		}
	}()
}

func (n *Node) hint(e paxos.Event) {
	if l := n.trunk.Load(); l != nil && l.carries(e.Group) {
		for _, lane := range l.lanes {
			n.hintAt(lane.replica, e)
		}
		return
	}
	if r := n.replica(shardOf(e.Group)); r != nil {
		n.hintAt(r, e)
	}
}

func (n *Node) hintAt(r *Replica, e paxos.Event) {
	switch e.Kind {
	case paxos.LeaderChanged:
		n.reclaim(r)
	case paxos.MembershipChanged:
		r.unseat()
	}
}

// reclaim takes a shard over if this node leads its group and nobody serves it
// here. It does not wait.
func (n *Node) reclaim(r *Replica) {
	if r.serving.Load() != nil || !r.leads() || !r.reclaiming.CompareAndSwap(false, true) {
		return
	}
	started := r.background(func() {
		defer r.reclaiming.Store(false)
		ctx, cancel := context.WithTimeout(r.life, handOverPatience)
		defer cancel()
		if n.yields(r) { // once
			return
		}
		if err := r.Reclaim(ctx); err != nil && r.life.Err() == nil {
			n.c.Logger.Warn("take a shard over", "shard", uint64(r.c.Shard), "error", err)
			return
		}
		if r.serving.Load() != nil {
			n.router.directory.Found(r.c.Shard, n.addr())
		}
	})
	if !started {
		r.reclaiming.Store(false)
	}
}
