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

// The shards of a trunk with members part when there are more nodes than replicas: then
// they are to be on different nodes. The owner proposes the end of the trunk, with the list
// of its members. Whoever of them applies it founds the groups of all shards, with that
// list and with the state that each shard has then, which is the same for all. A majority
// that has done so is enough for a shard to go on.
//
// A member may be late: it is down, or its log is behind. So the trunk's group goes on,
// without effect, until each member of the list was heard of with all its groups
// (Node.parted). Until then
//
//   - nobody is added to the shards' groups, and nobody removed (Node.settled). Before a
//     member says that it has its groups it has cut the first entry off their logs
//     (paxos.Cutter), so that whoever leads them later can send nobody a log that begins
//     with a state which is in no entry;
//   - no replica in them is purged: a start that finds one missing founds it.

// partAge is the least age of an owner's epoch when it ends the trunk. What owners before it have asked for, changes of
// members, has come to its end by then.
const partAge = 15 * time.Second

// endTrunk makes the shards of a trunk part; r is one of them, whose owner is here. It returns
// when that is decided.
func (n *Node) endTrunk(ctx context.Context, r *Replica, q *SeatRequest) error {
	l := n.trunk.Load()
	switch {
	case l == nil:
		return r.bad("the shard is not in a trunk")
	case !l.company:
		l.apartAtOnce.Store(true)
		_, err := l.lanes[0].leave(ctx)
		return err
	}
	t, err := r.current()
	if err != nil {
		return err
	}
	if err := r.prove(ctx, t); err != nil {
		return err
	}
	m, err := r.c.Group.Membership(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("members of the trunk: %w", err)
	case m.ChangeID != q.ChangeID:
		return r.membersChanged(q.ChangeID, m)
	case len(m.Learners) > 0 || r.noted().pending(m.ChangeID) || n.c.Clock().Sub(t.began) < partAge:
		return &Error{Code: Unavailable, Shard: r.c.Shard, Detail: "the members of the trunk may be changing"}
	}
	// It founds groups with several voters: no shard may be in a sole epoch then (H14).
	changes := r.noted()
	changes.begin(anyMembers)
	if err := r.PrepareForVoters(ctx); err != nil {
		changes.end(anyMembers)
		return fmt.Errorf("part: %w", err)
	}
	if t, err = r.current(); err != nil {
		changes.end(anyMembers)
		return err
	}
	b, err := l.group.Propose(ctx, encodeEnd(trunkEnd{kind: trunkPart, shard: r.c.Shard, epoch: t.epoch, members: m.Voters}))
	if !errors.Is(err, paxos.ErrUnknownOutcome) {
		changes.end(anyMembers)
	}
	if err != nil {
		return fmt.Errorf("part: %w", err)
	}
	var result Result
	if err := result.Decode(b); err != nil {
		return fmt.Errorf("part: %w", err)
	}
	if result.Verdict != VerdictDone {
		return r.notOwner()
	}
	return nil
}

// part gives the shards, which have left the trunk with members, groups of their own, and
// ends this node's replica of the trunk when all members have done that.
func (l *trunkLife) part(ctx context.Context) error {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	n, end := l.node, l.trunk.leftFor()
	if !l.apart.Load() {
		founds, err := n.foundsParted(l.ring, l.replica, end)
		if err != nil {
			return err
		}
		if !founds {
			n.local.starting.Lock()
			defer n.local.starting.Unlock()
			return n.dropCompany(l)
		}
		if err := l.goApartUnlessRemoved(ctx, end); err != nil {
			return err
		}
		if err := n.markApart(); err != nil {
			return err
		}
		l.apart.Store(true)
	}
	for since := map[ID]lostSince{}; !n.parted(l.ring, end); {
		n.removeLost(ctx, l, since)
		if err := pause(ctx, ctx, heartbeatEvery); err != nil {
			return err
		}
	}
	if err := l.stop(); err != nil {
		return err
	}
	if err := n.dropCompanyRecords(l.ring, l.replica); err != nil {
		return err
	}
	n.trunk.CompareAndSwap(l, nil)
	return nil
}

// goApartUnlessRemoved is goApart that ends when the picture says that this node was removed
// from the group of a shard: it was lost to the others for too long.
func (l *trunkLife) goApartUnlessRemoved(ctx context.Context, end trunkEnd) error {
	bounded, stop := context.WithCancel(ctx)
	defer stop()
	over := make(chan error, 1)
	go func() { over <- l.goApart(bounded, end) }()
	for {
		select {
		case err := <-over:
			return err
		case <-time.After(heartbeatEvery):
		}
		if l.node.removedApart(l) {
			stop()
			<-over
			return nil
		}
	}
}

// removedApart reports whether a shard that has parted has removed this node's replica.
func (n *Node) removedApart(l *trunkLife) bool {
	s := n.state.Load()
	return slices.ContainsFunc(l.ring.Shards(), func(id ID) bool {
		p, ok := s.Place(id)
		return ok && !p.Shared && slices.Contains(p.Removed, l.replica)
	})
}

// metaApart, in the space of a lone node's trunk, which is never sent, says that this node
// founds no group any more with the other members of a trunk.
const metaApart = "apart"

// markApart writes down that the founding is over, before anybody hears of it.
func (n *Node) markApart() error {
	b := n.c.Engine.Space(TrunkSpace).NewBatch()
	defer b.Close()
	b.PutMeta(metaApart, []byte{formatVersion})
	err := b.Commit()
	if err == nil {
		err = n.c.Engine.Sync()
	}
	if err != nil {
		return fmt.Errorf("note that the shards are apart: %w", err)
	}
	return nil
}

// isApart reports what markApart wrote.
func (n *Node) isApart() (bool, error) {
	snap := n.c.Engine.Space(TrunkSpace).Snapshot()
	defer snap.Close()
	return hasMeta(snap, metaApart)
}

// goApart gives each shard a group of its own and waits until that has lost its first entry.
func (l *trunkLife) goApart(ctx context.Context, end trunkEnd) error {
	if len(l.lanes) > 0 {
		if !l.owns() && pause(ctx, ctx, foundLater) != nil {
			return ctx.Err()
		}
		return atOnce(l.lanes, func(lane *lane) error { return lane.begin(ctx, l.founders(lane.shard, end)) })
	}
	return atOnce(l.ring.Shards(), func(s ID) error {
		r := l.node.replica(s)
		if r == nil {
			return fmt.Errorf("shard %d has no group here", s)
		}
		g := r.c.Group
		if err := firstEntry(ctx, g); err != nil {
			return fmt.Errorf("first entry of shard %d: %w", s, err)
		}
		return cutFirst(ctx, g)
	})
}

// foundsParted reports whether this node is one of those that found the shards' groups. It
// is not if it was a learner; or if it was late and was sent the trunk's state after its
// end, which is no more than the word that the shards have left: then it has nothing of
// them, and is a member of their groups that has to be removed.
func (n *Node) foundsParted(r *ring.Ring, replica paxos.ReplicaID, end trunkEnd) (bool, error) {
	if _, listed := end.members[replica]; !listed {
		return false, nil
	}
	for _, s := range r.Shards() {
		if n.hasOwnGroup(s) {
			continue
		}
		ok, err := hasLeftWith(n.c.Engine.Space(uint64(s)))
		if err != nil {
			return false, err
		}
		if !ok {
			n.c.Logger.Error("the shards have parted while this node was away for too long: it has no copy of them any more; remove it from the cluster and start it on an empty directory")
			return false, nil
		}
	}
	return true, nil
}

// hasOwnGroup reports whether a shard's own group runs here.
func (n *Node) hasOwnGroup(s ID) bool {
	r := n.replica(s)
	if r == nil {
		return false
	}
	g := r.c.Group
	for { // a lone node's lane leads to that of the trunk with members
		l, ok := g.(*lane)
		if !ok {
			return true
		}
		own := l.own.Load()
		if own == nil {
			return false
		}
		g = *own
	}
}

// owns reports whether this node serves any of the shards.
func (l *trunkLife) owns() bool {
	return slices.ContainsFunc(l.lanes, func(lane *lane) bool { return lane.replica.serving.Load() != nil })
}

// founders tells how this node founds a shard's own group together with the others.
func (l *trunkLife) founders(s ID, end trunkEnd) paxos.GroupSpec {
	return paxos.GroupSpec{Group: groupOf(s), Replica: l.replica, Members: end.members}
}

// leadFirst is how long the owner of a shard waits to lead its new group before it goes over
// to it, and foundLater how long the others leave it the lead in being elected. What an
// owner proposes to another leader, who is about to make way, gets lost, and is waited for.
const (
	leadFirst  = 2 * time.Second
	foundLater = 500 * time.Millisecond
)

// awaitLead waits, for a while, until this node leads a group.
func awaitLead(ctx context.Context, g paxos.Group) {
	ctx, cancel := context.WithTimeout(ctx, leadFirst)
	defer cancel()
	for {
		if leader, _, ok := g.Leader(); ok && leader == g.Replica() || pause(ctx, ctx, time.Millisecond) != nil {
			return
		}
	}
}

// cutFirst cuts the first entry off a group's log.
func cutFirst(ctx context.Context, g paxos.Group) error {
	c, ok := g.(paxos.Cutter)
	if !ok {
		return nil
	}
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := c.CutFirst(ctx)
		if err == nil || errors.Is(err, paxos.ErrClosed) {
			return err
		}
		if late := pause(ctx, ctx, wait); late != nil {
			return errors.Join(late, err)
		}
	}
}

// parted reports whether all members that the trunk had have been heard of with groups of
// their own for all shards, as far as they are members of these still.
func (n *Node) parted(r *ring.Ring, end trunkEnd) bool {
	s := n.state.Load()
	for _, id := range r.Shards() {
		p, ok := s.Place(id)
		if !ok || p.Shared || p.Owner == 0 || len(p.Voters) == 0 {
			return false
		}
		for replica, host := range end.members {
			if m, known := s.byHost(host); known && slices.Contains(p.Voters, Seat{replica, host}) && !p.runs(m.ID, replica) {
				return false
			}
		}
	}
	return true
}

// runs reports whether a node was heard of with a replica of the shard.
func (p *ShardPlace) runs(node uint64, replica paxos.ReplicaID) bool {
	return slices.ContainsFunc(p.Running, func(r RunningReplica) bool { return r.Node == node && r.Replica == replica && !r.Shared })
}

// settled returns an error while a shard is between the trunk with members and a group of
// its own, in which nobody may be added yet.
func (n *Node) settled(s ID) error {
	if l := n.trunk.Load(); l != nil && l.company && l.trunk.Left() && s != System {
		return &Error{Code: Unavailable, Shard: s, Detail: "not all members of the trunk have parted yet"}
	}
	return nil
}

// removeLost removes, from the groups that this node's shards have got, members of the trunk
// that were not heard of there for DeadAfter, or that are down and leave: they lead nobody any
// more, and nobody waits for them. The planner makes good for them.
func (n *Node) removeLost(ctx context.Context, l *trunkLife, since map[ID]lostSince) {
	for _, s := range sortedIDs(l.ring.Shards()) {
		r := n.replica(s)
		lost, given, ok := n.lost(l, s)
		if !ok {
			delete(since, s)
			continue
		}
		if since[s].replica != lost {
			since[s] = lostSince{lost, time.Now()}
		}
		if r == nil || r.serving.Load() == nil || !given && time.Since(since[s].at) < n.c.DeadAfter || !n.goesOnWithout(s, lost) {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, stepPatience)
		err := r.removeReplica(bounded, lost, anyMembers)
		cancel()
		n.c.Logger.Warn("a member of the trunk has not parted with the others and is removed", "shard", uint64(s), "replica", uint64(lost), "error", err)
	}
}

// lostSince is since when a member is lost.
type lostSince struct {
	replica paxos.ReplicaID
	at      time.Time
}

// goesOnWithout reports whether a majority of a shard's other voters is up and runs.
func (n *Node) goesOnWithout(id ID, lost paxos.ReplicaID) bool {
	s := n.state.Load()
	p, _ := s.Place(id)
	others, run := 0, 0
	for _, seat := range p.Voters {
		if seat.Replica == lost {
			continue
		}
		others++
		if m, ok := s.byHost(seat.Host); ok && m.Up && p.runs(m.ID, seat.Replica) {
			run++
		}
	}
	return run > others/2
}

// lost is a member of the trunk that a shard's own group has, and that does not run there,
// as far as this node has heard; given up, if it is down and was asked to leave.
func (n *Node) lost(l *trunkLife, id ID) (replica paxos.ReplicaID, given, ok bool) {
	s := n.state.Load()
	p, ok := s.Place(id)
	if !ok || p.Shared {
		return 0, false, false
	}
	// One that is down first: others may be what a majority lacks while it counts.
	down := func(seat Seat) int {
		if m, known := s.byHost(seat.Host); known && !m.Up {
			return 0
		}
		return 1
	}
	for _, seat := range slices.SortedStableFunc(slices.Values(p.Voters), func(a, b Seat) int { return down(a) - down(b) }) {
		m, known := s.byHost(seat.Host)
		if host, listed := l.trunk.leftFor().members[seat.Replica]; listed && host == seat.Host && known && !p.runs(m.ID, seat.Replica) {
			return seat.Replica, !m.Up && m.State >= MemberLeaving, true
		}
	}
	return 0, false, false
}

// orphaned reports whether a shard's replica here was to get a group of its own and did not:
// the others have removed it before.
func (n *Node) orphaned(s ID) bool {
	l := n.trunk.Load()
	return l != nil && l.company && s != System && l.apart.Load() && n.replica(s) != nil && !n.hasOwnGroup(s)
}

// dropOrphan is dropReplica of an orphaned one. The caller holds starting.
func (n *Node) dropOrphan(r *Replica) error {
	r.Close()
	lanes := n.trunk.Load().lanes // r's own may be one of the lone node's trunk
	l := lanes[slices.IndexFunc(lanes, func(l *lane) bool { return l.shard == r.c.Shard })]
	if l.begun != nil {
		if err := n.c.Host.Stop(groupOf(r.c.Shard)); err != nil && !errors.Is(err, paxos.ErrNotRunning) {
			return fmt.Errorf("stop the removed replica of shard %d: %w", r.c.Shard, err)
		}
		if err := n.c.Host.Purge(groupOf(r.c.Shard), l.life.replica); err != nil {
			return fmt.Errorf("remove the log of shard %d: %w", r.c.Shard, err)
		}
	}
	n.local.remove(r)
	return n.c.Engine.Space(uint64(r.c.Shard)).Destroy()
}

// sharedHere reports whether a shard is in a trunk here, or has not quite left it. Of a lone
// node's trunk it is told since there are trunks with members, which is what comes of it.
func (n *Node) sharedHere(s ID) bool {
	if s == System {
		return false
	}
	l := n.trunk.Load()
	if l == nil {
		return n.resuming.Load()
	}
	return !l.apart.Load() && (l.company || n.Active(VersionCompany))
}

// resumePart goes on with what a node has not finished that ended when the shards had left
// the trunk with members.
func (n *Node) resumePart(r *ring.Ring, spec paxos.GroupSpec, snap *storage.Snapshot) error {
	t := NewTrunk(n.c.Engine.Space(companySpace(r)), n.c.Engine.Sync, n.c.NodeID) // nothing is carried any more
	t.WithMembers()
	if _, err := t.loadEnd(snap); err != nil {
		return err
	}
	l := &trunkLife{node: n, ring: r, trunk: t, company: true, replica: spec.Replica, ready: make(chan struct{})}
	apart, err := n.isApart()
	if err != nil {
		return err
	}
	n.trunk.Store(l) // before anything is started that a report could tell of
	if !apart {
		if apart, err = n.refound(l, t.end); err != nil {
			return err
		}
	}
	if apart && !n.hasAnyOwnGroup(r) { // what is left is nobody's
		n.trunk.Store(nil)
		if err := n.purgeStored(r, spec.Replica); err != nil {
			return err
		}
		return n.dropRecords()
	}
	l.apart.Store(apart)
	if l.group, err = n.c.Host.Start(spec, t); err != nil {
		return fmt.Errorf("start what is left of the trunk: %w", err)
	}
	close(l.ready)
	_, err = l.leave()
	return err
}

// refound founds the groups of the shards that have left the trunk and have none here. If it
// cannot, because there is nothing to found them from, or because one of them has removed
// this node already, the founding is over.
func (n *Node) refound(l *trunkLife, end trunkEnd) (over bool, err error) {
	founds, err := n.foundsParted(l.ring, l.replica, end)
	if err != nil {
		return false, err
	}
	if !founds {
		return true, n.markApart()
	}
	for _, s := range sortedIDs(l.ring.Shards()) {
		if n.replica(s) != nil {
			continue
		}
		if err := n.startReplica(s, l.founders(s, end)); err != nil {
			return false, err
		}
	}
	return false, nil
}

// hasAnyOwnGroup reports whether the group of any shard runs here.
func (n *Node) hasAnyOwnGroup(r *ring.Ring) bool {
	return slices.ContainsFunc(r.Shards(), n.hasOwnGroup)
}

// dropCompanyRecords removes a trunk with members that does not run and that everybody has
// left: its log, then its records.
func (n *Node) dropCompanyRecords(r *ring.Ring, replica paxos.ReplicaID) error {
	if err := n.c.Host.Purge(companyGroup, replica); err != nil {
		return fmt.Errorf("remove the log of the trunk: %w", err)
	}
	for _, space := range []uint64{companySpace(r), TrunkSpace} {
		if err := n.c.Engine.Space(space).Destroy(); err != nil {
			return fmt.Errorf("remove the records of the trunk: %w", err)
		}
	}
	return nil
}

// yields reports whether this node, which leads a shard's new group, has left it to the owner
// that the shard had in the trunk to lead it: its transactions go on. It does so once, for the
// owner may be gone.
func (n *Node) yields(r *Replica) bool {
	l := n.trunk.Load()
	if l == nil || !l.company || !l.trunk.Left() {
		return false
	}
	_, node, _, _ := r.c.Machine.Owner()
	m, ok := n.state.Load().Member(node)
	if !ok || !m.Up || node == n.c.NodeID || !r.yielded.CompareAndSwap(false, true) {
		return false
	}
	for replica, host := range l.trunk.leftFor().members {
		if host == m.Host {
			return r.c.Group.TransferLeadership(replica) == nil
		}
	}
	return false
}
