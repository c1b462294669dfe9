package sqlfront

import "sync"

// A connection's number is that of its node and a count, in the 32 bits that the
// protocol has for it. Nodes 1 to 128 have 24 bits to count with, later ones 15:
//
//	0 nnnnnnn cccccccccccccccccccccccc   node n + 1, n <= 127
//	1 nnnnnnnnnnnnnnnn ccccccccccccccc   node n, n >= 129
//
// so that the first node of a cluster, which may be its only one, counts from 1
// as MySQL does. The format is for ever: KILL finds a connection's node by it.
const (
	fewNodes       = 128
	fewNodesShift  = 24
	manyNodesShift = 15
	manyNodesBit   = 1 << 31
)

// connectionBase is a node's first number, less one, and how many it has.
func connectionBase(node uint64) (base, count uint32) {
	if node <= fewNodes {
		return uint32(max(node, 1)-1) << fewNodesShift, 1<<fewNodesShift - 1
	}
	return manyNodesBit | uint32(node&0xffff)<<manyNodesShift, 1<<manyNodesShift - 1
}

// connectionNode is the node of a connection's number.
func connectionNode(id uint32) uint64 {
	if id&manyNodesBit == 0 {
		return uint64(id>>fewNodesShift) + 1
	}
	return uint64(id>>manyNodesShift) & 0xffff
}

// connectionIDs numbers the connections of a node. A number comes back when all
// others have been used, unless its connection is still there.
type connectionIDs struct {
	base, count uint32

	mu struct {
		sync.Mutex
		last uint32
		live map[uint32]struct{}
	}
}

func newConnectionIDs(node uint64) *connectionIDs {
	ids := &connectionIDs{}
	ids.base, ids.count = connectionBase(node)
	ids.mu.live = map[uint32]struct{}{}
	return ids
}

// take returns a number that no connection has.
func (c *connectionIDs) take() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range c.count {
		c.mu.last = c.mu.last%c.count + 1
		id := c.base | c.mu.last
		if _, used := c.mu.live[id]; !used {
			c.mu.live[id] = struct{}{}
			break
		}
	}
	return c.base | c.mu.last
}

// free gives a number back.
func (c *connectionIDs) free(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.live, id)
}
