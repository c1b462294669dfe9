// Package memory implements paxos in memory, for tests and for simulation. It
// needs nothing but the standard library and package paxos.
//
// A [Network] holds the replicated logs; its hosts ([Network.Host]) are the
// nodes. The log of a group is one shared slice; each replica has a cursor for
// what its copy of the log holds and one for what it has applied. That is
// enough to produce what a state machine and its caller can see of a real
// implementation: followers whose apply lags, batches of any size, replay of a
// lost suffix after a crash, restoring a snapshot in place of a replay,
// leaders that change, beliefs about the leader that are out of date,
// partitions, proposals whose outcome is unknown and that take effect later or
// never, and proposals that are applied twice.
//
// # What it promises
//
// An entry is committed when a majority of the voters hold it, and what is
// committed is never lost or reordered. The log outlives every crash; what the
// state machine loses in a crash is the state machine's affair (a test crashes
// its file system and opens it again), and it is handed the lost entries once
// more. Random choices come from the seed of the network; with one goroutine
// that proposes they are the same in every run.
//
// # What protects what
//
// One mutex guards the network. It is never held while a state machine, an
// observer or a caller is waited for. Each replica runs one goroutine, which
// alone calls its state machine and ends when the replica stops.
//
// # What it does not do
//
// There is no time: an election happens at once when a majority can talk to
// each other, and no message is ever under way.
package memory
