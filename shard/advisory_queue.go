package shard

import (
	"slices"
	"sync"
)

// advisoryQueues is the owner's memory of who waits for advisory locks: a FIFO
// queue per name. Only the head of a queue may propose to take the lock. Grants
// are replicated, queues are not: after a change of owner those who wait ask
// again, under the same sequence number.
type advisoryQueues struct {
	sync.Mutex
	names map[string][]*advisoryWait
	waits map[AdvisorySession]string
	ended bool
	// changed is closed and replaced whenever somebody may have come to his turn.
	changed chan struct{}
}

// advisoryWait is one place in a queue.
type advisoryWait struct {
	AdvisoryWaiter
	name string
}

// signal returns a channel that is closed at the next change.
func (a *advisoryQueues) signal() <-chan struct{} {
	a.Lock()
	defer a.Unlock()
	return a.signalLocked()
}

func (a *advisoryQueues) signalLocked() chan struct{} {
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.changed
}

// wake lets everybody who waits look again.
func (a *advisoryQueues) wake() {
	a.Lock()
	defer a.Unlock()
	a.wakeLocked()
}

func (a *advisoryQueues) wakeLocked() {
	close(a.signalLocked())
	a.changed = nil
}

// end ends all waits: the tenure is over.
func (a *advisoryQueues) end() {
	a.Lock()
	defer a.Unlock()
	a.ended = true
	a.wakeLocked()
}

// enter puts a session into the queue of a name. It refuses with busy if the
// session does not want to wait and would have to, and with cycle if its wait
// would close a circle of sessions that each wait for the next. Every session
// waits for one name at most, so the circle is found by following holders; and
// it is found by the last one to enter, because a grant makes nobody wait.
func (a *advisoryQueues) enter(w *advisoryWait, wait bool, holder func(name string) *AdvisoryHolder) (busy, cycle bool) {
	a.Lock()
	defer a.Unlock()
	taken := len(a.names[w.name]) > 0 || holder(w.name) != nil
	if taken && !wait {
		return true, false
	}
	if taken && a.closesCycle(w, holder) {
		return true, true
	}
	if a.names == nil {
		a.names, a.waits = map[string][]*advisoryWait{}, map[AdvisorySession]string{}
	}
	a.names[w.name] = append(a.names[w.name], w)
	a.waits[w.Session] = w.name
	return false, false
}

func (a *advisoryQueues) closesCycle(w *advisoryWait, holder func(name string) *AdvisoryHolder) bool {
	name := w.name
	for range len(a.waits) + 1 {
		h := holder(name)
		if h == nil {
			return false
		}
		if h.Session == w.Session {
			return true
		}
		next, waiting := a.waits[h.Session]
		if !waiting {
			return false
		}
		name = next
	}
	return false
}

// leave takes a place out of its queue.
func (a *advisoryQueues) leave(w *advisoryWait) {
	a.Lock()
	defer a.Unlock()
	queue := a.names[w.name]
	i := slices.Index(queue, w)
	if i < 0 {
		return
	}
	if queue = slices.Delete(queue, i, i+1); len(queue) == 0 {
		delete(a.names, w.name)
	} else {
		a.names[w.name] = queue
	}
	if a.waits[w.Session] == w.name {
		delete(a.waits, w.Session)
	}
	a.wakeLocked()
}

// first tells whether w is at the head of its queue.
func (a *advisoryQueues) first(w *advisoryWait) (first, ended bool) {
	a.Lock()
	defer a.Unlock()
	queue := a.names[w.name]
	return len(queue) > 0 && queue[0] == w, a.ended
}

// waiters lists the queue of a name.
func (a *advisoryQueues) waiters(name string) (all []AdvisoryWaiter) {
	a.Lock()
	defer a.Unlock()
	for _, w := range a.names[name] {
		all = append(all, w.AdvisoryWaiter)
	}
	return all
}
