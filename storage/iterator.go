package storage

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// ScanOptions choose what a scan visits.
type ScanOptions struct {
	Lower, Upper Key       // half open; nil: open end
	At           Timestamp // versions above it are invisible
	Reverse      bool      // from the largest key down
	Tombstones   bool      // visit keys whose visible version is a tombstone, too
}

// Iterator walks over the keys of a range, each once: those with a visible
// value, those with an intent, and, if asked for, those with a visible
// tombstone. It begins in front of the first key. It belongs to one goroutine
// and must be closed before its snapshot.
type Iterator struct {
	it   *pebble.Iterator
	o    ScanOptions
	err  error
	read Read
	key  []byte // physical, without timestamp, of the current key
	// begun: the first positioning was done. onKey: it stands on an entry of the
	// current key; otherwise on the first entry of the key to visit next.
	begun, onKey bool

	seek   []byte // scratch for seeks
	value  []byte // copy of the visible value, where the position cannot keep it
	intent Intent
	stored []byte // copy of the intent's encoding
}

// Scan starts a scan. Errors appear in the iterator's Err.
func (s *Snapshot) Scan(o ScanOptions) *Iterator {
	it := &Iterator{o: o, err: s.err, value: []byte{}}
	if s.err != nil {
		return it
	}
	if o.Lower != nil && o.Upper != nil && bytes.Compare(o.Lower, o.Upper) >= 0 {
		return it // nothing is in between
	}
	clone, err := s.iter.Clone(pebble.CloneOptions{IterOptions: dataBounds(s.space.id, o.Lower, o.Upper)})
	if err != nil {
		it.err = wrap(err, "scan space %d", s.space.id)
		return it
	}
	it.it = clone
	return it
}

// dataBounds limits an iterator to the data of a space from lo up to, but not
// including, hi.
func dataBounds(space uint64, lo, hi Key) *pebble.IterOptions {
	o := &pebble.IterOptions{LowerBound: appendRecordKey(nil, space, kindData, lo)}
	if hi == nil {
		o.UpperBound = appendRecordKey(nil, space, kindData+1, "")
	} else {
		o.UpperBound = appendRecordKey(nil, space, kindData, hi)
	}
	return o
}

// Next moves to the next key; false at the end and after an error.
func (it *Iterator) Next() bool {
	if it.it == nil || it.err != nil {
		return false
	}
	for it.advance() {
		if it.read.Intent != nil {
			return true
		}
		if it.read.Commit != 0 && (it.o.Tombstones || !it.read.Tombstone) {
			return true
		}
	}
	return false
}

// Key returns the current key, valid until Next.
func (it *Iterator) Key() Key { return bodyOf(it.key) }

// Read returns what the snapshot holds for the current key, valid until Next.
func (it *Iterator) Read() Read { return it.read }

// Err returns the error that ended the scan, if one did.
func (it *Iterator) Err() error { return it.err }

// Close ends the scan and returns its error.
func (it *Iterator) Close() error {
	if it.it != nil {
		err := it.it.Close()
		it.it = nil
		if it.err == nil {
			it.err = wrap(err, "scan")
		}
	}
	return it.err
}

// advance moves to the next key that has any entry, and reads it.
func (it *Iterator) advance() bool {
	if !it.position() {
		it.fail(it.it.Error())
		return false
	}
	k := it.it.Key()
	it.key = append(it.key[:0], k[:splitKey(k)]...)
	it.read = Read{}
	it.onKey = true
	var err error
	if it.o.Reverse {
		err = it.loadBackward()
	} else {
		err = it.loadForward()
	}
	it.fail(errors.Join(err, it.it.Error()))
	return it.err == nil
}

// position puts the iterator on an entry of the next key, the first or the last
// one depending on the direction.
func (it *Iterator) position() bool {
	switch {
	case !it.begun && it.o.Reverse:
		it.begun = true
		return it.it.Last()
	case !it.begun:
		it.begun = true
		return it.it.First()
	case !it.onKey:
		return it.it.Valid()
	case it.o.Reverse:
		return it.it.SeekLT(it.key)
	default:
		return it.it.NextPrefix()
	}
}

// loadForward reads the current key from its first entry on: the intent, the
// newest version, the visible version.
func (it *Iterator) loadForward() error {
	n := len(it.key)
	if len(it.it.Key()) == n {
		if err := it.loadIntent(); err != nil {
			return err
		}
		if !it.stay(it.it.Next()) {
			return nil
		}
	}
	commit := commitOf(it.it.Key(), n)
	it.read.Newest = commit
	for steps := 0; commit > it.o.At; steps++ {
		var ok bool
		if steps < maxSteps {
			ok = it.it.Next()
		} else {
			it.seek = appendSuffix(append(it.seek[:0], it.key...), it.o.At)
			ok = it.it.SeekGE(it.seek)
		}
		if !it.stay(ok) {
			return nil
		}
		commit = commitOf(it.it.Key(), n)
	}
	return it.loadVersion(commit)
}

// loadBackward reads the current key from its oldest version on. A key with
// many versions is read forward instead, from its first entry.
func (it *Iterator) loadBackward() error {
	for range maxSteps {
		if err := it.loadEntry(); err != nil {
			return err
		}
		if !it.stay(it.it.Prev()) {
			return nil
		}
	}
	it.read = Read{}
	if !it.stay(it.it.SeekGE(it.key)) {
		return it.it.Error()
	}
	if err := it.loadForward(); err != nil {
		return err
	}
	it.onKey = true // position seeks back from the key's first entry
	return nil
}

// loadEntry takes over one entry of a key that is read from oldest to newest:
// the last version it meets is the newest, the last at or below the timestamp is
// the visible one.
func (it *Iterator) loadEntry() error {
	k := it.it.Key()
	if len(k) == len(it.key) {
		return it.loadIntent()
	}
	commit := commitOf(k, len(it.key))
	it.read.Newest = commit
	if commit > it.o.At {
		return nil
	}
	if err := it.loadVersion(commit); err != nil {
		return err
	}
	if !it.read.Tombstone {
		it.value = append(it.value[:0], it.read.Value...)
		it.read.Value = it.value[:len(it.value):len(it.value)]
	}
	return nil
}

// loadVersion takes over the version under the iterator as the visible one.
func (it *Iterator) loadVersion(commit Timestamp) error {
	stored, err := it.it.ValueAndErr()
	if err != nil {
		return err
	}
	it.read.Commit = commit
	it.read.Value, it.read.Start, it.read.Tombstone, err = decodeVersion(stored)
	return err
}

// loadIntent takes over the intent under the iterator.
func (it *Iterator) loadIntent() error {
	stored, err := it.it.ValueAndErr()
	if err != nil {
		return err
	}
	it.stored = append(it.stored[:0], stored...)
	if it.intent, err = DecodeIntent(it.stored); err != nil {
		return err
	}
	it.read.Intent = &it.intent
	return nil
}

// stay reports whether the iterator, after a move, still is on the current key.
func (it *Iterator) stay(valid bool) bool {
	if valid {
		k := it.it.Key()
		n := splitKey(k)
		it.onKey = n == len(it.key) && bytes.Equal(k[:n], it.key)
	} else {
		it.onKey = false
	}
	return it.onKey
}

// fail keeps the first error.
func (it *Iterator) fail(err error) {
	if it.err == nil {
		it.err = wrap(err, "scan")
	}
}
