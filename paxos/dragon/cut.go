package dragon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/rowlockdb/rowlock/paxos"
)

// A group that was founded by one voter may have begun with a state that is nowhere in
// its log. Whoever replayed that log from its first entry would lack it; so the first
// entry is gone before anybody else is added, and who joins is sent a snapshot. Those
// who joined so have a log that begins later still: whoever leads the group, now or
// then, cannot send it from the beginning.

// cutPause is the pause between two looks whether the first entry is gone.
const cutPause = time.Millisecond

// cutFirst makes sure that the log of a group that this replica founded alone does not
// begin with the first entry.
func (g *group) cutFirst(ctx context.Context) error {
	if g.begunLater || !g.foundedAlone() || mutated("0089.learner-without-cut") {
		return nil
	}
	return g.CutFirst(ctx)
}

// CutFirst implements paxos.Cutter. A group of several founders begins with one entry for
// each of them: who joins needs the first like the others.
func (g *group) CutFirst(ctx context.Context) error {
	if g.begunLater {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, max(0, remaining(ctx)))
	defer cancel()
	// What the cut drops must be applied, and a lone voter's own first entry is the second.
	if err := g.readBarrier(ctx); err != nil {
		return err
	}
	for {
		gone, err := g.firstGone()
		if gone || err != nil {
			return err
		}
		if err := g.requestCut(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(cutPause):
		case <-g.stopped:
			return paxos.ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: the log still begins with its first entry: %w", paxos.ErrNotSent, ctx.Err())
		}
	}
}

// firstGone looks in the store: Dragonboat forgets entries before it removes them there.
func (g *group) firstGone() (bool, error) {
	first, _, err := g.host.store.IterateEntries(nil, 0, uint64(g.id), uint64(g.replica), 1, 2, 0)
	if err != nil {
		return false, fmt.Errorf("read the first entry: %w", err)
	}
	return len(first) == 0, nil
}

// requestCut asks for a snapshot that lets the first entry go. One that is refused,
// because there is a snapshot of this very state, is no error: the next look tells.
func (g *group) requestCut(ctx context.Context) error {
	opt := dragonboat.SnapshotOption{OverrideCompactionOverhead: true, CompactionIndex: 1}
	rs, err := g.host.nh.RequestSnapshot(uint64(g.id), opt, g.ticks(remaining(ctx)))
	if errors.Is(err, dragonboat.ErrSystemBusy) { // another one is being made
		return nil
	}
	if err != nil {
		return describe(err)
	}
	select {
	case <-rs.AppliedC():
		rs.Release()
		return nil
	case <-g.stopped:
		return paxos.ErrClosed
	case <-g.host.failure.done:
		return paxos.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: the log is not cut yet: %w", paxos.ErrNotSent, ctx.Err())
	}
}
