package catalog

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrLockTimeout is returned when a metadata lock was not granted in time.
var ErrLockTimeout = errors.New("catalog: metadata lock wait timeout")

// Locks are the metadata locks of one process (MySQL manual, 10.11.4). A name
// is held shared by every transaction that has used the object, until the
// transaction ends, and exclusively by a statement that changes it. A waiting
// exclusive request goes before later shared ones, so that it is not starved.
type Locks struct {
	mu struct {
		sync.Mutex
		names map[string]*lockName
	}
}

type lockName struct {
	shared    map[*Holder]struct{}
	exclusive *Holder
	waiting   int           // exclusive requests that wait
	changed   chan struct{} // closed and replaced when anything is released
}

// Holder is a transaction that holds metadata locks. Its methods and those of
// Locks on it are for one goroutine at a time. The zero value is ready.
type Holder struct {
	held map[string]bool // true: exclusive
}

// Holds tells whether the holder has the name, exclusively or at all.
func (h *Holder) Holds(name string, exclusive bool) bool {
	mode, ok := h.held[name]
	return ok && (mode || !exclusive)
}

// NewLocks returns a table without locks.
func NewLocks() *Locks {
	l := &Locks{}
	l.mu.names = map[string]*lockName{}
	return l
}

// Acquire takes a name for h, waiting up to timeout. An exclusive request of a
// holder that has the name shared gives the shared lock up first: two such
// requests would otherwise wait for each other. The caller looks at the object
// again after an exclusive grant.
func (l *Locks) Acquire(ctx context.Context, h *Holder, name string, exclusive bool, timeout time.Duration) error {
	if h.Holds(name, exclusive) {
		return nil
	}
	if exclusive {
		l.release(h, name)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for registered := false; ; registered = true {
		granted, changed := l.try(h, name, exclusive, registered)
		if granted {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			l.giveUp(name, exclusive)
			return ctx.Err()
		case <-timer.C:
			l.giveUp(name, exclusive)
			return ErrLockTimeout
		}
	}
}

func (l *Locks) try(h *Holder, name string, exclusive, registered bool) (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.mu.names[name]
	if n == nil {
		n = &lockName{shared: map[*Holder]struct{}{}, changed: make(chan struct{})}
		l.mu.names[name] = n
	}
	free := n.exclusive == nil && (exclusive && len(n.shared) == 0 || !exclusive && n.waiting == 0)
	if !free {
		if exclusive && !registered {
			n.waiting++
		}
		return false, n.changed
	}
	if exclusive {
		n.exclusive = h
		if registered {
			n.waiting--
		}
	} else {
		n.shared[h] = struct{}{}
	}
	if h.held == nil {
		h.held = map[string]bool{}
	}
	h.held[name] = exclusive
	return true, nil
}

// giveUp ends a wait; requests that stood behind an exclusive one look again.
func (l *Locks) giveUp(name string, exclusive bool) {
	if !exclusive {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.mu.names[name]
	n.waiting--
	l.wakeLocked(name, n)
}

func (l *Locks) release(h *Holder, name string) {
	if _, ok := h.held[name]; !ok {
		return
	}
	delete(h.held, name)
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.mu.names[name]
	if n.exclusive == h {
		n.exclusive = nil
	}
	delete(n.shared, h)
	l.wakeLocked(name, n)
}

// wakeLocked lets every waiter of the name look again and forgets idle names.
func (l *Locks) wakeLocked(name string, n *lockName) {
	close(n.changed)
	n.changed = make(chan struct{})
	if n.exclusive == nil && len(n.shared) == 0 && n.waiting == 0 {
		delete(l.mu.names, name)
	}
}

// ReleaseAll gives up everything that h holds.
func (l *Locks) ReleaseAll(h *Holder) {
	for name := range h.held {
		l.release(h, name)
	}
}
