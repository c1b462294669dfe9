package shard

import "github.com/rowlockdb/rowlock/storage"

// lookup returns the vote register of a transaction. Nearly every command finds
// it empty, and nearly always recentVotes knows that without reading the disk.
func (m *Machine) lookup(id storage.TxnID) (storage.Vote, bool, error) {
	if v, ok := m.pending[id]; ok {
		return v, v.State != storage.VoteNone, nil
	}
	if m.recent.absent(id) {
		return storage.Vote{}, false, nil
	}
	m.mu.Lock()
	p := m.mu.prepared[id]
	m.mu.Unlock()
	if p != nil {
		return p.vote, true, nil
	}
	snap := m.space.Snapshot()
	defer snap.Close()
	return snap.Vote(id)
}

func (m *Machine) putVote(id storage.TxnID, v storage.Vote) {
	m.begin().PutVote(id, v)
	if v.State == storage.VoteCommitted || v.State == storage.VoteAborted {
		m.dropLocks(id)
	}
	m.pending[id] = v
	m.recent.add(id)
}

// recentVotes knows for certain of most transactions that they have no vote
// here: it remembers the last votes written, and the largest start timestamp
// among all that it has forgotten. Where it is not certain it says so; the
// answer never depends on what it happens to remember.
type recentVotes struct {
	known     map[storage.TxnID]struct{}
	ring      []storage.TxnID
	next      int
	forgotten storage.Timestamp
}

// recentVotesKept bounds the memory to under a megabyte a shard.
const recentVotesKept = 8192

func newRecentVotes() recentVotes {
	return recentVotes{known: make(map[storage.TxnID]struct{}, recentVotesKept)}
}

// raise records a vote without remembering it.
func (r *recentVotes) raise(id storage.TxnID) { r.forgotten = max(r.forgotten, id.Start) }

// add remembers a vote and forgets the oldest one beyond the limit.
func (r *recentVotes) add(id storage.TxnID) {
	if _, ok := r.known[id]; ok {
		return
	}
	r.known[id] = struct{}{}
	if len(r.ring) < recentVotesKept {
		r.ring = append(r.ring, id)
		return
	}
	old := r.ring[r.next]
	r.raise(old)
	delete(r.known, old)
	r.ring[r.next] = id
	r.next = (r.next + 1) % recentVotesKept
}

// absent reports that the transaction certainly has no vote.
func (r *recentVotes) absent(id storage.TxnID) bool {
	if id.Start <= r.forgotten {
		return false
	}
	_, ok := r.known[id]
	return !ok
}
