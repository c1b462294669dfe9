package txn

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

const (
	// recoverPatience bounds one attempt at finishing somebody's transaction.
	recoverPatience = 5 * time.Second
	// applyPatience bounds the wait for an outcome to be applied, once it is
	// decided: writing the versions of a large transaction takes its time.
	applyPatience = 5 * time.Minute
	// ownWait is the pace at which a reader looks again at a vote that this
	// process's own coordinator is about to resolve.
	ownWait = 5 * time.Millisecond

	// askPatience bounds how long a sweep waits for one shard's list, sweepAsks
	// how many shards it asks at a time.
	askPatience = 500 * time.Millisecond
	sweepAsks   = 16
	// recoverAtOnce bounds the transactions that the sweeps finish at a time.
	recoverAtOnce = 512

	closeBackoffMin = 5 * time.Millisecond
	closeBackoffMax = 500 * time.Millisecond
)

// recoverer finishes transactions whose coordinator does not: it closes every
// participant's register, decides from what they say, and hands out the
// outcome. It is right for any number of recoverers to do so at once, and for
// the coordinator to be alive after all.
type recoverer struct {
	c *Coordinator
	// ctx ends when the coordinator closes.
	ctx context.Context
	// running counts recoveries in the background.
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		inFlight map[storage.TxnID]*recovery
		sweeping int // recoveries that a sweep began
		closed   bool
	}
}

// recovery is one attempt that several may wait for.
type recovery struct {
	done chan struct{}
	err  error
}

func newRecoverer(ctx context.Context, c *Coordinator) *recoverer {
	r := &recoverer{c: c, ctx: ctx}
	r.mu.inFlight = make(map[storage.TxnID]*recovery)
	return r
}

// recover finishes the transaction id; nil means that its outcome is on its way
// to every participant. Callers for one transaction share one attempt.
func (r *recoverer) recover(ctx context.Context, id storage.TxnID, shards []shard.ID) error {
	if len(shards) == 0 || r.c.isOpen(id) {
		// A vote on its way into the log, or one that our own coordinator is
		// about to resolve: look again.
		return sleep(ctx, ownWait)
	}
	r.mu.Lock()
	if r.mu.closed {
		r.mu.Unlock()
		return context.Canceled
	}
	attempt := r.mu.inFlight[id]
	if attempt == nil {
		attempt = &recovery{done: make(chan struct{})}
		r.mu.inFlight[id] = attempt
		r.running.Go(func() {
			attempt.err = r.finish(id, shards)
			r.mu.Lock()
			delete(r.mu.inFlight, id)
			r.mu.Unlock()
			close(attempt.done)
		})
	}
	r.mu.Unlock()
	select {
	case <-attempt.done:
		return attempt.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish is one attempt. It applies the outcome before it returns, so that who
// waits for it does not run into the same vote again.
func (r *recoverer) finish(id storage.TxnID, shards []shard.ID) error {
	ctx, cancel := context.WithTimeout(r.ctx, recoverPatience)
	defer cancel()
	v, commit := r.c.closeVotes(ctx, id, shards, roleRecoverer, make([]ballot, len(shards)))
	if v == verdictPending {
		return errUndecided(id)
	}
	r.c.log.Info("finished an undecided transaction", "txn", id, "outcome", v, "commit", commit, "shards", shards)
	applying, end := context.WithTimeout(r.ctx, applyPatience)
	defer end()
	errs := make([]error, len(shards))
	r.c.crew.inParallel(len(shards), func(i int) {
		r.c.reached(StepResolve, id)
		errs[i] = r.c.router.Resolve(applying, shards[i], &shard.ResolveRequest{Txn: id, Commit: commit, Wait: true})
	})
	for i, err := range errs {
		if err != nil {
			return r.unresolved(applying, id, shards[i], err)
		}
	}
	return nil
}

// unresolved is the error of an outcome that could not be applied everywhere.
func (r *recoverer) unresolved(ctx context.Context, id storage.TxnID, s shard.ID, err error) error {
	if ctx.Err() != nil && r.ctx.Err() == nil {
		return errUndecided(id)
	}
	return fmt.Errorf("resolve transaction %s on shard %d: %w", id, s, err)
}

// errUndecided: some participants of a transaction cannot be asked, so whoever waits
// for it cannot go on. The time of the attempt has run out, not that of the waiter.
func errUndecided(id storage.TxnID) error {
	return &Error{Code: Unavailable, Other: id, Detail: "transaction " + id.String() + " is in the way and cannot be decided: a shard of it does not answer"}
}

// later finishes id in the background, as often as it takes.
func (r *recoverer) later(id storage.TxnID, shards []shard.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return
	}
	r.running.Go(func() {
		for r.ctx.Err() == nil {
			if r.recover(r.ctx, id, shards) == nil {
				return
			}
			if sleep(r.ctx, sweepAge) != nil {
				return
			}
		}
	})
}

// wait ends the recoverer; the coordinator's context has been cancelled.
func (r *recoverer) wait() {
	r.mu.Lock()
	r.mu.closed = true
	r.mu.Unlock()
	r.running.Wait()
}

// sweepLoop looks for votes that nobody resolves. The first sweep also finishes
// the young ones of an earlier life of this node: their coordinator is dead.
func (r *recoverer) sweepLoop(ctx context.Context) {
	first := make(map[shard.ID]bool)
	for {
		r.sweepAll(ctx, first)
		if sleep(ctx, sweepEvery) != nil {
			return
		}
	}
}

// sweepAll sweeps every shard that this node owns once; first remembers which have been asked for
// the votes of an earlier life. Shards that do not answer hold up the others no
// longer than askPatience.
func (r *recoverer) sweepAll(ctx context.Context, first map[shard.ID]bool) {
	shards := r.local()
	asked := make([]bool, len(shards))
	var next atomic.Int64
	r.c.crew.inParallel(min(sweepAsks, len(shards)), func(int) {
		for i := int(next.Add(1)) - 1; i < len(shards); i = int(next.Add(1)) - 1 {
			s := shards[i]
			asked[i] = first[s] || r.sweep(ctx, s, 0, r.c.isPredecessor)
			r.sweep(ctx, s, sweepAge, func(uint64) bool { return true })
		}
	})
	clear(first) // what goes to another owner and comes back is asked again
	for i, s := range shards {
		first[s] = asked[i]
	}
}

// sweep begins to finish the votes of shard s that are at least age old and
// whose gateway pleases want. It reports whether none was left out; those are
// for the next sweep.
func (r *recoverer) sweep(ctx context.Context, s shard.ID, age time.Duration, want func(gateway uint64) bool) bool {
	askCtx, cancel := context.WithTimeout(ctx, askPatience)
	votes, err := r.c.router.Undecided(askCtx, s, age)
	cancel()
	if err != nil {
		return false
	}
	for _, v := range votes {
		if !want(v.Txn.Gateway) || r.c.isOpen(v.Txn) {
			continue
		}
		if !r.inBackground(v, s) {
			return false
		}
	}
	return true
}

// inBackground recovers a transaction without waiting for it: one whose other
// participants do not answer must not hold up the rest.
func (r *recoverer) inBackground(v shard.UndecidedVote, s shard.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.inFlight[v.Txn] != nil {
		return true
	}
	if r.mu.closed || r.mu.sweeping >= recoverAtOnce {
		return false
	}
	r.mu.sweeping++
	r.running.Go(func() {
		if err := r.recover(r.ctx, v.Txn, v.Participants); err != nil {
			r.c.log.Debug("sweep", "txn", v.Txn, "shard", s, "error", err)
		}
		r.mu.Lock()
		r.mu.sweeping--
		r.mu.Unlock()
	})
	return true
}

// local lists the shards to sweep. Where each node sweeps what it owns, a shard
// is swept by whoever owns it, and by nobody while it has no owner: then its votes
// could not be asked for either.
func (r *recoverer) local() []shard.ID {
	if r.c.cfg.Local != nil {
		return r.c.cfg.Local()
	}
	return r.c.shards()
}

// isPredecessor tells whether gateway was an earlier life of this node.
func (c *Coordinator) isPredecessor(gateway uint64) bool {
	if c.cfg.Predecessor != nil {
		return c.cfg.Predecessor(gateway)
	}
	// A gateway is its node in the upper 16 bits and an incarnation that only
	// rises in the lower 48 (shard.Node.Gateway).
	const incarnationBits = 48
	return gateway>>incarnationBits == c.cfg.Gateway>>incarnationBits && gateway < c.cfg.Gateway
}

// closeVotes closes the registers of which no ballot is known, until the
// ballots amount to a verdict or ctx ends (pending). CloseVote leaves a
// register written: what it answers cannot change under us.
func (c *Coordinator) closeVotes(ctx context.Context, id storage.TxnID, shards []shard.ID, r role, ballots []ballot) (verdict, storage.Timestamp) {
	for backoff := closeBackoffMin; ; backoff = min(2*backoff, closeBackoffMax) {
		if v, commit := decide(r, ballots); v != verdictPending {
			return v, commit
		}
		c.crew.inParallel(len(shards), func(i int) {
			if ballots[i].answer != answerNone {
				return
			}
			c.reached(StepCloseVote, id)
			vote, err := c.router.CloseVote(ctx, shards[i], &shard.CloseVoteRequest{Txn: id})
			if err != nil && mutated("1.4.recoverer-reads-silence-as-abort") {
				ballots[i] = ballot{answer: answerAborted}
			}
			if err == nil {
				ballots[i] = ballotOf(vote)
			}
		})
		if v, commit := decide(r, ballots); v != verdictPending {
			return v, commit
		}
		if sleep(ctx, backoff) != nil {
			return verdictPending, 0
		}
	}
}

// sleep waits for d, or returns ctx's error as soon as it ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
