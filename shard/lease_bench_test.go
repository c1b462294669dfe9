package shard

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/storage"
)

// BenchmarkReadAtTheOwner is a point read at the owner of a shard with three voters
// on three hosts with files: under a lease, and by a barrier each; alone, and beside
// a session that writes.
func BenchmarkReadAtTheOwner(b *testing.B) {
	for _, leases := range []bool{true, false} {
		for _, writes := range []bool{false, true} {
			b.Run(fmt.Sprintf("lease=%t/writes=%t", leases, writes), func(b *testing.B) { benchmarkRead(b, leases, writes) })
		}
	}
}

func benchmarkRead(b *testing.B, leases, writes bool) {
	var last atomic.Uint64
	last.Store(1 << 20)
	times := testTimes{&last}
	network := dragon.NewNetwork()
	var replicas []*Replica
	var hosts []paxos.Host
	var engines []*storage.Engine
	members := map[paxos.ReplicaID]string{}
	for i := range 3 {
		engines = append(engines, newTestEngine(b))
		h, err := dragon.Open(dragon.Options{Dir: filepath.Join(b.TempDir(), "log"), Network: network})
		require.NoError(b, err)
		b.Cleanup(func() { _ = h.Close() })
		hosts, members[paxos.ReplicaID(i+1)] = append(hosts, h), h.ID()
	}
	owner := &watchedGroup{}
	for i, h := range hosts {
		e := engines[i]
		m := NewMachine(e.Space(1), e.Sync, uint64(i+1))
		g, err := h.Start(paxos.GroupSpec{Group: 2, Replica: paxos.ReplicaID(i + 1), Members: members}, m)
		require.NoError(b, err)
		if i == 0 {
			owner.Group = g
			g = owner
		}
		policy := LeasePolicy{}
		if leases {
			policy = newLeasePolicy(0, 0)
		}
		r := NewReplica(ReplicaConfig{Shard: 1, Node: uint64(i + 1), Process: uint64(100 + i), Space: e.Space(1), Machine: m,
			Group: g, Times: times, Lease: policy})
		b.Cleanup(r.Close)
		replicas = append(replicas, r)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := replicas[0]
	require.NoError(b, r.lead(ctx))
	require.NoError(b, r.BecomeOwner(ctx))
	require.True(b, tryPut(ctx, r, times, 1, "x", "1"))
	var stop atomic.Bool
	written := make(chan uint64, 1)
	go func() {
		n := uint64(1)
		for writes && !stop.Load() {
			n++
			tryPut(ctx, r, times, n, "y", "1")
		}
		written <- n
	}()
	asked, proposed := owner.barriers.Load(), r.counters.proposals.Load()
	for b.Loop() {
		at, _ := times.Timestamp(ctx)
		q := ReadRequest{At: at, Keys: []storage.Key{storage.Key("x")}}
		if response, err := r.Read(context.Background(), &q); err != nil || !response.Rows[0].Found {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(owner.barriers.Load()-asked)/float64(b.N), "barriers/op")
	stop.Store(true)
	b.ReportMetric(float64(r.counters.proposals.Load()-proposed-(<-written-1))/float64(b.N), "proposals/op")
}
