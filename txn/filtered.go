package txn

import (
	"context"

	"github.com/rowlockdb/rowlock/shard"
)

// How many rows an owner looks at for a page of a filtered scan. The first page is small,
// as in every scan: a statement with a LIMIT may want no more.
const (
	firstVisit = 1 << 10
	maxVisit   = 64 << 10
)

// With a filter a page may have no rows and yet not be the last one. Then a shard has
// nothing to yield, but it is known where its next page begins: the merge goes on with
// rows of other shards in front of that place, so that a scan that ends early has not
// looked at much more than one without a filter.

// fetchFiltered asks the shard for the next page of the rows that a filter wants.
func (s *source) fetchFiltered(ctx context.Context) page {
	q := &shard.FilteredRead{Read: *s.snapshotRequest(s.pageRows), Visit: s.visit, Program: s.c.filter}
	s.c.t.looked.Store(true)
	c := s.c.t.c
	for {
		response, err := c.router.ReadFiltered(ctx, s.shard, q)
		if err = c.clearWay(ctx, err); err != errRepeat {
			return pageOf(response, err)
		}
	}
}

// ownFirst tells whether the transaction's own next write comes before the next page,
// of which nothing is known yet.
func (s *source) ownFirst() bool {
	return s.ownOK && s.c.before(s.own.key, s.resume) && !mutated("0072.own-write-late")
}

// passPending fetches pages until a row comes first.
func (c *Cursor) passPending(ctx context.Context) error {
	for {
		top := c.top()
		if top == nil || !top.pending {
			return nil
		}
		err := top.turn(ctx)
		top.pending = false
		if err != nil {
			return c.t.fail(ctx, err, top.shard)
		}
		if err := c.moveOn(ctx); err != nil {
			return err
		}
	}
}
