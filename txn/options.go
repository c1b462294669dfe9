package txn

import (
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Isolation is the level a transaction runs at. READ UNCOMMITTED is not among
// them: it is served as READ COMMITTED.
type Isolation uint8

const (
	// ReadCommitted takes a new snapshot per statement and locks rows, not ranges.
	ReadCommitted Isolation = iota
	// RepeatableRead fixes the snapshot at the first consistent read.
	RepeatableRead
	// Serializable makes plain reads take shared locks, unless the transaction is
	// read only: a single snapshot is serializable as it is.
	Serializable
)

// String is the level's name as MySQL spells it in transaction_isolation.
func (i Isolation) String() string {
	switch i {
	case ReadCommitted:
		return "READ-COMMITTED"
	case RepeatableRead:
		return "REPEATABLE-READ"
	default:
		return "SERIALIZABLE"
	}
}

// Options say how a transaction behaves; they do not change once it began.
type Options struct {
	// Isolation is the level.
	Isolation Isolation
	// ReadOnly refuses locks and writes with code ReadOnly.
	ReadOnly bool
	// SnapshotIsolation, under REPEATABLE READ, refuses to lock a row that
	// changed after the snapshot was fixed (Conflict). Off is what InnoDB does.
	SnapshotIsolation bool
	// Autocommit tells that the transaction is one statement without BEGIN, which
	// may commit without a floor timestamp (H6). A second BeginStatement takes
	// the permission back. It does not make reads lock-free under SERIALIZABLE,
	// since the statement may write what it has read: ReadOnly or SetReadOnly does.
	Autocommit bool
	// DurableLocks asks for locks that outlive the shard owner: each locking
	// request is answered after its locks are in the log. A single autocommit
	// statement does without: its locks end with its answer.
	DurableLocks bool
	// LockWait bounds the wait for one lock; 0 means the coordinator's default.
	LockWait time.Duration
	// At reads a past snapshot (AS OF); such a transaction is read only.
	At storage.Timestamp
	// Staleness, if not 0, lets the snapshot be this old: it then shows all that was
	// acknowledged longer ago, and is read from this node's replicas where they can
	// answer. Such a transaction is read only.
	Staleness time.Duration
	// Latest, if not 0, bounds the snapshot of a transaction with Staleness: what was
	// planned is known to hold up to there.
	Latest storage.Timestamp
	// Snapshot, if not 0, is the snapshot that another transaction of this
	// coordinator has fixed, which must stay open until this one has ended: both
	// see the same. This one counts as begun at it, so that a shard that has
	// removed what is younger refuses its vote.
	Snapshot storage.Timestamp
	// MaxBytes bounds the writes of the transaction, each counted with 64 bytes
	// beside its key and value; 0 means the coordinator's limit, which it cannot
	// exceed.
	MaxBytes int64
	// Label is shown in Info, for instance the connection id.
	Label string
	// Connection is the client's number, for views; 0 is none.
	Connection uint64
}

// Lock is the row lock that a read takes.
type Lock uint8

const (
	// LockNone reads the snapshot.
	LockNone Lock = iota
	// LockShared is FOR SHARE: the latest committed version under an S lock.
	LockShared
	// LockExclusive is FOR UPDATE and DML: the latest committed version under an X lock.
	LockExclusive
)

// Wait says what a locking read does when another transaction holds the lock.
type Wait uint8

const (
	// WaitBlock waits for as long as the lock wait timeout allows.
	WaitBlock Wait = iota
	// NoWait fails at once with code WouldBlock.
	NoWait
	// SkipLocked leaves the row out.
	SkipLocked
)

// ReadOptions qualify one Get or GetMany. The zero value is a snapshot read.
type ReadOptions struct {
	Lock Lock
	Wait Wait
	// AnyVersion switches off the snapshot-isolation check for this lock, for
	// rows that carry no user data, such as counters.
	AnyVersion bool
	// At, if not 0, reads without a lock at this timestamp, whatever the level:
	// to look for rows that LockRows then locks and reads again. See LookAt.
	At storage.Timestamp
}

// Row is one answer. Found is false when the key has no value, or when Skipped.
// Key and Value must not be modified by the caller; they stay valid after the
// next call.
type Row struct {
	Key     storage.Key
	Value   []byte
	Found   bool
	Skipped bool
	Untried bool // LockRows stopped before it
	from    shard.ID
}

// Scan describes a range read. Lo is inclusive, Hi exclusive and nil is the
// open end.
type Scan struct {
	Lo, Hi  storage.Key
	Where   Where
	Reverse bool
	// Limit is a hint of how many rows will be taken; 0 means all. The cursor
	// goes on beyond it if asked.
	Limit int
	Lock  Lock
	Wait  Wait
	// AnyVersion and At are as in ReadOptions.
	AnyVersion bool
	At         storage.Timestamp
	// Interval locks the interval at every level, for what must find the latest
	// rows and keep others out: foreign keys.
	Interval bool
	// Filter is a program by which owners may leave out rows (Cursor shows them or
	// not). The transaction's own writes are always there.
	Filter []byte
}
