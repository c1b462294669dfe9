package shard

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// Stage keeps one chunk of a large transaction until its vote. It may be
// repeated, and chunks may come in any order. An error other than NotOwner and
// Unavailable means that the transaction cannot commit.
func (r *Replica) Stage(ctx context.Context, q *StageRequest) error {
	t, err := r.current()
	if err != nil {
		return err
	}
	if err := r.mayStage(t, q); err != nil {
		return err
	}
	if err := r.space(); err != nil {
		return err
	}
	c := Command{Kind: KindStage, Epoch: t.epoch, Txn: q.Txn, Chunk: q.Chunk, Schemas: q.Schemas, Writes: q.Writes}
	command := c.AppendBinary(make([]byte, 0, 256+writesSize(q.Writes)))
	if size := len(command); size > paxos.MaxCommand {
		return &Error{Code: TooLarge, Shard: r.c.Shard, Detail: fmt.Sprintf("a chunk of %d bytes, at most %d fit one log entry", size, paxos.MaxCommand)}
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	result, err := r.proposeEncoded(ctx, command)
	if err != nil {
		return &Error{Code: Unavailable, Shard: r.c.Shard, Other: q.Txn, Detail: err.Error()}
	}
	switch result.Verdict {
	case VerdictDone:
		return nil
	case VerdictNotOwner:
		r.stepDown(t)
		return r.notOwner()
	case VerdictVote:
		return r.lost(q.Txn, "the transaction has a vote already: "+result.Vote.State.String())
	case VerdictFenced:
		return &Error{Code: Fenced, Shard: r.c.Shard, Other: q.Txn}
	case VerdictSchema:
		return &Error{Code: SchemaChanged, Shard: r.c.Shard}
	}
	return r.bad(fmt.Sprintf("chunk %d of transaction %s is staged with other content", q.Chunk, q.Txn))
}

// mayStage refuses chunks of transactions that are over or have lost their
// locks here: their vote would be ABORTED.
func (r *Replica) mayStage(t *tenure, q *StageRequest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.mu.gateways[q.Txn.Gateway]
	if g == nil || q.Token != t.tokenLocked(q.Txn, g) || g.over(q.Txn) {
		return r.lost(q.Txn, "its locks were dropped before it staged its writes")
	}
	return nil
}

// stagedOf looks up by transaction what a vote has to lock in memory: the keys of
// all its chunks, with those that the request itself brings, ascending. It is
// false if the chunks are not the ones that the request names. None can come
// later: the state machine compares as well.
func (r *Replica) stagedOf(q *voteRequest, own []storage.Key) (keys []storage.Key, ok bool, err error) {
	snap := r.c.Space.Snapshot()
	defer snap.Close()
	keys, staged, err := stagedKeys(snap, q.Txn)
	if err != nil {
		return nil, false, r.failed(err)
	}
	if !staged.is(q.chunks, q.staged) && !mutated("H9.unchecked-chunks") {
		return nil, false, nil
	}
	keys = append(keys, own...)
	compare := func(a, b storage.Key) int { return bytes.Compare(a, b) }
	if !slices.IsSortedFunc(keys, compare) {
		slices.SortFunc(keys, compare)
	}
	for i := 1; i < len(keys); i++ {
		if bytes.Equal(keys[i-1], keys[i]) {
			return nil, false, r.bad("a key is staged twice")
		}
	}
	return keys, true, nil
}

// closeAbandoned writes ABORTED for transactions that staged chunks and will not
// vote, because their gateway is gone or says that they have ended: nobody else
// would find them (H9). One whose gateway is alive is left alone, however long it
// takes.
func (r *Replica) closeAbandoned(t *tenure, lapsed []uint64) {
	ids := r.c.Machine.Abandonable()
	if len(ids) == 0 {
		return
	}
	now := r.c.Clock()
	t.mu.Lock()
	ids = slices.DeleteFunc(ids, func(id storage.TxnID) bool { return !t.abandoned(id, lapsed, now) })
	t.mu.Unlock()
	if len(ids) == 0 || mutated("H9.abandoned-chunks-stay") || !t.closing.CompareAndSwap(false, true) {
		return
	}
	closing := r.background(func() {
		defer t.closing.Store(false)
		for _, id := range ids {
			if r.serving.Load() != t {
				return
			}
			if _, err := r.closeVote(t, id); err == nil {
				r.c.Logger.Info("closed a transaction that had staged writes and will not vote", "shard", uint64(r.c.Shard), "txn", id)
			}
		}
	})
	if !closing {
		t.closing.Store(false)
	}
}

// abandoned reports whether nobody will vote for a transaction any more. A
// gateway that this owner has not heard of yet has one lease to make itself
// known.
func (t *tenure) abandoned(id storage.TxnID, lapsed []uint64, now time.Time) bool {
	if t.mu.proposals[id] != nil || t.mu.voted[id] != nil {
		return false
	}
	if mutated("H9.live-gateways-too") {
		return true
	}
	g := t.mu.gateways[id.Gateway]
	if g == nil {
		return now.Sub(t.began) > leaseTTL
	}
	return slices.Contains(lapsed, id.Gateway) || g.over(id)
}
