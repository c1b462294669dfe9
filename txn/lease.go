package txn

import (
	"context"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// renewLoop keeps this gateway's lease at every shard owner and tells the
// owners which of its transactions are open.
func (c *Coordinator) renewLoop(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		c.renew(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// renew sends one renewal to every shard. A shard that does not answer is tried
// again by the next one.
func (c *Coordinator) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	request := c.renewal()
	shards := c.shards()
	c.crew.inParallel(len(shards), func(i int) {
		if err := c.router.Renew(ctx, shards[i], request); err != nil {
			c.log.Debug("renew lease", "shard", shards[i], "error", err)
		}
	})
}

// renewal lists the transactions that may hold or ask for locks, and the cut up
// to which the list is exact: an id is numbered and put on the list in one step,
// before its first message (H16). Every open transaction is listed at every
// shard, whether it was there yet or not, because an owner refuses locks to one
// that a renewal declared ended.
func (c *Coordinator) renewal() *shard.RenewRequest {
	open, cut := c.openTxns()
	r := &shard.RenewRequest{Gateway: c.cfg.Gateway, Cut: cut, Oldest: storage.MaxTimestamp}
	for _, t := range open {
		t.mu.Lock()
		id, readOnly, oldest := t.mu.id, t.mu.readOnly, t.mu.oldest
		t.mu.Unlock()
		// The start counts even when no snapshot hangs on it: below the fence no
		// shard would take the transaction's vote (H8).
		r.Oldest = min(r.Oldest, oldestOf(id.Start, oldest))
		if !readOnly {
			r.Open = append(r.Open, id)
		}
	}
	return r
}

func oldestOf(start, snapshot storage.Timestamp) storage.Timestamp {
	if snapshot == 0 {
		return start
	}
	return min(start, snapshot)
}
