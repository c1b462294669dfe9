package txn

import (
	"fmt"
	"strings"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Code sorts errors by what the caller must do about them.
type Code uint8

const (
	// Deadlock: this transaction was chosen as the victim. It is rolled back. MySQL 1213.
	Deadlock Code = iota + 1
	// LockLost: a shard owner no longer has this transaction's locks. It is rolled back. MySQL 1213.
	LockLost
	// Conflict: a row changed after the snapshot, or a shard voted ABORTED. It is rolled back. MySQL 1213.
	Conflict
	// LockTimeout: the lock wait timeout passed. Only the statement failed. MySQL 1205.
	LockTimeout
	// WouldBlock: NOWAIT met a foreign lock. Only the statement failed. MySQL 3572.
	WouldBlock
	// SnapshotTooOld: the snapshot lies below the garbage fence. Only the statement failed.
	SnapshotTooOld
	// TooLarge: the transaction or its part on one shard exceeds a limit; nothing was sent.
	TooLarge
	// Unknown: whether the transaction committed could not be established. MySQL 1180; the connection closes.
	Unknown
	// Unavailable: a shard or the timestamp oracle did not answer in time.
	Unavailable
	// ReadOnly: a lock or write in a read-only transaction. MySQL 1792.
	ReadOnly
	// Interrupted: the context ended. MySQL 1317.
	Interrupted
	// Bug: the caller broke this package's contract.
	Bug
	// SchemaChanged: a table changed under the transaction. It is rolled back. MySQL 1412.
	SchemaChanged
	// DiskFull: a shard's owner has no space for writes. Only the statement failed,
	// or nothing was committed. MySQL 1021.
	DiskFull
)

var codeNames = [...]string{
	Deadlock: "deadlock", LockLost: "lock lost", Conflict: "conflict", LockTimeout: "lock wait timeout",
	WouldBlock: "would block", SnapshotTooOld: "snapshot too old", TooLarge: "too large", Unknown: "outcome unknown",
	Unavailable: "unavailable", ReadOnly: "read only", Interrupted: "interrupted", Bug: "bug", SchemaChanged: "schema changed", DiskFull: "disk full",
}

// String is the code in words.
func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Fatal tells whether an error of this code ends the transaction: it has been
// rolled back and its locks are released.
func (c Code) Fatal() bool {
	switch c {
	case Deadlock, LockLost, Conflict, SchemaChanged, Unknown:
		return true
	}
	return false
}

// Error is what every method of this package returns when it fails.
type Error struct {
	Code   Code
	Txn    storage.TxnID // zero if the transaction had not begun to act
	Shard  shard.ID
	Key    storage.Key   // the row in question, if there is one
	Other  storage.TxnID // the transaction in the way, if known
	Cycle  string        // of a deadlock: who waited for whom, this transaction first
	Detail string
	Err    error // the cause, may be nil
}

// Error says what happened, in which transaction and on which shard.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("transaction")
	if !e.Txn.IsZero() {
		b.WriteString(" " + e.Txn.String())
	}
	b.WriteString(": " + e.Code.String())
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }
