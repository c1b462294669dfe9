package sqlfront

import (
	"cmp"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

const (
	// entriesAhead is how many index entries one batch reads, about.
	entriesAhead = 4096
	// readsAhead is how many reads one batch makes at most where each of its lookups
	// may go to all shards.
	readsAhead = 1024
	// unknownRead is how large what a read finds is taken to be until one has found
	// something: that others found nothing says nothing.
	unknownRead = 16 << 10
)

// lookUp carries out the lookups of all rows that were read ahead, as far as one page
// each: the points with one request to each node, the ranges with another, and the
// rows behind their entries with a third; more requests if what they find is large.
// What cannot be looked up together is left to its turn, and so are what goes wrong for
// one row alone and all that is not read when the batch holds aheadBytes.
func (b *joinBatch) lookUp(ctx *sql.Context) (lookupBatch, error) {
	batch := lookupBatch{join: b, first: map[string]*rowScan{}}
	outer := make(sql.Row, len(b.parent)+b.width)
	copy(outer, b.parent)
	ahead, _ := early(ctx)
	for i := range b.ahead {
		at := &b.ahead[i]
		copy(outer[len(b.parent):], at.row[len(at.row)-b.width:])
		if err := b.openFor(ctx, ahead, at, outer); err != nil {
			return batch, err
		}
		if at.scan != nil {
			batch.add(at.scan)
		}
	}
	err := batch.read(ctx)
	b.largest = cmp.Or(batch.largest, b.largest)
	return batch, err
}

// openFor opens the lookup for one outer row. One whose keys cannot be computed is
// left to its turn, and so is one whose keys give warnings.
func (b *joinBatch) openFor(ctx, ahead *sql.Context, at *outerRow, outer sql.Row) error {
	var lookup sql.IndexLookup
	var nothing, inRange bool
	var err error
	session := ahead.Session.(*earlySession)
	if nothing, err = findsNothing(ahead, b.access, outer); err == nil && !nothing {
		lookup, inRange, err = b.access.GetLookup(ahead, outer)
	}
	if len(session.take()) > 0 || err != nil {
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
	join   *joinBatch
	first  map[string]*rowScan // of several that are the same
	again  []sameLookup
	points []*rowScan
	ranges []*rowScan
	bytes  int
	// largest is how many bytes one read has found at most, 0 if none has found any.
	largest int
	left    int  // are not read, because of the bytes of others
	wide    bool // some go to several shards
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
		if a.first.done && a.first.unread == nil { // else there is more to come than its page
			a.scan.spans, a.scan.done, a.scan.page, a.scan.replay = nil, true, a.first.page, true
		}
	}
	return nil
}

func (l *lookupBatch) count(rows []txn.Row) (bytes int) {
	for i := range rows {
		bytes += len(rows[i].Key) + len(rows[i].Value)
	}
	l.bytes += bytes
	return bytes
}

// full tells whether the lookups that were not read yet are left to their turns.
func (l *lookupBatch) full() bool { return l.bytes > aheadBytes && !mutated("0076.all-at-once") }

// atOnce is how many reads one request makes of those that answer with rows: about as
// many as a batch may hold, if none finds more than the largest of this batch and of the
// last that has found any.
func (l *lookupBatch) atOnce() int {
	if mutated("0076.all-at-once") {
		return entriesAhead
	}
	return min(max(aheadBytes/cmp.Or(max(l.largest, l.join.largest), unknownRead), 1), largePage)
}

// found takes in what one read has found.
func (l *lookupBatch) found(rows ...txn.Row) {
	if bytes := l.count(rows); len(rows) > 0 && rows[0].Found {
		l.largest = max(l.largest, bytes)
	}
}

func (l *lookupBatch) readPoints(ctx *sql.Context, behind *rowsBehind) error {
	rest := l.points
	for len(rest) > 0 && !l.full() {
		some := rest[:min(l.atOnce(), len(rest))]
		rest = rest[len(some):]
		if err := l.readSomePoints(ctx, some, behind); err != nil {
			return err
		}
	}
	l.left += len(rest)
	return nil
}

func (l *lookupBatch) readSomePoints(ctx *sql.Context, points []*rowScan, behind *rowsBehind) error {
	keys := make([]txn.Key, len(points))
	for i, s := range points {
		lo := storage.Key(s.spans[0].Lo)
		keys[i], s.spans = txn.At(s.index.tokenOf(lo), lo), nil
	}
	one := points[0]
	rows, err := one.tx.GetMany(ctx, keys, one.mode.options())
	if err != nil {
		return err
	}
	for i, s := range points {
		s.done = true
		if err := behind.emit(ctx, l, s, rows[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (l *lookupBatch) readRanges(ctx *sql.Context, behind *rowsBehind) error {
	rest := l.ranges
	for len(rest) > 0 && !l.full() {
		n := len(rest)
		if rest[0].index.primary || rest[0].cover { // else they answer with entries
			n = min(l.atOnce(), n)
		}
		if err := l.readSomeRanges(ctx, rest[:n], behind); err != nil {
			return err
		}
		rest = rest[n:]
	}
	l.left += len(rest)
	return nil
}

func (l *lookupBatch) readSomeRanges(ctx *sql.Context, ranges []*rowScan, behind *rowsBehind) error {
	scans := make([]txn.Scan, len(ranges))
	each := min(max(entriesAhead/len(l.ranges), firstPage), 4*firstPage)
	for i, s := range ranges {
		scans[i] = s.nextSpan()
		scans[i].Limit = each
		l.wide = l.wide || !scans[i].Where.One()
	}
	cursors, err := ranges[0].tx.ScanMany(ctx, scans)
	if err != nil {
		return err
	}
	for i, s := range ranges {
		s.cursor = cursors[i]
	}
	for _, s := range ranges {
		stored, err := s.advance(ctx, each)
		if err != nil {
			return err
		}
		if err := behind.emit(ctx, l, s, stored); err != nil {
			return err
		}
	}
	return nil
}

// rowsBehind collects the scans that have entries whose rows are not read yet.
type rowsBehind struct{ scans []*rowScan }

// emit puts what was read for a scan into its page, or notes what has to be read yet.
func (r *rowsBehind) emit(ctx *sql.Context, l *lookupBatch, s *rowScan, stored []txn.Row) error {
	switch {
	case s.index.primary:
		l.found(stored...)
		return s.emitRows(ctx, stored)
	case s.cover:
		l.found(stored...)
		return s.emitEntries(ctx, stored)
	}
	l.count(stored)
	s.unread = stored
	r.scans = append(r.scans, s)
	return nil
}

func (r *rowsBehind) read(ctx *sql.Context, l *lookupBatch) error {
	rest := r.scans
	for len(rest) > 0 && !l.full() {
		some := rest[:1]
		for n := len(some[0].unread); len(some) < len(rest); some = rest[:len(some)+1] {
			if n += len(rest[len(some)].unread); n > l.atOnce() {
				break
			}
		}
		rest = rest[len(some):]
		if err := l.readBehind(ctx, some); err != nil {
			return err
		}
	}
	l.left += len(rest)
	return nil
}

// readBehind reads the rows behind the entries of scans.
func (l *lookupBatch) readBehind(ctx *sql.Context, scans []*rowScan) error {
	var keys []txn.Key
	var from []storage.Key
	ends := make([]int, len(scans)) // of each scan's part
	for i, s := range scans {
		k, f, err := s.behind(ctx, s.unread)
		if err != nil {
			return err
		}
		keys, from, s.unread = append(keys, k...), append(from, f...), nil
		ends[i] = len(keys)
	}
	if len(keys) == 0 {
		return nil
	}
	one := scans[0]
	rows, err := one.tx.GetMany(ctx, keys, one.mode.options())
	if err != nil {
		return err
	}
	for i := range rows {
		l.found(rows[i])
	}
	begin := 0
	for i, s := range scans {
		end := ends[i]
		if err := s.emitFetched(ctx, rows[begin:end], from[begin:end]); err != nil {
			return err
		}
		begin = end
	}
	return nil
}
