// Package alone is a replica group of one member, without a log.
//
// # What it promises
//
// [Group] is a paxos.Group that has one voter for as long as it is there: nobody can be
// added. There is nobody to agree with, and nobody to send entries to, so there are no
// entries: a proposal is applied to the state machine, the state machine's own storage is
// made durable, and then the proposal returns. What paxos.StateMachine promises already,
// that a crash leaves a prefix of what was applied, is all that is needed. A start replays
// nothing; indexes go on from what StateMachine.Open returns, and those that a power cut
// took back are given out again.
//
// # Order of events
//
// With a log a command is durable before it is applied. Here it is applied, and so can be
// read, a moment before it is durable. A result is given only afterwards, with that of
// everything that it can follow from: commands become durable in their order. Who looks at
// the state in another way, and tells somebody what he saw, calls [Group.ReadBarrier] in
// between: it returns when everything that could be seen when it was called survives a
// power cut.
//
//	proposals:  queue -> Apply of all that are queued -> durable -> results
//	a barrier:  (look) -> everything whose Apply has begun is durable -> (tell)
//
// # Concurrency
//
// One goroutine serves a group: it takes all that is queued, applies it, waits until that
// is durable and wakes those who proposed it. It is not one of the proposers, because the
// disk may never come back, and they must.
//
// # When the disk fails
//
// What meets a failed disk never returns (storage.StopFS). Proposals do: Options.Stopped
// ends them with paxos.ErrUnknownOutcome, as every context does. An error of the state
// machine ends the group the same way and is told to Options.Failed.
package alone
