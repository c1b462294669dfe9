package txn

import (
	"bytes"
	"slices"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// keyOverhead is added to the size of every buffered version: what the buffer
// and the log entry need beside the bytes themselves.
const keyOverhead = 64

// WriteBuffer keeps a transaction's own writes until COMMIT, per shard and
// ordered by key.
//
// Every write has a sequence number, and a key keeps as many versions as
// someone may still ask for: a Cursor shows the writes as of its opening, so
// that UPDATE t SET k = k + 1 does not meet the rows it has moved (the
// Halloween problem), and a savepoint goes back to a sequence number. A version
// that no cursor or savepoint can tell from its successor is overwritten in
// place. Not safe for concurrent use.
type WriteBuffer struct {
	shards   []shardWrites // few, in the order in which they came
	undo     []undoRecord  // in order of sequence; what RollbackTo pops
	sequence uint64        // of the last write
	marked   uint64        // highest sequence that a cursor or savepoint refers to
	bytes    int64
	keys     int
}

type bufferedKey struct {
	key      storage.Key
	versions []bufferedVersion // ascending by sequence, never empty while it is somewhere
	first    [1]bufferedVersion
}

type bufferedVersion struct {
	sequence  uint64
	value     []byte
	tombstone bool
}

type undoRecord struct {
	shard shard.ID
	entry *bufferedKey
}

// Put adds a write of k on shard s; a tombstone deletes. Both slices are copied.
func (b *WriteBuffer) Put(s shard.ID, k storage.Key, value []byte, tombstone bool) {
	at := b.writesTo(s)
	b.sequence++
	v := bufferedVersion{sequence: b.sequence, tombstone: tombstone}
	if !tombstone {
		v.value = append(make([]byte, 0, len(value)), value...)
	}
	e, ok := at.get(k)
	if ok {
		if last := &e.versions[len(e.versions)-1]; last.sequence > b.marked {
			b.bytes += int64(len(v.value)) - int64(len(last.value))
			v.sequence = last.sequence
			*last = v
			return
		}
	} else {
		e = &bufferedKey{key: slices.Clone(k)}
		e.versions = e.first[:0]
		at.add(e)
		b.keys++
	}
	e.versions = append(e.versions, v)
	b.undo = append(b.undo, undoRecord{s, e})
	b.bytes += b.sizeOf(e.key, v)
}

// Mark returns the present sequence number and keeps every version that is
// needed to go back to it or to read as of it.
func (b *WriteBuffer) Mark() uint64 {
	b.marked = b.sequence
	return b.sequence
}

// RollbackTo drops all writes after sequence, which Mark returned.
func (b *WriteBuffer) RollbackTo(sequence uint64) {
	for n := len(b.undo); n > 0; n-- {
		u := b.undo[n-1]
		last := len(u.entry.versions) - 1
		v := u.entry.versions[last]
		if v.sequence <= sequence {
			break
		}
		b.undo[n-1] = undoRecord{}
		b.undo = b.undo[:n-1]
		u.entry.versions[last] = bufferedVersion{}
		u.entry.versions = u.entry.versions[:last]
		b.bytes -= b.sizeOf(u.entry.key, v)
		if last == 0 {
			b.of(u.shard).remove(u.entry)
			b.keys--
		}
	}
	b.marked = min(b.marked, sequence)
}

// Get returns the newest own write of k on shard s; ok is false without one.
func (b *WriteBuffer) Get(s shard.ID, k storage.Key) (value []byte, tombstone, ok bool) {
	at := b.of(s)
	if at == nil {
		return nil, false, false
	}
	e, ok := at.get(k)
	if !ok {
		return nil, false, false
	}
	v := e.versions[len(e.versions)-1]
	return v.value, v.tombstone, true
}

// overlayRow is one own write as a cursor meets it.
type overlayRow struct {
	key       storage.Key
	value     []byte
	tombstone bool
}

// next finds the first own write on shard s as of sequence that lies strictly
// beyond `after` in the given direction and inside [lo, hi). A nil after starts
// at the edge.
func (b *WriteBuffer) next(s shard.ID, span keySpan, after storage.Key, sequence uint64) (row overlayRow, ok bool) {
	at := b.of(s)
	if at == nil {
		return overlayRow{}, false
	}
	visit := func(e *bufferedKey) bool {
		if after != nil && bytes.Equal(e.key, after) {
			return true
		}
		if span.reverse && span.hi != nil && bytes.Compare(e.key, span.hi) >= 0 {
			return true
		}
		if !span.contains(e.key) {
			return false
		}
		v := e.asOf(sequence)
		if v == nil {
			return true
		}
		row, ok = overlayRow{e.key, v.value, v.tombstone}, true
		return false
	}
	pivot := after
	switch {
	case !span.reverse:
		if pivot == nil {
			pivot = span.lo
		}
		at.ascend(pivot, visit)
	case pivot == nil && span.hi == nil:
		at.reverse(visit)
	default:
		if pivot == nil {
			pivot = span.hi
		}
		at.descend(pivot, visit)
	}
	return row, ok
}

// Writes returns the newest own write of every key on shard s, in key order.
func (b *WriteBuffer) Writes(s shard.ID) []shard.Write {
	at := b.of(s)
	if at == nil || at.len() == 0 {
		return nil
	}
	out := make([]shard.Write, 0, at.len())
	at.ascend(nil, func(e *bufferedKey) bool {
		v := e.versions[len(e.versions)-1]
		out = append(out, shard.Write{Key: e.key, Value: v.value, Tombstone: v.tombstone})
		return true
	})
	return out
}

// Len is the number of keys written.
func (b *WriteBuffer) Len() int { return b.keys }

// Bytes is the memory that keys and values take, superseded versions included.
func (b *WriteBuffer) Bytes() int64 { return b.bytes }

// Has tells whether anything is written on shard s.
func (b *WriteBuffer) Has(s shard.ID) bool {
	at := b.of(s)
	return at != nil && at.len() > 0
}

// of returns the writes to shard s, nil if there are none. They may move when another
// shard gets its first.
func (b *WriteBuffer) of(s shard.ID) *shardWrites {
	for i := range b.shards {
		if b.shards[i].shard == s {
			return &b.shards[i]
		}
	}
	return nil
}

func (b *WriteBuffer) writesTo(s shard.ID) *shardWrites {
	if at := b.of(s); at != nil {
		return at
	}
	b.shards = append(b.shards, shardWrites{shard: s})
	return &b.shards[len(b.shards)-1]
}

func (b *WriteBuffer) sizeOf(k storage.Key, v bufferedVersion) int64 {
	return int64(len(k)+len(v.value)) + keyOverhead
}

// asOf is the newest version at or before sequence, nil if there is none.
func (e *bufferedKey) asOf(sequence uint64) *bufferedVersion {
	for i := len(e.versions) - 1; i >= 0; i-- {
		if e.versions[i].sequence <= sequence {
			return &e.versions[i]
		}
	}
	return nil
}

// keySpan is a half-open interval with a direction.
type keySpan struct {
	lo, hi  storage.Key
	reverse bool
}

func (s keySpan) contains(k storage.Key) bool {
	return bytes.Compare(k, s.lo) >= 0 && (s.hi == nil || bytes.Compare(k, s.hi) < 0)
}
