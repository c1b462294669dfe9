package sqlfront

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// indexFill adds the entries of rows that are older than their index, one part of
// the rows after the other, page by page. While a page is written the next is read.
//
// A page is read at a snapshot, without a lock. Its entries are written by one
// transaction for each shard of the index, which commits in one phase. It has the
// page's snapshot, under which a key that has changed since cannot be locked, and
// whoever changes a row of an index that is written, changes the keys of its
// entries, also of those that are not there yet (editor.leaves): so an entry whose
// key is as it was belongs to a row that is as it was. No row is locked, and nobody
// waits for more than the commit.
//
// Rows of entries that somebody else has locked or changed, or that another row
// has, are entered with care: under locks on the row and on the entry.
type indexFill struct {
	job  *indexJob
	info *tableInfo
	x    *indexInfo

	noted time.Time // when the record last said how far it is
}

// fillEntry is what a row puts into the index.
type fillEntry struct {
	write
	text string // of the key, for the error of a duplicate
}

// fillPage is the next rows of a part, with their entries.
type fillPage struct {
	tx      *txn.Txn // open while its snapshot is in use
	at      storage.Timestamp
	entries []fillEntry
	last    []byte // key of the last row; nil: the part has no more
	err     error
}

func (p *fillPage) close(ctx context.Context) {
	if p.tx != nil {
		_ = p.tx.Rollback(ctx) // it has only read
	}
}

// fill adds the entries of all rows that are left; false if there is something else
// to be done first.
func (j *indexJob) fill(ctx context.Context, schema *catalog.Schema, desc *catalog.Table) (bool, error) {
	info, err := j.catalog.info(schema, desc)
	if err != nil {
		return false, err
	}
	if j.record.Rows != desc.Rows {
		j.record.Rows, j.record.Part, j.record.Position, j.record.Done = desc.Rows, 0, nil, 0
	}
	if j.record.Part == 0 && j.record.Position == nil {
		if err := j.count(ctx, info); err != nil {
			return false, err
		}
	}
	f := &indexFill{job: j, info: info, x: info.byName(j.record.Index)}
	for err == nil && j.record.Part < j.catalog.coordinator.Parts() {
		if err = f.part(ctx); err == nil {
			j.record.Part, j.record.Position = j.record.Part+1, nil
		}
	}
	if err == nil {
		err = f.note(ctx, true)
	}
	if errors.Is(err, errHold) {
		return false, nil
	}
	return err == nil, err
}

// errHold ends a fill whose job was paused or cancelled.
var errHold = errors.New("the job is to do something else")

// noteEvery is how often the record says how far the job is.
const noteEvery = 250 * time.Millisecond

// note writes down how far the job is, if it is time, and finds out whether it is
// to go on.
func (f *indexFill) note(ctx context.Context, always bool) error {
	if !always && time.Since(f.noted) < noteEvery {
		return nil
	}
	now := &f.job.record
	var hold bool
	err := f.job.change(ctx, func(r *jobRecord) {
		hold = r.State != jobRunning || r.Undo
		r.Rows, r.Part, r.Position, r.Done = now.Rows, now.Part, now.Position, now.Done
	})
	if err == nil && hold {
		err = errHold
	}
	if err == nil && f.x.unique {
		err = f.job.doubles(ctx, f.x.id)
	}
	f.noted = time.Now()
	return err
}

// count tells how many rows there are to go through, for who watches.
func (j *indexJob) count(ctx context.Context, info *tableInfo) error {
	tx := j.catalog.reader("index")
	defer tx.Rollback(ctx)
	cursor, err := tx.Scan(ctx, txn.Scan{Lo: info.primary.start, Hi: keycodec.PrefixEnd(info.primary.start)})
	if err != nil {
		return err
	}
	defer cursor.Close()
	for n := uint64(0); ; n++ {
		_, ok, err := cursor.Next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return j.change(ctx, func(r *jobRecord) { r.Total = n })
		}
	}
}

// part goes through the rest of a part.
func (f *indexFill) part(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	r := &f.job.record
	ahead := f.readAhead(ctx, r.Part, r.Position)
	defer func() { // the page that was read ahead is let go of
		cancel()
		p := <-ahead
		p.close(context.WithoutCancel(ctx))
	}()
	for {
		page := <-ahead
		if page.err == nil && page.last != nil {
			ahead = f.readAhead(ctx, r.Part, page.last)
		} else {
			ahead = f.nothing()
		}
		began := time.Now()
		err := f.enterPage(ctx, &page)
		page.close(ctx)
		if err != nil || page.last == nil {
			return err
		}
		r.Position, r.Done = page.last, r.Done+uint64(len(page.entries))
		rest := f.job.pace.did(len(page.entries), time.Since(began))
		if err := f.note(ctx, false); err != nil {
			return err
		}
		if err := pauseFor(ctx, rest); err != nil {
			return err
		}
	}
}

// readAhead reads the page after a key in the background.
func (f *indexFill) readAhead(ctx context.Context, part int, after []byte) chan fillPage {
	ahead := make(chan fillPage, 1)
	rows := f.job.pace.rows()
	go func() { ahead <- f.read(ctx, part, after, rows) }()
	return ahead
}

// nothing is a page ahead that is not wanted.
func (*indexFill) nothing() chan fillPage {
	ahead := make(chan fillPage, 1)
	ahead <- fillPage{}
	return ahead
}

// read finds the next rows of a part, as they are now, and makes their entries.
func (f *indexFill) read(ctx context.Context, part int, after []byte, rows int) fillPage {
	p := fillPage{tx: f.job.catalog.reader("index")}
	p.err = f.readRows(ctx, &p, part, after, rows)
	return p
}

func (f *indexFill) readRows(ctx context.Context, p *fillPage, part int, after []byte, rows int) (err error) {
	if p.at, err = p.tx.Snapshot(ctx); err != nil {
		return err
	}
	lo := storage.Key(f.info.primary.start)
	if after != nil {
		lo = append(slices.Clone(after), 0)
	}
	cursor, err := p.tx.Scan(ctx, txn.Scan{Lo: lo, Hi: keycodec.PrefixEnd(f.info.primary.start), Where: txn.OnePart(part), Limit: rows})
	if err != nil {
		return err
	}
	defer cursor.Close()
	sqlCtx := sql.NewContext(ctx)
	for len(p.entries) < rows {
		row, ok, err := cursor.Next(ctx)
		if err != nil || !ok {
			return err
		}
		home, err := f.info.rowLocationOf(ctx, slices.Clone(row.Key), row.Value)
		if err != nil {
			return err
		}
		e, err := f.entry(sqlCtx, home, row.Value)
		if err != nil {
			return err
		}
		p.entries, p.last = append(p.entries, e), home.key
	}
	return nil
}

// entry is what the index should have of a stored row.
func (f *indexFill) entry(ctx *sql.Context, home location, value []byte) (fillEntry, error) {
	row, err := f.info.decodeRow(ctx, value)
	if err != nil {
		return fillEntry{}, err
	}
	if row, err = f.info.withVirtual(ctx, row); err != nil {
		return fillEntry{}, err
	}
	e := fillEntry{write: write{home: home, index: f.x}, text: keyText(f.x, row)}
	if e.at, e.conflict, err = f.x.entryLocation(ctx, row, home); err != nil {
		return fillEntry{}, err
	}
	e.value, err = f.x.encodeEntry(ctx, row, home)
	return e, err
}

// enterPage adds the entries of a page, all shards at once.
func (f *indexFill) enterPage(ctx context.Context, p *fillPage) error {
	if p.err != nil {
		return p.err
	}
	coordinator := f.job.catalog.coordinator
	parts := make([][]fillEntry, coordinator.Parts())
	for _, e := range p.entries {
		to := coordinator.PartOf(e.at.txn())
		parts[to] = append(parts[to], e)
	}
	left := make([][]location, len(parts))
	errs := make([]error, len(parts))
	var all sync.WaitGroup
	for i, entries := range parts {
		if len(entries) > 0 {
			all.Go(func() { left[i], errs[i] = f.enter(ctx, p.at, entries) })
		}
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return f.enterWithCare(ctx, slices.Concat(left...))
}

// mostConflicts is how many rows of a page are left out one by one because they
// have changed; if there are more, many are changing.
const mostConflicts = 8

// enter adds entries of one shard, at their rows' snapshot, and returns the rows
// whose entries somebody else has changed since then, or is changing.
func (f *indexFill) enter(ctx context.Context, at storage.Timestamp, entries []fillEntry) (left []location, err error) {
	for tries := 0; len(entries) > 0; tries++ {
		if tries > mostConflicts {
			for _, e := range entries {
				left = append(left, e.home)
			}
			break
		}
		blocked, err := f.enterOnce(ctx, at, entries)
		var e *txn.Error
		if !errors.As(err, &e) || e.Code != txn.Conflict || e.Key == nil {
			return append(left, blocked...), err
		}
		i := slices.IndexFunc(entries, func(x fillEntry) bool { return string(x.at.key) == string(e.Key) })
		if i < 0 {
			return nil, err
		}
		left = append(left, entries[i].home)
		entries = slices.Delete(entries, i, i+1)
	}
	return left, nil
}

// enterOnce adds entries of one shard in one transaction.
func (f *indexFill) enterOnce(ctx context.Context, at storage.Timestamp, entries []fillEntry) ([]location, error) {
	tx := f.job.catalog.coordinator.Begin(txn.Options{
		Isolation: txn.RepeatableRead, SnapshotIsolation: !mutated("H11.fill-blindly"), Snapshot: at, Label: "index"})
	defer tx.Rollback(ctx)
	tx.Uses(uint64(f.info.desc.ID), f.info.desc.Version)
	left, duplicate, err := f.put(ctx, tx, entries)
	if err != nil {
		return nil, err
	}
	return append(left, duplicate.homes...), tx.Commit(ctx)
}

// duplicates are rows whose entry another row has.
type duplicates struct {
	homes []location
	texts []string
}

// put locks the entries' keys and writes those that are not there. It returns the
// rows whose keys somebody else has locked, and those whose entry another row has.
func (f *indexFill) put(ctx context.Context, tx *txn.Txn, entries []fillEntry) (blocked []location, d duplicates, err error) {
	keys := make([]txn.Key, len(entries))
	for i, e := range entries {
		keys[i] = e.at.txn()
	}
	found, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive, Wait: txn.SkipLocked})
	if err != nil {
		return nil, d, err
	}
	taken := map[string]bool{}
	for i, e := range entries {
		switch {
		case found[i].Skipped:
			blocked = append(blocked, e.home)
			continue
		case e.conflict && (taken[string(e.at.key)] || found[i].Found && !f.x.owns(e.home, found[i])):
			d.homes, d.texts = append(d.homes, e.home), append(d.texts, e.text)
			continue
		}
		if e.conflict {
			taken[string(e.at.key)] = true
		}
		if found[i].Found {
			continue
		}
		if err := tx.Put(e.at.txn(), e.value); err != nil {
			return nil, d, err
		}
	}
	return blocked, d, nil
}

// enterWithCare adds the entries of rows under locks on both. It never waits for a
// lock: it holds some itself, and must not be in anybody's way for longer than it
// works. What somebody has locked it tries again.
func (f *indexFill) enterWithCare(ctx context.Context, rows []location) error {
	for len(rows) > 0 {
		left, err := f.enterLocked(ctx, rows)
		if err != nil {
			return err
		}
		if rows = left; len(rows) == 0 {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
		if err := f.note(ctx, false); err != nil {
			return err
		}
	}
	return nil
}

// enterLocked adds the entries of rows in one transaction, except of those that
// somebody else has locked, which it returns.
func (f *indexFill) enterLocked(ctx context.Context, rows []location) ([]location, error) {
	tx := f.job.catalog.begin("index")
	defer tx.Rollback(ctx)
	tx.Uses(uint64(f.info.desc.ID), f.info.desc.Version)
	keys := make([]txn.Key, len(rows))
	for i, at := range rows {
		keys[i] = at.txn()
	}
	found, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockShared, Wait: txn.SkipLocked})
	if err != nil {
		return nil, err
	}
	var left []location
	var entries []fillEntry
	sqlCtx := sql.NewContext(ctx)
	for i, row := range found {
		if row.Skipped {
			left = append(left, rows[i])
		}
		if row.Skipped || !row.Found {
			continue
		}
		e, err := f.entry(sqlCtx, rows[i], row.Value)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	blocked, duplicate, err := f.put(ctx, tx, entries)
	if err != nil {
		return nil, err
	}
	if len(duplicate.texts) > 0 {
		return nil, errDuplicateRow{duplicate.texts[0]}
	}
	return append(left, blocked...), tx.Commit(ctx)
}
