// Package wire is what stands between the MySQL protocol and the SQL engine: error numbers, the parser's rewrites, function
// overrides and system variables.
//
// # Order of events
//
// [Variables] runs once per process, before the first session exists, because the engine copies the defaults into each new
// session. [Functions] is given to the catalog's function provider. [NewParser] goes into the engine's overrides. [NewHandler]
// wraps the engine's protocol handler, and [NewListener] the network listener below it.
//
//	listener: packet limits, handshake deadline, FOR SHARE in COM_STMT_PREPARE
//	handler:  rows of a cursor wait for their client, max_execution_time, then the engine, then MapError on whatever comes back
//	parser:   locking clauses, REGEXP, PARTITION BY, inside the engine
//
// # What it promises
//
// Every error that leaves the handler has the number and SQLSTATE that MySQL 8.0 gives the same mistake, as far as the engine
// tells mistakes apart; what it does not know stays 1105/HY000. A transaction whose outcome is unknown is answered with 1180 and the
// connection is closed. No locking clause is ever ignored in silence: it reaches the table as a [LockMarker], or it is an error.
//
// # What it does not do
//
// It takes no locks on rows and runs no transaction. Behind TLS it cannot see packets, see [NewListener]. It does not correct
// what the engine computes: an addition that overflows BIGINT wraps instead of answering 1690, and a second PRIMARY KEY in one
// CREATE TABLE is accepted.
//
// # What protects what
//
// Parser and rules are immutable. A Handler's set of ended connections is a sync.Map; a connection's handshake deadline is under
// its mutex, and its reading state belongs to the one goroutine that reads. The rows of a cursor are under its mutex: the
// protocol layer takes them from one goroutine, the end of the connection drops them from another.
package wire
