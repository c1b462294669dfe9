package main

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/bench/process"
)

// slots are the keys in use. A key that was written often enough makes way for a
// fresh one, so that values stay short and the beginning of a key's life is
// tested again and again. Key k of generation g in slot s is g*len+s.
type slots struct {
	all    []slot
	length int32
	top    atomic.Int32 // no key above it was used
}

type slot struct {
	key    atomic.Int32
	writes atomic.Int32
}

// idOf is the row of a key. Three keys are in one block of rows, and so on one shard;
// what has more is on several.
func idOf(key int32) int32 { return key/3*process.Apart + key%3 }

func keyOf(id int32) int32 { return id/process.Apart*3 + id%process.Apart }

func newSlots(n, length int) *slots {
	s := &slots{all: make([]slot, n), length: int32(length)}
	for i := range s.all {
		s.all[i].key.Store(int32(i))
	}
	s.top.Store(int32(n - 1))
	return s
}

// pick chooses a slot: a quarter of them takes half of the operations.
func (s *slots) pick(random *rand.Rand) *slot {
	hot := max(1, len(s.all)/4)
	if random.IntN(2) == 0 || hot == len(s.all) {
		return &s.all[random.IntN(hot)]
	}
	return &s.all[hot+random.IntN(len(s.all)-hot)]
}

// wrote counts a write; at the last one of a key it returns the key that takes
// its place, after fresh has prepared it.
func (s *slots) wrote(at *slot, fresh func(key int32)) {
	if at.writes.Add(1)%s.length != 0 {
		return
	}
	key := at.key.Load() + int32(len(s.all))
	fresh(key)
	at.key.Store(key)
	for top := s.top.Load(); key > top && !s.top.CompareAndSwap(top, key); top = s.top.Load() {
	}
}
