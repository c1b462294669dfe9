// Package txn commits or aborts a transaction on all its shards and finishes
// what a dead coordinator left.
//
// # What it promises
//
// A Txn reads one snapshot (or, under READ COMMITTED, one per statement) of
// every shard, sees its own writes, and commits on all shards or on none. When
// Commit returns nil, the writes are durable on a majority of every shard that
// took part and visible to every snapshot drawn afterwards. When Commit returns
// an *Error with a code other than Unknown, nothing of the transaction will
// ever be visible. Unknown is said when neither could be established in time;
// it is never turned into one of the other two by guessing.
//
// # Order of events
//
// Begin does nothing. The first read or lock draws start_ts from the timestamp
// oracle, and with it the transaction's id. Locks live in the memory of the
// shard owners; the grant that a shard gave first carries a token that every
// later message to the shard repeats (rule H2), so that a lock which was lost
// in between is noticed rather than silently taken again. Writes stay in the
// WriteBuffer of this process until COMMIT.
//
// COMMIT draws a floor timestamp after the last lock was granted. If one shard
// holds every lock and write, one OnePC message decides. Else one Prepare goes
// to every participant in parallel, those for one other node in one message; each applied Prepare is that shard's vote,
// a write-once register. All votes PREPARED is what "committed" means, at the
// largest prepare timestamp (Gray and Lamport, Consensus on Transaction Commit,
// 2006). Resolve follows in the background. Either way the client waits for one
// sequential round of consensus.
//
// Silence is never read as a vote. When a participant does not answer, the
// coordinator closes the register with CloseVote, which returns the vote or
// writes ABORTED, and decides from what the registers then say. The Recoverer
// does the same for votes that nobody resolved: those of a coordinator that
// died. Any number of recoverers reach the same decision.
//
// # What protects what
//
// A Txn belongs to one session: one method at a time. Info and Aborted may be
// called from anywhere, as may the cancel function of a context; what they and
// the lease renewal read lies under a mutex of the Txn. The Coordinator guards
// its table of open transactions with a mutex that comes before the one of any
// Txn and, like it, is never held across a call to a shard.
//
// # What it does not do
//
// It knows no SQL, no encoding of rows and no placement: the caller hands in a
// token and a key. It holds no lock table: waiting, deadlock detection and the
// expiry of a dead gateway's locks happen at the shard owner. A transaction's
// writes and locks are in this process's memory until COMMIT; what is too large
// for one log entry of a shard goes there in chunks before the vote (stage.go), and
// the rows of a statement that loads a table while it runs (load.go).
package txn
