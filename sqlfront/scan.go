package sqlfront

import (
	"fmt"
	"io"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// Rows are fetched in pages that grow, so that a statement that wants one row
// costs one and a long scan costs few round trips.
const (
	firstPage = 16
	largePage = 512
)

// rowScan yields the rows of a table scan or an index lookup.
type rowScan struct {
	table *Table
	info  *tableInfo
	index *indexInfo
	tx    *txn.Txn
	mode  readMode
	out   []int // schema positions to return; nil: all

	spans   []codec.Span
	reverse bool
	check   *codec.Check // of the columns that checked names; nil: spans are exact
	checked []int
	cover   bool // answered from index entries
	// checkEntry: check runs on the entry, before the row is fetched.
	checkEntry bool
	// eager: everything is read at once, because later spans would show what
	// the statement wrote after the first.
	eager bool
	whole bool // the whole table is read

	cursor *txn.Cursor
	stored []txn.Row // room for what a page is made of
	page   []sql.Row
	next   int
	size   int
	done   bool
	unread []txn.Row // entries, whose rows come next

	loose looseScan

	record *reread // keeps what is returned; nil: nothing does
	replay bool    // page is somebody else's

	rows    projection // of the row
	entries projection // of the index entry: the result, or the columns to check
}

func (m readMode) options() txn.ReadOptions {
	return txn.ReadOptions{Lock: m.lock, Wait: m.wait, AnyVersion: m.anyVersion}
}

// firstPage is how many rows the first page has. A locking read starts with one:
// what is fetched is locked, and of a queue that many take from with LIMIT 1 and
// SKIP LOCKED nobody should lock more than he takes.
func (m readMode) firstPage() int {
	if m.limit > 0 && m.lock != txn.LockNone {
		return m.limit
	}
	if m.lock != txn.LockNone && !m.change {
		return 1
	}
	return firstPage
}

// open starts reading: the whole table, or a lookup.
func (t *Table) open(ctx *sql.Context, lookup *sql.IndexLookup) (sql.RowIter, error) {
	info := t.now()
	s := &rowScan{table: t, info: info, index: info.primary, mode: t.read, out: t.columns, size: t.read.firstPage()}
	var err error
	if s.tx, err = t.transaction(ctx); err != nil {
		return nil, err
	}
	if t.read.lock != txn.LockNone {
		t.session.uses(s.tx, info)
	}
	if err := t.lockToRead(ctx); err != nil {
		return nil, err
	}
	if err := t.session.visible(ctx, s.tx, t.read, info, info.primary); err != nil {
		return nil, err
	}
	if lookup == nil {
		s.whole = true
		s.spans = []codec.Span{{Lo: info.primary.start, Hi: keycodec.PrefixEnd(info.primary.start)}}
		return s, s.begin(ctx)
	}
	if err := s.lookup(ctx, lookup); err != nil {
		return nil, err
	}
	if err := t.session.visible(ctx, s.tx, t.read, info, s.index); err != nil {
		return nil, err
	}
	return s, s.begin(ctx)
}

// begin prepares the scan, unless the statement has made the same before.
func (s *rowScan) begin(ctx *sql.Context) error {
	if err := s.beginLoose(ctx); err != nil {
		return err
	}
	if s.remember(); s.replay {
		return nil
	}
	return s.prepare()
}

// transaction is the one that reads of this handle go through.
func (t *Table) transaction(ctx *sql.Context) (*txn.Txn, error) {
	if t.read.tx != nil {
		return t.read.tx, nil
	}
	return t.session.txn(ctx)
}

// visible refuses to read data in a snapshot older than the data itself (MySQL:
// ER_TABLE_DEF_CHANGED). Locking reads see the latest versions and may.
func (s *Session) visible(ctx *sql.Context, tx *txn.Txn, mode readMode, info *tableInfo, x *indexInfo) error {
	if mode.lock != txn.LockNone {
		return nil
	}
	at, err := tx.Snapshot(ctx)
	if err != nil {
		return s.failed(err)
	}
	if at < x.public && !mutated("H11.young-index") {
		return errDataTooNew
	}
	if x != info.primary {
		return nil // the table was looked at with its rows
	}
	return s.stillPlanned(ctx, at, info)
}

// lookup translates the planner's ranges into spans of keys.
func (s *rowScan) lookup(ctx *sql.Context, lookup *sql.IndexLookup) error {
	index, ok := lookup.Index.(*Index)
	if !ok {
		return fmt.Errorf("lookup through an index of type %T", lookup.Index)
	}
	s.index = s.info.byName(index.index.name)
	if s.index == nil {
		return sql.ErrIndexNotFound.New(index.index.name)
	}
	s.reverse = lookup.IsReverse
	if lookup.IsEmptyRange {
		return nil
	}
	ranges, ok := lookup.Ranges.(sql.MySQLRangeCollection)
	if !ok {
		return fmt.Errorf("lookup by ranges of type %T", lookup.Ranges)
	}
	if s.mode.anyVersion && s.otherTime(ranges) {
		return nil
	}
	spans, exact, err := s.keySpans(ctx, ranges)
	if err != nil {
		return err
	}
	s.spans = spans
	if s.reverse {
		slices.Reverse(s.spans)
	}
	if !exact {
		err = s.checkRanges(ctx, ranges)
	}
	return err
}

// otherTime tells whether a foreign key looks for a point in time of another
// type than the column's. The engine lets such a key be declared but refuses to
// satisfy it, by comparing the types of the index, which are not the columns'.
func (s *rowScan) otherTime(ranges sql.MySQLRangeCollection) bool {
	for _, r := range ranges {
		for i, c := range s.index.columns[:min(len(r), len(s.index.columns))] {
			if types.IsTime(r[i].Typ) && !s.info.schema[c].Type.Equals(r[i].Typ) {
				return true
			}
		}
	}
	return false
}

// keySpans asks the codec for the spans. Ranges may name the primary key's
// columns after those of the index; the key orders them too, but the codec of
// the index does not know them: they are cut off and checked afterwards.
func (s *rowScan) keySpans(ctx *sql.Context, ranges sql.MySQLRangeCollection) ([]codec.Span, bool, error) {
	width := len(s.index.columns)
	cut := false
	short := make(sql.MySQLRangeCollection, len(ranges))
	for i, r := range ranges {
		short[i] = r
		if len(r) > width {
			short[i], cut = r[:width], true
		}
	}
	spans, exact, err := s.index.key.Spans(ctx, s.index.start, short)
	return spans, exact && !cut, err
}

// checkRanges has every row checked: as many columns of the extended index as
// the ranges have.
func (s *rowScan) checkRanges(ctx *sql.Context, ranges sql.MySQLRangeCollection) (err error) {
	width := len(s.index.columns)
	for _, r := range ranges {
		width = max(width, len(r))
	}
	s.checked = (&Index{table: s.info, index: s.index}).extended()[:width]
	var more []sql.Type
	for _, c := range s.checked[len(s.index.columns):] {
		more = append(more, s.info.schema[c].Type)
	}
	s.check, err = s.index.key.NewCheck(ctx, ranges, more...)
	return err
}

// Next implements sql.RowIter.
func (s *rowScan) Next(ctx *sql.Context) (sql.Row, error) {
	for s.next >= len(s.page) {
		if s.done && len(s.unread) == 0 {
			s.endRecord(true)
			return nil, io.EOF
		}
		if err := s.fill(ctx); err != nil {
			s.endRecord(false)
			return nil, s.table.session.failed(err)
		}
	}
	row := s.page[s.next]
	s.next++
	if s.record != nil {
		s.note(row)
	}
	if s.replay {
		return row.Copy(), nil
	}
	return row, nil
}

// Close implements sql.RowIter. It may be called again.
func (s *rowScan) Close(ctx *sql.Context) error {
	s.closeCursor()
	s.endRecord(false)
	if s.loose.on {
		s.letGoRest(ctx) // what stays locked goes with the transaction
	}
	s.done, s.page, s.next, s.unread = true, nil, 0, nil
	return nil
}

func (s *rowScan) closeCursor() {
	if s.cursor != nil {
		s.cursor.Close()
		s.cursor = nil
	}
}

// fill reads one page, or everything.
func (s *rowScan) fill(ctx *sql.Context) error {
	s.page, s.next = s.page[:0], 0
	s.loose.fetched = s.loose.fetched[:0]
	for {
		if err := s.fillPage(ctx); err != nil || s.done || !s.eager {
			return err
		}
	}
}

// fillPage adds one page.
func (s *rowScan) fillPage(ctx *sql.Context) error {
	if entries := s.unread; len(entries) > 0 {
		s.unread = nil
		return s.fetch(ctx, entries)
	}
	keys := s.points()
	if len(keys) > 0 {
		return s.fillPoints(ctx, keys)
	}
	if s.loose.on {
		return s.fillLoose(ctx)
	}
	stored, err := s.advanceInto(ctx, s.stored[:0], s.size)
	if err != nil {
		return err
	}
	s.stored = stored
	s.size = min(2*s.size, largePage)
	if s.index.primary {
		return s.emitRows(ctx, stored)
	}
	if s.cover {
		return s.emitEntries(ctx, stored)
	}
	return s.fetch(ctx, stored)
}

// points takes the run of point spans at the front, if keys can be computed
// from them, so that one request per shard reads them all.
func (s *rowScan) points() []txn.Key {
	if s.cursor != nil || !s.index.unique || s.index.primary && s.info.placement != nil {
		return nil
	}
	var keys []txn.Key
	for len(s.spans) > 0 && s.spans[0].Point && len(keys) < largePage {
		lo := storage.Key(s.spans[0].Lo)
		keys = append(keys, txn.At(s.index.tokenOf(lo), lo))
		s.spans = s.spans[1:]
	}
	return keys
}

func (s *rowScan) fillPoints(ctx *sql.Context, keys []txn.Key) error {
	rows, err := s.tx.GetMany(ctx, keys, s.mode.options())
	if err == nil {
		err = s.lockedAsPlanned(ctx)
	}
	if err != nil {
		return err
	}
	s.done = len(s.spans) == 0
	if s.loose.on {
		s.loose.ended = s.done
		return s.loosePoints(ctx, rows)
	}
	switch {
	case s.index.primary:
		return s.emitRows(ctx, rows)
	case s.cover:
		return s.emitEntries(ctx, rows)
	}
	return s.fetch(ctx, rows)
}

// advance reads the next page of keys from the spans, opening cursors as needed.
func (s *rowScan) advance(ctx *sql.Context, n int) ([]txn.Row, error) {
	return s.advanceInto(ctx, nil, n)
}

// advanceInto is advance with room for the page.
func (s *rowScan) advanceInto(ctx *sql.Context, page []txn.Row, n int) ([]txn.Row, error) {
	for len(page) < n {
		if s.cursor == nil {
			if len(s.spans) == 0 {
				s.done = true
				break
			}
			if err := s.openCursor(ctx); err != nil {
				return nil, err
			}
		}
		row, ok, err := s.cursor.Next(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			s.closeCursor()
			continue
		}
		page = append(page, row)
	}
	return page, nil
}

func (s *rowScan) openCursor(ctx *sql.Context) error {
	var err error
	if s.cursor, err = s.tx.Scan(ctx, s.nextSpan()); err != nil {
		return err
	}
	return s.lockedAsPlanned(ctx)
}

// nextSpan takes the span at the front.
func (s *rowScan) nextSpan() txn.Scan {
	span := s.spans[0]
	s.spans = s.spans[1:]
	scan := txn.Scan{Lo: span.Lo, Hi: span.Hi, Where: s.where(span), Reverse: s.reverse, Lock: s.mode.lock, Wait: s.mode.wait,
		AnyVersion: s.mode.anyVersion, Interval: s.mode.interval}
	if s.loose.on {
		scan.Lock, scan.At = txn.LockNone, s.loose.at
	} else if s.mode.limit > 0 || s.size == 1 {
		scan.Limit = s.size
	}
	if s.whole && s.mode.filter != nil {
		scan.Filter = s.mode.filter.program(s)
	}
	return scan
}

// lockedAsPlanned looks, once locks were granted, whether the plan holds; what is
// read without locks was looked at when it got its timestamp.
func (s *rowScan) lockedAsPlanned(ctx *sql.Context) error {
	if s.mode.lock == txn.LockNone || s.loose.on {
		return nil
	}
	return s.table.session.stillPlanned(ctx, storage.MaxTimestamp, s.info)
}

// where narrows a span to the shards that can have something of it.
func (s *rowScan) where(span codec.Span) txn.Where {
	x := s.index
	switch {
	case x.blocks > 0:
		return x.whereBlocks(span.Lo, span.Hi)
	case span.Equal == 0 || x.key == nil:
	case !x.unique:
		rest, err := x.key.Skip(span.Lo[len(x.start):], 1)
		if err == nil {
			return txn.OneShard(x.tokenOf(span.Lo[:len(span.Lo)-len(rest)]))
		}
	case x.primary && s.info.placement != nil:
		return s.wherePlaced(span)
	case span.Equal == len(x.columns):
		rest, err := x.key.Skip(span.Lo[len(x.start):], len(x.columns))
		if err == nil {
			return txn.OneShard(x.tokenOf(span.Lo[:len(span.Lo)-len(rest)]))
		}
	}
	return txn.AllShards
}

// wherePlaced narrows by PARTITION BY KEY when the placement columns are the
// first of the key, in order, and fixed.
func (s *rowScan) wherePlaced(span codec.Span) txn.Where {
	n := len(s.info.placement)
	if span.Equal < n || !slices.Equal(s.info.placement, s.index.columns[:n]) {
		return txn.AllShards
	}
	body := span.Lo[len(s.index.start):]
	rest, err := s.index.key.Skip(body, n)
	if err != nil {
		return txn.AllShards
	}
	return txn.OneShard(placedBy(body[:len(body)-len(rest)]))
}
