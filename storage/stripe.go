package storage

import (
	"bytes"
	"encoding/binary"
	"sync"
	"unsafe"
)

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
	next  uint16 // the way whose turn it is to go
	used  uint16 // a bit for each way that was read since its last turn
	slots [rowWays]uint64
}

const (
	rowWays    = 6
	rowStripes = 256
	rowChunk   = 64 << 10
	// rowShare is how many bytes of entries there are for a set.
	rowShare   = 512
	rowSetSize = uint64(unsafe.Sizeof(rowSet{}))
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

// settle takes one mark away, of the commit that was the ended-th to be visible.
func (set *rowSet) settle(ended uint64) {
	set.busy--
	set.ended = max(set.ended, ended)
}

// look looks for an entry that may be read, and counts.
func (s *stripe) look(set *rowSet, h uint64, key []byte, life uint64) (e entry, way int) {
	if set.busy > 0 && !mutated("0084.busy-rows-are-read") {
		s.misses++
		return nil, 0
	}
	if e, way = s.find(set, h, key, life); e == nil {
		s.misses++
	} else {
		s.hits++
		set.used |= 1 << way
	}
	return e, way
}

// put changes the entry of a key, if there is one that is not newer.
func (s *stripe) put(set *rowSet, h uint64, key []byte, life uint64, commit Timestamp, stored []byte) {
	e, way := s.find(set, h, key, life)
	if e == nil || commit < e.commit() && !mutated("0084.older-replaces") {
		return
	}
	s.write(&set.slots[way], h, key, life, commit, stored)
}

// remove forgets a key whose newest version goes.
func (s *stripe) remove(set *rowSet, h uint64, key []byte, life uint64, commit Timestamp) {
	if e, way := s.find(set, h, key, life); e != nil && commit == e.commit() && !mutated("0084.removed-rows-stay") {
		set.slots[way] = 0
	}
}

// victim returns the slot for a new entry: an empty one, or else that of a way which was
// not read since its last turn.
func (s *stripe) victim(set *rowSet) *uint64 {
	for i := range set.slots {
		if !s.alive(set.slots[i]) {
			set.used &^= 1 << i
			return &set.slots[i]
		}
	}
	for {
		i := set.next % rowWays
		set.next++
		if set.used&(1<<i) == 0 {
			return &set.slots[i]
		}
		set.used &^= 1 << i
	}
}

// find returns the entry of a key and its way.
func (s *stripe) find(set *rowSet, h uint64, key []byte, life uint64) (e entry, way int) {
	for i, slot := range set.slots {
		if slot == 0 || slot&^offsetMask != tag(h) || !s.alive(slot) {
			continue
		}
		e := s.at(slot & offsetMask)
		if bytes.Equal(e.key(), key) && (e.life() == life || mutated("0084.lives-are-mixed-up")) {
			return e, i
		}
	}
	return nil, 0
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
