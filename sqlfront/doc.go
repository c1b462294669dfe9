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
// the catalog. Rows are read through txn cursors; UPDATE, DELETE and locking
// reads are found when the plan is built (see exec.go) and read their tables
// with locks at the latest version. Editors write to the transaction's buffer.
// The engine commits at the end of an autocommit statement, or at COMMIT.
//
// # What protects what
//
// A Snapshot of the catalog never changes. Metadata locks (MetadataLocks) keep
// a table's descriptor in force while a transaction that has used the table is
// open. One mutex serialises schema changes of this process.
//
// # What it does not do
//
// Events are stored and listed but not executed. FULLTEXT and SPATIAL indexes
// are refused.
package sqlfront
