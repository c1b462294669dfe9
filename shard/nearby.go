package shard

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

const (
	// nearbyKept is how long after the last read that wanted a shard's replica here
	// timestamps are closed on the shard for it.
	nearbyKept = 10 * time.Second
	// The pace of closing is a quarter of the least staleness that is asked for,
	// within these bounds.
	nearbyFastest, nearbySlowest = 100 * time.Millisecond, time.Second
	// nearbyPatience bounds one request for a timestamp or a close.
	nearbyPatience = 2 * time.Second
	// nearbyDraws is how many draws are remembered: with the slowest pace the last
	// quarter of an hour, more than reads of the past can ask for by default.
	nearbyDraws = 1024
)

// nearby lets this node's replicas answer reads of the near past whoever owns their
// shards. While somebody asks for such reads it draws a timestamp now and then and
// asks the owners of the shards in question to close it; when nobody has for
// nearbyKept it does nothing at all.
//
// How old a snapshot is depends on no clock but this machine's, and on its rate
// only: a timestamp that was drawn after the moment t0 is above every commit that
// was acknowledged before t0, anywhere, and so is every snapshot at or above it.
type nearby struct {
	router *Router
	life   context.Context
	clock  func() time.Duration // since the machine was started; nil: none that can be trusted
	wake   chan struct{}        // a shard is wanted that was not

	served, passed atomic.Uint64 // reads answered here, and by owners instead

	mu struct {
		sync.Mutex
		draws    draws
		wanted   map[ID]*want
		tightest time.Duration // least staleness asked for since the loop began
		running  bool
		closed   bool
		loop     sync.WaitGroup // raised under the mutex, before closed
	}
}

// want is what this node wants of a shard.
type want struct {
	last    time.Duration // when a read wanted it
	closing bool          // a request is under way
}

// draws are timestamps that were drawn here, and when they were asked for. Both
// ascend strictly: a draw that was asked for before another one and is above it
// tells nothing.
type draws []draw

type draw struct {
	asked time.Duration
	ts    storage.Timestamp
}

// add takes a draw in and forgets old ones.
func (d draws) add(next draw) draws {
	later := len(d)
	for later > 0 && d[later-1].asked > next.asked {
		later--
	}
	if later < len(d) && d[later].ts <= next.ts {
		return d
	}
	first := later
	for first > 0 && d[first-1].ts >= next.ts {
		first--
	}
	d = slices.Replace(d, first, later, next)
	return d[max(0, len(d)-nearbyDraws):]
}

// since returns a moment before which nothing was acknowledged that a snapshot at
// ts does not show, as late a one as is known.
func (d draws) since(ts storage.Timestamp) (time.Duration, bool) {
	for i := len(d) - 1; i >= 0; i-- {
		if d[i].ts <= ts {
			return d[i].asked, true
		}
	}
	return 0, false
}

// shows reports whether a snapshot at ts is at most this stale at a moment, on any
// clock whose rate is within the bound.
func (d draws) shows(ts storage.Timestamp, now, staleness time.Duration) bool {
	since, ok := d.since(ts)
	age := float64(now-since) * (1 + DefaultDrift)
	return ok && age <= float64(staleness)
}

func newNearby(life context.Context, r *Router) *nearby {
	n := &nearby{router: r, life: life, wake: make(chan struct{}, 1)}
	if bootClockRuns() {
		n.clock = bootClock
	}
	n.mu.wanted = make(map[ID]*want)
	return n
}

// close waits for the loop, which ends with life.
func (n *nearby) close() {
	n.mu.Lock()
	n.mu.closed = true
	n.mu.Unlock()
	n.mu.loop.Wait()
}

// want notes that a read wanted the replica of a shard here.
func (n *nearby) want(s ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.clock == nil || n.mu.closed {
		return
	}
	now := n.clock()
	w := n.mu.wanted[s]
	if w == nil {
		w = &want{last: now - nearbyKept}
		n.mu.wanted[s] = w
	}
	fresh := now-w.last >= nearbyKept
	w.last = now
	switch {
	case !n.mu.running:
		n.mu.running = true
		n.mu.loop.Go(n.run)
	case fresh:
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// run closes timestamps until nobody wants any more.
func (n *nearby) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-n.life.Done():
			return
		case <-n.wake:
			// Who wants one shard will want others in a moment.
			if pause(n.life, n.life, nearbyFastest/10) != nil {
				return
			}
		case <-timer.C:
		}
		every, ok := n.pace()
		if !ok {
			return
		}
		if ts, err := n.draw(n.life); err == nil {
			n.closeAll(ts)
		}
		timer.Reset(every)
	}
}

// pace says how long to wait behind the next step; false ends the loop.
func (n *nearby) pace() (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	for _, w := range n.mu.wanted {
		if now-w.last < nearbyKept {
			if n.mu.tightest == 0 {
				return nearbySlowest, true
			}
			return min(max(n.mu.tightest/4, nearbyFastest), nearbySlowest), true
		}
	}
	n.mu.running, n.mu.tightest = false, 0
	return 0, false
}

// draw draws a timestamp and remembers when it was asked for.
func (n *nearby) draw(ctx context.Context) (storage.Timestamp, error) {
	ctx, cancel := context.WithTimeout(ctx, nearbyPatience)
	defer cancel()
	return n.drawFor(ctx)
}

func (n *nearby) drawFor(ctx context.Context) (storage.Timestamp, error) {
	if n.clock == nil {
		return n.router.Timestamp(ctx)
	}
	asked := n.clock()
	ts, err := n.router.Timestamp(ctx)
	if err != nil {
		return 0, err
	}
	if mutated("H12.staleness-from-the-answer") {
		asked = n.clock()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.draws = n.mu.draws.add(draw{asked, ts})
	return ts, nil
}

// closeAll asks the owners of the wanted shards to close a timestamp, and does not
// wait for them.
func (n *nearby) closeAll(ts storage.Timestamp) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	for s, w := range n.mu.wanted {
		if w.closing || now-w.last >= nearbyKept {
			continue
		}
		w.closing = true
		n.mu.loop.Go(func() {
			ctx, cancel := context.WithTimeout(n.life, nearbyPatience)
			defer cancel()
			// Whoever reads meanwhile asks the owner; the next round tries again.
			_ = n.router.call(ctx, s, methodClose, &CloseRequest{At: ts}, &Done{})
			n.mu.Lock()
			defer n.mu.Unlock()
			w.closing = false
		})
	}
}

// closed returns the latest timestamp that is closed on all the replicas here that
// are wanted, or were when somebody wanted any; 0 if there is none. mu is held.
func (n *nearby) closed(now time.Duration) storage.Timestamp {
	var recent, ever []storage.Timestamp
	for s, w := range n.mu.wanted {
		r := n.router.server.Replica(s)
		if r == nil || r.ownedAlone() {
			continue
		}
		ever = append(ever, r.c.Machine.Closed())
		if now-w.last < nearbyKept {
			recent = append(recent, r.c.Machine.Closed())
		}
	}
	if len(recent) == 0 {
		recent = ever
	}
	if len(recent) == 0 {
		return 0
	}
	return slices.Min(recent)
}

// choose returns a timestamp for a snapshot that replicas here can answer.
func (n *nearby) choose(staleness time.Duration, most storage.Timestamp) (storage.Timestamp, bool) {
	if n.clock == nil {
		return 0, false
	}
	now := n.clock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.tightest == 0 || staleness < n.mu.tightest {
		n.mu.tightest = staleness
	}
	ts := n.closed(now)
	if most != 0 {
		ts = min(ts, most)
	}
	return ts, ts != 0 && n.mu.draws.shows(ts, now, staleness)
}

// ownedAlone reports whether this replica is the only one and serves its shard.
func (r *Replica) ownedAlone() bool {
	t := r.serving.Load()
	return t != nil && t.sole
}

// StaleTimestamp returns a timestamp for a snapshot that shows everything that was
// acknowledged longer than staleness ago, one that replicas of this node can answer
// if there is one. Not above most, if that is not 0, except where there is none.
func (r *Router) StaleTimestamp(ctx context.Context, staleness time.Duration, most storage.Timestamp) (storage.Timestamp, error) {
	if r.nearby == nil {
		return r.Timestamp(ctx)
	}
	if ts, ok := r.nearby.choose(staleness, most); ok {
		return ts, nil
	}
	return r.nearby.drawFor(ctx)
}

// KnownIssued reports whether this node knows without asking that the oracle has
// issued a timestamp or one above it.
func (r *Router) KnownIssued(at storage.Timestamp) bool {
	if at <= r.Issued() {
		return true
	}
	for _, s := range r.allShards() {
		if local := r.server.Replica(s); local != nil && at <= local.c.Machine.Closed() {
			return true
		}
	}
	return false
}

// ReadNearby is Read at a timestamp of the past: this node's replica answers if the
// timestamp is closed there and nothing on the way is undecided, else the owner.
func (r *Router) ReadNearby(ctx context.Context, s ID, q *ReadRequest) (*ReadResponse, error) {
	local := r.server.Replica(s)
	if r.nearby == nil || local != nil && local.ownedAlone() {
		return r.Read(ctx, s, q)
	}
	if local != nil {
		r.nearby.want(s)
		if response, err := local.ReadClosed(ctx, q); err == nil {
			r.nearby.served.Add(1)
			return response, nil
		}
	}
	r.nearby.passed.Add(1)
	return r.Read(ctx, s, q)
}

// NearbyReads returns how many reads of the near past were answered by replicas of
// this node, and how many were passed on to owners, since it was opened.
func (r *Router) NearbyReads() (served, passed uint64) {
	if r.nearby == nil {
		return 0, 0
	}
	return r.nearby.served.Load(), r.nearby.passed.Load()
}
