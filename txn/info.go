package txn

import (
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// State is what a transaction is doing.
type State string

// The states that Info shows.
const (
	StateIdle       State = "idle"       // between two calls
	StateReading    State = "reading"    // a read or a lock is under way
	StateStaging    State = "staging"    // writes of a large transaction are on their way, no vote yet
	StateCommitting State = "committing" // commit messages were sent
	StateRecovering State = "recovering" // a participant did not answer; registers are being closed
	StateEnded      State = "ended"
)

// Info is one row of the view rowlock.transactions.
type Info struct {
	ID         storage.TxnID
	Label      string
	Connection uint64 // of the client; 0: it has none
	Isolation  Isolation
	ReadOnly   bool
	State      State
	Begun      time.Time
	Writes     int   // keys in the write buffer
	Bytes      int64 // size of the write buffer
	Locks      int   // rows and intervals locked
	Shards     []shard.ID
	Statement  string
}

// Info describes the transaction. It may be called from any goroutine.
func (t *Txn) Info() Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Info{
		ID: t.mu.id, Label: t.o.Label, Connection: t.o.Connection, Isolation: t.o.Isolation, ReadOnly: t.mu.readOnly, State: t.mu.state,
		Begun: t.begun, Writes: t.mu.writes, Bytes: t.mu.bytes, Locks: t.mu.locks,
		Shards: append([]shard.ID(nil), t.mu.touched...), Statement: t.mu.statement,
	}
}

// setState publishes what the transaction is doing.
func (t *Txn) setState(s State) {
	t.mu.Lock()
	t.mu.state = s
	t.mu.Unlock()
}
