package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Batch is a set of changes to one space that takes effect as a whole or not at
// all. Later changes of a batch win over earlier ones to the same record. It
// copies what it is given. It belongs to one goroutine.
type Batch struct {
	space   *Space
	b       *pebble.Batch
	shared  bool // part of a SharedBatch, which is committed and closed as a whole
	scratch []byte
	hashes  [8]uint64
}

// PutVersion writes the version of k committed at commit by a transaction that
// started at start. The same key and commit again replaces it.
func (b *Batch) PutVersion(k Key, commit, start Timestamp, value []byte) {
	b.putVersion(k, commit, versionValue, start, value)
}

// PutTombstone writes a version that says that k was deleted at commit.
func (b *Batch) PutTombstone(k Key, commit, start Timestamp) {
	b.putVersion(k, commit, versionTombstone, start, nil)
}

// putVersion encodes straight into the batch's memory.
func (b *Batch) putVersion(k Key, commit Timestamp, tag byte, start Timestamp, value []byte) {
	mustCommit(commit)
	op := b.b.SetDeferred(recordKeySize(len(k))+suffixSize, versionHeaderSize+len(value))
	appendSuffix(appendRecordKey(op.Key[:0], b.space.id, kindVersion, k), commit)
	appendVersion(op.Value[:0], tag, start, value)
	b.finish(op)
}

// PutIntent writes the intent of k, in place of any it has.
func (b *Batch) PutIntent(k Key, in Intent) {
	op := b.b.SetDeferred(recordKeySize(len(k)), in.encodedSize())
	appendRecordKey(op.Key[:0], b.space.id, kindIntent, k)
	in.AppendBinary(op.Value[:0])
	b.space.e.churn.add(op.Key)
	b.finish(op)
}

// DeleteIntent removes the intent of k, if it has one. On a key that has had many
// of late it puts a blank in its place; see churn.
func (b *Batch) DeleteIntent(k Key) {
	var buf [96]byte
	if b.space.e.churn.add(appendRecordKey(buf[:0], b.space.id, kindIntent, k)) {
		put(b, kindIntent, k, nil)
		return
	}
	remove(b, kindIntent, k)
}

// PutVote writes the vote register of a transaction. Whether it may change is
// the caller's to decide.
func (b *Batch) PutVote(id TxnID, v Vote) {
	b.scratch = v.AppendBinary(b.scratch[:0])
	op := b.b.SetDeferred(recordKeySize(TxnIDSize), len(b.scratch))
	var body [TxnIDSize]byte
	appendRecordKey(op.Key[:0], b.space.id, kindVote, id.Append(body[:0]))
	copy(op.Value, b.scratch)
	b.finish(op)
}

// DeleteVote removes the vote register of a transaction, if there is one.
func (b *Batch) DeleteVote(id TxnID) {
	var body [TxnIDSize]byte
	remove(b, kindVote, id.Append(body[:0]))
}

// PutMeta writes a named record of the shard: owner, fence, schema versions.
func (b *Batch) PutMeta(name string, v []byte) { put(b, kindMeta, name, v) }

// DeleteMeta removes a named record, if it is there.
func (b *Batch) DeleteMeta(name string) { remove(b, kindMeta, name) }

// SetApplied says how far the replica has applied its log with this batch. It
// belongs in every batch that applies log entries.
func (b *Batch) SetApplied(a Applied) {
	op := b.b.SetDeferred(recordKeySize(0), appliedSize)
	appendRecordKey(op.Key[:0], b.space.id, kindApplied, "")
	a.AppendBinary(op.Value[:0])
	b.finish(op)
}

// Commit makes the batch visible to snapshots taken from now on. It does not
// wait for the disk; see Engine.Sync. After an error the caller must stop: the
// store cannot take writes any more.
func (b *Batch) Commit() error {
	b.mustBeWhole()
	in := [1]changed{{space: b.space}}
	return wrap(b.space.e.commit(b.b, in[:], b.hashes[:0], noSync), "commit batch to space %d", b.space.id)
}

// mustBeWhole panics on the part of a batch: what belongs together goes together.
func (b *Batch) mustBeWhole() {
	if b.shared {
		panic(fmt.Sprintf("storage: the part of space %d of a batch over several", b.space.id))
	}
}

// Empty reports whether the batch would change nothing.
func (b *Batch) Empty() bool { return b.b.Empty() }

// Size returns the bytes that the batch occupies, with the other parts if it is one of
// several.
func (b *Batch) Size() int { return b.b.Len() }

// Close frees the batch. What was not committed is forgotten.
func (b *Batch) Close() {
	b.mustBeWhole()
	closeBatch(b.b)
}

func closeBatch(b *pebble.Batch) {
	if err := b.Close(); err != nil {
		panic(fmt.Sprintf("storage: close batch: %v", err))
	}
}

// put writes a record without a timestamp.
func put[B ~[]byte | ~string](b *Batch, k kind, body B, v []byte) {
	op := b.b.SetDeferred(recordKeySize(len(body)), len(v))
	appendRecordKey(op.Key[:0], b.space.id, k, body)
	copy(op.Value, v)
	b.finish(op)
}

// remove deletes a record without a timestamp.
func remove[B ~[]byte | ~string](b *Batch, k kind, body B) {
	op := b.b.DeleteDeferred(recordKeySize(len(body)))
	appendRecordKey(op.Key[:0], b.space.id, k, body)
	b.finish(op)
}

// finish ends one change. It fails only on a batch that is indexed and out of
// memory, which ours never is.
func (b *Batch) finish(op *pebble.DeferredBatchOp) {
	if err := op.Finish(); err != nil {
		panic(fmt.Sprintf("storage: add to batch: %v", err))
	}
}
