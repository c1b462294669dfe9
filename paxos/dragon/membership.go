package dragon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/logstore"
)

// Membership implements paxos.Group.
func (g *group) Membership(ctx context.Context) (paxos.Membership, error) {
	m, err := g.membership(ctx)
	if err != nil {
		return paxos.Membership{}, fmt.Errorf("dragon: members of group %d: %w", g.id, err)
	}
	return m, nil
}

func (g *group) membership(ctx context.Context) (paxos.Membership, error) {
	if err := g.readBarrier(ctx); err != nil {
		return paxos.Membership{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.ticks(remaining(ctx)))
	defer cancel()
	d, err := g.host.nh.SyncGetShardMembership(ctx, uint64(g.id))
	if err != nil {
		return paxos.Membership{}, describe(err)
	}
	m := paxos.Membership{
		Voters:   replicaMap(d.Nodes),
		Learners: replicaMap(d.NonVotings),
		ChangeID: d.ConfigChangeID,
	}
	for _, id := range slices.Sorted(maps.Keys(d.Removed)) {
		m.Removed = append(m.Removed, paxos.ReplicaID(id))
	}
	return m, nil
}

func replicaMap(in map[uint64]string) map[paxos.ReplicaID]string {
	out := make(map[paxos.ReplicaID]string, len(in))
	for id, target := range in {
		out[paxos.ReplicaID(id)] = target
	}
	return out
}

// AddReplica implements paxos.Group.
func (g *group) AddReplica(ctx context.Context, r paxos.ReplicaID, target string, changeID uint64) error {
	return g.add(ctx, "add", r, func(d time.Duration) (*dragonboat.RequestState, error) {
		return g.host.nh.RequestAddReplica(uint64(g.id), uint64(r), target, changeID, d)
	})
}

// AddLearner implements paxos.Group.
func (g *group) AddLearner(ctx context.Context, r paxos.ReplicaID, target string, changeID uint64) error {
	return g.add(ctx, "add learner", r, func(d time.Duration) (*dragonboat.RequestState, error) {
		return g.host.nh.RequestAddNonVoting(uint64(g.id), uint64(r), target, changeID, d)
	})
}

// RemoveReplica implements paxos.Group.
func (g *group) RemoveReplica(ctx context.Context, r paxos.ReplicaID, changeID uint64) error {
	return g.change(ctx, "remove", r, func(d time.Duration) (*dragonboat.RequestState, error) {
		return g.host.nh.RequestDeleteReplica(uint64(g.id), uint64(r), changeID, d)
	})
}

// add is change for a new member, which must not begin with the log's first entry.
func (g *group) add(ctx context.Context, what string, r paxos.ReplicaID,
	request func(time.Duration) (*dragonboat.RequestState, error)) error {
	if err := g.cutFirst(ctx); err != nil {
		return fmt.Errorf("dragon: %s replica %d of group %d: %w", what, r, g.id, err)
	}
	return g.change(ctx, what, r, request)
}

// change requests a membership change and waits for its end.
func (g *group) change(ctx context.Context, what string, r paxos.ReplicaID,
	request func(time.Duration) (*dragonboat.RequestState, error)) error {
	err := g.tryChange(ctx, request)
	if err != nil {
		return fmt.Errorf("dragon: %s replica %d of group %d: %w", what, r, g.id, err)
	}
	return nil
}

func (g *group) tryChange(ctx context.Context, request func(time.Duration) (*dragonboat.RequestState, error)) error {
	if isClosed(g.stopped) {
		return paxos.ErrClosed
	}
	if err := g.await(ctx); err != nil {
		return err
	}
	rs, err := request(g.ticks(remaining(ctx)))
	if err != nil {
		return describe(err)
	}
	select {
	case res := <-rs.AppliedC():
		rs.Release()
		if res.Completed() {
			return nil
		}
		return outcome(res)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", paxos.ErrUnknownOutcome, ctx.Err())
	}
}

// describe puts our sentinel in front of Dragonboat's error, for requests that
// Dragonboat refused before it accepted them.
func describe(err error) error {
	for _, c := range [...]struct{ from, to error }{
		{dragonboat.ErrClosed, paxos.ErrClosed},
		{dragonboat.ErrShardClosed, paxos.ErrClosed},
		{dragonboat.ErrShardNotFound, paxos.ErrClosed},
		{dragonboat.ErrSystemBusy, paxos.ErrNotSent},
		{dragonboat.ErrShardNotReady, paxos.ErrNotSent},
		{dragonboat.ErrShardNotInitialized, paxos.ErrNotSent},
		{dragonboat.ErrTimeoutTooSmall, paxos.ErrNotSent},
		{dragonboat.ErrTimeout, paxos.ErrNotSent}, // only reads report it this way
		{dragonboat.ErrReplicaRemoved, paxos.ErrRemoved},
		{dragonboat.ErrPayloadTooBig, paxos.ErrTooLarge},
		{dragonboat.ErrShardAlreadyExist, paxos.ErrRunning},
		{logstore.ErrLocked, paxos.ErrLocked},
		{logstore.ErrForeign, paxos.ErrForeign},
		{logstore.ErrFormat, paxos.ErrFormat},
	} {
		if errors.Is(err, c.from) {
			return fmt.Errorf("%w (%v)", c.to, err)
		}
	}
	return err
}
