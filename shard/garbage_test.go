package shard

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// What was written before a collection's timestamp is collected not later than one
// retention after it could be, however often its key is written meanwhile; a key is
// looked at once for each write at most; and nothing is left when the writes end.
func TestGarbageOfKeysWrittenAllTheTime(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const retention = 10
	var g garbage
	written := map[string][]storage.Timestamp{}      // by key, in order
	collected := map[string]storage.Timestamp{}      // by key: all writes up to it were seen
	looks := map[string]int{}                        // by key
	often := map[string]int{"a": 1, "b": 3, "c": 25} // a key is written about every so many ticks
	for now := storage.Timestamp(1); now < 400; now++ {
		for k, pause := range often {
			if now < 300 && r.IntN(pause) == 0 {
				g.note([]storage.Key{storage.Key(k)}, now)
				written[k] = append(written[k], now)
			}
		}
		if now <= retention {
			continue
		}
		below := now - retention
		walk, keys := g.take(below)
		require.False(t, walk)
		require.True(t, slices.IsSortedFunc(keys, func(a, b storage.Key) int { return slices.Compare(a, b) }))
		for _, k := range keys {
			looks[string(k)]++
			collected[string(k)] = below
		}
		for k := range often {
			for _, at := range written[k] {
				require.False(t, at > collected[k] && at+retention <= below, "%s, written at %d, is not collected at %d", k, at, below)
			}
			require.LessOrEqual(t, looks[k], len(written[k]), k)
		}
	}
	require.Empty(t, g.dirty)
}
