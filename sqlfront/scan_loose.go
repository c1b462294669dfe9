package sqlfront

import (
	"bytes"
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// Under READ COMMITTED and with SKIP LOCKED a locking scan promises nothing
// about rows that it does not return, so it should keep no locks on others. It
// looks for rows without locks, locks them, a few at a time, and reads them again:
// what is gone or does not match the statement's condition is let go of, and so
// is what the statement did not fetch.
//
// With SKIP LOCKED, and in an UPDATE of one table, what does not match before it
// is locked is not locked at all. In InnoDB that is the semi-consistent read of
// UPDATE; other statements wait for a locked row before they judge it.

// candidate is a row found without a lock.
type candidate struct {
	at    txn.Row // the row
	entry []byte  // the key of the index entry that led to it; nil: none did
	row   sql.Row // decoded and projected
	now   txn.Row // under its lock, if tried
	tried bool
	fits  bool // it matches as it is in at
}

// looseScan is the state of such a scan.
type looseScan struct {
	on    bool
	at    storage.Timestamp // where it looks
	looks int               // how many keys it looks at next
	found []candidate
	skips bool // others hold rows here
	batch int  // how many rows were locked last without a match
	// unwanted rows are let go of together.
	unwanted []txn.Row
	// fetched are the locked rows of the page, one or two for each of its rows.
	fetched [][]txn.Row
	ended   bool // nothing more to look for
}

// rowCondition is the condition that the statement puts on the rows of a table.
type rowCondition struct{ expression sql.Expression }

// isLoose tells whether rows are locked one by one.
func (s *rowScan) isLoose(isolation txn.Isolation) bool {
	return s.mode.lock != txn.LockNone && s.mode.tx == nil && !s.mode.interval &&
		(isolation == txn.ReadCommitted || s.mode.wait == txn.SkipLocked)
}

// beginLoose decides where a loose scan looks. An index that is younger than
// that place lacks rows there.
func (s *rowScan) beginLoose(ctx *sql.Context) (err error) {
	if s.loose.on = s.isLoose(s.table.session.level()); !s.loose.on {
		return nil
	}
	s.loose.at, err = s.table.session.looksAt(ctx, s.tx, s.info, s.index)
	return err
}

// looksAt is where a loose scan of an index looks.
func (s *Session) looksAt(ctx *sql.Context, tx *txn.Txn, info *tableInfo, x *indexInfo) (storage.Timestamp, error) {
	at, err := tx.LookAt(ctx)
	if err != nil {
		return 0, s.failed(err)
	}
	if at < x.public {
		return 0, errDataTooNew
	}
	return at, s.stillPlanned(ctx, at, info)
}

// fillLoose adds the next rows to the page.
func (s *rowScan) fillLoose(ctx *sql.Context) error {
	if s.mode.first != nil && !s.loose.ended {
		if err := s.lookAll(ctx); err != nil {
			return err
		}
	}
	want := len(s.page) + s.size
	s.size, s.loose.batch = min(2*s.size, largePage), 0
	for len(s.page) < want {
		if err := s.lookAhead(ctx, want-len(s.page)); err != nil {
			return err
		}
		found := s.loose.found
		if len(found) == 0 {
			s.done = true
			break
		}
		if !found[0].tried {
			if err := s.try(ctx, want-len(s.page)); err != nil {
				return err
			}
			continue
		}
		s.loose.found = found[1:]
		if err := s.take(ctx, found[0]); err != nil {
			return err
		}
	}
	s.done = s.done || s.mode.first != nil
	return s.letGo(ctx)
}

// lookAhead finds as many candidates as are wanted, more if others hold some.
func (s *rowScan) lookAhead(ctx *sql.Context, want int) error {
	if s.loose.skips || s.loose.batch > 0 {
		want = max(want, skipAhead)
	}
	for len(s.loose.found) < want && !s.loose.ended {
		if err := s.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// skipAhead is how many rows SKIP LOCKED tries in one go once it has met locks.
// Each shard stops when it has locked as many as are wanted.
const skipAhead = 64

// try locks the candidates at the front: as many as are wanted.
func (s *rowScan) try(ctx *sql.Context, want int) error {
	s.loose.batch = min(max(want, 2*s.loose.batch), max(want, skipAhead))
	n := min(s.loose.batch, len(s.loose.found))
	if s.loose.skips {
		n = min(max(want, skipAhead), len(s.loose.found))
	}
	var rows []txn.Row
	var from []int
	for i := range s.loose.found[:n] {
		if c := &s.loose.found[i]; !c.tried {
			rows, from = append(rows, c.at), append(from, i)
		}
	}
	locked, err := s.tx.LockRows(ctx, rows, s.mode.options(), want)
	if err != nil {
		return err
	}
	for i, r := range locked {
		c := &s.loose.found[from[i]]
		c.now, c.tried = r, !r.Untried
		s.loose.skips = s.loose.skips || r.Skipped
	}
	return nil
}

// take puts a candidate that was locked into the page, if it still matches.
func (s *rowScan) take(ctx *sql.Context, c candidate) error {
	row, ok, err := s.still(ctx, c)
	switch {
	case err != nil:
		return err
	case ok:
		s.keep(row, c.now)
	case !c.now.Skipped:
		s.loose.unwanted = append(s.loose.unwanted, c.now)
	}
	return nil
}

// look finds candidates: one page of keys, compared with the condition.
func (s *rowScan) look(ctx *sql.Context) error {
	s.loose.looks = min(max(2*s.loose.looks, firstPage), largePage)
	stored, err := s.advance(ctx, s.loose.looks)
	if err != nil {
		return err
	}
	s.loose.ended, s.done = s.done, false
	if s.index.primary {
		for _, r := range stored {
			if err := s.consider(ctx, r, nil); err != nil {
				return err
			}
		}
		return nil
	}
	return s.lookBehind(ctx, stored)
}

// lookBehind reads the rows that entries point to.
func (s *rowScan) lookBehind(ctx *sql.Context, entries []txn.Row) error {
	var keys []txn.Key
	var from []txn.Row
	for _, e := range entries {
		at, covered, err := decodeEntry(s.info.desc.Rows, e.Value)
		if err != nil {
			return err
		}
		if s.checkEntry {
			if ok, err := s.passes(ctx, &s.entries, covered); err != nil {
				return err
			} else if !ok {
				continue
			}
		}
		keys, from = append(keys, at.txn()), append(from, e)
	}
	rows, err := s.tx.GetMany(ctx, keys, txn.ReadOptions{At: s.loose.at})
	if err != nil {
		return err
	}
	for i, r := range rows {
		if err := s.consider(ctx, r, from[i].Key); err != nil {
			return err
		}
	}
	return nil
}

// consider keeps a row that is to be locked.
func (s *rowScan) consider(ctx *sql.Context, at txn.Row, entry []byte) error {
	if !at.Found {
		return nil
	}
	row, ok, err := s.match(ctx, at.Value)
	if err == nil && (ok || !s.mode.semi && s.mode.wait != txn.SkipLocked) {
		s.loose.found = append(s.loose.found, candidate{at: at, entry: entry, row: row, fits: ok})
	}
	return err
}

// match decodes a row and tells whether it satisfies ranges and condition.
func (s *rowScan) match(ctx *sql.Context, value []byte) (sql.Row, bool, error) {
	full, err := s.rows.decode(ctx, len(s.info.schema), value)
	if err != nil {
		return nil, false, fmt.Errorf("row of %s: %w", s.info.desc.Name, err)
	}
	if s.check != nil && !s.checkEntry {
		if ok, err := s.satisfies(ctx, full); err != nil || !ok {
			return nil, false, err
		}
	}
	row := s.project(full)
	ok, err := s.mode.where.holds(ctx, row)
	return row, ok, err
}

// holds evaluates the condition; nil holds always.
func (c *rowCondition) holds(ctx *sql.Context, row sql.Row) (bool, error) {
	if c == nil {
		return true, nil
	}
	v, err := sql.EvaluateCondition(ctx, c.expression, row)
	return err == nil && sql.IsTrue(v), err
}

// still looks at a candidate under its lock: the row as it is now, if it is
// still what the scan looks for.
func (s *rowScan) still(ctx *sql.Context, c candidate) (sql.Row, bool, error) {
	now := c.now
	switch {
	case now.Skipped || !now.Found:
		return nil, false, nil
	case bytes.Equal(now.Value, c.at.Value):
		return c.row, c.fits, nil
	}
	if c.entry != nil {
		same, err := s.entryStands(ctx, c, now.Value)
		if err != nil || !same {
			return nil, false, err
		}
	}
	return s.match(ctx, now.Value)
}

// entryStands tells whether a row still has the index entry that led to it.
func (s *rowScan) entryStands(ctx *sql.Context, c candidate, value []byte) (bool, error) {
	row, err := s.info.decodeRow(ctx, value)
	if err != nil {
		return false, err
	}
	if row, err = s.info.withVirtual(ctx, row); err != nil {
		return false, err
	}
	at, _, err := s.index.entryLocation(ctx, row, location{key: c.at.Key})
	return err == nil && bytes.Equal(at.key, c.entry), err
}

// keep adds a row to the page with the locks that it holds.
func (s *rowScan) keep(row sql.Row, locks ...txn.Row) {
	s.page = append(s.page, row)
	s.loose.fetched = append(s.loose.fetched, locks)
}

// letGo unlocks the rows that the statement does not want.
func (s *rowScan) letGo(ctx *sql.Context) error {
	rows := s.loose.unwanted
	s.loose.unwanted = nil
	if len(rows) == 0 {
		return nil
	}
	return s.tx.UnlockRows(ctx, rows)
}

// letGoRest unlocks what was locked and not fetched.
func (s *rowScan) letGoRest(ctx *sql.Context) error {
	rest := s.loose.unwanted
	for _, locks := range s.loose.fetched[min(s.next, len(s.loose.fetched)):] {
		rest = append(rest, locks...)
	}
	for _, c := range s.loose.found {
		if c.tried && !c.now.Skipped {
			rest = append(rest, c.now)
		}
	}
	s.loose.fetched, s.loose.found, s.loose.unwanted = nil, nil, rest
	return s.letGo(ctx)
}

// loosePoints emits rows found by their whole key: locked at once, as a lookup
// under REPEATABLE READ is, for a row that is being inserted is waited for.
func (s *rowScan) loosePoints(ctx *sql.Context, rows []txn.Row) error {
	if !s.index.primary {
		return s.loosePointRows(ctx, rows)
	}
	return s.keepMatching(ctx, rows, nil)
}

// loosePointRows goes on from entries of a unique index to their rows.
func (s *rowScan) loosePointRows(ctx *sql.Context, entries []txn.Row) error {
	var keys []txn.Key
	var from []txn.Row
	for _, e := range entries {
		if e.Skipped {
			continue
		}
		if !e.Found {
			s.loose.unwanted = append(s.loose.unwanted, e)
			continue
		}
		at, covered, err := decodeEntry(s.info.desc.Rows, e.Value)
		if err != nil {
			return err
		}
		if s.checkEntry {
			if ok, err := s.passes(ctx, &s.entries, covered); err != nil {
				return err
			} else if !ok {
				s.loose.unwanted = append(s.loose.unwanted, e)
				continue
			}
		}
		keys, from = append(keys, at.txn()), append(from, e)
	}
	rows, err := s.tx.GetMany(ctx, keys, s.mode.options())
	if err != nil {
		return err
	}
	return s.keepMatching(ctx, rows, from)
}

// keepMatching puts locked rows that match into the page; entries, if not nil,
// are locked with them.
func (s *rowScan) keepMatching(ctx *sql.Context, rows, entries []txn.Row) error {
	for i, r := range rows {
		locks := []txn.Row{r}
		if r.Skipped {
			locks = nil
		}
		if entries != nil {
			locks = append(locks, entries[i])
		}
		if r.Found {
			row, ok, err := s.match(ctx, r.Value)
			if err != nil {
				return err
			}
			if ok {
				s.keep(row, locks...)
				continue
			}
		}
		s.loose.unwanted = append(s.loose.unwanted, locks...)
	}
	return s.letGo(ctx)
}

// narrowScan tells a locking scan what the node above it wants of it: the
// condition of a filter, or how many rows a LIMIT takes. Nil: nothing new.
func narrowScan(ctx *sql.Context, n sql.Node) (sql.Node, error) {
	switch n := n.(type) {
	case *plan.Filter:
		if !evaluatesAlike(ctx, n.Expression) {
			return nil, nil
		}
		return narrow(ctx, n, func(t *Table) *Table {
			if t.read.where != nil || t.now().hasVirtual() { // the engine computes those above the scan
				return nil
			}
			next := *t
			next.read.where = &rowCondition{n.Expression}
			return &next
		}, aliasOnly)
	case *plan.TopN:
		if n.CalcFoundRows {
			return nil, nil
		}
		return narrowFirst(ctx, n, n.SortConditions, constant(ctx, n.Limit))
	case *plan.Limit:
		if n.CalcFoundRows {
			return nil, nil
		}
		rows := limitOf(ctx, n)
		if sorted, ok := n.Child.(*plan.Sort); ok {
			if other, err := collate(ctx, sorted); err != nil || other != nil {
				return nil, err // it will be another order
			}
			return narrowFirst(ctx, n, sorted.SortConditions, rows)
		}
		if rows <= 0 || rows > largePage {
			return nil, nil
		}
		return narrow(ctx, n, func(t *Table) *Table {
			if t.read.limit != 0 {
				return nil
			}
			next := *t
			next.read.limit = rows
			return &next
		}, rowForRow)
	}
	return nil, nil
}

// narrow replaces the locking table at the end of a chain of nodes that pass
// says may stand between.
func narrow(ctx *sql.Context, n sql.Node, f func(*Table) *Table, pass func(sql.Node) bool) (sql.Node, error) {
	below := n.Children()[0]
	for pass(below) {
		below = below.Children()[0]
	}
	var table sql.Table
	switch b := below.(type) {
	case *plan.ResolvedTable:
		table = b.Table
	case *plan.IndexedTableAccess:
		table = b.Table
	}
	if own := ownTable(table); own == nil || own.read.lock == txn.LockNone || f(own) == nil {
		return nil, nil
	}
	next, _, err := replaceTables(ctx, n, f)
	return next, err
}

func aliasOnly(n sql.Node) bool {
	_, ok := n.(*plan.TableAlias)
	return ok
}

// rowForRow tells whether n returns at most one row for each that it reads, in
// order, and reads no more than it is asked for.
func rowForRow(n sql.Node) bool {
	switch n.(type) {
	case *plan.TableAlias, *plan.Filter, *plan.Offset, *plan.Project:
		return true
	}
	return false
}

// limitOf is how many rows a LIMIT reads, its OFFSET included; 0 if unknown.
func limitOf(ctx *sql.Context, n *plan.Limit) int {
	rows := constant(ctx, n.Limit)
	if offset, ok := n.Child.(*plan.Offset); ok && rows > 0 {
		rows += constant(ctx, offset.Offset)
	}
	return rows
}

func constant(ctx *sql.Context, e sql.Expression) int {
	v, err := e.Eval(ctx, nil)
	if err != nil {
		return 0
	}
	n, _, err := types.Int64.Convert(ctx, v)
	if err != nil || n == nil {
		return 0
	}
	return int(max(0, min(n.(int64), 2*largePage)))
}

// evaluatesAlike tells whether an expression may be evaluated again for the same
// row: it has no subquery, sets no variable and makes no random numbers.
func evaluatesAlike(ctx *sql.Context, e sql.Expression) bool {
	alike := true
	sql.Inspect(ctx, e, func(_ *sql.Context, e sql.Expression) bool {
		switch e := e.(type) {
		case *plan.Subquery, *plan.InSubquery, *plan.ExistsSubquery, *expression.SetField, *expression.UserVar, *expression.ProcedureParam:
			alike = false
		case sql.NonDeterministicExpression:
			alike = alike && !e.IsNonDeterministic()
		}
		return alike
	})
	return alike
}
