// Package rowlock is a distributed SQL database to be embedded in a Go program
// or run as a server: the MySQL protocol and SQL in front, rows spread over
// replicated shards behind, row locks and transactions across all of them.
//
// # Build tag
//
// Programs that import this package are built in one of two ways:
//
//	CGO_ENABLED=0 go build -tags gms_pure_go    static, nothing else needed
//	CGO_ENABLED=1 go build                      needs the ICU library's headers
//
// Without cgo the tag is required, because the SQL engine's regular expressions
// use ICU by default; forgetting it is a compile error that says so.
//
// # What it promises
//
// [Open] returns a node that serves: its shards are recovered and owned. What a
// COMMIT acknowledged is on disk and survives the death of the process and of
// the machine. One process at a time has a data directory open; a second one
// gets [ErrLocked].
//
// # Order of events
//
// Open locks the directory, reads or writes its identity file, then opens the
// stores, the replicated log, the shards, the transaction coordinator and the
// SQL server, from the bottom to the top. [Node.Close] goes the other way, so
// that nothing loses what it stands on.
//
//	<dir>/LOCK        held while a process has the directory open
//	<dir>/IDENTITY    who this node is; written once
//	<dir>/data/       rows, intents and votes (one Pebble store)
//	<dir>/log/        the replicated log
//
// # Ways in
//
// [Node.Connector] gives database/sql an in-process connection: the MySQL
// protocol without a socket, so that embedded and remote programs see the same
// behaviour. sql.Open("rowlock", "path/to/dir") does the same with a node that
// is shared by everything in the process that names the directory.
// [Node.ListenMySQL] adds ordinary MySQL clients. [RunTx] repeats a transaction
// that lost a deadlock.
//
// # What protects what
//
// A Node's fields are set by Open and never change; everything on it may be
// called from any goroutine. The table of nodes that sql.Open shares has one
// mutex.
package rowlock
