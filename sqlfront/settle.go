package sqlfront

import (
	"context"
	"slices"
	"time"
)

// silence is how long a gateway that is waited for has said nothing.
type silence struct {
	record gatewayRecord
	since  time.Time
}

// heard takes a gateway's record in and tells whether it has been silent for long
// enough to count as dead.
func (s *silence) heard(g gatewayRecord, now time.Time) bool {
	if s.since.IsZero() || g.Beat != s.record.Beat {
		s.record, s.since = g, now
	}
	return now.Sub(s.since) > deadAfter
}

// settled waits until every other gateway plans with at least this number of
// schema changes and, of the names, nobody there uses what was before. A gateway
// that is silent meanwhile is taken for dead and its record removed: it stopped
// planning with what it knew before it could count as dead, and what its
// transactions still send is refused by the shards (H11).
func (f *follower) settled(ctx context.Context, version uint64, names ...string) error {
	const shortest, longest = 2 * time.Millisecond, 50 * time.Millisecond
	pause := shortest
	watch := map[uint64]*silence{}
	f.announce()
	for {
		all, err := f.catalog.gateways(ctx)
		if err != nil {
			return err
		}
		waiting := false
		for _, g := range all {
			if g.ID == f.id || g.settled(version, names) {
				continue
			}
			waiting = true
			if watch[g.ID] == nil {
				watch[g.ID] = &silence{}
			}
			if watch[g.ID].heard(g, time.Now()) {
				if err := f.catalog.removeGateway(ctx, g); err != nil {
					return err
				}
			}
		}
		if !waiting || mutated("H11.others-unheard") {
			return nil
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, longest)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gatewayRecord) settled(version uint64, names []string) bool {
	return g.Loaded >= version && !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(g.Pending, n) })
}

// watch looks at the gateways that have something frozen: such a gateway shows
// every second that it lives, and if it does not, what it froze is thawed.
func (f *follower) watch(ctx context.Context, seen map[uint64]*silence) error {
	holding := map[uint64]bool{}
	f.mu.Lock()
	for _, p := range f.mu.proxies {
		holding[p.gateway] = true
	}
	f.mu.Unlock()
	for id := range seen {
		if !holding[id] {
			delete(seen, id)
		}
	}
	if len(holding) == 0 {
		return nil
	}
	all, err := f.catalog.gateways(ctx)
	if err != nil {
		return err
	}
	for id := range holding {
		g := gatewayRecord{ID: id}
		if i := slices.IndexFunc(all, func(o gatewayRecord) bool { return o.ID == id }); i >= 0 {
			g = all[i]
		}
		if seen[id] == nil {
			seen[id] = &silence{}
		}
		if seen[id].heard(g, time.Now()) {
			if err := f.catalog.removeGateway(ctx, g); err != nil {
				return err
			}
		}
	}
	return nil
}
