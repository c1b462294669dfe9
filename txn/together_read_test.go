package txn_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// gathered counts the requests for rows, and may change what many came to.
type gathered struct {
	txn.Router
	single, many atomic.Int32
	each         bool // ask for each by itself
	after        func([]shard.ShardRead)
}

func (g *gathered) Read(ctx context.Context, s shard.ID, q *shard.ReadRequest) (*shard.ReadResponse, error) {
	g.single.Add(1)
	return g.Router.Read(ctx, s, q)
}

func (g *gathered) ReadMany(ctx context.Context, reads []shard.ShardRead) {
	g.many.Add(1)
	if g.each {
		txn.ReadEach(ctx, g.Router, reads)
		return
	}
	g.Router.ReadMany(ctx, reads)
	if g.after != nil {
		g.after(reads)
	}
}

// all reads everything in order, and the same rows by their keys.
func all(t *testing.T, co *txn.Coordinator, keys []txn.Key, reverse bool) (scanned, got []string) {
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	defer func() { require.NoError(t, tx.Rollback(context.Background())) }()
	_, err := tx.Get(t.Context(), keys[3], txn.ReadOptions{Lock: txn.LockExclusive})
	require.NoError(t, err)
	require.NoError(t, tx.Put(keys[3], []byte("own")))
	c, err := tx.Scan(t.Context(), txn.Scan{Lo: storage.Key("r"), Hi: storage.Key("s"), Reverse: reverse})
	require.NoError(t, err)
	defer c.Close()
	for {
		row, ok, err := c.Next(t.Context())
		require.NoError(t, err)
		if !ok {
			break
		}
		scanned = append(scanned, fmt.Sprintf("%s=%s", row.Key, row.Value))
	}
	rows, err := tx.GetMany(t.Context(), keys, txn.ReadOptions{})
	require.NoError(t, err)
	for _, row := range rows {
		got = append(got, fmt.Sprintf("%s=%s", row.Key, row.Value))
	}
	return scanned, got
}

// A scan of all shards, and a look at many keys, ask once, and see what single reads
// would.
func TestReadsOfManyShardsGoTogether(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprintf("direct %v", direct), func(t *testing.T) { testReadsTogether(t, direct) })
	}
}

func testReadsTogether(t *testing.T, direct bool) {
	c := &cluster{t: t, network: memory.NewNetwork(1), fs: vfs.NewMem(), direct: direct}
	c.start()
	t.Cleanup(c.stop)
	var keys []txn.Key
	for i := range 600 { // more than a page of each shard
		keys = append(keys, c.key(shard.ID(i%testShards+1), fmt.Sprintf("r%04d", i)))
	}
	c.put(c.coordinator(nil), "v", keys...)
	together, apart := &gathered{Router: c.node.Router()}, &gathered{Router: c.node.Router(), each: true}
	co, single := c.gateway(together, c.node.Gateway()+1), c.gateway(apart, c.node.Gateway()+2)
	for _, reverse := range []bool{false, true} {
		scanned, got := all(t, co, keys, reverse)
		alone, looked := all(t, single, keys, reverse)
		require.Len(t, scanned, len(keys))
		require.Equal(t, alone, scanned)
		require.Equal(t, looked, got)
		require.EqualValues(t, 2, together.many.Swap(0), "one for the first pages, one for the keys")
	}

	// What somebody undecided is in the way of is asked for again, nothing else.
	together.single.Store(0)
	together.after = func(reads []shard.ShardRead) {
		together.after = nil
		reads[1].Response, reads[1].Err = nil, &shard.Error{Code: shard.Undecided, Shard: reads[1].Shard,
			Other: storage.TxnID{Start: 1, Gateway: 1 << 40, Seq: 1}, Participants: []shard.ID{reads[1].Shard}}
	}
	tx := co.Begin(txn.Options{})
	rows, err := tx.GetMany(t.Context(), keys[:8], txn.ReadOptions{})
	require.NoError(t, err)
	for _, row := range rows {
		require.Equal(t, "v", string(row.Value))
	}
	require.EqualValues(t, 1, together.single.Load())

	// Any other error is the statement's.
	together.after = func(reads []shard.ShardRead) {
		reads[1].Response, reads[1].Err = nil, &shard.Error{Code: shard.Unavailable, Shard: reads[1].Shard}
	}
	_, err = tx.GetMany(t.Context(), keys[:8], txn.ReadOptions{})
	require.Equal(t, txn.Unavailable, err.(*txn.Error).Code)
	require.NoError(t, tx.Rollback(t.Context()))
}
