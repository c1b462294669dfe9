package shard

import "context"

// appliedFirst is a Group on which a command can be seen before it is durable: the space
// and the machine show it a moment before a power cut could not take it back any more.
// With a log it is the other way round.
//
// Whoever is told of such a state, a client or another transaction, must not be told too
// early. Most of what tells anybody anything waits already:
//
//   - A result of a proposal is given when it is durable, and so is everything that it
//     follows from: commands become durable in their order. What the owner keeps in memory
//     of a vote (proposals, voted, the lock table) changes with the result.
//   - Reads at a timestamp wait for the proposals on their keys that may end at or below it
//     (R1, R2), and these end with their results. A proposal whose context is over goes on
//     until it has one, with its memory locks. It makes no difference where the rows come
//     from: snapshots, the cache of rows, one iterator for several shards, a reduction.
//   - What is read under a lock was written by somebody who held the lock until his result.
//   - Outcomes are handed in when the votes that they follow from are durable. Who sees the
//     rows of an outcome that is not durable itself sees what any recovery would write.
//   - A closed timestamp has behind it only proposals that have ended; a later owner draws
//     above it, whether the register survived or not. An epoch serves when its own proposal
//     has returned, which is after everything before it.
//   - That a fence, a newer epoch or a newer version exists makes requests fail, or
//     timestamps higher, than they need be, and nothing else. So do figures for operators.
//
// The system shard has a log: records, advisory locks, sequences, the window. Those who
// are left call lasting: looks at vote registers, and locks of the rows that an interval
// has (LockRequest.RowsOnly, WaitSkip). The latter only older gateways ask for: SQL finds
// such rows by a read at a timestamp. They wait for every commit of the node, where those
// on the interval would be enough.
type appliedFirst interface {
	// lasting returns when all that could be seen before the call survives a power cut.
	lasting(ctx context.Context) error
}

var _ appliedFirst = (*lane)(nil)

// lasting is called by who has looked at the state of the shard without a lock, a
// timestamp or a proposal, before he tells anybody what he saw.
func (r *Replica) lasting(ctx context.Context) error {
	g, ok := r.c.Group.(appliedFirst)
	if !ok || mutated("0092.told-before-durable") {
		return nil
	}
	return g.lasting(ctx)
}
