package storage

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"
)

// backlog is a store with compactions to do.
type backlog struct {
	s  *compactions
	mu struct {
		sync.Mutex
		allowed, waiting, running, asked int
		handles                          []pebble.CompactionGrantHandle
	}
}

func newBacklog(allowed int) *backlog {
	b := &backlog{s: newCompactions()}
	b.mu.allowed = allowed
	b.s.Register(1, b)
	return b
}

func (b *backlog) GetAllowedWithoutPermission() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.allowed
}

func (b *backlog) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.asked++
	return b.mu.waiting > 0, pebble.WaitingCompaction{}
}

func (b *backlog) Schedule(h pebble.CompactionGrantHandle) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.waiting == 0 {
		return false
	}
	b.mu.waiting--
	b.runLocked(h)
	return true
}

func (b *backlog) runLocked(h pebble.CompactionGrantHandle) {
	b.mu.running++
	b.mu.handles = append(b.mu.handles, h)
}

// want asks for one more compaction, as Pebble does: not while one waits.
func (b *backlog) want() {
	b.mu.Lock()
	waits := b.mu.waiting > 0
	b.mu.Unlock()
	granted, h := false, pebble.CompactionGrantHandle(nil)
	if !waits {
		granted, h = b.s.TrySchedule()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if granted {
		b.runLocked(h)
	} else {
		b.mu.waiting++
	}
}

// finish ends the oldest compaction.
func (b *backlog) finish() {
	b.mu.Lock()
	h := b.mu.handles[0]
	b.mu.handles, b.mu.running = b.mu.handles[1:], b.mu.running-1
	b.mu.Unlock()
	h.Done()
}

func (b *backlog) is(t *testing.T, running, waiting int) {
	t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Equal(t, []int{running, waiting}, []int{b.mu.running, b.mu.waiting}, "running and waiting")
}

func (b *backlog) allow(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.allowed = n
}

func (b *backlog) asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.asked
}

// TestCompactionsGrowWithTheirLimit: a compaction that waits begins when more are
// allowed, although none has ended, and when one ends.
func TestCompactionsGrowWithTheirLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBacklog(1)
		for range 5 {
			b.want()
		}
		b.is(t, 1, 4)
		b.allow(2)
		time.Sleep(2 * lookEvery)
		b.is(t, 2, 3)
		b.finish()
		b.is(t, 2, 2)
		b.allow(1)
		b.finish()
		b.is(t, 1, 2)
		b.allow(4)
		time.Sleep(2 * lookEvery)
		b.is(t, 3, 0)
		b.s.Unregister()
	})
}

// TestNobodyLooksForNothing: without a compaction that waits the scheduler stands
// still, again after one has waited.
func TestNobodyLooksForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBacklog(1)
		b.want()
		time.Sleep(time.Minute)
		require.Zero(t, b.asked())
		b.want()
		b.is(t, 1, 1)
		b.finish()
		b.is(t, 1, 0)
		time.Sleep(time.Second)
		asked := b.asked()
		time.Sleep(time.Minute)
		require.Equal(t, asked, b.asked())
		b.s.Unregister()
	})
}

// TestNothingIsGrantedAfterTheEnd: Pebble closes while compactions wait.
func TestNothingIsGrantedAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBacklog(1)
		b.want()
		b.want()
		b.s.Unregister()
		b.allow(5)
		time.Sleep(time.Second)
		b.finish()
		b.is(t, 0, 1)
	})
}
