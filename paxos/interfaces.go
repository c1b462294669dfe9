package paxos

import (
	"context"
	"io"
)

// StateMachine is what a replica of a group replicates. It must be
// deterministic: the same entries in the same order give the same state and
// results on every replica, whatever the batch boundaries.
type StateMachine interface {
	// Open returns the index of the last entry that is part of the state. The
	// index must be stored atomically with the data it belongs to. Zero means
	// empty.
	Open() (Index, error)
	// Apply applies entries in order and sets each Result (never nil). It need
	// not be durable, but what survives a crash must be a prefix. An error is
	// fail-stop for the replica: refusals belong in the Result.
	Apply(entries []Entry) error
	// Sync returns when everything applied so far survives a power cut.
	Sync() error
	// Snapshot returns a point in time of the state, cheaply.
	Snapshot() (Snapshot, error)
	// Restore replaces the whole state, applied index included, with one that
	// Snapshot.Write wrote. It is atomic: after a crash or an error the state
	// is the old or the new one, never a mixture. It gives up when stop closes.
	Restore(r io.Reader, stop <-chan struct{}) error
	// Close ends the use of the state machine by the replica.
	Close() error
}

// Snapshot is a point in time of a state machine. It does not change while
// later entries are applied.
type Snapshot interface {
	// Write streams the state to w and gives up when stop closes. An error that is
	// neither w's nor ErrSnapshotGone is fail-stop for the replica.
	Write(w io.Writer, stop <-chan struct{}) error
	// Close frees it. It is called exactly once, also when Write failed.
	Close() error
}

// Group is one running replica of a group.
type Group interface {
	// Propose appends a command and waits until it is applied on this replica;
	// the result is the one its Apply gave. The error tells the outcome:
	//
	//   nil                applied
	//   ErrNotSent         not in the log and never will be: safe to retry
	//   ErrTooLarge        longer than MaxCommand, not sent
	//   ErrUnknownOutcome  in the log or not, applied now, later or never
	//   ErrClosed          the replica was stopped before anything was sent
	//
	// The command must not be changed while Propose runs; an empty one is a bug
	// and panics. A context without a
	// deadline gets DefaultTimeout; a context that ends while the proposal is
	// under way gives ErrUnknownOutcome.
	Propose(ctx context.Context, command []byte) ([]byte, error)
	// ReadBarrier returns nil when this replica has applied everything that
	// was committed, on any replica, before the call. Its errors are
	// ErrNotSent (no leader, timeout: nothing is known, try again), ErrClosed
	// and the context's.
	ReadBarrier(ctx context.Context) error
	// Leader returns who this replica believes leads, and the term.
	Leader() (leader ReplicaID, term uint64, ok bool)
	// Replica returns this replica's id.
	Replica() ReplicaID
	// Applied returns the index of the last entry applied on this replica.
	Applied() Index
	// Membership returns the members as of a ReadBarrier.
	Membership(ctx context.Context) (Membership, error)
	// TransferLeadership asks the group to make a replica the leader. It does
	// not wait and may come to nothing.
	TransferLeadership(to ReplicaID) error
	// AddReplica makes a voter of a new replica or of a learner; AddLearner
	// adds a replica that has no vote; RemoveReplica removes either. changeID
	// is Membership.ChangeID of the membership that the change was computed
	// from; an outdated one gives ErrRejected. Errors are those of Propose.
	//
	// Who is added to a group that one voter has founded never sees its first
	// entry: it is restored from a snapshot. So such a group may begin, at index
	// 0, with a state that is in no log.
	AddReplica(ctx context.Context, r ReplicaID, target string, changeID uint64) error
	AddLearner(ctx context.Context, r ReplicaID, target string, changeID uint64) error
	RemoveReplica(ctx context.Context, r ReplicaID, changeID uint64) error
}

// Submitter is a Group whose commands can be sent without waiting for what they
// come to. Commands that are sent to several groups of a host one right after the
// other share its writes to disk.
type Submitter interface {
	// Submit begins what Propose does and does not block; wait does the rest and
	// must be called once.
	Submit(ctx context.Context, command []byte) (wait func() ([]byte, error))
}

// Cutter is a Group that can be founded by several replicas whose state machines, all
// equal, begin at index 0 with a state that is in no log. Before anybody is added each
// founder must have called CutFirst once: whichever of them leads then, its log does not
// begin with the first entry, and who joins is restored from a snapshot.
type Cutter interface {
	// CutFirst returns nil when the first entry is gone from this replica's log, for good.
	// Something must have been applied. Its errors are ErrNotSent (try again), ErrClosed
	// and the context's.
	CutFirst(ctx context.Context) error
}

// Host runs the replicas of one node, at most one of each group.
type Host interface {
	// Start starts a replica and returns when its state machine is open. The
	// host closes the state machine when the replica stops, and also when
	// Start fails after it was opened. Errors to decide by: ErrRunning, ErrClosed,
	// ErrForeign, ErrBehind, ErrRemoved.
	Start(spec GroupSpec, sm StateMachine) (Group, error)
	// Stop stops a replica and closes its state machine. Its data stays.
	Stop(g GroupID) error
	// Purge deletes the log of a replica that is stopped, for good. The
	// replica id must never be started again; the caller destroys the state
	// machine's data itself.
	Purge(g GroupID, r ReplicaID) error
	// Stored lists the replicas that were started here and not purged, by group.
	Stored() ([]Stored, error)
	// ID returns the stable id of this host, stored with its data.
	ID() string
	// Events returns the host's hints; the channel is closed by Close.
	Events() <-chan Event
	// Close stops every replica and then the host. It may be called twice.
	Close() error
}
