package locks

import (
	"sync/atomic"
	"time"
)

// waitState is what became of a wait. Guarded by the table's mutex.
type waitState uint8

const (
	waiting waitState = iota
	granted
	refused   // NOWAIT or SKIP LOCKED: a lock it waited for turned out not to be about to go
	dropped   // the owner's locks were dropped or released
	abandoned // by its own goroutine: deadlock, timeout, cancellation
)

// wait is one request in a queue, for one span.
type wait struct {
	// Set before the wait is published to the graph, then constant.
	seq        uint64 // order of arrival; also the wait's name
	upgrade    bool   // the owner holds something there already and goes first
	impatient  bool   // NOWAIT or SKIP LOCKED, waiting only for voted transactions (rule H15)
	mode       Mode
	span       span
	owner      Owner
	serial     uint64 // of txn, when the wait began
	table      string
	statement  string
	weight     int
	connection uint64
	since      time.Time
	wake       chan struct{} // one slot: look again

	// Guarded by the table's mutex.
	state      waitState
	txn        *txn
	edges      []edge
	passes     bool    // it passes by an earlier request (see evaluate), or did once
	record     *record // the queue it is in, if it waits for a key
	prev, next *wait
	interval   *interval // its entry among the waiting intervals, if it waits for a range

	// Guarded by the graph's mutex.
	targets []target
	verdict atomic.Pointer[Deadlock] // the wait is to be given up; void if it is over by then (rule H4)
}

// edge is one owner a wait waits for: because of what it holds there, because of an earlier request
// (ahead), or both.
type edge struct {
	txn   *txn
	held  modeSet
	ahead bool
}

// before is the order of service: upgrades first, then first come first served.
func (w *wait) before(o *wait) bool {
	if w.upgrade != o.upgrade {
		return w.upgrade
	}
	return w.seq < o.seq
}

func compareWaits(a, b *wait) int {
	switch {
	case a.before(b):
		return -1
	case b.before(a):
		return 1
	}
	return 0
}

// signal makes the waiting goroutine look at its wait again.
func (w *wait) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wait) doomed() bool { return w.verdict.Load() != nil }

// doom gives the wait a verdict; the first one counts.
func (w *wait) doom(d *Deadlock) {
	w.verdict.CompareAndSwap(nil, d)
	w.signal()
}
