package shard

import "github.com/rowlockdb/rowlock/paxos"

// RegisterRequest makes a node a member, or says that a member was opened again.
// The owner of the system shard answers it.
type RegisterRequest struct {
	// Member is what the node says of itself. ID 0 asks for a new number; a host
	// that is a member already gets the number it has.
	Member Member
	// Process is random for each life of a process.
	Process uint64
	// Lives are the numbers one of which the registry should have: what this
	// directory chose when it was opened before.
	Lives []uint64
	// Cluster is zero for a node that joins.
	Cluster [16]byte
	// Millis is the node's clock, Unix time.
	Millis uint64
}

// RegisterResponse tells a node who it is.
type RegisterResponse struct {
	ID, Incarnation uint64
	State           ClusterState
}

// HeartbeatRequest says that a node lives and what its replicas are doing.
type HeartbeatRequest struct {
	Node, Process uint64
	Replicas      []ReplicaReport
}

// ReplicaReport is one replica of a HeartbeatRequest.
type ReplicaReport struct {
	Shard   ID
	Replica paxos.ReplicaID
	Applied uint64
	Bytes   uint64
	// Shared says that the shard is carried by the trunk with members: replica, applied
	// index and membership are the trunk's (VersionCompany).
	Shared bool
	// Epoch and the membership are set by the owner only.
	Serving          bool
	Epoch            uint64
	ChangeID         uint64
	Voters, Learners []Seat
	Removed          []paxos.ReplicaID
}

// SettingRequest changes what is stored about the cluster or one of its nodes.
type SettingRequest struct {
	// Node, if not 0, gets State.
	Node  uint64
	State MemberState
	// SetReplication makes Replication the wanted number of replicas.
	SetReplication bool
	Replication    uint64
	// SetPreserve makes Preserve say whether the cluster's version stays as it is.
	SetPreserve bool
	Preserve    bool
}

// SeatChange is a step of a move.
type SeatChange uint8

// The changes that SeatRequest can ask for.
const (
	SeatLearner SeatChange = iota + 1 // add a learner on Host
	SeatVoter                         // make the learner Replica on Host a voter
	SeatRemove                        // remove Replica
	SeatOwner                         // hand the shard over to Node
	SeatPart                          // part the shards of the trunk
)

// seatShared marks the byte of a change of the trunk.
const seatShared = 1 << 7

// SeatRequest asks a shard's owner to change the replicas of its group.
type SeatRequest struct {
	Change  SeatChange
	Replica paxos.ReplicaID
	Host    string
	Node    uint64
	// ChangeID names the membership that the change was computed from. In any other
	// it is refused, unless it is done already.
	ChangeID uint64
	// Shared says that the change is one of the trunk with members, of which the shard is
	// the lowest, and not of a group of the shard's own; ChangeID is a number of that log.
	Shared bool
}

// StartRequest asks a node to start a replica that was added to a group.
type StartRequest struct {
	Shard   ID
	Replica paxos.ReplicaID
	// Shared says that it is the replica of the trunk with members, of which the shard is
	// the lowest.
	Shared bool
}

// ServiceRequest carries a message between the upper layers of two nodes.
type ServiceRequest struct {
	Service byte
	From    uint64
	Body    []byte
}

// ServiceResponse is its answer.
type ServiceResponse struct{ Body []byte }

// PingRequest is answered by the owner of a shard.
type PingRequest struct{}

// StateRequest asks a node for what it knows of the cluster.
type StateRequest struct{}

// AppendBinary appends the encoding.
func (m *RegisterRequest) AppendBinary(b []byte) []byte {
	b = appendUint(appendMember(append(b, formatVersion), &m.Member), m.Process)
	b = appendUint(b, uint64(len(m.Lives)))
	for _, life := range m.Lives {
		b = appendUint(b, life)
	}
	return appendUint(append(b, m.Cluster[:]...), m.Millis)
}

// Decode reads what AppendBinary wrote.
func (m *RegisterRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = RegisterRequest{Member: d.member(), Process: d.uint(), Lives: list(&d, (*decoder).uint), Cluster: d.cluster(), Millis: d.uint()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *RegisterResponse) AppendBinary(b []byte) []byte {
	b = appendUint(appendUint(append(b, formatVersion), m.ID), m.Incarnation)
	return m.State.AppendBinary(b)
}

// Decode reads what AppendBinary wrote.
func (m *RegisterResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = RegisterResponse{ID: d.uint(), Incarnation: d.uint()}
	if d.byte() != formatVersion {
		d.fail()
	}
	m.State = d.state()
	return d.done()
}

// AppendBinary appends the encoding.
func (m *HeartbeatRequest) AppendBinary(b []byte) []byte {
	b = appendUint(appendUint(append(b, formatVersion), m.Node), m.Process)
	b = appendUint(b, uint64(len(m.Replicas)))
	for i := range m.Replicas {
		r := &m.Replicas[i]
		b = appendUint(appendUint(appendUint(appendUint(b, uint64(r.Shard)), uint64(r.Replica)), r.Applied), r.Bytes)
		b = append(b, reportFlags(r))
		if !r.Serving {
			continue
		}
		b = appendSeats(appendSeats(appendUint(appendUint(b, r.Epoch), r.ChangeID), r.Voters), r.Learners)
		b = appendUint(b, uint64(len(r.Removed)))
		for _, id := range r.Removed {
			b = appendUint(b, uint64(id))
		}
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *HeartbeatRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = HeartbeatRequest{Node: d.uint(), Process: d.uint(), Replicas: list(&d, (*decoder).report)}
	return d.done()
}

// The flags of a report.
const (
	reportServing = 1 << iota
	reportShared
)

func reportFlags(r *ReplicaReport) (flags byte) {
	if r.Serving {
		flags |= reportServing
	}
	if r.Shared {
		flags |= reportShared
	}
	return flags
}

func (d *decoder) report() ReplicaReport {
	r := ReplicaReport{Shard: ID(d.uint()), Replica: paxos.ReplicaID(d.uint()), Applied: d.uint(), Bytes: d.uint()}
	flags := d.byte()
	if flags > reportServing|reportShared {
		d.fail()
	}
	r.Serving, r.Shared = flags&reportServing != 0, flags&reportShared != 0
	if r.Serving {
		r.Epoch, r.ChangeID = d.uint(), d.uint()
		r.Voters, r.Learners = list(d, (*decoder).seat), list(d, (*decoder).seat)
		r.Removed = list(d, func(d *decoder) paxos.ReplicaID { return paxos.ReplicaID(d.uint()) })
	}
	return r
}

// AppendBinary appends the encoding.
func (m *SettingRequest) AppendBinary(b []byte) []byte {
	b = append(appendUint(append(b, formatVersion), m.Node), byte(m.State))
	b = appendUint(appendBool(b, m.SetReplication), m.Replication)
	return appendBool(appendBool(b, m.SetPreserve), m.Preserve)
}

// Decode reads what AppendBinary wrote.
func (m *SettingRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = SettingRequest{Node: d.uint(), State: MemberState(d.byte()), SetReplication: d.bool(), Replication: d.uint(),
		SetPreserve: d.bool(), Preserve: d.bool()}
	if m.State > MemberRemoved {
		d.fail()
	}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *SeatRequest) AppendBinary(b []byte) []byte {
	change := byte(m.Change)
	if m.Shared {
		change |= seatShared
	}
	b = appendUint(append(b, formatVersion, change), uint64(m.Replica))
	return appendUint(appendUint(appendString(b, m.Host), m.Node), m.ChangeID)
}

// Decode reads what AppendBinary wrote.
func (m *SeatRequest) Decode(b []byte) error {
	d := newDecoder(b)
	change := d.byte()
	*m = SeatRequest{Change: SeatChange(change &^ seatShared), Replica: paxos.ReplicaID(d.uint()), Host: d.string(), Node: d.uint(),
		ChangeID: d.uint(), Shared: change&seatShared != 0}
	if m.Change == 0 || m.Change > SeatPart || m.Change == SeatPart && !m.Shared {
		d.fail()
	}
	return d.done()
}

// AppendBinary appends the encoding. No replica has number 0: it says that one of the trunk
// follows.
func (m *StartRequest) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(m.Shard))
	if m.Shared {
		b = appendUint(b, 0)
	}
	return appendUint(b, uint64(m.Replica))
}

// Decode reads what AppendBinary wrote.
func (m *StartRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = StartRequest{Shard: ID(d.uint()), Replica: paxos.ReplicaID(d.uint())}
	if m.Replica == 0 {
		m.Shared, m.Replica = true, paxos.ReplicaID(d.uint())
	}
	if m.Replica == 0 {
		d.fail()
	}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *ServiceRequest) AppendBinary(b []byte) []byte {
	return appendBytes(appendUint(append(b, formatVersion, m.Service), m.From), m.Body)
}

// Decode reads what AppendBinary wrote.
func (m *ServiceRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = ServiceRequest{Service: d.byte(), From: d.uint(), Body: d.bytes()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *ServiceResponse) AppendBinary(b []byte) []byte {
	return appendBytes(append(b, formatVersion), m.Body)
}

// Decode reads what AppendBinary wrote.
func (m *ServiceResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = ServiceResponse{Body: d.bytes()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *PingRequest) AppendBinary(b []byte) []byte { return append(b, formatVersion) }

// Decode reads what AppendBinary wrote.
func (m *PingRequest) Decode(b []byte) error {
	d := newDecoder(b)
	return d.done()
}

// AppendBinary appends the encoding.
func (m *StateRequest) AppendBinary(b []byte) []byte { return append(b, formatVersion) }

// Decode reads what AppendBinary wrote.
func (m *StateRequest) Decode(b []byte) error {
	d := newDecoder(b)
	return d.done()
}
