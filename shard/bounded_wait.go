package shard

import (
	"context"
	"time"
)

// boundedWait is a context that ends a while after somebody first waited on it. A
// request that meets no lock asks for no Done channel and so needs no timer; one
// that meets several has the time only once. For one goroutine.
type boundedWait struct {
	context.Context
	timeout time.Duration // 0: as long as the context around it lasts
	bounded context.Context
	cancel  context.CancelFunc
	waited  bool
	begun   func() // called when a wait begins; may be nil
}

// Done starts the clock.
func (w *boundedWait) Done() <-chan struct{} {
	if w.begun != nil {
		w.begun()
	}
	w.waited = true
	if w.timeout > 0 && w.bounded == nil {
		w.bounded, w.cancel = context.WithTimeout(w.Context, w.timeout)
	}
	return w.current().Done()
}

// Err is nil while the clock runs or has not started.
func (w *boundedWait) Err() error { return w.current().Err() }

// Deadline is that of the clock, once it has started.
func (w *boundedWait) Deadline() (time.Time, bool) { return w.current().Deadline() }

func (w *boundedWait) current() context.Context {
	if w.bounded != nil {
		return w.bounded
	}
	return w.Context
}

// stop releases the clock.
func (w *boundedWait) stop() {
	if w.cancel != nil {
		w.cancel()
	}
}
