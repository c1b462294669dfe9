package storage

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// intentScan walks over the intents of a range. Most ranges have none, so it
// opens an iterator only if a seek of the snapshot's own finds something.
//
// Backward it cannot step: the store would pass all the entries that a key has
// left in the memtable, from the oldest on. It notes the keys of all intents in
// the range first, going forward, and then looks them up from the last one on.
// Intents wait for their transactions' outcomes; there are never very many.
type intentScan struct {
	it      *pebble.Iterator // nil: not open, or nothing is there
	reverse bool
	begun   bool

	ok     bool   // it stands on an intent
	key    []byte // physical, of the current intent
	intent Intent
	stored []byte // copy of the intent's encoding

	keys []byte // physical keys noted, one behind the other
	ends []int  // where each ends
}

// open looks for a first intent in the range and opens the iterator if there
// may be one.
func (i *intentScan) open(s *Snapshot, lo, hi Key) error {
	o := bounds(s.space.id, kindIntent, lo, hi)
	s.widen()
	if s.iter.SeekGEWithLimit(o.LowerBound, o.UpperBound) != pebble.IterValid ||
		compareKeys(s.iter.Key(), o.UpperBound) >= 0 {
		return s.iter.Error()
	}
	it, err := s.iter.Clone(pebble.CloneOptions{IterOptions: o})
	if err != nil {
		return err
	}
	i.it = it
	if i.reverse {
		return i.note()
	}
	return nil
}

// note gathers the keys of the range.
func (i *intentScan) note() error {
	for i.ok = i.forward(); i.ok; i.ok = i.forward() {
		stored, err := i.it.ValueAndErr()
		if err != nil {
			return err
		}
		if blank(stored) {
			continue
		}
		i.keys = append(i.keys, i.it.Key()...)
		i.ends = append(i.ends, len(i.keys))
	}
	return i.it.Error()
}

// forward moves the iterator to the next key, past all other entries of the
// current one at once.
func (i *intentScan) forward() bool {
	if !i.begun {
		i.begun = true
		return i.it.First()
	}
	return i.it.NextPrefix()
}

// backward moves the iterator to the last of the keys noted.
func (i *intentScan) backward() bool {
	last := len(i.ends) - 1
	if last < 0 {
		return false
	}
	start := 0
	if last > 0 {
		start = i.ends[last-1]
	}
	ok := i.it.SeekPrefixGE(i.keys[start:])
	i.keys, i.ends = i.keys[:start], i.ends[:last]
	return ok
}

// body returns the user's key.
func (i *intentScan) body() Key { return bodyOf(i.key) }

// next moves to the next intent; ok is false at the end.
func (i *intentScan) next() error {
	i.ok = false
	if i.it == nil {
		return nil
	}
	move := i.forward
	if i.reverse {
		move = i.backward
	}
	for move() {
		stored, err := i.it.ValueAndErr()
		if err != nil {
			return err
		}
		if !blank(stored) {
			i.ok = true
			return i.load(stored)
		}
	}
	return i.it.Error()
}

// load takes over the intent under the iterator.
func (i *intentScan) load(stored []byte) (err error) {
	i.key = append(i.key[:0], i.it.Key()...)
	i.stored = append(i.stored[:0], stored...)
	i.intent, err = DecodeIntent(i.stored)
	return err
}

// close closes the iterator, if it is open.
func (i *intentScan) close() error {
	if i.it == nil {
		return nil
	}
	it := i.it
	i.it = nil
	return errors.Join(it.Close())
}
