package shard

import (
	"context"
	"fmt"

	"github.com/rowlockdb/rowlock/storage"
)

// LookVoteRequest asks what a transaction's vote register says and leaves it as
// it is. Who wants to finish the transaction sends CloseVoteRequest.
type LookVoteRequest struct{ Txn storage.TxnID }

// LookVoteResponse is a vote register, as of a moment after the request arrived.
type LookVoteResponse struct {
	State           storage.VoteState // VoteNone: nothing was written yet, or not any more
	Prepare, Commit storage.Timestamp
	Participants    []ID
	// Fenced: there is no vote and never will be one; one that was there may have
	// been removed (H8).
	Fenced bool
}

// LookVote reads a register. The fence is read after it: a vote is removed only
// below a fence that was raised before.
func (r *Replica) LookVote(ctx context.Context, q *LookVoteRequest) (*LookVoteResponse, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	if err := r.prove(ctx, t); err != nil {
		return nil, err
	}
	v, found, err := r.vote(q.Txn)
	if err != nil {
		return nil, err
	}
	fenced := !found && q.Txn.Start < r.c.Machine.Fence()
	if err := r.lasting(ctx); err != nil { // the asker decides by it
		return nil, &Error{Code: Unavailable, Shard: r.c.Shard, Other: q.Txn, Detail: err.Error()}
	}
	if !found {
		return &LookVoteResponse{Fenced: fenced}, nil
	}
	return &LookVoteResponse{State: v.State, Prepare: v.Prepare, Commit: v.Commit, Participants: shardIDs(v.Participants)}, nil
}

// vote reads a register from the store.
func (r *Replica) vote(id storage.TxnID) (storage.Vote, bool, error) {
	snap := r.c.Space.Snapshot()
	defer snap.Close()
	v, found, err := snap.Vote(id)
	if err != nil {
		err = fmt.Errorf("read the vote of transaction %s: %w", id, err)
	}
	return v, found, err
}

// LookVote reads a vote register and changes nothing. It may be repeated.
func (r *Router) LookVote(ctx context.Context, s ID, q *LookVoteRequest) (*LookVoteResponse, error) {
	return callFor[LookVoteResponse](ctx, r, s, methodLookVote, q)
}

// AppendBinary appends the encoding.
func (m *LookVoteRequest) AppendBinary(b []byte) []byte {
	return appendTxn(append(b, formatVersion), m.Txn)
}

// Decode reads what AppendBinary wrote.
func (m *LookVoteRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = LookVoteRequest{Txn: d.txn()}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *LookVoteResponse) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion, byte(m.State)), uint64(m.Prepare))
	return appendBool(appendIDs(appendUint(b, uint64(m.Commit)), m.Participants), m.Fenced)
}

// Decode reads what AppendBinary wrote.
func (m *LookVoteResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = LookVoteResponse{State: storage.VoteState(d.byte()), Prepare: storage.Timestamp(d.uint()), Commit: storage.Timestamp(d.uint()),
		Participants: d.ids(), Fenced: d.bool()}
	if m.State > storage.VoteAborted {
		d.fail()
	}
	return d.done()
}
