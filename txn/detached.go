package txn

import (
	"context"
	"sync"
	"time"
)

// detached is ctx without its cancellation, ending after patience or with the
// coordinator: for what must be finished though the client has gone.
func (c *Coordinator) detached(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	d := &detachedContext{Context: context.WithoutCancel(ctx), life: c.life, deadline: time.Now().Add(patience)}
	return d, d.end
}

// detachedContext makes its timer when somebody first waits on it: the usual
// commit is answered before anybody does.
type detachedContext struct {
	context.Context // for the values
	life            context.Context
	deadline        time.Time

	mu struct {
		sync.Mutex
		ended   bool
		bounded context.Context // nil: nobody waits yet
		cancel  context.CancelFunc
		stop    func() bool // of the wait for the coordinator's end
	}
}

// Deadline is when the patience ends.
func (d *detachedContext) Deadline() (time.Time, bool) { return d.deadline, true }

// Done starts the timer.
func (d *detachedContext) Done() <-chan struct{} { return d.timed().Done() }

// AfterFunc lets contexts derived from this one do without a goroutine.
func (d *detachedContext) AfterFunc(f func()) func() bool { return context.AfterFunc(d.timed(), f) }

func (d *detachedContext) timed() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.bounded == nil {
		d.mu.bounded, d.mu.cancel = context.WithDeadline(d.Context, d.deadline)
		d.mu.stop = context.AfterFunc(d.life, d.mu.cancel)
		if d.mu.ended {
			d.mu.cancel()
		}
	}
	return d.mu.bounded
}

// Err says the same whether or not the timer runs.
func (d *detachedContext) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.mu.bounded != nil:
		return d.mu.bounded.Err()
	case d.mu.ended, d.life.Err() != nil:
		return context.Canceled
	case !time.Now().Before(d.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// end is the context's CancelFunc.
func (d *detachedContext) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.ended = true
	if d.mu.bounded != nil {
		d.mu.stop()
		d.mu.cancel()
	}
}
