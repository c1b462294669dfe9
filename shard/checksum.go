package shard

import "fmt"

// ReplicaSum is the state of one replica in a number: replicas of one shard that
// have applied the same entries have the same.
type ReplicaSum struct {
	Shard   ID
	Replica uint64 // its id inside the group
	Applied uint64 // index of the last entry in the state
	Sum     uint64
}

// Checksum reads everything that the replica stores.
func (r *Replica) Checksum() (ReplicaSum, error) {
	s := ReplicaSum{Shard: r.c.Shard, Replica: uint64(r.c.Group.Replica())}
	shared := r.sharesLog()
	snap := r.c.Space.Snapshot()
	defer snap.Close()
	applied, _, err := snap.Applied()
	if err == nil {
		// Where it shares its log the shard's own record says nothing; nobody has another
		// replica to compare with.
		if s.Applied = applied.Index; shared {
			s.Applied = uint64(r.c.Group.Applied())
		}
		s.Sum, err = snap.Checksum()
	}
	if err != nil {
		return s, fmt.Errorf("checksum of shard %d: %w", r.c.Shard, err)
	}
	return s, nil
}

// sharesLog reports whether the shard is in a trunk.
func (r *Replica) sharesLog() bool {
	c, ok := r.c.Group.(carried)
	return ok && c.sharedLog() != nil
}

// Checksums are those of this node's replicas, the system shard first.
func (n *Node) Checksums() ([]ReplicaSum, error) {
	var all []ReplicaSum
	for _, r := range n.local.all() {
		s, err := r.Checksum()
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}
