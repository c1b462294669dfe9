package shard

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// The names of a shard's meta records.
const (
	metaOwner  = "owner"   // owner
	metaFence  = "fence"   // timestamp
	metaSchema = "schema/" // + table, 16 hexadecimal digits: its least schema version
	metaWindow = "window"  // top of the oracle's window (system shard)
	metaRecord = "record/" // + name: PutRecord
	metaClosed = "closed"  // timestamp
)

// ownership is the owner register of a shard. Epoch 0 means that nobody has
// owned the shard yet.
type ownership struct {
	Epoch, Node, Process uint64
	Sole                 bool
	// Owed is how long this epoch's owner waits before it serves, because of the
	// leases of owners before it; Lease is how long the next one has to wait because
	// of this one's (H1).
	Owed, Lease time.Duration
}

// The flags of an owner register.
const (
	ownerSole   = 1 << 0
	ownerLeases = 1 << 1 // what is to be waited for follows
)

// AppendBinary appends the register's encoding.
func (o *ownership) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), o.Epoch)
	flags := byte(0)
	if o.Sole {
		flags |= ownerSole
	}
	if o.Owed != 0 || o.Lease != 0 {
		flags |= ownerLeases
	}
	b = append(appendUint(appendUint(b, o.Node), o.Process), flags)
	if flags&ownerLeases != 0 {
		b = appendUint(appendUint(b, uint64(o.Owed)), uint64(o.Lease))
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (o *ownership) Decode(b []byte) error {
	d := newDecoder(b)
	*o = ownership{Epoch: d.uint(), Node: d.uint(), Process: d.uint()}
	flags := d.byte()
	if flags&^(ownerSole|ownerLeases) != 0 {
		d.unknown()
	}
	o.Sole = flags&ownerSole != 0
	if flags&ownerLeases != 0 {
		if o.Owed, o.Lease = d.duration(), d.duration(); o.Owed == 0 && o.Lease == 0 {
			d.fail()
		}
	}
	return d.done()
}

// Machine is the replicated state machine of one shard: it applies committed
// commands to a storage space. What it does depends on the commands and their
// order alone; it knows no clock, no lock table and no owner but the epoch
// register. It satisfies paxos.StateMachine.
//
// The registers that every command is checked against (epoch, fence, schema
// minimums, votes still PREPARED) are kept in memory beside the stored ones, so
// that the common command reads nothing from disk.
type Machine struct {
	space   *storage.Space
	sync    func() error
	replica uint64
	trunk   *Trunk // that carries it; nil: it has a log of its own

	// Published for readers on other goroutines. They are set while a command
	// is applied, hence before its batch is visible: a reader that opens a
	// snapshot first and loads the fence afterwards never misses a fence whose
	// consequences it can see.
	owner  atomic.Pointer[ownership]
	fence  atomic.Uint64
	window atomic.Uint64
	// lastCommit is the largest commit timestamp that was applied since Open, or that a
	// vote told of which was there or restored.
	lastCommit atomic.Uint64
	flushed    atomic.Pointer[flushHeader]
	large      atomic.Bool // there has been a staged chunk since Open

	// closed is published after its batch is visible, unlike the others: it is a
	// promise about what a reader will find.
	closed atomic.Uint64

	mu struct {
		sync.Mutex
		prepared map[storage.TxnID]*preparedVote
		staged   map[storage.TxnID]*stagedTxn // changed by the goroutine that applies
	}

	advisories advisoryState // system shard

	// The rest belongs to the goroutine that applies.
	schemas map[uint64]uint64
	locks   map[storage.TxnID][]storedLocks
	recent  recentVotes
	batch   *storage.Batch
	closing uint64                         // the closed timestamp as of batch
	pending map[storage.TxnID]storage.Vote // votes of batch; VoteNone: deleted
	last    paxos.Index                    // last entry of batch
	result  []byte                         // arena of the results of one Apply
	failed  error                          // of an Apply: there is no further one
}

// preparedVote is a PREPARED vote and, if they are small, its writes.
type preparedVote struct {
	vote   storage.Vote
	writes []Write // nil: read the intents
}

// cachedWrites is the size up to which the writes of a PREPARED vote are kept
// in memory until it is resolved.
const cachedWrites = 64 << 10

// NewMachine returns the state machine over a space. sync makes everything
// committed to the space durable; replica is stored with the applied index.
func NewMachine(space *storage.Space, sync func() error, replica uint64) *Machine {
	m := &Machine{space: space, sync: sync, replica: replica}
	m.owner.Store(&ownership{})
	return m
}

// Open loads the registers and returns the applied index.
func (m *Machine) Open() (paxos.Index, error) {
	return m.load()
}

func (m *Machine) load() (paxos.Index, error) {
	snap := m.space.Snapshot()
	defer snap.Close()
	m.pending = make(map[storage.TxnID]storage.Vote)
	m.recent = newRecentVotes()
	publish, err := m.loadRegisters(snap)
	if err != nil {
		return 0, fmt.Errorf("load registers of space %d: %w", m.space.ID(), err)
	}
	prepared := make(map[storage.TxnID]*preparedVote)
	err = snap.Votes(func(id storage.TxnID, v storage.Vote) error {
		m.recent.raise(id)
		switch v.State {
		case storage.VotePrepared:
			prepared[id] = &preparedVote{vote: v}
		case storage.VoteCommitted:
			if !mutated("0094.restored-unmet") {
				m.committed(v.Commit)
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("load votes of space %d: %w", m.space.ID(), err)
	}
	staged, err := loadStaged(snap)
	if err != nil {
		return 0, fmt.Errorf("load staged chunks of space %d: %w", m.space.ID(), err)
	}
	m.mu.Lock()
	m.mu.prepared, m.mu.staged = prepared, staged
	m.mu.Unlock()
	m.large.Store(len(staged) > 0)
	publish() // not before: reads trust fence and closed timestamp with everything else
	applied, _, err := snap.Applied()
	if err != nil {
		return 0, fmt.Errorf("load applied record of space %d: %w", m.space.ID(), err)
	}
	m.last = paxos.Index(applied.Index)
	return m.last, nil
}

// loadRegisters reads the registers; publish shows readers those that they look at.
func (m *Machine) loadRegisters(snap *storage.Snapshot) (publish func(), err error) {
	var o ownership
	if b, ok, err := snap.Meta(metaOwner); err != nil {
		return nil, err
	} else if ok {
		if err = o.Decode(b); err != nil {
			return nil, fmt.Errorf("owner: %w", err)
		}
	}
	fence, err := metaTime(snap, metaFence)
	if err != nil {
		return nil, err
	}
	window, err := metaTime(snap, metaWindow)
	if err != nil {
		return nil, err
	}
	closed, err := metaTime(snap, metaClosed)
	if err != nil {
		return nil, err
	}
	m.schemas = make(map[uint64]uint64)
	err = eachNumber(snap, metaSchema, func(name string, version uint64) error {
		table, err := strconv.ParseUint(name, 16, 64)
		m.schemas[table] = version
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("schemas: %w", err)
	}
	if err := m.advisories.load(snap); err != nil {
		return nil, fmt.Errorf("advisory locks: %w", err)
	}
	if err := m.loadLocks(snap); err != nil {
		return nil, err
	}
	m.closing = uint64(closed)
	return func() {
		m.owner.Store(&o)
		m.fence.Store(uint64(fence))
		m.window.Store(uint64(window))
		m.closed.Store(uint64(closed))
	}, nil
}

func metaTime(snap *storage.Snapshot, name string) (storage.Timestamp, error) {
	b, ok, err := snap.Meta(name)
	if err != nil || !ok {
		return 0, err
	}
	d := newDecoder(b)
	t := d.time()
	if err := d.done(); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func encodeTime(t storage.Timestamp) []byte {
	return appendUint([]byte{formatVersion}, uint64(t))
}

// Sync makes everything applied durable.
func (m *Machine) Sync() error { return m.sync() }

// Close does nothing: the space belongs to the engine.
func (m *Machine) Close() error { return nil }

// Snapshot returns a point in time of the whole space.
func (m *Machine) Snapshot() (paxos.Snapshot, error) {
	return machineSnapshot{m.space.StreamSnapshot()}, nil
}

type machineSnapshot struct{ stream *storage.Stream }

func (s machineSnapshot) Write(w io.Writer, stop <-chan struct{}) error {
	return s.stream.WriteTo(w, stop)
}

func (s machineSnapshot) Close() error { return s.stream.Close() }

// Restore replaces the space. While it does, the published fence refuses every
// read: none may see half of each state.
func (m *Machine) Restore(r io.Reader, stop <-chan struct{}) error {
	before := m.fence.Swap(uint64(storage.MaxTimestamp))
	if err := m.space.Restore(r); err != nil {
		m.fence.Store(before)
		return err
	}
	_, err := m.load()
	return err
}

// Owner returns the owner register.
func (m *Machine) Owner() (epoch, node, process uint64, sole bool) {
	o := m.owner.Load()
	return o.Epoch, o.Node, o.Process, o.Sole
}

// Leases returns what the owner of an epoch waits for, and what the next one has to
// because of it. Both are 0 if the epoch is another by now.
func (m *Machine) Leases(epoch uint64) (owed, own time.Duration) {
	o := m.owner.Load()
	if o.Epoch != epoch {
		return 0, 0
	}
	return o.Owed, o.Lease
}

// Fence returns the timestamp below which nothing may be read or newly voted.
func (m *Machine) Fence() storage.Timestamp { return storage.Timestamp(m.fence.Load()) }

// Window returns the top of the oracle's window.
func (m *Machine) Window() storage.Timestamp { return storage.Timestamp(m.window.Load()) }

// Closed returns a closed timestamp of the shard: every snapshot that is opened
// afterwards has what there is to know of reads at or below it, until the replica
// is removed. 0: none.
func (m *Machine) Closed() storage.Timestamp { return storage.Timestamp(m.closed.Load()) }

// Prepared calls fn for every vote that is PREPARED, in no order.
func (m *Machine) Prepared(fn func(storage.TxnID, storage.Vote)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.mu.prepared {
		fn(id, p.vote)
	}
}

// Record returns a record that PutRecord stored, as of what is applied now.
func (m *Machine) Record(name string) ([]byte, bool, error) {
	snap := m.space.Snapshot()
	defer snap.Close()
	b, ok, err := snap.Meta(metaRecord + name)
	return append([]byte(nil), b...), ok, err
}

// errStop ends an iteration early.
var errStop = errors.New("stop")
