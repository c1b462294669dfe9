package shard

import (
	"errors"
	"fmt"

	"github.com/rowlockdb/rowlock/storage"
)

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
	snap, applied, err := r.appliedSnapshot()
	if err == nil {
		s.Applied = applied
		s.Sum, err = snap.Checksum()
		snap.Close()
	}
	if err != nil {
		return s, fmt.Errorf("checksum of shard %d: %w", r.c.Shard, err)
	}
	return s, nil
}

// appliedTries is how often a snapshot is opened until no batch came between it and the
// look at how far the trunk is.
const appliedTries = 100

// appliedSnapshot opens a snapshot of the shard and returns the index of the last entry in
// it. Where the shard shares its log its own record says nothing: the trunk's does, which
// is in another space and has to be the same before and after.
func (r *Replica) appliedSnapshot() (*storage.Snapshot, uint64, error) {
	log := r.sharesLog()
	if log == nil {
		snap := r.c.Space.Snapshot()
		applied, _, err := snap.Applied()
		return snap, applied.Index, err
	}
	for range appliedTries {
		before, err := log.applied()
		if err != nil {
			return nil, 0, err
		}
		snap := r.c.Space.Snapshot()
		after, err := log.applied()
		if err == nil && after == before {
			return snap, after, nil
		}
		snap.Close()
		if err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, errors.New("the shard changes all the time")
}

// sharesLog returns the log that the shard shares with others, nil if it has its own.
func (r *Replica) sharesLog() sharedLog {
	if c, ok := r.c.Group.(carried); ok {
		return c.sharedLog()
	}
	return nil
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
