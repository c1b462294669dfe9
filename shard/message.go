package shard

import (
	"time"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// ID names a shard. Data shards are 1..N; System is not on the ring.
type ID = ring.ShardID

// System is the shard that holds the ring, the timestamp window, node
// incarnations and whatever the layers above keep outside the ring.
const System ID = 0

// LockMode and LockWait are those of package locks, named here so that clients
// of shards need not know that package.
type (
	LockMode = locks.Mode
	LockWait = locks.Wait
)

// The lock modes and the ways to wait.
const (
	LockShared    = locks.Shared
	LockExclusive = locks.Exclusive
	LockGap       = locks.Gap
	LockInsert    = locks.Insert

	WaitBlock = locks.WaitBlock
	WaitNone  = locks.WaitNone
	WaitSkip  = locks.WaitSkip
)

// Span is the half-open key interval [Lo, Hi). A nil Lo is the first key, a
// nil Hi no end.
type Span struct{ Lo, Hi storage.Key }

// Message is a request or a response. Decode replaces the receiver; byte
// strings of the decoded message alias the input.
type Message interface {
	AppendBinary(b []byte) []byte
	Decode(b []byte) error
}

// ReadRequest asks for a snapshot read at At: of Keys, or of Span if that is
// not nil (then in order, in reverse if Reverse). At must have been issued by
// the oracle.
type ReadRequest struct {
	At   storage.Timestamp
	Keys []storage.Key
	Span *Span
	// Reverse reads the span from its end. Limit and ByteLimit end a span read
	// after that many rows, or once keys and values reach that many bytes; 0 is
	// no limit of the caller's (the owner has one of its own: DefaultByteLimit).
	Reverse          bool
	Limit, ByteLimit int
}

// Row is one key of an answer. Value is nil and Commit 0 when Found is false.
type Row struct {
	Key    storage.Key
	Value  []byte
	Commit storage.Timestamp
	Found  bool
}

// ReadResponse answers a ReadRequest: one row per asked key in the order
// asked, or the found rows of the span. If More, the span was not read to its
// end: continue with Lo = Resume (Hi = Resume when reading in reverse).
type ReadResponse struct {
	Rows   []Row
	More   bool
	Resume storage.Key
}

// LockToken proves that a transaction's locks on a shard were never dropped:
// epoch of the owner and drop generation of the gateway (H2). A transaction
// keeps the token of its first grant on a shard and sends it with every later
// request to that shard; an answer with another token means LockLost.
type LockToken struct{ Epoch, Generation uint64 }

// IsZero reports whether the token is of no grant.
func (t LockToken) IsZero() bool { return t == LockToken{} }

// LockRequest asks for locks: in Mode on Keys; or, if Span is not nil, on every
// row visible in the span plus, unless RowsOnly, the interval itself against
// inserts (H5). The rows of a span are always read; Keys are read if Read.
type LockRequest struct {
	Txn   storage.TxnID
	Token LockToken
	Mode  LockMode
	Wait  LockWait
	Keys  []storage.Key
	Span  *Span
	// Reverse and Limit are as in ReadRequest; the interval locked ends at the
	// last row returned when Limit cut the scan. With WaitSkip no interval is
	// locked, and Limit, if it comes with Keys and Read, ends the request once
	// that many of them are locked and found; the answer's rows say how many
	// keys were tried.
	Reverse  bool
	Limit    int
	RowsOnly bool
	// Durable asks for locks that outlive the owner: they are in the log before
	// they are answered. What an earlier request got is written down with them.
	Durable bool
	// Read asks for the latest committed values after the locks are granted.
	Read bool
	// Snapshot, if not 0, refuses with Conflict when a key or anything in the
	// span, tombstones included, has a version committed after it (H13).
	Snapshot storage.Timestamp
	// Statement is shown in lock views; Weight is the number of rows the
	// transaction has written (deadlock victims are light). Timeout ends the
	// wait with LockTimeout; 0 leaves it to the context.
	Statement string
	Weight    int
	Timeout   time.Duration
	// Connection is the client's number at its gateway, for lock views.
	Connection uint64
}

// LockResponse grants a LockRequest. Rows are as in ReadResponse, of the latest
// committed versions. Skipped are indexes into Keys that WaitSkip left
// unlocked; their rows are not found. MaxCommit is the largest commit timestamp
// among the versions met.
type LockResponse struct {
	Token     LockToken
	Rows      []Row
	Skipped   []int
	More      bool
	Resume    storage.Key
	MaxCommit storage.Timestamp
}

// Write is one buffered change.
type Write struct {
	Key       storage.Key
	Value     []byte
	Tombstone bool
}

// LockRef names a lock that must still be held when the transaction votes. The
// exclusive locks of written keys need not be listed. Hi nil is the single key.
type LockRef struct {
	Mode   LockMode
	Lo, Hi storage.Key
}

// SchemaRef is the version of a table's schema the transaction planned with.
type SchemaRef struct{ Table, Version uint64 }

// OnePCRequest commits a transaction whose writes and locks lie on one shard.
// Floor is a timestamp drawn after the last lock was granted, or 0 to try
// without one (H6). The same content, Floor apart, must be sent on a retry.
type OnePCRequest struct {
	Txn     storage.TxnID
	Floor   storage.Timestamp
	Token   LockToken
	Writes  []Write
	Locked  []LockRef
	Schemas []SchemaRef
}

// PrepareRequest asks a participant for its vote. Participants lists every
// shard that votes, this one included; Floor must not be 0. Chunks and Staged
// say which chunks were staged before: how many, and the sum of their ChunkHash.
type PrepareRequest struct {
	OnePCRequest
	Participants []ID
	Chunks       uint32
	Staged       uint64
}

// StageRequest brings one chunk of a transaction's writes before its vote. The
// keys of all chunks and of the vote must differ.
type StageRequest struct {
	Txn     storage.TxnID
	Token   LockToken
	Chunk   uint32 // its number, from 0 on
	Schemas []SchemaRef
	Writes  []Write
}

// VoteResponse is the state of the vote register after the request, never a
// mere opinion. Fenced means there is none and never will be (H8).
type VoteResponse struct {
	State           storage.VoteState
	Prepare, Commit storage.Timestamp
	Fenced          bool
}

// ResolveRequest hands the outcome to a participant: committed at Commit, or
// aborted if Commit is 0. The owner queues it and answers at once; with Wait
// it answers after the outcome is applied.
type ResolveRequest struct {
	Txn    storage.TxnID
	Commit storage.Timestamp
	Wait   bool
}

// CloseVoteRequest asks for the vote of a transaction and writes ABORTED where
// there is none.
type CloseVoteRequest struct {
	Txn storage.TxnID
}

// ReleaseRequest drops locks that have not voted: those on Keys and on exactly these
// Spans, or, without any, all of the transaction's. Spans may be sent where
// Router.ReleasesSpans says so.
type ReleaseRequest struct {
	Txn   storage.TxnID
	Keys  []storage.Key
	Spans []Span
}

// RenewRequest renews a gateway's lease. Open lists its open transactions with
// Seq <= Cut: the owner drops unvoted locks of every other transaction up to
// Cut and refuses new ones (H16). Cut 0 states nothing. Oldest is the smallest
// start or read timestamp in use or with an unanswered commit at the gateway,
// MaxTimestamp if none, 0 if not stated.
type RenewRequest struct {
	Gateway uint64
	Open    []storage.TxnID
	Cut     uint64
	Oldest  storage.Timestamp
}

// UndecidedRequest asks for PREPARED votes at least OlderThan old.
type UndecidedRequest struct{ OlderThan time.Duration }

// UndecidedVote is a PREPARED vote without an outcome.
type UndecidedVote struct {
	Txn          storage.TxnID
	Participants []ID
	Prepare      storage.Timestamp
	Age          time.Duration
}

// UndecidedResponse lists undecided votes, oldest first.
type UndecidedResponse struct{ Votes []UndecidedVote }

// LockInfo is one lock held, or waited for if Waiting, for the lock views.
type LockInfo struct {
	Shard     ID
	Txn       storage.TxnID
	Mode      LockMode
	Lo, Hi    storage.Key // Hi nil: the single key Lo
	Waiting   bool
	Voted     bool // the holder's vote is under way or cast
	Since     time.Duration
	Statement string
	BlockedBy []storage.TxnID
	// Connection is the client's number at the transaction's gateway, 0 if it is
	// not known; Weight is the number of rows that a waiter has written.
	Connection uint64
	Weight     int
}

// LocksRequest asks for all locks and waits of a shard.
type LocksRequest struct{}

// LocksResponse lists them, locks first.
type LocksResponse struct{ Locks []LockInfo }

// TimestampRequest draws Count timestamps (at least one) from the oracle.
type TimestampRequest struct{ Count int }

// TimestampResponse is the first of Count consecutive timestamps.
type TimestampResponse struct{ First storage.Timestamp }

// SequenceRequest takes Count values of the counter ID, none below Least; 0 only
// looks, or moves the counter up to Least. Start is the first value of a counter
// that was never used. Exact stores the next value itself: nobody is expected to
// ask for more soon.
type SequenceRequest struct {
	ID, Start, Least, Count uint64
	Exact                   bool
}

// SequenceResponse is the first of the values taken, or the next one.
type SequenceResponse struct{ First uint64 }

// FenceRequest raises the shard's fence to Below.
type FenceRequest struct{ Below storage.Timestamp }

// SchemaRequest raises the least acceptable schema version of a table (H11).
type SchemaRequest struct{ Table, Version uint64 }

// CollectRequest removes versions, tombstones and vote markers below Below,
// which must not be above the fence of any shard.
type CollectRequest struct{ Below storage.Timestamp }

// OldestRequest asks a shard owner for the oldest timestamp in use that its
// gateways have reported.
type OldestRequest struct{}

// OldestResponse answers it: MaxTimestamp when nothing is in use. Undecided is
// the start of the oldest PREPARED vote, MaxTimestamp without one.
type OldestResponse struct{ Oldest, Undecided storage.Timestamp }

// TakeOverRequest asks a replica to own the shard after Epoch, and to inherit
// the locks of Flush.
type TakeOverRequest struct{ Epoch, Flush uint64 }

// Done answers requests that return nothing.
type Done struct{}
