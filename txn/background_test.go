package txn_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// watched is a Router that counts renewals and sweeps per shard, and answers
// sweeps with the votes of the age that the test wants.
type watched struct {
	intercepted
	undecided func(olderThan time.Duration) (ask time.Duration, nothing bool)

	counts struct {
		sync.Mutex
		renewals, sweeps int
		last             *shard.RenewRequest
	}
}

func (w *watched) Renew(ctx context.Context, s shard.ID, q *shard.RenewRequest) error {
	err := w.Router.Renew(ctx, s, q)
	w.counts.Lock()
	defer w.counts.Unlock()
	if s == 1 {
		w.counts.renewals++
		w.counts.last = q
	}
	return err
}

func (w *watched) Undecided(ctx context.Context, s shard.ID, olderThan time.Duration) ([]shard.UndecidedVote, error) {
	ask, nothing := w.undecided(olderThan)
	var votes []shard.UndecidedVote
	var err error
	if !nothing {
		votes, err = w.Router.Undecided(ctx, s, ask)
	}
	w.counts.Lock()
	defer w.counts.Unlock()
	if s == 1 {
		w.counts.sweeps++
	}
	return votes, err
}

func (w *watched) seen() (renewals, sweeps int, last *shard.RenewRequest) {
	w.counts.Lock()
	defer w.counts.Unlock()
	return w.counts.renewals, w.counts.sweeps, w.counts.last
}

// An open transaction is on every renewal's list and keeps its locks; what the
// renewals say about the oldest timestamp in use is true.
func TestRenewalsKeepOpenTransactions(t *testing.T) {
	c := newCluster(t)
	w := &watched{undecided: func(d time.Duration) (time.Duration, bool) { return d, false }}
	w.Router = c.node.Router()
	co := c.coordinator(w)
	ctx := context.Background()
	reader := co.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true})
	snapshot, err := reader.Snapshot(ctx)
	require.NoError(t, err)
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(t, tx, "v", c.key(1, "k"))
	before, _, _ := w.seen()
	var last *shard.RenewRequest
	require.Eventually(t, func() bool {
		var n int
		n, _, last = w.seen()
		return n >= before+2 // the second one began after the lock was granted
	}, wait, tick)
	require.Equal(t, []storage.TxnID{tx.ID()}, last.Open, "readers hold no locks")
	require.Equal(t, snapshot, last.Oldest)
	require.GreaterOrEqual(t, last.Cut, tx.ID().Seq)
	write(t, tx, "w", c.key(2, "k"))
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, reader.Commit(ctx))
}

// A slow commit is not taken for dead by the sweeps of its own process.
func TestSweepLeavesOwnCommitsAlone(t *testing.T) {
	c := newCluster(t)
	w := &watched{undecided: func(time.Duration) (time.Duration, bool) { return 0, false }}
	w.Router = c.node.Router()
	co := c.coordinator(w)
	w.set(func(m message) error {
		if m.kind == "prepare" && m.shard == 3 {
			_, before, _ := w.seen()
			for { // until a sweep has begun and ended
				if _, now, _ := w.seen(); now >= before+2 {
					return nil
				}
				time.Sleep(tick)
			}
		}
		return nil
	}, nil)
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	keys := []txn.Key{c.key(1, "k"), c.key(2, "k"), c.key(3, "k")}
	write(t, tx, "slow", keys...)
	require.NoError(t, tx.Commit(context.Background()))
	require.Equal(t, []string{"slow", "slow", "slow"}, c.read(co, keys...))
}

// The votes of this node's earlier life are finished by the first sweep, however
// young they are.
func TestFirstSweepFinishesThePredecessor(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	router.set(func(m message) error {
		if m.kind == "resolve" {
			return errLost
		}
		return nil
	}, nil)
	keys := []txn.Key{c.key(1, "k"), c.key(2, "k"), c.key(3, "k")}
	c.put(c.coordinator(router), "v", keys...)
	undecided := func() (n int) {
		for s := shard.ID(1); s <= testShards; s++ {
			votes, err := c.node.Router().Undecided(context.Background(), s, 0)
			require.NoError(t, err)
			n += len(votes)
		}
		return n
	}
	require.Equal(t, testShards, undecided())
	w := &watched{undecided: func(d time.Duration) (time.Duration, bool) { return 0, d != 0 }}
	w.Router = c.node.Router()
	c.gateway(w, c.node.Gateway()+1)
	require.Eventually(t, func() bool { return undecided() == 0 }, wait, tick)
}
