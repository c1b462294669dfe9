package paxostest

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/rowlockdb/rowlock/paxos"
)

// Disk is what outlives a Machine: the state it has written, and how much of
// that a power cut would leave.
type Disk struct {
	mu       sync.Mutex
	life     int // counts power cuts; machines of earlier lives are ghosts
	current  state
	durable  state
	restores int
	syncs    int
	closes   int
}

// state is the commands applied so far, in order.
type state struct {
	Applied  paxos.Index
	Commands []string
}

func (s state) clone() state { return state{s.Applied, slices.Clone(s.Commands)} }

// Cut cuts the power: everything not synced is gone, and machines that were
// opened before it have no effect any more.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.life++
	d.current = d.durable.clone()
}

// Seed gives the disk a state that no log has: index 0, with commands in it.
func (d *Disk) Seed(commands ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current = state{Commands: commands}
	d.durable = d.current.clone()
}

// Wipe forgets everything, synced or not, as a disk that was exchanged.
func (d *Disk) Wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.life++
	d.current, d.durable = state{}, state{}
}

// Commands returns the commands applied so far.
func (d *Disk) Commands() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.current.Commands)
}

// Applied returns the index of the last of them.
func (d *Disk) Applied() paxos.Index {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current.Applied
}

// Checksum is equal on replicas that have applied the same commands.
func (d *Disk) Checksum() uint64 {
	h := fnv.New64a()
	for _, c := range d.Commands() {
		fmt.Fprintf(h, "%d:%s", len(c), c)
	}
	return h.Sum64()
}

// Restores, Syncs and Closes count calls.
func (d *Disk) Restores() int { return d.count(&d.restores) }
func (d *Disk) Syncs() int    { return d.count(&d.syncs) }
func (d *Disk) Closes() int   { return d.count(&d.closes) }

func (d *Disk) count(n *int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *n
}

// Machine is a state machine on a disk: it keeps every command, and the result
// of each is how many there are with it. It fails when an index comes twice,
// and when calls overlap that must not.
type Machine struct {
	disk *Disk
	life int
	busy sync.Mutex
}

var _ paxos.StateMachine = (*Machine)(nil)

// NewMachine returns a machine on d, in its present life.
func NewMachine(d *Disk) *Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Machine{disk: d, life: d.life}
}

// enter claims the machine; two calls at a time are a bug of the caller's.
func (m *Machine) enter() func() {
	if !m.busy.TryLock() {
		panic("paxostest: overlapping calls of a state machine")
	}
	m.disk.mu.Lock()
	return func() {
		m.disk.mu.Unlock()
		m.busy.Unlock()
	}
}

func (m *Machine) ghost() bool { return m.life != m.disk.life }

// Open implements paxos.StateMachine.
func (m *Machine) Open() (paxos.Index, error) {
	defer m.enter()()
	return m.disk.current.Applied, nil
}

// Apply implements paxos.StateMachine.
func (m *Machine) Apply(entries []paxos.Entry) error {
	defer m.enter()()
	if len(entries) == 0 {
		return fmt.Errorf("paxostest: empty batch")
	}
	s := &m.disk.current
	if m.ghost() {
		c := s.clone()
		s = &c
		s.Applied = 0
	}
	for i := range entries {
		e := &entries[i]
		if e.Index <= s.Applied {
			return fmt.Errorf("paxostest: index %d after %d", e.Index, s.Applied)
		}
		s.Applied = e.Index
		s.Commands = append(s.Commands, string(e.Command))
		e.Result = []byte(strconv.Itoa(len(s.Commands)))
	}
	return nil
}

// Sync implements paxos.StateMachine.
func (m *Machine) Sync() error {
	defer m.enter()()
	if !m.ghost() {
		m.disk.durable = m.disk.current.clone()
		m.disk.syncs++
	}
	return nil
}

// Snapshot implements paxos.StateMachine.
func (m *Machine) Snapshot() (paxos.Snapshot, error) {
	m.disk.mu.Lock() // may run beside Apply's caller, not beside Apply
	defer m.disk.mu.Unlock()
	return &snapshot{state: m.disk.current.clone()}, nil
}

// Restore implements paxos.StateMachine.
func (m *Machine) Restore(r io.Reader, stop <-chan struct{}) error {
	var s state
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	defer m.enter()()
	if !m.ghost() {
		m.disk.current = s
		m.disk.restores++
	}
	return nil
}

// Close implements paxos.StateMachine.
func (m *Machine) Close() error {
	defer m.enter()()
	m.disk.closes++
	return nil
}

type snapshot struct {
	state  state
	closed bool
}

func (s *snapshot) Write(w io.Writer, stop <-chan struct{}) error {
	return json.NewEncoder(w).Encode(s.state)
}

func (s *snapshot) Close() error {
	if s.closed {
		panic("paxostest: snapshot closed twice")
	}
	s.closed = true
	return nil
}
