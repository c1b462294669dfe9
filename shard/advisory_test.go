package shard_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
)

// locker is a session with its sequence of steps.
type locker struct {
	f       *fixture
	session shard.AdvisorySession
	seq     uint64
}

func (f *fixture) locker(number uint64) *locker {
	return &locker{f: f, session: shard.AdvisorySession{Gateway: f.node.Gateway(), Number: number}}
}

func (l *locker) try(ctx context.Context, op shard.AdvisoryOp, name string, wait time.Duration) (*shard.AdvisoryResponse, error) {
	l.seq++
	return l.f.node.Router().Advisory(ctx, &shard.AdvisoryRequest{Op: op, Session: l.session, Connection: l.session.Number,
		Seq: l.seq, Name: name, Timeout: wait})
}

func (l *locker) do(op shard.AdvisoryOp, name string, wait time.Duration) *shard.AdvisoryResponse {
	response, err := l.try(l.f.ctx(), op, name, wait)
	require.NoError(l.f.t, err)
	return response
}

func (l *locker) holds(r *shard.AdvisoryResponse) bool {
	return r.Holder != nil && r.Holder.Session == l.session
}

// get takes a lock at once or fails the test.
func (l *locker) get(name string) {
	require.True(l.f.t, l.holds(l.do(shard.AdvisoryGet, name, 0)), name)
}

// later asks for a lock and returns when the request stands in the queue.
func (l *locker) later(name string, got chan<- uint64) {
	before := l.f.waiters(name)
	go func() {
		if r, err := l.try(l.f.ctx(), shard.AdvisoryGet, name, -1); err == nil && l.holds(r) {
			got <- l.session.Number
		}
	}()
	require.Eventually(l.f.t, func() bool { return l.f.waiters(name) > before }, time.Minute, time.Millisecond)
}

func (f *fixture) advisories() []shard.AdvisoryLock {
	r, err := f.node.Router().Advisory(f.ctx(), &shard.AdvisoryRequest{Op: shard.AdvisoryList})
	require.NoError(f.t, err)
	return r.Locks
}

func (f *fixture) waiters(name string) int {
	for _, l := range f.advisories() {
		if l.Name == name {
			return len(l.Waiters)
		}
	}
	return 0
}

func TestAdvisoryQueueIsFair(t *testing.T) {
	f := newFixture(t, nil)
	a, got := f.locker(1), make(chan uint64, 8)
	a.get("job")
	var waiting []*locker
	for n := uint64(2); n <= 5; n++ {
		l := f.locker(n)
		l.later("job", got)
		waiting = append(waiting, l)
	}
	require.False(t, f.locker(6).holds(f.locker(6).do(shard.AdvisoryGet, "job", 0)))
	a.do(shard.AdvisoryRelease, "job", 0)
	for i, l := range waiting {
		require.EqualValues(t, i+2, <-got)
		require.Equal(t, 1, l.do(shard.AdvisoryRelease, "job", 0).Released)
	}
	require.Empty(t, f.advisories())
}

func TestAdvisoryWaitEndsWithItsContext(t *testing.T) {
	f := newFixture(t, nil)
	a, b := f.locker(1), f.locker(2)
	a.get("job")
	r := b.do(shard.AdvisoryGet, "job", time.Millisecond)
	require.Equal(t, a.session, r.Holder.Session, "timeout")
	ctx, cancel := context.WithCancel(f.ctx())
	var wait sync.WaitGroup
	var err error
	wait.Go(func() { _, err = b.try(ctx, shard.AdvisoryGet, "job", -1) })
	require.Eventually(t, func() bool { return f.waiters("job") == 1 }, time.Minute, time.Millisecond)
	cancel()
	wait.Wait()
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool { return f.waiters("job") == 0 }, time.Minute, time.Millisecond)
}

// A release whose sender is gone before it is applied frees the lock all the same.
func TestAdvisoryReleaseAppliedLate(t *testing.T) {
	f := newFixture(t, nil)
	a, b, got := f.locker(1), f.locker(2), make(chan uint64, 1)
	a.get("job")
	b.later("job", got)
	f.network.Hold(1, 1) // the system shard
	ctx, cancel := context.WithTimeout(f.ctx(), 50*time.Millisecond)
	defer cancel()
	_, err := a.try(ctx, shard.AdvisoryRelease, "job", 0)
	require.Error(t, err)
	time.Sleep(50 * time.Millisecond) // the waiter has been woken and has seen nothing
	f.network.Release(1, 1)
	select {
	case <-got:
	case <-time.After(time.Minute):
		t.Fatal("the lock is free and nobody gets it")
	}
}

func TestAdvisoryDeadlock(t *testing.T) {
	f := newFixture(t, nil)
	got := make(chan uint64, 3)
	a, b, c := f.locker(1), f.locker(2), f.locker(3)
	a.get("a")
	b.get("b")
	c.get("c")
	a.later("b", got)
	b.later("c", got)
	_, err := c.try(f.ctx(), shard.AdvisoryGet, "a", -1)
	requireCode(t, shard.Deadlock, err)
	c.do(shard.AdvisoryRelease, "c", 0)
	require.EqualValues(t, 2, <-got)
}

// A gateway that is silent for the lease loses its locks to those who wait; one
// that renews keeps them.
func TestAdvisoryLease(t *testing.T) {
	var mu sync.Mutex
	ahead := time.Duration(0)
	pass := func(d time.Duration) { mu.Lock(); ahead += d; mu.Unlock() }
	f := newFixture(t, func(c *shard.Config) {
		c.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }
	})
	silent, other := f.locker(1), f.locker(2)
	silent.session.Gateway = 7<<48 | 1
	renew := func() {
		require.NoError(t, f.node.Router().Renew(f.ctx(), shard.System, &shard.RenewRequest{Gateway: silent.session.Gateway}))
	}
	renew()
	silent.get("job")
	for range 3 {
		pass(4 * time.Second)
		renew()
		f.node.DropLapsed()
		require.Len(t, f.advisories(), 1, "renewed in time")
	}
	got := make(chan uint64, 1)
	other.later("job", got)
	pass(11 * time.Second)
	f.node.DropLapsed()
	require.EqualValues(t, 2, <-got)
	require.Zero(t, silent.do(shard.AdvisoryRelease, "job", 0).Released, "a sleeper that wakes")
	require.Len(t, f.advisories(), 1)
}

// One that has been silent for so long that it is forgotten loses them too: whoever
// forgets it must not meet it as a new one.
func TestAdvisoryLocksOfAForgottenGateway(t *testing.T) {
	var ahead atomic.Int64
	begin := time.Now()
	f := newFixture(t, func(c *shard.Config) {
		c.Clock = func() time.Time { return begin.Add(time.Duration(ahead.Load())) }
	})
	silent, other := f.locker(1), f.locker(2)
	silent.session.Gateway = 7<<48 | 1
	require.NoError(t, f.node.Router().Renew(f.ctx(), shard.System, &shard.RenewRequest{Gateway: silent.session.Gateway}))
	silent.get("job")
	ahead.Store(int64(time.Hour))
	require.Eventually(t, func() bool { f.node.DropLapsed(); return len(f.advisories()) == 0 }, time.Minute, time.Millisecond)
	other.get("job")
}

// After a restart of the only node, locks of its former life are free, and the
// token of the next grant is larger.
func TestAdvisoryLocksEndWithTheProcess(t *testing.T) {
	f := newFixture(t, nil)
	a := f.locker(1)
	first := a.do(shard.AdvisoryGet, "job", 0).Holder.Token
	f.close()
	f.open()
	require.Empty(t, f.advisories())
	require.Greater(t, f.locker(1).do(shard.AdvisoryGet, "job", 0).Holder.Token, first)
	late := a.do(shard.AdvisoryGet, "other", 0)
	require.Nil(t, late.Holder, "the former life takes nothing")
}
