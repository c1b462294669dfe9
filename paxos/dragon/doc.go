// Package dragon runs the replica groups of package paxos on Dragonboat. With
// paxos/logstore it is the only package that imports Dragonboat; no type of it
// is part of an exported signature.
//
// # Order of events
//
// Open checks the directory (our marker, then the lock, which comes with the
// log store, then Dragonboat's own files) before it changes anything, so a
// directory of somebody else is refused as it was found. Start opens the state
// machine first and compares its applied index with the log: a state machine
// that lost data it had promised to keep is refused with a sentence, where
// Dragonboat would take the process down. Close stops the groups, waits for
// their state machines, and only then stops Dragonboat and closes the log.
//
// A proposal takes three goroutines: the caller hands it to the step worker,
// which appends, syncs and commits; the apply worker calls the state machine
// and wakes the caller. One step worker serves all groups, so that groups that
// are busy at the same moment share one fsync.
//
// # Outcomes
//
// Dragonboat reports four ways in which a proposal can fail to be applied. A
// full queue, a group that is not ready and a proposal that the local replica
// dropped because it knows no leader are paxos.ErrNotSent: the proposal never
// left. A timeout and a replica that stops are paxos.ErrUnknownOutcome, even
// when it looks likely that nothing happened.
//
// Until a replica has heard of a leader for the first time since its start,
// proposals and barriers wait for that, within their deadline.
//
// # What ends the process
//
// An error of a state machine or of the log store makes Dragonboat panic on
// one of its own goroutines. That is wanted: nothing that was not stored may
// be acknowledged, and a supervisor starts the process again.
//
// # What it does not do
//
// It takes no part in deciding who is a member; it has no lease; it does not
// limit the rate at which a snapshot is streamed to a replica.
package dragon
