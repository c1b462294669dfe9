package storage

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// VotesFrom is Votes from the transaction id on: a walk in several parts begins
// where the one before it ended instead of passing again what that removed.
func (s *Snapshot) VotesFrom(id TxnID, fn func(TxnID, Vote) error) error {
	if s.err != nil {
		return s.err
	}
	var body [TxnIDSize]byte
	it, err := s.iter.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{
		LowerBound: appendRecordKey(nil, s.space.id, kindVote, id.Append(body[:0])),
		UpperBound: appendRecordKey(nil, s.space.id, kindVote+1, ""),
	}})
	if err != nil {
		return wrap(err, "read votes of space %d", s.space.id)
	}
	return errors.Join(visitVotes(it, fn), wrap(it.Close(), "read votes of space %d", s.space.id))
}
