package txn

import (
	"context"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Outcome is what became of a transaction.
type Outcome string

// The outcomes. Committed and RolledBack are for ever.
const (
	Committed  Outcome = "committed"
	RolledBack Outcome = "rolled back"
	// Undecided: a vote is missing that may still be cast. A transaction that ended
	// without a vote, by ROLLBACK or with its connection, shows as this, too, until
	// it is too old to be told.
	Undecided Outcome = "undecided"
	// TooOld: the votes of that time have been removed.
	TooOld Outcome = "unknown"
)

// Outcome reads what the votes of a transaction amount to and changes nothing: it
// does not hasten the end of one that is undecided. Error Unavailable says that a
// shard which would decide did not answer.
func (c *Coordinator) Outcome(ctx context.Context, id storage.TxnID) (Outcome, error) {
	shards := c.shards()
	votes := make([]*shard.LookVoteResponse, len(shards))
	errs := make([]error, len(shards))
	c.crew.inParallel(len(shards), func(i int) {
		votes[i], errs[i] = c.router.LookVote(ctx, shards[i], &shard.LookVoteRequest{Txn: id})
	})
	said := make(map[shard.ID]*shard.LookVoteResponse, len(shards))
	for i, s := range shards {
		if errs[i] == nil {
			said[s] = votes[i]
		}
	}
	if outcome, known := outcomeOf(said); known {
		return outcome, nil
	}
	for i, err := range errs {
		if err != nil {
			return "", convert(ctx, err, id, shards[i])
		}
	}
	for _, v := range said {
		if v.Fenced {
			return TooOld, nil
		}
	}
	return Undecided, nil
}

// outcomeOf decides from registers as recoverers do (decide), but takes no silence
// for anything: one final vote says it all, and so do the PREPARED votes of all
// participants. known is false where votes are missing.
func outcomeOf(votes map[shard.ID]*shard.LookVoteResponse) (o Outcome, known bool) {
	for _, v := range votes {
		switch v.State {
		case storage.VoteCommitted:
			return Committed, true
		case storage.VoteAborted:
			return RolledBack, true
		}
	}
	for _, v := range votes {
		if v.State != storage.VotePrepared {
			continue
		}
		for _, p := range v.Participants {
			other := votes[p]
			switch {
			case other == nil:
				return "", false
			case other.State != storage.VotePrepared:
				return Undecided, true
			}
		}
		return Committed, true
	}
	return "", false
}

// Identify gives the transaction its id, if it has none yet.
func (t *Txn) Identify(ctx context.Context) (storage.TxnID, error) {
	if err := t.usable(); err != nil {
		return storage.TxnID{}, err
	}
	err := t.start(ctx)
	return t.id, err
}
