package storage

import (
	"sync"
	"sync/atomic"
)

// syncer lets concurrent callers share flushes. A caller may only share a flush
// that starts after it called, since one already running may have passed its
// data; so at any time one flush runs and at most one more is waiting to start,
// gathering callers.
type syncer struct {
	flush   func() error
	flushes atomic.Uint64
	mu      struct {
		sync.Mutex
		running bool
		next    *syncRound // not started; nil: nobody waits
	}
}

// syncRound is one flush and those who wait for it.
type syncRound struct {
	start chan struct{} // closed when the flush before it has ended
	done  chan struct{} // closed when err is set
	err   error
}

// wait returns after a flush that began after the call.
func (s *syncer) wait() error {
	s.mu.Lock()
	r, mine := s.mu.next, false
	if r == nil {
		r, mine = &syncRound{start: make(chan struct{}), done: make(chan struct{})}, true
		s.mu.next = r
		if !s.mu.running {
			s.beginLocked()
		}
	}
	s.mu.Unlock()
	if !mine {
		<-r.done
		return r.err
	}
	<-r.start
	s.flushes.Add(1)
	r.err = s.flush()
	close(r.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.running = false
	if s.mu.next != nil {
		s.beginLocked()
	}
	return r.err
}

// beginLocked closes the waiting round to further callers and lets it run.
func (s *syncer) beginLocked() {
	s.mu.running = true
	close(s.mu.next.start)
	s.mu.next = nil
}
