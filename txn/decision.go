package txn

import (
	"fmt"

	"github.com/rowlockdb/rowlock/storage"
)

// answer is what is known of one participant's vote register.
type answer uint8

const (
	answerNone      answer = iota // silence, or a reply that is not a register state
	answerPrepared                // PREPARED: voted yes, undecided here
	answerCommitted               // COMMITTED: somebody resolved it, or a OnePC applied
	answerAborted                 // ABORTED, written through the log
	answerFenced                  // no register, and the fence passed start_ts: it can never vote
)

// ballot is one participant's answer with the timestamp that belongs to it.
type ballot struct {
	answer  answer
	prepare storage.Timestamp // with answerPrepared
	commit  storage.Timestamp // with answerCommitted
}

// verdict is what the ballots amount to.
type verdict uint8

const (
	verdictPending verdict = iota // some register is not known; nothing may be concluded
	verdictCommit
	verdictAbort
	verdictUnknown // the registers are gone; the outcome was decided and collected
)

func (v verdict) String() string {
	return [...]string{"pending", "commit", "abort", "unknown"}[v]
}

// role is who asks. It matters for FENCED only (rule H8).
type role uint8

const (
	// roleGateway has sent commit messages for a client who waits: registers
	// that were collected may have said COMMITTED, so FENCED is no answer.
	roleGateway role = iota
	// roleRecoverer only has to bring PREPARED registers to an end, and Resolve
	// changes nothing else: FENCED can be treated as ABORTED.
	roleRecoverer
)

// decide is the protocol's decision as a function of the registers. Every
// caller, at every time, that gets something else than pending gets the same
// of commit (at the same timestamp) or abort, because a register is written
// once: PREPARED everywhere can no longer become ABORTED anywhere, and ABORTED
// anywhere can no longer become PREPARED everywhere.
func decide(r role, ballots []ballot) (verdict, storage.Timestamp) {
	var prepared, aborted, fenced, committed int
	var highest, commit storage.Timestamp
	for _, b := range ballots {
		switch b.answer {
		case answerPrepared:
			prepared++
			if mutated("1.4.lowest-timestamp") && highest != 0 {
				highest = min(highest, b.prepare)
				continue
			}
			highest = max(highest, b.prepare)
		case answerCommitted:
			committed++
			if commit != 0 && commit != b.commit {
				panic(fmt.Sprintf("txn: registers of one transaction committed at %d and %d", commit, b.commit))
			}
			commit = b.commit
		case answerAborted:
			aborted++
		case answerFenced:
			fenced++
		}
	}
	switch {
	case committed > 0 && aborted > 0:
		panic("txn: one register of a transaction is COMMITTED and another ABORTED")
	case committed > 0:
		return verdictCommit, commit
	case aborted > 0:
		return verdictAbort, 0
	case prepared == len(ballots) && prepared > 0,
		prepared > 0 && mutated("1.4.some-votes-are-enough"):
		return verdictCommit, highest
	case fenced > 0 && (r == roleRecoverer || mutated("H8.gateway-reads-fenced-as-abort")):
		return verdictAbort, 0
	case fenced > 0 && prepared+fenced == len(ballots):
		return verdictUnknown, 0
	}
	return verdictPending, 0
}
