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

	extending atomic.Bool // an extension in the background is under way
	mu        sync.Mutex  // one extension at a time; held across persist on purpose
}

// start begins serving above a persisted top.
func (o *Oracle) start(ctx context.Context, top storage.Timestamp) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last.Store(max(o.last.Load(), uint64(top)))
	return o.extendLocked(ctx)
}

// stop refuses further timestamps until start.
func (o *Oracle) stop() { o.top.Store(0) }

// Issued returns the last timestamp issued here.
func (o *Oracle) Issued() storage.Timestamp { return storage.Timestamp(o.last.Load()) }

// next returns the first of n consecutive timestamps. It does not prove that
// this node still owns the system shard: the caller does, after next.
func (o *Oracle) next(ctx context.Context, n uint64) (storage.Timestamp, error) {
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
		if top-first < uint64(storage.MakeTimestamp(uint64(oracleWindow.Milliseconds()/2), 0)) && o.extending.CompareAndSwap(false, true) {
			go o.extendEarly()
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

// extendEarly extends the window before it is exhausted, so that nobody waits.
func (o *Oracle) extendEarly() {
	defer o.extending.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), proposeTimeout)
	defer cancel()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.top.Load() != 0 {
		// A failure is met again, and reported, when the window is exhausted.
		_ = o.extendLocked(ctx)
	}
}

// extend makes room for n timestamps, unless somebody else just did.
func (o *Oracle) extend(ctx context.Context, n uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	top := o.top.Load()
	if top == 0 {
		return &Error{Code: NotOwner, Shard: System, Detail: "the oracle is not serving"}
	}
	if max(o.last.Load()+1, o.physical())+n <= top {
		return nil
	}
	return o.extendLocked(ctx)
}

func (o *Oracle) extendLocked(ctx context.Context) error {
	top := max(o.last.Load(), o.physical()) + uint64(oracleWindow.Milliseconds())<<18
	if top >= uint64(storage.MaxTimestamp) {
		return fmt.Errorf("the oracle's window has reached the end of time")
	}
	if err := o.persist(ctx, storage.Timestamp(top)); err != nil {
		return fmt.Errorf("extend the oracle's window: %w", err)
	}
	o.top.Store(max(top, o.top.Load()))
	return nil
}
