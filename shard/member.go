package shard

import (
	"slices"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/ring"
)

// MemberState says what a node of the cluster is meant for.
type MemberState uint8

const (
	// MemberActive nodes take replicas and own shards.
	MemberActive MemberState = iota
	// MemberDraining nodes keep their replicas and own nothing: they are about to
	// be restarted.
	MemberDraining
	// MemberLeaving nodes give their replicas away.
	MemberLeaving
	// MemberRemoved nodes are gone for good; their number is not used again.
	MemberRemoved
)

// String names the state as operators read it.
func (s MemberState) String() string {
	switch s {
	case MemberDraining:
		return "draining"
	case MemberLeaving:
		return "leaving"
	case MemberRemoved:
		return "removed"
	}
	return "active"
}

// Member is a node of the cluster as the registry in the system shard knows it.
type Member struct {
	// ID is the node's number, at least 1 and never used twice.
	ID uint64
	// Host is the stable id of the node's consensus host, the target of its
	// replicas.
	Host string
	// Name and Zone are the operator's.
	Name, Zone string
	// Cluster and SQL are the addresses ("host:port") for other nodes and for
	// clients; empty where there is none.
	Cluster, SQL string
	// Versions is what the release speaks that opened the node last.
	Versions Versions
	State    MemberState
	// Incarnation counts the openings of the node's directory.
	Incarnation uint64
	// Life is a random number that the latest opening chose, 0 for a node that
	// keeps no notes. Only the directory that chose it knows it.
	Life uint64
	// Up says that the node was heard of a moment ago; it is not stored.
	Up bool
}

func appendMember(b []byte, m *Member) []byte {
	b = appendString(appendUint(b, m.ID), m.Host)
	b = appendString(appendString(b, m.Name), m.Zone)
	b = appendString(appendString(b, m.Cluster), m.SQL)
	b = append(appendVersions(b, m.Versions), byte(m.State))
	return appendBool(appendUint(appendUint(b, m.Incarnation), m.Life), m.Up)
}

func (d *decoder) member() Member {
	m := Member{ID: d.uint(), Host: d.string(), Name: d.string(), Zone: d.string(), Cluster: d.string(), SQL: d.string(),
		Versions: d.versions(), State: MemberState(d.byte()), Incarnation: d.uint(), Life: d.uint(), Up: d.bool()}
	if m.State > MemberRemoved {
		d.fail()
	}
	return m
}

// Seat is one replica of a shard: where it is and what it is called there.
type Seat struct {
	Replica paxos.ReplicaID
	Host    string
}

func appendSeats(b []byte, seats []Seat) []byte {
	b = appendUint(b, uint64(len(seats)))
	for _, s := range seats {
		b = appendString(appendUint(b, uint64(s.Replica)), s.Host)
	}
	return b
}

func (d *decoder) seat() Seat { return Seat{Replica: paxos.ReplicaID(d.uint()), Host: d.string()} }

// ShardPlace is where the replicas of a shard are, as its owner last said.
type ShardPlace struct {
	Shard ID
	// Owner is the node that serves the shard, 0 if none is known; Epoch is its
	// owner epoch.
	Owner, Epoch uint64
	// ChangeID orders the memberships of one group.
	ChangeID         uint64
	Voters, Learners []Seat
	// Removed lists the replicas whose data can go.
	Removed []paxos.ReplicaID
	// Applied and Bytes are the owner's; Running the applied index of every
	// replica that its node reports.
	Applied, Bytes uint64
	Running        []RunningReplica
	// Shared says that the shard is carried by the trunk with members, whose membership
	// and applied index these are.
	Shared bool
}

// RunningReplica is a replica that runs on a node.
type RunningReplica struct {
	Node    uint64
	Replica paxos.ReplicaID
	Applied uint64
	// Shared says that it is the trunk's and not one of the shard's own group.
	Shared bool
}

func appendPlace(b []byte, p *ShardPlace) []byte {
	b = appendUint(appendUint(appendUint(b, uint64(p.Shard)), p.Owner), p.Epoch)
	b = appendSeats(appendSeats(appendUint(b, p.ChangeID), p.Voters), p.Learners)
	b = appendUint(b, uint64(len(p.Removed)))
	for _, r := range p.Removed {
		b = appendUint(b, uint64(r))
	}
	b = appendUint(appendUint(b, p.Applied), p.Bytes)
	b = appendUint(b, uint64(len(p.Running)))
	for _, r := range p.Running {
		b = appendUint(appendUint(appendUint(b, r.Node), uint64(r.Replica)), r.Applied)
	}
	return b
}

func (d *decoder) place() ShardPlace {
	return ShardPlace{Shard: ID(d.uint()), Owner: d.uint(), Epoch: d.uint(), ChangeID: d.uint(),
		Voters: list(d, (*decoder).seat), Learners: list(d, (*decoder).seat),
		Removed: list(d, func(d *decoder) paxos.ReplicaID { return paxos.ReplicaID(d.uint()) }),
		Applied: d.uint(), Bytes: d.uint(),
		Running: list(d, func(d *decoder) RunningReplica {
			return RunningReplica{Node: d.uint(), Replica: paxos.ReplicaID(d.uint()), Applied: d.uint()}
		})}
}

// setMembership takes over what a group said.
func (p *ShardPlace) setMembership(m paxos.Membership) {
	p.ChangeID, p.Voters, p.Learners, p.Removed = m.ChangeID, seats(m.Voters), seats(m.Learners), m.Removed
}

func seats(m map[paxos.ReplicaID]string) []Seat {
	var all []Seat
	for r, host := range m {
		all = append(all, Seat{r, host})
	}
	slices.SortFunc(all, func(a, b Seat) int { return int(a.Replica) - int(b.Replica) })
	return all
}

// Move is a replica that is on its way, for the view of moves.
type Move struct {
	Shard    ID
	From, To uint64 // nodes; 0: only added, only removed
	Step     string
	Done     uint64 // log index reached
	Total    uint64
	Bytes    uint64 // of the shard
	Since    int64  // Unix milliseconds
}

func appendMove(b []byte, m *Move) []byte {
	b = appendString(appendUint(appendUint(appendUint(b, uint64(m.Shard)), m.From), m.To), m.Step)
	return appendUint(appendUint(appendUint(appendUint(b, m.Done), m.Total), m.Bytes), uint64(m.Since))
}

func (d *decoder) move() Move {
	return Move{Shard: ID(d.uint()), From: d.uint(), To: d.uint(), Step: d.string(), Done: d.uint(), Total: d.uint(),
		Bytes: d.uint(), Since: int64(d.uint())}
}

// ClusterState is what every node knows of the cluster: a copy, a moment old.
type ClusterState struct {
	Cluster [16]byte
	Ring    []byte // as encoded by package ring
	// Replication is the number of replicas that the operator asked for; 0 leaves
	// it to the number of nodes.
	Replication uint64
	// Version is the cluster's, 0 if it is not known. Preserve says that the operator
	// does not want it raised yet.
	Version  Version
	Preserve bool
	Members  []Member     // by number
	Shards   []ShardPlace // by shard
	Moves    []Move
}

// AppendBinary appends the encoding.
func (m *ClusterState) AppendBinary(b []byte) []byte {
	b = append(append(b, formatVersion), m.Cluster[:]...)
	b = appendUint(appendBytes(b, m.Ring), m.Replication)
	b = appendBool(appendUint(b, uint64(m.Version)), m.Preserve)
	b = appendUint(b, uint64(len(m.Members)))
	for i := range m.Members {
		b = appendMember(b, &m.Members[i])
	}
	b = appendUint(b, uint64(len(m.Shards)))
	for i := range m.Shards {
		b = appendPlace(b, &m.Shards[i])
	}
	b = appendUint(b, uint64(len(m.Moves)))
	for i := range m.Moves {
		b = appendMove(b, &m.Moves[i])
	}
	if m.Version < VersionCompany { // nothing is shared
		return b
	}
	for i := range m.Shards {
		b = appendBool(b, m.Shards[i].Shared)
		for _, r := range m.Shards[i].Running {
			b = appendBool(b, r.Shared)
		}
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *ClusterState) Decode(b []byte) error {
	d := newDecoder(b)
	*m = d.state()
	return d.done()
}

func (d *decoder) state() ClusterState {
	s := ClusterState{Cluster: d.cluster(), Ring: d.bytes(), Replication: d.uint(), Version: VersionFirst}
	if !d.first {
		s.Version, s.Preserve = Version(d.uint()), d.bool()
	}
	s.Members, s.Shards, s.Moves = list(d, (*decoder).member), list(d, (*decoder).place), list(d, (*decoder).move)
	if s.Version < VersionCompany {
		return s
	}
	for i := range s.Shards {
		s.Shards[i].Shared = d.bool()
		for j := range s.Shards[i].Running {
			s.Shards[i].Running[j].Shared = d.bool()
		}
	}
	return s
}

func (d *decoder) cluster() (id [16]byte) {
	for i := range id {
		id[i] = d.byte()
	}
	return id
}

// Member returns a node by its number.
func (m *ClusterState) Member(id uint64) (Member, bool) {
	for _, n := range m.Members {
		if n.ID == id {
			return n, true
		}
	}
	return Member{}, false
}

// byHost returns a node by the id of its host.
func (m *ClusterState) byHost(host string) (Member, bool) {
	for _, n := range m.Members {
		if n.Host == host {
			return n, true
		}
	}
	return Member{}, false
}

// Place returns where a shard is.
func (m *ClusterState) Place(s ID) (ShardPlace, bool) {
	for _, p := range m.Shards {
		if p.Shard == s {
			return p, true
		}
	}
	return ShardPlace{}, false
}

// nodes maps seats to the numbers of their nodes; those of unknown hosts are left out.
func (m *ClusterState) nodes(seats []Seat) []ring.NodeID {
	var ids []ring.NodeID
	for _, s := range seats {
		if n, ok := m.byHost(s.Host); ok {
			ids = append(ids, ring.NodeID(n.ID))
		}
	}
	return ids
}
