package shard_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
)

// A counter ascends over everything: many callers, restarts of its owner, values
// that callers bring along. An exact stop leaves no gap, any other a bounded one.
func TestSequence(t *testing.T) {
	f := newFixture(t, nil)
	ctx := context.Background()
	ask := func(q shard.SequenceRequest) uint64 {
		t.Helper()
		q.ID, q.Start = 7, 10
		v, err := f.node.Router().Sequence(ctx, &q)
		require.NoError(t, err)
		return v
	}
	require.EqualValues(t, 10, ask(shard.SequenceRequest{}), "nothing is taken")
	require.EqualValues(t, 10, ask(shard.SequenceRequest{Count: 3}))
	require.EqualValues(t, 13, ask(shard.SequenceRequest{Count: 1}))
	require.EqualValues(t, 14, ask(shard.SequenceRequest{Least: 5}), "never back")
	require.EqualValues(t, 100, ask(shard.SequenceRequest{Least: 100}))
	require.EqualValues(t, 100, ask(shard.SequenceRequest{Count: 1}))

	var all sync.Map
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			last := uint64(0)
			for range 300 {
				v, err := f.node.Router().Sequence(ctx, &shard.SequenceRequest{ID: 7, Count: 2})
				if err != nil || v <= last {
					t.Errorf("%d after %d: %v", v, last, err)
					return
				}
				last = v
				for i := range uint64(2) {
					if _, twice := all.LoadOrStore(v+i, true); twice {
						t.Errorf("%d twice", v+i)
					}
				}
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 101+8*300*2, ask(shard.SequenceRequest{}))

	f.close()
	f.open()
	after := ask(shard.SequenceRequest{Count: 1})
	require.GreaterOrEqual(t, after, uint64(101+8*300*2))
	require.LessOrEqual(t, after, uint64(101+8*300*2+1000))
	require.EqualValues(t, after+1, ask(shard.SequenceRequest{Exact: true}))
	f.close()
	f.open()
	require.EqualValues(t, after+1, ask(shard.SequenceRequest{Count: 1}))
}
