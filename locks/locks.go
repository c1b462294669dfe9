package locks

import (
	"errors"
	"fmt"
	"time"
)

// Owner is a transaction: start timestamp, gateway incarnation and a sequence number within it.
type Owner struct{ Start, Gateway, Seq uint64 }

// String returns the three numbers, for views and messages.
func (o Owner) String() string { return fmt.Sprintf("%d.%d.%d", o.Start, o.Gateway, o.Seq) }

// Mode says what a lock keeps others from doing on its keys.
type Mode uint8

// The modes. See the package comment for who conflicts with whom.
const (
	// Shared lets others read with locks but not write, on a key or a whole interval.
	Shared Mode = iota
	// Exclusive lets nobody else lock, on a key or a whole interval.
	Exclusive
	// Gap keeps others from writing inside an interval; any number of owners may hold it.
	Gap
	// Insert is the intention to insert a key: it waits for the intervals of others.
	Insert
	modes // how many there are
)

// String returns the one-letter name used in transcripts and views.
func (m Mode) String() string {
	return [modes + 1]string{"S", "X", "GAP", "INSERT", "?"}[min(m, modes)]
}

// Span is what a lock covers: the single key Lo when Hi is empty, else the keys Lo <= k < Hi.
// An interval with Hi <= Lo holds no key: locking it succeeds and locks nothing.
type Span struct{ Lo, Hi []byte }

// Request asks for one mode on several spans, which are taken in the order given.
type Request struct {
	Owner     Owner
	Mode      Mode
	Spans     []Span
	Statement string // the statement's text, for views
	Weight    int    // rows the transaction has written so far: what a deadlock victim would lose
	// Connection is the client's number, for views.
	Connection uint64
}

// Wait says what a request does at a lock it cannot get.
type Wait uint8

// The waits, as in MySQL's locking reads.
const (
	WaitBlock Wait = iota // wait in the queue until the context ends
	WaitNone              // NOWAIT: fail with ErrWouldBlock
	WaitSkip              // SKIP LOCKED: leave the span out and report it
)

// Lock is one lock that is held.
type Lock struct {
	Table  string
	Owner  Owner
	Mode   Mode
	Span   Span
	Pinned bool
	// Connection is that of the owner's latest request; 0 for locks that were installed.
	Connection uint64
}

// WaitInfo is one request in a queue.
type WaitInfo struct {
	ID        uint64 // names this wait within its table; never used again
	Table     string
	Owner     Owner
	Mode      Mode
	Span      Span
	Statement string
	Weight    int
	Since     time.Time
	Upgrade   bool    // the owner holds a weaker lock there and goes first
	Blockers  []Owner // everyone it waits for: holders and those before it in the queue
	// Connection is as in Request.
	Connection uint64
}

// The reasons why Acquire fails; compare with errors.Is.
var (
	// ErrDeadlock tells the victim of a deadlock to roll its transaction back (MySQL error 1213).
	ErrDeadlock = errors.New("deadlock")
	// ErrWouldBlock answers WaitNone (MySQL error 3572).
	ErrWouldBlock = errors.New("lock is held")
	// ErrTimeout says that the context's deadline passed first (MySQL error 1205).
	ErrTimeout = errors.New("lock wait timeout")
	// ErrDropped says that the owner's locks were dropped or released during the wait.
	ErrDropped = errors.New("locks were dropped")
)
