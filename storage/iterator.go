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
	// NoIntents leaves intents out, as if there were none, and saves looking for
	// them: for who knows that none matters to him.
	NoIntents bool
	// Alone says that nothing else is read from the snapshot until the scan is
	// closed, and saves an iterator of the store if intents are left out. The scan
	// is not to be touched any more once it is closed.
	Alone bool
}

// Iterator walks over the keys of a range, each once: those with a visible
// value, those with an intent, and, if asked for, those with a visible
// tombstone. It begins in front of the first key. It belongs to one goroutine
// and must be closed before its snapshot.
//
// It merges two walks, over versions and over intents. Each stands on the key it
// will contribute next, or already has contributed to the current key.
type Iterator struct {
	snap     *Snapshot
	o        ScanOptions
	err      error
	begun    bool
	key      Key
	read     Read
	versions versionScan
	intents  intentScan
	// The current key came from these walks, so they must move on.
	fromVersions, fromIntents bool

	alone bool   // the versions' walk uses the snapshot's own iterator
	ends  []byte // bounds of a scan that is alone
}

// Scan starts a scan. Errors appear in the iterator's Err.
func (s *Snapshot) Scan(o ScanOptions) *Iterator {
	if o.Alone && o.NoIntents && s.err == nil {
		return s.scanAlone(o)
	}
	it := &Iterator{snap: s, o: o, err: s.err, fromVersions: true, fromIntents: true}
	it.versions = versionScan{at: o.At, reverse: o.Reverse, value: []byte{}}
	it.intents.reverse = o.Reverse
	if s.err != nil {
		return it
	}
	if o.Lower != nil && o.Upper != nil && bytes.Compare(o.Lower, o.Upper) >= 0 {
		it.begun = true // nothing is in between
		return it
	}
	clone, err := s.iter.Clone(pebble.CloneOptions{IterOptions: bounds(s.space.id, kindVersion, o.Lower, o.Upper)})
	if err != nil {
		it.err = wrap(err, "scan space %d", s.space.id)
		return it
	}
	it.versions.it = clone
	return it
}

// scanAlone is Scan with the snapshot's own iterator, and with the buffers of the
// scan before.
func (s *Snapshot) scanAlone(o ScanOptions) *Iterator {
	if s.alone == nil {
		s.alone = &Iterator{}
	}
	it, v := s.alone, &s.alone.versions
	*it = Iterator{snap: s, o: o, fromVersions: true, fromIntents: true, alone: true, ends: it.ends[:0],
		versions: versionScan{at: o.At, reverse: o.Reverse, key: v.key[:0], seek: v.seek[:0], value: v.value[:0]}}
	if v.value == nil {
		v.value = []byte{}
	}
	if o.Lower != nil && o.Upper != nil && bytes.Compare(o.Lower, o.Upper) >= 0 {
		it.begun = true // nothing is in between
		return it
	}
	var n int
	it.ends, n = appendBounds(it.ends, s.space.id, kindVersion, o.Lower, o.Upper)
	s.narrow = true
	s.iter.SetBounds(it.ends[:n], it.ends[n:])
	v.it = s.iter
	return it
}

// bounds limits an iterator to one kind of records of a space, with bodies from
// lo up to, but not including, hi.
func bounds(space uint64, k kind, lo, hi Key) *pebble.IterOptions {
	b, n := appendBounds(make([]byte, 0, recordKeySize(len(lo))+recordKeySize(len(hi))), space, k, lo, hi)
	return &pebble.IterOptions{LowerBound: b[:n:n], UpperBound: b[n:]}
}

// appendBounds adds the lower bound, which ends at n, and the upper bound.
func appendBounds(b []byte, space uint64, k kind, lo, hi Key) (_ []byte, n int) {
	b = appendRecordKey(b, space, k, lo)
	n = len(b)
	if hi == nil {
		return appendRecordKey(b, space, k+1, ""), n
	}
	return appendRecordKey(b, space, k, hi), n
}

// Next moves to the next key; false at the end and after an error.
func (it *Iterator) Next() bool {
	if it.err == nil && !it.begun {
		it.begun = true
		if !it.o.NoIntents {
			it.fail(it.intents.open(it.snap, it.o.Lower, it.o.Upper))
		}
	}
	for it.err == nil && it.advance() {
		if it.read.Intent != nil {
			return true
		}
		if it.read.Commit != 0 && (it.o.Tombstones || !it.read.Tombstone) {
			return true
		}
	}
	return false
}

// advance moves to the next key that has a version or an intent.
func (it *Iterator) advance() bool {
	if it.fromVersions {
		it.fail(it.versions.next())
	}
	if it.fromIntents {
		it.fail(it.intents.next())
	}
	if it.err != nil {
		return false
	}
	it.fromVersions, it.fromIntents = it.first()
	switch {
	case it.fromVersions:
		it.key, it.read = it.versions.body(), it.versions.read
	case it.fromIntents:
		it.key, it.read = it.intents.body(), Read{}
	default:
		return false
	}
	if it.fromIntents {
		it.read.Intent = &it.intents.intent
	}
	return true
}

// first says which of the walks stand on the key to visit next.
func (it *Iterator) first() (versions, intents bool) {
	if !it.versions.ok || !it.intents.ok {
		return it.versions.ok, it.intents.ok
	}
	order := bytes.Compare(it.versions.body(), it.intents.body())
	if it.o.Reverse {
		order = -order
	}
	return order <= 0, order >= 0
}

// Key returns the current key, valid until Next.
func (it *Iterator) Key() Key { return it.key }

// Read returns what the snapshot holds for the current key, valid until Next.
func (it *Iterator) Read() Read { return it.read }

// Err returns the error that ended the scan, if one did.
func (it *Iterator) Err() error { return it.err }

// Close ends the scan and returns its error.
func (it *Iterator) Close() error {
	err := it.intents.close()
	if it.alone {
		it.versions.it = nil
	}
	if it.versions.it != nil {
		err = errors.Join(it.versions.it.Close(), err)
		it.versions.it = nil
	}
	it.begun = true // a closed scan stays at its end
	it.versions.ok, it.intents.ok = false, false
	it.fail(err)
	return it.err
}

// fail keeps the first error.
func (it *Iterator) fail(err error) {
	if it.err == nil {
		it.err = wrap(err, "scan")
	}
}
