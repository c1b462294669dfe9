package shard

import "context"

// DropLapsed runs the sweep for lapsed leases now.
func (n *Node) DropLapsed() { n.dropLapsed(context.Background()) }
