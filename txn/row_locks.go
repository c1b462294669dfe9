package txn

import (
	"slices"

	"github.com/rowlockdb/rowlock/storage"
)

// rowLock is the lock on one row and the statement that took it first; the
// strength may have grown since.
type rowLock struct {
	mode      Lock
	statement int
	again     bool // it was asked for more than once
	loose     bool // a scan that may let go of it took it
}

// fewRows is how many rows are found faster one by one than by a map, which also
// takes many times their room.
const fewRows = 8

// rowLocks are the locks on rows of one shard, by key.
type rowLocks struct {
	few  []heldRow          // all of them, until there are more than fewRows
	room [1]heldRow         // of few: most statements lock one row of a shard
	many map[string]rowLock // all of them; nil before
}

type heldRow struct {
	key storage.Key
	rowLock
}

func (r *rowLocks) len() int { return len(r.few) + len(r.many) }

// get returns the lock on k; ok is false without one.
func (r *rowLocks) get(k storage.Key) (l rowLock, ok bool) {
	if r.many != nil {
		l, ok = r.many[string(k)]
		return l, ok
	}
	for i := range r.few {
		if string(r.few[i].key) == string(k) {
			return r.few[i].rowLock, true
		}
	}
	return rowLock{}, false
}

// set notes the lock on k in place of what is known of it.
func (r *rowLocks) set(k storage.Key, l rowLock) {
	if r.many == nil {
		for i := range r.few {
			if string(r.few[i].key) == string(k) {
				r.few[i].rowLock = l
				return
			}
		}
		if len(r.few) < fewRows {
			if r.few == nil {
				r.few = r.room[:0]
			}
			r.few = append(r.few, heldRow{slices.Clone(k), l})
			return
		}
		r.many = make(map[string]rowLock, 4*fewRows)
		for _, h := range r.few {
			r.many[string(h.key)] = h.rowLock
		}
		r.few = nil
	}
	r.many[string(k)] = l
}

// remove forgets the lock on k.
func (r *rowLocks) remove(k storage.Key) {
	delete(r.many, string(k))
	for i := range r.few {
		if string(r.few[i].key) == string(k) {
			last := len(r.few) - 1
			r.few[i], r.few[last] = r.few[last], heldRow{}
			r.few = r.few[:last]
			return
		}
	}
}

// each visits all of them in no particular order.
func (r *rowLocks) each(visit func(key storage.Key, l rowLock)) {
	for _, h := range r.few {
		visit(h.key, h.rowLock)
	}
	for k, l := range r.many {
		visit(storage.Key(k), l)
	}
}
