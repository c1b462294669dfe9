package txn_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// The figures are those of the code above the log: log and disk are in memory
// and local calls are not encoded.
func benchCluster(b *testing.B) (*cluster, *txn.Coordinator) {
	return benchClusterOf(b, testShards)
}

func benchClusterOf(b *testing.B, shards int) (*cluster, *txn.Coordinator) {
	c := &cluster{t: b, network: memory.NewNetwork(1), fs: vfs.NewMem(), direct: true, shards: shards}
	c.start()
	b.Cleanup(c.stop)
	return c, c.coordinator(nil)
}

func BenchmarkPointRead(b *testing.B) {
	c, co := benchCluster(b)
	ctx := context.Background()
	k := c.key(1, "k")
	c.put(co, "some hundred bytes of a row", k)
	b.ReportAllocs()
	for b.Loop() {
		tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, Autocommit: true})
		if _, err := tx.Get(ctx, k, txn.ReadOptions{}); err != nil {
			b.Fatal(err)
		}
		_ = tx.Commit(ctx)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for n := 1; n <= testShards; n++ {
		b.Run(fmt.Sprintf("shards=%d", n), func(b *testing.B) {
			c, co := benchCluster(b)
			ctx := context.Background()
			// Many rows, so that no transaction waits for the one before it to be
			// resolved, nor reads over the intents that it left behind.
			rows := make([][]txn.Key, 1000)
			for i := range rows {
				for s := 1; s <= n; s++ {
					rows[i] = append(rows[i], c.key(shard.ID(s), fmt.Sprint("k", i)))
				}
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				keys := rows[i%len(rows)]
				tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, Autocommit: true})
				_, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive})
				for _, k := range keys {
					_ = tx.Put(k, []byte("value"))
				}
				if err == nil {
					err = tx.Commit(ctx)
				}
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	c, co := benchCluster(b)
	ctx := context.Background()
	const rows = 30000
	for i := 0; i < rows; i += 1000 {
		var keys []txn.Key
		for j := i; j < i+1000; j++ {
			keys = append(keys, c.key(shard.ID(1+j%testShards), fmt.Sprintf("row %08d", j)))
		}
		c.put(co, "some hundred bytes of a row, or so one would think when reading this line", keys...)
	}
	require.NoError(b, co.Flush(ctx))
	for name, where := range map[string]txn.Where{"all": txn.AllShards, "one": txn.OneShard(c.tokens[1])} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true})
				got, err := drain(ctx, tx, txn.Scan{Lo: storage.Key("row"), Where: where})
				require.NoError(b, err)
				n += len(got)
				_ = tx.Commit(ctx)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
		})
	}
}

// BenchmarkShort reads little of many shards inside a transaction, as statements over
// a range of keys or a list of them do.
func BenchmarkShort(b *testing.B) {
	const rows, shards, length = 20_000, 16, 100
	c, co := benchClusterOf(b, shards)
	ctx := context.Background()
	id := func(i int) storage.Key { return fmt.Appendf(nil, "row %08d", i) }
	key := func(i int) txn.Key { return txn.At(ring.TokenOf(id(i)), id(i)) }
	for i := 0; i < rows; i += 1000 {
		var keys []txn.Key
		for j := i; j < i+1000; j++ {
			keys = append(keys, key(j))
		}
		c.put(co, strings.Repeat("a row of sysbench", 11), keys...)
	}
	require.NoError(b, co.Flush(ctx))
	run := func(name string, read func(tx *txn.Txn, from int)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
			for i := 0; b.Loop(); i++ {
				read(tx, i*7919%(rows-length))
			}
			require.NoError(b, tx.Rollback(ctx))
		})
	}
	run("range", func(tx *txn.Txn, from int) {
		got, err := drain(ctx, tx, txn.Scan{Lo: id(from), Hi: id(from + length), Where: txn.AllShards})
		require.NoError(b, err)
		require.Len(b, got, length)
	})
	run("keys", func(tx *txn.Txn, from int) {
		keys := make([]txn.Key, 10)
		for i := range keys {
			keys[i] = key(from + i)
		}
		_, err := tx.GetMany(ctx, keys, txn.ReadOptions{})
		require.NoError(b, err)
	})
	run("key", func(tx *txn.Txn, from int) {
		_, err := tx.GetMany(ctx, []txn.Key{key(from)}, txn.ReadOptions{})
		require.NoError(b, err)
	})
	run("lock", func(tx *txn.Txn, from int) {
		_, err := tx.GetMany(ctx, []txn.Key{key(from)}, txn.ReadOptions{Lock: txn.LockExclusive})
		require.NoError(b, err)
	})
}
