package txn

import (
	"context"
	"errors"
	"slices"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Commit makes the writes durable and visible on every shard, or on none, and
// ends the transaction either way. An error other than Unknown means that
// nothing of it will ever be visible.
//
// Until the first commit message is sent, the end of ctx rolls the transaction
// back. From then on only the registers decide (H4), and Commit waits for them
// whatever becomes of ctx, but no longer than commitPatience per step.
func (t *Txn) Commit(ctx context.Context) error {
	if err := t.usable(); err != nil {
		return err
	}
	if t.load != nil {
		if err := t.load.finish(ctx); err != nil {
			e := convert(ctx, err, t.id, shard.System)
			t.abort(ctx, e)
			return e
		}
	}
	voters := t.voters()
	if len(voters) == 0 {
		t.dropLocks(ctx, t.parts)
		t.end()
		return nil
	}
	requests, large, err := t.commitRequests(voters)
	if err == nil {
		err = t.stage(ctx, large)
	}
	if err == nil {
		t.c.reached(StepBeforeFloor, t.id)
		err = t.drawFloor(ctx, requests)
		t.c.reached(StepAfterFloor, t.id)
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil { // no vote was asked for
		e := convert(ctx, err, t.id, shard.System)
		t.abort(ctx, e)
		return e
	}
	t.setState(StateCommitting)
	t.c.reached(StepBeforeSend, t.id)
	a := &attempt{t: t, requests: requests, ballots: make([]ballot, len(requests)), errs: make([]error, len(requests))}
	a.send(ctx)
	return a.conclude(ctx)
}

// voters lists the shards whose vote the commit needs: those with writes, and
// those with locks, because what was read under a lock must still be true when
// the transaction commits. Without the latter a shard could lose the locks,
// let another transaction pass, and this one commit as if nothing had happened.
//
// A transaction without writes that is one statement does not need votes if all
// its locks are on one shard: they were all held when the last was granted. Nor
// does it under READ COMMITTED, which promises nothing between rows.
func (t *Txn) voters() []*participant {
	if len(t.parts) == 0 {
		return nil
	}
	locked := make([]*participant, 0, len(t.parts))
	for _, p := range t.parts {
		if p.rows.len()+len(p.ranges) > 0 {
			locked = append(locked, p)
		}
	}
	if t.Writes() == 0 && t.o.Autocommit && t.statements <= 1 &&
		(len(locked) <= 1 || t.o.Isolation == ReadCommitted) {
		return nil
	}
	if mutated("1.4.readers-do-not-vote") {
		locked = slices.DeleteFunc(locked, func(p *participant) bool { return len(t.buffer.Writes(p.shard)) == 0 })
	}
	return locked
}

// commitRequests builds one request per voter and refuses those that no log
// entry can carry; large are the voters whose writes must be staged. A written
// key is exclusively locked, so every shard with writes is among the voters.
func (t *Txn) commitRequests(voters []*participant) (requests []*shard.PrepareRequest, large []*stager, err error) {
	participants := make([]shard.ID, len(voters))
	for i, p := range voters {
		participants[i] = p.shard
	}
	requests = make([]*shard.PrepareRequest, len(voters))
	for i, p := range voters {
		r := &shard.PrepareRequest{Participants: participants}
		r.Txn, r.Token = t.id, p.token
		r.Locked = p.lockRefs(&t.buffer)
		if !mutated("H11.versions-unsent") {
			r.Schemas = t.schemas
		}
		s, err := t.plan(p, r)
		if err != nil {
			return nil, nil, err
		}
		if s != nil {
			large = append(large, s)
		}
		requests[i] = r
	}
	return requests, large, nil
}

// lockRefs lists the locks that must still be held when the shard votes; the
// exclusive locks of written keys go without saying. An interval without an end
// is sent as its first key: the token says that nothing was dropped, the list
// is the second line.
func (p *participant) lockRefs(b *WriteBuffer) []shard.LockRef {
	var refs []shard.LockRef
	p.rows.each(func(key storage.Key, l rowLock) {
		if _, _, written := b.Get(p.shard, key); written {
			return
		}
		ref := shard.LockRef{Mode: shard.LockShared, Lo: key}
		if l.mode == LockExclusive {
			ref.Mode = shard.LockExclusive
		}
		refs = append(refs, ref)
	})
	return append(refs, p.ranges...)
}

// drawFloor takes the floor timestamp, after the last lock was granted (R4). A
// single autocommit statement on a single shard may go without: the owner then
// checks that everything the statement met lies below a base of its own, and
// answers NeedFloor if not (H6).
func (t *Txn) drawFloor(ctx context.Context, requests []*shard.PrepareRequest) error {
	if len(t.staged) == 0 && t.o.Autocommit && t.statements <= 1 && t.draws == 1 && len(t.parts) == 1 && t.newest <= t.id.Start {
		return nil
	}
	if mutated("R5.start-for-a-floor") {
		for _, r := range requests {
			r.Floor = t.id.Start
		}
		return nil
	}
	floor, err := t.draw(ctx)
	if err != nil {
		return err
	}
	for _, r := range requests {
		r.Floor = floor
	}
	return nil
}

// attempt is a commit whose messages are on their way.
type attempt struct {
	t        *Txn
	requests []*shard.PrepareRequest
	ballots  []ballot
	errs     []error // why a participant gave no ballot, or refused
}

const (
	// jointBytes is the size up to which the votes of one transaction go to their
	// logs at one moment, and to another node in one message. Larger ones gain nothing
	// by waiting for each other.
	jointBytes = 64 << 10
	// jointLocks bounds the locks that are listed in such a message.
	jointLocks = 1024
)

// together returns who sends the Prepares of this attempt together, nil if each goes
// alone.
func (a *attempt) together() *shard.Router {
	c := a.t.c
	router, ok := c.router.(*shard.Router)
	if !ok || len(a.requests) == 1 || a.t.buffer.Bytes() > jointBytes || c.cfg.Reached != nil {
		return nil
	}
	locks := 0
	for _, r := range a.requests {
		if locks += len(r.Locked); r.Chunks > 0 || locks > jointLocks {
			return nil
		}
	}
	return router
}

// send asks every participant for its vote, all at once, and waits for the
// answers: one sequential round of consensus, however many shards.
func (a *attempt) send(ctx context.Context) {
	ctx, cancel := a.t.c.detached(ctx, commitPatience)
	defer cancel()
	if router := a.together(); router != nil {
		a.sendTogether(ctx, router)
		return
	}
	a.t.c.crew.inParallel(len(a.requests), func(i int) {
		vote, err := a.ask(ctx, a.requests[i].Participants[i], a.requests[i])
		a.answered(i, vote, err)
	})
}

// sendTogether is send with one message to each other node. Who wants a floor is asked
// again alone.
func (a *attempt) sendTogether(ctx context.Context, router *shard.Router) {
	votes := make([]shard.ShardVote, len(a.requests))
	for i, r := range a.requests {
		votes[i] = shard.ShardVote{Shard: r.Participants[i], Request: r}
	}
	together := router.Together(votes)
	a.t.c.crew.inParallel(together.Jobs(), func(i int) { together.Do(ctx, i) })
	var again []int
	for i := range votes {
		if shard.CodeOf(votes[i].Err) == shard.NeedFloor {
			again = append(again, i)
			continue
		}
		a.answered(i, votes[i].Response, votes[i].Err)
	}
	a.t.c.crew.inParallel(len(again), func(k int) {
		i := again[k]
		r := a.requests[i]
		floor, err := router.Timestamp(ctx)
		if err != nil {
			a.answered(i, nil, err)
			return
		}
		r.Floor = floor
		vote, err := a.ask(ctx, votes[i].Shard, r)
		a.answered(i, vote, err)
	})
}

// answered takes in what one participant said.
func (a *attempt) answered(i int, vote *shard.VoteResponse, err error) {
	switch {
	case err == nil:
		a.ballots[i] = ballotOf(vote)
	case mutated("1.4.silence-is-a-vote"):
		a.ballots[i] = ballot{answer: answerPrepared, prepare: a.requests[i].Floor + 1}
	default:
		a.errs[i] = err
	}
}

// ask sends one commit message, and again with a floor when the owner wants one.
func (a *attempt) ask(ctx context.Context, s shard.ID, r *shard.PrepareRequest) (*shard.VoteResponse, error) {
	c, router := a.t.c, a.t.c.router
	for {
		var vote *shard.VoteResponse
		var err error
		if len(a.requests) == 1 && r.Chunks == 0 {
			c.reached(StepOnePC, a.t.id)
			vote, err = router.OnePC(ctx, s, &r.OnePCRequest)
			c.reached(StepOnePCVote, a.t.id)
		} else {
			c.reached(StepPrepare, a.t.id)
			vote, err = router.Prepare(ctx, s, r)
			c.reached(StepVote, a.t.id)
		}
		if shard.CodeOf(err) != shard.NeedFloor {
			return vote, err
		}
		if r.Floor, err = router.Timestamp(ctx); err != nil {
			return nil, err
		}
	}
}

// conclude turns the ballots into the client's answer. Where a ballot is
// missing, the register is closed first; an error in place of a ballot is
// silence, whatever it says.
func (a *attempt) conclude(ctx context.Context) error {
	t := a.t
	shards := a.requests[0].Participants
	v, commit := decide(roleGateway, a.ballots)
	if v == verdictPending && mutated("1.4.coordinator-aborts-alone") {
		v = verdictAbort
	}
	if v == verdictPending {
		t.setState(StateRecovering)
		patience, cancel := t.c.detached(ctx, commitPatience)
		v, commit = t.c.closeVotes(patience, t.id, shards, roleGateway, a.ballots)
		cancel()
	}
	t.c.reached(StepBeforeAnswer, t.id)
	switch v {
	case verdictCommit:
		t.c.resolver.outcome(t.id, shards, a.ballots, commit)
		t.releaseOthers(shards)
		t.c.remember(t)
		t.end()
		return nil
	case verdictAbort:
		t.c.resolver.outcome(t.id, shards, a.ballots, 0)
		t.releaseOthers(shards)
		e := a.refusal()
		t.mu.Lock()
		t.mu.aborted = e
		t.mu.Unlock()
		t.end()
		return e
	}
	// Nobody knows yet, or nobody knows any more. Registers that are still open
	// are brought to an end in the background; the client is told the truth.
	e := &Error{Code: Unknown, Txn: t.id, Err: errors.Join(a.errs...),
		Detail: "the commit was sent and not every shard answered"}
	t.mu.Lock()
	t.mu.aborted = e
	t.mu.Unlock()
	t.releaseOthers(shards)
	t.end()
	if v == verdictPending {
		t.c.recoverer.later(t.id, shards)
	}
	return e
}

// releaseOthers drops the locks on shards that do not vote.
func (t *Txn) releaseOthers(voters []shard.ID) {
	if len(t.parts) == len(voters) {
		return
	}
	voted := make(map[shard.ID]bool, len(voters))
	for _, s := range voters {
		voted[s] = true
	}
	for _, p := range t.parts {
		if !voted[p.shard] {
			t.c.resolver.release(t.id, p.shard)
		}
	}
}

// refusal is the error for a transaction of which some register says ABORTED;
// the code tells the reason if a participant gave one.
func (a *attempt) refusal() *Error {
	e := &Error{Code: Conflict, Txn: a.t.id, Detail: "a shard voted to abort: locks were lost, or the transaction was taken for dead"}
	for i, err := range a.errs {
		if err == nil {
			if a.ballots[i].answer == answerAborted {
				e.Shard = a.requests[0].Participants[i]
			}
			continue
		}
		why := convert(context.Background(), err, a.t.id, a.requests[0].Participants[i])
		e.Err = err
		switch why.Code {
		case TooLarge, SchemaChanged, Bug, LockLost, DiskFull:
			e.Code, e.Shard, e.Detail = why.Code, why.Shard, why.Detail
		}
	}
	return e
}

// ballotOf reads a vote register's answer. VoteNone without Fenced is not a
// register state that CloseVote or a vote can leave behind: it counts as silence.
func ballotOf(v *shard.VoteResponse) ballot {
	switch {
	case v.Fenced:
		return ballot{answer: answerFenced}
	case v.State == storage.VotePrepared:
		return ballot{answer: answerPrepared, prepare: v.Prepare}
	case v.State == storage.VoteCommitted:
		return ballot{answer: answerCommitted, commit: v.Commit}
	case v.State == storage.VoteAborted:
		return ballot{answer: answerAborted}
	}
	return ballot{}
}
