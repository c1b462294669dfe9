package storage

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
)

// rows remembers the newest version of keys, so that reading one row costs no walk
// through the levels of the store. What it says of a key at some moment is what the
// store would say at that moment; it may say nothing. Nil remembers nothing.
//
// Three rules make that true:
//
//   - A commit to a space that is followed marks the sets of its keys as busy before the store takes the batch,
//     and takes the mark away when the batch is visible, with the entries changed in
//     the same step. Nothing is read from a busy set: in between, nobody could tell
//     whether the store has the old version or the new one.
//   - A reader that found nothing puts in what it read only if no commit to the set
//     is under way and none has ended since before it opened its iterator. Commits
//     that ended earlier are visible in the iterator.
//   - An entry belongs to one life of its space. Restore and Destroy begin a new one;
//     what was read in an earlier life is not found any more.
//
// A commit changes only entries that are there: what it writes is the newest version
// only where that is known, and a key that nobody has looked up takes no room.
//
// Entries lie in byte arrays without pointers, filled like a ring: the oldest goes.
// One that is read when it has grown old is written again. Where many small rows fall
// on one set, its ways are what is scarce: then one goes that was not read since its
// turn came last.
type rows struct {
	stripes []stripe
	largest int           // entry that is kept
	ended   atomic.Uint64 // commits that are visible
}

// newRows returns a cache that takes about so many bytes; nil if that is too little.
func newRows(size int64) *rows {
	if size < 4*rowShare {
		return nil
	}
	n := uint64(1)
	for n < rowStripes && uint64(size) >= 2*n*4*rowChunk {
		n *= 2
	}
	each := uint64(size) / n
	chunk := min(rowChunk, each&^7)
	c := &rows{stripes: make([]stripe, n), largest: int(chunk / 4)}
	for i := range c.stripes {
		s := &c.stripes[i]
		s.chunk = chunk
		s.chunks = make([][]byte, max(1, each*rowShare/(rowShare+rowSetSize)/chunk))
		s.size = chunk * uint64(len(s.chunks))
		s.head = s.size
		s.sets = make([]rowSet, max(1, s.size/rowShare))
	}
	return c
}

// ticket is drawn before an iterator is opened whose reads are to be remembered.
func (c *rows) ticket() uint64 {
	if c == nil {
		return 0
	}
	return c.ended.Load()
}

// place returns where a hash belongs.
func (c *rows) place(h uint64) (*stripe, *rowSet) {
	s := &c.stripes[h%uint64(len(c.stripes))]
	i, _ := bits.Mul64(h, uint64(len(s.sets)))
	return s, &s.sets[i]
}

// tag is the part of a hash that a slot keeps. It takes other bits than place.
func tag(h uint64) uint64 { return h << 24 &^ offsetMask }

// get returns a copy of what is known of a key in a life of its space, if a read at
// a timestamp sees it.
func (c *rows) get(key []byte, life uint64, at Timestamp) (commit Timestamp, stored []byte, ok bool) {
	h := xxhash.Sum64(key)
	s, set := c.place(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, way := s.look(set, h, key, life)
	if e == nil {
		return 0, nil, false
	}
	if commit = e.commit(); commit > at {
		s.hits, s.misses = s.hits-1, s.misses+1
		return 0, nil, false
	}
	if v := e.stored(); len(v) > 0 {
		stored = append(make([]byte, 0, len(v)), v...)
	}
	if slot := &set.slots[way]; !s.young(*slot) {
		s.write(slot, h, key, life, commit, stored)
	}
	return commit, stored, true
}

// newest is get without the version.
func (c *rows) newest(key []byte, life uint64) (commit Timestamp, ok bool) {
	h := xxhash.Sum64(key)
	s, set := c.place(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.look(set, h, key, life)
	if e == nil {
		return 0, false
	}
	return e.commit(), true
}

// fill puts in what an iterator found that was opened after the ticket was drawn,
// in the life of the space that the iterator belongs to.
func (c *rows) fill(key []byte, life, ticket uint64, commit Timestamp, stored []byte) {
	if life == noLife || entryHeader+len(key)+len(stored) > c.largest {
		return
	}
	h := xxhash.Sum64(key)
	s, set := c.place(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if set.busy > 0 && !mutated("0084.fill-beside-a-commit") {
		return
	}
	if set.ended > ticket && !mutated("0084.fill-from-an-old-snapshot") {
		return
	}
	if e, _ := s.find(set, h, key, life); e != nil {
		return
	}
	s.write(s.victim(set), h, key, life, commit, stored)
}

// begin makes the sets of all keys busy whose versions a batch changes, in the order
// of its records. It returns their hashes and whether any of them is known, and notes
// the lives of the spaces, looked at when a key is busy: nothing is filled in of any later
// one then.
func (c *rows) begin(repr []byte, in []changed, hashes []uint64) (_ []uint64, known bool) {
	eachVersion(repr, func(key []byte, _ Timestamp, _ []byte, _ bool) {
		h := xxhash.Sum64(key)
		hashes = append(hashes, h)
		s, set := c.place(h)
		s.mu.Lock()
		defer s.mu.Unlock()
		set.busy++
		of := changedBy(in, key)
		of.life = of.space.swap.count.Load()
		if e, _ := s.find(set, h, key, of.life); e != nil {
			known = true
		}
	})
	return hashes, known
}

// end takes the marks away again when the batch is visible, and changes what is known
// of its keys.
func (c *rows) end(repr []byte, in []changed, hashes []uint64, known bool) {
	ended := c.ended.Add(1)
	if !known {
		for _, h := range hashes {
			s, set := c.place(h)
			s.mu.Lock()
			set.settle(ended)
			s.mu.Unlock()
		}
		return
	}
	i := 0
	eachVersion(repr, func(key []byte, commit Timestamp, stored []byte, removed bool) {
		h := hashes[i]
		i++
		s, set := c.place(h)
		s.mu.Lock()
		defer s.mu.Unlock()
		set.settle(ended)
		life := changedBy(in, key).life
		if removed {
			s.remove(set, h, key, life, commit)
		} else {
			s.put(set, h, key, life, commit, stored)
		}
	})
}

// eachVersion calls fn for every change of a version in a batch, in their order, with
// the physical key without timestamp.
func eachVersion(repr []byte, fn func(key []byte, commit Timestamp, stored []byte, removed bool)) {
	for r := batchrepr.Read(repr); ; {
		op, k, v, ok, err := r.Next()
		if err != nil {
			panic(fmt.Sprintf("storage: read a batch: %v", err))
		}
		if !ok {
			return
		}
		if op != pebble.InternalKeyKindSet && op != pebble.InternalKeyKindDelete {
			panic(fmt.Sprintf("storage: %s in a batch, which what is remembered of rows does not follow", op))
		}
		if kind(k[spaceSize]) != kindVersion {
			continue
		}
		n := splitKey(k)
		fn(k[:n], commitOf(k, n), v, op == pebble.InternalKeyKindDelete)
	}
}

// figures are counters since the engine was opened, and the memory in use.
func (c *rows) figures() (hits, misses, bytes uint64) {
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		hits, misses = hits+s.hits, misses+s.misses
		bytes += s.used + uint64(len(s.sets))*rowSetSize
		s.mu.Unlock()
	}
	return hits, misses, bytes
}
