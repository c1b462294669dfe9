package shard

// ShardStatus is one line of the shard view, as this node sees it.
type ShardStatus struct {
	Shard ID
	// Owner is the node id in the shard's owner register; Serving says that it
	// is this node and that it answers requests.
	Owner   uint64
	Serving bool
	Epoch   uint64
	// TokenShare is the part of the ring, 0 to 1; 0 for the system shard.
	TokenShare float64
	Bytes      uint64 // estimate of what the shard's replica occupies on disk
	Applied    uint64 // index of the last log entry applied
	// Since the node was opened: read requests, proposals, transactions
	// committed here, and lock requests that had to wait.
	Reads, Proposals, Commits, LockWaits uint64
	// Undecided is the number of PREPARED votes, Locks that of locks held.
	Undecided, Locks int
}

// Status describes every shard of the node, the system shard first.
func (n *Node) Status() []ShardStatus {
	var all []ShardStatus
	for _, s := range n.router.allShards() {
		r := n.replica(s)
		if r == nil {
			continue
		}
		status := r.Status()
		if s != System {
			status.TokenShare = n.ring.Share(s)
		}
		all = append(all, status)
	}
	return all
}

// Status describes the replica; TokenShare is not its business.
func (r *Replica) Status() ShardStatus {
	epoch, node, _, _ := r.c.Machine.Owner()
	s := ShardStatus{Shard: r.c.Shard, Owner: node, Epoch: epoch, Applied: uint64(r.c.Group.Applied()),
		Reads: r.counters.reads.Load(), Proposals: r.counters.proposals.Load(),
		Commits: r.counters.commits.Load(), LockWaits: r.counters.lockWaits.Load()}
	// An estimate that cannot be had is shown as 0.
	s.Bytes, _ = r.c.Space.Size()
	if t := r.serving.Load(); t != nil {
		s.Serving = true
		s.Locks = len(t.table.All())
		t.mu.Lock()
		s.Undecided = len(t.mu.voted)
		t.mu.Unlock()
	}
	return s
}
