package storage

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// versionScan walks over the keys of a range that have versions, each once, and
// reads each at one timestamp.
type versionScan struct {
	it      *pebble.Iterator // bounded to versions; nil: there are none
	at      Timestamp
	reverse bool

	ok   bool   // it stands on a key
	key  []byte // physical, without timestamp, of the current key
	read Read   // of the current key; the visible version need not exist

	// begun: the first positioning was done. onKey: it stands on an entry of the
	// current key; otherwise on the first entry of the key to visit next.
	begun, onKey bool
	// deep: the last key read backward had many versions, so the next one is
	// expected to have many too.
	deep bool

	seek  []byte // scratch for seeks
	value []byte // copy of the visible value, where the position cannot keep it
}

// body returns the user's key.
func (v *versionScan) body() Key { return bodyOf(v.key) }

// next moves to the next key that has versions, and reads it; ok is false at the
// end.
func (v *versionScan) next() error {
	v.ok = v.it != nil && v.position()
	if !v.ok {
		if v.it == nil {
			return nil
		}
		return v.it.Error()
	}
	k := v.it.Key()
	v.key = append(v.key[:0], k[:splitKey(k)]...)
	v.read = Read{}
	v.onKey = true
	var err error
	if v.reverse {
		err = v.loadBackward()
	} else {
		err = v.loadForward()
	}
	return errors.Join(err, v.it.Error())
}

// position puts the iterator on a version of the next key, the newest or the
// oldest one depending on the direction.
func (v *versionScan) position() bool {
	switch {
	case !v.begun && v.reverse:
		v.begun = true
		return v.it.Last()
	case !v.begun:
		v.begun = true
		return v.it.First()
	case !v.onKey:
		return v.it.Valid()
	case v.reverse:
		return v.it.SeekLT(v.key)
	default:
		return v.pass()
	}
}

// pass goes to the next key, from an entry of this one. Most keys have one version or two:
// a few steps cost less than to look for the end of the key.
func (v *versionScan) pass() bool {
	for range nearSteps {
		if !v.it.Next() {
			return false
		}
		k := v.it.Key()
		if n := splitKey(k); n != len(v.key) || !bytes.Equal(k[:n], v.key) {
			return true
		}
	}
	return v.it.NextPrefix()
}

// nearSteps is how many versions are passed one by one.
const nearSteps = 3

// loadForward reads the current key from its newest version on.
func (v *versionScan) loadForward() error {
	n := len(v.key)
	commit := commitOf(v.it.Key(), n)
	v.read.Newest = commit
	for steps := 0; commit > v.at; steps++ {
		var ok bool
		if steps < maxSteps {
			ok = v.it.Next()
		} else {
			v.seek = appendSuffix(append(v.seek[:0], v.key...), v.at)
			ok = v.it.SeekGE(v.seek)
		}
		if !v.stay(ok) {
			return nil
		}
		commit = commitOf(v.it.Key(), n)
	}
	return v.load(commit)
}

// loadBackward reads the current key from its oldest version on. A key with many
// versions is read forward instead, from its newest one.
func (v *versionScan) loadBackward() error {
	steps := maxSteps
	if v.deep {
		steps = 1
	}
	for range steps {
		if err := v.loadOlder(); err != nil {
			return err
		}
		if !v.stay(v.it.Prev()) {
			v.deep = false
			return nil
		}
	}
	v.deep = true
	v.read = Read{}
	if !v.stay(v.it.SeekGE(v.key)) {
		return v.it.Error()
	}
	if err := v.loadForward(); err != nil {
		return err
	}
	v.onKey = true // position seeks back from the key's newest version
	return nil
}

// loadOlder takes over one version of a key that is read from oldest to newest:
// the last version it meets is the newest, the last at or below the timestamp is
// the visible one.
func (v *versionScan) loadOlder() error {
	commit := commitOf(v.it.Key(), len(v.key))
	v.read.Newest = commit
	if commit > v.at {
		return nil
	}
	if err := v.load(commit); err != nil {
		return err
	}
	if !v.read.Tombstone {
		v.value = append(v.value[:0], v.read.Value...)
		v.read.Value = v.value[:len(v.value):len(v.value)]
	}
	return nil
}

// load takes over the version under the iterator as the visible one.
func (v *versionScan) load(commit Timestamp) error {
	stored, err := v.it.ValueAndErr()
	if err != nil {
		return err
	}
	v.read.Commit = commit
	v.read.Value, v.read.Start, v.read.Tombstone, err = decodeVersion(stored)
	return err
}

// stay reports whether the iterator, after a move, still is on the current key.
func (v *versionScan) stay(valid bool) bool {
	if valid {
		k := v.it.Key()
		n := splitKey(k)
		v.onKey = n == len(v.key) && bytes.Equal(k[:n], v.key)
	} else {
		v.onKey = false
	}
	return v.onKey
}
