package paxos

import "errors"

// What a caller decides by. Implementations wrap them with what was being
// done; compare with errors.Is.
var (
	// ErrNotSent: the command is not in the log and never will be. Retrying is
	// safe.
	ErrNotSent = errors.New("paxos: not sent")
	// ErrUnknownOutcome: the command may be in the log; it may be applied now,
	// later or never. It is neither success nor failure: the state machine
	// must be asked.
	ErrUnknownOutcome = errors.New("paxos: unknown outcome")
	// ErrClosed: the replica or the host is closed; nothing was sent.
	ErrClosed = errors.New("paxos: closed")
	// ErrRejected: a membership change was refused by the group, because its
	// change id is out of date or the replica id is spent.
	ErrRejected = errors.New("paxos: membership change rejected")
	// ErrTooLarge: the command is longer than MaxCommand; nothing was sent.
	ErrTooLarge = errors.New("paxos: command too large")

	// ErrSnapshotGone: what a snapshot has to write is not there any more. Whoever
	// wants the state asks again.
	ErrSnapshotGone = errors.New("paxos: what the snapshot holds is gone")

	// ErrRunning: the group already runs on this host.
	ErrRunning = errors.New("paxos: group already running")
	// ErrNotRunning: no replica of the group runs on this host.
	ErrNotRunning = errors.New("paxos: group not running")
	// ErrLocked: another process uses the directory.
	ErrLocked = errors.New("paxos: directory is in use by another process")
	// ErrForeign: the directory belongs to another node, or to something else.
	ErrForeign = errors.New("paxos: directory belongs to another node")
	// ErrFormat: the directory was written by an unknown version.
	ErrFormat = errors.New("paxos: unknown format version")
	// ErrBehind: the state machine is behind the point up to which the log has
	// been dropped (it lost data that it had promised to keep). The replica
	// cannot be started: remove it and add a new one under a new id.
	ErrBehind = errors.New("paxos: state machine is behind its log")
	// ErrRemoved: the replica's own log says that its group has removed it. It never
	// runs again; what is stored of it can be purged. A replica that was removed
	// while it was down may not know it yet, and starts.
	ErrRemoved = errors.New("paxos: replica was removed from its group")
)
