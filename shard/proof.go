package shard

import (
	"context"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
)

// proofs are the barriers of one tenure: one under way, and behind it one for
// everybody who came since. A barrier proves the ownership to those only who
// arrived before it began: an answer that began before the question may be that of
// an owner who was deposed in between.
type proofs struct {
	sync.Mutex
	running, next *proof
	count         int // barriers begun, for tests
}

// proof is one barrier. err is set before done is closed.
type proof struct {
	done chan struct{}
	err  error
}

// prove establishes that this replica owned the shard at some moment after the
// call began. In a sole epoch (H14) no other process can own it: the directory
// lock and the epoch are proof enough. Otherwise a lease that still lasts (H1), or
// a barrier that began after the request arrived, must show the epoch unchanged.
func (r *Replica) prove(ctx context.Context, t *tenure) error {
	if !r.proved(t) {
		if err := r.barrier(ctx, t); err != nil {
			return err
		}
	}
	if r.serving.Load() != t {
		return r.notOwner()
	}
	return nil
}

// proved reports whether no barrier is needed to prove the ownership.
func (r *Replica) proved(t *tenure) bool {
	return t.sole || mutated("R1.unproved") || t.provedBefore() || r.leased(t)
}

// leased reports whether the lease lasts, and has it renewed in good time. Who does
// not read does not renew: an idle owner does nothing.
func (r *Replica) leased(t *tenure) bool {
	held, aging := t.lease.holds()
	if !held {
		return false
	}
	if aging {
		r.renewLease(t)
	}
	epoch, _, process, _ := r.c.Machine.Owner()
	return epoch == t.epoch && process == r.c.Process
}

// renewLease begins a barrier for which nobody waits, unless one is under way.
func (r *Replica) renewLease(t *tenure) {
	if !t.proofs.TryLock() {
		return // somebody is about it
	}
	defer t.proofs.Unlock()
	if t.proofs.running == nil {
		r.beginProof(context.Background(), t, &proof{done: make(chan struct{})})
	}
}

// barrier joins the next barrier and waits for it.
func (r *Replica) barrier(ctx context.Context, t *tenure) error {
	p := r.joinProof(ctx, t)
	aboutToWait(ctx)
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.life.Done():
		return r.notOwner()
	}
	if p.err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return p.err
}

func (r *Replica) joinProof(ctx context.Context, t *tenure) *proof {
	s := &t.proofs
	s.Lock()
	defer s.Unlock()
	switch {
	case s.running == nil:
		return r.beginProof(ctx, t, &proof{done: make(chan struct{})})
	case mutated("R1.barrier-joined-late"):
		return s.running
	case s.next == nil:
		s.next = &proof{done: make(chan struct{})}
	}
	return s.next
}

// beginProof begins a barrier, which is not tied to the life of the request that
// caused it: others wait for it too. t.proofs is held.
func (r *Replica) beginProof(ctx context.Context, t *tenure, p *proof) *proof {
	t.proofs.running = p
	t.proofs.count++
	ctx = context.WithoutCancel(ctx)
	if !r.background(func() { r.runProof(ctx, t, p) }) {
		r.endProof(ctx, t, p, r.notOwner())
	}
	return p
}

func (r *Replica) runProof(ctx context.Context, t *tenure, p *proof) {
	bounded, cancel := context.WithTimeout(ctx, paxos.DefaultTimeout)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	issued := t.lease.issue()
	err := r.c.Group.ReadBarrier(bounded)
	if mutated("H1.lease-from-the-answer") {
		issued = t.lease.issue()
	}
	err = r.judgeProof(t, issued, err)
	t.proofs.Lock()
	defer t.proofs.Unlock()
	r.endProof(ctx, t, p, err)
}

// judgeProof says what a barrier that was issued at a moment has shown.
func (r *Replica) judgeProof(t *tenure, issued time.Duration, err error) error {
	if err != nil {
		return &Error{Code: Unavailable, Shard: r.c.Shard, Detail: err.Error()}
	}
	if epoch, _, process, _ := r.c.Machine.Owner(); epoch != t.epoch || process != r.c.Process {
		r.stepDown(t)
		return r.notOwner()
	}
	t.lease.renew(issued)
	return nil
}

// endProof answers those who waited for a barrier and begins the next for those
// who came since; t.proofs is held.
func (r *Replica) endProof(ctx context.Context, t *tenure, p *proof, err error) {
	p.err = err
	close(p.done)
	next := t.proofs.next
	t.proofs.running, t.proofs.next = next, nil
	if next != nil {
		r.beginProof(ctx, t, next)
	}
}
