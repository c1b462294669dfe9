package storage

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// lookEvery is the pace at which it is looked whether a compaction that had to wait
// may run by now.
const lookEvery = 100 * time.Millisecond

// compactions is Pebble's scheduler of compactions, except that it looks at this
// pace only while a compaction waits. Pebble's looks for ever, which wakes a
// process that has nothing to do ten times a second.
//
// How many may run follows from the state of the store and may grow while nothing
// ends. Whoever is refused waits, and from then on somebody looks, until a look
// finds nobody waiting.
type compactions struct {
	*pebble.ConcurrencyLimitScheduler
	db pebble.DBForCompaction
	mu struct {
		sync.Mutex // the last one: nothing is taken while it is held
		timer      *time.Timer
		ended      bool
	}
	looks sync.WaitGroup // timers that run, and what they do
}

var _ pebble.CompactionScheduler = (*compactions)(nil)

func newCompactions() *compactions {
	return &compactions{ConcurrencyLimitScheduler: pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()}
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(goroutines int, db pebble.DBForCompaction) {
	c.db = db
	c.ConcurrencyLimitScheduler.Register(goroutines, db)
}

// Unregister implements pebble.CompactionScheduler: nothing is granted after it.
func (c *compactions) Unregister() {
	c.mu.Lock()
	c.mu.ended = true
	if c.mu.timer != nil && c.mu.timer.Stop() {
		c.looks.Done()
	}
	c.mu.Unlock()
	c.looks.Wait()
	c.ConcurrencyLimitScheduler.Unregister()
}

// TrySchedule implements pebble.CompactionScheduler. The store's mutexes are held.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	granted, handle := c.ConcurrencyLimitScheduler.TrySchedule()
	if !granted {
		c.lookSoon()
	}
	return granted, handle
}

// lookSoon makes sure that somebody looks.
func (c *compactions) lookSoon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ended || c.mu.timer != nil {
		return
	}
	c.looks.Add(1)
	c.mu.timer = time.AfterFunc(lookEvery, c.look)
}

// look grants what can be granted. The timer is gone before the store is asked:
// whoever is refused after the answer starts another one, and whoever was refused
// before it holds the store's mutex until he counts as waiting.
func (c *compactions) look() {
	defer c.looks.Done()
	c.mu.Lock()
	c.mu.timer = nil
	ended := c.mu.ended
	c.mu.Unlock()
	if ended {
		return
	}
	if waits, _ := c.db.GetWaitingCompaction(); !waits {
		return
	}
	// What is given back is granted to who waits.
	if granted, handle := c.ConcurrencyLimitScheduler.TrySchedule(); granted {
		handle.Done()
	}
	c.lookSoon()
}
