package memory

import "github.com/rowlockdb/rowlock/paxos"

// Fault is something that goes wrong with one proposal.
type Fault uint8

// The faults of a proposal.
const (
	// FaultNone: the proposal goes through.
	FaultNone Fault = iota
	// FaultNotSent: refused before it reaches the log (paxos.ErrNotSent).
	FaultNotSent
	// FaultUnknownApplied: committed, but the answer is lost
	// (paxos.ErrUnknownOutcome).
	FaultUnknownApplied
	// FaultUnknownLost: neither committed nor answered
	// (paxos.ErrUnknownOutcome).
	FaultUnknownLost
	// FaultUnknownLate: the caller is told paxos.ErrUnknownOutcome, and the
	// proposal is committed after the next one of its group, or by Flush.
	FaultUnknownLate
	// FaultDuplicate: committed twice in a row; the caller gets the result of
	// the first.
	FaultDuplicate
)

var faultNames = [...]string{"none", "not-sent", "unknown-applied", "unknown-lost", "unknown-late", "duplicate"}

// String returns the fault's name in lower case.
func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "invalid"
}

// Faults are probabilities, each from 0 to 1, that a proposal meets a fault;
// their sum must not exceed 1.
type Faults struct {
	NotSent, UnknownApplied, UnknownLost, UnknownLate, Duplicate float64
}

// pick maps x, uniform in [0, 1), to a fault.
func (f Faults) pick(x float64) Fault {
	for _, c := range [...]struct {
		p float64
		f Fault
	}{
		{f.NotSent, FaultNotSent},
		{f.UnknownApplied, FaultUnknownApplied},
		{f.UnknownLost, FaultUnknownLost},
		{f.UnknownLate, FaultUnknownLate},
		{f.Duplicate, FaultDuplicate},
	} {
		if x < c.p {
			return c.f
		}
		x -= c.p
	}
	return FaultNone
}

// Proposal is what an observer sees of a proposal.
type Proposal struct {
	Group   paxos.GroupID
	Replica paxos.ReplicaID
	// Seq numbers the proposals of the network from 1; start and finish of one
	// proposal carry the same number.
	Seq uint64
	// Command must not be changed.
	Command []byte
	// Finished is false when the proposal starts. Result and Err are what the
	// caller is about to get once it has finished.
	Finished bool
	Result   []byte
	Err      error
}
