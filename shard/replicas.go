package shard

import "github.com/rowlockdb/rowlock/paxos"

// ReplicaStatus is one replica of this node.
type ReplicaStatus struct {
	Shard   ID
	Replica paxos.ReplicaID
	Role    string // owner, voter, learner, or unknown
	Applied uint64
}

// Replicas lists the replicas that run on this node.
func (n *Node) Replicas() []ReplicaStatus {
	var all []ReplicaStatus
	state := n.state.Load()
	for _, r := range n.local.all() {
		s := ReplicaStatus{Shard: r.c.Shard, Replica: r.c.Group.Replica(), Role: "unknown", Applied: uint64(r.c.Group.Applied())}
		p, _ := state.Place(r.c.Shard)
		for _, seat := range p.Voters {
			if seat.Replica == s.Replica {
				s.Role = "voter"
			}
		}
		for _, seat := range p.Learners {
			if seat.Replica == s.Replica {
				s.Role = "learner"
			}
		}
		if r.serving.Load() != nil {
			s.Role = "owner"
		}
		all = append(all, s)
	}
	return all
}
