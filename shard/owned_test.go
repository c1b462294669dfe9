package shard

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A vote is as old at a new owner as it was at the one that took it: what a
// coordinator left who died with the owner is not waited for anew. A clock that
// is behind makes a vote young, not unborn.
func TestVotesKeepTheirAge(t *testing.T) {
	w := newTrio(t)
	r := w.shards[1]
	id := w.begin()
	vote, err := r[0].Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(r[0], id, "x"), "x", "1")})
	require.NoError(t, err)
	cast := time.UnixMilli(int64(vote.Prepare.Millis()))

	for i, c := range []struct {
		clock time.Duration // since the vote
		old   int           // votes that are two seconds old
	}{{-time.Hour, 0}, {time.Second, 0}, {3 * time.Second, 1}} {
		next := r[(i+1)%3]
		next.c.Clock = func() time.Time { return cast.Add(c.clock) }
		require.NoError(t, next.BecomeOwner(w.ctx()))
		votes, err := next.Undecided(2 * time.Second)
		require.NoError(t, err)
		require.Len(t, votes, c.old, "%v after the vote", c.clock)
		votes, err = next.Undecided(0)
		require.NoError(t, err)
		require.Len(t, votes, 1)
	}
}
