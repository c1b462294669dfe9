package shard

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rowlockdb/rowlock/storage"
)

// Code says what a refused request means for the transaction that sent it.
type Code uint8

// The codes. Only Unknown leaves the outcome of the request open.
const (
	// CodeNone is no error; no Error carries it.
	CodeNone Code = iota
	// NotOwner: the node does not own the shard in a current epoch. The Router
	// retries it and returns it only when its patience or the context ends.
	NotOwner
	// NeedFloor: draw a timestamp now and send the commit request again with
	// it as Floor (rules R4 and H6). Nothing was written.
	NeedFloor
	// LockLost: the transaction's locks on this shard are gone (H2); it must
	// be rolled back.
	LockLost
	// Deadlock: this wait would have closed a cycle and was chosen as victim.
	Deadlock
	// LockTimeout: the wait for a lock took longer than the request allowed.
	LockTimeout
	// WouldBlock: a NOWAIT request met a lock.
	WouldBlock
	// Conflict: a row or a row of the scanned interval was changed after
	// LockRequest.Snapshot (first committer wins, H13).
	Conflict
	// SnapshotTooOld: the read timestamp lies below the shard's fence.
	SnapshotTooOld
	// TooLarge: the encoded writes exceed what one log entry carries.
	TooLarge
	// Undecided: a key is held by the vote of transaction Other, with
	// Participants, that nobody has resolved; finish it, then retry.
	Undecided
	// Unknown: the request was sent to the log and its outcome is not known.
	Unknown
	// Unavailable: the shard cannot answer now and nothing was written.
	Unavailable
	// SchemaChanged: a SchemaRef is below the shard's minimum (H11).
	SchemaChanged
	// Fenced: the transaction began below the fence and has no vote here (H8).
	Fenced
	// BadRequest: the request cannot be meant: a read timestamp that the
	// oracle never issued, a write without its lock mode, a retry whose content
	// differs from the first attempt. A bug of the caller.
	BadRequest
	// Refused: a node may not come in, or a change of the cluster may not be
	// made; Detail says why. Trying again does not help.
	Refused
	// DiskFull: the owner has hardly any space left and takes no writes. Nothing was
	// written.
	DiskFull
)

var codeNames = [...]string{
	"none", "not owner", "need floor", "lock lost", "deadlock", "lock wait timeout", "would block", "conflict",
	"snapshot too old", "too large", "undecided", "unknown outcome", "unavailable", "schema changed", "fenced", "bad request", "refused", "disk full",
}

// String names the code in lower-case words.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Error is every error that a request of the Router can end with, except the
// context's own.
type Error struct {
	Code  Code
	Shard ID
	// Key is the key that was met, when there is one.
	Key storage.Key
	// Other is the transaction that was met: the lock holder or the undecided voter.
	Other storage.TxnID
	// Participants are the shards of Other's votes (Undecided only).
	Participants []ID
	// Owner is the node that may own the shard instead (NotOwner), 0 if none is known.
	Owner uint64
	// Detail is for people.
	Detail string
}

// Error says code, shard and detail.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "shard %d: %s", e.Shard, e.Code)
	if e.Key != nil {
		fmt.Fprintf(&b, " at key %x", []byte(e.Key))
	}
	if !e.Other.IsZero() {
		fmt.Fprintf(&b, " (transaction %s)", e.Other)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	return b.String()
}

// CodeOf returns the code of err, CodeNone when err holds no *Error.
func CodeOf(err error) Code {
	if err == nil { // nearly always, and errors.As would allocate for it
		return CodeNone
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeNone
}

// AppendBinary appends the error's encoding.
func (e *Error) AppendBinary(b []byte) []byte { return e.appendFields(append(b, formatVersion)) }

func (e *Error) appendFields(b []byte) []byte {
	b = appendUint(append(b, byte(e.Code)), uint64(e.Shard))
	b = appendOptional(b, e.Key)
	b = appendTxn(b, e.Other)
	b = appendUint(appendIDs(b, e.Participants), e.Owner)
	return appendString(b, e.Detail)
}

// Decode reads what AppendBinary wrote; Key aliases b.
func (e *Error) Decode(b []byte) error {
	d := newDecoder(b)
	e.decodeFields(&d)
	return d.done()
}

func (e *Error) decodeFields(d *decoder) {
	*e = Error{Code: Code(d.byte()), Shard: ID(d.uint()), Key: d.optional(), Other: d.txn(),
		Participants: d.ids(), Owner: d.uint(), Detail: d.string()}
}
