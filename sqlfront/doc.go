// Package sqlfront is the MySQL face of the key space: statements come in over
// the MySQL protocol, keys and values go out to package txn.
//
// # What it promises
//
// Every durable thing lives in the shards below: rows and index entries in the
// data shards, descriptors, users and auto-increment high-water marks in the
// system shard. Nothing here is kept only in memory, except what MySQL itself
// calls temporary: session variables, TEMPORARY tables, prepared statements.
//
// A statement is atomic. A transaction is one txn.Txn, owned by the Session. A
// schema change is one transaction on the system shard; a crash in the middle
// of it leaves the old schema or the new one, never a mixture, and whatever
// rows an unfinished change had already built are removed after the restart.
//
// # The order of events
//
// The SQL engine (go-mysql-server) parses and plans. It asks Provider and
// Database for tables and gets Table values bound to one immutable Snapshot of
// the catalog. Rows are read through txn cursors (scan.go); UPDATE, DELETE and
// locking reads are found when the plan is built (exec.go) and read their tables
// with locks at the latest version. A statement that could open a table again
// after it has written reads its input to the end first (materialize.go).
// A lookup join without locks reads outer rows ahead and looks up for all of them
// together (batch_join.go). Editors lock every key of a row and its index entries, then write to the
// transaction's buffer. The engine commits at the end of an autocommit
// statement, or at COMMIT; CommandEnd rolls back what it forgot.
//
// Statements by primary key that were seen before do not go through the engine's
// parser and planner again (fast*.go, package fastpath): a shape that is known brings
// its values, and the same functions read and lock as above, in the same order. What
// is not certain is left to the engine before anything has been done.
//
// A schema change collects new descriptors in its session (schema_change.go),
// builds data under ids that were never used before (rewrite.go), and commits
// the descriptors, the counters and the list of what became garbage as one
// transaction on the system shard. The garbage goes in the background, by ids
// and in small transactions (garbage.go).
//
// # What protects what
//
// A Snapshot of the catalog never changes. Metadata locks (catalog.Locks) keep a
// table's definition in force while a transaction that has used the table is
// open; a schema change holds them exclusively until it is published. LOCK TABLES
// holds them for the session, beyond its transactions; a transaction takes the
// mode to write in before it writes or locks its first row of a table. A
// transaction whose snapshot is older than a table's data gets error 1412
// instead of an empty table. Sessions belong to their connection's goroutine.
//
// # Several gateways
//
// Each gateway keeps a record in the system shard (gateways.go), is told by
// the others when something changes, and asks four times a second whether the number of schema changes has grown (follower.go). Before a
// schema change begins to read its table, the table is frozen: it gets a version
// with the mark of the gateway, every other gateway locks the table exclusively in
// its own metadata locks and answers once it has, and the shards are told to refuse
// older versions. The next version ends the freeze, and the statement returns when
// every gateway has loaded it. A gateway that does not answer for five seconds is
// taken for dead (settle.go): it has stopped planning by then, because it plans for
// three seconds only after it last asked, and what its transactions still send is
// refused. Users, grants and persisted variables have a number of their own, which
// the same read tells.
//
// # What it does not do
//
// The metadata locks of statements are those of one gateway; schema changes reach
// the others, and LOCK TABLES and FLUSH TABLES WITH READ LOCK by claims (claim.go).
// Events are stored and listed but not executed. FULLTEXT, SPATIAL and VECTOR
// indexes are refused. Row counts are estimates; COUNT(*) reads the rows.
package sqlfront
