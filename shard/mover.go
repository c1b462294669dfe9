package shard

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
)

const (
	// moveEvery is the pause between two looks at what is to be moved, stepEvery
	// that after a step.
	moveEvery = 500 * time.Millisecond
	stepEvery = 50 * time.Millisecond
	// stepPatience bounds one step of a move; it is planned again. A shard whose step
	// has failed lets the others go first for stepAgain. A hand-over that fails again
	// waits twice as long, up to handOverAgain: while it tries, nobody is served.
	stepPatience  = 15 * time.Second
	stepAgain     = 2 * time.Second
	handOverAgain = 2 * time.Minute
)

// DefaultDeadAfter is how long a node must be silent before its replicas are made
// anew elsewhere.
const DefaultDeadAfter = 10 * time.Minute

// mover is the memory of the system shard's owner about the steps that it has sent
// off. A step that hangs, because a node does or a shard has no majority, holds up its
// own shard and nobody else.
type mover struct {
	sync.Mutex
	busy  map[ID]moveStep
	later map[ID]time.Time // not before
	vain  map[ID]int       // hand-overs that failed, one after the other
	ended chan struct{}    // a step has: there may be another to take
}

func newMover() *mover {
	return &mover{busy: map[ID]moveStep{}, later: map[ID]time.Time{}, vain: map[ID]int{}, ended: make(chan struct{}, 1)}
}

// idle copies the steps under way and tells which shards may take another at a time.
func (m *mover) idle(now time.Time) (busy map[ID]moveStep, free func(ID) bool) {
	m.Lock()
	defer m.Unlock()
	maps.DeleteFunc(m.later, func(_ ID, t time.Time) bool { return !now.Before(t) })
	busy, later := maps.Clone(m.busy), maps.Clone(m.later)
	return busy, func(s ID) bool {
		_, under := busy[s]
		_, put := later[s]
		return !under && !put
	}
}

func (m *mover) begin(s moveStep) {
	m.Lock()
	defer m.Unlock()
	m.busy[s.shard] = s
}

// end says what became of a step; a failure is the step's own, not that this node is
// being closed.
func (m *mover) end(s moveStep, failed bool, now time.Time) {
	m.Lock()
	delete(m.busy, s.shard)
	switch {
	case failed && s.is(SeatOwner):
		m.later[s.shard] = now.Add(min(stepAgain<<min(m.vain[s.shard], 30), handOverAgain))
		m.vain[s.shard]++
	case failed:
		m.later[s.shard] = now.Add(stepAgain)
	case s.is(SeatOwner):
		delete(m.vain, s.shard)
	}
	m.Unlock()
	select {
	case m.ended <- struct{}{}:
	default:
	}
}

// moveReplicas sends steps of moves off, if this node owns the system shard, until it
// is time to look again anyway. The plan is made anew each time from what the groups
// say.
func (n *Node) moveReplicas(ctx context.Context) {
	look := time.NewTimer(moveEvery)
	defer look.Stop()
	for n.takeSteps(ctx) {
		select {
		case <-n.mover.ended:
		case <-look.C:
			return
		case <-ctx.Done():
			return
		}
		if pause(ctx, n.life, stepEvery) != nil {
			return
		}
	}
}

// takeSteps sends the next step of every move off and reports whether any is under way.
func (n *Node) takeSteps(ctx context.Context) bool {
	r := n.replica(System)
	if r == nil || r.serving.Load() == nil {
		return false
	}
	steps, err := n.planMoves(ctx, r)
	if err != nil {
		n.c.Logger.Debug("plan moves", "error", err)
		return false
	}
	steps = slices.DeleteFunc(steps, func(s moveStep) bool { return s.seat == nil && s.start == nil })
	if len(steps) > 0 {
		// A planner that was deposed does not know what the next has done since.
		t, err := r.current()
		if err != nil || r.prove(ctx, t) != nil {
			return false
		}
	}
	for _, step := range steps {
		n.mover.begin(step)
		n.sweeps.Go(func() { n.carryOut(ctx, step) })
	}
	busy, _ := n.mover.idle(n.c.Clock())
	return len(busy) > 0
}

func (n *Node) carryOut(ctx context.Context, step moveStep) {
	bounded, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	err := n.takeStep(bounded, step)
	failed := err != nil && ctx.Err() == nil
	switch {
	case err == nil:
		n.c.Logger.Info("move", "step", step.String())
	case failed:
		n.c.Logger.Warn("move", "step", step.String(), "error", err)
	}
	n.mover.end(step, failed, n.c.Clock())
}

func (n *Node) planMoves(ctx context.Context, r *Replica) ([]moveStep, error) {
	g, now, err := n.registrarOf(ctx, r)
	if err != nil {
		return nil, err
	}
	defer g.Unlock()
	state, err := n.clusterState(r, g, now)
	if err != nil || len(state.Members) == 0 {
		return nil, err
	}
	busy, free := n.mover.idle(now)
	steps := movePlan(state, func(node uint64) bool { return g.silence(node, now) > n.c.DeadAfter }, busy, free, n.survey.aimed(state, now))
	moves := make(map[ID]Move, len(steps))
	for i := range steps {
		s := &steps[i]
		s.move.Since = now.UnixMilli()
		if before, ok := g.moves[s.shard]; ok && before.To == s.move.To {
			s.move.Since = before.Since
		}
		moves[s.shard] = s.move
	}
	for shard, s := range busy {
		moves[shard] = s.move
	}
	g.moves = moves
	return steps, nil
}

// takeStep takes one step; whoever did it says what it came to, so that the next
// plan need not wait for a heartbeat.
func (n *Node) takeStep(ctx context.Context, s moveStep) error {
	report := &HeartbeatRequest{}
	var err error
	if s.start != nil {
		err = n.router.callNode(ctx, nodeAddr(s.node), s.shard, methodStart, s.start, report)
	} else {
		err = n.router.call(ctx, s.shard, methodSeat, s.seat, report)
	}
	if err != nil {
		return err
	}
	system := n.replica(System)
	if system == nil {
		return nil
	}
	g, _, err := n.registrarOf(ctx, system)
	if err != nil {
		return nil // somebody else plans now
	}
	defer g.Unlock()
	g.tell(report)
	return nil
}

// seat changes the replicas of a shard that this node owns. Each change may be
// asked for again. One that was computed from other members is refused: who asks is
// late, or was deposed, and the next picture tells it.
func (n *Node) seat(ctx context.Context, r *Replica, q *SeatRequest) error {
	if _, err := r.current(); err != nil {
		return err
	}
	if err := n.settled(r.c.Shard); err != nil {
		return err
	}
	if q.Shared != n.sharedHere(r.c.Shard) {
		return &Error{Code: Refused, Shard: r.c.Shard, Detail: "the shard is in another log by now"}
	}
	unseat := func() {
		for _, s := range r.company() {
			s.unseat()
		}
	}
	unseat()
	defer unseat()
	switch q.Change {
	case SeatPart:
		return n.endTrunk(ctx, r, q)
	case SeatLearner:
		return r.seatLearner(ctx, q)
	case SeatVoter:
		return r.addVoter(ctx, q.Replica, q.Host, q.ChangeID)
	case SeatRemove:
		return r.removeReplica(ctx, q.Replica, q.ChangeID)
	default:
		m, err := r.c.Group.Membership(ctx)
		if err != nil {
			return fmt.Errorf("members of shard %d: %w", r.c.Shard, err)
		}
		if m.ChangeID != q.ChangeID {
			return r.membersChanged(q.ChangeID, m)
		}
		// A shard that is being handed over serves nobody: not to a node that is
		// down, and not to one that has just died.
		if err := n.awake(ctx, q.Node); err != nil {
			return err
		}
		err = n.HandOver(ctx, r.c.Shard, nodeAddr(q.Node))
		if CodeOf(err) == NotOwner {
			// It was this one that froze the shard for it: not to be tried again at
			// once, as what meets no owner is.
			err = &Error{Code: Unavailable, Shard: r.c.Shard, Detail: err.Error()}
		}
		return err
	}
}

// awake returns nil if a node answers at once.
func (n *Node) awake(ctx context.Context, node uint64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return n.router.callNode(ctx, nodeAddr(node), System, methodState, &StateRequest{}, &ClusterState{})
}

// seatLearner adds a learner under a number that was never used, unless the host
// has a replica already.
func (r *Replica) seatLearner(ctx context.Context, q *SeatRequest) error {
	m, err := r.c.Group.Membership(ctx)
	if err != nil {
		return fmt.Errorf("members of shard %d: %w", r.c.Shard, err)
	}
	var highest paxos.ReplicaID
	for _, members := range []map[paxos.ReplicaID]string{m.Voters, m.Learners} {
		for id, at := range members {
			if at == q.Host {
				return nil
			}
			highest = max(highest, id)
		}
	}
	for _, id := range m.Removed {
		highest = max(highest, id)
	}
	return r.addLearner(ctx, highest+1, q.Host, q.ChangeID)
}
