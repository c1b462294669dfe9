package shard_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// post counts messages and loses answers.
type post struct {
	mu             sync.Mutex
	bundles, alone int
}

// watchPost counts from now on. Answers of bundles are lost while losing says so.
func (c *testCluster) watchPost(losing func() bool) *post {
	w := &post{}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose = func(request []byte) bool {
		parts, alone := shard.Bundled(request)
		w.mu.Lock()
		defer w.mu.Unlock()
		if parts > 0 {
			w.bundles++
		}
		if alone {
			w.alone++
		}
		return parts > 0 && losing != nil && losing()
	}
	return w
}

// sent returns what was sent since it was asked last.
func (w *post) sent() (bundles, alone int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	bundles, alone = w.bundles, w.alone
	w.bundles, w.alone = 0, 0
	return bundles, alone
}

var bundleSeq atomic.Uint64

// everyShard are the shards that the transactions here write on.
var everyShard = []shard.ID{1, 2, 3, 4}

// locked locks the key "k" of every shard in a new transaction and returns its Prepares.
func (c *testCluster) locked(at int, value string) []shard.ShardVote {
	c.t.Helper()
	r := c.node(at).node.Router()
	ctx := c.ctx()
	id := storage.TxnID{Gateway: c.node(at).node.Gateway(), Seq: bundleSeq.Add(1)}
	votes := make([]shard.ShardVote, 0, len(everyShard))
	c.until(func() bool {
		var err error
		if id.Start == 0 {
			id.Start, err = r.Timestamp(ctx)
		}
		return err == nil
	})
	for _, s := range everyShard {
		var lock *shard.LockResponse
		c.until(func() bool {
			var err error
			lock, err = r.Lock(ctx, s, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: keys("k")})
			return err == nil
		})
		votes = append(votes, shard.ShardVote{Shard: s, Request: &shard.PrepareRequest{
			OnePCRequest: shard.OnePCRequest{Txn: id, Token: lock.Token, Writes: put("k", value)}, Participants: everyShard}})
	}
	floor, err := r.Timestamp(ctx)
	require.NoError(c.t, err)
	for i := range votes {
		votes[i].Request.Floor = floor
	}
	return votes
}

// cast does the jobs of the votes as a commit does.
func (c *testCluster) cast(ctx context.Context, at int, votes []shard.ShardVote) {
	together := c.node(at).node.Router().Together(votes)
	var work sync.WaitGroup
	for i := range together.Jobs() {
		work.Go(func() { together.Do(ctx, i) })
	}
	work.Wait()
}

// voted is a transaction with the votes of every shard. Locks may be lost on the way,
// to a change of owners or on a machine that is slow.
func (c *testCluster) voted(at int, value string, between func()) (votes []shard.ShardVote, commit storage.Timestamp) {
	c.t.Helper()
	c.until(func() bool {
		votes, commit = c.locked(at, value), 0
		if between != nil {
			between()
		}
		c.cast(c.ctx(), at, votes)
		for _, v := range votes {
			if v.Err != nil || !yes(v.Response) {
				c.tell(at, votes, 0)
				return false
			}
			commit = max(commit, v.Response.Prepare)
		}
		return true
	})
	return votes, commit
}

// yes is a vote for the commit, which may have come about already: then all votes were.
func yes(v *shard.VoteResponse) bool {
	return v.State == storage.VotePrepared || v.State == storage.VoteCommitted
}

// tell hands the outcome out, to each node in one message, and what is not taken alone.
func (c *testCluster) tell(at int, votes []shard.ShardVote, commit storage.Timestamp) {
	c.t.Helper()
	r := c.node(at).node.Router()
	outcomes := map[shard.NodeAddr][]shard.Told{}
	for _, v := range votes {
		node := r.NodeOf(v.Shard)
		outcomes[node] = append(outcomes[node], shard.Told{Shard: v.Shard, Txn: v.Request.Txn, Commit: commit})
	}
	for node, some := range outcomes {
		if node != "" {
			r.Tell(c.ctx(), node, some)
		}
		for _, o := range some {
			c.until(func() bool {
				return o.Done || r.Resolve(c.ctx(), o.Shard, &shard.ResolveRequest{Txn: o.Txn, Commit: commit}) == nil
			})
		}
	}
}

func (c *testCluster) has(value string) {
	c.t.Helper()
	for _, s := range everyShard {
		require.Equal(c.t, value, c.read(1, s, "k"), "shard %d", s)
	}
}

// A commit costs one message to each node for the votes and one for the outcomes, also
// where owners have moved unheard of.
func TestBundlesGoToEachNodeOnce(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.spread(1, 2, 3)
	w := c.watchPost(nil)
	c.until(func() bool { // owners may still move, and not everybody knows at once
		votes, commit := c.voted(2, "a", func() { w.sent() })
		c.tell(2, votes, commit)
		bundles, alone := w.sent()
		return bundles >= 2 && bundles+alone <= 4
	})
	c.has("a")

	votes, commit := c.voted(1, "b", func() { c.mislead(1, 3) })
	c.mislead(1, 2)
	c.tell(1, votes, commit)
	c.has("b")
}

// mislead has a node believe that one owns all shards.
func (c *testCluster) mislead(at int, owner uint64) {
	for _, s := range everyShard {
		c.node(at).node.Router().Mislead(s, owner)
	}
}

// What a bundle came to is unknown if its answer is lost, and nothing is asked for a
// second time without the caller. Votes that are asked for again are the same.
func TestLostBundles(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.spread(1, 2, 3)
	r := c.node(1).node.Router()
	for _, arrives := range []bool{true, false} {
		var votes []shard.ShardVote
		var commit storage.Timestamp
		if arrives { // then the first answers are as good as lost
			votes, commit = c.voted(1, "arrives", nil)
		} else {
			votes = c.locked(1, "does not")
		}
		c.mislead(1, 2) // one bundle with all, and no news makes it two
		w := c.watchPost(func() bool { return true })
		c.cast(c.ctx(), 1, votes)
		bundles, alone := w.sent()
		require.Equal(t, 1, bundles)
		require.Zero(t, alone, "a vote that may have been cast is asked for behind the caller's back")
		for _, v := range votes {
			require.Equal(t, shard.Unknown, shard.CodeOf(v.Err), "shard %d: %v", v.Shard, v.Err)
			require.Nil(t, v.Response)
		}
		c.watchPost(nil)
		var latest storage.Timestamp
		for _, v := range votes {
			answer, err := r.CloseVote(c.ctx(), v.Shard, &shard.CloseVoteRequest{Txn: v.Request.Txn})
			require.NoError(t, err)
			if arrives {
				require.Equal(t, storage.VotePrepared, answer.State)
			} else {
				require.Equal(t, storage.VoteAborted, answer.State)
			}
			latest = max(latest, answer.Prepare)
		}
		require.Equal(t, commit, latest)
		c.cast(c.ctx(), 1, votes)
		for _, v := range votes {
			require.NoError(t, v.Err)
			if arrives {
				require.Equal(t, storage.VotePrepared, v.Response.State)
			} else {
				require.Equal(t, storage.VoteAborted, v.Response.State)
			}
		}
		if arrives {
			c.tell(1, votes, commit)
			c.has("arrives")
		}
	}
	c.has("arrives")
}

// Outcomes that a node did not answer are not taken for delivered.
func TestLostOutcomes(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.spread(1, 2, 3)
	votes, commit := c.voted(1, "v", nil)
	c.watchPost(func() bool { return true })
	c.tell(1, votes, commit)
	c.watchPost(nil)
	c.has("v")
}

// Messages get lost, arrive twice, or their answers get lost, while shards move from the
// first node to the others: a transaction is on all shards or on none.
func TestBundlesOnTheWayToNewOwners(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	random := rand.New(rand.NewPCG(explore.Seed(t), 0))
	var mu sync.Mutex
	dice := func() int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(4)
	}
	c.watchPost(func() bool { return dice() == 0 })
	c.mu.Lock()
	c.twist = func(request []byte) twist {
		if parts, _ := shard.Bundled(request); parts > 0 {
			return twist(dice() % 3)
		}
		return straight
	}
	c.mu.Unlock()
	last, commits := "", 0
	begun := time.Now()
	for n := 0; commits < 20 || !settled(c.node(1).node.State(), 2, 1, 2, 3); n++ {
		require.Less(t, time.Since(begun), 3*time.Minute)
		at := 1 + n%3
		votes := c.locked(at, fmt.Sprint(n))
		c.cast(c.ctx(), at, votes)
		commit := c.decide(at, votes)
		c.tell(at, votes, commit)
		if commit != 0 {
			last = fmt.Sprint(n)
			commits++
		}
		for _, s := range everyShard {
			var got string
			c.until(func() bool {
				var err error
				got, err = c.look(c.ctx(), at, s, "k")
				return err == nil
			})
			require.Equal(t, last, got, "shard %d after transaction %d", s, n)
		}
	}
}

// decide closes the registers that did not answer; 0 is ABORTED.
func (c *testCluster) decide(at int, votes []shard.ShardVote) (commit storage.Timestamp) {
	aborted := false
	for i := range votes {
		v := &votes[i]
		if v.Err != nil {
			c.until(func() bool {
				v.Response, v.Err = c.node(at).node.Router().CloseVote(c.ctx(), v.Shard, &shard.CloseVoteRequest{Txn: v.Request.Txn})
				return v.Err == nil
			})
		}
		aborted = aborted || !yes(v.Response)
		commit = max(commit, v.Response.Prepare)
	}
	if aborted {
		return 0
	}
	return commit
}

// Each vote is the shard's own: one that has lost its locks says ABORTED, one with a
// request that makes no sense says so, and the others are PREPARED.
func TestBundlesKeepVotesApart(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 1)
	r := c.node(1).node.Router()
	var votes []shard.ShardVote
	c.until(func() bool { // locks do not last on a machine that is slow
		votes = c.locked(1, "v")
		require.NoError(t, r.Release(c.ctx(), 2, &shard.ReleaseRequest{Txn: votes[1].Request.Txn}))
		votes[2].Request.Writes = append(votes[2].Request.Writes, votes[2].Request.Writes...)
		votes[3].Request.Floor = 0
		c.cast(c.ctx(), 1, votes)
		return votes[0].Err == nil && votes[0].Response.State == storage.VotePrepared && votes[3].Err != nil
	})
	require.NoError(t, votes[1].Err)
	require.Equal(t, storage.VoteAborted, votes[1].Response.State)
	require.Equal(t, shard.BadRequest, shard.CodeOf(votes[2].Err), "%v", votes[2].Err)
	require.Equal(t, shard.NeedFloor, shard.CodeOf(votes[3].Err), "%v", votes[3].Err)
	require.Nil(t, votes[3].Response)
	c.tell(1, votes, 0)

	// Nor does what cannot be carried out, or is not for a bundle, concern the others; and a
	// shard that is named twice has one vote.
	votes = c.locked(1, "w")
	prepares := map[shard.ID]*shard.PrepareRequest{}
	for _, v := range votes {
		prepares[v.Shard] = v.Request
	}
	prepares[9] = votes[0].Request
	strange, got := shard.ServeBundle(c.ctx(), c.node(1).node.Server(), prepares, []shard.ID{4, 9, 3, 3, 2, 1})
	require.Len(t, strange, 2)
	for _, err := range strange {
		require.Equal(t, shard.BadRequest, shard.CodeOf(err), "%v", err)
	}
	for s, err := range got {
		if s == 9 {
			require.Equal(t, shard.NotOwner, shard.CodeOf(err), "%v", err)
		} else {
			require.NoError(t, err, "shard %d", s)
		}
	}
}

// While a node is there that does not know the message, it is not sent.
func TestBundlesWaitForTheirVersion(t *testing.T) {
	t.Parallel()
	before := shard.Versions{Oldest: 1, Newest: shard.VersionBundle - 1}
	c := newTestClusterOf(t, 2, before)
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	c.settle(1, 2)
	require.NoError(t, c.replace(1, shard.Supported()))
	c.hears(1, 1, shard.Supported())
	w := c.watchPost(nil)
	commit := func(at int, value string) (bundles, alone int) {
		votes, commit := c.voted(at, value, func() { w.sent() })
		c.tell(at, votes, commit)
		bundles, alone = w.sent()
		c.has(value)
		return bundles, alone
	}
	messages := 0
	for at := 1; at <= 2; at++ { // one of them owns everything
		bundles, alone := commit(at, fmt.Sprint("before, through ", at))
		require.Zero(t, bundles)
		messages += alone
	}
	require.Positive(t, messages)
	require.NoError(t, c.replace(2, shard.Supported()))
	c.reaches(shard.VersionBundle, 1, 2)
	c.settle(1, 2)
	c.until(func() bool {
		first, _ := commit(1, "after, through 1")
		second, _ := commit(2, "after, through 2")
		return first+second > 0
	})
}
