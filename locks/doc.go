// Package locks is one shard leader's lock table: who holds, who waits, who gives way.
//
// Owners are transactions. A lock is one owner's mode on a span of keys: a single key or an
// interval [lo, hi). Keys are bytes; what they mean, and whether storage has them, is not known
// here.
//
// # Who conflicts with whom
//
// Locks of different owners whose spans share a key:
//
//	              S    X    GAP  INSERT   (held)
//	S             +    -    +    -
//	X             -    -    -    -
//	GAP           +    -    +    -
//	INSERT        -    -    -    +
//
// A scan locks its interval in S or GAP (and a FOR UPDATE scan its rows in X besides). It waits for
// every X or INSERT of another owner inside, whether or not the key is stored: writes are buffered
// until commit, so a row that is about to exist is nothing but a lock here, and a table that knew
// only stored rows would let a phantom through. The other way round, X and INSERT wait for the
// intervals of others. Intervals never wait for each other unless one of them is X.
//
// An owner never waits for itself. What it holds in the same or a stronger mode is granted at once
// and not recorded again; X is stronger than everything, S than GAP.
//
// # The order of service
//
// First come, first served: a request also waits for conflicting requests before it, so a stream
// of readers cannot starve a writer. Two exceptions keep queues from making deadlocks of their own:
// an owner that holds a weaker lock there already goes first (an upgrade), and nobody stands behind
// a request that waits for its own locks.
//
// # What ends a wait
//
//   - a grant, when the last one in the way releases or gives up;
//   - a deadlock. The graph is searched when a wait begins and whenever it comes to wait for someone
//     else. Of the cycle's owners the one with the smallest weight (rows written) gives way, of
//     equals the youngest, as in MySQL (Reference Manual, "Deadlock Detection"). The verdict names
//     one wait; if that wait is over when the verdict arrives, it is void;
//   - the context;
//   - Release, DropUnpinned or Clear of its own owner.
//
// NOWAIT and SKIP LOCKED do not wait, except for owners that are pinned: those have voted, their
// commit may be acknowledged already, and their locks are about to go. Otherwise a queue consumer
// that skips locked rows would miss rows it was told are there.
//
// # Pinned owners
//
// From the check of a transaction's locks at Prepare until its outcome, nothing but this outcome may
// take its locks. Pin makes Release, ReleaseSpans and DropUnpinned leave the owner alone. A verdict
// may still end one of its waits: that takes no lock away.
//
// # What protects what
//
// core is the table as a state machine without clock, goroutines or mutexes; Table is the shell
// around it, with one mutex per table; WaitGraph has one per node, taken after a table's. The graph
// works on its own copy of the edges and never calls a table: a victim is told through its wait, and
// takes itself out of the queue.
//
// A request for a key nobody else wants costs two map look-ups. Keys are put in order only while
// intervals are in use. Releasing an owner costs its own locks and the waits it blocked. In a queue
// for X on one key each request waits for the one before it, so a release wakes one.
//
// # What it does not do
//
// Locks live in memory; Held and Install carry them over to a new owner of the shard. The table does
// not know whether a transaction is still alive, nor cycles through other nodes: Waits gives a wider
// detector its edges and Break takes its verdicts. An owner whose statements run in parallel may be
// granted one lock and refused the next; what was granted stays.
package locks
