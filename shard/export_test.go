package shard

import (
	"context"

	"github.com/rowlockdb/rowlock/paxos"
)

// DropLapsed runs the sweep for lapsed leases now.
func (n *Node) DropLapsed() { n.dropLapsed(context.Background()) }

// StartAdded asks the node to start a replica.
func (n *Node) StartAdded(s ID, r paxos.ReplicaID) error {
	return n.startAdded(&StartRequest{Shard: s, Replica: r})
}

// Replica returns the number of the replica that runs here, 0 for none.
func (n *Node) Replica(s ID) paxos.ReplicaID {
	if r := n.replica(s); r != nil {
		return r.c.Group.Replica()
	}
	return 0
}

// MayStart reports whether a replica could be started at this moment.
func (n *Node) MayStart() bool {
	if !n.local.starting.TryLock() {
		return false
	}
	defer n.local.starting.Unlock()
	return n.local.open
}

// IsAdvisory reports whether an encoded request is about advisory locks.
func IsAdvisory(request []byte) bool { return method(request[1]) == methodAdvisory }

// IsStart reports whether an encoded request asks a node to start its replica of a shard.
func IsStart(request []byte, s ID) bool {
	var e envelope
	return e.decode(request) == nil && e.method == methodStart && e.shard == s
}

// Registers returns the time that an encoded request to register a node tells, 0 if it
// is another request.
func Registers(request []byte) uint64 {
	var e envelope
	q := &RegisterRequest{}
	if e.decode(request) != nil || e.method != methodRegister || q.Decode(e.body) != nil {
		return 0
	}
	return q.Millis
}

// Reads reports whether an encoded request reads on one shard, or on many.
func Reads(request []byte) (single, many bool) {
	m := method(request[1])
	return m == methodRead, m == methodReadMany
}

// Reduced reports whether an encoded request reduces rows.
func Reduced(request []byte) bool { return method(request[1]) == methodReduce }

// Mislead makes the router believe that a node owns the shard.
func (r *Router) Mislead(s ID, node uint64) { r.directory.Found(s, nodeAddr(node)) }
