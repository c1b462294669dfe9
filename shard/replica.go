package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

const (
	// proposeTimeout bounds one attempt to get a command applied. Attempts are
	// not tied to the context of the request that caused them: a client that
	// goes away must not turn a commit into an unknown outcome.
	proposeTimeout = 5 * time.Second
	// sendPatience is how long a vote that finds no leader to send it to is
	// tried again. Readers of its keys wait meanwhile.
	sendPatience = 2 * time.Second
	// undecidedAge is the age at which an unresolved vote is reported to those
	// who wait for it, so that they finish its transaction.
	undecidedAge = 2 * time.Second
)

// TimestampSource is the oracle as a replica sees it.
type TimestampSource interface {
	// Timestamp draws a timestamp.
	Timestamp(ctx context.Context) (storage.Timestamp, error)
	// Issued returns a timestamp that the oracle has issued, as recent a one as
	// is known without asking.
	Issued() storage.Timestamp
}

// ReplicaConfig is what a replica is made of. Group must run Machine.
type ReplicaConfig struct {
	Shard   ID
	Node    uint64
	Process uint64 // random, one life of one process
	Space   *storage.Space
	Machine *Machine
	Group   paxos.Group
	Times   TimestampSource
	Graph   *locks.WaitGraph
	Logger  *slog.Logger
	Clock   func() time.Time // paces gateways' leases and the oracle
	Lease   LeasePolicy      // of this owner's reads
	// Linger is how long outcomes of votes wait for others at most; 0 is
	// DefaultLinger, less is not at all.
	Linger time.Duration
	// Full, if set, tells whether the node refuses writes (Node.SetFull).
	Full *atomic.Bool
	// Company, if set, returns the replicas of this node that share Group's log, this one
	// among them, by shard; nil while it is shared with none. They change and hand over
	// together (see members_joint.go).
	Company func() []*Replica
	// Changes are those of the members of the group that Company shares; it must be set
	// with Company, for all of them the same.
	Changes *changes
	// Steps, if set, is called where the protocol fixes an order: a test that
	// chooses which of several requests goes on returns from it when it likes.
	Steps func(ctx context.Context, step string)
}

// Replica is one node's copy of one shard. While it owns the shard it serves
// requests in a tenure; otherwise it only applies what others propose.
type Replica struct {
	c       ReplicaConfig
	oracle  *Oracle // system shard only
	serving atomic.Pointer[tenure]
	// maxTS is at least every timestamp at which somebody has read here. Only
	// timestamps of the oracle raise it (R4, H12).
	maxTS atomic.Uint64
	epoch atomic.Uint64 // the epoch whose BeginEpoch this process proposed

	// seated is the membership that this owner last saw, nil when it may be out of
	// date. It is a report, nothing decides by it.
	seated     atomic.Pointer[paxos.Membership]
	unseated   atomic.Uint64 // counts how often it was out of date
	reclaiming atomic.Bool   // Node.reclaim is at work
	yielded    atomic.Bool   // Node.yields has left the shard to another owner

	takeover sync.Mutex // one BecomeOwner at a time; held across I/O on purpose
	// clear is an epoch of this process after which nothing of earlier owners is
	// left to wait for; guarded by takeover.
	clear   uint64
	changes changes // of the members of a group that is not shared

	resolver resolver
	garbage  garbage
	counters counters

	life  context.Context // ends with Close
	end   context.CancelFunc
	tasks struct {
		sync.Mutex
		sync.WaitGroup // raised only under the mutex, before closed
		closed         bool
	}
}

// counters are the figures of ShardStatus.
type counters struct {
	reads, proposals, commits, lockWaits atomic.Uint64
}

// NewReplica returns a replica that serves nothing yet.
func NewReplica(c ReplicaConfig) *Replica {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Lease.Clock == nil {
		c.Lease.Clock = bootClock
	}
	if c.Graph == nil {
		c.Graph = locks.NewWaitGraph()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Linger == 0 {
		c.Linger = DefaultLinger
	}
	r := &Replica{c: c}
	r.life, r.end = context.WithCancel(context.Background())
	if c.Shard == System {
		r.oracle = &Oracle{clock: c.Clock, persist: r.persistWindow}
	}
	return r
}

// tenure is everything an owner keeps in memory, for one epoch. It dies with the
// epoch; its successor rebuilds what votes imply and nothing else.
type tenure struct {
	epoch  uint64
	sole   bool
	lease  lease
	proofs proofs
	began  time.Time
	table  *locks.Table

	// waits are those of all nodes; system shard only.
	waits struct {
		sync.Mutex
		*detector // nil before the first report
	}
	// tokenEpoch stands in the tokens of grants (H2): the epoch, or that of the
	// owner who handed the shard over with its locks.
	tokenEpoch uint64

	sequences sequences // system shard only

	closing atomic.Bool // closeAbandoned is at work

	mu struct {
		sync.Mutex
		inflight
		holders
		// frozen: the shard is being handed over. Nothing but outcomes may change
		// what is held.
		frozen bool
		// unwrittenRelease is at least the place in the serial order of every
		// transaction that released a lock on something it had not written (H6).
		unwrittenRelease storage.Timestamp
	}
	// pending counts the transactions of inflight, so that readers can skip the
	// mutex: proposals, from before they load maxTS (R2), and votes, until their
	// resolution is applied.
	pending atomic.Int64

	advisories advisoryQueues // system shard

	work atomic.Uint64 // requests that current has let in, for the spread of owners
}

func ownerOf(id storage.TxnID) locks.Owner {
	return locks.Owner{Start: uint64(id.Start), Gateway: id.Gateway, Seq: id.Seq}
}

func txnOf(o locks.Owner) storage.TxnID {
	return storage.TxnID{Start: storage.Timestamp(o.Start), Gateway: o.Gateway, Seq: o.Seq}
}

// current returns the tenure that serves, or NotOwner.
func (r *Replica) current() (*tenure, error) {
	if t := r.serving.Load(); t != nil {
		t.work.Add(1)
		return t, nil
	}
	return nil, r.notOwner()
}

func (r *Replica) notOwner() error {
	_, node, _, _ := r.c.Machine.Owner()
	return &Error{Code: NotOwner, Shard: r.c.Shard, Owner: node, Detail: fmt.Sprintf("last known owner is node %d", node)}
}

// at marks a step of the protocol, see ReplicaConfig.Steps.
func (r *Replica) at(ctx context.Context, step string) {
	if r.c.Steps != nil {
		r.c.Steps(ctx, step)
	}
}

// raiseMaxTS makes maxTS at least t, which the oracle issued.
func (r *Replica) raiseMaxTS(t storage.Timestamp) {
	for {
		old := r.maxTS.Load()
		if old >= uint64(t) || r.maxTS.CompareAndSwap(old, uint64(t)) {
			return
		}
	}
}

// BecomeOwner takes the shard over in a new epoch (R3): the epoch is applied
// here, then a timestamp is drawn, then requests are served. It needs the
// oracle, except on the system shard, which draws from its own new window.
func (r *Replica) BecomeOwner(ctx context.Context) error {
	r.takeover.Lock()
	defer r.takeover.Unlock()
	if t := r.serving.Load(); t != nil {
		r.stepDown(t)
	}
	return r.takeOver(ctx, heritage{})
}

// Own takes the shard over unless this replica serves it already.
func (r *Replica) Own(ctx context.Context) error {
	r.takeover.Lock()
	defer r.takeover.Unlock()
	if r.serving.Load() != nil {
		return nil
	}
	return r.takeOver(ctx, heritage{})
}

// takeOver begins an epoch and serves in it; takeover is held.
func (r *Replica) takeOver(ctx context.Context, h heritage) error {
	var early storage.Timestamp
	if mutated("H1.first-timestamp-before-epoch") || mutated("R3.sync-before-epoch") {
		early, _ = r.firstTimestamp(ctx)
	}
	if mutated("H1.wait-before-epoch") {
		o := r.c.Machine.owner.Load()
		_ = r.c.Lease.outwait(ctx, r.life, r.c.Lease.Clock(), max(o.Owed, o.Lease))
	}
	e, err := r.beginEpoch(ctx, h)
	if err != nil {
		return fmt.Errorf("take over shard %d: %w", r.c.Shard, err)
	}
	r.epoch.Store(e.number)
	r.at(ctx, "epoch begun")
	if mutated("H1.first-timestamp-before-wait") {
		early, _ = r.firstTimestamp(ctx)
	}
	if e, err = r.awaitLeases(ctx, e, h); err != nil {
		return fmt.Errorf("take over shard %d: wait for the lease before: %w", r.c.Shard, err)
	}
	m := early
	if m == 0 {
		if m, err = r.firstTimestamp(ctx); err != nil {
			return fmt.Errorf("take over shard %d: draw the first timestamp: %w", r.c.Shard, err)
		}
	}
	if mutated("R3.no-sync") {
		m = 0
	}
	r.at(ctx, "first timestamp drawn")
	r.raiseMaxTS(m)
	r.garbage.forget(m) // what earlier owners wrote
	t, err := r.newTenure(e, m)
	if err == nil {
		err = r.inherit(t, h, m)
	}
	if err != nil {
		return fmt.Errorf("take over shard %d: %w", r.c.Shard, err)
	}
	r.serving.Store(t)
	if now, _, process, _ := r.c.Machine.Owner(); now != e.number || process != r.c.Process {
		r.stepDown(t)
		return fmt.Errorf("take over shard %d: %w", r.c.Shard, r.notOwner())
	}
	return nil
}

// newEpoch is an epoch of this process.
type newEpoch struct {
	number uint64
	sole   bool
}

// beginEpoch proposes BeginEpoch until its fate is known. An epoch is sole only
// if this replica is alone before and after it was applied (H14): else another
// follows, which is not.
func (r *Replica) beginEpoch(ctx context.Context, h heritage) (newEpoch, error) {
	var none newEpoch
	if err := r.c.Group.ReadBarrier(ctx); err != nil {
		return none, err
	}
	members, err := r.c.Group.Membership(ctx)
	if err != nil {
		return none, err
	}
	prev, _, _, _ := r.c.Machine.Owner()
	if h.prev != 0 && prev != h.prev {
		return none, r.notOwner()
	}
	c := Command{Kind: KindBeginEpoch, Epoch: prev, Node: r.c.Node, Process: r.c.Process, Flush: h.flush,
		// What one owner hands over another takes, in exactly the next epoch.
		Sole:  !h.shared && h.flush == 0 && r.alone(members),
		Clear: prev != 0 && prev == r.clear}
	if !c.Sole {
		c.Lease = r.c.Lease.wait()
	}
	result, err := r.proposeUntilKnown(ctx, &c)
	if err != nil {
		return none, err
	}
	if result.Verdict != VerdictDone {
		return none, r.notOwner()
	}
	e := newEpoch{prev + 1, c.Sole}
	if !e.sole || mutated("H14.sole-not-looked-at-again") {
		return e, nil
	}
	r.at(ctx, "sole epoch begun")
	if members, err = r.c.Group.Membership(ctx); err != nil || r.alone(members) {
		return e, err
	}
	h.prev, h.shared = e.number, true
	return r.beginEpoch(ctx, h)
}

// proposeUntilKnown proposes an idempotent command until a copy is applied.
func (r *Replica) proposeUntilKnown(ctx context.Context, c *Command) (Result, error) {
	return r.proposeEncoded(ctx, c.AppendBinary(nil))
}

// proposeEncoded is proposeUntilKnown of an encoded command.
func (r *Replica) proposeEncoded(ctx context.Context, command []byte) (Result, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		result, err := r.propose(ctx, command)
		if err == nil || errors.Is(err, paxos.ErrClosed) || errors.Is(err, paxos.ErrTooLarge) {
			return result, err
		}
		if pause(ctx, r.life, wait) != nil {
			return Result{}, err
		}
	}
}

// pause waits; it returns an error if either context ends first.
func pause(ctx, life context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-life.Done():
		return life.Err()
	}
}

// propose makes one attempt to have a command applied.
func (r *Replica) propose(ctx context.Context, command []byte) (Result, error) {
	r.counters.proposals.Add(1)
	return r.result(r.c.Group.Propose(ctx, command))
}

// result decodes what a proposal came to.
func (r *Replica) result(b []byte, err error) (Result, error) {
	if err != nil {
		return Result{}, err
	}
	var result Result
	if err := result.Decode(b); err != nil {
		panic(fmt.Sprintf("shard %d: result of an applied command: %v", r.c.Shard, err))
	}
	return result, nil
}

func (r *Replica) firstTimestamp(ctx context.Context) (storage.Timestamp, error) {
	if r.oracle == nil {
		return r.c.Times.Timestamp(ctx)
	}
	if err := r.oracle.start(ctx, r.c.Machine.Window()); err != nil {
		return 0, err
	}
	return r.oracle.next(ctx, 1)
}

func (r *Replica) persistWindow(ctx context.Context, top storage.Timestamp) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	c := Command{Kind: KindTimestampWindow, Epoch: r.epoch.Load(), Below: top}
	result, err := r.proposeUntilKnown(ctx, &c)
	if err != nil {
		return err
	}
	if result.Verdict != VerdictDone {
		// What belonged to an epoch before the present one says nothing about it.
		if r.epoch.Load() == c.Epoch {
			r.oracle.stop()
		}
		if t := r.serving.Load(); t != nil && t.epoch == c.Epoch {
			r.stepDown(t)
		}
		return r.notOwner()
	}
	return nil
}

// newTenure builds an owner's memory from the PREPARED votes: their locks, held
// and pinned until they are resolved.
func (r *Replica) newTenure(e newEpoch, m storage.Timestamp) (*tenure, error) {
	t := &tenure{epoch: e.number, sole: e.sole, began: r.c.Clock(), tokenEpoch: e.number,
		table: locks.NewTable(tableName(r.c.Shard), r.c.Graph)}
	if !e.sole && r.c.Lease.Length > 0 {
		t.lease.policy = &r.c.Lease
	}
	t.mu.inflight, t.mu.holders = newInflight(), newHolders()
	t.mu.unwrittenRelease = m
	snap := r.c.Space.Snapshot()
	defer snap.Close()
	var failed error
	r.c.Machine.Prepared(func(id storage.TxnID, v storage.Vote) {
		staged, chunks, err := stagedKeys(snap, id)
		if err != nil {
			failed = err
			return
		}
		owner := ownerOf(id)
		v.Keys = append(slices.Clone(v.Keys), staged...)
		t.table.Install(owner, votedLocks(v))
		t.table.Pin(owner)
		slices.SortFunc(v.Keys, func(a, b storage.Key) int { return bytes.Compare(a, b) })
		t.mu.inflight.vote(id, &votedTxn{since: votedSince(v.Prepare, r.c.Clock()), participants: shardIDs(v.Participants), prepare: v.Prepare,
			keys: v.Keys, staged: len(chunks.chunks) > 0, size: inheritedBytes, done: make(chan struct{})})
		t.pending.Add(1)
	})
	return t, failed
}

// votedSince is about when a vote was cast that an earlier owner took in, so that
// a coordinator who died with that owner is not waited for anew. Should clocks
// differ, the vote is finished earlier or later than need be, and rightly.
func votedSince(prepare storage.Timestamp, now time.Time) time.Time {
	since := time.UnixMilli(int64(prepare.Millis()))
	if since.After(now) || mutated("1.4.inherited-votes-are-young") {
		return now
	}
	return since
}

// votedLocks is the lock set of a PREPARED vote: exclusive on what it writes,
// and the locks recorded beside. A key inside an exclusive interval among these
// needs no lock of its own: a table may have been loaded under one interval.
func votedLocks(v storage.Vote) []locks.Lock {
	refs, err := decodeLockSet(v.Locks)
	if err != nil {
		panic(fmt.Sprintf("shard: lock set of a stored vote: %v", err))
	}
	covered := exclusiveIntervals(refs)
	var ls []locks.Lock
	for _, k := range v.Keys {
		if !coveredBy(covered, k) {
			ls = append(ls, locks.Lock{Mode: locks.Exclusive, Span: locks.Span{Lo: k}})
		}
	}
	return append(ls, heldLocks(refs)...)
}

// exclusiveIntervals are the intervals that recorded locks hold exclusively, in order and
// apart. A vote may have as many locks of single rows as it has keys, and few intervals.
func exclusiveIntervals(refs []LockRef) []locks.Span {
	var all []locks.Span
	for i := range refs {
		if l := &refs[i]; len(l.Hi) > 0 && (l.Mode == locks.Exclusive || mutated("0074.shared-intervals-cover")) {
			all = append(all, locks.Span{Lo: l.Lo, Hi: l.Hi})
		}
	}
	slices.SortFunc(all, func(a, b locks.Span) int { return bytes.Compare(a.Lo, b.Lo) })
	apart := all[:0]
	for _, next := range all {
		n := len(apart)
		if n == 0 || bytes.Compare(apart[n-1].Hi, next.Lo) < 0 {
			apart = append(apart, next)
			continue
		}
		if bytes.Compare(apart[n-1].Hi, next.Hi) < 0 {
			apart[n-1].Hi = next.Hi
		}
	}
	return apart
}

// coveredBy reports whether one of the intervals, in order and apart, has the key.
func coveredBy(intervals []locks.Span, k storage.Key) bool {
	after, _ := slices.BinarySearchFunc(intervals, k, func(i locks.Span, k storage.Key) int {
		if bytes.Compare(i.Lo, k) <= 0 {
			return -1
		}
		return 1
	})
	return after > 0 && bytes.Compare(k, intervals[after-1].Hi) < 0
}

func heldLocks(refs []LockRef) []locks.Lock {
	ls := make([]locks.Lock, len(refs))
	for i, l := range refs {
		ls[i] = locks.Lock{Mode: l.Mode, Span: locks.Span{Lo: l.Lo, Hi: l.Hi}}
	}
	return ls
}

func shardIDs(ps []uint64) []ID {
	ids := make([]ID, len(ps))
	for i, p := range ps {
		ids[i] = ID(p)
	}
	return ids
}

// stepDown ends a tenure: no further request is served in it, those that wait
// for locks or outcomes are let go. Proposals under way stay what they are,
// their outcome is for the register to tell.
func (r *Replica) stepDown(t *tenure) {
	if !r.serving.CompareAndSwap(t, nil) {
		return
	}
	if r.oracle != nil {
		r.oracle.stop()
	}
	r.bury(t)
}

// Close ends the service and waits for background work. The group is stopped by
// whoever started it.
func (r *Replica) Close() {
	if t := r.serving.Load(); t != nil {
		r.drainResolves()
		r.stepDown(t)
	}
	r.end()
	r.tasks.Lock()
	r.tasks.closed = true
	r.tasks.Unlock()
	r.tasks.Wait()
}

// background runs f on a goroutine that Close waits for; false if the replica is
// closed, and then f never runs.
func (r *Replica) background(f func()) bool {
	r.tasks.Lock()
	defer r.tasks.Unlock()
	if r.tasks.closed {
		return false
	}
	r.tasks.Go(f)
	return true
}

// Timestamps draws n consecutive timestamps and returns the first. Only the
// system shard's owner can.
func (r *Replica) Timestamps(ctx context.Context, n uint64) (storage.Timestamp, error) {
	t := r.serving.Load()
	if t == nil || r.oracle == nil {
		return 0, r.notOwner()
	}
	t.work.Add(1)
	first, err := r.oracle.next(ctx, n)
	if err != nil {
		return 0, err
	}
	// The proof comes after the draw and before the answer: at a moment between
	// the request's arrival and its answer this replica was the owner, and
	// nobody had drawn above its window.
	if err := r.prove(ctx, t); err != nil {
		return 0, err
	}
	return first, nil
}

// issued makes sure that the oracle has issued a timestamp (H12).
func (r *Replica) issued(ctx context.Context, at storage.Timestamp) error {
	if at <= r.c.Times.Issued() || mutated("H12.unissued-timestamps") {
		return nil
	}
	now, err := r.c.Times.Timestamp(ctx)
	if err != nil {
		return fmt.Errorf("check a read timestamp: %w", err)
	}
	if at > now {
		return &Error{Code: BadRequest, Shard: r.c.Shard, Detail: fmt.Sprintf("timestamp %s lies in the future of %s", at, now)}
	}
	return nil
}
