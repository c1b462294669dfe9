package txn

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A keySet says of every key what a map says.
func TestKeySet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s keySet
	known := map[string]bool{}
	for range 20000 {
		k := binary.AppendUvarint(nil, r.Uint64N(12000))
		k = append(k, make([]byte, r.IntN(3)*100)...)
		require.Equal(t, known[string(k)], s.has(k))
		if !known[string(k)] {
			known[string(k)] = true
			require.True(t, s.add(k))
		}
	}
	require.Equal(t, len(known), s.n)
	for k := range known {
		require.True(t, s.has([]byte(k)))
	}
}
