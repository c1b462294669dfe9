package storage

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// LockSource says why locks were written down. The values are stored.
type LockSource uint8

// The sources.
const (
	// LocksDurable: the transaction asked for locks that outlive the owner.
	LocksDurable LockSource = 1
	// LocksHandedOver: an owner wrote its lock table down for its successor.
	LocksHandedOver LockSource = 2
)

// LockID names one lock record: a transaction may have several of each source,
// told apart by Number.
type LockID struct {
	Source LockSource
	Txn    TxnID
	Number uint64
}

// Compare orders ids as the records are stored.
func (id LockID) Compare(other LockID) int {
	return cmp.Or(cmp.Compare(id.Source, other.Source), id.Txn.Compare(other.Txn), cmp.Compare(id.Number, other.Number))
}

// lockIDSize is the length of the stored form: source, transaction, number.
const lockIDSize = 1 + TxnIDSize + 8

func (id LockID) appendTo(dst []byte) []byte {
	dst = id.Txn.Append(append(dst, byte(id.Source)))
	return binary.BigEndian.AppendUint64(dst, id.Number)
}

func decodeLockID(b []byte) (LockID, error) {
	if len(b) != lockIDSize || (LockSource(b[0]) != LocksDurable && LockSource(b[0]) != LocksHandedOver) {
		return LockID{}, corruptf("lock record with key %x", b)
	}
	id, rest, err := DecodeTxnID(b[1:])
	return LockID{Source: LockSource(b[0]), Txn: id, Number: binary.BigEndian.Uint64(rest)}, err
}

// LockRecord is a set of locks that one transaction holds on this shard.
type LockRecord struct {
	// Epoch and Generation are the token under which the transaction was granted
	// its locks.
	Epoch, Generation uint64
	// Flush and Heir belong to locks handed over: which flush wrote them, and the
	// epoch that may inherit them.
	Flush, Heir uint64
	Locks       []byte // the lock set, opaque to storage
}

// Encoding of a lock record: a version byte, token epoch and generation, flush
// and heir (uvarints), the locks with their length in front (uvarint), and xxh64
// of all of that (8 bytes, big endian). A record decides who may write a row, so
// it carries a checksum of its own.
const lockRecordVersion = 1

// AppendBinary adds the stored form of the record.
func (r *LockRecord) AppendBinary(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, lockRecordVersion)
	for _, v := range [...]uint64{r.Epoch, r.Generation, r.Flush, r.Heir, uint64(len(r.Locks))} {
		dst = binary.AppendUvarint(dst, v)
	}
	dst = append(dst, r.Locks...)
	return binary.BigEndian.AppendUint64(dst, xxhash.Sum64(dst[start:]))
}

// DecodeLockRecord reads the stored form. The result shares nothing with b. No
// locks come back as nil.
func DecodeLockRecord(b []byte) (LockRecord, error) {
	const sum = 8
	if len(b) < 1+sum {
		return LockRecord{}, corruptf("lock record of %d bytes", len(b))
	}
	if b[0] != lockRecordVersion {
		return LockRecord{}, corruptf("lock record version %d", b[0])
	}
	body := b[:len(b)-sum]
	if xxhash.Sum64(body) != binary.BigEndian.Uint64(b[len(body):]) {
		return LockRecord{}, corruptf("lock record fails its checksum")
	}
	d := decoder{b: body[1:]}
	r := LockRecord{Epoch: d.uvarint(), Generation: d.uvarint(), Flush: d.uvarint(), Heir: d.uvarint()}
	r.Locks = append(r.Locks, d.bytes()...)
	switch {
	case d.err != nil:
		return LockRecord{}, fmt.Errorf("decode lock record: %w", d.err)
	case len(d.b) != 0:
		return LockRecord{}, corruptf("%d bytes after a lock record", len(d.b))
	}
	return r, nil
}

// PutLocks writes a lock record. Whether it may be written is the caller's to
// decide.
func (b *Batch) PutLocks(id LockID, r LockRecord) {
	var body [lockIDSize]byte
	b.scratch = r.AppendBinary(b.scratch[:0])
	put(b, kindLock, id.appendTo(body[:0]), b.scratch)
}

// DeleteLocks removes a lock record, if it is there.
func (b *Batch) DeleteLocks(id LockID) {
	var body [lockIDSize]byte
	remove(b, kindLock, id.appendTo(body[:0]))
}

// Locks calls fn for every lock record, in the order of their ids, until fn
// returns an error, which it hands on.
func (s *Snapshot) Locks(fn func(LockID, LockRecord) error) error {
	if s.err != nil {
		return s.err
	}
	it, err := s.iter.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{
		LowerBound: appendRecordKey(nil, s.space.id, kindLock, ""),
		UpperBound: appendRecordKey(nil, s.space.id, kindLock+1, ""),
	}})
	if err != nil {
		return wrap(err, "read locks of space %d", s.space.id)
	}
	return errors.Join(visitLocks(it, fn), wrap(it.Close(), "read locks of space %d", s.space.id))
}

// visitLocks walks over an iterator that is bounded to lock records.
func visitLocks(it *pebble.Iterator, fn func(LockID, LockRecord) error) error {
	for ok := it.First(); ok; ok = it.Next() {
		id, err := decodeLockID(bodyOf(it.Key()))
		if err != nil {
			return err
		}
		stored, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		r, err := DecodeLockRecord(stored)
		if err != nil {
			return fmt.Errorf("locks of transaction %s: %w", id.Txn, err)
		}
		if err := fn(id, r); err != nil {
			return err
		}
	}
	return it.Error()
}
