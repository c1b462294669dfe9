package shard

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
)

// lane is the group of one shard that begins in a trunk: what is proposed goes to the
// trunk's log, and once the shards have left that, to what the shard has after it: a log
// of its own, or the next trunk's. Who proposes does not notice.
//
// A command that was sent to the trunk ends in one of three ways. It was applied before
// leave: its result is the answer. It comes after leave: it was not applied and never
// will be, so it is proposed to the shard's own group. Or what became of it is not known:
// then that is the answer, and whoever proposes it again, as it may, is in one of the two
// logs the second time.
type lane struct {
	shard   ID
	life    *trunkLife
	machine *Machine
	replica *Replica // of this shard on this node

	// own is what the shard has after the trunk, a group of its own or a lane in the next
	// trunk; nil: it has not left.
	own  atomic.Pointer[paxos.Group]
	left chan struct{} // closed when own is set
	// begun is the own group from its start on; of the goroutine that leaves.
	begun paxos.Group
}

var (
	_ paxos.Group = (*lane)(nil)
	_ carried     = (*lane)(nil)
)

// now is the group that the shard is in.
func (l *lane) now() paxos.Group {
	if own := l.own.Load(); own != nil {
		return *own
	}
	return l.life.group
}

// sharedLog implements carried.
func (l *lane) sharedLog() sharedLog {
	own := l.own.Load()
	if own == nil {
		return l.life
	}
	if next, ok := (*own).(carried); ok {
		return next.sharedLog()
	}
	return nil
}

// Propose implements paxos.Group.
func (l *lane) Propose(ctx context.Context, command []byte) ([]byte, error) {
	return l.Submit(ctx, command)()
}

// Submit implements paxos.Submitter.
func (l *lane) Submit(ctx context.Context, command []byte) func() ([]byte, error) {
	if own := l.own.Load(); own != nil {
		return submit(ctx, *own, command)
	}
	part := appendPart(make([]byte, 0, len(command)+partOverhead), l.shard, command)
	wait := submit(ctx, l.life.group, part)
	return func() ([]byte, error) {
		result, err := wait()
		if left := l.life.passed(result, err); !left {
			return result, err
		}
		own, err := l.await(ctx)
		if err != nil {
			return nil, fmt.Errorf("propose to shard %d: %w", l.shard, err)
		}
		return own.Propose(ctx, command)
	}
}

// submit sends a command, also to a group that knows only how to do that and wait.
func submit(ctx context.Context, g paxos.Group, command []byte) (wait func() ([]byte, error)) {
	if s, ok := g.(paxos.Submitter); ok {
		return s.Submit(ctx, command)
	}
	var result []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		result, err = g.Propose(ctx, command)
	}()
	return func() ([]byte, error) {
		<-done
		return result, err
	}
}

// await waits for the shard's own group. The shards have left, or are about to.
func (l *lane) await(ctx context.Context) (paxos.Group, error) {
	select {
	case <-l.left:
		return *l.own.Load(), nil
	default:
	}
	timer := time.NewTimer(paxos.DefaultTimeout)
	defer timer.Stop()
	select {
	case <-l.left:
		return *l.own.Load(), nil
	case <-l.life.node.life.Done():
		return nil, paxos.ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: the shard has no log of its own yet: %w", paxos.ErrNotSent, ctx.Err())
	case <-timer.C:
		return nil, fmt.Errorf("%w: the shard has no log of its own yet", paxos.ErrNotSent)
	}
}

// ask asks the group that the shard is in; its own, where that was the trunk's and the shards
// have left it. What the trunk says then is nothing: with members it has a leader and answers
// barriers still, while the shard's own group may have another owner already.
func (l *lane) ask(ctx context.Context, question func(paxos.Group) error) error {
	g := l.now()
	err := question(g)
	if err != nil && !errors.Is(err, paxos.ErrClosed) || g != l.life.group || !l.life.trunk.Left() || err == nil && !l.life.company {
		return err
	}
	if g, err = l.await(ctx); err != nil {
		return err
	}
	return question(g)
}

// ReadBarrier implements paxos.Group.
func (l *lane) ReadBarrier(ctx context.Context) error {
	return l.ask(ctx, func(g paxos.Group) error { return g.ReadBarrier(ctx) })
}

// Membership implements paxos.Group. While the shard is in the trunk it has the trunk's:
// this replica and no other. A group of its own begins with the same.
func (l *lane) Membership(ctx context.Context) (m paxos.Membership, err error) {
	err = l.ask(ctx, func(g paxos.Group) error {
		m, err = g.Membership(ctx)
		return err
	})
	return m, err
}

// lasting implements appliedFirst. Where there is a log it has everything; and what the
// shards have left behind is durable.
func (l *lane) lasting(ctx context.Context) error {
	if l.own.Load() != nil || l.life.logless == nil {
		return nil
	}
	err := l.life.logless.ReadBarrier(ctx)
	if errors.Is(err, paxos.ErrClosed) && l.life.trunk.Left() {
		return nil
	}
	return err
}

// Leader implements paxos.Group.
func (l *lane) Leader() (paxos.ReplicaID, uint64, bool) { return l.now().Leader() }

// Replica implements paxos.Group. It is the same in the trunk and after.
func (l *lane) Replica() paxos.ReplicaID { return l.life.group.Replica() }

// Applied implements paxos.Group: an index of the log that the shard is in.
func (l *lane) Applied() paxos.Index { return l.now().Applied() }

// TransferLeadership implements paxos.Group.
func (l *lane) TransferLeadership(to paxos.ReplicaID) error {
	return l.now().TransferLeadership(to)
}

// AddReplica implements paxos.Group.
func (l *lane) AddReplica(ctx context.Context, r paxos.ReplicaID, target string, changeID uint64) error {
	g, err := l.open(ctx)
	if err != nil {
		return err
	}
	return g.AddReplica(ctx, r, target, changeID)
}

// AddLearner implements paxos.Group.
func (l *lane) AddLearner(ctx context.Context, r paxos.ReplicaID, target string, changeID uint64) error {
	g, err := l.open(ctx)
	if err != nil {
		return err
	}
	return g.AddLearner(ctx, r, target, changeID)
}

// RemoveReplica implements paxos.Group.
func (l *lane) RemoveReplica(ctx context.Context, r paxos.ReplicaID, changeID uint64) error {
	if own := l.own.Load(); own != nil { // nobody waits for the trunk to be gone
		return (*own).RemoveReplica(ctx, r, changeID)
	}
	g, err := l.open(ctx)
	if err != nil {
		return err
	}
	return g.RemoveReplica(ctx, r, changeID)
}

// open returns the group whose members change with the shard's: that of the trunk with
// members, or the shard's own. The lone node's trunk is left for one of the two first, and
// is gone when this returns.
func (l *lane) open(ctx context.Context) (paxos.Group, error) {
	if l.life.company && !l.life.trunk.Left() {
		return l.life.group, nil
	}
	own, err := l.leave(ctx)
	if err != nil {
		return nil, err
	}
	if next, ok := own.(*lane); ok {
		return next.open(ctx)
	}
	return own, nil
}

// leave makes all shards leave the trunk, unless it has members, which only its own end does; it waits until the trunk
// is gone, and returns what the shard has after it: while a trunk is there nobody is added to that.
func (l *lane) leave(ctx context.Context) (paxos.Group, error) {
	gone, err := l.life.leave()
	if err != nil {
		return nil, fmt.Errorf("leave the trunk: %w", err)
	}
	select {
	case <-gone:
		return *l.own.Load(), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("leave the trunk: %w: %w", paxos.ErrNotSent, ctx.Err())
	case <-l.life.node.life.Done():
		return nil, fmt.Errorf("leave the trunk: %w", paxos.ErrClosed)
	}
}

// begin gives the shard a group of its own, whose state is what the trunk has left in the
// shard's space, and goes over to it.
func (l *lane) begin(ctx context.Context, spec paxos.GroupSpec) error {
	if l.own.Load() != nil {
		return nil
	}
	if l.begun == nil {
		g, err := l.life.node.c.Host.Start(spec, inherited{l.machine})
		if err != nil {
			return fmt.Errorf("start shard %d: %w", l.shard, err)
		}
		l.begun = g
	}
	if len(spec.Members) > 1 && l.replica.serving.Load() != nil {
		awaitLead(ctx, l.begun)
	}
	if err := firstEntry(ctx, l.begun); err != nil {
		return fmt.Errorf("first entry of shard %d: %w", l.shard, err)
	}
	if len(spec.Members) > 1 {
		if err := cutFirst(ctx, l.begun); err != nil {
			return fmt.Errorf("cut the log of shard %d: %w", l.shard, err)
		}
	}
	l.goOver(l.begun)
	return nil
}

// goOver goes over to what the shard has after the trunk.
func (l *lane) goOver(own paxos.Group) {
	if l.own.Load() != nil {
		return
	}
	l.own.Store(&own)
	close(l.left)
	l.replica.unseat()
}

// inherited is the machine of a shard that has left a trunk: it is open already.
type inherited struct{ *Machine }

// Open implements paxos.StateMachine.
func (m inherited) Open() (paxos.Index, error) { return m.last, nil }

// firstPatience bounds one attempt: while the leadership changes, proposals get lost.
const firstPatience = time.Second

// firstEntry proposes a command that changes nothing but the applied index, until it is
// known to be applied: a copy of the state is told from one without any entry by that.
func firstEntry(ctx context.Context, g paxos.Group) error {
	nothing := (&Command{Kind: KindRaiseFence}).AppendBinary(nil) // of no epoch
	for wait := time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		bounded, cancel := context.WithTimeout(ctx, firstPatience)
		_, err := g.Propose(bounded, nothing)
		cancel()
		if err == nil || errors.Is(err, paxos.ErrClosed) {
			return err
		}
		if late := pause(ctx, ctx, wait); late != nil {
			return errors.Join(late, err)
		}
	}
}
