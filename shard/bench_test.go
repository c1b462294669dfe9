package shard_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

func direct(c *shard.Config) { c.AlwaysEncode = false }

func BenchmarkTimestamp(b *testing.B) {
	f := newFixture(b, direct)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.node.Router().Timestamp(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPointRead(b *testing.B) {
	f := newFixture(b, direct)
	r := f.node.Router()
	for i := range 1000 {
		f.commit(1, put(fmt.Sprintf("key%06d", i), "some value of a hundred bytes some value of a hundred bytes some value of a hundred bytes 123456789"))
	}
	ctx := context.Background()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		at, err := r.Timestamp(ctx)
		if err != nil {
			b.Fatal(err)
		}
		i++
		q := shard.ReadRequest{At: at, Keys: []storage.Key{storage.Key(fmt.Sprintf("key%06d", i%1000))}}
		if response, err := r.Read(ctx, 1, &q); err != nil || !response.Rows[0].Found {
			b.Fatal(err)
		}
	}
}

// BenchmarkOnePC is a locking read and a commit of one row, on groups in memory.
func BenchmarkOnePC(b *testing.B) {
	benchmarkOnePC(b, newFixture(b, direct).node)
}

func benchmarkOnePC(b *testing.B, node *shard.Node) {
	r := node.Router()
	ctx := context.Background()
	value := make([]byte, 100)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		k := storage.Key(fmt.Sprintf("key%06d", i%1000))
		start, err := r.Timestamp(ctx)
		if err != nil {
			b.Fatal(err)
		}
		id := storage.TxnID{Start: start, Gateway: node.Gateway(), Seq: uint64(i)}
		granted, err := r.Lock(ctx, 1, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: []storage.Key{k}, Read: true})
		if err != nil {
			b.Fatal(err)
		}
		vote, err := r.OnePC(ctx, 1, &shard.OnePCRequest{Txn: id, Token: granted.Token, Writes: []shard.Write{{Key: k, Value: value}}})
		if err != nil || vote.State != storage.VoteCommitted {
			b.Fatal(vote, err)
		}
	}
}
