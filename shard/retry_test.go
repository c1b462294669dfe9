package shard

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// undecidedProposal makes the next proposal of shard 1 one whose fate its owner
// learns late: it is committed only after answered and again, when the owner has
// been told that the outcome is unknown and has sent it a second time. That
// second copy is lost.
type undecidedProposal struct {
	answered, again chan struct{} // closed by the test: the owner goes on
	sent            chan struct{} // closed when the second copy is on its way
}

func (w *trio) undecidedProposal() *undecidedProposal {
	u := &undecidedProposal{answered: make(chan struct{}), again: make(chan struct{}), sent: make(chan struct{})}
	var copies atomic.Int64
	w.network.Force(2, memory.FaultUnknownLate, memory.FaultUnknownLost)
	w.network.Observe(func(p memory.Proposal) {
		switch {
		case p.Group != 2:
		case p.Finished && copies.Load() == 1:
			<-u.answered
		case !p.Finished && copies.Add(1) == 2:
			close(u.sent)
			<-u.again
		}
	})
	return u
}

// readBriefly is a read that gives up soon.
func (w *trio) readBriefly(r *Replica, at storage.Timestamp, k string) (string, error) {
	ctx, cancel := context.WithTimeout(w.ctx(), 20*time.Millisecond)
	defer cancel()
	return w.get(ctx, r, at, k)
}

func (u *undecidedProposal) awaitSecond(t *testing.T) {
	select {
	case <-u.sent:
	case <-time.After(time.Minute):
		t.Fatal("the vote is not proposed again")
	}
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
	u := w.undecidedProposal()
	done := make(chan error, 1)
	go func() {
		_, err := a.OnePC(w.ctx(), q)
		done <- err
	}()
	require.Eventually(t, func() bool { return a.serving.Load().pending.Load() == 1 }, time.Minute, time.Millisecond)
	at := w.now()
	_, err := w.readBriefly(a, at, "x") // raises the timestamp that new votes must exceed
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(u.answered)
	u.awaitSecond(t)
	first, err := w.readBriefly(a, at, "x")
	close(u.again)
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
	u := w.undecidedProposal()
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
	require.Eventually(t, func() bool { return a.serving.Load().pending.Load() == 1 }, time.Minute, time.Millisecond)
	at := w.now()
	_, err := w.readBriefly(a, at, "x")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	// The retry's floor lies above the reader. As a vote of its own it would be
	// the second proposal.
	retry := w.request(id, token, "x", "new")
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		ctx, cancel := context.WithTimeout(w.ctx(), 50*time.Millisecond)
		defer cancel()
		_, _ = a.OnePC(ctx, retry)
	}()
	select {
	case <-joined:
	case <-u.sent:
	}
	first, err := w.readBriefly(a, at, "x")
	go send(retry)
	close(u.answered)
	close(u.again)
	one, two := <-answers, <-answers
	<-joined
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
