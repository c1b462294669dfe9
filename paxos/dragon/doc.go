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
// # What ends a host
//
// An error of a state machine, of the log or of a file of Dragonboat's own ends
// the host: Dragonboat would panic on one of its goroutines, over which nobody
// has a say. So no such error reaches it. The goroutine that met it stops for
// good, below Dragonboat, and Options.Failed is called. All groups share the step
// worker and the log, so that nothing more is acknowledged, voted or sent after
// an fsync that failed. Close then closes nothing; the directory is given back
// when the process ends. The panics by which Dragonboat reports states that
// cannot be pass through its logger and end the same way, in all hosts of the
// process, because they do not say whose they are.
//
// # What it does not do
//
// It takes no part in deciding who is a member; it has no lease; it does not
// limit the rate at which a snapshot is streamed to a replica.
package dragon
