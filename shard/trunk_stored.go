package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// storedTrunk is what a node has of a trunk on its disk.
type storedTrunk struct {
	// log is the trunk's log. Only clusters before VersionAlone make one.
	log   *paxos.Stored
	fresh bool // it is about to be made
	// alone: the trunk has no log. If there is one nevertheless, nothing of it is needed.
	alone bool
	left  bool // by its shards
	next  byte // what they left it for, see trunkEnd.kind

	// company is this node's replica of the trunk with members. There is another trunk
	// beside it only as long as the shards go over to it.
	company *paxos.Stored
}

// lone reports whether the trunk of a lone node is stored.
func (t *storedTrunk) lone() bool { return t.log != nil || t.alone }

// splitTrunk takes the trunk out of the stored replicas; nil if there is none, and then
// nothing of it is stored either.
func (n *Node) splitTrunk(stored []paxos.Stored) (*storedTrunk, []paxos.Stored, error) {
	t := &storedTrunk{}
	t.log, stored = takeGroup(stored, trunkGroup)
	t.company, stored = takeGroup(stored, companyGroup)
	snap := n.c.Engine.Space(TrunkSpace).Snapshot()
	defer snap.Close()
	old := &Trunk{}
	left, err := old.loadEnd(snap)
	if err == nil {
		t.left, t.next = left, old.end.kind
		t.alone, err = hasMeta(snap, metaAlone)
	}
	switch {
	case err != nil:
		return nil, nil, err
	case t.lone():
		return t, stored, nil
	case t.left:
		err = n.dropRecords()
	}
	if t.company != nil || err != nil {
		return t, stored, err
	}
	apart, err := hasMeta(snap, metaApart)
	if err == nil && apart { // of a trunk that is gone
		err = n.dropRecords()
	}
	return nil, stored, err
}

// takeGroup takes the replica of a group out of the stored ones; nil if there is none.
func takeGroup(stored []paxos.Stored, g paxos.GroupID) (*paxos.Stored, []paxos.Stored) {
	i := slices.IndexFunc(stored, func(s paxos.Stored) bool { return s.Group == g })
	if i < 0 {
		return nil, stored
	}
	s := stored[i]
	return &s, slices.Delete(stored, i, i+1)
}

// hasMeta reports whether the trunk's space has a record.
func hasMeta(snap *storage.Snapshot, name string) (bool, error) {
	_, ok, err := snap.Meta(name)
	if err != nil {
		err = fmt.Errorf("load the records of the trunk: %w", err)
	}
	return ok, err
}

// resume brings the stored trunk up before anything is served, or ends it if its shards
// have left: whatever came between is finished. Which shards they are the ring says; where
// that is not known yet, because the founding was cut short, it returns the trunk, and
// nil otherwise.
func (n *Node) resume(ctx context.Context, stored *storedTrunk) (*storedTrunk, error) {
	if stored == nil {
		return nil, nil
	}
	r, err := n.knownRing()
	if err != nil || r == nil {
		return stored, err
	}
	return nil, n.bringUp(ctx, r, stored)
}

// bringUp starts or ends the stored trunk of the ring's shards.
func (n *Node) bringUp(ctx context.Context, r *ring.Ring, stored *storedTrunk) error {
	if !stored.lone() {
		return n.bringUpCompany(r, *stored)
	}
	if !stored.left && !stored.alone && n.Active(VersionAlone) {
		if err := n.dropLog(ctx, r, stored); err != nil {
			return fmt.Errorf("do without the log of the trunk: %w", err)
		}
	}
	if stored.left {
		return n.finishLeaving(ctx, r, *stored)
	}
	if stored.alone && stored.log != nil {
		if err := n.c.Host.Purge(trunkGroup, stored.log.Replica); err != nil {
			return fmt.Errorf("remove the log of the trunk: %w", err)
		}
		stored.log = nil
	}
	return n.startTrunk(r, *stored)
}

// dropLog makes a trunk without a log of one with a log, which is removed by the caller:
// it is applied to its end, and only when that is durable the trunk's space says that it
// is not needed. It may turn out that the shards have left.
func (n *Node) dropLog(ctx context.Context, r *ring.Ring, stored *storedTrunk) error {
	t, _, err := n.newTrunk(r, TrunkSpace)
	if err != nil {
		return err
	}
	g, err := n.c.Host.Start(n.spec(*stored.log, false), t)
	if err != nil {
		return err
	}
	err = n.applyLog(ctx, g, t)
	if stop := n.c.Host.Stop(trunkGroup); stop != nil && !errors.Is(stop, paxos.ErrNotRunning) {
		err = errors.Join(err, stop)
	}
	if stored.left, stored.next = t.Left(), t.end.kind; err != nil || stored.left {
		return err
	}
	stored.alone = true
	n.c.Logger.Info("the trunk does without a log from now on")
	return n.markAlone()
}

// applyLog waits until all of a trunk's log is applied, or says that the shards have left.
func (n *Node) applyLog(ctx context.Context, g paxos.Group, t *Trunk) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := g.ReadBarrier(ctx)
		if err == nil || t.Left() {
			return nil
		}
		// A long log takes longer than a barrier waits.
		if late := pause(ctx, n.life, wait); late != nil || errors.Is(err, paxos.ErrClosed) {
			return fmt.Errorf("apply the log of the trunk: %w", errors.Join(late, err))
		}
	}
}

// markAlone writes down that there is a trunk, which has no log. Everything that was
// applied before is durable with it.
func (n *Node) markAlone() error {
	b := n.c.Engine.Space(TrunkSpace).NewBatch()
	defer b.Close()
	b.PutMeta(metaAlone, []byte{formatVersion})
	err := b.Commit()
	if err == nil && !mutated("0092.mark-unsynced") {
		err = n.c.Engine.Sync()
	}
	if err != nil {
		return fmt.Errorf("note that there is a trunk: %w", err)
	}
	return nil
}

// foundTrunk makes the trunk of a new key space: with a log, where an older release may
// have to read it.
func (n *Node) foundTrunk() error {
	if n.Active(VersionAlone) {
		if err := n.markAlone(); err != nil {
			return err
		}
		return n.startTrunk(n.ring, storedTrunk{alone: true})
	}
	return n.startTrunk(n.ring, storedTrunk{log: &paxos.Stored{Group: trunkGroup, Replica: paxos.ReplicaID(n.c.NodeID)}, fresh: true})
}

// newTrunk makes the trunk that carries the ring's shards, over a space of its own, and
// their machines.
func (n *Node) newTrunk(r *ring.Ring, space uint64) (*Trunk, map[ID]*Machine, error) {
	t := NewTrunk(n.c.Engine.Space(space), n.c.Engine.Sync, n.c.NodeID)
	machines := make(map[ID]*Machine)
	for _, s := range r.Shards() {
		if n.replica(s) != nil {
			return nil, nil, fmt.Errorf("%w: shard %d is in the trunk and has a log of its own", paxos.ErrForeign, s)
		}
		machines[s] = n.newMachine(s)
		t.Carry(s, machines[s])
	}
	return t, machines, nil
}

// startTrunk starts the trunk of the ring's shards, and their replicas in it.
func (n *Node) startTrunk(r *ring.Ring, stored storedTrunk) error {
	t, machines, err := n.newTrunk(r, TrunkSpace)
	if err != nil {
		return err
	}
	l := &trunkLife{node: n, ring: r, trunk: t, stored: stored}
	for _, s := range sortedIDs(r.Shards()) {
		l.lanes = append(l.lanes, &lane{shard: s, life: l, machine: machines[s], left: make(chan struct{})})
	}
	if err := l.start(); err != nil {
		return fmt.Errorf("start the trunk: %w", err)
	}
	n.install(l)
	return nil
}

// finishLeaving gives the shards that have left the trunk the groups that they have not
// been given yet, and removes the trunk.
func (n *Node) finishLeaving(ctx context.Context, r *ring.Ring, stored storedTrunk) error {
	if stored.next == trunkCompany {
		return n.finishCompany(ctx, r, stored)
	}
	for _, s := range sortedIDs(r.Shards()) {
		if n.replica(s) != nil {
			continue
		}
		if err := n.startReplica(s, n.founder(groupOf(s))); err != nil {
			return err
		}
	}
	if err := atOnce(r.Shards(), func(s ID) error { return firstEntry(ctx, n.replica(s).c.Group) }); err != nil {
		return fmt.Errorf("leave the trunk: %w", err)
	}
	return n.dropTrunk(stored)
}

// dropTrunk removes a trunk that does not run and that all its shards have left. The log
// first, if it has one: then it is what says that there is a trunk.
func (n *Node) dropTrunk(stored storedTrunk) error {
	if stored.log != nil {
		if err := n.c.Host.Purge(trunkGroup, stored.log.Replica); err != nil {
			return fmt.Errorf("remove the log of the trunk: %w", err)
		}
	}
	return n.dropRecords()
}

// dropRecords removes the records of a trunk that its shards have left. There is none
// when it returns, whatever happens then: others may become members.
func (n *Node) dropRecords() error {
	if err := n.c.Engine.Space(TrunkSpace).Destroy(); err != nil {
		return fmt.Errorf("remove the records of the trunk: %w", err)
	}
	return nil
}

// knownRing is the ring as far as this node knows it before it has asked anybody, nil if
// it does not.
func (n *Node) knownRing() (*ring.Ring, error) {
	if n.ring != nil {
		return n.ring, nil
	}
	b := n.state.Load().Ring
	if system := n.replica(System); system != nil && len(b) == 0 {
		var err error
		if b, _, err = system.c.Machine.Record(recordRing); err != nil {
			return nil, fmt.Errorf("read the ring: %w", err)
		}
	}
	if len(b) == 0 {
		return nil, nil
	}
	r, err := ring.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("decode the ring: %w", err)
	}
	return r, nil
}
