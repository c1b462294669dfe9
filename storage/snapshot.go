package storage

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// maxSteps is how many versions a read passes one by one before it seeks. A
// seek costs about as much as a handful of steps.
const maxSteps = 4

// Read is what a snapshot holds for one key at one timestamp.
type Read struct {
	Value     []byte    // of the visible version; nil if there is none or it is a tombstone
	Commit    Timestamp // of the visible version; 0: no version at or below the timestamp
	Start     Timestamp // when the visible version's writer started
	Tombstone bool      // the visible version says "deleted"
	Newest    Timestamp // newest commit of the key at all, tombstones too; 0: none
	Intent    *Intent   // on this key, whatever its timestamp; nil: none
}

// Snapshot is a point in time of a space. Versions, intents, votes and meta
// records read through it belong to the same moment. It belongs to one
// goroutine, but its scans may be used in between its other reads.
type Snapshot struct {
	space    *Space
	iter     *pebble.Iterator // fixes the moment; all scans are clones of it
	err      error            // why iter could not be opened
	key      []byte
	keyArray [96]byte

	ticket uint64 // of the cache of rows, drawn before iter was opened
	life   uint64 // of the space that iter shows

	lent   bool      // iter is a Moment's
	narrow bool      // iter has the bounds of something else than the space
	alone  *Iterator // of scans that iter itself serves; nil: there was none
}

// Close ends the snapshot. Its scans must have been closed before.
func (s *Snapshot) Close() {
	if s.iter != nil && !s.lent {
		// An error of the iterator was returned by the read that met it.
		_ = s.iter.Close()
		s.iter = nil
	}
}

// Get reads k at a timestamp. What it returns belongs to the caller.
func (s *Snapshot) Get(k Key, at Timestamp) (Read, error) {
	in, err := s.intent(k)
	if err != nil {
		return Read{}, err
	}
	r, err := s.getVersion(k, at, nil)
	r.Intent = in
	return r, err
}

// GetVersion is Get without the intent, which it leaves nil and does not look
// for: for who knows that none matters to him. It is one seek, and the next one who
// wants the key may find it with Space.Cached, if the snapshot was opened after somebody
// had asked there for any key of the space.
func (s *Snapshot) GetVersion(k Key, at Timestamp) (Read, error) {
	return s.getVersion(k, at, s.space.e.rows)
}

// PassVersion is GetVersion for who reads many keys, most of them once: Space.Cached
// will not find them.
func (s *Snapshot) PassVersion(k Key, at Timestamp) (Read, error) { return s.getVersion(k, at, nil) }

func (s *Snapshot) getVersion(k Key, at Timestamp, c *rows) (Read, error) {
	if s.err != nil {
		return Read{}, s.err
	}
	s.key = appendRecordKey(s.key[:0], s.space.id, kindVersion, k)
	r, err := s.version(at, c)
	if err != nil {
		return Read{}, wrap(err, "read from space %d", s.space.id)
	}
	return r, nil
}

// version reads the key whose physical form without a timestamp is in s.key, and
// remembers what it found if that is all there is, or the newest version.
func (s *Snapshot) version(at Timestamp, c *rows) (r Read, err error) {
	n := len(s.key)
	s.widen()
	if c != nil && mutated("0084.ticket-after-the-iterator") {
		s.ticket = c.ticket()
	}
	if !s.iter.SeekPrefixGE(s.key) {
		if err = s.iter.Error(); err == nil && c != nil {
			c.fill(s.key, s.life, s.ticket, 0, nil)
		}
		return r, err
	}
	commit := commitOf(s.iter.Key(), n)
	r.Newest = commit
	if commit > at {
		var ok bool
		if commit, ok = s.descend(n, at); !ok {
			return r, s.iter.Error()
		}
	}
	stored, err := s.iter.ValueAndErr()
	if err != nil {
		return Read{}, err
	}
	r.Commit = commit
	if r.Value, r.Start, r.Tombstone, err = decodeVersion(stored); err != nil {
		return Read{}, err
	}
	if commit == r.Newest && c != nil {
		c.fill(s.key[:n], s.life, s.ticket, commit, stored)
	}
	if !r.Tombstone {
		r.Value = append(make([]byte, 0, len(r.Value)), r.Value...)
	}
	return r, nil
}

// widen gives the iterator the bounds of the space again.
func (s *Snapshot) widen() {
	if s.narrow {
		s.iter.SetBounds(s.space.start, s.space.end)
		s.narrow = false
	}
}

// intent looks up the intent of a key; nil if it has none.
func (s *Snapshot) intent(k Key) (*Intent, error) {
	stored, ok, err := record(s, kindIntent, k)
	if err != nil || !ok || blank(stored) {
		return nil, err
	}
	in, err := DecodeIntent(append(make([]byte, 0, len(stored)), stored...))
	if err != nil {
		return nil, wrap(err, "read from space %d", s.space.id)
	}
	return &in, nil
}

// descend moves from a version newer than at to the newest one that is not.
func (s *Snapshot) descend(n int, at Timestamp) (commit Timestamp, ok bool) {
	for range maxSteps {
		if !s.iter.Next() {
			return 0, false
		}
		if commit = commitOf(s.iter.Key(), n); commit <= at {
			return commit, true
		}
	}
	s.key = appendSuffix(s.key, at)
	if !s.iter.SeekPrefixGE(s.key) {
		return 0, false
	}
	return commitOf(s.iter.Key(), n), true
}

// Vote returns the vote register of a transaction; false if there is none.
func (s *Snapshot) Vote(id TxnID) (Vote, bool, error) {
	var body [TxnIDSize]byte
	stored, ok, err := record(s, kindVote, id.Append(body[:0]))
	if err != nil || !ok {
		return Vote{}, false, err
	}
	v, err := DecodeVote(stored)
	return v, err == nil, wrap(err, "vote of transaction %s in space %d", id, s.space.id)
}

// Votes calls fn for every vote register, in the order of transaction ids, until
// fn returns an error, which it hands on. fn may read from the snapshot.
func (s *Snapshot) Votes(fn func(TxnID, Vote) error) error {
	if s.err != nil {
		return s.err
	}
	it, err := s.iter.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{
		LowerBound: appendRecordKey(nil, s.space.id, kindVote, ""),
		UpperBound: appendRecordKey(nil, s.space.id, kindVote+1, ""),
	}})
	if err != nil {
		return wrap(err, "read votes of space %d", s.space.id)
	}
	return errors.Join(visitVotes(it, fn), wrap(it.Close(), "read votes of space %d", s.space.id))
}

// visitVotes walks over an iterator that is bounded to votes.
func visitVotes(it *pebble.Iterator, fn func(TxnID, Vote) error) error {
	for ok := it.First(); ok; ok = it.Next() {
		id, _, err := DecodeTxnID(bodyOf(it.Key()))
		if err != nil {
			return err
		}
		stored, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		v, err := DecodeVote(stored)
		if err != nil {
			return wrap(err, "vote of transaction %s", id)
		}
		if err := fn(id, v); err != nil {
			return err
		}
	}
	return nil
}

// Meta returns a named record; false if there is none. The bytes belong to the
// caller.
func (s *Snapshot) Meta(name string) ([]byte, bool, error) {
	stored, ok, err := record(s, kindMeta, name)
	if err != nil || !ok {
		return nil, false, err
	}
	return append([]byte{}, stored...), true, nil
}

// Metas calls fn for every named record whose name begins with prefix, in the
// order of names, until fn returns an error, which it hands on. The value is
// valid until fn returns.
func (s *Snapshot) Metas(prefix string, fn func(name string, v []byte) error) error {
	if s.err != nil {
		return s.err
	}
	lower := appendRecordKey(nil, s.space.id, kindMeta, prefix)
	it, err := s.iter.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{
		LowerBound: lower,
		UpperBound: appendRecordKey(nil, s.space.id, kindMeta+1, ""),
	}})
	if err != nil {
		return wrap(err, "read meta records of space %d", s.space.id)
	}
	return errors.Join(visitMetas(it, prefix, fn), wrap(it.Close(), "read meta records of space %d", s.space.id))
}

// visitMetas walks over an iterator that begins at the first name with prefix.
func visitMetas(it *pebble.Iterator, prefix string, fn func(name string, v []byte) error) error {
	for ok := it.First(); ok; ok = it.Next() {
		name := string(bodyOf(it.Key()))
		if len(name) < len(prefix) || name[:len(prefix)] != prefix {
			return nil
		}
		stored, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(name, stored); err != nil {
			return err
		}
	}
	return nil
}

// Applied returns the applied record; false if the space has none.
func (s *Snapshot) Applied() (Applied, bool, error) {
	stored, ok, err := record(s, kindApplied, "")
	if err != nil || !ok {
		return Applied{}, false, err
	}
	a, err := DecodeApplied(stored)
	return a, err == nil, wrap(err, "applied record of space %d", s.space.id)
}

// Checksum is Space.Checksum at the snapshot's moment.
func (s *Snapshot) Checksum() (uint64, error) {
	if s.err != nil {
		return 0, s.err
	}
	it, err := s.iter.Clone(pebble.CloneOptions{IterOptions: &s.space.all})
	if err != nil {
		return 0, wrap(err, "checksum of space %d", s.space.id)
	}
	sum, err := checksum(it)
	return sum, wrap(errors.Join(err, it.Close()), "checksum of space %d", s.space.id)
}

// record returns the stored bytes of a record without a timestamp, valid until
// the snapshot's next read.
func record[B ~[]byte | ~string](s *Snapshot, k kind, body B) ([]byte, bool, error) {
	if s.err != nil {
		return nil, false, s.err
	}
	s.key = appendRecordKey(s.key[:0], s.space.id, k, body)
	s.widen()
	var stored []byte
	var err error
	ok := s.iter.SeekPrefixGE(s.key)
	if ok {
		stored, err = s.iter.ValueAndErr()
	} else {
		err = s.iter.Error()
	}
	if err != nil {
		return nil, false, wrap(err, "read from space %d", s.space.id)
	}
	return stored, ok, nil
}
