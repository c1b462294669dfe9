package txn

import (
	"bytes"
	"context"
	"slices"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// giveBack releases row locks of a scan with SKIP LOCKED that were taken for
// rows it did not return. Such a scan locks no interval and promises nothing about
// the rows it leaves out, and nothing was decided on these. It does not depend on
// the statement's context: a killed statement gives back, too.
func (t *Txn) giveBack(sources []*source) {
	var from []*source
	var keys [][]storage.Key
	for _, s := range sources {
		if k := s.unreturned(); len(k) > 0 {
			from, keys = append(from, s), append(keys, k)
		}
	}
	if len(from) == 0 {
		return
	}
	failed := make([]error, len(from))
	t.c.crew.inParallel(len(from), func(i int) {
		ctx, cancel := t.c.detached(context.Background(), cleanupPatience)
		defer cancel()
		failed[i] = t.c.router.Release(ctx, from[i].shard, &shard.ReleaseRequest{Txn: t.id, Keys: keys[i]})
	})
	for i, s := range from {
		for _, k := range keys[i] {
			s.part.rows.remove(k)
		}
		t.addLocks(-len(keys[i]))
		s.mine = nil
	}
	parts := make([]*participant, len(from))
	for i, s := range from {
		parts[i] = s.part
	}
	t.unanswered(parts, failed)
}

// unanswered ends a transaction of which locks were given back without an answer: see
// letGo.
func (t *Txn) unanswered(from []*participant, failed []error) {
	for i, p := range from {
		if failed[i] != nil {
			t.abort(context.Background(), &Error{Code: LockLost, Txn: t.id, Shard: p.shard, Err: failed[i],
				Detail: "giving locks back had no answer"})
			return
		}
	}
}

// giveBackSpans releases intervals that were locked to find out whether a table is
// empty, where it is not or somebody is in the way: those behind the first had of
// each participant. What the transaction had locked before stays, an interval with
// the same bounds, too: the owner cannot tell them apart.
func (t *Txn) giveBackSpans(had map[*participant]int) {
	if t.usable() != nil || !t.c.router.ReleasesSpans() || mutated("0074.kept-for-nothing") {
		return
	}
	var from []*participant
	var requests []*shard.ReleaseRequest
	for _, p := range t.parts {
		before := p.ranges[:had[p]]
		r := &shard.ReleaseRequest{Txn: t.id}
		for _, l := range p.ranges[had[p]:] {
			same := func(o shard.LockRef) bool { return bytes.Equal(o.Lo, l.Lo) && bytes.Equal(o.Hi, l.Hi) }
			if !slices.ContainsFunc(before, same) || mutated("0074.given-back-before") {
				r.Spans = append(r.Spans, shard.Span{Lo: l.Lo, Hi: l.Hi})
			}
		}
		if len(r.Spans) > 0 {
			from, requests = append(from, p), append(requests, r)
		}
		t.addLocks(len(before) - len(p.ranges))
		p.ranges = before
	}
	failed := make([]error, len(from))
	t.c.crew.inParallel(len(from), func(i int) {
		ctx, cancel := t.c.detached(context.Background(), cleanupPatience)
		defer cancel()
		failed[i] = t.c.router.Release(ctx, from[i].shard, requests[i])
	})
	t.unanswered(from, failed)
}
