package shard

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

// sequenceAhead is how far ahead of what was handed out a sequence's bound is
// stored. A crash of the system shard's owner loses at most so many values.
const sequenceAhead = 1000

// sequences are the counters of the system shard (AUTO_INCREMENT), in the memory
// of its owner. The stored bound of a counter is above everything that was handed
// out, and a new owner begins there: nothing is handed out twice. The zero value
// is ready.
type sequences struct {
	sync.Mutex
	all map[uint64]*sequence
}

// sequence is one counter. Its fields are for who holds the token.
type sequence struct {
	token  chan struct{}
	loaded bool
	next   uint64
	bound  uint64 // stored; values below it may be handed out
}

func (s *sequences) get(id uint64) *sequence {
	s.Lock()
	defer s.Unlock()
	if s.all == nil {
		s.all = map[uint64]*sequence{}
	}
	q := s.all[id]
	if q == nil {
		q = &sequence{token: make(chan struct{}, 1)}
		s.all[id] = q
	}
	return q
}

func sequenceRecord(id uint64) string { return fmt.Sprintf("sequence/%016x", id) }

// Sequence hands out values of a counter: in the order of the calls, for all
// nodes. Only the system shard's owner can.
func (r *Replica) Sequence(ctx context.Context, q *SequenceRequest) (*SequenceResponse, error) {
	t := r.serving.Load()
	if t == nil || r.c.Shard != System {
		return nil, r.notOwner()
	}
	s := t.sequences.get(q.ID)
	select {
	case s.token <- struct{}{}:
		defer func() { <-s.token }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := r.loadSequence(s, q); err != nil {
		return nil, err
	}
	first := max(s.next, q.Least)
	next := first + q.Count
	if next < first {
		next = math.MaxUint64
	}
	if next > s.bound || q.Exact && next != s.bound {
		if err := r.boundSequence(ctx, s, q, next); err != nil {
			return nil, err
		}
	}
	s.next = next
	// As for timestamps, the proof that this is the owner comes after the draw: a
	// new owner hands out nothing below the bound that is stored here.
	if err := r.prove(ctx, t); err != nil {
		return nil, err
	}
	return &SequenceResponse{First: first}, nil
}

func (r *Replica) loadSequence(s *sequence, q *SequenceRequest) error {
	if s.loaded {
		return nil
	}
	b, ok, err := r.c.Machine.Record(sequenceRecord(q.ID))
	if err != nil {
		return &Error{Code: Unavailable, Shard: r.c.Shard, Detail: fmt.Sprintf("sequence %d: %v", q.ID, err)}
	}
	s.next = max(q.Start, 1)
	if ok && len(b) == 8 {
		s.next = binary.BigEndian.Uint64(b)
	}
	s.bound, s.loaded = s.next, true
	return nil
}

// boundSequence stores a bound that covers next.
func (r *Replica) boundSequence(ctx context.Context, s *sequence, q *SequenceRequest, next uint64) error {
	bound := next
	if !q.Exact {
		if bound += sequenceAhead; bound < next {
			bound = math.MaxUint64
		}
	}
	if _, err := r.PutRecord(ctx, sequenceRecord(q.ID), binary.BigEndian.AppendUint64(nil, bound), false); err != nil {
		return err
	}
	s.bound = bound
	return nil
}
