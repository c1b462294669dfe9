// Package paxos is the consensus of Rowlock: multi-group Raft, a protocol of
// the Multi-Paxos family, as Dragonboat implements it. The package itself
// holds interfaces and value types only and imports nothing but the standard
// library; the implementations are
//
//   - paxos/dragon, replica groups on Dragonboat, the only importer of it,
//   - paxos/alone, a group of one member that will never have another, and so no log,
//   - paxos/logstore, the durable log of all groups of a node in one Pebble,
//   - paxos/memory, groups in memory for tests and the simulator.
//
// paxos/paxostest holds the suite of tests that every implementation passes.
//
// # What it promises
//
// A [Group] is one replica of one replicated log. [Group.Propose] appends a
// command to the log; every replica hands the committed commands to its
// [StateMachine] in the same order, each index once in the life of the data
// (a state machine that lost unsynced state in a crash sees the lost indexes
// again, and only those). When Propose returns nil the command is on the disks
// of a majority and has been applied on this replica.
//
// Nothing here knows about transactions, shards or SQL. In particular there
// is no detection of duplicates: a command proposed twice is applied twice,
// and a command whose outcome is unknown may be applied later, after the
// caller was told [ErrUnknownOutcome]. State machines must cope with both.
//
// # Order of events
//
// On a proposal: Propose, append on the leader and its followers, fsync on a
// majority, commit, [StateMachine.Apply] on each replica at its own pace, and
// the return of Propose after this replica's Apply. On a start:
// [StateMachine.Open] tells the applied index, a snapshot newer than that is
// given to [StateMachine.Restore], then the entries after it to Apply.
// [StateMachine.Sync] comes before any entry is dropped from the log.
//
// # What protects what
//
// Apply, Sync, Restore, Snapshot and Close of one state machine are never
// called at the same time as each other; Snapshot.Write runs beside later
// Apply calls. Everything in [Group] and [Host] may be called from any
// goroutine.
//
// # What it does not do
//
// It has no lease: [Group.Leader] is a local belief and may be out of date.
// Only [Group.ReadBarrier] proves that a replica has seen everything that
// was committed before the call.
package paxos
