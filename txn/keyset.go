package txn

import (
	"encoding/binary"
	"math"

	"github.com/zeebo/xxh3"
)

// keySet is a set of keys that is only added to. It has no pointers but two, so
// that millions of keys cost the garbage collector nothing.
type keySet struct {
	slots []keySlot // a power of two of them, at most three quarters in use
	keys  []byte    // one after the other, each behind its length
	n     int
}

// keySlot is one key: the upper half of its hash, and where it begins in keys,
// plus one; a slot without a key is zero.
type keySlot struct{ hash, at uint32 }

// keySetOverhead is about what a key takes beside its bytes.
const keySetOverhead = 24

func (s *keySet) has(k []byte) bool {
	if s.n == 0 {
		return false
	}
	_, found := s.find(k, xxh3.Hash(k))
	return found
}

// add puts a key in that is not there; false if there is no room for it.
func (s *keySet) add(k []byte) bool {
	if len(s.keys)+len(k)+binary.MaxVarintLen64 >= math.MaxUint32 {
		return false
	}
	if 4*(s.n+1) > 3*len(s.slots) {
		s.grow()
	}
	h := xxh3.Hash(k)
	i, _ := s.find(k, h)
	s.slots[i] = keySlot{uint32(h >> 32), uint32(len(s.keys) + 1)}
	s.keys = append(binary.AppendUvarint(s.keys, uint64(len(k))), k...)
	s.n++
	return true
}

// find returns the slot of a key, or the free one that would be its slot.
func (s *keySet) find(k []byte, h uint64) (int, bool) {
	mask := len(s.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		slot := s.slots[i]
		switch {
		case slot.at == 0:
			return i, false
		case slot.hash == uint32(h>>32) && string(s.key(slot)) == string(k):
			return i, true
		}
	}
}

func (s *keySet) key(slot keySlot) []byte {
	rest := s.keys[slot.at-1:]
	n, used := binary.Uvarint(rest)
	return rest[used : used+int(n)]
}

func (s *keySet) grow() {
	old := s.slots
	s.slots = make([]keySlot, max(64, 2*len(old)))
	for _, slot := range old {
		if slot.at != 0 {
			k := s.key(slot)
			i, _ := s.find(k, xxh3.Hash(k))
			s.slots[i] = slot
		}
	}
}
