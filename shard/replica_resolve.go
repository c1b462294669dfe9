package shard

import (
	"context"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// resolver collects outcomes and proposes those that came together as one
// command. It runs on a goroutine that lives while there is work.
//
// An outcome is on nobody's way until somebody waits for it: nothing that a
// client was told depends on it. So it lingers, for others to share its log entry
// with, and the shards of a node propose what they have at the same moments, so
// that one fsync does for all of them. Who meets a lock or a vote that waits for
// an outcome hurries the shard; for a while after that nothing lingers there,
// because the next one will probably be met as well.
type resolver struct {
	mu struct {
		sync.Mutex
		queue   []pendingResolve
		running bool
		in, out uint64        // how many were queued, and of how many that has come to an end
		next    chan struct{} // closed when out grows; nil if nobody asked
		due     *time.Timer   // begins to run the queue; nil: nothing lingers
		prompt  time.Time     // nothing lingers before
	}
}

type pendingResolve struct {
	Resolution
	tenure *tenure
	vote   *votedTxn  // nil: not known yet
	size   int        // of the transaction's writes, in bytes
	done   chan error // buffered; nil: nobody waits
}

// One Resolve command takes at most resolveBatch transactions and, unless the
// first alone exceeds that, at most resolveBytes of writes: replicas apply
// nothing else meanwhile. A vote found by a new owner counts as inheritedBytes.
const (
	resolveBatch   = 512
	resolveBytes   = 4 << 20
	inheritedBytes = resolveBytes / 16
	// DefaultLinger is the distance of the moments at which the shards of a node
	// propose the outcomes that have come in, and so the longest that one lingers.
	// What was decided within it has to be recovered if the owner dies.
	DefaultLinger = 10 * time.Millisecond
	// resolvePrompt is how long nothing lingers after somebody had to wait.
	resolvePrompt = 100 * time.Millisecond
	// lingerBatch outcomes, or one of lingerBytes of writes, do not linger.
	lingerBatch = 64
	lingerBytes = 64 << 10
	// resolvePatience is how long a reader waits for a large transaction whose
	// outcome has been handed in: its versions are being written.
	resolvePatience = 5 * time.Minute
)

// Resolve hands the outcome of a PREPARED transaction in.
func (r *Replica) Resolve(ctx context.Context, q *ResolveRequest) error {
	t, err := r.current()
	if err != nil {
		return err
	}
	t.mu.Lock()
	voting, voted := t.mu.proposals[q.Txn], t.mu.voted[q.Txn]
	if voted != nil {
		voted.resolving = voted.staged
	}
	t.mu.Unlock()
	if voting == nil && voted == nil {
		// No vote of it is open here: there is nothing to write. Locks that it
		// may hold go, since the transaction is over.
		return r.release(t, q.Txn)
	}
	item := pendingResolve{Resolution: Resolution{Txn: q.Txn, Commit: q.Commit}, tenure: t}
	if q.Wait {
		item.done = make(chan error, 1)
	}
	if voted != nil {
		item.vote, item.size = voted, voted.size
	}
	if voting != nil {
		// The outcome is known before this owner knows its own vote: a recoverer
		// was faster. The vote must be entered before it can be resolved.
		if !r.background(func() { r.enqueueAfter(voting, item) }) {
			return r.notOwner()
		}
	} else {
		r.enqueue(item)
	}
	if !q.Wait {
		return nil
	}
	select {
	case err := <-item.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handIn queues the outcome of a vote that is PREPARED here; false if none is.
func (r *Replica) handIn(id storage.TxnID, commit storage.Timestamp) bool {
	t := r.serving.Load()
	if t == nil {
		return false
	}
	t.mu.Lock()
	voted := t.mu.voted[id]
	if voted != nil {
		voted.resolving = voted.staged
	}
	t.mu.Unlock()
	if voted == nil {
		return false
	}
	r.enqueue(pendingResolve{Resolution: Resolution{Txn: id, Commit: commit}, tenure: t, vote: voted, size: voted.size})
	return true
}

func (r *Replica) enqueueAfter(p *proposal, item pendingResolve) {
	<-p.done // settleVote closes it at the latest when the replica is closed
	item.size = p.size
	item.tenure.mu.Lock()
	item.vote = item.tenure.mu.voted[item.Txn]
	item.tenure.mu.Unlock()
	r.enqueue(item)
}

func (r *Replica) enqueue(item pendingResolve) {
	s := &r.resolver
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.queue = append(s.mu.queue, item)
	s.mu.in++
	switch now := time.Now(); {
	case s.mu.running:
	case r.c.Linger < 0, item.done != nil, item.large(), len(s.mu.queue) >= lingerBatch, now.Before(s.mu.prompt), item.awaited():
		r.resolveLocked()
	case s.mu.due == nil:
		// The same moments for all shards, whenever their first outcome came.
		linger := r.c.Linger
		s.mu.due = time.AfterFunc(linger-time.Duration(now.UnixNano())%linger, r.resolveDue)
	}
}

// awaited reports whether somebody has waited for the outcome since before it was
// handed in. Whoever begins now hurries it when it is in the queue: both look at
// the queue under its mutex, and first make themselves seen.
func (i *pendingResolve) awaited() bool {
	if mutated("0071.waiters-unseen") {
		return false
	}
	return i.vote != nil && i.vote.awaited.Load() || i.tenure.table.Awaited(ownerOf(i.Txn))
}

// large reports whether the outcome would not share its command with many.
func (i *pendingResolve) large() bool {
	return i.size >= lingerBytes || i.vote != nil && i.vote.staged
}

// resolveDue ends the lingering.
func (r *Replica) resolveDue() {
	r.resolver.mu.Lock()
	defer r.resolver.mu.Unlock()
	r.resolveLocked()
}

// hurryResolves is called by who is about to wait for something that an outcome
// may end.
func (r *Replica) hurryResolves() {
	s := &r.resolver
	if mutated("0071.outcomes-unhurried") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.prompt = time.Now().Add(resolvePrompt)
	r.resolveLocked()
}

// resolveLocked lets what is queued be proposed.
func (r *Replica) resolveLocked() {
	s := &r.resolver
	if s.mu.due != nil {
		s.mu.due.Stop()
		s.mu.due = nil
	}
	if s.mu.running || len(s.mu.queue) == 0 {
		return
	}
	if s.mu.running = r.background(r.resolveQueue); s.mu.running {
		return
	}
	for _, item := range s.mu.queue { // closed: nobody will work the queue off
		if item.done != nil {
			item.done <- r.notOwner()
		}
	}
	s.endLocked(len(s.mu.queue))
	s.mu.queue = nil
}

// endLocked notes that n outcomes have come to an end.
func (s *resolver) endLocked(n int) {
	s.mu.out += uint64(n)
	if s.mu.next != nil {
		close(s.mu.next)
		s.mu.next = nil
	}
}

// resolveQueue proposes what is queued until nothing is.
func (r *Replica) resolveQueue() {
	s := &r.resolver
	for {
		s.mu.Lock()
		n := batchLen(s.mu.queue)
		if n == 0 {
			s.mu.queue = nil
			s.mu.running = false
			s.mu.Unlock()
			return
		}
		batch := s.mu.queue[:n:n]
		s.mu.queue = s.mu.queue[n:]
		s.mu.Unlock()
		r.resolveBatch(batch)
		s.mu.Lock()
		s.endLocked(n)
		s.mu.Unlock()
	}
}

// batchLen returns how many of the queued outcomes the next command takes. They
// were all queued in one tenure.
func batchLen(queue []pendingResolve) int {
	size := 0
	for i := range queue {
		size += queue[i].size
		if i == resolveBatch || i > 0 && size > resolveBytes || queue[i].tenure != queue[0].tenure {
			return i
		}
	}
	return len(queue)
}

// resolveBatch applies outcomes. They are retried while their epoch lasts: a
// Resolve may be applied any number of times.
func (r *Replica) resolveBatch(batch []pendingResolve) {
	t := batch[0].tenure
	c := Command{Kind: KindResolve, Epoch: t.epoch, Resolutions: make([]Resolution, 0, len(batch))}
	for _, item := range batch {
		c.Resolutions = append(c.Resolutions, item.Resolution)
	}
	result, err := r.proposeUntilKnown(r.life, &c)
	if err == nil && result.Verdict == VerdictNotOwner {
		r.stepDown(t)
		err = r.notOwner()
	}
	for _, item := range batch {
		switch {
		case err == nil:
			r.resolved(t, item.Resolution)
		case item.done == nil && CodeOf(err) == NotOwner && !mutated("0071.outcomes-end-with-the-tenure"):
			// Nobody repeats what was handed in, and this replica may own the vote again.
			r.handIn(item.Txn, item.Commit)
		}
		if item.done != nil {
			item.done <- err
		}
	}
}

// resolved lets the locks of a resolved transaction go and wakes who waited.
func (r *Replica) resolved(t *tenure, res Resolution) {
	t.mu.Lock()
	v := t.mu.voted[res.Txn]
	if v == nil {
		t.mu.Unlock()
		return
	}
	if res.Commit != 0 && res.Commit < v.prepare { // refused by the state machine
		t.mu.Unlock()
		return
	}
	t.mu.inflight.resolved(res.Txn)
	delete(t.mu.txns, res.Txn)
	if res.Commit != 0 && !v.allWritten {
		t.mu.unwrittenRelease = max(t.mu.unwrittenRelease, res.Commit)
	}
	t.table.ForceRelease(ownerOf(res.Txn))
	t.mu.Unlock()
	t.pending.Add(-1)
	if res.Commit != 0 {
		r.counters.commits.Add(1)
		r.garbage.note(v.keys, res.Commit)
	}
	close(v.done)
}

// drainResolves waits, for a moment, until what is queued has come to an end: a
// clean stop leaves nothing to recover, and who looks at locks sees none of a
// transaction that has committed.
func (r *Replica) drainResolves() {
	s := &r.resolver
	s.mu.Lock()
	defer s.mu.Unlock()
	r.resolveLocked()
	patience := time.After(time.Second)
	for all := s.mu.in; s.mu.out < all; {
		if s.mu.next == nil {
			s.mu.next = make(chan struct{})
		}
		next := s.mu.next
		s.mu.Unlock()
		late := false
		select {
		case <-next:
		case <-patience:
			late = true
		}
		s.mu.Lock()
		if late {
			return
		}
	}
}

// Undecided lists PREPARED votes at least olderThan old, oldest first.
func (r *Replica) Undecided(olderThan time.Duration) ([]UndecidedVote, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	now := r.c.Clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	var votes []UndecidedVote
	for id, v := range t.mu.voted {
		if age := now.Sub(v.since); age >= olderThan {
			votes = append(votes, UndecidedVote{Txn: id, Participants: v.participants, Prepare: v.prepare, Age: max(age, 0)})
		}
	}
	sortUndecided(votes)
	return votes, nil
}
