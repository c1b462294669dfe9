package sqlfront

import (
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// fastChange is how an UPDATE or DELETE of one row by its primary key runs without a
// plan (decision 0083): the row is locked and read, the new one is made of it, and the
// table's editor gets both. It knows values that a column holds as they are written,
// and sums of whole numbers. What it does not know of, the plan does.
type fastChange struct {
	sets []columnSet
	rows *codec.Projection // of whole rows
	// inPlace says that no entry of an index changes with the row: all that is
	// written is the row.
	inPlace bool
}

// columnSet is an assignment: to a column, by its place in the schema, what the
// statement says, or that added to or taken from the column of.
type columnSet struct {
	column int
	of     int // -1: the value itself
	minus  bool
}

// newChange prepares a statement of which the engine has made the plan root, and whose
// assignments are those of the tree; nil if it needs the plan.
func newChange(root sql.Node, b *boundRead) *fastChange {
	var child sql.Node
	switch n := root.(type) {
	case *plan.Update:
		source, ok := n.Child.(*plan.UpdateSource)
		if !ok || source.UpdateExprs.HasDerivedUpdates() {
			return nil
		}
		child = source.Child
	case *plan.DeleteFrom:
		if len(n.GetDeleteTargets()) != 1 {
			return nil
		}
		child = n.Child
	default:
		return nil
	}
	if f, ok := child.(*plan.Filter); ok {
		child = f.Child
	}
	access, ok := child.(*plan.IndexedTableAccess)
	if !ok || ownTable(access.Table) == nil || ownTable(access.Table).columns != nil || b.info.hasVirtual() || len(b.info.stored) != len(b.info.schema) {
		return nil
	}
	c := &fastChange{}
	for _, set := range b.tree.sets {
		if !c.takeSet(set, b.info) {
			return nil
		}
	}
	c.inPlace = !slices.ContainsFunc(b.info.indexes, func(x *indexInfo) bool { return x.state != catalog.IndexPublic || c.touches(x) })
	var err error
	if c.rows, err = b.info.rows.NewProjection(all(len(b.info.schema))); err != nil {
		return nil
	}
	return c
}

// all is 0, 1, 2 up to n.
func all(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// takeSet looks at an assignment. One of the primary key moves the row.
func (c *fastChange) takeSet(set fastSet, info *tableInfo) bool {
	at, ok := place(set.column, info)
	if !ok || slices.Contains(info.primary.columns, at) {
		return false
	}
	next := columnSet{column: at, of: -1}
	if set.of != nil {
		if next.of, ok = place(set.of, info); !ok || !wholeColumn(info.schema[next.of].Type) || !wholeColumn(info.schema[at].Type) {
			return false
		}
		switch set.op {
		case "+":
		case "-":
			next.minus = true
		default:
			return false
		}
	}
	c.sets = append(c.sets, next)
	return true
}

// place is where a column of the table stands in its rows.
func place(e sql.Expression, info *tableInfo) (int, bool) {
	f, ok := e.(*expression.GetField)
	if !ok {
		return 0, false
	}
	at := info.desc.Column(f.Name())
	return at, at >= 0 && at == f.Index()
}

// touches tells whether the entries of an index may change with the row.
func (c *fastChange) touches(x *indexInfo) bool {
	return !mutated("0083.entries") && slices.ContainsFunc(c.sets, func(s columnSet) bool {
		return slices.Contains(x.columns, s.column) || slices.Contains(x.cover, s.column)
	})
}

// lockRow is rowScan for one key of the primary index and a statement that locks.
func (s *Session) lockRow(ctx *sql.Context, info *tableInfo, mode readMode, key storage.Key) (*txn.Txn, txn.Row, error) {
	tx, err := s.txn(ctx)
	if err != nil {
		return nil, txn.Row{}, err
	}
	s.uses(tx, info)
	if mode.lock == txn.LockExclusive && !mutated("0083.not-to-write") {
		if err := s.lockMode(ctx, info.lock, catalog.SharedWrite); err != nil {
			return nil, txn.Row{}, err
		}
	}
	loose := s.level() == txn.ReadCommitted
	if loose {
		if _, err := s.looksAt(ctx, tx, info, info.primary); err != nil {
			return nil, txn.Row{}, err
		}
	}
	token, err := info.rowToken(ctx, nil, key)
	if err != nil {
		return nil, txn.Row{}, err
	}
	row, err := tx.Get(ctx, txn.At(token, key), mode.options())
	if err == nil && !loose {
		err = s.stillPlanned(ctx, storage.MaxTimestamp, info)
	}
	if err == nil && loose && !row.Found && !mutated("0083.gap-kept") {
		err = tx.UnlockRows(ctx, []txn.Row{row})
	}
	if err != nil {
		return nil, txn.Row{}, s.failed(err)
	}
	return tx, row, nil
}

// exclusive is how a statement that changes a row by its key reads it.
var exclusive = readMode{lock: txn.LockExclusive, change: true}

// changing executes an UPDATE or DELETE of one row. A row of which only the engine knows
// what it becomes is locked by then, as it would be by the plan, and nothing has been
// written.
func (f *fastPath) changing(q *fastQuery, p *fastPlan, b *boundRead, bounds []bound, values []any) func(*sql.Context) error {
	n, s := p.statement, q.session
	return func(ctx *sql.Context) error {
		key, err := b.pointKey(ctx, bounds)
		if err != nil {
			return err
		}
		matched, changed, planned, err := s.changeRow(ctx, b, key, values)
		if planned {
			assign, ok := b.tree.assigned(s, n.Assign, q.values)
			literal, fits := literalOf(s, n.Where[0].Value.Of(q.values))
			if !ok || !fits {
				return errNotOurs
			}
			return q.planned(f, b, n, func(ctx *sql.Context) (sql.Node, error) { return b.tree.plan(ctx, s, bounds, literal, assign) })(ctx)
		}
		f.direct.Add(1)
		if err != nil {
			return err
		}
		return q.answerChange(ctx, b, matched, changed)
	}
}

// changeRow executes an UPDATE or DELETE, up to its commit. What it leaves to the plan
// has changed nothing.
func (s *Session) changeRow(ctx *sql.Context, b *boundRead, key storage.Key, values []any) (matched, changed int, planned bool, err error) {
	s.changing = s.statement
	tx, found, err := s.lockRow(ctx, b.info, exclusive, key)
	if err != nil {
		return 0, 0, false, err
	}
	if !found.Found {
		s.counted(b, 0, 0)
		return 0, 0, false, nil
	}
	old := make(sql.Row, len(b.info.schema))
	if err := b.info.rows.Project(ctx, b.change.rows, found.Value, old); err != nil {
		return 0, 0, false, s.failed(err)
	}
	next, differs := sql.Row(nil), true
	if b.verb == fastpath.Update {
		var ok bool
		if next, differs, ok = b.change.next(b.info, old, values); !ok {
			return 0, 0, true, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, 0, false, err
	}
	if !differs {
		s.counted(b, 1, 0)
		return 1, 0, false, nil
	}
	if next != nil {
		if err := mustNotBeNull(b.info.schema, next); err != nil {
			return 0, 0, false, err
		}
	}
	return 1, 1, false, s.edit(ctx, tx, b, key, old, next)
}

// affected is how many rows a statement says it has changed.
func (s *Session) affected(b *boundRead, matched, changed int) uint64 {
	if b.verb == fastpath.Update && s.Client().Capabilities&mysql.CapabilityClientFoundRows != 0 && !mutated("0083.found-rows") {
		return uint64(matched)
	}
	return uint64(changed)
}

// counted sets what ROW_COUNT() and FOUND_ROWS() show. The engine does so before it
// writes what a statement holds back.
func (s *Session) counted(b *boundRead, matched, changed int) {
	info := s.GetLastQueryInfo()
	if b.verb == fastpath.Update {
		info.FoundRows.Store(int64(matched))
	}
	info.RowCount.Store(int64(s.affected(b, matched, changed)))
}

// mustNotBeNull is the engine's check of a row that was changed.
func mustNotBeNull(schema sql.Schema, row sql.Row) error {
	for i, v := range row {
		if v == nil && !schema[i].Nullable {
			return sql.ErrInsertIntoNonNullableProvidedNull.New(schema[i].Name)
		}
	}
	return nil
}

// edit writes a row that is locked: next in place of old, or nothing if next is nil. A
// failure leaves what was written before.
func (s *Session) edit(ctx *sql.Context, tx *txn.Txn, b *boundRead, key storage.Key, old, next sql.Row) error {
	if next != nil && b.change.inPlace && (!tx.WritesAhead() || mutated("0083.writes-ahead")) {
		return s.overwrite(ctx, tx, b, key, next)
	}
	e := &editor{table: &Table{session: s, info: b.info, buffered: true}, session: s, again: next == nil}
	e.StatementBegin(ctx)
	var err error
	if next == nil {
		err = e.Delete(ctx, old)
	} else {
		err = e.Update(ctx, old, next)
	}
	if err == nil {
		s.counted(b, 1, 1)
		err = e.StatementComplete(ctx)
	} else {
		e.DiscardChanges(ctx, err)
	}
	return err
}

// overwrite is what the editor makes of an UPDATE that changes the row alone.
func (s *Session) overwrite(ctx *sql.Context, tx *txn.Txn, b *boundRead, key storage.Key, next sql.Row) error {
	s.rereads.changed()
	token, err := b.info.rowToken(ctx, next, key)
	if err != nil {
		return err
	}
	value, err := b.info.encodeRow(ctx, next)
	if err != nil {
		return err
	}
	s.counted(b, 1, 1)
	if err := tx.Put(txn.At(token, key), value); err != nil {
		return s.failed(err)
	}
	return nil
}

// answerChange ends the statement and answers.
func (q *fastQuery) answerChange(ctx *sql.Context, b *boundRead, matched, changed int) error {
	result := &sqltypes.Result{RowsAffected: q.session.affected(b, matched, changed)}
	if b.verb == fastpath.Update {
		result.Info = updateInfos[matched][changed]
	}
	if err := q.settleAlone(ctx); err != nil {
		return err
	}
	q.showState()
	return q.send(result)
}

// settleAlone commits the transaction of a statement that is its own.
func (q *fastQuery) settleAlone(ctx *sql.Context) error {
	s := q.session
	if s.tx != nil && s.implicit(ctx) && !mutated("0083.uncommitted") {
		if err := s.CommitTransaction(ctx, s.tx); err != nil {
			return err
		}
	}
	ctx.ProcessList.EndQuery(ctx)
	return nil
}

// updateInfos are what the engine says of an UPDATE: by rows matched and changed.
var updateInfos = func() (infos [2][2]string) {
	for matched := range 2 {
		for changed := range 2 {
			infos[matched][changed] = plan.UpdateInfo{Matched: matched, Updated: changed}.String()
		}
	}
	return infos
}()
