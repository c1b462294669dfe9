package shard

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// OnePC commits a transaction of this shard alone.
func (r *Replica) OnePC(ctx context.Context, q *OnePCRequest) (*VoteResponse, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	if len(q.Writes) == 0 && !t.durable(q.Txn) {
		return r.commitReadOnly(ctx, t, q)
	}
	return r.castVote(ctx, t, &voteRequest{OnePCRequest: q})
}

// Prepare casts this shard's vote on a transaction of several.
func (r *Replica) Prepare(ctx context.Context, q *PrepareRequest) (*VoteResponse, error) {
	t, vote, err := r.admitPrepare(q)
	if err != nil {
		return nil, err
	}
	return r.castVote(ctx, t, &vote)
}

// admitPrepare looks at a Prepare before anything is done about it.
func (r *Replica) admitPrepare(q *PrepareRequest) (*tenure, voteRequest, error) {
	t, err := r.current()
	if err != nil {
		return nil, voteRequest{}, err
	}
	if len(q.Participants) == 0 {
		return nil, voteRequest{}, r.bad("prepare without participants")
	}
	return t, voteRequest{OnePCRequest: &q.OnePCRequest, participants: q.Participants, chunks: q.Chunks, staged: q.Staged}, nil
}

// voteRequest is a OnePC (no participants) or a Prepare.
type voteRequest struct {
	*OnePCRequest
	participants []ID
	chunks       uint32 // staged before (H9)
	staged       uint64
}

func (r *Replica) bad(detail string) error {
	return &Error{Code: BadRequest, Shard: r.c.Shard, Detail: detail}
}

// hashBuffer bounds the buffers that stay.
const hashBuffer = 64 << 10

// hashBuffers are where content is laid out to be hashed.
var hashBuffers = sync.Pool{New: func() any { return new([]byte) }}

// contentHash identifies what is voted on. The floor and the token are not part
// of it: a retry may draw a newer floor (H7).
func (q *voteRequest) contentHash() uint64 {
	buffer := hashBuffers.Get().(*[]byte)
	b := appendIDs(appendTxn((*buffer)[:0], q.Txn), q.participants)
	b = appendUint(appendUint(b, uint64(q.chunks)), q.staged)
	b = appendWrites(appendSchemas(appendLockRefs(b, q.Locked), q.Schemas), q.Writes)
	if mutated("H7.hash-with-floor") {
		b = appendUint(b, uint64(q.Floor))
	}
	if cap(b) <= hashBuffer { // larger ones are rare, and would stay for good
		*buffer = b
	}
	hash := xxh3.Hash(b)
	hashBuffers.Put(buffer)
	return hash
}

// castVote leads a transaction to its vote on this shard. The answer is always the
// register's.
func (r *Replica) castVote(ctx context.Context, t *tenure, q *voteRequest) (*VoteResponse, error) {
	b := r.beginVote(ctx, t, q)
	if b.command == nil {
		return r.withoutVote(ctx, t, q, &b)
	}
	r.proposeVote(t, b.p, q, b.command)
	return r.voted(ctx, t, b.p)
}

// begunVote is what beginVote came to: a command to be proposed, or an answer, or why it
// takes something else to have one.
type begunVote struct {
	p       *proposal
	command []byte

	response *VoteResponse
	err      error
	other    *proposal // the same vote is under way
	closing  bool      // the vote can not be cast, and the register has to say so
}

// beginVote takes a vote to where it is proposed: join an attempt that is under way,
// check and pin the locks, enter the memory locks, choose the timestamp.
func (r *Replica) beginVote(ctx context.Context, t *tenure, q *voteRequest) (b begunVote) {
	if len(q.Writes) > 0 || q.chunks > 0 {
		if err := r.space(); err != nil {
			return begunVote{err: err}
		}
	}
	keys, ok := sortedKeys(q.Writes)
	if !ok {
		return begunVote{err: r.bad("a key is written twice")}
	}
	p := &proposal{txn: q.Txn, keys: keys, hash: q.contentHash(), since: r.c.Clock(), done: make(chan struct{})}
	b.p = p
	if q.chunks > 0 {
		if p.keys, ok, b.err = r.stagedOf(q, keys); b.err != nil {
			return b
		}
		if !ok { // also where the vote was cast and resolved before: the register tells
			return begunVote{closing: true}
		}
		p.staged = true
	}
	var early storage.Timestamp
	if mutated("R2.timestamp-before-lock") {
		early = storage.Timestamp(r.maxTS.Load())
	}
	r.at(ctx, "lock check")
	other, voted, locked := t.enter(p, q.OnePCRequest)
	switch {
	case other != nil:
		b.other = other
		return b
	case voted != nil && q.participants != nil:
		return begunVote{response: &VoteResponse{State: storage.VotePrepared, Prepare: voted.prepare}}
	case !locked:
		// The register must say ABORTED before anybody is told so.
		if mutated("1.4.owner-aborts-without-writing") {
			return begunVote{response: &VoteResponse{State: storage.VoteAborted}}
		}
		return begunVote{closing: true}
	}
	if p.staged && !t.holdsStaged(p) {
		t.withdraw(p, r.lost(q.Txn, "a staged key is not locked"))
		return begunVote{closing: true}
	}
	r.at(ctx, "timestamp")
	base := max(storage.Timestamp(r.maxTS.Load()), q.Floor, q.Txn.Start)
	if mutated("R2.timestamp-before-lock") {
		base = max(early, q.Floor, q.Txn.Start)
	}
	if b.err = r.checkFloor(t, q, base); b.err != nil {
		t.withdraw(p, b.err)
		return b
	}
	ts := base + 1
	r.at(ctx, "timestamp chosen")
	t.mu.Lock()
	p.ts = ts
	t.mu.Unlock()
	command := r.voteCommand(t, q, p)
	p.size = len(command)
	if len(command) > maxShardCommand {
		b.err = &Error{Code: TooLarge, Shard: r.c.Shard, Detail: fmt.Sprintf("%d bytes of writes, at most %d fit one log entry", len(command), maxShardCommand)}
		t.withdraw(p, b.err)
		return b
	}
	b.command = command
	return b
}

// withoutVote answers a vote that is not to be proposed. It may take a round of consensus,
// or as long as the attempt that is joined.
func (r *Replica) withoutVote(ctx context.Context, t *tenure, q *voteRequest, b *begunVote) (*VoteResponse, error) {
	switch {
	case b.other != nil:
		return r.join(ctx, b.other, b.p.hash)
	case b.closing:
		return r.closeVote(t, q.Txn)
	}
	return b.response, b.err
}

// voted waits for the outcome of a vote that was proposed.
func (r *Replica) voted(ctx context.Context, t *tenure, p *proposal) (*VoteResponse, error) {
	if response, err := r.outcome(ctx, p); !p.refused.Load() {
		return response, err
	}
	return r.closeVote(t, p.txn) // other chunks than it says: it cannot commit
}

// holdsStaged checks the locks of staged keys. The transaction is pinned by now,
// so none can go while they are looked at one block after the other.
func (t *tenure) holdsStaged(p *proposal) bool {
	all, points := locks.HoldsKeys(t.table, ownerOf(p.txn), locks.Exclusive, p.keys)
	p.points = points
	return all
}

// enter checks and pins the transaction's locks and enters its proposal with an
// unknown timestamp, all at once: after the check nothing but the outcome can
// release the locks (H4), and from the entry on readers of its keys wait (R2).
func (t *tenure) enter(p *proposal, q *OnePCRequest) (other *proposal, voted *votedTxn, locked bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.mu.proposals[p.txn]; other != nil && !mutated("1.4.retry-does-not-join") {
		return other, nil, false
	}
	if voted := t.mu.voted[p.txn]; voted != nil {
		return nil, voted, false
	}
	if t.mu.frozen {
		p.err = &Error{Code: NotOwner, Detail: "the shard is being handed over"}
		close(p.done)
		return p, nil, false
	}
	g := t.mu.gateways[p.txn.Gateway]
	if g == nil || q.Token != t.tokenLocked(p.txn, g) && !mutated("H2.token-unchecked") {
		return nil, nil, false
	}
	owner := ownerOf(p.txn)
	if !t.table.Pin(owner) {
		return nil, nil, false
	}
	if !t.holdsAll(owner, q) {
		t.table.Unpin(owner)
		return nil, nil, false
	}
	t.mu.inflight.add(p)
	t.pending.Add(1)
	return nil, nil, true
}

func (t *tenure) holdsAll(owner locks.Owner, q *OnePCRequest) bool {
	for i := range q.Writes {
		if !t.table.Holds(owner, locks.Exclusive, locks.Span{Lo: q.Writes[i].Key}) {
			return false
		}
	}
	for _, l := range q.Locked {
		if !t.table.Holds(owner, l.Mode, locks.Span{Lo: l.Lo, Hi: l.Hi}) {
			return false
		}
	}
	return true
}

// withdraw takes back a proposal that was never sent.
func (t *tenure) withdraw(p *proposal, err error) {
	t.mu.Lock()
	t.mu.inflight.remove(p)
	t.table.Unpin(ownerOf(p.txn))
	t.mu.Unlock()
	t.pending.Add(-1)
	p.err = err
	close(p.done)
}

// checkFloor answers NeedFloor if base+1 could lie at or below a version that
// the transaction follows (R4), or, when it brought no floor, below anything it
// read or anything that a reader before it has protected (H6).
//
// What it has met, it met when it got its locks, and nobody else has written under them
// since. So where base is above that, the versions of what it writes need no look.
// Of keys that it has locked without looking only a bound is known, which often lies above
// base though the keys are old: where all of them are written, the look tells.
func (r *Replica) checkFloor(t *tenure, q *voteRequest, base storage.Timestamp) error {
	need := func() error { return &Error{Code: NeedFloor, Shard: r.c.Shard} }
	t.mu.Lock()
	h := t.mu.txns[q.Txn]
	followed := h == nil || max(h.seen, h.unread) > base
	seen := h == nil || h.seen > base || h.unread > base && !h.writesAll(q.Writes)
	release := t.mu.unwrittenRelease
	t.mu.Unlock()
	if q.Floor == 0 {
		if q.participants != nil || h == nil || seen && !mutated("H6.seen-unchecked") ||
			release > base && !mutated("H6.releases-unchecked") {
			return need()
		}
	}
	if !followed || r.c.Machine.lastCommit.Load() <= uint64(base) || mutated("R4.no-need-floor") {
		return nil
	}
	var snap *storage.Snapshot
	for i := range q.Writes {
		newest, ok := r.c.Space.CachedNewest(q.Writes[i].Key)
		if !ok {
			if snap == nil {
				snap = r.c.Space.Snapshot()
				defer snap.Close()
			}
			read, err := snap.GetVersion(q.Writes[i].Key, 0)
			if err != nil {
				return r.failed(err)
			}
			newest = read.Newest
		}
		if newest > base {
			return need()
		}
	}
	return nil
}

// failed reports a storage error of a read: this request cannot be answered.
func (r *Replica) failed(err error) error {
	return &Error{Code: Unavailable, Shard: r.c.Shard, Detail: err.Error()}
}

func (r *Replica) voteCommand(t *tenure, q *voteRequest, p *proposal) []byte {
	c := Command{Kind: KindOnePC, Epoch: t.epoch, Txn: q.Txn, At: p.ts, Hash: p.hash, Schemas: q.Schemas, Writes: q.Writes}
	size := 128
	for i := range q.Writes {
		size += len(q.Writes[i].Key) + len(q.Writes[i].Value) + 12
	}
	if q.participants != nil {
		c.Kind, c.Participants = KindPrepare, q.participants
		c.Chunks, c.Staged = q.chunks, q.staged
		if p.staged {
			c.Locks = t.lockSetBeside(p)
		} else {
			c.Locks = t.lockSet(p, q)
		}
		size += 10*len(q.participants) + len(c.Locks)
	}
	return c.AppendBinary(make([]byte, 0, size))
}

// lockSet encodes the locks that the vote must keep besides those of its writes. Mostly
// there are none.
func (t *tenure) lockSet(p *proposal, q *voteRequest) []byte {
	t.mu.Lock()
	none := t.allWrittenLocked(p)
	t.mu.Unlock()
	if none && len(q.Locked) == 0 {
		return nil
	}
	var refs []LockRef
	written := make(map[string]struct{}, len(q.Writes))
	for i := range q.Writes {
		written[string(q.Writes[i].Key)] = struct{}{}
	}
	for _, l := range t.table.Held(ownerOf(q.Txn)) {
		if _, ok := written[string(l.Span.Lo)]; ok && len(l.Span.Hi) == 0 {
			continue
		}
		refs = append(refs, LockRef{Mode: l.Mode, Lo: l.Span.Lo, Hi: l.Span.Hi})
	}
	return encodeLockSet(refs)
}

func encodeLockSet(refs []LockRef) []byte {
	if len(refs) == 0 {
		return nil
	}
	return appendLockRefs([]byte{formatVersion}, refs)
}

// lockSetBeside is lockSet for a vote with staged chunks. Usually it has locked
// nothing but what it writes, and intervals.
func (t *tenure) lockSetBeside(p *proposal) []byte {
	owner := ownerOf(p.txn)
	points, _ := t.table.Count(owner)
	written := func(key string) bool {
		if points == p.points {
			return true
		}
		i := sort.Search(len(p.keys), func(i int) bool { return string(p.keys[i]) >= key })
		return i < len(p.keys) && string(p.keys[i]) == key
	}
	var refs []LockRef
	for _, l := range t.table.HeldBeside(owner, written) {
		refs = append(refs, LockRef{Mode: l.Mode, Lo: l.Span.Lo, Hi: l.Span.Hi})
	}
	return encodeLockSet(refs)
}

// proposeVote sends the command once.
func (r *Replica) proposeVote(t *tenure, p *proposal, q *voteRequest, command []byte) {
	ctx, cancel := context.WithTimeout(r.life, proposeTimeout)
	defer cancel()
	result, err := r.propose(ctx, command)
	r.proposed(ctx, t, p, q, command, result, err)
}

// proposed takes in what a vote that was sent came to. If the outcome is unknown, the
// memory locks and the pin stay, and the same bytes are proposed again in the
// background until the register's answer is known (H7). What was not sent is
// tried again for a while: a moment without a leader must not cost the
// transaction its locks.
func (r *Replica) proposed(ctx context.Context, t *tenure, p *proposal, q *voteRequest, command []byte, result Result, err error) {
	for waited, wait := time.Duration(0), time.Millisecond; errors.Is(err, paxos.ErrNotSent); wait = min(2*wait, 100*time.Millisecond) {
		if waited += wait; waited > sendPatience || r.serving.Load() != t || pause(ctx, r.life, wait) != nil {
			break
		}
		result, err = r.propose(ctx, command)
	}
	switch {
	case err == nil:
		r.finish(t, p, q, result)
	case errors.Is(err, paxos.ErrUnknownOutcome):
		if mutated("R2.dropped-on-timeout") {
			t.mu.Lock()
			t.mu.inflight.remove(p)
			t.mu.Unlock()
		}
		if !r.background(func() { r.settleVote(t, p, q, command) }) {
			r.giveUp(p, err)
		}
	default: // nothing was sent
		t.withdraw(p, &Error{Code: Unavailable, Shard: r.c.Shard, Detail: err.Error()})
	}
}

// giveUp ends a proposal whose outcome this replica will not learn any more. Its
// memory locks stay, for as long as anybody may look at them.
func (r *Replica) giveUp(p *proposal, err error) {
	p.err = &Error{Code: Unknown, Shard: r.c.Shard, Other: p.txn, Detail: err.Error()}
	close(p.done)
}

// durable reports that locks of the transaction are written down.
func (t *tenure) durable(id storage.TxnID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.durableLocked(id)
}

// settleVote proposes the same bytes until one copy is applied. If this epoch
// has ended meanwhile the answer is NotOwner, and no copy can apply any more.
func (r *Replica) settleVote(t *tenure, p *proposal, q *voteRequest, command []byte) {
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		if mutated("H7.new-timestamp") {
			p.ts = storage.Timestamp(r.maxTS.Load()) + 1
			command = r.voteCommand(t, q, p)
		}
		ctx, cancel := context.WithTimeout(r.life, proposeTimeout)
		result, err := r.propose(ctx, command)
		cancel()
		if err == nil {
			r.finish(t, p, q, result)
			return
		}
		if errors.Is(err, paxos.ErrClosed) || pause(r.life, r.life, wait) != nil {
			r.giveUp(p, err)
			return
		}
	}
}

// finish takes the register's answer in: memory locks go, and the locks are
// released, kept by the vote, or given back to the transaction.
func (r *Replica) finish(t *tenure, p *proposal, q *voteRequest, result Result) {
	v := result.Vote
	p.response = VoteResponse{State: v.State, Prepare: v.Prepare, Commit: v.Commit}
	release := false
	if result.Verdict == VerdictNotOwner {
		// An earlier copy may have been applied before the epoch ended: nobody may
		// read here as if there were no such vote.
		r.stepDown(t)
	}
	t.mu.Lock()
	t.mu.inflight.remove(p)
	switch result.Verdict {
	case VerdictVote:
		if v.Hash != p.hash && v.State != storage.VoteAborted {
			p.err = r.bad(fmt.Sprintf("transaction %s has voted on other content", p.txn))
		}
		release = v.State != storage.VotePrepared
		if v.State == storage.VotePrepared {
			t.mu.inflight.vote(p.txn, &votedTxn{since: r.c.Clock(), participants: q.participants, prepare: v.Prepare,
				keys: p.keys, staged: p.staged, size: p.size, allWritten: t.allWrittenLocked(p), done: make(chan struct{})})
		}
		if v.State == storage.VoteCommitted && !t.allWrittenLocked(p) {
			t.mu.unwrittenRelease = max(t.mu.unwrittenRelease, v.Commit)
		}
	case VerdictFenced:
		p.response, release = VoteResponse{Fenced: true}, true
	case VerdictSchema:
		p.err = &Error{Code: SchemaChanged, Shard: r.c.Shard}
	case VerdictNotOwner:
		p.err = r.notOwner()
	case VerdictRefused:
		p.refused.Store(true)
		p.err = r.lost(p.txn, "other chunks are staged than the vote says")
	default:
		panic(fmt.Sprintf("shard %d: verdict %d on a vote", r.c.Shard, result.Verdict))
	}
	// Still under the mutex: a duplicate of the request must find either this
	// proposal or what has become of its locks.
	switch {
	case release:
		delete(t.mu.txns, p.txn)
		t.table.ForceRelease(ownerOf(p.txn))
	case result.Verdict == VerdictSchema, result.Verdict == VerdictRefused:
		t.table.Unpin(ownerOf(p.txn))
	}
	t.mu.Unlock()
	if result.Verdict != VerdictVote || v.State != storage.VotePrepared {
		t.pending.Add(-1)
	}
	if v.State == storage.VoteCommitted {
		r.counters.commits.Add(1)
		r.garbage.note(p.keys, v.Commit)
	}
	close(p.done)
}

// allWrittenLocked reports that every lock of the transaction is on a key that
// it writes: as many grants as writes, each of a single key, and the writes'
// keys are locked. When in doubt it says no. Keys that a request got before it failed are
// not counted: nobody was told that they are locked.
func (t *tenure) allWrittenLocked(p *proposal) bool {
	h := t.mu.txns[p.txn]
	return h != nil && h.ranges == 0 && h.points == len(p.keys)
}

// outcome waits for a proposal's outcome, which usually is known already.
func (r *Replica) outcome(ctx context.Context, p *proposal) (*VoteResponse, error) {
	select {
	case <-p.done:
	default:
		timer := time.NewTimer(proposeTimeout)
		defer timer.Stop()
		select {
		case <-p.done:
		case <-timer.C:
			return nil, &Error{Code: Unknown, Shard: r.c.Shard, Other: p.txn}
		case <-ctx.Done():
			return nil, &Error{Code: Unknown, Shard: r.c.Shard, Other: p.txn, Detail: ctx.Err().Error()}
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	response := p.response
	return &response, nil
}

func (r *Replica) join(ctx context.Context, p *proposal, hash uint64) (*VoteResponse, error) {
	if p.hash != hash {
		return nil, r.bad(fmt.Sprintf("transaction %s is voting on other content", p.txn))
	}
	return r.outcome(ctx, p)
}

// commitReadOnly ends a transaction that wrote nothing: its locks were held up
// to now, so there is nothing to vote on. What it locked counts as released at
// a timestamp of now (H6).
func (r *Replica) commitReadOnly(ctx context.Context, t *tenure, q *OnePCRequest) (*VoteResponse, error) {
	p := &proposal{txn: q.Txn, since: r.c.Clock(), done: make(chan struct{})}
	other, voted, locked := t.enter(p, q)
	switch {
	case other != nil:
		return r.outcome(ctx, other)
	case voted != nil:
		return nil, r.bad("a prepared transaction asks for a commit on one shard")
	case !locked:
		return r.closeVote(t, q.Txn)
	}
	ts := max(storage.Timestamp(r.maxTS.Load()), q.Floor, q.Txn.Start) + 1
	if err := r.prove(ctx, t); err != nil {
		t.withdraw(p, err)
		return nil, err
	}
	t.mu.Lock()
	if t.mu.frozen { // the locks are being handed over, as held
		t.mu.Unlock()
		err := r.notOwner()
		t.withdraw(p, err)
		return nil, err
	}
	t.mu.unwrittenRelease = max(t.mu.unwrittenRelease, ts)
	if h := t.mu.txns[q.Txn]; h != nil {
		t.mu.unwrittenRelease = max(t.mu.unwrittenRelease, h.seen, h.unread)
	}
	delete(t.mu.txns, q.Txn)
	t.mu.inflight.remove(p)
	t.table.ForceRelease(ownerOf(q.Txn))
	t.mu.Unlock()
	t.pending.Add(-1)
	p.response = VoteResponse{State: storage.VoteCommitted, Prepare: ts, Commit: ts}
	close(p.done)
	return r.outcome(ctx, p)
}

// CloseVote returns the transaction's vote, after writing ABORTED where there
// was none.
func (r *Replica) CloseVote(ctx context.Context, q *CloseVoteRequest) (*VoteResponse, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	// A young vote under way is waited for: closing it would abort a transaction
	// that is about to commit. Safety does not depend on it.
	t.mu.Lock()
	p := t.mu.proposals[q.Txn]
	t.mu.Unlock()
	if p != nil {
		wait, cancel := context.WithTimeout(ctx, undecidedAge-r.c.Clock().Sub(p.since))
		defer cancel()
		if response, err := r.outcome(wait, p); err == nil && !response.Fenced {
			return response, nil
		}
	}
	return r.closeVote(t, q.Txn)
}

func (r *Replica) closeVote(t *tenure, id storage.TxnID) (*VoteResponse, error) {
	ctx, cancel := context.WithTimeout(r.life, proposeTimeout)
	defer cancel()
	result, err := r.proposeUntilKnown(ctx, &Command{Kind: KindCloseVote, Epoch: t.epoch, Txn: id})
	if err != nil {
		return nil, &Error{Code: Unavailable, Shard: r.c.Shard, Other: id, Detail: err.Error()}
	}
	switch result.Verdict {
	case VerdictNotOwner:
		r.stepDown(t)
		return nil, r.notOwner()
	case VerdictFenced:
		r.dropEnded(t, id)
		return &VoteResponse{Fenced: true}, nil
	}
	v := result.Vote
	if v.State != storage.VotePrepared {
		r.dropEnded(t, id)
	}
	return &VoteResponse{State: v.State, Prepare: v.Prepare, Commit: v.Commit}, nil
}

// forgetLocked ends the memory of a transaction whose locks go without a vote.
// It may have committed all the same: one that only read on one shard casts
// none. Then whoever changes what it read comes after it, and so after every
// version it saw and everything that was acknowledged before it began (H6).
// All of that lies at or below seen and its start; a timestamp of now is above
// both and costs the next autocommit statements no more than a floor.
func (r *Replica) forgetLocked(t *tenure, id storage.TxnID) {
	h := t.mu.txns[id]
	if h == nil {
		return // nothing was granted to it
	}
	t.mu.unwrittenRelease = max(t.mu.unwrittenRelease, h.seen, h.unread, id.Start, r.c.Times.Issued())
	delete(t.mu.txns, id)
}
