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

// Bundled returns how many requests are in an encoded bundle; alone reports another
// request that could be in one.
func Bundled(request []byte) (parts int, alone bool) {
	var e envelope
	b := &bundle{}
	if e.decode(request) != nil || e.method != methodBundle || b.Decode(e.body) != nil {
		return 0, e.method.bundles()
	}
	return len(b.parts), false
}

// ServeBundle has a server carry out a bundle whose requests are the ones given and,
// in front of them, a read and something that is no request.
func ServeBundle(ctx context.Context, s *Server, prepares map[ID]*PrepareRequest, order []ID) (strange []error, votes map[ID]error) {
	b := &bundle{parts: []bundled{{method: methodRead, shard: 1, body: (&ReadRequest{}).AppendBinary(nil)}, {method: methodPrepare, shard: 1, body: []byte("?")}}}
	for _, id := range order {
		b.parts = append(b.parts, bundled{method: methodPrepare, shard: id, body: prepares[id].AppendBinary(nil)})
	}
	e := envelope{method: methodBundle}
	answer := &bundleAnswer{}
	if err := decodeResponse(s.Serve(ctx, b.AppendBinary(e.appendHeader(nil))), answer); err != nil {
		return []error{err}, nil
	}
	votes = make(map[ID]error)
	for i, a := range answer.answers {
		if err := decodeResponse(a, &VoteResponse{}); i < 2 {
			strange = append(strange, err)
		} else {
			votes[order[i-2]] = err
		}
	}
	return strange, votes
}

// Reduced reports whether an encoded request reduces rows.
func Reduced(request []byte) bool { return method(request[1]) == methodReduce }

// Mislead makes the router believe that a node owns the shard.
func (r *Router) Mislead(s ID, node uint64) { r.directory.Found(s, nodeAddr(node)) }
