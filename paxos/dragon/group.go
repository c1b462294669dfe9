package dragon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/rowlockdb/rowlock/paxos"
)

// group implements paxos.Group.
type group struct {
	host    *host
	id      paxos.GroupID
	replica paxos.ReplicaID
	machine *machine
	user    dragonboat.INodeUser
	session *client.Session

	started   chan struct{} // Start is over, one way or the other
	ready     chan struct{} // a leader has been known since the start
	readyOnce sync.Once
	stopped   chan struct{} // Stop was called
	stopOnce  sync.Once
	cutting   chan struct{} // holds one token while the log is being cut

	// restored is closed, and replaced, when a snapshot replaces the state.
	restored atomic.Pointer[chan struct{}]

	begunLater bool // at its start the log began behind a snapshot; written by start
}

var (
	_ paxos.Group     = (*group)(nil)
	_ paxos.Submitter = (*group)(nil)
	_ paxos.Cutter    = (*group)(nil)
)

func newGroup(h *host, spec paxos.GroupSpec) *group {
	g := &group{
		host:    h,
		id:      spec.Group,
		replica: spec.Replica,
		started: make(chan struct{}),
		ready:   make(chan struct{}),
		stopped: make(chan struct{}),
		cutting: make(chan struct{}, 1),
	}
	c := make(chan struct{})
	g.restored.Store(&c)
	return g
}

// start opens the state machine, compares it with the log and starts the
// replica.
func (g *group) start(spec paxos.GroupSpec, sm paxos.StateMachine) error {
	defer close(g.started)
	applied, err := sm.Open()
	if err != nil {
		return fmt.Errorf("open state machine: %w", err)
	}
	if err := g.preflight(applied); err != nil {
		return errors.Join(err, sm.Close())
	}
	m := &machine{
		group:   g.id,
		sm:      sm,
		opened:  applied,
		logMax:  g.host.options.LogBytes,
		full:    g.cutLog,
		restore: g.noteRestored,
		log:     g.host.log,
		failure: g.host.failure,
		closed:  make(chan struct{}),
	}
	m.applied.Store(uint64(applied))
	g.machine = m
	if spec.Restart {
		if spec.Learner, err = g.wasLearner(); err != nil {
			return errors.Join(err, sm.Close())
		}
	}
	members := make(map[uint64]dragonboat.Target, len(spec.Members))
	if !spec.Join {
		for r, target := range spec.Members {
			members[uint64(r)] = target
		}
	}
	nh := g.host.nh
	if err := g.startReplica(members, spec, m); err != nil {
		g.machine = nil
		return errors.Join(err, sm.Close())
	}
	g.session = nh.GetNoOPSession(uint64(g.id))
	user, err := nh.GetNodeUser(uint64(g.id))
	if err != nil {
		// The replica applied its own removal before it was even up.
		<-m.closed
		if errors.Is(err, dragonboat.ErrShardNotFound) && m.err == nil {
			return fmt.Errorf("replica %d: %w", spec.Replica, paxos.ErrRemoved)
		}
		return errors.Join(err, m.err)
	}
	g.user = user
	return nil
}

// startReplica starts the replica. Dragonboat lets go of a replica a moment
// after it has closed its state machine, so a start that follows a stop may
// have to wait.
func (g *group) startReplica(members map[uint64]dragonboat.Target, spec paxos.GroupSpec, m *machine) error {
	deadline := time.Now().Add(paxos.DefaultTimeout)
	for {
		err := g.host.nh.StartOnDiskReplica(members, spec.Join, factory(m), g.config(spec))
		if !errors.Is(err, dragonboat.ErrShardAlreadyExist) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// preflight refuses a state machine that does not fit the log, before
// Dragonboat panics over it.
func (g *group) preflight(applied paxos.Index) error {
	ss, err := g.host.store.GetSnapshot(uint64(g.id), uint64(g.replica))
	if err != nil {
		return err
	}
	g.begunLater = ss.Index > 0
	if ss.OnDiskIndex > uint64(applied) && !g.restorable(ss) {
		return fmt.Errorf("state machine is at index %d, but had promised %d, and the log before that is gone: %w",
			applied, ss.OnDiskIndex, paxos.ErrBehind)
	}
	if applied == 0 {
		return nil
	}
	last := ss.Index
	rs, err := g.host.store.ReadRaftState(uint64(g.id), uint64(g.replica), ss.Index)
	if err != nil && !errors.Is(err, raftio.ErrNoSavedLog) {
		return err
	}
	if rs.EntryCount > 0 {
		last = rs.FirstIndex + rs.EntryCount - 1
	}
	if uint64(applied) > last {
		return fmt.Errorf("state machine is at index %d, its log ends at %d: they are not of the same replica: %w",
			applied, last, paxos.ErrForeign)
	}
	return nil
}

// wasLearner tells how a replica that ran before has to be started: as what the
// newest snapshot says, or, without one, as what it was when its log began.
// Changes in the log after that are applied again.
func (g *group) wasLearner() (bool, error) {
	ss, err := g.host.store.GetSnapshot(uint64(g.id), uint64(g.replica))
	if err != nil {
		return false, err
	}
	if ss.Index > 0 {
		_, learner := ss.Membership.NonVotings[uint64(g.replica)]
		return learner, nil
	}
	b, err := g.host.store.GetBootstrapInfo(uint64(g.id), uint64(g.replica))
	if err != nil {
		return false, err
	}
	return b.Join, nil
}

// restorable tells whether the snapshot of a record is a file with the whole
// state in it: one that was received from another replica, where the process
// ended before the state machine had restored it. Dragonboat restores it at
// the start. The snapshots that a replica makes for itself hold no state, and
// what was received is emptied once it has been restored and synced.
func (g *group) restorable(ss raftpb.Snapshot) bool {
	if ss.Dummy || ss.Witness {
		return false
	}
	size, err := g.host.snapshotSize(ss.Filepath)
	return err == nil && size > emptiedSnapshot
}

// config returns Dragonboat's settings for the group. PreVote and CheckQuorum
// must be the same on all replicas for ever.
func (g *group) config(spec paxos.GroupSpec) config.Config {
	o := g.host.options
	alone := !spec.Join && len(spec.Members) == 1 || spec.Restart && g.foundedAlone()
	election, overhead := uint64(peerElection), uint64(20_000)
	if alone {
		// Nobody lags behind a single voter, but it may get company.
		election, overhead = soloElection, 1_000
	}
	if o.Election != 0 {
		election = o.Election
	}
	if o.Overhead != 0 {
		overhead = o.Overhead
	}
	return config.Config{
		ShardID:             uint64(g.id),
		ReplicaID:           uint64(g.replica),
		CheckQuorum:         true,
		PreVote:             true,
		OrderedConfigChange: true,
		ElectionRTT:         election,
		HeartbeatRTT:        max(1, election/5),
		SnapshotEntries:     o.SnapshotEntries,
		CompactionOverhead:  overhead,
		MaxInMemLogSize:     maxUnapplied,
		IsNonVoting:         spec.Learner,
		WaitReady:           true,
	}
}

// foundedAlone tells whether the replica was the only founding voter.
func (g *group) foundedAlone() bool {
	b, err := g.host.store.GetBootstrapInfo(uint64(g.id), uint64(g.replica))
	return err == nil && !b.Join && len(b.Addresses) == 1
}

func (g *group) markReady() { g.readyOnce.Do(func() { close(g.ready) }) }

// noteRestored ends the proposals that are under way: the entries of some of
// them are inside the snapshot, and nobody will ever hear of those again.
func (g *group) noteRestored() {
	// The record of the snapshot is stored before it is restored, and says what is in it.
	if ss, err := g.host.store.GetSnapshot(uint64(g.id), uint64(g.replica)); err == nil {
		g.machine.reached(ss.OnDiskIndex)
	}
	next := make(chan struct{})
	close(*g.restored.Swap(&next))
	g.host.events.post(paxos.Event{Kind: paxos.Restored, Group: g.id})
}

// cutLog asks for a snapshot, which lets Dragonboat drop the log before it,
// because many bytes were written since the last. One request at a time.
func (g *group) cutLog() {
	select {
	case g.cutting <- struct{}{}:
	default:
		return
	}
	h := g.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.closed {
		return
	}
	h.cuts.Go(func() {
		defer func() { <-g.cutting }()
		// No entries stay behind: they may be large. A replica that lags gets
		// the snapshot.
		// The first goes in any case: cutFirst could not cut at this very index again.
		keepFrom := max(1, int64(g.Applied())-16)
		opt := dragonboat.SnapshotOption{OverrideCompactionOverhead: true, CompactionIndex: uint64(keepFrom)}
		rs, err := h.nh.RequestSnapshot(uint64(g.id), opt, paxos.DefaultTimeout)
		if err != nil {
			h.log.Debug("log not cut", "group", g.id, "error", err)
			return
		}
		select {
		case <-rs.AppliedC():
			rs.Release()
		case <-g.stopped:
		}
	})
}

// stop ends the replica and waits until its state machine is closed.
func (g *group) stop() error {
	if g.machine == nil {
		return nil // its start failed
	}
	g.stopOnce.Do(func() {
		close(g.stopped)
		err := g.host.nh.StopShard(uint64(g.id))
		if err != nil && !errors.Is(err, dragonboat.ErrShardNotFound) {
			g.host.log.Error("group does not stop", "group", g.id, "error", err)
		}
	})
	select {
	case <-g.machine.closed:
	case <-g.host.failure.done:
		return fmt.Errorf("dragon: stop group %d: the host has failed: %w", g.id, g.host.failure.err)
	}
	if g.machine.err != nil {
		return fmt.Errorf("dragon: close state machine of group %d: %w", g.id, g.machine.err)
	}
	return nil
}

// await waits until a leader has been known, which is at once but for the
// first moments after a start.
func (g *group) await(ctx context.Context) error {
	select {
	case <-g.ready:
		return nil
	default:
	}
	timer := time.NewTimer(remaining(ctx))
	defer timer.Stop()
	select {
	case <-g.ready:
		return nil
	case <-g.stopped:
		return paxos.ErrClosed
	case <-g.host.failure.done:
		return paxos.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", paxos.ErrNotSent, ctx.Err())
	case <-timer.C:
		return fmt.Errorf("%w: no leader", paxos.ErrNotSent)
	}
}

// remaining returns the time that a call has.
func remaining(ctx context.Context) time.Duration {
	d, ok := ctx.Deadline()
	if !ok {
		return paxos.DefaultTimeout
	}
	return time.Until(d)
}

// ticks rounds a timeout up to what Dragonboat accepts.
func (g *group) ticks(d time.Duration) time.Duration {
	return max(d, 0) + 2*g.host.options.RTT
}

// Propose implements paxos.Group.
func (g *group) Propose(ctx context.Context, command []byte) ([]byte, error) {
	result, err := g.propose(ctx, command)
	if err != nil {
		return nil, fmt.Errorf("dragon: propose to group %d: %w", g.id, err)
	}
	return result, nil
}

// Submit implements paxos.Submitter.
func (g *group) Submit(ctx context.Context, command []byte) func() ([]byte, error) {
	if !isClosed(g.ready) || len(command) == 0 {
		return func() ([]byte, error) { return g.Propose(ctx, command) }
	}
	rs, restored, err := g.send(ctx, command)
	return func() ([]byte, error) {
		var result []byte
		if err == nil {
			result, err = g.answer(ctx, rs, restored)
		}
		if err != nil {
			return nil, fmt.Errorf("dragon: propose to group %d: %w", g.id, err)
		}
		return result, nil
	}
}

func (g *group) propose(ctx context.Context, command []byte) ([]byte, error) {
	rs, restored, err := g.send(ctx, command)
	if err != nil {
		return nil, err
	}
	return g.answer(ctx, rs, restored)
}

// send hands a command to Dragonboat, once a leader has been known.
func (g *group) send(ctx context.Context, command []byte) (rs *dragonboat.RequestState, restored <-chan struct{}, err error) {
	switch {
	case len(command) == 0:
		panic("dragon: empty command")
	case len(command) > paxos.MaxCommand:
		return nil, nil, fmt.Errorf("%d bytes: %w", len(command), paxos.ErrTooLarge)
	case isClosed(g.stopped), isClosed(g.host.failure.done):
		return nil, nil, paxos.ErrClosed
	case ctx.Err() != nil:
		return nil, nil, fmt.Errorf("%w: %w", paxos.ErrNotSent, ctx.Err())
	}
	if err := g.await(ctx); err != nil {
		return nil, nil, err
	}
	restored = *g.restored.Load()
	rs, err = g.user.Propose(g.session, command, g.ticks(remaining(ctx)))
	if err != nil {
		return nil, nil, describe(err)
	}
	return rs, restored, nil
}

// answer waits for what becomes of a command.
func (g *group) answer(ctx context.Context, rs *dragonboat.RequestState, restored <-chan struct{}) ([]byte, error) {
	select {
	case r := <-rs.AppliedC():
		rs.Release()
		if r.Completed() {
			return r.GetResult().Data, nil
		}
		return nil, outcome(r)
	case <-restored:
		return nil, fmt.Errorf("%w: replica restored from a snapshot", paxos.ErrUnknownOutcome)
	case <-g.host.failure.done:
		return nil, fmt.Errorf("%w: the host has failed", paxos.ErrUnknownOutcome)
	case <-ctx.Done():
		// The request stays with Dragonboat until it expires there.
		return nil, fmt.Errorf("%w: %w", paxos.ErrUnknownOutcome, ctx.Err())
	}
}

// outcome maps the end of a proposal that was not applied.
func outcome(r dragonboat.RequestResult) error {
	switch {
	case r.Dropped():
		return fmt.Errorf("%w: no leader", paxos.ErrNotSent)
	case r.Rejected():
		return paxos.ErrRejected
	case r.Timeout():
		return fmt.Errorf("%w: timeout", paxos.ErrUnknownOutcome)
	}
	return fmt.Errorf("%w: replica stopped", paxos.ErrUnknownOutcome)
}

// A barrier waits at least so long for the answer to its question before it
// asks again, and at most so long. The message may be lost: Dragonboat sends it
// once.
const (
	minPatience = 250 * time.Millisecond
	maxPatience = 4 * time.Second
	// barrierPause is the pause of a barrier that met no leader who can answer.
	barrierPause = 10 * time.Millisecond
)

// errNoAnswer: a barrier's question or its answer was lost, or takes long.
var errNoAnswer = fmt.Errorf("%w: no answer", paxos.ErrNotSent)

// ReadBarrier implements paxos.Group. A leader that has not committed anything
// in its term yet cannot answer; the barrier then asks again.
func (g *group) ReadBarrier(ctx context.Context) error {
	if err := g.readBarrier(ctx); err != nil {
		return fmt.Errorf("dragon: read barrier of group %d: %w", g.id, err)
	}
	return nil
}

func (g *group) readBarrier(ctx context.Context) error {
	if isClosed(g.stopped) || isClosed(g.host.failure.done) {
		return paxos.ErrClosed
	}
	if err := g.await(ctx); err != nil {
		return err
	}
	deadline := time.Now().Add(remaining(ctx))
	patience := minPatience
	for {
		err := g.tryBarrier(ctx, min(patience, time.Until(deadline)))
		if err == nil || !errors.Is(err, paxos.ErrNotSent) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		if errors.Is(err, errNoAnswer) {
			patience = min(2*patience, maxPatience)
			continue
		}
		select {
		case <-time.After(min(g.host.options.RTT, barrierPause)):
		case <-ctx.Done():
		case <-g.stopped:
			return paxos.ErrClosed
		}
	}
}

// tryBarrier asks once. The timer is ours: Dragonboat notices that a read has
// expired only when something else is applied.
func (g *group) tryBarrier(ctx context.Context, patience time.Duration) error {
	rs, err := g.host.nh.ReadIndex(uint64(g.id), g.ticks(patience))
	if err != nil {
		return describe(err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-rs.AppliedC():
		rs.Release()
		switch {
		case r.Completed():
			return nil
		case r.Terminated():
			return paxos.ErrClosed
		}
		return fmt.Errorf("%w: no leader", paxos.ErrNotSent)
	case <-g.host.failure.done:
		return paxos.ErrClosed
	case <-timer.C:
		return errNoAnswer
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", paxos.ErrNotSent, ctx.Err())
	}
}

// Leader implements paxos.Group.
func (g *group) Leader() (paxos.ReplicaID, uint64, bool) {
	id, term, ok, err := g.host.nh.GetLeaderID(uint64(g.id))
	return paxos.ReplicaID(id), term, ok && err == nil
}

// Replica implements paxos.Group.
func (g *group) Replica() paxos.ReplicaID { return g.replica }

// Applied implements paxos.Group.
func (g *group) Applied() paxos.Index { return paxos.Index(g.machine.applied.Load()) }

// TransferLeadership implements paxos.Group.
func (g *group) TransferLeadership(to paxos.ReplicaID) error {
	if err := g.host.nh.RequestLeaderTransfer(uint64(g.id), uint64(to)); err != nil {
		return fmt.Errorf("dragon: transfer group %d to replica %d: %w", g.id, to, describe(err))
	}
	return nil
}
