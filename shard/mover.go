package shard

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
)

const (
	// moveEvery is the pause between two looks at what is to be moved, stepEvery
	// that after a step.
	moveEvery = 500 * time.Millisecond
	stepEvery = 50 * time.Millisecond
	// stepPatience bounds one step of a move; it is planned again.
	stepPatience = 15 * time.Second
)

// DefaultDeadAfter is how long a node must be silent before its replicas are made
// anew elsewhere.
const DefaultDeadAfter = 10 * time.Minute

// moveReplicas takes steps of moves until there is none to take, if this node owns
// the system shard. The plan is made anew each time from what the groups say.
func (n *Node) moveReplicas(ctx context.Context) {
	for n.takeSteps(ctx) {
		if pause(ctx, n.life, stepEvery) != nil {
			return
		}
	}
}

// takeSteps takes the next step of every move and reports whether there was one.
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
	if len(steps) == 0 {
		return false
	}
	// A planner that was deposed does not know what the next has done since.
	t, err := r.current()
	if err != nil || r.prove(ctx, t) != nil {
		return false
	}
	var taken atomic.Bool
	var wg sync.WaitGroup
	for _, step := range steps {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, stepPatience)
			defer cancel()
			err := n.takeStep(ctx, step)
			if err != nil && ctx.Err() == nil {
				n.c.Logger.Warn("move", "step", step.String(), "error", err)
			} else if err == nil {
				taken.Store(true)
				n.c.Logger.Info("move", "step", step.String())
			}
		})
	}
	wg.Wait()
	return taken.Load()
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
	steps := movePlan(state, func(node uint64) bool { return g.silence(node, now) > n.c.DeadAfter })
	moves := make(map[ID]Move, len(steps))
	for _, s := range steps {
		s.move.Since = now.UnixMilli()
		if before, ok := g.moves[s.shard]; ok && before.To == s.move.To {
			s.move.Since = before.Since
		}
		moves[s.shard] = s.move
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
// asked for again.
func (n *Node) seat(ctx context.Context, r *Replica, q *SeatRequest) error {
	if _, err := r.current(); err != nil {
		return err
	}
	r.seated.Store(nil)
	defer r.seated.Store(nil)
	switch q.Change {
	case SeatLearner:
		return r.seatLearner(ctx, q.Host)
	case SeatVoter:
		return r.AddVoter(ctx, q.Replica, q.Host)
	case SeatRemove:
		return r.RemoveReplica(ctx, q.Replica)
	default:
		// A shard that is being handed over serves nobody: not to a node that is
		// down, and not to one that has just died.
		if err := n.awake(ctx, q.Node); err != nil {
			return err
		}
		return n.HandOver(ctx, r.c.Shard, nodeAddr(q.Node))
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
func (r *Replica) seatLearner(ctx context.Context, host string) error {
	m, err := r.c.Group.Membership(ctx)
	if err != nil {
		return fmt.Errorf("members of shard %d: %w", r.c.Shard, err)
	}
	var highest paxos.ReplicaID
	for _, members := range []map[paxos.ReplicaID]string{m.Voters, m.Learners} {
		for id, at := range members {
			if at == host {
				return nil
			}
			highest = max(highest, id)
		}
	}
	for _, id := range m.Removed {
		highest = max(highest, id)
	}
	return r.AddLearner(ctx, highest+1, host)
}
