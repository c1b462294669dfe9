package transport

import (
	"context"
	"slices"
	"sync"
)

// budget bounds bytes. Who does not fit in waits, in the order of arrival.
type budget struct {
	mu struct {
		sync.Mutex
		size, used int64
		waiting    []*share
	}
}

// share is a part of a budget that somebody waits for.
type share struct {
	n     int64
	ready chan struct{}
}

func newBudget(size int64) *budget {
	b := &budget{}
	b.mu.size = size
	return b
}

// take waits for n bytes until ctx ends. Alone, anything fits in.
func (b *budget) take(ctx context.Context, n int64) error {
	b.mu.Lock()
	if len(b.mu.waiting) == 0 && b.fits(n) {
		b.mu.used += n
		b.mu.Unlock()
		return nil
	}
	s := &share{n, make(chan struct{})}
	b.mu.waiting = append(b.mu.waiting, s)
	b.mu.Unlock()
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.mu.waiting, s)
	if i < 0 {
		b.mu.used -= n // it came at the same moment
	} else {
		b.mu.waiting = slices.Delete(b.mu.waiting, i, i+1)
	}
	b.admit() // who stood behind may fit where this one did not
	return ctx.Err()
}

func (b *budget) fits(n int64) bool { return b.mu.used == 0 || b.mu.used+n <= b.mu.size }

// give returns n bytes.
func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.used -= n
	b.admit()
}

func (b *budget) admit() {
	for len(b.mu.waiting) > 0 && b.fits(b.mu.waiting[0].n) {
		s := b.mu.waiting[0]
		b.mu.waiting = b.mu.waiting[1:]
		b.mu.used += s.n
		close(s.ready)
	}
}

// used tells how many bytes are taken.
func (b *budget) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.used
}
