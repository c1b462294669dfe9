package shard

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// lateThenLost lets the first copy of a proposal arrive late, when the network
// is told to, and loses those that are sent meanwhile.
func lateThenLost() []memory.Fault {
	faults := []memory.Fault{memory.FaultUnknownLate}
	for range 9 {
		faults = append(faults, memory.FaultUnknownLost)
	}
	return faults
}

// underWay waits until a vote has been proposed.
func (w *trio) underWay(r *Replica, id storage.TxnID) {
	t := r.serving.Load()
	require.Eventually(w.t, func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		p := t.mu.proposals[id]
		return p != nil && p.ts != 0
	}, 5*time.Second, time.Millisecond)
	require.Eventually(w.t, func() bool { return r.counters.proposals.Load() > 2 }, 5*time.Second, time.Millisecond)
}

// readBriefly reads for as long as a few proposals take.
func (w *trio) readBriefly(r *Replica, at storage.Timestamp, k string) (string, error) {
	ctx, cancel := context.WithTimeout(w.ctx(), 100*time.Millisecond)
	defer cancel()
	return w.get(ctx, r, at, k)
}

// H7: while the fate of a vote is unknown the same bytes are proposed again. A
// reader that has passed the vote's timestamp by cannot miss what an early copy
// writes below it.
func TestReproposalKeepsItsTimestamp(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	w.put(a, "x", "old")
	id := w.begin()
	q := w.request(id, w.lock(a, id, "x"), "x", "new")
	w.network.Force(2, lateThenLost()...)
	done := make(chan error, 1)
	go func() {
		_, err := a.OnePC(w.ctx(), q)
		done <- err
	}()
	w.underWay(a, id)
	at := w.now()
	_, err := w.readBriefly(a, at, "x")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	first, err := w.readBriefly(a, at, "x") // somebody has read at its timestamp by now
	w.network.Flush(2)
	require.NoError(t, <-done)
	again, lateErr := w.get(w.ctx(), a, at, "x")
	require.NoError(t, lateErr)
	require.Equal(t, "new", again)
	if err == nil {
		require.Equal(t, again, first, "a snapshot has changed")
	}
}

// A commit message that is sent again joins the one under way, whatever floor it
// brings (H7): it neither becomes a vote of its own nor is refused.
func TestRetryJoinsTheVoteUnderWay(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	w.put(a, "x", "old")
	id := w.begin()
	token := w.lock(a, id, "x")
	w.network.Force(2, lateThenLost()...)
	type answer struct {
		vote *VoteResponse
		err  error
	}
	answers := make(chan answer, 2)
	send := func(q *OnePCRequest) {
		vote, err := a.OnePC(w.ctx(), q)
		answers <- answer{vote, err}
	}
	go send(w.request(id, token, "x", "new"))
	w.underWay(a, id)
	at := w.now()
	_, err := w.readBriefly(a, at, "x")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	proposals := a.counters.proposals.Load()
	go send(w.request(id, token, "x", "new")) // with a floor above the reader
	require.Eventually(t, func() bool { return a.counters.proposals.Load() > proposals }, 5*time.Second, time.Millisecond)
	first, err := w.readBriefly(a, at, "x")
	w.network.Flush(2)
	one, two := <-answers, <-answers
	require.NoError(t, one.err)
	require.NoError(t, two.err)
	require.Equal(t, one.vote, two.vote)
	again, lateErr := w.get(w.ctx(), a, at, "x")
	require.NoError(t, lateErr)
	require.Equal(t, "new", again)
	if err == nil {
		require.Equal(t, again, first, "a snapshot has changed")
	}
}
