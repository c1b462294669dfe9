package storage

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// churn counts how many entries the intents of each key have left in the
// memtables. Every transaction over several shards puts an intent and removes it
// again, and the store keeps both entries until the memtable is flushed. A
// deleted key is only known to be absent after stepping over all its entries, in
// one direction or the other; a key with a value is not: its newest entry is the
// answer. So the intent of a key that has gathered many entries is not deleted but
// replaced by a blank, and reading it is one seek however many went before. Keys
// that are written now and then get deletions, which leave nothing behind.
//
// The counts steer how something is stored, never what: they may differ between
// replicas, get lost with the process, and mix up keys that share a slot. A blank
// stays until the intent of its key is next removed at a calmer time, or the space
// is restored.
//
// Slots turn over when they are used. After a flush, the count so far is kept as
// that of the previous memtable; after two, what it counted has left the memory.
type churn struct {
	flushes atomic.Uint32
	// flushes (16 bits), entries before that (8), entries since (8).
	slots [churnSlots]atomic.Uint32
}

const (
	churnSlots = 1 << 18
	// churnMany entries of a key are cheaper to step over than to remember.
	churnMany = 16
	churnMax  = 0xff
)

// flushed says that a memtable has been written to tables.
func (c *churn) flushed() { c.flushes.Add(1) }

// add counts one more entry of an intent's physical key, and reports whether
// there were many before.
func (c *churn) add(key []byte) (many bool) {
	slot := &c.slots[xxhash.Sum64(key)%churnSlots]
	flushes := c.flushes.Load() & 0xffff
	for {
		old := slot.Load()
		before, since := old>>8&churnMax, old&churnMax
		switch flushes - old>>16 {
		case 0:
		case 1:
			before, since = since, 0
		default:
			before, since = 0, 0
		}
		many = before+since >= churnMany
		next := flushes<<16 | before<<8 | min(since+1, churnMax)
		if slot.CompareAndSwap(old, next) {
			return many
		}
	}
}
