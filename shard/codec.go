package shard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rowlockdb/rowlock/storage"
)

// formatVersion is the first byte of every message, command and result.
// A decoder refuses any other value: formats are never guessed.
const formatVersion = 1

// errFormat is what every decoder of this package answers to bytes it did not
// write: a wrong version, a truncated field, a count that cannot be true, or
// bytes left over.
var errFormat = errors.New("shard: malformed encoding")

// ErrNewer is in the error about something that a later release has written: a kind of
// command, a flag, a form that this one does not know. It is an errFormat too.
var ErrNewer = errors.New("shard: written by a newer release than this one")

var errNewer = fmt.Errorf("%w (%w)", ErrNewer, errFormat)

// storedForm is the first byte of the registry of nodes and of the notes.
const storedForm = 2

// The append functions build encodings. Counts and lengths are uvarints,
// timestamps and ids too; byte strings carry their length.

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendBytes(b, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// appendOptional keeps nil and empty apart: an open span end is not a key.
func appendOptional(b, v []byte) []byte {
	if v == nil {
		return append(b, 0)
	}
	return appendBytes(append(b, 1), v)
}

func appendString(b []byte, v string) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendTxn(b []byte, id storage.TxnID) []byte {
	b = binary.AppendUvarint(b, uint64(id.Start))
	b = binary.AppendUvarint(b, id.Gateway)
	return binary.AppendUvarint(b, id.Seq)
}

func appendKeys(b []byte, keys []storage.Key) []byte {
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = appendBytes(b, k)
	}
	return b
}

func appendIDs(b []byte, ids []ID) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

func appendInts(b []byte, ints []int) []byte {
	b = binary.AppendUvarint(b, uint64(len(ints)))
	for _, i := range ints {
		b = binary.AppendUvarint(b, uint64(i))
	}
	return b
}

// decoder reads what the append functions wrote. The first mistake sets bad
// and empties the input; later reads return zero values, so that callers check
// once, in done. Byte strings alias the input.
type decoder struct {
	b   []byte
	bad bool
	// newer: what made it bad is not damage but something this release does not know.
	newer bool
	// first: a stored record in its first form, from before there were ranges of versions.
	first bool
}

// newDecoder checks the version byte.
func newDecoder(b []byte) decoder {
	d := decoder{b: b}
	if d.byte() > formatVersion {
		d.unknown()
	} else if len(b) > 0 && b[0] != formatVersion {
		d.fail()
	}
	return d
}

// newStoredDecoder takes a record whose form has changed once: its first form, and its
// second.
func newStoredDecoder(b []byte) decoder {
	d := decoder{b: b}
	switch form := d.byte(); {
	case form > storedForm:
		d.unknown()
	case form == 0:
		d.fail()
	default:
		d.first = form < storedForm
	}
	return d
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

// unknown fails because of a number that a later release may have given a meaning.
func (d *decoder) unknown() {
	d.newer = d.newer || !d.bad
	d.fail()
}

// done reports whether everything was read and nothing was left.
func (d *decoder) done() error {
	if d.newer {
		return errNewer
	}
	if d.bad || len(d.b) != 0 {
		return errFormat
	}
	return nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bool() bool {
	v := d.byte()
	if v > 1 {
		d.fail()
	}
	return v == 1
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || (n > 1 && d.b[n-1] == 0) { // truncated, too long, or not the shortest form
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// small reads a number that must fit an int32: enumerations, indexes, limits.
func (d *decoder) small() int {
	v := d.uint()
	if v > 1<<31-1 {
		d.fail()
		return 0
	}
	return int(v)
}

// chunk reads the number of a staged chunk, or how many there are.
func (d *decoder) chunk() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.fail()
		return 0
	}
	return uint32(v)
}

func (d *decoder) time() storage.Timestamp { return storage.Timestamp(d.uint()) }

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) optional() []byte {
	if !d.bool() {
		return nil
	}
	return d.bytes()
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) txn() storage.TxnID {
	return storage.TxnID{Start: d.time(), Gateway: d.uint(), Seq: d.uint()}
}

// count reads the number of elements that follow. Each takes at least one
// byte, so a count above the rest of the input is a lie and is refused before
// anything is allocated for it.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

// list reads a counted list; no elements is nil.
func list[T any](d *decoder, one func(*decoder) T) []T {
	n := d.count()
	if n == 0 {
		return nil
	}
	// Grow from a bounded start: an element in memory is larger than its
	// shortest encoding, and the elements may still turn out to be missing.
	v := make([]T, 0, min(n, max(1024, len(d.b)/16)))
	for i := 0; i < n && !d.bad; i++ {
		v = append(v, one(d))
	}
	if d.bad {
		return nil
	}
	return v
}

func (d *decoder) keys() []storage.Key {
	return list(d, func(d *decoder) storage.Key { return d.bytes() })
}

func (d *decoder) ids() []ID { return list(d, func(d *decoder) ID { return ID(d.uint()) }) }

func (d *decoder) ints() []int { return list(d, (*decoder).small) }

func (d *decoder) txns() []storage.TxnID { return list(d, (*decoder).txn) }

func (d *decoder) voteState() storage.VoteState {
	v := storage.VoteState(d.byte())
	if v > storage.VoteAborted {
		d.fail()
	}
	return v
}
