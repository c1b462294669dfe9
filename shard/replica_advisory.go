package shard

import (
	"context"
	"fmt"
	"time"
)

// advisoryTTL is how long a gateway may stay silent before the advisory locks of
// its sessions are free. Gateways renew every second.
const advisoryTTL = 10 * time.Second

// advisoryRecheck is how often those who wait look by themselves. They are woken
// by whoever frees a lock, but he may have left before his command was applied.
const advisoryRecheck = time.Second

// Advisory serves requests about advisory locks. Only the owner of the system
// shard can.
func (r *Replica) Advisory(ctx context.Context, q *AdvisoryRequest) (*AdvisoryResponse, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	if r.c.Shard != System {
		return nil, r.bad("advisory locks live on the system shard")
	}
	switch q.Op {
	case AdvisoryLook, AdvisoryList:
		return r.lookAdvisory(ctx, t, q)
	case AdvisoryGet:
		return r.getAdvisory(ctx, t, q)
	case AdvisoryRelease, AdvisoryReleaseAll, AdvisoryEnd, AdvisorySucceed:
		return r.releaseAdvisory(ctx, t, q)
	}
	return nil, r.bad(fmt.Sprintf("advisory request %d", q.Op))
}

func (r *Replica) lookAdvisory(ctx context.Context, t *tenure, q *AdvisoryRequest) (*AdvisoryResponse, error) {
	if err := r.prove(ctx, t); err != nil {
		return nil, err
	}
	if q.Op == AdvisoryLook {
		return &AdvisoryResponse{Holder: r.c.Machine.AdvisoryHolder(q.Name)}, nil
	}
	locks := r.c.Machine.AdvisoryLocks()
	for i := range locks {
		locks[i].Waiters = t.advisories.waiters(locks[i].Name)
	}
	return &AdvisoryResponse{Locks: locks}, nil
}

// getAdvisory takes a lock. A session that knows that it has it is answered from
// memory; one that has it and does not know has given up an earlier request,
// whose release may be on its way: a log entry must come before that.
func (r *Replica) getAdvisory(ctx context.Context, t *tenure, q *AdvisoryRequest) (*AdvisoryResponse, error) {
	if h := r.c.Machine.AdvisoryHolder(q.Name); h != nil && h.Session == q.Session {
		if h.Token == q.Token {
			return r.lookAdvisory(ctx, t, &AdvisoryRequest{Op: AdvisoryLook, Name: q.Name})
		}
		return r.changeAdvisory(ctx, q)
	}
	w := &advisoryWait{AdvisoryWaiter: AdvisoryWaiter{Session: q.Session, Connection: q.Connection}, name: q.Name}
	switch busy, cycle := t.advisories.enter(w, q.Timeout != 0, r.c.Machine.AdvisoryHolder); {
	case cycle:
		return nil, &Error{Code: Deadlock, Shard: System, Detail: "advisory lock " + q.Name}
	case busy:
		return r.lookAdvisory(ctx, t, &AdvisoryRequest{Op: AdvisoryLook, Name: q.Name})
	}
	err := r.awaitTurn(ctx, t, w, q.Timeout)
	if err != nil {
		t.advisories.leave(w)
		if err == errTimeout {
			return r.lookAdvisory(ctx, t, &AdvisoryRequest{Op: AdvisoryLook, Name: q.Name})
		}
		return nil, err
	}
	return r.takeAdvisory(ctx, t, w, q)
}

var errTimeout = fmt.Errorf("advisory lock: timeout")

// awaitTurn waits until w is at the head of its queue and nobody has the lock.
func (r *Replica) awaitTurn(ctx context.Context, t *tenure, w *advisoryWait, timeout time.Duration) error {
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	recheck := time.NewTicker(advisoryRecheck)
	defer recheck.Stop()
	for {
		changed := t.advisories.signal()
		first, ended := t.advisories.first(w)
		switch {
		case ended:
			return r.notOwner()
		case first && r.c.Machine.AdvisoryHolder(w.name) == nil:
			return nil
		}
		select {
		case <-changed:
		case <-recheck.C:
		case <-expired:
			return errTimeout
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeAdvisory proposes the grant. The proposal outlives the request: w leaves
// the queue when its fate is known, so that nobody else proposes meanwhile. A
// client that has gone by then releases what it may have got.
func (r *Replica) takeAdvisory(ctx context.Context, t *tenure, w *advisoryWait, q *AdvisoryRequest) (*AdvisoryResponse, error) {
	type answer struct {
		response *AdvisoryResponse
		err      error
	}
	done := make(chan answer, 1)
	ok := r.background(func() {
		defer t.advisories.leave(w)
		response, err := r.changeAdvisory(r.life, q)
		done <- answer{response, err}
	})
	if !ok {
		t.advisories.leave(w)
		return nil, r.notOwner()
	}
	select {
	case a := <-done:
		if a.err == nil && (a.response.Holder == nil || a.response.Holder.Session != q.Session) {
			a.response.Stale = true // whatever came between: the next number may succeed
		}
		return a.response, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// changeAdvisory proposes a session's step and reads the answer.
func (r *Replica) changeAdvisory(ctx context.Context, q *AdvisoryRequest) (*AdvisoryResponse, error) {
	c := Command{Kind: KindAdvisory, Advisory: AdvisoryChange{Op: q.Op, Session: q.Session, Connection: q.Connection,
		Seq: q.Seq, Since: uint64(r.c.Clock().UnixMilli()), Name: q.Name}}
	result, err := r.run(ctx, &c)
	if err != nil {
		return nil, err
	}
	response := &AdvisoryResponse{Released: result.Count, Stale: result.Verdict == VerdictRefused}
	if result.Value != nil {
		d := newDecoder(result.Value)
		h := d.holder()
		if err := d.done(); err != nil {
			return nil, fmt.Errorf("holder of an advisory lock: %w", err)
		}
		response.Holder = &h
	}
	if q.Op == AdvisoryGet && response.Holder != nil && response.Holder.Session == q.Session {
		response.Stale = false // another copy of the command was applied before
	}
	return response, nil
}

// releaseAdvisory gives locks up. A release that was applied in another copy of
// its command is told by what has become of the lock.
func (r *Replica) releaseAdvisory(ctx context.Context, t *tenure, q *AdvisoryRequest) (*AdvisoryResponse, error) {
	before := r.c.Machine.AdvisoryHolder(q.Name)
	response, err := r.changeAdvisory(ctx, q)
	t.advisories.wake()
	if err != nil || q.Op != AdvisoryRelease || before == nil || before.Session != q.Session {
		return response, err
	}
	if response.Holder == nil || response.Holder.Token != before.Token {
		response.Released, response.Stale = 1, false
	}
	return response, nil
}

// ExpireAdvisory frees the advisory locks of gateways that have been silent for
// too long. own is this process's gateway: its sessions say good-bye themselves.
func (r *Replica) ExpireAdvisory(ctx context.Context, own uint64) {
	t := r.serving.Load()
	if t == nil || r.c.Shard != System {
		return
	}
	for _, g := range r.silentGateways(t, own) {
		c := Command{Kind: KindAdvisory, Advisory: AdvisoryChange{Op: AdvisoryExpire, Session: AdvisorySession{Gateway: g}}}
		if err := r.command(ctx, &c); err != nil {
			r.c.Logger.Warn("advisory locks of a silent gateway", "gateway", g, "error", err)
			continue
		}
		t.advisories.wake()
		r.c.Logger.Warn("gateway lease lapsed, its advisory locks are free", "gateway", g)
	}
}

// silentGateways lists those with advisory locks that have not renewed. A
// gateway that this owner meets for the first time counts as just heard.
func (r *Replica) silentGateways(t *tenure, own uint64) (silent []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range r.c.Machine.advisoryGateways() {
		if g == own {
			continue
		}
		if r.c.Clock().Sub(t.mu.gateway(g, r.c.Clock).heard) > advisoryTTL {
			silent = append(silent, g)
		}
	}
	return silent
}
