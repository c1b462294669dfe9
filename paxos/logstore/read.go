package logstore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// ListNodeInfo implements raftio.ILogDB: the replicas with a bootstrap record.
func (s *Store) ListNodeInfo() (infos []raftio.NodeInfo, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{byte(kindBootstrap)},
		UpperBound: []byte{byte(kindBootstrap) + 1},
	})
	if err != nil {
		return nil, fmt.Errorf("logstore: list replicas: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		_, r, _, err := decodeKey(it.Key())
		if err != nil {
			return nil, err
		}
		infos = append(infos, raftio.GetNodeInfo(r.group, r.id))
	}
	return infos, it.Error()
}

// GetBootstrapInfo implements raftio.ILogDB.
func (s *Store) GetBootstrapInfo(group, id uint64) (pb.Bootstrap, error) {
	v, ok, err := s.get(appendKey(nil, kindBootstrap, replica{group, id}))
	if err != nil {
		return pb.Bootstrap{}, err
	}
	if !ok {
		return pb.Bootstrap{}, raftio.ErrNoBootstrapInfo
	}
	var info pb.Bootstrap
	if err := decodeMessage(v, &info); err != nil {
		return pb.Bootstrap{}, err
	}
	return info, nil
}

// GetSnapshot implements raftio.ILogDB; an empty record means there is none.
func (s *Store) GetSnapshot(group, id uint64) (pb.Snapshot, error) {
	v, ok, err := s.get(appendKey(nil, kindSnapshot, replica{group, id}))
	if err != nil || !ok {
		return pb.Snapshot{}, err
	}
	var ss pb.Snapshot
	if err := decodeMessage(v, &ss); err != nil {
		return pb.Snapshot{}, err
	}
	return ss, nil
}

// ReadRaftState implements raftio.ILogDB: the state, and the range of entries
// from index after, where the newest snapshot ends, to the end of the log.
func (s *Store) ReadRaftState(group, id uint64, after uint64) (raftio.RaftState, error) {
	r := replica{group, id}
	v, ok, err := s.get(appendKey(nil, kindState, r))
	if err != nil {
		return raftio.RaftState{}, err
	}
	if !ok {
		return raftio.RaftState{}, raftio.ErrNoSavedLog
	}
	st, err := decodeState(v)
	if err != nil {
		return raftio.RaftState{}, err
	}
	first, last, err := s.bounds(r, after)
	if err != nil {
		return raftio.RaftState{}, err
	}
	s.mu.Lock()
	k := s.knownLocked(r)
	k.state, k.last, k.hasLast = st, last, true
	s.mu.Unlock()
	if last <= after {
		return raftio.RaftState{State: st, FirstIndex: after}, nil
	}
	return raftio.RaftState{State: st, FirstIndex: first, EntryCount: last - first + 1}, nil
}

// bounds returns the index of the first entry at or after from, and that of
// the last entry of the log.
func (s *Store) bounds(r replica, from uint64) (first, last uint64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: appendEntryKey(nil, r, 0),
		UpperBound: appendEntriesEnd(nil, r),
	})
	if err != nil {
		return 0, 0, fmt.Errorf("logstore: read log of group %d: %w", r.group, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() {
		return 0, 0, it.Error()
	}
	if _, _, last, err = decodeKey(it.Key()); err != nil {
		return 0, 0, err
	}
	if !it.SeekGE(appendEntryKey(nil, r, from)) {
		return 0, last, it.Error()
	}
	_, _, first, err = decodeKey(it.Key())
	return first, last, err
}

// lastEntry returns the index of the last entry, 0 if there is none.
func (s *Store) lastEntry(r replica) (uint64, error) {
	_, last, err := s.bounds(r, 0)
	return last, err
}

// IterateEntries implements raftio.ILogDB. It appends the entries of [low,
// high) up to the first gap, and stops after the entry by which size exceeds
// maxSize.
func (s *Store) IterateEntries(entries []pb.Entry, size uint64, group, id uint64,
	low, high, maxSize uint64) (_ []pb.Entry, _ uint64, err error) {
	r := replica{group, id}
	if low >= high {
		return entries, size, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: appendEntryKey(nil, r, low),
		UpperBound: appendEntryKey(nil, r, high),
	})
	if err != nil {
		return nil, 0, fmt.Errorf("logstore: read log of group %d: %w", group, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	next := low
	for it.First(); it.Valid() && size <= maxSize || next == low && it.Valid(); it.Next() {
		_, _, index, err := decodeKey(it.Key())
		if err != nil {
			return nil, 0, err
		}
		if index != next {
			break
		}
		e, err := decodeEntry(index, it.Value())
		if err != nil {
			return nil, 0, err
		}
		size += uint64(e.SizeUpperLimit())
		entries = append(entries, e)
		next++
	}
	return entries, size, it.Error()
}
