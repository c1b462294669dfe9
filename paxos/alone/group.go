package alone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/paxos"
)

// Machine is a state machine that can be asked to make durable what it applies in one go.
type Machine interface {
	paxos.StateMachine
	// ApplyDurably is Apply. The function that it returns waits until what was applied,
	// and all before it, survives a power cut.
	ApplyDurably(entries []paxos.Entry) (durable func() error, err error)
}

// Options are what a group needs to know of its surroundings.
type Options struct {
	// Target is the node target of the only member.
	Target string
	// Stopped, if set, is closed when the state machine's disk has failed, and Apply may
	// never return.
	Stopped <-chan struct{}
	// Failed is called, once, with an error of the state machine; it must not block. nil
	// panics.
	Failed func(error)
}

// term is the only one that there is.
const term = 1

// Group is the only replica of a group. It satisfies paxos.Group and paxos.Submitter.
type Group struct {
	id      paxos.GroupID
	replica paxos.ReplicaID
	options Options
	sm      paxos.StateMachine
	apply   func([]paxos.Entry) (durable func() error, err error)

	mu struct {
		sync.Mutex
		queue    []*proposal
		barriers []barrier // in the order of upTo
		stopped  bool
	}
	work  chan struct{} // room for one: there is something in the queue, or an end to it
	ended chan struct{} // nothing is applied or waited for any more

	applied atomic.Uint64 // index of the last entry that was applied
	begun   atomic.Uint64 // batches whose Apply has begun
	durable atomic.Uint64 // batches that survive a power cut

	breaking sync.Once
	broken   chan struct{} // closed when the state machine or its disk has failed
}

var (
	_ paxos.Group     = (*Group)(nil)
	_ paxos.Submitter = (*Group)(nil)
)

// proposal is a command on its way. result and err may be read when done is closed.
type proposal struct {
	command []byte
	result  []byte
	err     error
	done    chan struct{}
}

// batch is what is applied at once.
type batch struct {
	proposals []*proposal
	entries   []paxos.Entry
}

// barrier is somebody who waits until so many batches are durable.
type barrier struct {
	upTo uint64
	done chan struct{}
}

// Start opens the state machine and starts the group. The state machine is closed when the
// group is stopped, and also when Start fails after it was opened.
func Start(spec paxos.GroupSpec, sm paxos.StateMachine, o Options) (*Group, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if spec.Join || len(spec.Members) > 1 {
		return nil, fmt.Errorf("paxos: group %d is to have several members and no log", spec.Group)
	}
	g := &Group{id: spec.Group, replica: spec.Replica, options: o, sm: sm, apply: inTurn(sm),
		work: make(chan struct{}, 1), ended: make(chan struct{}), broken: make(chan struct{})}
	if m, ok := sm.(Machine); ok {
		g.apply = m.ApplyDurably
	}
	applied, err := sm.Open()
	if err != nil {
		return nil, fmt.Errorf("open state machine of group %d: %w", g.id, err)
	}
	g.applied.Store(uint64(applied))
	go g.applyQueue()
	go g.watch()
	return g, nil
}

// inTurn applies and syncs what can only do one at a time.
func inTurn(sm paxos.StateMachine) func([]paxos.Entry) (func() error, error) {
	return func(entries []paxos.Entry) (func() error, error) {
		if err := sm.Apply(entries); err != nil {
			return nil, err
		}
		return func() error { return nil }, sm.Sync()
	}
}

// Propose implements paxos.Group.
func (g *Group) Propose(ctx context.Context, command []byte) ([]byte, error) {
	return g.Submit(ctx, command)()
}

// Submit implements paxos.Submitter.
func (g *Group) Submit(ctx context.Context, command []byte) func() ([]byte, error) {
	p, err := g.enqueue(ctx, command)
	return func() ([]byte, error) {
		if err == nil {
			err = g.await(ctx, p)
		}
		if err != nil {
			return nil, fmt.Errorf("alone: propose to group %d: %w", g.id, err)
		}
		return p.result, nil
	}
}

func (g *Group) enqueue(ctx context.Context, command []byte) (*proposal, error) {
	switch {
	case len(command) == 0:
		panic("alone: empty command")
	case len(command) > paxos.MaxCommand:
		return nil, fmt.Errorf("%d bytes: %w", len(command), paxos.ErrTooLarge)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", paxos.ErrNotSent, ctx.Err())
	}
	p := &proposal{command: command, done: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.overLocked() {
		return nil, paxos.ErrClosed
	}
	g.mu.queue = append(g.mu.queue, p)
	if len(g.mu.queue) == 1 {
		g.signal()
	}
	return p, nil
}

// overLocked reports whether nothing is taken any more.
func (g *Group) overLocked() bool {
	return g.mu.stopped || isClosed(g.broken) || isClosed(g.options.Stopped)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (g *Group) signal() {
	select {
	case g.work <- struct{}{}:
	default:
	}
}

// bounded gives a context an end that has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, paxos.DefaultTimeout)
}

// await waits for what becomes of a proposal.
func (g *Group) await(ctx context.Context, p *proposal) error {
	select {
	case <-p.done:
		return p.err
	default:
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	var why error
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		why = ctx.Err()
	case <-g.broken:
		why = errBroken
	}
	if g.withdraw(p) {
		return fmt.Errorf("%w: %w", paxos.ErrNotSent, why)
	}
	return fmt.Errorf("%w: %w", paxos.ErrUnknownOutcome, why)
}

// errBroken is why a group does nothing any more.
var errBroken = errors.New("the state machine or its disk has failed")

// withdraw takes a proposal out of the queue; false if it is not there any more.
func (g *Group) withdraw(p *proposal) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.mu.queue, p)
	if i >= 0 {
		g.mu.queue = slices.Delete(g.mu.queue, i, i+1)
	}
	return i >= 0
}

// ReadBarrier implements paxos.Group: what could be seen of the state machine when it was
// called survives a power cut when it returns nil.
func (g *Group) ReadBarrier(ctx context.Context) error {
	if err := g.barrier(ctx); err != nil {
		return fmt.Errorf("alone: read barrier of group %d: %w", g.id, err)
	}
	return nil
}

func (g *Group) barrier(ctx context.Context) error {
	upTo := g.begun.Load() // the mutex is taken later: what has begun before the call counts
	g.mu.Lock()
	if g.overLocked() {
		g.mu.Unlock()
		return paxos.ErrClosed
	}
	if g.durable.Load() >= upTo {
		g.mu.Unlock()
		return nil
	}
	b := barrier{upTo, make(chan struct{})}
	g.mu.barriers = append(g.mu.barriers, b)
	g.mu.Unlock()
	ctx, cancel := bounded(ctx)
	defer cancel()
	var err error
	select {
	case <-b.done: // also when the group is stopped: what is under way comes to its end
		return nil
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", paxos.ErrNotSent, ctx.Err())
	case <-g.broken:
		err = fmt.Errorf("%w: %w", paxos.ErrClosed, errBroken)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.barriers = slices.DeleteFunc(g.mu.barriers, func(other barrier) bool { return other == b })
	return err
}

// Leader implements paxos.Group.
func (g *Group) Leader() (paxos.ReplicaID, uint64, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.overLocked() {
		return 0, 0, false
	}
	return g.replica, term, true
}

// Replica implements paxos.Group.
func (g *Group) Replica() paxos.ReplicaID { return g.replica }

// Applied implements paxos.Group.
func (g *Group) Applied() paxos.Index { return paxos.Index(g.applied.Load()) }

// Membership implements paxos.Group.
func (g *Group) Membership(ctx context.Context) (paxos.Membership, error) {
	if err := g.ReadBarrier(ctx); err != nil {
		return paxos.Membership{}, err
	}
	// The change id is 0: older than any of a group that takes this one's place.
	return paxos.Membership{Voters: map[paxos.ReplicaID]string{g.replica: g.options.Target}}, nil
}

// TransferLeadership implements paxos.Group. It comes to nothing.
func (g *Group) TransferLeadership(paxos.ReplicaID) error { return nil }

// errNobodyElse is why the members do not change.
var errNobodyElse = errors.New("the group has no log that another member could have")

func (g *Group) refuse() error {
	return fmt.Errorf("alone: change the members of group %d: %w: %w", g.id, paxos.ErrRejected, errNobodyElse)
}

// AddReplica implements paxos.Group. It is refused.
func (g *Group) AddReplica(context.Context, paxos.ReplicaID, string, uint64) error {
	return g.refuse()
}

// AddLearner implements paxos.Group. It is refused.
func (g *Group) AddLearner(context.Context, paxos.ReplicaID, string, uint64) error {
	return g.refuse()
}

// RemoveReplica implements paxos.Group. It is refused.
func (g *Group) RemoveReplica(context.Context, paxos.ReplicaID, uint64) error { return g.refuse() }
