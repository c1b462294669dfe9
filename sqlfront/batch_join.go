package sqlfront

import (
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"

	"github.com/rowlockdb/rowlock/txn"
)

// The engine's lookup join asks the inner table once for every outer row, and each
// question is a message to a shard's owner. Here the outer side reads some rows
// ahead, and the lookups of all of them are carried out together before the join
// sees the first. The join itself is the engine's: it builds the inner side for one
// outer row after the other and finds what was read for it. Order, outer, semi and
// anti joins, NULL and conditions are therefore none of our business.

// joinBatch is what the two sides of one running join share.
type joinBatch struct {
	session *Session
	access  *plan.IndexedTableAccess
	table   *Table
	parent  sql.Row // of the join
	width   int     // columns of an outer row

	ahead   []outerRow     // read and not yet returned
	now     *outerRow      // returned last
	size    int            // rows to read ahead next
	largest int            // bytes that one read of the last batch has found at most; 0: nothing was found yet
	err     error          // of the outer side, behind the rows read ahead
	last    []*sql.Warning // with err
	changes uint64         // of rereads when the lookups were made
}

// outerRow is a row of the outer side, and the lookup for it.
type outerRow struct {
	row      sql.Row
	warnings []*sql.Warning // that reading it ahead gave, for when its turn comes
	scan     *rowScan       // nil: not made, or used
	nothing  bool           // the lookup finds nothing
}

// How many outer rows are read ahead: few at first, for a LIMIT above may want no
// more, and not so many that what is held gets large.
const (
	firstAhead = 4
	mostAhead  = 256
	aheadBytes = 1 << 20 // of rows of one batch; beyond it the rest is read in its turn
)

// readAhead is the outer side of a join whose lookups are batched.
type readAhead struct {
	sql.Node
	batch *joinBatch
}

// Children implements sql.Node: what looks for nodes below finds the inner one.
func (r *readAhead) Children() []sql.Node { return []sql.Node{r.Node} }

// WithChildren implements sql.Node.
func (r *readAhead) WithChildren(_ *sql.Context, children ...sql.Node) (sql.Node, error) {
	if len(children) != 1 {
		return nil, sql.ErrInvalidChildrenNumber.New(r, len(children), 1)
	}
	return &readAhead{children[0], r.batch}, nil
}

// awaitedLookup is the lookup on its inner side.
type awaitedLookup struct {
	*plan.IndexedTableAccess
	batch *joinBatch
}

// WithChildren implements sql.Node.
func (a *awaitedLookup) WithChildren(_ *sql.Context, children ...sql.Node) (sql.Node, error) {
	if len(children) != 0 {
		return nil, sql.ErrInvalidChildrenNumber.New(a, len(children), 0)
	}
	return a, nil
}

// WithExpressions implements sql.Expressioner.
func (a *awaitedLookup) WithExpressions(ctx *sql.Context, e ...sql.Expression) (sql.Node, error) {
	next, err := a.IndexedTableAccess.WithExpressions(ctx, e...)
	if err != nil {
		return nil, err
	}
	return &awaitedLookup{next.(*plan.IndexedTableAccess), a.batch}, nil
}

// batchJoin is a lookup join that reads ahead, nil if it is none or must not. Only
// reads without locks do: what is locked, and in which order, stays as it was. Nor
// do statements that change rows, which may change what the join reads.
func batchJoin(ctx *sql.Context, n *plan.JoinNode, parent sql.Row) (sql.Node, error) {
	if _, done := n.Left().(*readAhead); done || !n.Op.IsLookup() {
		return nil, nil
	}
	s := sessionOf(ctx)
	access := lookupBelow(n.Right())
	if access == nil || s.changing == s.statement && !mutated("0076.changes") || s.ddl != nil || !s.flagOr(ctx, "rowlock_batched_joins", true) {
		return nil, nil
	}
	table, ours := access.Table.(*IndexedTable)
	if !ours {
		return nil, nil
	}
	locks, err := s.readsLock(ctx)
	if err != nil {
		return nil, err
	}
	locks = locks || table.read.lock != txn.LockNone || !readsPlainly(ctx, n.Left())
	if locks && !mutated("0076.locks-ahead") {
		return nil, nil
	}
	for _, key := range access.Expressions() {
		if !evaluatesAnytime(ctx, key) {
			return nil, nil
		}
	}
	batch := &joinBatch{session: s, access: access, table: table.Table, parent: parent, width: len(n.Left().Schema(ctx)), size: firstAhead}
	inner, err := awaiting(ctx, n.Right(), batch)
	if err != nil {
		return nil, err
	}
	return n.WithChildren(ctx, &readAhead{n.Left(), batch}, inner)
}

// readsLock tells whether plain reads of the present statement's transaction lock. That
// is known before its first read: a join below would read ahead, too.
func (s *Session) readsLock(ctx *sql.Context) (bool, error) {
	_, err := s.txn(ctx)
	return s.level() == txn.Serializable, err
}

// lookupBelow is the lookup by values of the outer row at the end of a chain of nodes
// that read one table, nil if there is something else.
func lookupBelow(n sql.Node) *plan.IndexedTableAccess {
	for {
		switch at := n.(type) {
		case *plan.IndexedTableAccess:
			if at.IsStatic() {
				return nil
			}
			return at
		case *plan.Filter:
			n = at.Child
		case *plan.TableAlias:
			n = at.Child
		default:
			return nil
		}
	}
}

// awaiting is the chain with an awaited lookup at its end.
func awaiting(ctx *sql.Context, n sql.Node, batch *joinBatch) (sql.Node, error) {
	if access, ok := n.(*plan.IndexedTableAccess); ok {
		return &awaitedLookup{access, batch}, nil
	}
	below, err := awaiting(ctx, n.Children()[0], batch)
	if err != nil {
		return nil, err
	}
	return n.WithChildren(ctx, below)
}

// readsPlainly tells whether rows of n may be read before they are wanted, and in
// vain: nothing is locked, and nobody can tell.
func readsPlainly(ctx *sql.Context, n sql.Node) bool {
	plain := true
	transform.InspectWithOpaque(ctx, n, func(_ *sql.Context, n sql.Node) bool {
		var t sql.Table
		switch n := n.(type) {
		case *plan.ResolvedTable:
			t = n.Table
		case *plan.IndexedTableAccess:
			t = n.Table
		}
		if own := ownTable(t); own != nil && (own.read.lock != txn.LockNone || own.read.change) {
			plain = false
		}
		if e, ok := n.(sql.Expressioner); ok && plain {
			plain = !slices.ContainsFunc(e.Expressions(), func(e sql.Expression) bool { return !evaluatesAnytime(ctx, e) })
		}
		return plain
	})
	return plain
}

// evaluatesAnytime tells whether it cannot be noticed when, and how often, an
// expression is evaluated within its statement.
func evaluatesAnytime(ctx *sql.Context, e sql.Expression) bool {
	anytime := true
	sql.Inspect(ctx, e, func(_ *sql.Context, e sql.Expression) bool {
		switch e := e.(type) {
		case *plan.Subquery:
			anytime = anytime && readsPlainly(ctx, e.Query)
		case *expression.SetField, *expression.UserVar, *expression.ProcedureParam, *function.Sleep:
			anytime = false
		case *function.Now, *function.CurrTime, *function.CurrDate: // of the statement
		case sql.NonDeterministicExpression:
			anytime = anytime && !e.IsNonDeterministic()
		}
		return anytime
	})
	return anytime
}

// take is what was read for the outer row that was returned last; nil if nothing was.
func (b *joinBatch) take(ctx *sql.Context) sql.RowIter {
	at := b.now
	if at == nil || b.changes != b.session.rereads.changeCount() && !mutated("0076.changes") {
		return nil
	}
	if at.nothing {
		return sql.RowsToRowIter()
	}
	if at.scan == nil {
		return nil
	}
	scan := at.scan
	at.scan = nil
	return scan
}

// readAheadIter yields the outer rows.
type readAheadIter struct {
	from  sql.RowIter
	batch *joinBatch
}

// Next implements sql.RowIter.
func (r *readAheadIter) Next(ctx *sql.Context) (sql.Row, error) {
	b := r.batch
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.letGo(ctx); err != nil {
		return nil, err
	}
	if len(b.ahead) == 0 {
		if b.err != nil {
			return nil, b.end(ctx)
		}
		if err := r.fill(ctx); err != nil {
			return nil, err
		}
		if len(b.ahead) == 0 {
			return nil, b.end(ctx)
		}
	}
	b.now, b.ahead = &b.ahead[0], b.ahead[1:]
	for _, w := range b.now.warnings {
		ctx.Session.Warn(w)
	}
	return b.now.row, nil
}

// end gives the outer side's error, the first time with its warnings.
func (b *joinBatch) end(ctx *sql.Context) error {
	for _, w := range b.last {
		ctx.Session.Warn(w)
	}
	b.last = nil
	return b.err
}

// letGo closes the lookup of the row that was returned last, if nobody wanted it.
func (b *joinBatch) letGo(ctx *sql.Context) error {
	last := b.now
	b.now = nil
	if last == nil || last.scan == nil {
		return nil
	}
	return last.scan.Close(ctx)
}

// Close implements sql.RowIter.
func (r *readAheadIter) Close(ctx *sql.Context) error {
	b := r.batch
	err := b.letGo(ctx)
	for i := range b.ahead {
		if scan := b.ahead[i].scan; scan != nil {
			scan.Close(ctx)
		}
	}
	b.ahead = nil
	if closeErr := r.from.Close(ctx); err == nil {
		err = closeErr
	}
	return err
}

// fill reads the next outer rows and looks their partners up.
func (r *readAheadIter) fill(ctx *sql.Context) error {
	b := r.batch
	bytes := r.readRows(ctx)
	if len(b.ahead) < 2 {
		b.size = 1
		return nil
	}
	b.changes = b.session.rereads.changeCount()
	found, err := b.lookUp(ctx)
	if err != nil {
		return b.session.failed(err)
	}
	b.size = nextAhead(len(b.ahead)-found.left, bytes+found.bytes, found.wide, b.session.catalog.coordinator.Parts())
	if b.largest == 0 && !mutated("0076.all-at-once") {
		b.size = min(b.size, aheadBytes/unknownRead)
	}
	return nil
}

// nextAhead is how many rows to read ahead after a batch in which so many were looked up,
// and that was so large, and whose lookups went to all parts if it was wide.
func nextAhead(looked, bytes int, wide bool, parts int) int {
	most := min(4*looked, mostAhead, looked*aheadBytes/max(bytes, 1))
	if wide {
		most = min(most, max(readsAhead/parts, firstAhead))
	}
	return max(2, most)
}

// readRows reads the next outer rows, up to the first error, and returns how large
// they are. Warnings that reading gives are held back, but for those of the first row,
// whose turn has come.
func (r *readAheadIter) readRows(ctx *sql.Context) (bytes int) {
	b := r.batch
	b.ahead = make([]outerRow, 0, b.size)
	ahead, session := early(ctx)
	at := ctx
	for len(b.ahead) < b.size && bytes < aheadBytes && b.err == nil {
		var row sql.Row
		if row, b.err = r.from.Next(at); b.err != nil {
			b.last = session.take() // comes after the rows before it
			break
		}
		bytes += bytesOf(row)
		b.ahead = append(b.ahead, outerRow{row: row, warnings: session.take()})
		at = ahead
	}
	return bytes
}

// bytesOf is about how much memory a row's values of variable length take.
func bytesOf(row sql.Row) int {
	n := 0
	for _, v := range row {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		default:
			n += 8
		}
	}
	return n
}
