package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

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
//   - A commit marks the sets of its keys as busy before the store takes the batch,
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
// only where that is known, and a key that nobody reads by itself, as on a follower or
// while much is loaded, takes no room.
//
// Entries lie in byte arrays without pointers, filled like a ring: the oldest goes.
// One that is read when it has grown old is written again.
type rows struct {
	stripes []stripe
	ended   atomic.Uint64 // commits that are visible
}

// stripe is an independent part of the cache.
type stripe struct {
	mu     sync.Mutex
	sets   []rowSet
	chunks [][]byte // of equal size; made when they are first needed
	chunk  uint64
	size   uint64 // of all chunks
	head   uint64 // where the next entry goes: counts on, its place is the rest by size
	used   uint64 // bytes of chunks that were made
	hits   uint64
	misses uint64
	_      [64]byte
}

// rowSet is where the keys of a few hashes may be, one line of a processor's cache.
type rowSet struct {
	ended uint64 // of rows, when a commit to one of its keys was last visible
	busy  uint32 // changes under way
	next  uint32 // the way that goes next
	slots [rowWays]uint64
}

const (
	rowWays    = 6
	rowStripes = 256
	rowChunk   = 64 << 10
	// rowShare is how many bytes of entries there are for a set.
	rowShare = 1 << 10
	// A slot is 16 bits of the hash and the offset of the entry; 0 is none.
	offsetBits = 48
	offsetMask = 1<<offsetBits - 1
)

// An entry is a header, the physical key without timestamp, and the stored form of
// the version; commit 0 and nothing stored: the key has no version.
const (
	entryRoom   = 0  // uint32: bytes that the entry may take
	entryKey    = 4  // uint32: length of the key
	entryStored = 8  // uint32: length of the version
	entryLife   = 16 // uint64
	entryCommit = 24 // uint64
	entryHeader = 32
)

// noLife is none of a space: their numbers are even.
const noLife = 1

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
	c := &rows{stripes: make([]stripe, n)}
	for i := range c.stripes {
		s := &c.stripes[i]
		s.chunk = chunk
		s.chunks = make([][]byte, max(1, each*15/16/chunk))
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
	e, slot := s.look(set, h, key, life)
	if e == nil {
		return 0, nil, false
	}
	if commit = e.commit(); commit > at {
		return 0, nil, false
	}
	if v := e.stored(); len(v) > 0 {
		stored = append(make([]byte, 0, len(v)), v...)
	}
	if !s.young(*slot) {
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

// look looks for an entry that may be read, and counts.
func (s *stripe) look(set *rowSet, h uint64, key []byte, life uint64) (entry, *uint64) {
	if set.busy > 0 && !mutated("0084.busy-rows-are-read") {
		s.misses++
		return nil, nil
	}
	e, slot := s.find(set, h, key, life)
	if e == nil {
		s.misses++
	} else {
		s.hits++
	}
	return e, slot
}

// fill puts in what an iterator found that was opened after the ticket was drawn,
// in the life of the space that the iterator belongs to.
func (c *rows) fill(key []byte, life, ticket uint64, commit Timestamp, stored []byte) {
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
	slot := &set.slots[set.next%rowWays]
	for i := range set.slots {
		if !s.alive(set.slots[i]) {
			slot = &set.slots[i]
			break
		}
	}
	if s.alive(*slot) {
		set.next++
	}
	s.write(slot, h, key, life, commit, stored)
}

// begin makes the sets of all keys busy whose versions a batch changes, in the order
// of its records. It returns their hashes, and whether any of them is known.
func (c *rows) begin(repr []byte, life uint64, hashes []uint64) (_ []uint64, known bool) {
	eachVersion(repr, func(key []byte, _ Timestamp, _ []byte, _ bool) {
		h := xxhash.Sum64(key)
		hashes = append(hashes, h)
		s, set := c.place(h)
		s.mu.Lock()
		defer s.mu.Unlock()
		set.busy++
		if e, _ := s.find(set, h, key, life); e != nil {
			known = true
		}
	})
	return hashes, known
}

// end takes the marks away again when the batch is visible, and changes what is known
// of its keys.
func (c *rows) end(repr []byte, life uint64, hashes []uint64, known bool) {
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
		if removed {
			s.remove(set, h, key, life, commit)
		} else {
			s.put(set, h, key, life, commit, stored)
		}
	})
}

// settle takes one mark away, of the commit that was the ended-th to be visible.
func (set *rowSet) settle(ended uint64) {
	set.busy--
	set.ended = max(set.ended, ended)
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

// put changes the entry of a key, if there is one that is not newer.
func (s *stripe) put(set *rowSet, h uint64, key []byte, life uint64, commit Timestamp, stored []byte) {
	e, slot := s.find(set, h, key, life)
	if e == nil || commit < e.commit() && !mutated("0084.older-replaces") {
		return
	}
	s.write(slot, h, key, life, commit, stored)
}

// remove forgets a key whose newest version goes.
func (s *stripe) remove(set *rowSet, h uint64, key []byte, life uint64, commit Timestamp) {
	if e, slot := s.find(set, h, key, life); e != nil && commit == e.commit() && !mutated("0084.removed-rows-stay") {
		*slot = 0
	}
}

// find returns the entry of a key and its slot.
func (s *stripe) find(set *rowSet, h uint64, key []byte, life uint64) (entry, *uint64) {
	for i := range set.slots {
		slot := &set.slots[i]
		if *slot == 0 || *slot&^offsetMask != tag(h) || !s.alive(*slot) {
			continue
		}
		e := s.at(*slot & offsetMask)
		if bytes.Equal(e.key(), key) && (e.life() == life || mutated("0084.lives-are-mixed-up")) {
			return e, slot
		}
	}
	return nil, nil
}

// alive tells whether the bytes of an entry have not been given to another.
func (s *stripe) alive(slot uint64) bool { return slot != 0 && s.head <= slot&offsetMask+s.size }

// at returns the entry at an offset, up to the end of its chunk.
func (s *stripe) at(offset uint64) entry {
	o := offset % s.size
	return entry(s.chunks[o/s.chunk][o%s.chunk:])
}

// write puts an entry into a slot, over what is there if it fits in. What is too large
// is not kept.
func (s *stripe) write(slot *uint64, h uint64, key []byte, life uint64, commit Timestamp, stored []byte) {
	n := (entryHeader + uint64(len(key)) + uint64(len(stored)) + 7) &^ 7
	if s.alive(*slot) {
		if old := s.at(*slot & offsetMask); old.room() >= n && s.young(*slot) {
			old.set(old.room(), key, life, commit, stored)
			*slot = tag(h) | *slot&offsetMask
			return
		}
	}
	*slot = 0
	if n > s.chunk/4 {
		return
	}
	o := s.allocate(n)
	s.at(o).set(n, key, life, commit, stored)
	*slot = tag(h) | o
}

// young tells whether an entry is not among those that go next.
func (s *stripe) young(slot uint64) bool { return s.head-slot&offsetMask <= s.size-s.size/4 }

// allocate takes room for an entry, which lies in one chunk, from the oldest.
func (s *stripe) allocate(n uint64) (offset uint64) {
	if in := s.head % s.chunk; in+n > s.chunk {
		s.head += s.chunk - in
	}
	if s.head+n > offsetMask {
		for i := range s.sets {
			s.sets[i].slots = [rowWays]uint64{}
		}
		s.head = s.size
	}
	offset = s.head
	s.head += n
	if c := &s.chunks[offset%s.size/s.chunk]; *c == nil {
		*c = make([]byte, s.chunk)
		s.used += s.chunk
	}
	return offset
}

// entry is the bytes of an entry and what follows in its chunk.
type entry []byte

func (e entry) room() uint64 { return uint64(binary.LittleEndian.Uint32(e[entryRoom:])) }

func (e entry) life() uint64 { return binary.LittleEndian.Uint64(e[entryLife:]) }

func (e entry) commit() Timestamp { return Timestamp(binary.LittleEndian.Uint64(e[entryCommit:])) }

func (e entry) key() []byte {
	return e[entryHeader:][:binary.LittleEndian.Uint32(e[entryKey:])]
}

func (e entry) stored() []byte {
	return e[entryHeader+binary.LittleEndian.Uint32(e[entryKey:]):][:binary.LittleEndian.Uint32(e[entryStored:])]
}

func (e entry) set(room uint64, key []byte, life uint64, commit Timestamp, stored []byte) {
	binary.LittleEndian.PutUint32(e[entryRoom:], uint32(room))
	binary.LittleEndian.PutUint32(e[entryKey:], uint32(len(key)))
	binary.LittleEndian.PutUint32(e[entryStored:], uint32(len(stored)))
	binary.LittleEndian.PutUint64(e[entryLife:], life)
	binary.LittleEndian.PutUint64(e[entryCommit:], uint64(commit))
	copy(e[entryHeader:], key)
	copy(e[entryHeader+len(key):], stored)
}

// figures are counters since the engine was opened, and the memory in use.
func (c *rows) figures() (hits, misses, bytes uint64) {
	for i := range c.stripes {
		s := &c.stripes[i]
		s.mu.Lock()
		hits, misses = hits+s.hits, misses+s.misses
		bytes += s.used + uint64(len(s.sets))*uint64(unsafe.Sizeof(rowSet{}))
		s.mu.Unlock()
	}
	return hits, misses, bytes
}
