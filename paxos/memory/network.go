package memory

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"

	"github.com/rowlockdb/rowlock/paxos"
)

// Network is a set of hosts and the replicated logs of their groups. All its
// methods may be called from any goroutine.
type Network struct {
	seed uint64
	mu   struct {
		sync.Mutex
		rng      *rand.Rand
		hosts    map[string]*host
		sides    map[string]int // of a partition; missing = side 0
		groups   map[paxos.GroupID]*group
		faults   Faults
		forced   map[paxos.GroupID][]Fault
		observer func(Proposal)
		seq      uint64
	}
}

// NewNetwork returns an empty network whose random choices come from seed.
func NewNetwork(seed int64) *Network {
	n := &Network{seed: uint64(seed)}
	n.mu.rng = rand.New(rand.NewPCG(uint64(seed), 0x9e3779b97f4a7c15))
	n.mu.hosts = make(map[string]*host)
	n.mu.sides = make(map[string]int)
	n.mu.groups = make(map[paxos.GroupID]*group)
	n.mu.forced = make(map[paxos.GroupID][]Fault)
	return n
}

// Host returns the running host of that id, or a new one with the same data
// when there is none or the last one was closed or crashed. The id is also the
// node target by which memberships name the host.
func (n *Network) Host(id string) paxos.Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.mu.hosts[id]; h != nil && h.up {
		return h
	}
	h := newHost(n, id)
	n.mu.hosts[id] = h
	return h
}

// Crash stops a host as a power cut would: its replicas stop where they are,
// their state machines are not closed, and proposals made there end with
// paxos.ErrUnknownOutcome. No state machine of the host is in a call when
// Crash returns.
func (n *Network) Crash(id string) {
	n.mu.Lock()
	h := n.mu.hosts[id]
	n.mu.Unlock()
	if h != nil {
		h.shutdown(true)
	}
}

// Cut is a Crash with something that happens at the same moment, as all of a machine loses
// its power at once: nothing that the host's replicas were told or have promised after it
// counts. moment must not use the network. The crash is over when wait returns.
func (n *Network) Cut(id string, moment func()) (wait func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	moment()
	h := n.mu.hosts[id]
	if h == nil {
		return func() {}
	}
	rs := h.departLocked()
	for _, r := range rs {
		r.leaveLocked()
	}
	return func() { _ = h.end(rs, true) } // it closes nothing
}

// Partition splits the network: hosts in different sides cannot talk to each
// other. Hosts that are not named form one more side. Each call replaces the
// partition before it.
func (n *Network) Partition(sides ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.sides = make(map[string]int)
	for i, side := range sides {
		for _, id := range side {
			n.mu.sides[id] = i + 1
		}
	}
	n.settleLocked()
}

// Heal ends the partition. Of the proposals that were stuck in it some are
// committed now and the others are lost, as the seed decides.
func (n *Network) Heal() { n.Partition() }

// Elect makes a replica the leader of a group, in a new term. It fails when
// the replica is not running or cannot lead: a majority must be in reach.
func (n *Network) Elect(g paxos.GroupID, r paxos.ReplicaID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	gr := n.mu.groups[g]
	if gr == nil {
		return fmt.Errorf("memory: elect: no group %d", g)
	}
	if !gr.canLeadLocked(r) {
		return fmt.Errorf("memory: elect: replica %d of group %d cannot lead", r, g)
	}
	gr.leadLocked(r)
	return nil
}

// Depose leaves a group without a leader until Elect, a transfer or a change
// of who is running or in reach.
func (n *Network) Depose(g paxos.GroupID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if gr := n.mu.groups[g]; gr != nil {
		gr.leader = 0
		gr.believeLocked()
	}
}

// Hold stops a replica from applying entries until Release.
func (n *Network) Hold(g paxos.GroupID, r paxos.ReplicaID) { n.setHold(g, r, true) }

// Release lets a held replica apply again.
func (n *Network) Release(g paxos.GroupID, r paxos.ReplicaID) { n.setHold(g, r, false) }

func (n *Network) setHold(g paxos.GroupID, r paxos.ReplicaID, held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	gr := n.mu.groups[g]
	if gr == nil {
		return
	}
	gr.held[r] = held
	if rep := gr.running[r]; rep != nil {
		rep.wake.Broadcast()
	}
}

// Compact drops the log of a group up to what its most advanced running
// replica has applied, after that replica has synced and written a snapshot.
// Replicas that are behind will be restored from the snapshot.
func (n *Network) Compact(g paxos.GroupID) error {
	n.mu.Lock()
	gr := n.mu.groups[g]
	var donor *replica
	if gr != nil {
		donor = gr.mostAdvancedLocked()
	}
	n.mu.Unlock()
	if donor == nil {
		return fmt.Errorf("memory: compact: no running replica of group %d", g)
	}
	snap, err := donor.takeSnapshot()
	if err != nil {
		return fmt.Errorf("memory: compact group %d: %w", g, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if donor.stopping { // what it lost since it must not count on
		return fmt.Errorf("memory: compact group %d: replica %d: %w", g, donor.id, paxos.ErrClosed)
	}
	gr.compactLocked(donor.id, snap)
	return nil
}

// SetFaults sets the probabilities of faults for every later proposal.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.faults = f
}

// Force makes the next proposals of a group meet these faults, in order,
// before SetFaults counts again.
func (n *Network) Force(g paxos.GroupID, faults ...Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.forced[g] = append(n.mu.forced[g], faults...)
}

// Flush commits the proposals of a group that FaultUnknownLate has kept back.
func (n *Network) Flush(g paxos.GroupID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if gr := n.mu.groups[g]; gr != nil {
		gr.flushLocked()
	}
}

// Proposals returns how many proposals were made to a group so far, refused
// ones included.
func (n *Network) Proposals(g paxos.GroupID) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if gr := n.mu.groups[g]; gr != nil {
		return gr.proposals
	}
	return 0
}

// Committed returns the index of the last committed entry of a group.
func (n *Network) Committed(g paxos.GroupID) paxos.Index {
	n.mu.Lock()
	defer n.mu.Unlock()
	if gr := n.mu.groups[g]; gr != nil {
		return gr.last()
	}
	return 0
}

// Failed returns the error by which the state machine of a replica stopped it,
// or nil.
func (n *Network) Failed(g paxos.GroupID, r paxos.ReplicaID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if gr := n.mu.groups[g]; gr != nil {
		return gr.failed[r]
	}
	return nil
}

// Observe makes the network call f when a proposal starts and when it
// finishes, from the goroutine that proposes. A nil f ends it.
func (n *Network) Observe(f func(Proposal)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.observer = f
}

// settleLocked brings every group in line with who is up and in reach:
// replicas catch up with their leaders, and leaders are elected.
func (n *Network) settleLocked() {
	ids := make([]paxos.GroupID, 0, len(n.mu.groups))
	for id := range n.mu.groups {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	for _, id := range ids {
		n.mu.groups[id].settleLocked()
	}
}

// faultLocked draws the fault of the next proposal of a group.
func (n *Network) faultLocked(g paxos.GroupID) Fault {
	if q := n.mu.forced[g]; len(q) > 0 {
		n.mu.forced[g] = q[1:]
		return q[0]
	}
	if n.mu.faults == (Faults{}) {
		return FaultNone
	}
	return n.mu.faults.pick(n.mu.rng.Float64())
}

// talkLocked tells whether two hosts can exchange messages.
func (n *Network) talkLocked(a, b string) bool { return n.mu.sides[a] == n.mu.sides[b] }
