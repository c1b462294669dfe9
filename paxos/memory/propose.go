package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/rowlockdb/rowlock/paxos"
)

// proposal is a command on its way; done is closed when result and err are set.
type proposal struct {
	replica *replica
	command []byte
	done    chan struct{}
	result  []byte
	err     error
	ended   bool // guarded by Network.mu
}

// finish answers the proposal, once. The caller holds Network.mu.
func (p *proposal) finish(result []byte, err error) {
	if p.ended {
		return
	}
	p.ended = true
	p.result, p.err = result, err
	close(p.done)
}

// Propose implements paxos.Group.
func (r *replica) Propose(ctx context.Context, command []byte) ([]byte, error) {
	return r.Submit(ctx, command)()
}

// Submit implements paxos.Submitter.
func (r *replica) Submit(ctx context.Context, command []byte) func() ([]byte, error) {
	if len(command) == 0 {
		panic("memory: empty command")
	}
	if len(command) > paxos.MaxCommand {
		err := fmt.Errorf("memory: propose %d bytes to group %d: %w", len(command), r.group.id, paxos.ErrTooLarge)
		return func() ([]byte, error) { return nil, err }
	}
	ctx, cancel := withDeadline(ctx)
	p := &proposal{replica: r, command: bytes.Clone(command), done: make(chan struct{})}
	observe, seq := r.submit(ctx, p)
	if observe != nil {
		observe(Proposal{Group: r.group.id, Replica: r.id, Seq: seq, Command: p.command})
	}
	r.inject(p)
	return func() ([]byte, error) {
		defer cancel()
		result, err := r.await(ctx, p)
		if err != nil {
			err = fmt.Errorf("memory: propose to group %d: %w", r.group.id, err)
		}
		if observe != nil {
			observe(Proposal{Group: r.group.id, Replica: r.id, Seq: seq, Command: p.command, Finished: true, Result: result, Err: err})
		}
		return result, err
	}
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, paxos.DefaultTimeout)
}

// submit counts the proposal and refuses it when the context is over.
func (r *replica) submit(ctx context.Context, p *proposal) (func(Proposal), uint64) {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	mu.seq++
	r.group.proposals++
	if ctx.Err() != nil {
		p.finish(nil, paxos.ErrNotSent)
	}
	return mu.observer, mu.seq
}

// inject brings the proposal into the log, or does to it what the fault says.
func (r *replica) inject(p *proposal) {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	g := r.group
	switch {
	case p.ended:
		return
	case r.stopping:
		p.finish(nil, paxos.ErrClosed)
		return
	case r.leader == 0:
		p.finish(nil, paxos.ErrNotSent)
		return
	case g.leader == 0 || !g.reachLocked(g.leader, r.id):
		g.stuck = append(g.stuck, p)
		return
	}
	late := g.late
	g.late = nil
	r.injectFaultLocked(p, g.net.faultLocked(g.id))
	for _, l := range late {
		g.appendLocked(entry{command: l.command})
	}
}

func (r *replica) injectFaultLocked(p *proposal, f Fault) {
	g := r.group
	switch f {
	case FaultNotSent:
		p.finish(nil, paxos.ErrNotSent)
	case FaultUnknownApplied:
		g.appendLocked(entry{command: p.command})
		p.finish(nil, paxos.ErrUnknownOutcome)
	case FaultUnknownLost:
		p.finish(nil, paxos.ErrUnknownOutcome)
	case FaultUnknownLate:
		g.late = append(g.late, p)
		p.finish(nil, paxos.ErrUnknownOutcome)
	case FaultDuplicate:
		g.appendLocked(entry{command: p.command, origin: p})
		g.appendLocked(entry{command: p.command})
	default:
		g.appendLocked(entry{command: p.command, origin: p})
	}
}

// await returns the answer, or the unknown outcome when the caller's time or
// the replica ends first.
func (r *replica) await(ctx context.Context, p *proposal) ([]byte, error) {
	select {
	case <-p.done:
		return p.result, p.err
	default:
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		r.abandon(p, fmt.Errorf("%w: %w", paxos.ErrUnknownOutcome, ctx.Err()))
	case <-r.gone:
		r.abandon(p, paxos.ErrUnknownOutcome)
	}
	<-p.done
	return p.result, p.err
}

// abandon answers a proposal that nobody else has answered. It stays stuck if
// it was: it may still be committed when the partition heals.
func (r *replica) abandon(p *proposal, err error) {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	p.finish(nil, err)
}

// ReadBarrier implements paxos.Group.
func (r *replica) ReadBarrier(ctx context.Context) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	b, err := r.barrier()
	if err == nil {
		select {
		case <-b.done:
			return nil
		case <-r.gone:
			err = paxos.ErrClosed
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", paxos.ErrNotSent, ctx.Err())
		}
	}
	return fmt.Errorf("memory: read barrier of group %d: %w", r.group.id, err)
}

// barrier registers a wait for everything that is committed now.
func (r *replica) barrier() (barrier, error) {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	g := r.group
	switch {
	case r.stopping:
		return barrier{}, paxos.ErrClosed
	case g.leader == 0 || !g.reachLocked(g.leader, r.id):
		return barrier{}, paxos.ErrNotSent
	}
	b := barrier{index: g.last(), done: make(chan struct{})}
	if r.applied >= b.index {
		close(b.done)
	} else {
		r.barriers = append(r.barriers, b)
	}
	return b, nil
}

// Leader implements paxos.Group.
func (r *replica) Leader() (paxos.ReplicaID, uint64, bool) {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	return r.leader, r.term, r.leader != 0 && !r.stopping
}

// Replica implements paxos.Group.
func (r *replica) Replica() paxos.ReplicaID { return r.id }

// Applied implements paxos.Group.
func (r *replica) Applied() paxos.Index {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	return r.applied
}

// TransferLeadership implements paxos.Group.
func (r *replica) TransferLeadership(to paxos.ReplicaID) error {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	if r.stopping {
		return fmt.Errorf("memory: transfer group %d: %w", r.group.id, paxos.ErrClosed)
	}
	g := r.group
	if g.leader != to && g.leader != 0 && g.reachLocked(g.leader, r.id) && g.canLeadLocked(to) {
		g.leadLocked(to)
	}
	return nil
}

// Membership implements paxos.Group.
func (r *replica) Membership(ctx context.Context) (paxos.Membership, error) {
	if err := r.ReadBarrier(ctx); err != nil {
		return paxos.Membership{}, err
	}
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	return r.group.membershipLocked(), nil
}

// AddReplica implements paxos.Group.
func (r *replica) AddReplica(ctx context.Context, id paxos.ReplicaID, target string, changeID uint64) error {
	return r.add(ctx, id, changeID, func(m *paxos.Membership) error {
		if t, ok := m.Learners[id]; ok && t != target {
			return paxos.ErrRejected
		}
		if _, ok := m.Voters[id]; ok {
			return paxos.ErrRejected
		}
		delete(m.Learners, id)
		m.Voters[id] = target
		return nil
	})
}

// AddLearner implements paxos.Group.
func (r *replica) AddLearner(ctx context.Context, id paxos.ReplicaID, target string, changeID uint64) error {
	return r.add(ctx, id, changeID, func(m *paxos.Membership) error {
		_, voter := m.Voters[id]
		_, learner := m.Learners[id]
		if voter || learner {
			return paxos.ErrRejected
		}
		m.Learners[id] = target
		return nil
	})
}

// RemoveReplica implements paxos.Group.
func (r *replica) RemoveReplica(ctx context.Context, id paxos.ReplicaID, changeID uint64) error {
	return r.change(ctx, id, changeID, func(m *paxos.Membership) error {
		if _, ok := m.Voters[id]; ok && len(m.Voters) == 1 {
			return paxos.ErrRejected
		}
		delete(m.Voters, id)
		delete(m.Learners, id)
		m.Removed = append(m.Removed, id)
		return nil
	})
}

// add is change for a new member. The log of a group that one voter has founded is cut
// before, so that nobody begins with its first entry.
func (r *replica) add(ctx context.Context, id paxos.ReplicaID, changeID uint64, f func(*paxos.Membership) error) error {
	if len(r.group.founders) == 1 {
		if err := r.CutFirst(ctx); err != nil {
			return err
		}
	}
	return r.change(ctx, id, changeID, f)
}

// CutFirst implements paxos.Cutter. The replicas of a group share their log here.
func (r *replica) CutFirst(ctx context.Context) error {
	if !r.whole() {
		return nil
	}
	if err := r.ReadBarrier(ctx); err != nil {
		return err
	}
	if err := r.host.net.Compact(r.group.id); err != nil {
		return fmt.Errorf("%w: %w", paxos.ErrNotSent, err)
	}
	return nil
}

// whole tells whether the group's log still begins with the first entry.
func (r *replica) whole() bool {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	return r.group.first == 1
}

// change commits a membership change and waits until it is applied here.
func (r *replica) change(ctx context.Context, id paxos.ReplicaID, changeID uint64, f func(*paxos.Membership) error) error {
	if err := r.commitChange(id, changeID, f); err != nil {
		return fmt.Errorf("memory: change members of group %d: %w", r.group.id, err)
	}
	if err := r.ReadBarrier(ctx); err != nil {
		return fmt.Errorf("%w: %v", paxos.ErrUnknownOutcome, err)
	}
	return nil
}

func (r *replica) commitChange(id paxos.ReplicaID, changeID uint64, f func(*paxos.Membership) error) error {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	g := r.group
	switch {
	case r.stopping:
		return paxos.ErrClosed
	case g.leader == 0 || !g.reachLocked(g.leader, r.id):
		return paxos.ErrNotSent
	case changeID != g.members.ChangeID || id == 0 || slices.Contains(g.members.Removed, id):
		return paxos.ErrRejected
	}
	next := g.membershipLocked()
	if err := f(&next); err != nil {
		return err
	}
	next.ChangeID = uint64(g.appendLocked(entry{hidden: true}))
	g.members = next
	for _, rep := range g.running {
		rep.host.notifyLocked(paxos.Event{Kind: paxos.MembershipChanged, Group: g.id})
	}
	g.settleLocked()
	return nil
}
