package shard

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Background work begins or is refused, and Close waits for what has begun.
func TestCloseAgainstBackgroundWork(t *testing.T) {
	for range 50 {
		r := NewReplica(ReplicaConfig{Shard: 1})
		var begun, ended atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for r.background(func() { <-r.life.Done(); ended.Add(1) }) {
					begun.Add(1)
				}
			})
		}
		r.Close()
		seen := ended.Load()
		wg.Wait()
		require.Equal(t, begun.Load(), ended.Load())
		require.Equal(t, seen, ended.Load(), "nothing ends after Close")
	}
}
