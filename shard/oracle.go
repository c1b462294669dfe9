package shard

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// oracleWindow is how far ahead of the clock the persisted top is put: how
// often the log is written (once per window while timestamps are drawn), and
// how far timestamps may run ahead of the clock after a crash.
const oracleWindow = 3 * time.Second

// maxTimestamps is how many timestamps one request may draw: those of one
// millisecond. A window holds some thousand times as many.
const maxTimestamps = 1 << 18

// Oracle issues the timestamps of the whole key space: strictly ascending over
// every restart, change of owner and jump of the clock. It lives with the owner
// of the system shard. Nothing at or above the persisted top is ever issued,
// and a new owner begins at the top it finds; the clock only sets the pace.
type Oracle struct {
	clock func() time.Time
	// persist makes a new top durable through the system shard's log.
	persist func(ctx context.Context, top storage.Timestamp) error

	last atomic.Uint64 // last timestamp issued
	top  atomic.Uint64 // exclusive; 0 while not serving

	extending atomic.Bool // mu.extension is not nil
	mu        struct {
		sync.Mutex // not held across persist
		life       uint64
		extension  *extension // under way; nil if none is
	}
}

// extension is one attempt to raise the top. It belongs to nobody who waits for
// it: a client that gives up does not take the others' attempt away.
type extension struct {
	done chan struct{} // closed when err is set
	err  error
}

// start begins serving above a persisted top.
func (o *Oracle) start(ctx context.Context, top storage.Timestamp) error {
	o.mu.Lock()
	o.mu.life++
	o.top.Store(0)
	o.last.Store(max(o.last.Load(), uint64(top)))
	o.mu.extension = nil // of an earlier life: it will change nothing
	e := o.extendLocked()
	o.mu.Unlock()
	err := e.wait(ctx)
	if err != nil {
		o.stop()
	}
	return err
}

// stop refuses further timestamps until start.
func (o *Oracle) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.life++
	o.top.Store(0)
}

// Issued returns the last timestamp issued here.
func (o *Oracle) Issued() storage.Timestamp { return storage.Timestamp(o.last.Load()) }

// next returns the first of n consecutive timestamps; n is at least 1 and at
// most maxTimestamps. It does not prove that this node still owns the system
// shard: the caller does, after next.
func (o *Oracle) next(ctx context.Context, n uint64) (storage.Timestamp, error) {
	if n == 0 || n > maxTimestamps {
		return 0, &Error{Code: BadRequest, Shard: System, Detail: fmt.Sprintf("%d timestamps at once, at most %d", n, maxTimestamps)}
	}
	for {
		if t, ok := o.try(n); ok {
			return t, nil
		}
		if err := o.extend(ctx, n); err != nil {
			return 0, err
		}
	}
}

// try issues from memory; false if the window is exhausted.
func (o *Oracle) try(n uint64) (storage.Timestamp, bool) {
	now := o.physical()
	for {
		last, top := o.last.Load(), o.top.Load()
		first := max(last+1, now)
		if first+n > top {
			return 0, false
		}
		if !o.last.CompareAndSwap(last, first+n-1) {
			continue
		}
		if o.top.Load() == 0 { // stopped meanwhile
			return 0, false
		}
		if top-first < uint64(storage.MakeTimestamp(uint64(oracleWindow.Milliseconds()/2), 0)) {
			o.extendEarly()
		}
		return storage.Timestamp(first), true
	}
}

// physical is the clock as a timestamp. A clock before 1970 or absurdly far
// ahead counts as no clock at all: timestamps then ascend by counting.
func (o *Oracle) physical() uint64 {
	ms := o.clock().UnixMilli()
	if ms < 0 || ms > 1<<44 {
		return 0
	}
	return uint64(ms) << 18
}

// extendEarly begins to extend the window before it is exhausted, so that nobody
// waits. A failure is met again, and reported, when the window is exhausted.
func (o *Oracle) extendEarly() {
	if o.extending.Load() || !o.mu.TryLock() {
		return // somebody is about it
	}
	defer o.mu.Unlock()
	if o.top.Load() != 0 {
		o.extendLocked()
	}
}

// extend makes room for n timestamps, unless somebody else just did.
func (o *Oracle) extend(ctx context.Context, n uint64) error {
	o.mu.Lock()
	top := o.top.Load()
	if top == 0 {
		o.mu.Unlock()
		return &Error{Code: NotOwner, Shard: System, Detail: "the oracle is not serving"}
	}
	if max(o.last.Load()+1, o.physical())+n <= top {
		o.mu.Unlock()
		return nil
	}
	e := o.extendLocked()
	o.mu.Unlock()
	return e.wait(ctx)
}

func (e *extension) wait(ctx context.Context) error {
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// extendLocked returns the extension under way, beginning one if there is none.
func (o *Oracle) extendLocked() *extension {
	if o.mu.extension == nil {
		o.mu.extension = &extension{done: make(chan struct{})}
		o.extending.Store(true)
		go o.carryOut(o.mu.extension, o.mu.life)
	}
	return o.mu.extension
}

// carryOut persists a new top and, if the oracle serves in the same life still,
// serves up to it.
func (o *Oracle) carryOut(e *extension, life uint64) {
	defer close(e.done)
	top := max(o.last.Load(), o.physical()) + uint64(oracleWindow.Milliseconds())<<18
	if top >= uint64(storage.MaxTimestamp) {
		e.err = fmt.Errorf("the oracle's window has reached the end of time")
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), proposeTimeout)
		e.err = o.persist(ctx, storage.Timestamp(top))
		cancel()
		if e.err != nil && CodeOf(e.err) == CodeNone { // whatever became of it, nobody has got a timestamp
			e.err = &Error{Code: Unavailable, Shard: System, Detail: "extend the oracle's window: " + e.err.Error()}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.extension == e {
		o.mu.extension = nil
		o.extending.Store(false)
	}
	switch {
	case e.err != nil:
	case o.mu.life != life:
		e.err = &Error{Code: NotOwner, Shard: System, Detail: "the oracle has stopped"}
	default:
		o.top.Store(max(top, o.top.Load()))
	}
}
