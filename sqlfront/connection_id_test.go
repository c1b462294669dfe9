package sqlfront

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The numbers of a node tell which node it is, and no other node has them.
func TestConnectionIDs(t *testing.T) {
	for _, c := range []struct {
		node        uint64
		first, last uint32
	}{
		{0, 1, 1<<24 - 1}, // a server without a cluster
		{1, 1, 1<<24 - 1},
		{2, 1<<24 + 1, 2<<24 - 1},
		{128, 127<<24 + 1, 1<<31 - 1},
		{129, 1<<31 + 129<<15 + 1, 1<<31 + 130<<15 - 1},
		{65535, 1<<31 + 65535<<15 + 1, 1<<32 - 1},
	} {
		ids := newConnectionIDs(c.node)
		require.Equal(t, c.first, ids.take(), "node %d", c.node)
		ids.mu.last = ids.count - 1
		require.Equal(t, c.last, ids.take(), "node %d", c.node)
		for _, id := range []uint32{c.first, c.last} {
			require.Equal(t, max(c.node, 1), connectionNode(id))
		}
		require.Equal(t, c.first+1, ids.take(), "the first one is in use")
		ids.free(c.first)
		ids.mu.last = ids.count
		require.Equal(t, c.first, ids.take())
	}
}
