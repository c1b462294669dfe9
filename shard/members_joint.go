package shard

// Shards that share a group have the same members. A change is asked for, and proposed, in
// the name of one of them, and H14 binds all: before a second voter is proposed, every sole
// epoch of theirs is over, and none may begin while the change may still come true.
//
// Only the process on the group's one voter can have such epochs, and it proposes the
// change: it looks at its own replicas (Company) and at nobody else's. It notes the change
// where all of them look for changes (Changes), then goes through their takeovers, one
// holder at a time, and ends the sole epoch that it finds there. Whoever begins an epoch
// holds the takeover from before it looks for changes until it serves, or has given up:
//
//   - who looked before the note holds the takeover still, or has given it back. In either
//     case what it serves in is seen under the takeover.
//   - who looks after the note begins no sole epoch.
//   - who looked before the note, is not alone any more when it looks again, or meets an
//     owner of another process, begins another epoch or none, still under the takeover.
//
// So when all takeovers have been gone through, no shard is in a sole epoch, and none comes
// into one until the note is gone: the change was applied here, and whoever looks sees the
// members that it made; or it was refused; or, without an answer, a later membership has
// been seen, in which it would be refused. To look without the takeover, or before the
// note, is not enough: an epoch that has begun and does not serve yet cannot be seen.
//
// A shard that another node owns for the moment (handOverTogether) needs nothing. A sole
// epoch of that node began when it was the only voter, and was over before it proposed
// the change by which this one got its vote.

// company returns the replicas of this node that share this one's group, itself among
// them, by shard.
func (r *Replica) company() []*Replica {
	if r.c.Company != nil {
		if all := r.c.Company(); len(all) > 0 {
			return all
		}
	}
	return []*Replica{r}
}

// noted is where changes of the members of this replica's group are noted. A group has its
// own: what was noted of one says nothing in the membership of another.
func (r *Replica) noted() *changes {
	if r.c.Company == nil || r.c.Company() == nil || mutated("0097.changes-apart") {
		return &r.changes
	}
	return r.c.Changes
}
