package shard

import (
	"context"
	"errors"
	"sync"
	"time"
)

// relaySlow is how long a job takes that probably waits for a disk: the ones behind it
// do not line up for theirs.
const relaySlow = time.Millisecond

// relay carries out jobs that hardly ever wait, most of them on one goroutine. Where
// one does wait, another goroutine goes on with those behind it, so that waits do not
// add up.
type relay struct {
	ctx  context.Context // of the jobs; knows the relay
	do   func(ctx context.Context, i int)
	n    int
	work sync.WaitGroup // of the other goroutines; raised under the mutex while jobs are left

	mu struct {
		sync.Mutex
		next int
	}
}

type relayKey struct{}

// atOnce calls f for all, each on a goroutine of its own, and returns what failed.
func atOnce[T any](all []T, f func(T) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() { errs[i] = f(one) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// inRelay runs do(0..n-1) and returns when all have ended. They begin in order.
func inRelay(ctx context.Context, n int, do func(ctx context.Context, i int)) {
	if n == 1 {
		do(ctx, 0)
		return
	}
	r := &relay{n: n, do: do}
	r.ctx = context.WithValue(ctx, relayKey{}, r)
	r.run()
	r.work.Wait()
}

func (r *relay) run() {
	begun := time.Now()
	for i := r.take(); i < r.n; i = r.take() {
		r.do(r.ctx, i)
		now := time.Now()
		if now.Sub(begun) > relaySlow {
			r.share(r.n)
		}
		begun = now
	}
}

func (r *relay) take() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.next++
	return r.mu.next - 1
}

// share has up to so many other goroutines go on with the jobs that are left.
func (r *relay) share(most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range min(most, r.n-r.mu.next) {
		r.work.Go(r.run)
	}
}

// aboutToWait is said before a wait for what others do. It changes nothing but who
// begins with the other jobs of the caller's relay, if it has one.
func aboutToWait(ctx context.Context) {
	if r, ok := ctx.Value(relayKey{}).(*relay); ok {
		r.share(1)
	}
}
