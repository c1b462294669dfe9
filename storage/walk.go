package storage

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Walk is a forward scan that knows of no intents and asks for as little as it can
// of each row: for who goes over very many of them. It visits each key with a
// visible value once, in order. It belongs to one goroutine and must be closed
// before its snapshot.
type Walk struct {
	it    *pebble.Iterator // bounded to versions; nil: there is nothing
	at    Timestamp
	err   error
	begun bool

	key   []byte // physical, without timestamp, of the current key
	value []byte
	seek  []byte
	steps int // over versions since the last key with a visible value
}

// Walk starts a walk over the keys from lo up to, but not including, hi; nil is an
// open end. Errors appear at its Close.
func (s *Snapshot) Walk(lo, hi Key, at Timestamp) *Walk {
	w := &Walk{at: at, err: s.err}
	if s.err != nil || lo != nil && hi != nil && bytes.Compare(lo, hi) >= 0 {
		return w
	}
	clone, err := s.iter.Clone(pebble.CloneOptions{IterOptions: bounds(s.space.id, kindVersion, lo, hi)})
	if err != nil {
		w.err = wrap(err, "walk over space %d", s.space.id)
		return w
	}
	w.it = clone
	return w
}

// Next moves to the next key that has a visible value; false at the end and after
// an error.
func (w *Walk) Next() bool {
	if w.it == nil || w.err != nil {
		return false
	}
	for ok := w.step(); ok; ok = w.step() {
		k := w.it.Key()
		n := len(k) - suffixSize
		if n < headerSize || k[n+suffixSize-1] != suffixSize {
			w.err = corruptf("version with key %x", k)
			return false
		}
		if n == len(w.key) && bytes.Equal(k[:n], w.key) {
			w.steps++
			continue // older than what was visible, or hidden by a tombstone
		}
		if Timestamp(^binary.BigEndian.Uint64(k[n:])) > w.at {
			w.steps++
			continue
		}
		w.key = append(w.key[:0], k[:n]...)
		w.steps = 0
		stored, err := w.it.ValueAndErr()
		if err != nil {
			w.err = err
			return false
		}
		if len(stored) >= versionHeaderSize && stored[0] == versionValue {
			w.value = stored[versionHeaderSize:]
			return true
		}
		if _, _, _, w.err = decodeVersion(stored); w.err != nil {
			return false
		}
	}
	return false
}

// Pass moves over up to most keys that have a visible value, as Next does, and returns how
// many they were: fewer at the end and after an error. If they were most, it stands on the
// last one, whose value is not to be asked for.
func (w *Walk) Pass(most int) (n int) {
	if w.it == nil || w.err != nil {
		return 0
	}
	last := Timestamp(0) // the newest that another version of the key may have
	for n < most && w.step() {
		k := w.it.Key()
		end := len(k) - suffixSize
		if end < headerSize || k[len(k)-1] != suffixSize {
			w.err = corruptf("version with key %x", k)
			return n
		}
		commit := Timestamp(^binary.BigEndian.Uint64(k[end:]))
		// Versions of a key come from the newest on: one that is not older is another key's.
		if (commit < last || last == 0) && !mutated("0091.older-is-another") {
			if end == len(w.key) && bytes.Equal(k[:end], w.key) {
				w.steps++
				continue
			}
		}
		if commit > w.at {
			w.steps++
			continue
		}
		w.key = append(w.key[:0], k[:end]...)
		w.steps, last = 0, commit
		stored, err := w.it.ValueAndErr()
		if err != nil {
			w.err = err
			return n
		}
		if len(stored) >= versionHeaderSize && stored[0] == versionValue {
			n++
			continue
		}
		if _, _, _, w.err = decodeVersion(stored); w.err != nil {
			return n
		}
	}
	return n
}

// step moves to the next entry. Where many versions lie in a row that do not count
// it seeks: past the key, if its visible version is known already, else to the one
// that counts.
func (w *Walk) step() bool {
	if !w.begun {
		w.begun = true
		return w.it.First()
	}
	if w.steps < maxSteps {
		return w.it.Next()
	}
	w.steps = 0
	k := w.it.Key()
	n := splitKey(k)
	if n == len(w.key) && bytes.Equal(k[:n], w.key) {
		return w.it.NextPrefix()
	}
	w.seek = appendSuffix(append(w.seek[:0], k[:n]...), w.at)
	return w.it.SeekGE(w.seek)
}

// Key returns the current key, valid until Next.
func (w *Walk) Key() Key { return bodyOf(w.key) }

// Value returns the current key's visible value, valid until Next.
func (w *Walk) Value() []byte { return w.value }

// Close ends the walk and returns the error that ended it, if one did.
func (w *Walk) Close() error {
	err := w.err
	if w.it != nil {
		err = errors.Join(err, w.it.Close())
		w.it = nil
	}
	return wrap(err, "walk")
}
