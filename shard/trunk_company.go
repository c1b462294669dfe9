package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/ring"
)

// A trunk with members is a group whose replicas each carry all data shards. Where the
// cluster's every node has every shard, a transaction is one entry in one log, whatever
// shards it touches. Each shard has its owner, epoch, locks and reads like any other, on
// whichever node the group's leader is.

// companySpace is the space of a node's own records of the trunk with members. It follows
// those of the data shards, so that all that the trunk's state consists of is one range.
func companySpace(r *ring.Ring) uint64 {
	shards := sortedIDs(r.Shards())
	return uint64(shards[len(shards)-1]) + 1
}

// newCompany makes the life of the trunk with members over machines, which are not those of a
// running trunk.
func (n *Node) newCompany(r *ring.Ring, t *Trunk, machines map[ID]*Machine) *trunkLife {
	l := &trunkLife{node: n, ring: r, trunk: t, company: true, ready: make(chan struct{})}
	for _, s := range sortedIDs(r.Shards()) {
		l.lanes = append(l.lanes, &lane{shard: s, life: l, machine: machines[s], left: make(chan struct{})})
	}
	t.WithMembers()
	t.onLeft = func() { // a node that is being closed goes on at its next start
		_, _ = l.leave()
	}
	return l
}

// startCompany starts this node's replica of the trunk with members, and those of its shards.
func (n *Node) startCompany(r *ring.Ring, spec paxos.GroupSpec) error {
	t, machines, err := n.newTrunk(r, companySpace(r))
	if err != nil {
		return err
	}
	l := n.newCompany(r, t, machines)
	l.replica = spec.Replica
	if l.group, err = n.c.Host.Start(spec, t); err != nil {
		return fmt.Errorf("start the trunk: %w", err)
	}
	n.install(l)
	close(l.ready)
	return nil
}

// install makes the replicas of a trunk's shards those of the node.
func (n *Node) install(l *trunkLife) {
	for _, lane := range l.lanes {
		lane.replica = n.newReplica(lane.shard, lane.machine, lane)
	}
	n.trunk.Store(l)
	for _, lane := range l.lanes {
		n.addReplica(lane.replica)
	}
}

// inheritedTrunk is the trunk with members in which a lone node's shards go on: its machines
// are open already.
type inheritedTrunk struct{ *Trunk }

// Open implements paxos.StateMachine.
func (t inheritedTrunk) Open() (paxos.Index, error) { return t.last, t.neighbours() }

// beginCompany makes all lanes of a lone node's trunk go over to a trunk with members.
func (l *trunkLife) beginCompany(ctx context.Context) error {
	if l.next.Load() == nil {
		next, err := l.foundCompany()
		if err != nil {
			return err
		}
		l.next.Store(next)
	}
	next := l.next.Load()
	if err := firstEntry(ctx, next.lanes[0]); err != nil {
		return fmt.Errorf("first entry of the trunk with members: %w", err)
	}
	for i, lane := range l.lanes {
		lane.goOver(next.lanes[i])
	}
	return nil
}

// foundCompany founds the trunk with members, whose state is what a lone node's has left.
func (l *trunkLife) foundCompany() (*trunkLife, error) {
	n := l.node
	space := n.c.Engine.Space(companySpace(l.ring))
	if err := space.Destroy(); err != nil { // what an earlier one has left here
		return nil, fmt.Errorf("remove what is left of a trunk: %w", err)
	}
	t := NewTrunk(space, n.c.Engine.Sync, n.c.NodeID)
	machines := make(map[ID]*Machine)
	for _, lane := range l.lanes {
		machines[lane.shard] = lane.machine
		t.Carry(lane.shard, lane.machine)
	}
	next := n.newCompany(l.ring, t, machines)
	for i, lane := range l.lanes {
		next.lanes[i].replica = lane.replica
	}
	spec := n.founder(companyGroup)
	next.replica = spec.Replica
	var err error
	if next.group, err = n.c.Host.Start(spec, inheritedTrunk{t}); err != nil {
		return nil, fmt.Errorf("start the trunk with members: %w", err)
	}
	return next, nil
}

// finishCompany gives the shards of a lone node, which have left its trunk for one with
// members, that trunk.
func (n *Node) finishCompany(ctx context.Context, r *ring.Ring, stored storedTrunk) error {
	spec := n.founder(companyGroup)
	if stored.company != nil {
		spec = n.spec(*stored.company, false)
	}
	if err := n.startCompany(r, spec); err != nil {
		return err
	}
	if err := firstEntry(ctx, n.trunk.Load().lanes[0]); err != nil {
		return fmt.Errorf("first entry of the trunk with members: %w", err)
	}
	return n.dropTrunk(stored)
}

// addToCompany starts this node's replica of the trunk with members, to which it was added;
// one that runs stays. The caller holds starting. See startAdded.
func (n *Node) addToCompany(q *StartRequest) error {
	refused := func(detail string, a ...any) error {
		return &Error{Code: Refused, Shard: q.Shard, Detail: fmt.Sprintf(detail, a...)}
	}
	if r := n.replica(q.Shard); r != nil && r.c.Group.Replica() == q.Replica {
		return nil
	}
	if n.trunk.Load() != nil || slices.ContainsFunc(n.ring.Shards(), func(s ID) bool { return n.replica(s) != nil }) {
		return &Error{Code: Unavailable, Shard: q.Shard, Detail: "other replicas run here still"}
	}
	place, _ := n.state.Load().Place(q.Shard)
	switch {
	case len(place.Voters) > 0 && !place.Shared:
		return refused("the shards have parted")
	case q.Replica <= n.local.purged[companyShard] || slices.Contains(place.Removed, q.Replica):
		return refused("replica %d was removed", q.Replica)
	}
	stored, err := n.c.Host.Stored()
	if err != nil {
		return err
	}
	spec := paxos.GroupSpec{Group: companyGroup, Replica: q.Replica, Join: true, Learner: true}
	for _, s := range stored {
		switch {
		case s.Group != companyGroup:
		case s.Replica > q.Replica:
			return refused("replica %d is here, which is later than %d", s.Replica, q.Replica)
		case s.Replica == q.Replica:
			spec = n.spec(s, false)
		default:
			if err := n.purgeCompany(s.Replica); err != nil {
				return err
			}
		}
	}
	if spec.Join {
		if err := n.destroyCompany(n.ring); err != nil { // of a purge that was cut short
			return err
		}
	}
	return n.startCompany(n.ring, spec)
}

// companyShard stands for the trunk with members where replicas are counted by shard.
const companyShard = ID(companyGroup - 1)

// dropCompany ends this node's replica of the trunk with members, which has been removed from
// it, and the data of its shards. The caller holds starting.
func (n *Node) dropCompany(l *trunkLife) error {
	if err := l.stop(); err != nil {
		return err
	}
	if l.apart.Load() || n.trunk.Load() != l {
		return nil
	}
	if l.trunk.Left() {
		if founds, err := n.foundsParted(l.ring, l.replica, l.trunk.leftFor()); founds || err != nil {
			return err // the shards have left it, and get groups of their own here
		}
	}
	for _, lane := range l.lanes {
		lane.replica.Close()
		n.local.remove(lane.replica)
	}
	if err := n.purgeCompany(l.replica); err != nil {
		return err
	}
	n.trunk.CompareAndSwap(l, nil)
	return nil
}

// purgeCompany removes what is stored of a replica of the trunk with members that does not run.
func (n *Node) purgeCompany(replica paxos.ReplicaID) error {
	if n.local.purged == nil {
		n.local.purged = make(map[ID]paxos.ReplicaID)
	}
	n.local.purged[companyShard] = max(n.local.purged[companyShard], replica)
	// The log first, as of any replica (purge).
	if err := n.c.Host.Purge(companyGroup, replica); err != nil {
		return fmt.Errorf("remove the log of the trunk: %w", err)
	}
	if err := n.destroyCompany(n.ring); err != nil {
		return err
	}
	n.c.Logger.Info("replica of the trunk removed", "replica", uint64(replica))
	return nil
}

// destroyCompany removes all that the trunk with members has in the store.
func (n *Node) destroyCompany(r *ring.Ring) error {
	for _, s := range append(sortedIDs(r.Shards()), ID(companySpace(r)), TrunkSpace) {
		if n.replica(s) != nil {
			return fmt.Errorf("remove what is left of shard %d: it has a replica", s)
		}
		if err := n.c.Engine.Space(uint64(s)).Destroy(); err != nil {
			return fmt.Errorf("remove what is left of shard %d: %w", s, err)
		}
	}
	return nil
}

// bringUpCompany starts the stored replica of the trunk with members, or what is left of it
// when its shards have left it.
func (n *Node) bringUpCompany(r *ring.Ring, stored storedTrunk) error {
	snap := n.c.Engine.Space(companySpace(r)).Snapshot()
	defer snap.Close()
	left, err := hasMeta(snap, metaLeft)
	if err != nil {
		return err
	}
	spec := n.spec(*stored.company, false)
	if left {
		return n.resumePart(r, spec, snap)
	}
	err = n.startCompany(r, spec)
	if errors.Is(err, paxos.ErrRemoved) { // the last opening ended before it could be purged
		return n.purgeStored(r, spec.Replica)
	}
	return err
}

// purgeStored is purgeCompany at the start.
func (n *Node) purgeStored(r *ring.Ring, replica paxos.ReplicaID) error {
	if err := n.c.Host.Purge(companyGroup, replica); err != nil {
		return fmt.Errorf("remove the log of the trunk: %w", err)
	}
	return n.destroyCompany(r)
}
