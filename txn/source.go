package txn

import (
	"bytes"
	"context"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Sizes of the pages that a source asks for. The first one is small, because
// many scans end early; later ones grow.
const (
	firstPageRows = 128
	maxPageRows   = 4096
	pageBytes     = 1 << 20
	skipPageRows  = 32 // that SKIP LOCKED looks at, to lock the first free ones
)

// source is one shard's stream of rows inside a Cursor.
type source struct {
	c     *Cursor
	shard shard.ID
	part  *participant // with a lock only

	background context.Context // of read-ahead
	ahead      chan page       // the page being read ahead; nil if none is

	rows     []shard.Row   // what is left of the current page
	resume   storage.Key   // where the next page begins
	more     bool          // there is a next page
	pageRows int           // rows to ask for next
	visit    int           // rows to look at next, with a filter
	mine     []storage.Key // keys of the current page that this scan alone has locked (SKIP LOCKED)

	last  storage.Key // of the last row that the cursor returned from here
	own   overlayRow  // the next own write
	ownOK bool
	head  Row // the row that the cursor yields next, if ok
	ok    bool

	pending bool // head is only where the next page begins, of which nothing is known yet
}

// page is one answer: of a read, or of a lock request.
type page struct {
	rows     []shard.Row
	more     bool
	resume   storage.Key
	lock     *shard.LockResponse // with a lock only
	keys     []storage.Key       // rows locked one by one
	interval shard.LockRef       // what was locked as a whole, if keys is nil
	err      error
}

// begin makes s the stream of a shard.
func (s *source) begin(c *Cursor, id shard.ID) {
	*s = source{c: c, shard: id, pageRows: c.first, visit: firstVisit}
	s.own, s.ownOK = c.t.buffer.next(id, c.span, nil, c.sequence)
}

// prepare does what must happen on the transaction's goroutine before a fetch.
func (s *source) prepare(background context.Context) {
	s.background = background
	if s.c.o.Lock != LockNone {
		s.part = s.c.t.touch(s.shard)
	}
}

// span is what is still to be read.
func (s *source) span() shard.Span {
	span := shard.Span{Lo: s.c.span.lo, Hi: s.c.span.hi}
	switch {
	case s.resume == nil:
	case s.c.span.reverse:
		span.Hi = s.resume
	default:
		span.Lo = s.resume
	}
	return span
}

// fetch asks the shard for the next page. It changes nothing, so that fetches
// of several sources may run at once.
func (s *source) fetch(ctx context.Context) page {
	switch {
	case s.c.filter != nil:
		return s.fetchFiltered(ctx)
	case s.c.o.Lock == LockNone:
		return s.fetchSnapshot(ctx, s.pageRows)
	case s.c.rowsOnly:
		return s.fetchRows(ctx)
	}
	return s.fetchInterval(ctx)
}

func (s *source) fetchSnapshot(ctx context.Context, limit int) page {
	return pageOf(s.c.t.read(ctx, s.shard, s.snapshotRequest(limit)))
}

func (s *source) snapshotRequest(limit int) *shard.ReadRequest {
	span := s.span()
	return &shard.ReadRequest{At: s.c.snapshot, Span: &span, Reverse: s.c.span.reverse, Limit: limit, ByteLimit: pageBytes}
}

func pageOf(resp *shard.ReadResponse, err error) page {
	if err != nil {
		return page{err: err}
	}
	return page{rows: resp.Rows, more: resp.More, resume: resp.Resume}
}

// fetchInterval locks the interval of a page and reads it.
func (s *source) fetchInterval(ctx context.Context) page {
	span := s.span()
	r := s.c.t.lockRequest(s.part, s.c.o)
	r.Span, r.Reverse, r.Limit = &span, s.c.span.reverse, s.pageRows
	resp, err := s.c.t.c.lock(ctx, s.shard, r)
	if err != nil {
		return page{err: err}
	}
	p := page{rows: resp.Rows, more: resp.More, resume: resp.Resume, lock: resp}
	p.interval = shard.LockRef{Mode: r.Mode, Lo: span.Lo, Hi: span.Hi}
	switch {
	case !p.more:
	case r.Reverse:
		p.interval.Lo = p.resume
	default:
		p.interval.Hi = p.resume
	}
	return p
}

// fetchRows finds the rows of a page in a snapshot, which waits for votes that
// are not resolved yet and so misses nothing that was acknowledged, then locks
// each row and reads it again. Rows that are gone by then, or that SKIP LOCKED
// leaves out, are not in the page. With SKIP LOCKED more rows are looked at than
// are locked: the first ones may be somebody else's.
func (s *source) fetchRows(ctx context.Context) page {
	look := s.pageRows
	if s.skips() {
		look = max(look, skipPageRows)
	}
	p := s.fetchSnapshot(ctx, look)
	if p.err != nil || len(p.rows) == 0 {
		return p
	}
	keys := make([]storage.Key, len(p.rows))
	for i := range p.rows {
		keys[i] = p.rows[i].Key
	}
	r := s.c.t.lockRequest(s.part, s.c.o)
	r.Keys = keys
	if s.skips() {
		r.Limit = s.pageRows
	}
	resp, err := s.c.t.c.lock(ctx, s.shard, r)
	switch {
	case err != nil:
		return page{err: err}
	case s.skips() && 0 < len(resp.Rows) && len(resp.Rows) < len(keys):
		p.more, p.resume = true, s.before(keys[len(resp.Rows)])
	case len(resp.Rows) != len(keys):
		return page{err: shortAnswer(len(keys), len(resp.Rows))}
	}
	p.lock, p.rows, p.keys = resp, nil, keys[:0]
	skipped := resp.Skipped
	for i, row := range resp.Rows {
		if len(skipped) > 0 && skipped[0] == i {
			skipped = skipped[1:]
			continue
		}
		p.keys = append(p.keys, row.Key)
		if row.Found {
			p.rows = append(p.rows, row)
		}
	}
	return p
}

// skips tells whether rows that others hold are left out.
func (s *source) skips() bool { return s.c.o.Wait == SkipLocked }

// before is where a page begins whose first row is at k.
func (s *source) before(k storage.Key) storage.Key {
	if !s.c.span.reverse {
		return k
	}
	return append(k[:len(k):len(k)], 0) // the end of a span is not part of it
}

// unreturned lists the keys of the current page that the cursor did not come to
// and that nothing but this scan has locked.
func (s *source) unreturned() (keys []storage.Key) {
	for _, k := range s.mine {
		reached := s.last != nil && !s.c.before(s.last, k)
		if l, held := s.part.rows.get(k); held && !l.again && !reached {
			keys = append(keys, k)
		}
	}
	return keys
}

// accept makes p the current page and, where it pays, starts reading the one
// after it.
func (s *source) accept(p page) error {
	if p.err != nil {
		return p.err
	}
	if p.more && (len(p.resume) == 0 || s.resume != nil && bytes.Equal(p.resume, s.resume)) {
		return &Error{Code: Bug, Shard: s.shard, Detail: "a page that does not move on"}
	}
	s.rows, s.more, s.resume = p.rows, p.more, p.resume
	s.pageRows, s.visit = min(2*s.pageRows, maxPageRows), min(4*s.visit, maxVisit)
	if s.c.o.Lock == LockNone {
		s.pageRows = max(s.pageRows, firstPageRows)
	}
	if p.lock != nil {
		return s.acceptLocks(p)
	}
	// Read-ahead is for scans of several shards that want everything: the merge
	// waits for the slowest shard. Locks are never taken ahead of their need.
	if s.more && s.c.cancel != nil && s.c.limit == 0 && !s.c.closed {
		ahead := make(chan page, 1)
		s.ahead = ahead
		next := *s // the fetch must not see what the cursor changes meanwhile
		s.c.t.c.work.Go(func() { ahead <- next.fetch(next.background) })
	}
	return nil
}

// acceptLocks records the locks that a page brought.
func (s *source) acceptLocks(p page) error {
	if err := s.c.t.granted(s.part, p.lock); err != nil {
		return err
	}
	fresh := 0
	if p.keys == nil {
		s.part.ranges = append(s.part.ranges, p.interval)
		fresh++
	}
	s.mine = s.mine[:0]
	for _, k := range p.keys {
		if !s.part.holds(k, s.c.o.Lock, s.c.t.statements, s.c.t.loose(s.c.o)) {
			continue
		}
		fresh++
		if s.skips() {
			s.mine = append(s.mine, k)
		}
	}
	s.c.t.addLocks(fresh)
	return nil
}

// advance finds the source's next row: the smaller of the shard's next row and
// the next own write, which hides a row with its key.
func (s *source) advance(ctx context.Context) error {
	s.head, s.ok = Row{}, false
	for {
		for len(s.rows) == 0 && s.more {
			if s.c.filter != nil {
				if s.ownFirst() {
					break
				}
				s.head, s.ok, s.pending = Row{Key: s.resume}, true, true
				return nil
			}
			if err := s.turn(ctx); err != nil {
				return err
			}
		}
		switch {
		case !s.ownOK && len(s.rows) == 0:
			return nil
		case !s.ownOK || len(s.rows) > 0 && s.c.before(s.rows[0].Key, s.own.key):
			s.head, s.ok = Row{Key: s.rows[0].Key, Value: s.rows[0].Value, Found: true, from: s.shard}, true
			s.rows = s.rows[1:]
			return nil
		}
		own := s.own
		if len(s.rows) > 0 && bytes.Equal(s.rows[0].Key, own.key) {
			s.rows = s.rows[1:]
		}
		s.own, s.ownOK = s.c.t.buffer.next(s.shard, s.c.span, own.key, s.c.sequence)
		if !own.tombstone {
			s.head, s.ok = Row{Key: own.key, Value: own.value, Found: true, from: s.shard}, true
			return nil
		}
	}
}

// turn goes to the next page: the one read ahead, or a fetch now.
func (s *source) turn(ctx context.Context) error {
	if s.ahead == nil {
		return s.accept(s.fetch(ctx))
	}
	ahead := s.ahead
	s.ahead = nil
	select {
	case p := <-ahead:
		return s.accept(p)
	case <-ctx.Done():
		return ctx.Err()
	}
}
