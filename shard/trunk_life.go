package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/alone"
	"github.com/rowlockdb/rowlock/ring"
)

// Groups of trunks, which no shard has. Groups are applied by the worker that their number
// falls to, modulo two, three or four: never the one of the system shard, so that neither
// waits for the other.
const (
	trunkGroup   = paxos.GroupID(TrunkSpace + 2)
	companyGroup = trunkGroup + 12 // of the trunk with members
)

// trunkLife is a trunk that runs: the data shards of this node share its log. It is one of
// two. That of a node that is alone has no members and no log (alone.Group; at version 8 of
// the cluster a log). That with members is a group like others, in which this node may be
// the only voter.
//
// The shards leave a trunk all together and for ever, in these steps:
//
//  1. The end is proposed (trunkEnd). What it applies is durable before its result is
//     given: what the shards' spaces hold from then on is where the logs after it begin.
//  2. They are given what comes after: each a group of its own, with the machine as it is,
//     or all the trunk with members.
//  3. They go over, when that has applied an entry.
//  4. The trunk is stopped, and its space is removed.
//
// The shards leave the lone node's trunk before any of them gets a second member, for a
// group in which this node is the only voter. They leave the one with members because the
// cluster has grown, or is about to (trunk_part.go).
//
// A node that ends between any two of these steps goes on where it was (Node.resume): the
// trunk's space says that there is a trunk and whether the shards have left it for what, the
// stored groups which of them exist, and as long as the space is there, nobody is added to
// what comes after.
type trunkLife struct {
	node    *Node
	ring    *ring.Ring
	trunk   *Trunk
	stored  storedTrunk
	company bool         // it is the trunk with members
	group   paxos.Group  // of the trunk; set before a lane is used
	logless *alone.Group // the same; nil: it has a log
	replica paxos.ReplicaID
	lanes   []*lane // by shard; none if the shards had left before this process began

	// changes are those of the trunk's members; of the lone node's for the one that follows.
	changes changes

	// next is the trunk with members that the shards of a lone node go over to, until it
	// takes this one's place.
	next atomic.Pointer[trunkLife]
	// apart: the shards have gone over to groups of their own, whose logs have lost their
	// first entries.
	apart atomic.Bool
	// apartAtOnce: the shards of a lone node are to be spread over nodes, and need no trunk
	// with members.
	apartAtOnce atomic.Bool
	// ready is closed when all of the above is in place; of the trunk with members, which
	// may apply its end while it is started.
	ready chan struct{}

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

// applied implements sharedLog.
func (l *trunkLife) applied() (uint64, error) {
	snap := l.trunk.space.Snapshot()
	defer snap.Close()
	applied, _, err := snap.Applied()
	return applied.Index, err
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
// when there is no trunk any more. That with members must have been left already.
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

// run leaves, and does not give up before the node is closed: from the end on the shards
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
	if l.company {
		return l.part(ctx)
	}
	if !l.trunk.Left() {
		bounded, cancel := context.WithTimeout(ctx, proposeTimeout)
		defer cancel()
		if _, err := l.group.Propose(bounded, encodeEnd(l.end())); err != nil {
			return err
		}
	}
	if err := l.goOver(ctx); err != nil {
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
	if err := l.node.dropTrunk(l.stored); err != nil {
		return err
	}
	next := l.next.Load()
	l.node.trunk.Store(next)
	if next != nil {
		close(next.ready)
	}
	return nil
}

// end is what the shards of a lone node leave its trunk for.
func (l *trunkLife) end() trunkEnd {
	if l.node.Active(VersionCompany) && !l.apartAtOnce.Load() {
		return trunkEnd{kind: trunkCompany}
	}
	return trunkEnd{kind: trunkLeave}
}

// goOver gives the shards of a lone node what comes after the trunk.
func (l *trunkLife) goOver(ctx context.Context) error {
	if l.trunk.leftFor().kind == trunkCompany {
		return l.beginCompany(ctx)
	}
	return atOnce(l.lanes, func(lane *lane) error { return lane.begin(ctx, l.node.founder(groupOf(lane.shard))) })
}

// start starts the trunk of a lone node as what is stored of it.
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
	switch {
	case l.logless != nil:
		err = l.logless.Stop()
	case l.company:
		err = l.node.c.Host.Stop(companyGroup)
	default:
		err = l.node.c.Host.Stop(trunkGroup)
	}
	if err != nil && !errors.Is(err, paxos.ErrNotRunning) {
		return fmt.Errorf("stop the trunk: %w", err)
	}
	return nil
}

// stopAll stops the trunk and the one that was about to take its place.
func (l *trunkLife) stopAll() error {
	err := l.stop()
	if next := l.next.Load(); next != nil && next != l.node.trunk.Load() {
		next.close()
		err = errors.Join(err, next.stop())
	}
	return err
}

// carries reports whether a group is the trunk's.
func (l *trunkLife) carries(g paxos.GroupID) bool {
	if l.company {
		return g == companyGroup
	}
	return g == trunkGroup
}

// settleTrunk ends a lone node's trunk that was left by the last entries of its log, which
// are applied only after the start.
func (n *Node) settleTrunk(ctx context.Context) error {
	l := n.trunk.Load()
	if l == nil || l.company {
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
