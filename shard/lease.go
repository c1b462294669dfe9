package shard

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// A lease lets an owner answer without asking its group (H1). It is a promise
// about time alone: whoever owns the shard next serves nothing before the lease is
// over. A barrier that was issued at t0, and after which the owner's applied state
// still showed its own epoch, is the proof that the next epoch begins after t0, on
// every replica. The next owner waits from the moment when it has applied that
// begin, and so for longer than [t0, t0+Length) lasts on any clock whose rate is
// within the bound. Nothing depends on who leads, on what time it is anywhere, or
// on how long a message takes.

// DefaultLease is long enough that a busy machine renews it in time and short
// enough that nobody minds waiting for it after a crash.
const DefaultLease = 750 * time.Millisecond

// DefaultDrift bounds by how much a clock may run faster or slower than true time:
// a hundred times what crystals do.
const DefaultDrift = 0.01

// LeasePolicy says how long leases are and what they are measured with. The zero
// value is no lease at all.
type LeasePolicy struct {
	// Length is how long an owner answers without asking anybody; 0: it does not.
	Length time.Duration
	// Drift bounds the rate of the clocks of all nodes: each runs at least 1-Drift
	// and at most 1+Drift times as fast as true time.
	Drift float64
	// Clock tells the time since some fixed moment. It must not stop while the
	// machine is suspended.
	Clock func() time.Duration
}

// newLeasePolicy makes a policy of settings, in which 0 means the default and a
// negative length no lease. A machine without a clock that can be trusted to run
// has none.
func newLeasePolicy(length time.Duration, drift float64) LeasePolicy {
	if length == 0 {
		length = DefaultLease
	}
	if drift == 0 {
		drift = DefaultDrift
	}
	p := LeasePolicy{Length: length, Drift: drift, Clock: bootClock}
	if length < 0 || drift < 0 || drift >= 1 || !bootClockRuns() {
		p.Length = 0
	}
	return p
}

// wait is how long the next owner waits on its own clock, so that the lease is over
// even if its clock is the fastest and this one's the slowest.
func (p *LeasePolicy) wait() time.Duration {
	if p.Length <= 0 {
		return 0
	}
	if mutated("H1.wait-without-drift") {
		return p.Length
	}
	return time.Duration(math.Ceil(float64(p.Length) * (1 + p.Drift) / (1 - p.Drift)))
}

// lease is an owner's lease in one tenure.
type lease struct {
	policy *LeasePolicy // nil: none in this epoch
	until  atomic.Int64 // on the policy's clock; 0: not held, as far as is known
}

// likely reports whether there is a lease, as far as is known without looking at
// the clock.
func (l *lease) likely() bool { return l.policy != nil && l.until.Load() != 0 }

// holds looks at the clock. aging says that the lease should be renewed soon.
func (l *lease) holds() (held, aging bool) {
	until := l.until.Load()
	if l.policy == nil || until == 0 {
		return false, false
	}
	left := time.Duration(until) - l.policy.Clock()
	if left <= 0 {
		l.until.CompareAndSwap(until, 0)
		return false, false
	}
	return true, left < l.policy.Length/2
}

// issue is the moment from which a proof that is about to begin can count.
func (l *lease) issue() time.Duration {
	if l.policy == nil {
		return 0
	}
	return l.policy.Clock()
}

// renew takes in that a proof issued at t0 was confirmed.
func (l *lease) renew(t0 time.Duration) {
	if l.policy == nil {
		return
	}
	until := int64(t0 + l.policy.Length)
	for {
		old := l.until.Load()
		if old >= until || l.until.CompareAndSwap(old, until) {
			return
		}
	}
}

// outwait waits until d has passed on the policy's clock since began. Steps of the
// wait are bounded, for a clock may run on while the process is stopped.
func (p *LeasePolicy) outwait(ctx, life context.Context, began, d time.Duration) error {
	for {
		left := began + d - p.Clock()
		if left <= 0 {
			return nil
		}
		if err := pause(ctx, life, min(left, 10*time.Millisecond)); err != nil {
			return err
		}
	}
}

// awaitLeases waits until no owner before this one can answer under a lease; e has
// been applied here, and nothing is served in it yet. There is nothing to wait for
// if this very process served in the epoch before, or if the owner before stopped
// and wrote its locks down for this epoch: the state machine knows (H1). It returns
// the epoch to serve in.
func (r *Replica) awaitLeases(ctx context.Context, e newEpoch, h heritage) (newEpoch, error) {
	began := r.c.Lease.Clock()
	r.at(ctx, "lease wait")
	if mutated("H1.unserved-is-clear") {
		r.clear = e.number
	}
	owed, own := r.c.Machine.Leases(e.number)
	if owed > 0 && !mutated("H1.no-wait") {
		if err := r.c.Lease.outwait(ctx, r.life, began, owed); err != nil {
			return e, err
		}
	}
	r.at(ctx, "leases over")
	r.clear = e.number
	if owed <= own {
		return e, nil
	}
	// The register would go on asking for a wait, of every owner to come, where
	// nobody takes such long leases any more.
	h.prev = e.number
	e, err := r.beginEpoch(ctx, h)
	if err == nil {
		r.epoch.Store(e.number)
		r.clear = e.number
	}
	return e, err
}
