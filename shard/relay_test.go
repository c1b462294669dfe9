package shard

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each job is done once, whoever waits.
func TestRelayDoesEachJobOnce(t *testing.T) {
	for _, n := range []int{0, 1, 2, 17} {
		done := make([]atomic.Int32, n)
		inRelay(t.Context(), n, func(ctx context.Context, i int) {
			for range i % 3 {
				aboutToWait(ctx)
			}
			done[i].Add(1)
		})
		for i := range done {
			require.EqualValues(t, 1, done[i].Load(), "job %d of %d", i, n)
		}
	}
	aboutToWait(t.Context()) // who is in no relay may say it, too
}

// Jobs that wait hold up none of the others, not even if all wait for the last one.
func TestRelayGoesOnWhereOneWaits(t *testing.T) {
	last := make(chan struct{})
	inRelay(t.Context(), 17, func(ctx context.Context, i int) {
		if i == 16 {
			close(last)
			return
		}
		aboutToWait(ctx)
		<-last
	})
}
