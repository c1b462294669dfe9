package shard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rowlockdb/rowlock/paxos"
)

// The members of a replica's group change on the word of its serving owner and
// of nobody else (H14). While a group has one voter its owner may read without
// asking anybody, in an epoch that says so; such an epoch must be over, applied
// here and not only committed, before a second voter is proposed. And no such
// epoch may begin while a change that this process proposed could still come
// true.

// changes are the membership changes of this process whose end is not known:
// under way, or without an answer. They are counted by the membership they were
// computed from, for a change is refused in any other.
type changes struct {
	sync.Mutex
	open map[uint64]int
}

func (c *changes) begin(changeID uint64) {
	c.Lock()
	defer c.Unlock()
	if c.open == nil {
		c.open = make(map[uint64]int)
	}
	c.open[changeID]++
}

// end says that nothing will come of a change any more, or that it is applied.
func (c *changes) end(changeID uint64) {
	c.Lock()
	defer c.Unlock()
	if c.open[changeID]--; c.open[changeID] == 0 {
		delete(c.open, changeID)
	}
}

// pending reports whether a change may still come true in a membership.
func (c *changes) pending(now uint64) bool {
	c.Lock()
	defer c.Unlock()
	maps.DeleteFunc(c.open, func(id uint64, _ int) bool { return id < now })
	return len(c.open) > 0
}

// Members returns the group's members. Any replica can tell.
func (r *Replica) Members(ctx context.Context) (paxos.Membership, error) {
	return r.c.Group.Membership(ctx)
}

// anyMembers lets a change be computed from the members as they are.
const anyMembers = ^uint64(0)

// AddLearner adds a replica without a vote. This and the other changes of members
// work on the serving owner only; they are done, and so return nil, if the members
// are as wanted. Errors: NotOwner, BadRequest, the context's, and those of
// paxos.Group; after paxos.ErrUnknownOutcome the change may come true later, and
// the same call tells.
func (r *Replica) AddLearner(ctx context.Context, id paxos.ReplicaID, target string) error {
	return r.addLearner(ctx, id, target, anyMembers)
}

func (r *Replica) addLearner(ctx context.Context, id paxos.ReplicaID, target string, from uint64) error {
	return r.changeMembers(ctx, memberChange{what: "add learner", id: id, from: from,
		done: func(m paxos.Membership) (bool, error) {
			if _, voter := m.Voters[id]; voter {
				return r.sameTarget(m.Voters, id, target)
			}
			if _, learner := m.Learners[id]; learner {
				return r.sameTarget(m.Learners, id, target)
			}
			return false, nil
		},
		propose: func(m paxos.Membership) error { return r.c.Group.AddLearner(ctx, id, target, m.ChangeID) }})
}

// AddVoter makes a voter of a new replica or of a learner.
func (r *Replica) AddVoter(ctx context.Context, id paxos.ReplicaID, target string) error {
	return r.addVoter(ctx, id, target, anyMembers)
}

func (r *Replica) addVoter(ctx context.Context, id paxos.ReplicaID, target string, from uint64) error {
	return r.changeMembers(ctx, memberChange{what: "add voter", id: id, from: from, prepare: r.PrepareForVoters,
		done: func(m paxos.Membership) (bool, error) {
			if _, voter := m.Voters[id]; voter {
				return r.sameTarget(m.Voters, id, target)
			}
			if _, learner := m.Learners[id]; learner {
				_, err := r.sameTarget(m.Learners, id, target)
				return false, err
			}
			return false, nil
		},
		propose: func(m paxos.Membership) error {
			if t := r.serving.Load(); (t == nil || t.sole) && !mutated("H14.sole-kept") {
				return r.notOwner() // another epoch since
			}
			return r.c.Group.AddReplica(ctx, id, target, m.ChangeID)
		}})
}

// RemoveReplica removes a voter or a learner. An owner does not remove itself: it
// hands the shard over first.
func (r *Replica) RemoveReplica(ctx context.Context, id paxos.ReplicaID) error {
	return r.removeReplica(ctx, id, anyMembers)
}

func (r *Replica) removeReplica(ctx context.Context, id paxos.ReplicaID, from uint64) error {
	if id == r.c.Group.Replica() {
		return r.bad("an owner does not remove its own replica")
	}
	return r.changeMembers(ctx, memberChange{what: "remove", id: id, from: from,
		done: func(m paxos.Membership) (bool, error) {
			_, voter := m.Voters[id]
			_, learner := m.Learners[id]
			return !voter && !learner, nil
		},
		propose: func(m paxos.Membership) error { return r.c.Group.RemoveReplica(ctx, id, m.ChangeID) }})
}

func (r *Replica) sameTarget(members map[paxos.ReplicaID]string, id paxos.ReplicaID, target string) (bool, error) {
	if members[id] != target {
		return false, r.bad(fmt.Sprintf("replica %d is on %s, not on %s", id, members[id], target))
	}
	return true, nil
}

// memberChange is one change of a group's members.
type memberChange struct {
	what string
	id   paxos.ReplicaID
	// from names the membership that the change was computed from, or is anyMembers.
	from uint64
	done func(paxos.Membership) (bool, error)
	// prepare, if set, is called when the change is noted, before it is proposed.
	prepare func(context.Context) error
	propose func(paxos.Membership) error
}

// changeMembers proposes a change to the members as they are now. The change is noted
// before it is prepared and before the last look at the tenure: whoever begins an epoch
// afterwards sees it, and a sole epoch that began before is seen here. Whoever computed
// it from other members is refused: of two such changes, each right by itself, both
// together may leave a group without a majority.
func (r *Replica) changeMembers(ctx context.Context, c memberChange) error {
	t, err := r.current()
	if err != nil {
		return err
	}
	if err := r.prove(ctx, t); err != nil {
		return err
	}
	m, err := r.c.Group.Membership(ctx)
	if err != nil {
		return fmt.Errorf("%s replica %d of shard %d: %w", c.what, c.id, r.c.Shard, err)
	}
	if _, voter := m.Voters[r.c.Group.Replica()]; !voter {
		return r.notOwner()
	}
	if done, err := c.done(m); done || err != nil {
		return err
	}
	if c.from != anyMembers && c.from != m.ChangeID && !mutated("P1.seat-of-other-members") {
		return r.membersChanged(c.from, m)
	}
	if err = r.proposeChange(ctx, t, m, c); err != nil && CodeOf(err) == CodeNone {
		err = fmt.Errorf("%s replica %d of shard %d: %w", c.what, c.id, r.c.Shard, err)
	}
	return err
}

// proposeChange notes a change, prepares it and proposes it.
func (r *Replica) proposeChange(ctx context.Context, t *tenure, m paxos.Membership, c memberChange) error {
	noted := r.noted()
	if !mutated("0097.noted-late") {
		noted.begin(m.ChangeID)
	}
	err := r.ready(ctx, t, c)
	r.at(ctx, "change prepared")
	if mutated("0097.noted-late") {
		noted.begin(m.ChangeID)
	}
	if err != nil {
		noted.end(m.ChangeID)
		return err
	}
	if err = c.propose(m); !errors.Is(err, paxos.ErrUnknownOutcome) {
		noted.end(m.ChangeID)
	}
	return err
}

// ready makes sure, after a change was noted, that this owner may propose it.
func (r *Replica) ready(ctx context.Context, t *tenure, c memberChange) error {
	if c.prepare != nil {
		return c.prepare(ctx)
	}
	if r.serving.Load() != t {
		return r.notOwner()
	}
	return nil
}

func (r *Replica) membersChanged(from uint64, now paxos.Membership) error {
	return &Error{Code: Refused, Shard: r.c.Shard, Detail: fmt.Sprintf("the members have changed since change %d: %s", from, now)}
}

// PrepareForVoters ends an epoch in which this owner reads without a barrier,
// because its group had one voter, with an epoch of its own in which it does not
// (H14), and those of the shards that share the group. Open transactions go on:
// locks and tokens stay. It does nothing in any other epoch.
//
// No read of the old epoch needs to be waited for: each looks whether its tenure
// serves still after it was asked, and what it returns was complete then.
func (r *Replica) PrepareForVoters(ctx context.Context) error {
	if _, err := r.current(); err != nil || mutated("H14.sole-kept") {
		return err
	}
	all := r.company()
	if mutated("0097.others-stay-sole") {
		all = []*Replica{r}
	}
	return atOnce(all, func(s *Replica) error { return s.endSole(ctx) })
}

// endSole ends a sole epoch of this replica, with one that is not. Where it returns nil
// there is none, and none is about to begin that saw no change pending.
func (r *Replica) endSole(ctx context.Context) error {
	r.at(ctx, "end sole")
	if r.serving.Load() == nil && mutated("0097.begun-unseen") {
		return nil
	}
	r.takeover.Lock()
	defer r.takeover.Unlock()
	if t := r.serving.Load(); t == nil || !t.sole {
		return nil
	}
	return r.succeedItself(ctx, heritage{shared: true})
}

// succeedItself begins an epoch after this replica's own, from the memory of that
// (H1, last sentence); takeover is held. What is under way when ctx ends is
// cleared up by the new epoch.
func (r *Replica) succeedItself(ctx context.Context, h heritage) error {
	t, err := r.freeze()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, handOverPatience)
	defer cancel()
	_ = r.settleProposals(ctx, t) // a vote whose outcome is unknown stays so
	r.drainResolves()
	h.prev, h.own = t.epoch, t.handed(r.flushName())
	r.bury(t)
	ctx, end := context.WithTimeout(r.life, handOverPatience)
	defer end()
	return r.takeOver(ctx, h)
}

// alone reports whether reads may go without a barrier in an epoch that begins
// among these members: this replica is the only voter, and nothing that was
// proposed can change it behind its back.
func (r *Replica) alone(m paxos.Membership) bool {
	if mutated("H14.sole-among-many") {
		return true
	}
	only := slices.Equal(slices.Collect(maps.Keys(m.Voters)), []paxos.ReplicaID{r.c.Group.Replica()})
	return only && (!r.noted().pending(m.ChangeID) || mutated("H14.sole-beside-a-change"))
}
