package memory

import (
	"maps"
	"slices"

	"github.com/rowlockdb/rowlock/paxos"
)

// entry is one committed entry of a log. Elections and membership changes take
// entries without a command; state machines do not see them.
type entry struct {
	command []byte
	hidden  bool
	origin  *proposal // waits for this entry, nil if nobody does
}

// snapshot is the state of a group after index, as Snapshot.Write wrote it.
type snapshot struct {
	index paxos.Index
	data  []byte
}

// group is the log of one group and what the network knows of its replicas.
// All of it is guarded by Network.mu.
type group struct {
	net *Network
	id  paxos.GroupID

	founders map[paxos.ReplicaID]string
	members  paxos.Membership // as committed

	leader paxos.ReplicaID // 0 = none
	term   uint64

	first   paxos.Index // index of entries[0]
	entries []entry
	base    *snapshot // what was dropped, nil if nothing was

	running map[paxos.ReplicaID]*replica
	matched map[paxos.ReplicaID]paxos.Index // what the replica's log holds
	floor   map[paxos.ReplicaID]paxos.Index // what its state machine promised to keep
	held    map[paxos.ReplicaID]bool
	failed  map[paxos.ReplicaID]error
	purged  map[paxos.ReplicaID]bool
	started map[paxos.ReplicaID]string // the hosts that have a log of it

	late      []*proposal // kept back by FaultUnknownLate
	stuck     []*proposal // made where the leader is out of reach
	proposals uint64
}

func newGroup(n *Network, id paxos.GroupID, founders map[paxos.ReplicaID]string) *group {
	return &group{
		net:      n,
		id:       id,
		founders: maps.Clone(founders),
		members:  paxos.Membership{Voters: maps.Clone(founders), Learners: map[paxos.ReplicaID]string{}},
		first:    1,
		running:  make(map[paxos.ReplicaID]*replica),
		matched:  make(map[paxos.ReplicaID]paxos.Index),
		floor:    make(map[paxos.ReplicaID]paxos.Index),
		held:     make(map[paxos.ReplicaID]bool),
		failed:   make(map[paxos.ReplicaID]error),
		purged:   make(map[paxos.ReplicaID]bool),
		started:  make(map[paxos.ReplicaID]string),
	}
}

// last returns the index of the newest entry; everything in the log is
// committed.
func (g *group) last() paxos.Index { return g.first + paxos.Index(len(g.entries)) - 1 }

func (g *group) hostOf(r paxos.ReplicaID) string {
	if h, ok := g.members.Voters[r]; ok {
		return h
	}
	return g.members.Learners[r]
}

// reachLocked tells whether two running replicas can exchange messages.
func (g *group) reachLocked(a, b paxos.ReplicaID) bool {
	ra, rb := g.running[a], g.running[b]
	return ra != nil && rb != nil && g.net.talkLocked(ra.host.id, rb.host.id)
}

// quorumLocked tells whether r can talk to a majority of the voters.
func (g *group) quorumLocked(r paxos.ReplicaID) bool {
	n := 0
	for v := range g.members.Voters {
		if g.reachLocked(r, v) {
			n++
		}
	}
	return n > len(g.members.Voters)/2
}

// canLeadLocked tells whether r may become leader: a voter that holds
// everything committed and can talk to a majority.
func (g *group) canLeadLocked(r paxos.ReplicaID) bool {
	_, voter := g.members.Voters[r]
	return voter && g.matched[r] == g.last() && g.quorumLocked(r)
}

// leadLocked starts a term of r, with an entry of its own.
func (g *group) leadLocked(r paxos.ReplicaID) {
	g.leader = r
	g.term++
	g.appendLocked(entry{hidden: true})
	g.believeLocked()
}

// believeLocked tells every replica in reach of the leader about it. The
// others keep the belief they had; without a leader everybody gives it up.
func (g *group) believeLocked() {
	for _, id := range slices.Sorted(maps.Keys(g.running)) {
		r := g.running[id]
		if g.leader != 0 && !g.reachLocked(g.leader, id) {
			continue
		}
		if r.leader == g.leader && r.term == g.term {
			continue
		}
		r.leader, r.term = g.leader, g.term
		r.host.notifyLocked(paxos.Event{Kind: paxos.LeaderChanged, Group: g.id, Leader: g.leader, Term: g.term})
	}
}

// settleLocked elects a leader if the present one cannot lead, brings the
// replicas in its reach up to date and decides about stuck proposals.
func (g *group) settleLocked() {
	if g.leader == 0 || !g.canLeadLocked(g.leader) {
		g.leader = 0
		for _, id := range slices.Sorted(maps.Keys(g.members.Voters)) {
			if g.canLeadLocked(id) {
				g.leadLocked(id)
				break
			}
		}
	}
	if g.leader == 0 {
		return
	}
	g.believeLocked()
	g.replicateLocked()
	g.unstickLocked()
}

// replicateLocked copies the log to every replica in reach of the leader.
func (g *group) replicateLocked() {
	for id, r := range g.running {
		if g.reachLocked(g.leader, id) && g.hostOf(id) != "" {
			g.matched[id] = g.last()
			r.wake.Broadcast()
		}
	}
}

// appendLocked commits an entry.
func (g *group) appendLocked(e entry) paxos.Index {
	g.entries = append(g.entries, e)
	g.replicateLocked()
	return g.last()
}

// flushLocked commits what FaultUnknownLate kept back. Without a leader it is
// lost, which is an outcome too.
func (g *group) flushLocked() {
	late := g.late
	g.late = nil
	if g.leader == 0 {
		return
	}
	for _, p := range late {
		g.appendLocked(entry{command: p.command})
	}
}

// unstickLocked decides, proposal by proposal, whether one that was made out
// of the leader's reach still gets into the log.
func (g *group) unstickLocked() {
	var rest []*proposal
	for _, p := range g.stuck {
		switch {
		case !g.reachLocked(g.leader, p.replica.id):
			rest = append(rest, p)
		case g.net.mu.rng.IntN(2) == 0:
			g.appendLocked(entry{command: p.command, origin: p})
		}
	}
	g.stuck = rest
}

// mostAdvancedLocked returns the running replica that has applied most.
func (g *group) mostAdvancedLocked() *replica {
	var best *replica
	for _, id := range slices.Sorted(maps.Keys(g.running)) {
		if r := g.running[id]; best == nil || r.applied > best.applied {
			best = r
		}
	}
	return best
}

// compactLocked replaces the log up to the snapshot's index by the snapshot.
func (g *group) compactLocked(donor paxos.ReplicaID, s snapshot) {
	if s.index < g.first {
		return
	}
	g.entries = slices.Clone(g.entries[s.index-g.first+1:])
	g.first = s.index + 1
	g.base = &s
	g.floor[donor] = max(g.floor[donor], s.index)
}

// membershipLocked returns a copy of the membership.
func (g *group) membershipLocked() paxos.Membership {
	m := g.members
	m.Voters, m.Learners, m.Removed = maps.Clone(m.Voters), maps.Clone(m.Learners), slices.Clone(m.Removed)
	return m
}
