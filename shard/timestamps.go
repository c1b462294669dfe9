package shard

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// timestampPatience is how long those who came since wait for a request that is
// under way to the oracle before they send one of their own: it may be on its way to
// a node that is gone.
const timestampPatience = 20 * time.Millisecond

// timestamps shares requests for timestamps between all who ask at one time: one is
// under way, and the next is for everybody who came since (H12). What a request
// draws is for those who came before it was sent and for nobody else, for somebody
// may have drawn, and committed, between the draw and the answer: what is left over,
// because its asker has gone, is left.
//
// Requests do not end with those who wait for them, but with the node: see close.
type timestamps struct {
	sync.Mutex
	life     context.Context // of the node; nil: never ends
	closed   bool
	requests sync.WaitGroup // under way
	underWay int
	next     *timestampBatch
	running  *timestampBatch // the last that was sent, for a mutation
}

// timestampBatch is one request. first and err are set before done is closed; n does
// not change after it was sent.
type timestampBatch struct {
	n     uint64
	sent  bool
	done  chan struct{}
	first storage.Timestamp
	err   error
}

// draw joins the next request, sending it if none is under way.
func (s *timestamps) draw(ctx context.Context, ask func(ctx context.Context, n uint64) (storage.Timestamp, error)) (storage.Timestamp, error) {
	b, place := s.join(ask)
	select {
	case <-b.done:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return b.first + storage.Timestamp(place), b.err
}

func (s *timestamps) join(ask func(context.Context, uint64) (storage.Timestamp, error)) (b *timestampBatch, place uint64) {
	s.Lock()
	defer s.Unlock()
	if b = s.running; b != nil && s.underWay > 0 && mutated("H12.leftovers") {
		b.n++
		return b, b.n - 1
	}
	if s.next == nil {
		s.next = &timestampBatch{done: make(chan struct{})}
		if s.underWay > 0 {
			late := s.next
			time.AfterFunc(timestampPatience, func() {
				s.Lock()
				defer s.Unlock()
				s.send(late, ask)
			})
		}
	}
	b = s.next
	b.n++
	place = b.n - 1
	if s.underWay == 0 {
		s.send(b, ask)
	}
	return b, place
}

// send sends a batch unless it was; s is locked.
func (s *timestamps) send(b *timestampBatch, ask func(context.Context, uint64) (storage.Timestamp, error)) {
	if b.sent {
		return
	}
	b.sent = true
	s.next, s.running = nil, b
	if s.closed {
		b.err = noTimestamp()
		close(b.done)
		return
	}
	s.underWay++
	s.requests.Add(1)
	n := b.n
	if mutated("H12.leftovers") {
		n += 64
	}
	go func() {
		defer s.requests.Done()
		ctx, cancel := context.WithTimeout(cmp.Or(s.life, context.Background()), ownerPatience)
		defer cancel()
		b.first, b.err = ask(ctx, n)
		if b.err != nil && ctx.Err() != nil { // the batch's time has run out, not that of who waits for it
			b.err = noTimestamp()
		}
		close(b.done)
		s.Lock()
		defer s.Unlock()
		if s.underWay--; s.underWay == 0 && s.next != nil {
			s.send(s.next, ask)
		}
	}()
}

func noTimestamp() error {
	return &Error{Code: Unavailable, Shard: System, Detail: "no timestamp could be had"}
}

// close waits for the requests that are under way, whose life has ended, and refuses
// those who still ask.
func (s *timestamps) close() {
	s.Lock()
	s.closed = true
	s.Unlock()
	s.requests.Wait()
}
