package logstore

import (
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// errClosed: the store was closed.
var errClosed = errors.New("logstore: closed")

// maxBatchHint bounds how much room is reserved for a batch up front.
const maxBatchHint = 4 << 20

// SaveBootstrapInfo implements raftio.ILogDB.
func (s *Store) SaveBootstrapInfo(group, id uint64, info pb.Bootstrap) error {
	v, err := appendMessage(nil, &info)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := b.Set(appendKey(nil, kindBootstrap, replica{group, id}), v, nil); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.commit(b, true)
}

// SaveRaftState implements raftio.ILogDB. The whole list goes into one batch,
// which is synced when it holds more than moves of commit indexes.
func (s *Store) SaveRaftState(updates []pb.Update, _ uint64) error {
	w := s.newWriter(updates)
	for i := range updates {
		if err := w.add(&updates[i]); err != nil {
			return errors.Join(err, w.batch.Close())
		}
	}
	if w.batch.Empty() {
		return w.batch.Close()
	}
	if err := s.commit(w.batch, w.sync); err != nil {
		return err
	}
	w.remember()
	return nil
}

// SaveSnapshots implements raftio.ILogDB: it stores snapshot records that this
// node made itself, which leave the log as it is.
func (s *Store) SaveSnapshots(updates []pb.Update) error {
	w := s.newWriter(nil)
	for i := range updates {
		u := &updates[i]
		if pb.IsEmptySnapshot(u.Snapshot) {
			continue
		}
		if _, err := w.addSnapshot(replica{u.ShardID, u.ReplicaID}, u.Snapshot); err != nil {
			return errors.Join(err, w.batch.Close())
		}
	}
	if w.batch.Empty() {
		return w.batch.Close()
	}
	if err := s.commit(w.batch, true); err != nil {
		return err
	}
	w.remember()
	return nil
}

// RemoveEntriesTo implements raftio.ILogDB. The removal is not synced: entries
// that come back after a power cut lie below the snapshot and are removed again.
func (s *Store) RemoveEntriesTo(group, id uint64, index uint64) error {
	r := replica{group, id}
	end := appendEntriesEnd(nil, r)
	if index < math.MaxUint64 {
		end = appendEntryKey(nil, r, index+1)
	}
	b := s.db.NewBatch()
	if err := b.DeleteRange(appendEntryKey(nil, r, 0), end, nil); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.commit(b, false)
}

// CompactEntriesTo implements raftio.ILogDB. There is nothing to do: Pebble
// drops files that a range deletion covers without reading them.
func (s *Store) CompactEntriesTo(group, id uint64, index uint64) (<-chan struct{}, error) {
	done := make(chan struct{})
	close(done)
	return done, nil
}

// RemoveNodeData implements raftio.ILogDB: all records of the replica, synced.
func (s *Store) RemoveNodeData(group, id uint64) error {
	r := replica{group, id}
	b := s.db.NewBatch()
	if err := removeAll(b, r); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := s.commit(b, true); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.replicas, r)
	return nil
}

// ImportSnapshot implements raftio.ILogDB: the replica's log becomes empty and
// begins after the snapshot, as if the replica had just joined.
func (s *Store) ImportSnapshot(ss pb.Snapshot, id uint64) error {
	if ss.Type == pb.UnknownStateMachine {
		return fmt.Errorf("logstore: import into group %d: snapshot of unknown type", ss.ShardID)
	}
	r := replica{ss.ShardID, id}
	b := s.db.NewBatch()
	if err := importInto(b, r, ss); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := s.commit(b, true); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.replicas, r)
	return nil
}

func importInto(b *pebble.Batch, r replica, ss pb.Snapshot) error {
	if err := removeAll(b, r); err != nil {
		return err
	}
	boot, err := appendMessage(nil, &pb.Bootstrap{Join: true, Type: ss.Type})
	if err != nil {
		return err
	}
	snap, err := appendMessage(nil, &ss)
	if err != nil {
		return err
	}
	state := appendState(nil, pb.State{Term: ss.Term, Commit: ss.Index})
	return errors.Join(
		b.Set(appendKey(nil, kindBootstrap, r), boot, nil),
		b.Set(appendKey(nil, kindState, r), state, nil),
		b.Set(appendKey(nil, kindSnapshot, r), snap, nil))
}

// removeAll deletes every record of a replica.
func removeAll(b *pebble.Batch, r replica) error {
	return errors.Join(
		b.Delete(appendKey(nil, kindBootstrap, r), nil),
		b.Delete(appendKey(nil, kindSnapshot, r), nil),
		b.Delete(appendKey(nil, kindState, r), nil),
		b.DeleteRange(appendEntryKey(nil, r, 0), appendEntriesEnd(nil, r), nil))
}

// commit writes a batch and closes it. The first failure is final.
func (s *Store) commit(b *pebble.Batch, sync bool) (err error) {
	if err := s.usable(); err != nil {
		return errors.Join(err, b.Close())
	}
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(fatalError)
			if !ok {
				panic(p)
			}
			err = f // the batch is Pebble's for good
		}
		if err != nil {
			err = s.fail(err)
		}
	}()
	o := pebble.NoSync
	if sync {
		o = pebble.Sync
	}
	if err := b.Commit(o); err != nil {
		return fmt.Errorf("logstore: write: %w", err)
	}
	// Another write may have failed on the same file meanwhile.
	if err := s.usable(); err != nil {
		return err
	}
	return b.Close()
}

func (s *Store) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.failed != nil {
		return s.mu.failed
	}
	if s.mu.closed {
		return errClosed
	}
	return nil
}

// fail remembers the first error and returns it.
func (s *Store) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.failed == nil {
		s.mu.failed = err
	}
	return s.mu.failed
}

// writer collects the updates of one batch.
type writer struct {
	store   *Store
	batch   *pebble.Batch
	sync    bool
	changes []change
	key     []byte
	value   []byte
}

// change is what the store will know of a replica once the batch is written,
// and which of it the batch has changed.
type change struct {
	r                              replica
	known                          known
	stateSet, lastSet, snapshotSet bool
}

func (s *Store) newWriter(updates []pb.Update) *writer {
	size := 0
	for i := range updates {
		for j := range updates[i].EntriesToSave {
			size += entryLen(&updates[i].EntriesToSave[j]) + entryKeyLen + 16
		}
		size += 64
	}
	return &writer{
		store: s,
		batch: s.db.NewBatchWithSize(min(size, maxBatchHint)),
		key:   make([]byte, 0, entryKeyLen),
	}
}

// add puts one update into the batch: first a snapshot, which replaces the
// log, then the state, then the entries.
func (w *writer) add(u *pb.Update) error {
	r := replica{u.ShardID, u.ReplicaID}
	hasSnapshot := !pb.IsEmptySnapshot(u.Snapshot)
	hasState := !pb.IsEmptyState(u.State)
	if !hasSnapshot && !hasState && len(u.EntriesToSave) == 0 {
		return nil
	}
	if hasSnapshot {
		fresh, err := w.addSnapshot(r, u.Snapshot)
		if err != nil {
			return err
		}
		if fresh {
			if err := w.clearLog(r); err != nil {
				return err
			}
		}
	}
	if hasState {
		if err := w.addState(r, u.State); err != nil {
			return err
		}
	}
	return w.addEntries(r, u.EntriesToSave)
}

// change returns the place for what will be known of a replica. It is valid
// until change is called for another replica.
func (w *writer) change(r replica) *change {
	for i := range w.changes {
		if w.changes[i].r == r {
			return &w.changes[i]
		}
	}
	w.store.mu.Lock()
	k := *w.store.knownLocked(r)
	w.store.mu.Unlock()
	w.changes = append(w.changes, change{r: r, known: k})
	return &w.changes[len(w.changes)-1]
}

func (w *writer) addState(r replica, st pb.State) error {
	c := w.change(r)
	k := &c.known
	if k.state == st {
		return nil
	}
	// A vote or a term that is forgotten lets a replica vote twice. The commit
	// index is found again from the other replicas.
	if k.state.Term != st.Term || k.state.Vote != st.Vote {
		w.sync = true
	}
	k.state, c.stateSet = st, true
	w.key = appendKey(w.key[:0], kindState, r)
	w.value = appendState(w.value[:0], st)
	return w.batch.Set(w.key, w.value, nil)
}

// addSnapshot stores a snapshot record unless a newer one is there.
func (w *writer) addSnapshot(r replica, ss pb.Snapshot) (bool, error) {
	c := w.change(r)
	k := &c.known
	if !k.hasSnap {
		old, err := w.store.GetSnapshot(r.group, r.id)
		if err != nil {
			return false, err
		}
		k.snapshot, k.hasSnap = old.Index, true
	}
	if ss.Index <= k.snapshot {
		return false, nil
	}
	v, err := appendMessage(w.value[:0], &ss)
	if err != nil {
		return false, err
	}
	w.value = v
	w.key = appendKey(w.key[:0], kindSnapshot, r)
	w.sync = true
	k.snapshot, c.snapshotSet = ss.Index, true
	return true, w.batch.Set(w.key, w.value, nil)
}

// clearLog removes all entries, because a snapshot takes their place.
func (w *writer) clearLog(r replica) error {
	c := w.change(r)
	c.known.last, c.known.hasLast, c.lastSet = 0, true, true
	return w.batch.DeleteRange(appendEntryKey(nil, r, 0), appendEntriesEnd(nil, r), nil)
}

// addEntries stores entries and removes those after the last of them.
func (w *writer) addEntries(r replica, entries []pb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	c := w.change(r)
	k := &c.known
	if !k.hasLast {
		last, err := w.store.lastEntry(r)
		if err != nil {
			return err
		}
		k.last, k.hasLast = last, true
	}
	last := entries[len(entries)-1].Index
	if k.last > last {
		from := appendEntryKey(nil, r, last+1)
		if err := w.batch.DeleteRange(from, appendEntriesEnd(nil, r), nil); err != nil {
			return err
		}
	}
	for i := range entries {
		w.key = appendEntryKey(w.key[:0], r, entries[i].Index)
		w.value = appendEntry(w.value[:0], &entries[i])
		if err := w.batch.Set(w.key, w.value, nil); err != nil {
			return err
		}
	}
	k.last, c.lastSet = last, true
	w.sync = true
	return nil
}

// remember makes the batch's changes known. SaveSnapshots runs beside
// SaveRaftState, so only what this batch changed is taken over.
func (w *writer) remember() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	for i := range w.changes {
		c := &w.changes[i]
		k := w.store.knownLocked(c.r)
		if c.stateSet {
			k.state = c.known.state
		}
		if c.lastSet {
			k.last, k.hasLast = c.known.last, true
		}
		if c.snapshotSet {
			k.snapshot, k.hasSnap = max(k.snapshot, c.known.snapshot), true
		}
	}
}
