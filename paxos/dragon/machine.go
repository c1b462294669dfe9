package dragon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/rowlockdb/rowlock/paxos"
)

// machine is a state machine as Dragonboat calls it. Update is never called
// beside itself.
type machine struct {
	group   paxos.GroupID
	sm      paxos.StateMachine
	opened  paxos.Index // what sm.Open returned
	applied atomic.Uint64
	written atomic.Int64 // bytes applied since the log was last cut
	logMax  int64
	full    func()        // the log has grown by logMax
	restore func()        // the state was replaced by a snapshot
	batch   []paxos.Entry // Update's, kept for its capacity
	log     *slog.Logger
	failure *failure
	once    sync.Once
	closed  chan struct{} // Close was called
	err     error         // what Close returned; read after closed
}

var _ statemachine.IOnDiskStateMachine = (*machine)(nil)

// Open returns what the state machine said when the host opened it.
func (m *machine) Open(<-chan struct{}) (uint64, error) { return uint64(m.opened), nil }

// Update applies a batch.
func (m *machine) Update(entries []statemachine.Entry) ([]statemachine.Entry, error) {
	m.batch = m.batch[:0]
	size := int64(0)
	for i := range entries {
		m.batch = append(m.batch, paxos.Entry{Index: paxos.Index(entries[i].Index), Command: entries[i].Cmd})
		size += int64(len(entries[i].Cmd))
	}
	if err := m.sm.Apply(m.batch); err != nil {
		m.log.Error("state machine cannot apply", "group", m.group, "error", err)
		m.failure.stop(fmt.Errorf("apply to group %d: %w", m.group, err))
	}
	for i := range entries {
		if m.batch[i].Result == nil {
			panic(fmt.Sprintf("dragon: state machine of group %d set no result at index %d", m.group, entries[i].Index))
		}
		entries[i].Result.Data = m.batch[i].Result
	}
	m.applied.Store(entries[len(entries)-1].Index)
	clear(m.batch) // commands and results are not ours to keep
	if m.written.Add(size) > m.logMax {
		m.written.Store(0)
		m.full()
	}
	return entries, nil
}

// Lookup is not used: readers go to the state machine itself.
func (m *machine) Lookup(any) (any, error) { return nil, errors.New("dragon: no lookup") }

// Sync makes everything applied durable. Dragonboat calls it before it drops
// a part of the log.
func (m *machine) Sync() error {
	if err := m.sm.Sync(); err != nil {
		m.log.Error("state machine cannot sync", "group", m.group, "error", err)
		m.failure.stop(fmt.Errorf("sync group %d: %w", m.group, err))
	}
	return nil
}

// PrepareSnapshot takes the point in time that SaveSnapshot will stream.
func (m *machine) PrepareSnapshot() (any, error) {
	s, err := m.sm.Snapshot()
	if err != nil {
		m.log.Error("no snapshot can be taken", "group", m.group, "error", err)
		m.failure.stop(fmt.Errorf("take a snapshot of group %d: %w", m.group, err))
	}
	return s, nil
}

// SaveSnapshot streams to a replica that lags. A receiver that goes away is no
// fault of the state machine's, nor is a state that is gone by its own word; anything
// else that fails is.
func (m *machine) SaveSnapshot(ctx any, w io.Writer, stop <-chan struct{}) error {
	s := ctx.(paxos.Snapshot)
	tw := &trackedWriter{w: w}
	err := s.Write(tw, stop)
	cerr := s.Close()
	switch {
	case err == nil:
		return cerr
	case tw.err != nil:
		return tw.err
	case isClosed(stop):
		return statemachine.ErrSnapshotStopped
	case errors.Is(err, paxos.ErrSnapshotGone):
		m.log.Info("snapshot not sent to its end", "group", m.group, "error", err)
		return statemachine.ErrSnapshotAborted
	}
	m.log.Error("snapshot cannot be read", "group", m.group, "error", err)
	m.failure.stop(fmt.Errorf("write snapshot of group %d: %w", m.group, err))
	return err
}

// RecoverFromSnapshot replaces the state.
func (m *machine) RecoverFromSnapshot(r io.Reader, stop <-chan struct{}) error {
	if err := m.sm.Restore(r, stop); err != nil {
		if isClosed(stop) {
			return statemachine.ErrSnapshotStopped
		}
		m.log.Error("snapshot cannot be restored", "group", m.group, "error", err)
		m.failure.stop(fmt.Errorf("restore group %d: %w", m.group, err))
	}
	m.restore()
	return nil
}

// reached says that the state has come to an index otherwise than by Update, which is not
// under way.
func (m *machine) reached(index uint64) {
	m.applied.Store(max(m.applied.Load(), index))
}

// Close closes the state machine, once.
func (m *machine) Close() error {
	m.once.Do(func() {
		m.err = m.sm.Close()
		close(m.closed)
	})
	return nil // the host returns it from Stop; here it would end the process
}

// trackedWriter remembers the first error of w, in the exact form that
// Dragonboat compares with.
type trackedWriter struct {
	w   io.Writer
	err error
}

func (t *trackedWriter) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if err != nil && t.err == nil {
		t.err = err
	}
	return n, err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
