package txn

import "github.com/rowlockdb/rowlock/storage"

// Step is a place in a commit, or in its recovery, at which a process may die.
type Step string

// The steps in their order. Those that happen once for each shard are reported
// once for each shard, from several goroutines.
const (
	StepChunk        Step = "chunk"         // a chunk that was sent ahead is answered
	StepBeforeFloor  Step = "before-floor"  // the floor timestamp is about to be drawn
	StepAfterFloor   Step = "after-floor"   // it is drawn
	StepBeforeSend   Step = "before-send"   // the first commit message is about to be sent
	StepOnePC        Step = "onepc"         // the only commit message is about to be sent
	StepOnePCVote    Step = "onepc-vote"    // it is answered
	StepPrepare      Step = "prepare"       // a Prepare is about to be sent
	StepVote         Step = "vote"          // a Prepare is answered
	StepBeforeAnswer Step = "before-answer" // the verdict is known, nobody has been told
	StepResolve      Step = "resolve"       // an outcome is about to be sent to a shard
	StepCloseVote    Step = "close-vote"    // a CloseVote is about to be sent
)

// reached reports a step to whoever tests what happens if the process dies here.
func (c *Coordinator) reached(s Step, id storage.TxnID) {
	if c.cfg.Reached != nil {
		c.cfg.Reached(s, id)
	}
}
