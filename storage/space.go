package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// Space is one shard replica's part of an [Engine]: all keys under one 8-byte
// prefix. Any number of values for one id are the same space.
type Space struct {
	e     *Engine
	swap  *swap // shared by all values for the id
	id    uint64
	all   pebble.IterOptions // the whole space
	start []byte
	end   []byte
}

// newSpace prepares what every read of the space needs.
func newSpace(e *Engine, id uint64) *Space {
	s := &Space{e: e, id: id, swap: e.swapOf(id), start: spaceStart(id), end: spaceEnd(id)}
	// Filters of the lowest level are worth their memory: before an insert, keys
	// are looked up that usually do not exist.
	s.all = pebble.IterOptions{LowerBound: s.start, UpperBound: s.end, UseL6Filters: true}
	return s
}

// ID returns the id that the space was asked for.
func (s *Space) ID() uint64 { return s.id }

// Engine returns the engine that the space is part of.
func (s *Space) Engine() *Engine { return s.e }

// NewBatch starts an empty batch. Close it, committed or not.
func (s *Space) NewBatch() *Batch { return &Batch{space: s, b: s.e.db.NewBatch()} }

// Snapshot fixes a point in time for reads: everything committed to the space
// before the call, nothing after it. It costs about as much as opening an
// iterator, and keeps the tables and memtables of its time alive until it is
// closed; for long work use StreamSnapshot.
func (s *Space) Snapshot() *Snapshot {
	fills := s.swap.rows.ready()
	snap := &Snapshot{space: s, ticket: s.e.rows.ticket()}
	snap.key = snap.keyArray[:0]
	it, life, err := s.open(&s.all)
	if err != nil {
		snap.err = wrap(err, "open snapshot of space %d", s.id)
		return snap
	}
	snap.iter, snap.life = it, noLife
	if fills {
		snap.life = life
	}
	return snap
}

// Cached is GetVersion of a snapshot that is opened now, if it is known without
// opening one. Who calls it for several keys reads each in a moment of its own.
func (s *Space) Cached(k Key, at Timestamp) (r Read, ok bool) {
	c, life := s.e.rows, s.swap.count.Load()
	if c == nil || life%2 != 0 {
		return Read{}, false
	}
	s.swap.rows.follow()
	var buf [96]byte
	commit, stored, ok := c.get(appendRecordKey(buf[:0], s.id, kindVersion, k), life, at)
	if !ok || commit == 0 {
		return Read{}, ok
	}
	r.Commit, r.Newest = commit, commit
	var err error
	r.Value, r.Start, r.Tombstone, err = decodeVersion(stored)
	return r, err == nil
}

// CachedNewest returns the newest commit of a key (0: it has no version), if it is
// known without opening a snapshot.
func (s *Space) CachedNewest(k Key) (commit Timestamp, ok bool) {
	c, life := s.e.rows, s.swap.count.Load()
	if c == nil || life%2 != 0 {
		return 0, false
	}
	s.swap.rows.follow()
	var buf [96]byte
	return c.newest(appendRecordKey(buf[:0], s.id, kindVersion, k), life)
}

// open opens an iterator over the space's content as it is now, and says in which
// life of the space that is.
func (s *Space) open(o *pebble.IterOptions) (*pebble.Iterator, uint64, error) {
	return outside(s.swap, func() (*pebble.Iterator, error) { return s.e.db.NewIter(o) })
}

// Applied returns the applied record; false if the space has none.
func (s *Space) Applied() (Applied, bool, error) {
	snap := s.Snapshot()
	defer snap.Close()
	return snap.Applied()
}

// Checksum returns a hash over all versions, intents, votes and meta records,
// but not the applied record. Replicas with the same history have the same
// checksum, however their stores are laid out.
func (s *Space) Checksum() (uint64, error) {
	snap := s.Snapshot()
	defer snap.Close()
	return snap.Checksum()
}

// Size estimates the bytes that the space occupies on the disk, compressed;
// what is only in memory does not count.
func (s *Space) Size() (bytes uint64, err error) {
	bytes, err = s.e.db.EstimateDiskUsage(s.start, s.end)
	return bytes, wrap(err, "estimate size of space %d", s.id)
}

// Destroy removes everything of the space, durably, in one step. It must have
// returned before a replica with another identity may use the space. Open
// snapshots keep seeing what they saw. Like Restore it must not run beside commits to
// the space, nor twice at once, nor beside Restore.
func (s *Space) Destroy() error {
	x := s.extent()
	err := x.take(nil)
	if err == nil {
		err = s.e.Sync()
	}
	return wrap(err, "destroy space %d", s.id)
}

// checksum hashes all pairs that an iterator over one space yields. Lengths go
// into the hash, so that no two different spaces hash the same bytes.
func checksum(it *pebble.Iterator) (uint64, error) {
	h := xxhash.New()
	var size [16]byte
	for ok := it.First(); ok; ok = it.Next() {
		k := it.Key()[spaceSize:]
		if kind(k[0]) == kindApplied {
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return 0, err
		}
		if kind(k[0]) == kindIntent && blank(v) {
			continue
		}
		binary.BigEndian.PutUint64(size[:], uint64(len(k)))
		binary.BigEndian.PutUint64(size[8:], uint64(len(v)))
		h.Write(size[:])
		h.Write(k)
		h.Write(v)
	}
	if err := it.Error(); err != nil {
		return 0, err
	}
	return h.Sum64(), nil
}

// String names the space in messages.
func (s *Space) String() string { return fmt.Sprintf("space %d", s.id) }
