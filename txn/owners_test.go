package txn_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// sweeper is a Router that counts which shards a coordinator asks for votes.
type sweeper struct {
	txn.Router
	mu    sync.Mutex
	asked map[shard.ID]int
}

func (s *sweeper) Undecided(ctx context.Context, id shard.ID, age time.Duration) ([]shard.UndecidedVote, error) {
	s.mu.Lock()
	s.asked[id]++
	s.mu.Unlock()
	return s.Router.Undecided(ctx, id, age)
}

func (s *sweeper) count(id shard.ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[id]
}

// node starts the coordinator of the trio's n-th node, which sweeps what its
// node owns.
func (w *trio) node(n int, router txn.Router) *txn.Coordinator {
	owned := func() (ids []shard.ID) {
		for s, three := range w.shards {
			if three[n-1].Status().Serving {
				ids = append(ids, s)
			}
		}
		return ids
	}
	co := txn.New(txn.Config{Router: router, Gateway: uint64(n)<<48 | 1, Local: owned})
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = co.Close(ctx) // the dead hand out nothing
	})
	return co
}

// dieAfterVoting lets a transaction vote on both shards, or on the first one only,
// and its coordinator die then.
func (w *trio) dieAfterVoting(co *txn.Coordinator, router *mortal, everywhere bool) {
	w.t.Helper()
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(w.t, tx, "new", w.on(1, "a"), w.on(2, "b"))
	var voted atomic.Int32
	router.set(func(m message) error {
		if m.kind == "prepare" && (everywhere || m.shard == 1) || m.kind == "timestamp" {
			return nil
		}
		return errLost
	}, func(m message) error {
		if m.kind == "prepare" {
			voted.Add(1)
			return errLost
		}
		return nil
	})
	router.kill() // no renewals either
	go func() { _ = tx.Commit(context.Background()) }()
	want := int32(1)
	if everywhere {
		want = 2
	}
	require.Eventually(w.t, func() bool { return voted.Load() >= want }, wait, tick)
}

// A node dies: it coordinated a transaction and owned all shards. Whoever owns
// them next finishes it, and nobody else asks. Then all nodes have owned them.
func TestOwnersSweepWhatTheyOwn(t *testing.T) {
	for _, everywhere := range []bool{true, false} {
		w := newTrio(t)
		ctx := w.ctx()
		dead := &mortal{}
		dead.Router = w
		co := w.node(1, dead)
		idle := &sweeper{Router: w, asked: map[shard.ID]int{}}
		w.node(3, idle)
		next := &sweeper{Router: w, asked: map[shard.ID]int{}}
		survivor := w.node(2, next)

		w.dieAfterVoting(co, dead, everywhere)
		for s := range shard.ID(3) {
			w.crash(s)
		}
		require.Eventually(t, func() bool {
			for s := range shard.ID(3) {
				if votes, err := w.Undecided(ctx, s, 0); err != nil || len(votes) > 0 {
					return false
				}
			}
			return true
		}, wait, tick)
		tx := survivor.Begin(txn.Options{ReadOnly: true})
		rows, err := tx.GetMany(ctx, []txn.Key{w.on(1, "a"), w.on(2, "b")}, txn.ReadOptions{})
		require.NoError(t, err)
		for _, row := range rows {
			require.Equal(t, everywhere, string(row.Value) == "new")
		}
		for s := range shard.ID(3) {
			require.Zero(t, idle.count(s), "node 3 owns nothing")
			require.NotZero(t, next.count(s))
			w.crash(s)
		}
		require.Eventually(t, func() bool { return idle.count(0) > 0 && idle.count(1) > 0 && idle.count(2) > 0 }, wait, tick)
	}
}

// A gateway of another node falls silent for longer than its lease: its row locks,
// those that are written down and its advisory locks go to who waits for them,
// also where a new owner inherited them. Of a gateway that renews nothing goes.
func TestGatewayOfAnotherNodeIsGone(t *testing.T) {
	w := newTrio(t)
	ctx := w.ctx()
	dead := &mortal{}
	dead.Router = w
	gone, alive := w.node(1, dead), w.node(2, w)
	rows := []txn.Key{w.on(1, "durable"), w.on(2, "memory")}
	hold := func(co *txn.Coordinator, durable bool, key txn.Key) *txn.Txn {
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, DurableLocks: durable})
		_, err := tx.Get(ctx, key, exclusive)
		require.NoError(t, err)
		return tx
	}
	hold(gone, true, rows[0])
	hold(gone, false, rows[1])
	kept := hold(alive, false, w.on(2, "kept"))
	locks := gone.Advisory(11)
	got, err := locks.Get(ctx, "job", 0)
	require.NoError(t, err)
	require.True(t, got)
	token, _, err := locks.Token(ctx, "job")
	require.NoError(t, err)

	// The durable locks have a new owner, which never heard of the gateway.
	dead.kill()
	w.crash(1)
	w.handOver(shard.System)

	other := alive.Advisory(22)
	waiting := make(chan bool, 1)
	go func() {
		got, err := other.Get(ctx, "job", -1)
		waiting <- got && err == nil
	}()
	w.lapse(2<<48 | 1)
	for _, key := range rows {
		require.Eventually(t, func() bool {
			tx := alive.Begin(txn.Options{})
			_, err := tx.Get(ctx, key, txn.ReadOptions{Lock: txn.LockExclusive, Wait: txn.NoWait})
			require.NoError(t, tx.Rollback(ctx))
			return err == nil
		}, wait, tick)
	}
	require.True(t, <-waiting)
	later, held, err := other.Token(ctx, "job")
	require.NoError(t, err)
	require.True(t, held)
	require.Greater(t, later, token)
	require.NoError(t, kept.Put(w.on(2, "kept"), []byte("1")))
	require.NoError(t, kept.Commit(ctx), "a gateway that renews loses nothing")
}
