package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/alone"
)

// trunkGroup is the group of the trunk, which no shard has. Groups are applied by the
// worker that their number falls to, modulo two, three or four: never the one of the system
// shard, so that neither waits for the other.
const trunkGroup = paxos.GroupID(TrunkSpace + 2)

// trunkLife is a trunk that runs: the shards of a node that is alone share its log. They
// leave it all together and for ever, before any of them gets a second member:
//
//  1. leave is proposed. What it applies is durable before its result is given: what the
//     shards' spaces hold from then on is where logs of their own begin.
//  2. Each shard is given a group of its own, in which it is the only voter, with the
//     machine as it is.
//  3. The shards go over to them, each when its own group has applied an entry.
//  4. The trunk is stopped, and its space is removed.
//
// A node that ends between any two of these steps goes on where it was (Node.resume): the
// trunk's space says that there is a trunk and whether the shards have left it, the stored
// groups which of them have one of their own, and as long as the space is there, there are
// no other members.
type trunkLife struct {
	node    *Node
	trunk   *Trunk
	stored  storedTrunk
	group   paxos.Group  // of the trunk; set before a lane is used
	logless *alone.Group // the same; nil: it has a log
	lanes   []*lane      // by shard

	mu struct {
		sync.Mutex
		gone   chan struct{} // nil: the shards need not leave. Closed after step 4
		closed bool
	}
	tasks sync.WaitGroup // raised under the mutex, before closed
}

var _ sharedLog = (*trunkLife)(nil)

// submitJoint implements sharedLog.
func (l *trunkLife) submitJoint(ctx context.Context, parts []shardCommand) func() ([][]byte, error) {
	wait := submit(ctx, l.group, appendJoint(make([]byte, 0, jointSize(parts)), parts))
	return func() ([][]byte, error) {
		b, err := wait()
		if errors.Is(err, paxos.ErrClosed) && l.passed(nil, err) {
			return leftResults(len(parts)), nil
		}
		if err != nil {
			return nil, err
		}
		results, err := splitResults(b, len(parts))
		if err != nil {
			panic(fmt.Sprintf("shard: results of a joint entry: %v", err))
		}
		l.passed(results[0], nil)
		return results, nil
	}
}

// leftResults are the results of parts that came after leave.
func leftResults(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = (&Result{Verdict: VerdictLeft}).AppendBinary(nil)
	}
	return all
}

// passed reports that the shards had left before a command came to the trunk, so that it
// was not applied there and never will be. Whoever notices that sees to it that the
// leaving comes to its end: who proposed leave may have given up waiting for its result.
func (l *trunkLife) passed(result []byte, err error) bool {
	switch {
	case err == nil && hasLeft(result):
		_, _ = l.leave() // a node that is being closed goes on at its next start
		return true
	case err != nil && errors.Is(err, paxos.ErrClosed):
		return l.trunk.Left() // it is stopped when everybody has left
	}
	return false
}

// leave begins to leave the trunk, if nobody has yet, and returns a channel that is closed
// when there is no trunk any more.
func (l *trunkLife) leave() (gone <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.gone == nil {
		if l.mu.closed {
			return nil, paxos.ErrClosed
		}
		l.mu.gone = make(chan struct{})
		l.tasks.Go(l.run)
	}
	return l.mu.gone, nil
}

// close waits for what is under way; the node's life has ended.
func (l *trunkLife) close() {
	l.mu.Lock()
	l.mu.closed = true
	l.mu.Unlock()
	l.tasks.Wait()
}

// run leaves, and does not give up before the node is closed: from leave on the shards
// have no other log than those that they are given here.
func (l *trunkLife) run() {
	log, ctx := l.node.c.Logger, l.node.life
	log.Info("the shards leave the trunk")
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := l.goOn(ctx)
		if err == nil {
			log.Info("the shards have left the trunk")
			close(l.mu.gone)
			return
		}
		if pause(ctx, ctx, wait) != nil {
			return
		}
		log.Warn("leave the trunk", "error", err)
	}
}

// goOn takes the steps that are left.
func (l *trunkLife) goOn(ctx context.Context) error {
	if !l.trunk.Left() {
		bounded, cancel := context.WithTimeout(ctx, proposeTimeout)
		defer cancel()
		if _, err := l.group.Propose(bounded, encodeLeave()); err != nil {
			return err
		}
	}
	if err := atOnce(l.lanes, func(l *lane) error { return l.begin(ctx) }); err != nil {
		return err
	}
	// What was sent before the lanes went over is answered first. Who is too late for
	// that does not learn what became of it, and proposes it again.
	if err := l.group.ReadBarrier(ctx); err != nil && !errors.Is(err, paxos.ErrClosed) {
		return err
	}
	if err := l.stop(); err != nil {
		return err
	}
	return l.node.dropTrunk(l.stored)
}

// start starts the trunk as what is stored of it.
func (l *trunkLife) start() (err error) {
	n := l.node
	if l.stored.log != nil {
		l.group, err = n.c.Host.Start(n.spec(*l.stored.log, l.stored.fresh), l.trunk)
		return err
	}
	l.trunk.WithoutLog()
	o := alone.Options{Target: n.c.Host.ID(), Stopped: n.c.Engine.Stopped(), Failed: n.c.Failed}
	if l.logless, err = alone.Start(n.founder(trunkGroup), l.trunk, o); err == nil {
		l.group = l.logless
	}
	return err
}

// stop stops the trunk. It may be called twice.
func (l *trunkLife) stop() error {
	var err error
	if l.logless != nil {
		err = l.logless.Stop()
	} else {
		err = l.node.c.Host.Stop(trunkGroup)
	}
	if err != nil && !errors.Is(err, paxos.ErrNotRunning) {
		return fmt.Errorf("stop the trunk: %w", err)
	}
	return nil
}

// settleTrunk ends a trunk that was left by the last entries of its log, which are applied
// only after the start.
func (n *Node) settleTrunk(ctx context.Context) error {
	l := n.trunk.Load()
	if l == nil {
		return nil
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := l.group.ReadBarrier(ctx)
		if l.trunk.Left() { // it may be gone already: a command that came after leave tells, too
			_, err = l.lanes[0].leave(ctx)
			return err
		}
		if err == nil {
			return nil
		}
		// A long log takes longer than a barrier waits.
		if late := pause(ctx, n.life, wait); late != nil || errors.Is(err, paxos.ErrClosed) {
			return fmt.Errorf("apply the log of the trunk: %w", errors.Join(late, err))
		}
	}
}
