package ring

// NodeID names a node of the cluster. 0 is no node.
type NodeID uint64

// Node is a place for replicas.
type Node struct {
	ID NodeID
	// Zone is a failure domain: nodes that may fail together share it.
	Zone string
	// Capacity is the node's weight relative to the others; 0 counts as 1.
	Capacity float64
}

// Placement lists the nodes of each shard's replicas; the first one is the preferred owner.
type Placement map[ShardID][]NodeID

// Move is one replica's move: Add gets a replica of the shard, Remove gives its own up. Either may
// be 0 when the number of replicas changes.
type Move struct {
	Shard       ShardID
	Add, Remove NodeID
}

// Place spreads rf replicas of every shard over the nodes.
func Place(shards []ShardID, nodes []Node, rf int, previous Placement) (Placement, error) {
	panic("not written yet")
}

// Moves lists what turns one placement into another.
func Moves(old, new Placement) []Move { panic("not written yet") }
