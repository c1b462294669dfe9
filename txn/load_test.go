package txn_test

import (
	"context"
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

// rowsOfTests holds all that the tests of this file write.
var rowsOfTests = []txn.Interval{{Lo: storage.Key("row "), Hi: storage.Key("row!")}}

func loading() txn.Options {
	return txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true, Autocommit: true}
}

// beginLoad starts a transaction that has locked all rows and writes ahead.
func beginLoad(t *testing.T, co *txn.Coordinator) *txn.Txn {
	t.Helper()
	tx := co.Begin(loading())
	tx.BeginStatement(context.Background(), "LOAD DATA")
	empty, err := tx.LockEmpty(context.Background(), rowsOfTests)
	require.NoError(t, err)
	require.True(t, empty)
	require.True(t, tx.WriteAhead())
	return tx
}

func putNew(t *testing.T, tx *txn.Txn, value string, keys ...txn.Key) {
	t.Helper()
	for _, k := range keys {
		require.False(t, tx.Written(k))
		require.NoError(t, tx.PutNew(context.Background(), k, []byte(value), true))
		require.True(t, tx.Written(k))
	}
}

// A statement's rows are on their shards before its COMMIT, and nobody sees any of
// them until then: neither snapshots of before nor of meanwhile. Then everybody
// does, whatever the log does to proposals; deletions of them work, too.
func TestWriteAhead(t *testing.T) {
	for name, f := range map[string]func(c *cluster){"": func(*cluster) {}, "faulty log": func(c *cluster) { c.network.SetFaults(faults) }} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			router := &intercepted{Router: c.node.Router()}
			var stages atomic.Int64
			router.set(func(m message) error {
				if m.kind == "stage" {
					stages.Add(1)
				}
				return nil
			}, nil)
			co := c.stagingCoordinator(router, c.node.Gateway())
			keys := c.manyKeys(300)
			ctx := context.Background()
			f(c)
			old := co.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true})
			_, err := old.Snapshot(ctx)
			require.NoError(t, err)
			tx := beginLoad(t, co)
			putNew(t, tx, "loaded", keys...)
			require.Greater(t, stages.Load(), int64(3*testShards))
			require.Equal(t, len(keys), tx.Writes())
			c.wantAll(co, "", keys)
			require.NoError(t, tx.Commit(ctx))
			c.wantAll(co, "loaded", keys)
			rows, err := old.GetMany(ctx, keys, txn.ReadOptions{})
			require.NoError(t, err)
			for _, r := range rows {
				require.False(t, r.Found, "a snapshot of before")
			}
			require.NoError(t, old.Rollback(ctx))
			c.put(co, "changed", keys...)
			c.wantAll(co, "changed", keys)
			c.network.SetFaults(noFaults)
			require.NoError(t, co.Flush(ctx))
			c.wantNothingStaged()
		})
	}
}

// What does not fill a chunk goes with the votes, and one shard alone decides about
// its rows alone; what is written before the intervals are locked goes along.
func TestWriteAheadOfLittle(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.stagingCoordinator(router, c.node.Gateway())
	router.set(func(m message) error {
		if m.kind == "stage" {
			t.Error("little was staged")
		}
		return nil
	}, nil)
	keys := c.manyKeys(3)
	tx := co.Begin(loading())
	tx.BeginStatement(context.Background(), "LOAD DATA")
	write(t, tx, "v", keys[0], keys[4])
	empty, err := tx.LockEmpty(context.Background(), rowsOfTests)
	require.NoError(t, err)
	require.True(t, empty, "own writes are no rows")
	require.True(t, tx.WriteAhead())
	require.True(t, tx.Written(keys[0]))
	putNew(t, tx, "v", keys[1], keys[2], keys[3])
	putNew(t, tx, "v", keys[5:]...)
	require.NoError(t, tx.Commit(context.Background()))
	c.wantAll(co, "v", keys)
}

// The intervals are locked only where they are empty and nobody is in the way; the
// rows that a transaction's snapshot must not see changed count as somebody.
func TestLockEmpty(t *testing.T) {
	ctx := context.Background()
	lockEmpty := func(t *testing.T, tx *txn.Txn) bool {
		empty, err := tx.LockEmpty(ctx, rowsOfTests)
		require.NoError(t, err)
		return empty
	}
	t.Run("a row", func(t *testing.T) {
		c := newCluster(t)
		co := c.coordinator(nil)
		c.put(co, "there", c.key(2, "row 7"))
		tx := co.Begin(loading())
		require.False(t, lockEmpty(t, tx))
		c.put(co, "others are not kept away", c.key(2, "row 7"), c.key(1, "row 1"))
		require.NoError(t, tx.Rollback(ctx))
	})
	t.Run("a row that came after the look", func(t *testing.T) {
		c := newCluster(t)
		router := &intercepted{Router: c.node.Router()}
		co, other := c.gateway(router, c.node.Gateway()), c.coordinator(nil)
		var once sync.Once
		router.set(func(m message) error {
			if m.kind == "lock" {
				once.Do(func() { c.put(other, "late", c.key(2, "row 7")) })
			}
			return nil
		}, nil)
		tx := co.Begin(loading())
		require.False(t, lockEmpty(t, tx))
		require.NoError(t, tx.Rollback(ctx))
	})
	t.Run("a locked key", func(t *testing.T) {
		c := newCluster(t)
		co := c.coordinator(nil)
		other := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
		write(t, other, "x", c.key(3, "row 1"))
		tx := co.Begin(loading())
		require.False(t, lockEmpty(t, tx))
		require.NoError(t, tx.Rollback(ctx))
		require.NoError(t, other.Commit(ctx))
	})
	t.Run("changed after the snapshot", func(t *testing.T) {
		c := newCluster(t)
		co := c.coordinator(nil)
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true})
		_, err := tx.Snapshot(ctx)
		require.NoError(t, err)
		c.put(co, "x", c.key(2, "row 7"))
		gone := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
		write(t, gone, "", c.key(2, "row 7"))
		require.NoError(t, gone.Delete(c.key(2, "row 7")))
		require.NoError(t, gone.Commit(ctx))
		require.False(t, lockEmpty(t, tx))
		require.NoError(t, tx.Rollback(ctx))
	})
	t.Run("empty", func(t *testing.T) {
		c := newCluster(t)
		co := c.coordinator(nil)
		tx := co.Begin(loading())
		require.True(t, lockEmpty(t, tx))
		other := co.Begin(txn.Options{Isolation: txn.ReadCommitted})
		_, err := other.Get(ctx, c.key(3, "row 5"), txn.ReadOptions{Lock: txn.LockExclusive, Wait: txn.NoWait})
		requireCode(t, txn.WouldBlock, err)
		_, err = other.Get(ctx, c.key(3, "other"), txn.ReadOptions{Lock: txn.LockExclusive, Wait: txn.NoWait})
		require.NoError(t, err)
		require.NoError(t, other.Rollback(ctx))
		require.False(t, lockEmpty(t, co.Begin(loading())), "two at once")
		require.NoError(t, tx.Rollback(ctx))
		require.True(t, lockEmpty(t, co.Begin(loading())))
	})
}

// Who does not get all of the intervals keeps nobody away but from what it had locked
// before: keys in them, and an interval with the same bounds.
func TestLockEmptyGivesBack(t *testing.T) {
	ctx := context.Background()
	repeatable := txn.Options{Isolation: txn.RepeatableRead}
	setup := func(t *testing.T) (c *cluster, router *intercepted, tx *txn.Txn, free func(txn.Key) bool) {
		c = newCluster(t)
		router = &intercepted{Router: c.node.Router()}
		co := c.gateway(router, c.node.Gateway())
		free = func(k txn.Key) bool {
			other := co.Begin(repeatable)
			_, err := other.Get(ctx, k, txn.ReadOptions{Lock: txn.LockExclusive, Wait: txn.NoWait})
			if err != nil {
				requireCode(t, txn.WouldBlock, err)
			}
			require.NoError(t, other.Rollback(ctx))
			return err == nil
		}
		return c, router, co.Begin(repeatable), free
	}
	refused := func(m message) error {
		if m.kind == "lock" && m.shard == 3 {
			return &shard.Error{Code: shard.WouldBlock, Shard: 3}
		}
		return nil
	}
	lockEmpty := func(t *testing.T, tx *txn.Txn, want bool) {
		empty, err := tx.LockEmpty(ctx, rowsOfTests)
		require.NoError(t, err)
		require.Equal(t, want, empty)
	}
	t.Run("keys", func(t *testing.T) {
		c, router, tx, free := setup(t)
		mine := []txn.Key{c.key(1, "row 1"), c.key(2, "row 2")}
		write(t, tx, "v", mine...)
		router.set(refused, nil)
		lockEmpty(t, tx, false)
		router.set(nil, nil)
		for s := shard.ID(1); s <= testShards; s++ {
			require.True(t, free(c.key(s, "row 5")), "shard %d", s)
		}
		require.False(t, free(mine[0]))
		require.False(t, free(mine[1]))
		write(t, tx, "v", c.key(3, "row 3"))
		require.NoError(t, tx.Commit(ctx))
		require.Equal(t, []string{"v", "v", "v"}, c.read(c.coordinator(nil), mine[0], mine[1], c.key(3, "row 3")))
	})
	t.Run("an interval", func(t *testing.T) {
		c, router, tx, free := setup(t)
		lockEmpty(t, tx, true)
		router.set(refused, nil)
		lockEmpty(t, tx, false)
		router.set(nil, nil)
		for s := shard.ID(1); s <= testShards; s++ {
			require.False(t, free(c.key(s, "row 5")), "shard %d", s)
		}
		require.NoError(t, tx.Rollback(ctx))
		require.True(t, free(c.key(1, "row 5")))
	})
	t.Run("without an answer", func(t *testing.T) {
		c, router, tx, free := setup(t)
		router.set(func(m message) error {
			if m.kind == "release" {
				return &shard.Error{Code: shard.Unavailable, Shard: m.shard}
			}
			return refused(m)
		}, nil)
		_, err := tx.LockEmpty(ctx, rowsOfTests)
		requireCode(t, txn.LockLost, err)
		router.set(nil, nil)
		require.NoError(t, tx.Rollback(ctx))
		require.Eventually(t, func() bool { return free(c.key(1, "row 5")) }, time.Minute, time.Millisecond)
	})
}

// Of many that ask at once at most one gets the intervals, and none fails.
func TestLockEmptyAtOnce(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	for range 10 {
		var got atomic.Int64
		var work sync.WaitGroup
		txns := make([]*txn.Txn, 4)
		for i := range txns {
			work.Go(func() {
				txns[i] = co.Begin(loading())
				empty, err := txns[i].LockEmpty(context.Background(), rowsOfTests)
				if err != nil {
					t.Errorf("%v", err)
				}
				if empty {
					got.Add(1)
				}
			})
		}
		work.Wait()
		require.LessOrEqual(t, got.Load(), int64(1))
		for _, tx := range txns {
			require.NoError(t, tx.Rollback(context.Background()))
		}
	}
}

// Rows go ahead only where nobody can ask for them or take them back.
func TestWriteAheadIsForOneStatement(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	ctx := context.Background()
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	require.False(t, tx.WriteAhead(), "inside BEGIN and COMMIT")
	empty, err := tx.LockEmpty(ctx, rowsOfTests)
	require.NoError(t, err)
	require.True(t, empty)
	before := tx.Savepoint()
	putNew(t, tx, "v", c.key(1, "row 1"), c.key(2, "row 2"))
	tx.RollbackTo(before)
	putNew(t, tx, "w", c.key(2, "row 2"))
	row, err := tx.Get(ctx, c.key(2, "row 2"), txn.ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, "w", string(row.Value))
	require.NoError(t, tx.Commit(ctx))
	require.Equal(t, []string{"", "w"}, c.read(co, c.key(1, "row 1"), c.key(2, "row 2")))

	second := co.Begin(loading())
	second.BeginStatement(ctx, "SELECT")
	second.BeginStatement(ctx, "LOAD DATA")
	require.False(t, second.WriteAhead(), "the second statement")
	require.NoError(t, second.Rollback(ctx))
}

// However a load ends that does not commit, nothing of it stays: no row, no lock,
// no chunk.
func TestLoadThatFailsLeavesNothing(t *testing.T) {
	ctx := context.Background()
	load := func(tx *txn.Txn, keys []txn.Key) error {
		for _, k := range keys {
			if err := tx.PutNew(ctx, k, []byte("after"), true); err != nil {
				return err
			}
		}
		return tx.Commit(ctx)
	}
	failing := func(code txn.Code, err error) func(*testing.T, *cluster, *intercepted, *txn.Txn, []txn.Key) {
		return func(t *testing.T, _ *cluster, r *intercepted, tx *txn.Txn, keys []txn.Key) {
			var n atomic.Int64
			r.set(func(m message) error {
				if m.kind == "stage" && m.shard == 2 && n.Add(1) == 2 {
					return err
				}
				return nil
			}, nil)
			requireCode(t, code, load(tx, keys))
			if code == txn.TooLarge {
				requireCode(t, code, tx.Commit(ctx)) // whoever overlooks the error
			}
		}
	}
	for name, fail := range map[string]func(*testing.T, *cluster, *intercepted, *txn.Txn, []txn.Key){
		"rollback": func(t *testing.T, _ *cluster, _ *intercepted, tx *txn.Txn, keys []txn.Key) {
			putNew(t, tx, "after", keys...)
		},
		"statement undone": func(t *testing.T, _ *cluster, _ *intercepted, tx *txn.Txn, keys []txn.Key) {
			begun := tx.Savepoint()
			putNew(t, tx, "after", keys[:50]...)
			row := tx.Savepoint()
			tx.RollbackTo(row) // nothing since
			require.NoError(t, tx.Aborted())
			putNew(t, tx, "after", keys[50:]...)
			tx.RollbackTo(begun)
			requireCode(t, txn.Conflict, tx.Aborted())
			requireCode(t, txn.Conflict, tx.Commit(ctx))
		},
		"killed": func(t *testing.T, _ *cluster, _ *intercepted, tx *txn.Txn, keys []txn.Key) {
			putNew(t, tx, "after", keys...)
			ended, cancel := context.WithCancel(ctx)
			cancel()
			requireCode(t, txn.Interrupted, tx.Commit(ended))
		},
		"a chunk is refused":   failing(txn.TooLarge, &shard.Error{Code: shard.TooLarge, Shard: 2}),
		"locks are lost":       failing(txn.LockLost, &shard.Error{Code: shard.LockLost, Shard: 2}),
		"a vote already":       failing(txn.Conflict, &shard.Error{Code: shard.Fenced, Shard: 2}),
		"schema changed":       failing(txn.SchemaChanged, &shard.Error{Code: shard.SchemaChanged, Shard: 2}),
		"the disk is full":     failing(txn.DiskFull, &shard.Error{Code: shard.DiskFull, Shard: 2}),
		"a chunk does not get": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			lost := &losing{Router: c.node.Router()}
			router := &intercepted{Router: lost}
			co := c.stagingCoordinator(router, c.node.Gateway())
			keys := c.manyKeys(60)
			tx := beginLoad(t, co)
			if fail == nil { // through, though the shard has said so
				lost.lose.Store(true)
				requireCode(t, txn.Conflict, load(tx, keys))
				lost.lose.Store(false)
			} else {
				fail(t, c, router, tx, keys)
			}
			router.set(nil, nil)
			require.NoError(t, tx.Rollback(ctx))
			c.wantAll(co, "", keys)
			c.wantNothingStaged()
			again := beginLoad(t, co) // the locks are free
			require.NoError(t, load(again, keys))
			c.wantAll(co, "after", keys)
		})
	}
}

// What a load has in memory is bounded by the limit of any transaction: its keys, also
// those that it does not remember, for the owners keep them while they vote. What it
// writes is bounded by its session's limit only.
func TestLoadIsBoundedByItsKeys(t *testing.T) {
	c := newCluster(t)
	co := txn.New(txn.Config{Router: c.node.Router(), Gateway: c.node.Gateway(), Logger: c.logger, ChunkBytes: 4000, MaxBytes: 4000})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = co.Close(ctx)
	})
	ctx := context.Background()
	value := make([]byte, 500)
	keys := c.manyKeys(30)
	begin := func(limit int64) *txn.Txn {
		o := loading()
		o.MaxBytes = limit
		tx := co.Begin(o)
		empty, err := tx.LockEmpty(ctx, rowsOfTests)
		require.NoError(t, err)
		require.True(t, empty)
		require.True(t, tx.WriteAhead())
		return tx
	}
	for _, remember := range []bool{true, false} {
		tx := begin(0)
		for _, k := range keys {
			require.NoError(t, tx.PutNew(ctx, k, value, remember)) // 45,000 bytes
		}
		var err error
		n := 0
		for ; err == nil && n < 1000; n++ {
			err = tx.PutNew(ctx, c.key(1, fmt.Sprintf("row more %d", n)), value, remember)
		}
		requireCode(t, txn.TooLarge, err)
		require.Less(t, n, 100)
		require.NoError(t, tx.Rollback(ctx))

		tx = begin(8000)
		n, err = 0, nil
		for ; err == nil && n < len(keys); n++ {
			err = tx.PutNew(ctx, keys[n], value, remember)
		}
		requireCode(t, txn.TooLarge, err)
		require.Greater(t, n, 10)
		require.Less(t, n, 16)
		require.NoError(t, tx.Rollback(ctx))
	}

	tx := begin(0)
	requireCode(t, txn.TooLarge, tx.PutNew(ctx, keys[0], make([]byte, 65<<20), true))
	require.NoError(t, tx.Rollback(ctx))
	c.wantNothingStaged()
}

// After a crash in the middle nobody sees a row of it, and the rows can be written.
func TestCrashDuringALoad(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.stagingCoordinator(router, c.node.Gateway())
	keys := c.manyKeys(60)
	putNew(t, beginLoad(t, co), "after", keys...)
	gone := &shard.Error{Code: shard.Unknown, Detail: "the coordinator is dead"}
	router.set(func(message) error { return gone }, nil)
	c.stop()
	c.start()
	alive := c.stagingCoordinator(c.node.Router(), c.node.Gateway())
	c.wantAll(alive, "", keys)
	tx := beginLoad(t, alive)
	putNew(t, tx, "again", keys...)
	require.NoError(t, tx.Commit(context.Background()))
	c.wantAll(alive, "again", keys)
}

// The owner of a shard changes in the middle: a planned change goes unnoticed, a
// lost owner costs the whole load.
func TestLoadOverAChangeOfOwner(t *testing.T) {
	for name, planned := range map[string]bool{"handed over": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			w := newTrio(t)
			co := txn.New(txn.Config{Router: w, Gateway: 1 << 48, StageBytes: 1000, ChunkBytes: 600, MaxBytes: 1 << 20})
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				_ = co.Close(ctx)
			})
			ctx := w.ctx()
			tx := beginLoad(t, co)
			var keys []txn.Key
			var err error
			for i := 0; i < 200 && err == nil; i++ {
				if i == 100 {
					if planned {
						w.handOver(1)
					} else {
						w.crash(1)
					}
				}
				keys = append(keys, w.on(shard.ID(1+i%2), fmt.Sprintf("row %04d", i)))
				err = tx.PutNew(ctx, keys[i], []byte("loaded"), true)
			}
			if err == nil {
				err = tx.Commit(ctx)
			}
			want := 0
			if planned {
				require.NoError(t, err)
				want = len(keys)
			} else {
				require.Contains(t, []txn.Code{txn.LockLost, txn.Conflict}, codeOf(err), "%v", err)
			}
			reader := co.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true})
			rows, err := reader.GetMany(ctx, keys, txn.ReadOptions{})
			require.NoError(t, err)
			found := 0
			for _, r := range rows {
				if r.Found {
					found++
				}
			}
			require.Equal(t, want, found)
			require.NoError(t, reader.Rollback(ctx))
		})
	}
}

// A restart between the votes of a load and their resolution: its rows are there, all
// of them, and as long as they are not resolved nobody gets at their keys.
func TestRestartAfterTheVotesOfALoad(t *testing.T) {
	c := newCluster(t)
	router := &intercepted{Router: c.node.Router()}
	co := c.stagingCoordinator(router, c.node.Gateway())
	keys := c.manyKeys(60)
	tx := beginLoad(t, co)
	putNew(t, tx, "loaded", keys...)
	gone := &shard.Error{Code: shard.Unknown, Detail: "the coordinator is dead"}
	router.set(func(m message) error {
		if m.kind == "resolve" || m.kind == "release" {
			return gone
		}
		return nil
	}, nil)
	require.NoError(t, tx.Commit(context.Background()))
	router.set(func(message) error { return gone }, nil)
	c.stop()
	c.start()
	alive := c.stagingCoordinator(c.node.Router(), c.node.Gateway())
	other := alive.Begin(txn.Options{Isolation: txn.ReadCommitted, LockWait: time.Minute})
	rows, err := other.GetMany(context.Background(), keys, txn.ReadOptions{Lock: txn.LockExclusive})
	require.NoError(t, err)
	for _, r := range rows {
		require.Equal(t, "loaded", string(r.Value))
	}
	require.NoError(t, other.Rollback(context.Background()))
	c.put(alive, "again", keys...)
	c.wantAll(alive, "again", keys)
}
