package paxos

import (
	"fmt"
	"slices"
	"time"
)

// GroupID names a replica group (one replicated log). It is never zero, and
// small dense numbers are best: shard s of Rowlock is group s+1.
type GroupID uint64

// ReplicaID names one replica inside its group. It is never zero and never
// used again in the same group once the replica has been removed.
type ReplicaID uint64

// Index is a position in the log of a group. The first entry has index 1; the
// indexes that a state machine sees grow but have gaps, because elections and
// membership changes take entries of their own.
type Index uint64

// DefaultTimeout is the time given to a call whose context has no deadline of
// its own. No call waits for ever.
const DefaultTimeout = 10 * time.Second

// MaxCommand is the longest command, in bytes, that a group takes. Longer ones
// are refused with [ErrTooLarge] before anything is sent.
const MaxCommand = 64 << 20

// Entry is one committed command on its way into a state machine.
type Entry struct {
	// Index is the position in the log.
	Index Index
	// Command is the proposed bytes. It belongs to the log: the state machine
	// may read it during Apply and must copy what it keeps.
	Command []byte
	// Result is filled in by Apply, never nil; it becomes the result of the
	// proposal on the replica where the proposal was made, and is dropped on
	// the others.
	Result []byte
}

// Membership is the set of replicas of a group as this replica has applied it.
type Membership struct {
	// Voters and Learners map a replica to its node target, the name that the
	// host's resolver turns into an address.
	Voters, Learners map[ReplicaID]string
	// Removed lists the replicas that have left; their ids are spent.
	Removed []ReplicaID
	// ChangeID names this version of the membership. A change must carry the
	// id it was computed from and is refused when it is no longer the newest.
	ChangeID uint64
}

// String lists the replicas, in order, for logs.
func (m Membership) String() string {
	return fmt.Sprintf("change %d, voters %v, learners %v, removed %v",
		m.ChangeID, sortedIDs(m.Voters), sortedIDs(m.Learners), m.Removed)
}

func sortedIDs(m map[ReplicaID]string) []ReplicaID {
	ids := make([]ReplicaID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// GroupSpec tells a host which replica to start.
type GroupSpec struct {
	Group   GroupID
	Replica ReplicaID
	// Members are the founding voters and their node targets: the ID of the
	// host that each replica runs on (paxos/dragon takes nothing else). They
	// must be the same on every founding replica and at every start, and empty
	// with Join.
	Members map[ReplicaID]string
	// Join starts a replica that was added to an existing group by
	// [Group.AddReplica] or [Group.AddLearner].
	Join bool
	// Learner says that the replica was added as a learner and has not been
	// made a voter.
	Learner bool
	// Restart starts a replica that ran on this host before, as what it was then:
	// the fields above are not needed.
	Restart bool
}

// Stored is a replica whose log a host has, whether it runs or not.
type Stored struct {
	Group   GroupID
	Replica ReplicaID
}

// Validate tells what is wrong with the spec, or nil.
func (s GroupSpec) Validate() error {
	switch {
	case s.Group == 0:
		return fmt.Errorf("paxos: group id is zero")
	case s.Replica == 0:
		return fmt.Errorf("paxos: replica id of group %d is zero", s.Group)
	case s.Restart && (s.Join || len(s.Members) > 0):
		return fmt.Errorf("paxos: group %d: a restart with members", s.Group)
	case s.Join && len(s.Members) > 0:
		return fmt.Errorf("paxos: group %d: founding members given for a joining replica", s.Group)
	case s.Join, s.Restart:
		return nil
	}
	if _, ok := s.Members[s.Replica]; !ok {
		return fmt.Errorf("paxos: group %d: replica %d is not among the founding members", s.Group, s.Replica)
	}
	return nil
}

// EventKind says what an [Event] is about.
type EventKind uint8

// The kinds of events.
const (
	// LeaderChanged: this host now believes in another leader, or in none.
	LeaderChanged EventKind = iota + 1
	// MembershipChanged: a membership change was applied on this host.
	MembershipChanged
	// Restored: the state machine was replaced from a snapshot, so proposals
	// of this replica that were inside it end with ErrUnknownOutcome.
	Restored
)

// Event is a hint that something about a group changed. Hints are coalesced:
// a slow reader loses older ones for the same group and kind but always gets a
// hint after the last change, and asks the group for the facts.
type Event struct {
	Kind  EventKind
	Group GroupID
	// Leader and Term are set on LeaderChanged; Leader 0 means none.
	Leader ReplicaID
	Term   uint64
}
