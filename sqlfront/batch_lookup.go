package sqlfront

import (
	"slices"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

const (
	// entriesAhead is how many index entries one batch reads, about.
	entriesAhead = 4096
	// readsAhead is how many reads one batch makes at most where each of its lookups
	// goes to all shards.
	readsAhead = 1024
)

// lookUp carries out the lookups of all rows that were read ahead, as far as one page
// each: the points with one request to each node, the ranges with another, and the
// rows behind their entries with a third. What cannot be looked up together is left
// to its turn, and so is what goes wrong for one row alone.
func (b *joinBatch) lookUp(ctx *sql.Context) (lookupBatch, error) {
	batch := lookupBatch{first: map[string]*rowScan{}}
	outer := make(sql.Row, len(b.parent)+b.width)
	copy(outer, b.parent)
	for i := range b.ahead {
		at := &b.ahead[i]
		copy(outer[len(b.parent):], at.row[len(at.row)-b.width:])
		if err := b.openFor(ctx, at, outer); err != nil {
			return batch, err
		}
		if at.scan != nil {
			batch.add(at.scan)
		}
	}
	return batch, batch.read(ctx)
}

// openFor opens the lookup for one outer row. One whose keys cannot be computed is
// left to its turn, and so is one whose keys give warnings.
func (b *joinBatch) openFor(ctx *sql.Context, at *outerRow, outer sql.Row) error {
	var lookup sql.IndexLookup
	var nothing, inRange bool
	var err error
	warnings := b.session.warningsOf(func() {
		if nothing, err = findsNothing(ctx, b.access, outer); err == nil && !nothing {
			lookup, inRange, err = b.access.GetLookup(ctx, outer)
		}
	})
	if len(warnings) > 0 || err != nil {
		return nil
	}
	if nothing || !inRange {
		at.nothing = true
		return nil
	}
	if ranges, ok := lookup.Ranges.(sql.MySQLRangeCollection); ok { // the next lookup overwrites them
		own := make(sql.MySQLRangeCollection, len(ranges))
		for i := range ranges {
			own[i] = slices.Clone(ranges[i])
		}
		lookup.Ranges = own
	}
	iter, err := b.table.open(ctx, &lookup)
	if err != nil {
		return err
	}
	at.scan = iter.(*rowScan)
	return nil
}

// lookupBatch is the lookups of one batch that have to be read.
type lookupBatch struct {
	first  map[string]*rowScan // of several that are the same
	again  []sameLookup
	points []*rowScan
	ranges []*rowScan
	bytes  int
	wide   bool // some go to all shards
}

// sameLookup is a lookup that another one of the batch answers.
type sameLookup struct{ scan, first *rowScan }

// add sorts a scan by how it is read.
func (l *lookupBatch) add(s *rowScan) {
	if s.done || s.replay || len(s.spans) != 1 {
		return
	}
	if s.check == nil || mutated("0076.same-span") { // else equal spans may be checked for different values
		key := s.rereadKey()
		if first := l.first[string(key)]; first != nil {
			l.again = append(l.again, sameLookup{s, first})
			return
		}
		l.first[string(key)] = s
	}
	if s.spans[0].Point && s.index.unique && !(s.index.primary && s.info.placement != nil) {
		l.points = append(l.points, s)
	} else {
		l.ranges = append(l.ranges, s)
	}
}

// read fills the first page of every scan.
func (l *lookupBatch) read(ctx *sql.Context) error {
	var behind rowsBehind
	if err := l.readPoints(ctx, &behind); err != nil {
		return err
	}
	if err := l.readRanges(ctx, &behind); err != nil {
		return err
	}
	if err := behind.read(ctx, l); err != nil {
		return err
	}
	for _, a := range l.again {
		if a.first.done { // else there is more to come than its page
			a.scan.spans, a.scan.done, a.scan.page, a.scan.replay = nil, true, a.first.page, true
		}
	}
	return nil
}

func (l *lookupBatch) count(rows []txn.Row) {
	for i := range rows {
		l.bytes += len(rows[i].Key) + len(rows[i].Value)
	}
}

func (l *lookupBatch) readPoints(ctx *sql.Context, behind *rowsBehind) error {
	if len(l.points) == 0 {
		return nil
	}
	keys := make([]txn.Key, len(l.points))
	for i, s := range l.points {
		lo := storage.Key(s.spans[0].Lo)
		keys[i], s.spans = txn.At(ring.TokenOf(lo), lo), nil
	}
	one := l.points[0]
	rows, err := one.tx.GetMany(ctx, keys, one.mode.options())
	if err != nil {
		return err
	}
	l.count(rows)
	for i, s := range l.points {
		s.done = true
		if err := behind.emit(ctx, s, rows[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (l *lookupBatch) readRanges(ctx *sql.Context, behind *rowsBehind) error {
	if len(l.ranges) == 0 {
		return nil
	}
	scans := make([]txn.Scan, len(l.ranges))
	each := min(max(entriesAhead/len(l.ranges), firstPage), 4*firstPage)
	for i, s := range l.ranges {
		scans[i] = s.nextSpan()
		scans[i].Limit = each
		l.wide = l.wide || scans[i].Where == txn.AllShards
	}
	cursors, err := l.ranges[0].tx.ScanMany(ctx, scans)
	if err != nil {
		return err
	}
	for i, s := range l.ranges {
		s.cursor = cursors[i]
	}
	for _, s := range l.ranges {
		stored, err := s.advance(ctx, each)
		if err != nil {
			return err
		}
		l.count(stored)
		if err := behind.emit(ctx, s, stored); err != nil {
			return err
		}
	}
	return nil
}

// rowsBehind collects the rows that entries point to.
type rowsBehind struct {
	keys  []txn.Key
	from  []storage.Key
	scans []*rowScan
	ends  []int // of each scan's part
}

// emit puts what was read for a scan into its page, or notes what has to be read yet.
func (r *rowsBehind) emit(ctx *sql.Context, s *rowScan, stored []txn.Row) error {
	switch {
	case s.index.primary:
		return s.emitRows(ctx, stored)
	case s.cover:
		return s.emitEntries(ctx, stored)
	}
	keys, from, err := s.behind(ctx, stored)
	if err != nil {
		return err
	}
	r.keys, r.from = append(r.keys, keys...), append(r.from, from...)
	r.scans, r.ends = append(r.scans, s), append(r.ends, len(r.keys))
	return nil
}

func (r *rowsBehind) read(ctx *sql.Context, l *lookupBatch) error {
	if len(r.keys) == 0 {
		return nil
	}
	one := r.scans[0]
	rows, err := one.tx.GetMany(ctx, r.keys, one.mode.options())
	if err != nil {
		return err
	}
	l.count(rows)
	begin := 0
	for i, s := range r.scans {
		end := r.ends[i]
		if err := s.emitFetched(ctx, rows[begin:end], r.from[begin:end]); err != nil {
			return err
		}
		begin = end
	}
	return nil
}
