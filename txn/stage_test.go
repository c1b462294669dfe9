package txn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// stagingCoordinator stages whatever is more than a few rows, few at a time.
func (c *cluster) stagingCoordinator(router txn.Router, gateway uint64) *txn.Coordinator {
	co := txn.New(txn.Config{Router: router, Gateway: gateway, Logger: c.logger, StageBytes: 1000, ChunkBytes: 600})
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = co.Close(ctx)
	})
	return co
}

// manyKeys are rows of every shard.
func (c *cluster) manyKeys(perShard int) []txn.Key {
	var keys []txn.Key
	for s := range shard.ID(testShards) {
		for i := range perShard {
			keys = append(keys, c.key(s+1, fmt.Sprintf("row %04d", i)))
		}
	}
	return keys
}

// wantNothingStaged waits until no shard has chunks: what a failed transaction
// staged is removed in the background.
func (c *cluster) wantNothingStaged() {
	left := errors.New("left")
	require.Eventually(c.t, func() bool {
		for s := range shard.ID(testShards + 1) {
			snap := c.engine.Space(uint64(s)).Snapshot()
			err := snap.AllStaged(func(storage.TxnID, uint32, []byte) error { return left })
			snap.Close()
			if err != nil {
				return false
			}
		}
		return true
	}, 20*time.Second, 5*time.Millisecond)
}

func (c *cluster) wantAll(co *txn.Coordinator, want string, keys []txn.Key) {
	for i, v := range c.read(co, keys...) {
		require.Equal(c.t, want, v, "row %d", i)
	}
}

// A transaction that is larger than a log entry may be commits whole, over all
// shards, also where the log loses, delays and repeats proposals; small parts of
// it, and deletions, travel along. It reads back after a restart.
func TestLargeTransaction(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	var stages, prepares atomic.Int64
	router.set(func(m message) error {
		switch m.kind {
		case "stage":
			stages.Add(1)
		case "prepare":
			prepares.Add(1)
		}
		return nil
	}, nil)
	co := c.stagingCoordinator(router, c.node.Gateway())
	keys := c.manyKeys(40)
	ctx := context.Background()
	c.network.SetFaults(faults)
	for round := range 4 {
		value := fmt.Sprint("round ", round)
		stages.Store(0)
		prepares.Store(0)
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
		write(t, tx, value, keys...)
		write(t, tx, value, c.key(shard.System, "small")) // with its vote
		require.NoError(t, tx.Commit(ctx))
		require.GreaterOrEqual(t, stages.Load(), int64(3*testShards))
		require.Equal(t, int64(testShards+1), prepares.Load())
		c.wantAll(co, value, append(keys, c.key(shard.System, "small")))
	}
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(t, tx, "", keys...)
	for _, k := range keys {
		require.NoError(t, tx.Delete(k))
	}
	require.NoError(t, tx.Commit(ctx))
	c.network.SetFaults(noFaults)
	c.wantAll(co, "", keys)

	// All of it on one shard: a vote of one.
	one := co.Begin(txn.Options{Isolation: txn.RepeatableRead, Autocommit: true})
	write(t, one, "one shard", keys[:40]...)
	require.NoError(t, one.Commit(ctx))
	c.wantAll(co, "one shard", keys[:40])
	require.NoError(t, co.Flush(ctx))
	c.wantNothingStaged()
}

// Readers of every kind and writers of other rows go on while chunks are on
// their way; readers see all of it or nothing.
func TestReadersBesideALargeTransaction(t *testing.T) {
	c := newCluster(t)
	co := c.stagingCoordinator(c.node.Router(), c.node.Gateway())
	keys := c.manyKeys(60)
	c.put(co, "0", keys...)
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	var reads, writes atomic.Int64
	work.Go(func() {
		for ctx.Err() == nil {
			values := c.read(co, keys...)
			for _, v := range values {
				if v != values[0] {
					t.Errorf("a row of %q beside one of %q", values[0], v)
					return
				}
			}
			reads.Add(1)
		}
	})
	work.Go(func() {
		for ctx.Err() == nil {
			c.put(co, "x", c.key(1, "other"), c.key(2, "other"))
			writes.Add(1)
		}
	})
	for round := range 8 {
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
		write(t, tx, fmt.Sprint(round), keys...)
		require.NoError(t, tx.Commit(context.Background()))
	}
	require.Eventually(t, func() bool { return reads.Load() > 3 && writes.Load() > 3 }, time.Minute, time.Millisecond)
	stop()
	work.Wait()
	c.wantAll(co, "7", keys)
}

// H9 (c): a chunk that never arrived, though the gateway believes so, keeps the
// transaction from committing anywhere, and nothing of it stays.
func TestLostChunkAborts(t *testing.T) {
	c := newCluster(t)
	router := &losing{Router: c.node.Router()}
	co := c.stagingCoordinator(router, c.node.Gateway())
	keys := c.manyKeys(40)
	c.put(co, "before", keys...)
	router.lose.Store(true)
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	write(t, tx, "after", keys...)
	requireCode(t, txn.Conflict, tx.Commit(context.Background()))
	router.lose.Store(false)
	c.wantNothingStaged()
	c.wantAll(co, "before", keys)
	c.put(co, "again", keys...) // the locks are free
	c.wantAll(co, "again", keys)
}

// losing takes the second chunk of shard 2 and keeps it.
type losing struct {
	txn.Router
	lose atomic.Bool
}

func (r *losing) Stage(ctx context.Context, s shard.ID, q *shard.StageRequest) error {
	if r.lose.Load() && s == 2 && q.Chunk == 1 {
		return nil
	}
	return r.Router.Stage(ctx, s, q)
}

// A transaction that is refused or interrupted while it stages leaves nothing:
// no row, no lock, no chunk.
func TestLargeTransactionThatFailsLeavesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		code txn.Code
		fail func(stop context.CancelFunc) error
	}{
		"locks lost": {txn.LockLost, func(context.CancelFunc) error { return &shard.Error{Code: shard.LockLost, Shard: 2} }},
		"killed":     {txn.Interrupted, func(stop context.CancelFunc) error { stop(); return context.Canceled }},
		"too large":  {txn.TooLarge, func(context.CancelFunc) error { return &shard.Error{Code: shard.TooLarge, Shard: 2} }},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			router := &intercepted{Router: c.node.Router()}
			co := c.stagingCoordinator(router, c.node.Gateway())
			keys := c.manyKeys(40)
			c.put(co, "before", keys...)
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			var second atomic.Int64
			router.set(func(m message) error {
				if m.kind == "stage" && m.shard == 2 && second.Add(1) == 3 {
					return test.fail(stop)
				}
				return nil
			}, nil)
			tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
			write(t, tx, "after", keys...)
			requireCode(t, test.code, tx.Commit(ctx))
			router.set(nil, nil)
			c.wantNothingStaged()
			c.wantAll(co, "before", keys)
			c.put(co, "again", keys...)
		})
	}
}

// A shard that does not answer gets its chunk again, and keeps one copy.
func TestChunksAreSentAgain(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.stagingCoordinator(router, c.node.Gateway())
	var n atomic.Int64
	router.set(nil, func(m message) error {
		if m.kind == "stage" && n.Add(1)%2 == 1 {
			return &shard.Error{Code: shard.Unavailable, Shard: m.shard}
		}
		return nil
	})
	keys := c.manyKeys(30)
	c.put(co, "v", keys...)
	router.set(nil, nil)
	require.Greater(t, n.Load(), int64(testShards))
	c.wantAll(co, "v", keys)
}

// A coordinator that vanishes with its chunks staged and some votes cast is
// finished by whoever finds it, everywhere alike.
func TestRecoveryOfALargeTransaction(t *testing.T) {
	for _, all := range []bool{true, false} {
		t.Run(fmt.Sprint("every vote was cast: ", all), func(t *testing.T) {
			c := newCluster(t)
			router := &intercepted{Router: c.node.Router()}
			dead := c.stagingCoordinator(router, c.node.Gateway()+1)
			alive := c.stagingCoordinator(c.node.Router(), c.node.Gateway())
			keys := c.manyKeys(40)
			c.put(alive, "before", keys...)
			gone := &shard.Error{Code: shard.Unknown, Detail: "the coordinator is dead"}
			var asked atomic.Int64
			router.set(func(m message) error {
				if m.kind == "prepare" {
					asked.Add(1)
				}
				if m.kind == "close" || m.kind == "resolve" || m.kind == "release" || m.kind == "prepare" && m.shard == 2 && !all {
					return gone
				}
				return nil
			}, func(m message) error {
				if m.kind == "prepare" {
					return gone
				}
				return nil
			})
			tx := dead.Begin(txn.Options{Isolation: txn.RepeatableRead})
			write(t, tx, "after", keys...)
			ended := make(chan error, 1)
			go func() { ended <- tx.Commit(context.Background()) }()
			require.Eventually(t, func() bool { return asked.Load() == testShards }, time.Minute, time.Millisecond)
			want := "before"
			if all {
				want = "after"
			}
			require.Eventually(t, func() bool { return c.read(alive, keys[0])[0] == want && c.read(alive, keys[39])[0] == want },
				30*time.Second, 10*time.Millisecond)
			c.wantNothingStaged()
			c.wantAll(alive, want, keys)
			router.set(nil, nil)
			err := <-ended
			if all {
				require.NoError(t, err)
			} else {
				requireCode(t, txn.Conflict, err)
			}
		})
	}
}
