package shard

import (
	"context"
	"slices"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// carried is the Group of a shard that may share its log with others (a lane).
type carried interface {
	paxos.Submitter
	// sharedLog names the log; nil: the shard has one of its own.
	sharedLog() sharedLog
}

// sharedLog is the log of several shards. Equal logs are equal values.
type sharedLog interface {
	// submitJoint is Submit of the Prepares of one transaction, in one entry. The
	// results are in the order of the parts; those that hasLeft are for the shards' own
	// groups.
	submitJoint(ctx context.Context, parts []shardCommand) (wait func() ([][]byte, error))
	// applied is the index of the last entry that is wholly in the shards' spaces.
	applied() (uint64, error)
}

// logOf returns the log that a vote's shard shares with others, nil if it has its own or
// there is nothing to send.
func logOf(v *jointVote) sharedLog {
	if v.begun.command == nil {
		return nil
	}
	if c, ok := v.replica.c.Group.(carried); ok {
		return c.sharedLog()
	}
	return nil
}

// sharedBy returns the log that several of the votes share.
func sharedBy(votes []jointVote) sharedLog {
	var first sharedLog
	for i := range votes {
		switch log := logOf(&votes[i]); {
		case log == nil:
		case first == nil:
			first = log
		case log == first:
			return log
		}
	}
	return nil
}

// maxJoint is the length up to which votes go in one entry. Larger ones gain nothing.
const maxJoint = 1 << 20

// sendJoint sends the votes for a log in one entry, unless they are too large for that.
func sendJoint(ctx context.Context, log sharedLog, votes []jointVote) {
	parts := make([]shardCommand, 0, len(votes))
	members := make([]*jointVote, 0, len(votes))
	for i := range votes {
		if v := &votes[i]; logOf(v) == log {
			parts = append(parts, shardCommand{v.replica.c.Shard, v.begun.command})
			members = append(members, v)
		}
	}
	if len(parts) < 2 || jointSize(parts) > maxJoint {
		return
	}
	answer := &jointAnswer{wait: log.submitJoint(ctx, parts)}
	for i, v := range members {
		v.replica.counters.proposals.Add(1)
		v.wait = func() ([]byte, error) { return answer.of(ctx, v, i) }
	}
}

// jointAnswer is what an entry with several votes came to.
type jointAnswer struct {
	wait    func() ([][]byte, error)
	results [][]byte
	err     error
}

// of waits for the result of one vote. Whose shard has left the log is proposed to the
// shard's own.
func (a *jointAnswer) of(ctx context.Context, v *jointVote, i int) ([]byte, error) {
	if a.wait != nil {
		a.results, a.err = a.wait()
		a.wait = nil
	}
	if a.err != nil {
		return nil, a.err
	}
	if hasLeft(a.results[i]) {
		return v.replica.c.Group.Propose(ctx, v.begun.command)
	}
	return a.results[i], nil
}

// applyJoint applies an entry of several parts: Prepares, and nothing else.
//
// If they are all the votes of one transaction, and all would be PREPARED, nobody can
// decide otherwise any more than to commit at the largest of their timestamps. So that is
// written, and nothing else: no intent, no PREPARED vote. It is the state, and these are
// the answers, after the Prepares one by one, the Resolves that follow from them, and the
// same Prepares again. In every other case the parts are applied as if they had come
// alone.
func (t *Trunk) applyJoint(parts []shardCommand) error {
	commands, err := t.decodeParts(parts)
	if err != nil {
		return err
	}
	defer clear(commands)
	if slices.ContainsFunc(commands, func(c Command) bool { return c.Kind != KindPrepare }) {
		for range parts {
			t.answer(Result{Verdict: VerdictRefused}, true)
		}
		return nil
	}
	commit, err := t.commits(parts, commands)
	if err != nil {
		return err
	}
	for i, p := range parts {
		if err := t.applyVote(t.machines[p.shard], &commands[i], commit); err != nil {
			return err
		}
	}
	return nil
}

// decodeParts decodes all commands of an entry, before anything is written.
func (t *Trunk) decodeParts(parts []shardCommand) ([]Command, error) {
	t.commands = slices.Grow(t.commands[:0], len(parts))[:len(parts)]
	for i, p := range parts {
		if _, err := t.machine(p.shard); err != nil {
			return nil, err
		}
		if err := t.commands[i].Decode(p.command); err != nil {
			return nil, err
		}
	}
	return t.commands, nil
}

// commits returns the timestamp at which the Prepares of an entry commit, 0 if they do
// not by themselves.
func (t *Trunk) commits(parts []shardCommand, commands []Command) (commit storage.Timestamp, err error) {
	if !wholeTransaction(parts, commands) {
		return 0, nil
	}
	for i, p := range parts {
		c := &commands[i]
		if i > 0 && mutated("0089.joint-despite-a-refusal") {
			continue
		}
		if ok, err := t.machines[p.shard].wouldPrepare(c); err != nil || !ok {
			return 0, err
		}
	}
	for i := range commands {
		if i > 0 && mutated("0089.first-timestamp") {
			continue
		}
		commit = max(commit, commands[i].At)
	}
	return commit, nil
}

// wholeTransaction reports whether the parts are the votes of one transaction, one for
// each of its participants.
func wholeTransaction(parts []shardCommand, commands []Command) bool {
	first := &commands[0]
	if len(first.Participants) != len(parts) && !mutated("0089.joint-of-some") {
		return false
	}
	for i := range commands {
		c := &commands[i]
		if c.Txn != first.Txn || !slices.Equal(c.Participants, first.Participants) || !slices.Contains(c.Participants, parts[i].shard) {
			return false
		}
		for _, before := range parts[:i] {
			if before.shard == parts[i].shard {
				return false
			}
		}
	}
	return true
}

// applyVote applies a Prepare, as a commit at a timestamp if there is one.
func (t *Trunk) applyVote(m *Machine, c *Command, commit storage.Timestamp) error {
	var r Result
	var err error
	if commit != 0 {
		r = m.commitVote(c, commit)
	} else if r, err = m.apply(c, 0); err != nil {
		return err
	}
	r.Epoch = m.owner.Load().Epoch
	t.answer(r, true)
	return nil
}
