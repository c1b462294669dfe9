package storage

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Staged chunks are the writes of a large transaction before its vote: opaque
// bytes under the transaction's id and the chunk's number. No read of a key
// meets them. The transaction's vote turns them into what its intents would be;
// see package shard.

// stagedBodySize is the length of the body of a chunk's key.
const stagedBodySize = TxnIDSize + 4

func stagedBody(dst []byte, id TxnID, chunk uint32) []byte {
	return binary.BigEndian.AppendUint32(id.Append(dst), chunk)
}

// PutStaged writes one chunk of a transaction.
func (b *Batch) PutStaged(id TxnID, chunk uint32, v []byte) {
	var body [stagedBodySize]byte
	put(b, kindStaged, stagedBody(body[:0], id, chunk), v)
}

// DeleteStaged removes one chunk of a transaction, if it is there.
func (b *Batch) DeleteStaged(id TxnID, chunk uint32) {
	var body [stagedBodySize]byte
	remove(b, kindStaged, stagedBody(body[:0], id, chunk))
}

// Staged returns one chunk; false if there is none. The bytes belong to the
// caller.
func (s *Snapshot) Staged(id TxnID, chunk uint32) ([]byte, bool, error) {
	var body [stagedBodySize]byte
	stored, ok, err := record(s, kindStaged, stagedBody(body[:0], id, chunk))
	if err != nil || !ok {
		return nil, false, err
	}
	return append([]byte{}, stored...), true, nil
}

// StagedOf calls fn for the chunks of one transaction, in the order of their
// numbers, until fn returns an error, which it hands on. The bytes are valid
// until fn returns.
func (s *Snapshot) StagedOf(id TxnID, fn func(chunk uint32, v []byte) error) error {
	var body [TxnIDSize]byte
	lo := appendRecordKey(nil, s.space.id, kindStaged, id.Append(body[:0]))
	lo = lo[:len(lo)-sentinelSize] // in front of every chunk
	hi := append(append([]byte{}, lo...), 0xff, 0xff, 0xff, 0xff, 0xff)
	return s.staged(lo, hi, func(_ TxnID, chunk uint32, v []byte) error { return fn(chunk, v) })
}

// AllStaged is StagedOf for the chunks of all transactions, by id.
func (s *Snapshot) AllStaged(fn func(id TxnID, chunk uint32, v []byte) error) error {
	return s.staged(appendRecordKey(nil, s.space.id, kindStaged, ""),
		appendRecordKey(nil, s.space.id, kindStaged+1, ""), fn)
}

func (s *Snapshot) staged(lo, hi []byte, fn func(TxnID, uint32, []byte) error) error {
	if s.err != nil {
		return s.err
	}
	it, err := s.iter.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{LowerBound: lo, UpperBound: hi}})
	if err != nil {
		return wrap(err, "read staged chunks of space %d", s.space.id)
	}
	return errors.Join(visitStaged(it, fn), wrap(it.Close(), "read staged chunks of space %d", s.space.id))
}

// visitStaged walks over an iterator that is bounded to chunks.
func visitStaged(it *pebble.Iterator, fn func(TxnID, uint32, []byte) error) error {
	for ok := it.First(); ok; ok = it.Next() {
		id, rest, err := DecodeTxnID(bodyOf(it.Key()))
		if err != nil {
			return err
		}
		if len(rest) != 4 {
			return corruptf("staged chunk with key %x", it.Key())
		}
		stored, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(id, binary.BigEndian.Uint32(rest), stored); err != nil {
			return err
		}
	}
	return it.Error()
}
