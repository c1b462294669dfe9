package txn

import (
	"bytes"
	"context"
	"slices"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Cursor yields the rows of a Scan in key order: a merge of one ordered stream
// per shard, each with the transaction's own writes as of the cursor's opening
// laid over it. For one goroutine at a time, the transaction's.
type Cursor struct {
	t        *Txn
	span     keySpan
	o        ReadOptions
	snapshot storage.Timestamp // of plain reads, and where rows are found before they are locked
	rowsOnly bool              // locks are on rows, not on the interval
	sequence uint64            // own writes up to here are shown
	limit    int               // hint of how many rows the caller wants; 0: all
	first    int               // rows to ask each source for at first
	sources  []*source
	filter   []byte // for owners; nil: they send all rows

	// heap holds the sources that have a row, the one whose row comes first on
	// top. Empty for a cursor of one source.
	heap []*source

	cancel context.CancelFunc // ends read-ahead; nil if there is none
	taken  bool               // the first row was returned already
	err    error
	closed bool
}

// Scan opens a cursor over [Lo, Hi) and fetches the first page of every shard,
// the shards in parallel. All shards are read at one snapshot; with a lock the
// latest versions are read, and the interval is locked as a whole as far as it
// was read. Under READ COMMITTED and with SKIP LOCKED only its rows are locked.
func (t *Txn) Scan(ctx context.Context, s Scan) (*Cursor, error) {
	c, err := t.newCursor(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := c.open(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// newCursor is a cursor that has fetched nothing yet.
func (t *Txn) newCursor(ctx context.Context, s Scan) (*Cursor, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	o := t.effective(ReadOptions{Lock: s.Lock, Wait: s.Wait, AnyVersion: s.AnyVersion, At: s.At})
	if err := t.ready(ctx, o); err != nil {
		return nil, err
	}
	c := &Cursor{
		t: t, o: o, limit: s.Limit, sequence: t.buffer.Mark(),
		span: keySpan{lo: s.Lo, hi: s.Hi, reverse: s.Reverse},
	}
	if s.Hi != nil && bytes.Compare(s.Lo, s.Hi) >= 0 {
		return c, nil // an empty interval
	}
	c.rowsOnly = o.Lock != LockNone && !s.Interval && t.byRow(o)
	if s.Filter != nil && o.Lock == LockNone && o.At == 0 && !s.Reverse && !t.past() && t.c.router.Reduces() {
		c.filter = s.Filter
	}
	if err := c.fixSnapshot(ctx); err != nil {
		return nil, err
	}
	ids, tokens := t.shardsOf(s.Where)
	c.first = c.firstPage(tokens * s.Where.most)
	sources, places := make([]source, len(ids)), make([]*source, 2*len(ids))
	for i, id := range ids {
		sources[i].begin(c, id)
		places[i] = &sources[i]
	}
	c.sources, c.heap = places[:len(ids):len(ids)], places[len(ids):len(ids)]
	return c, nil
}

// byRow tells whether a locking scan locks rows and not the interval.
func (t *Txn) byRow(o ReadOptions) bool {
	return t.o.Isolation == ReadCommitted || o.Wait == SkipLocked
}

// loose tells whether locks taken with o may be let go of before the end, if
// the row turns out not to be wanted.
func (t *Txn) loose(o ReadOptions) bool { return t.byRow(o) && !o.AnyVersion }

// fixSnapshot chooses the timestamp at which rows are looked for.
func (c *Cursor) fixSnapshot(ctx context.Context) (err error) {
	switch {
	case c.o.Lock == LockNone:
		c.snapshot = c.t.at(c.o)
	case c.rowsOnly:
		c.snapshot, err = c.t.LookAt(ctx)
	}
	return err
}

// LookAt is the timestamp at which rows that are to be locked one by one are
// looked for: the snapshot if the isolation level holds the transaction to it,
// else now.
func (t *Txn) LookAt(ctx context.Context) (storage.Timestamp, error) {
	if err := t.usable(); err != nil {
		return 0, err
	}
	held := t.o.Isolation == RepeatableRead && t.o.SnapshotIsolation && t.snapshot != 0
	if held || t.o.Isolation == ReadCommitted {
		return t.Snapshot(ctx)
	}
	return t.draw(ctx)
}

// firstPage is how many rows to ask a shard for at first, which has about so many at most;
// 0 is not known. It is one more than those: a page that is full may have another behind
// it, which would be a read of its own that finds nothing. Locks are taken by small pages.
func (c *Cursor) firstPage(rows int) int {
	switch {
	case c.limit > 0:
		return min(c.limit, maxPageRows)
	case rows == 0 || c.o.Lock != LockNone:
		return firstPageRows
	}
	return min(max(rows, firstPageRows)+1, maxPageRows)
}

// shardsOf are the shards to visit, and how many of the tokens lie on one of them at most.
func (t *Txn) shardsOf(w Where) (ids []shard.ID, tokens int) {
	switch w.kind {
	case whereSystem:
		return []shard.ID{shard.System}, 0
	case wherePart:
		return t.c.router.DataShards()[w.part : w.part+1], 0
	case whereOne:
		return []shard.ID{t.c.router.Shard(w.token)}, 1
	case whereSome:
		return t.owners(w.tokens)
	}
	return t.c.router.DataShards(), 0
}

// owners are the shards that own tokens, in ascending order, and the most that one owns.
func (t *Txn) owners(tokens []ring.Token) (ids []shard.ID, most int) {
	var room [16]int
	counts := room[:0] // of the shards as they come
	ids = make([]shard.ID, 0, min(len(tokens), len(t.c.router.DataShards())))
	for _, token := range tokens {
		id := t.c.router.Shard(token)
		i := slices.Index(ids, id)
		if i < 0 {
			i = len(ids)
			ids, counts = append(ids, id), append(counts, 0)
		}
		counts[i]++
		most = max(most, counts[i])
	}
	slices.Sort(ids)
	return ids, most
}

// open fetches the first pages and builds the heap.
func (c *Cursor) open(ctx context.Context) error {
	c.prepare(ctx)
	sent := requests{t: c.t}
	c.accept(c.firstPages(ctx, &sent), &sent)
	if err := sent.fail(ctx); err != nil {
		return err
	}
	return c.begin(ctx)
}

// prepare does what must happen before the first pages are asked for.
func (c *Cursor) prepare(ctx context.Context) {
	background := context.WithoutCancel(ctx)
	if len(c.sources) > 1 && c.o.Lock == LockNone {
		background, c.cancel = context.WithCancel(background)
	}
	for _, s := range c.sources {
		s.prepare(background)
	}
}

// accept hands the sources their first pages.
func (c *Cursor) accept(pages []page, sent *requests) {
	for i, s := range c.sources {
		if pages[i].err == nil {
			sent.note(s.shard, s.accept(pages[i]))
		}
	}
}

// begin finds the first rows.
func (c *Cursor) begin(ctx context.Context) error {
	for _, s := range c.sources {
		if err := s.advance(ctx); err != nil {
			return c.t.fail(ctx, err, s.shard)
		}
		if s.ok && len(c.sources) > 1 {
			c.heap = append(c.heap, s)
		}
	}
	for i := len(c.heap)/2 - 1; i >= 0; i-- {
		c.sink(i)
	}
	return nil
}

// firstPages asks all shards at once.
func (c *Cursor) firstPages(ctx context.Context, sent *requests) []page {
	pages := make([]page, len(c.sources))
	if c.o.Lock == LockNone && len(c.sources) > 1 && c.filter == nil {
		reads, same := make([]shard.ShardRead, len(pages)), c.sources[0].snapshotRequest(c.sources[0].pageRows)
		for i, s := range c.sources {
			reads[i] = shard.ShardRead{Shard: s.shard, Request: same}
		}
		sent.read(ctx, reads)
		for i := range reads {
			pages[i] = pageOf(reads[i].Response, reads[i].Err)
		}
		return pages
	}
	if c.o.Lock != LockNone {
		c.t.setState(StateReading)
		defer c.t.setState(StateIdle)
	}
	sent.send(ctx, len(c.sources), func(ctx context.Context, i int) (shard.ID, error) {
		pages[i] = c.sources[i].fetch(ctx)
		return c.sources[i].shard, pages[i].err
	})
	return pages
}

// Next returns the next row; false at the end. After an error the cursor is of
// no more use.
func (c *Cursor) Next(ctx context.Context) (Row, bool, error) {
	switch {
	case c.err != nil:
		return Row{}, false, c.err
	case c.closed || len(c.sources) == 0:
		return Row{}, false, nil
	case c.t.ended: // the own writes laid over the rows are gone
		return Row{}, false, c.t.usable()
	}
	if c.taken {
		c.taken = false
		if c.err = c.moveOn(ctx); c.err != nil {
			return Row{}, false, c.err
		}
	}
	if c.err = c.passPending(ctx); c.err != nil {
		return Row{}, false, c.err
	}
	top := c.top()
	if top == nil || !top.ok {
		return Row{}, false, nil
	}
	c.taken, top.last = true, top.head.Key
	return top.head, true, nil
}

// top is the source whose row comes first, nil if there is none.
func (c *Cursor) top() *source {
	switch {
	case len(c.sources) == 1:
		return c.sources[0]
	case len(c.heap) == 0:
		return nil
	}
	return c.heap[0]
}

// moveOn goes past the row that Next returned last. It happens when the next
// one is asked for and not before, so that a statement with a LIMIT neither
// fetches nor locks a page that it does not want.
func (c *Cursor) moveOn(ctx context.Context) error {
	top := c.top()
	if err := top.advance(ctx); err != nil {
		return c.t.fail(ctx, err, top.shard)
	}
	if len(c.sources) == 1 {
		return nil
	}
	if !top.ok {
		last := len(c.heap) - 1
		c.heap[0], c.heap = c.heap[last], c.heap[:last]
	}
	c.sink(0)
	return nil
}

// Close ends read-ahead. It may be called again. What SKIP LOCKED has locked and
// not returned it gives back: every shard was asked for the first free rows, and
// only those that come first overall were wanted.
func (c *Cursor) Close() {
	if c.closed {
		return
	}
	c.closed = true
	if c.cancel != nil {
		c.cancel()
	}
	c.heap = nil
	if c.o.Wait == SkipLocked && c.o.Lock != LockNone && !c.t.ended {
		c.t.giveBack(c.sources)
	}
}

// before tells whether key a comes before key b in the cursor's direction.
func (c *Cursor) before(a, b storage.Key) bool {
	if c.span.reverse {
		return bytes.Compare(a, b) > 0
	}
	return bytes.Compare(a, b) < 0
}

// sink restores the heap below place i.
func (c *Cursor) sink(i int) {
	h := c.heap
	for {
		first := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if c.before(h[child].head.Key, h[first].head.Key) {
				first = child
			}
		}
		if first == i {
			return
		}
		h[i], h[first] = h[first], h[i]
		i = first
	}
}
