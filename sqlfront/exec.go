package sqlfront

import (
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/rowexec"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// execBuilder sees every plan node before it runs. UPDATE and DELETE must read
// what they change under exclusive locks at the latest version, and the engine
// does not tell tables why they are read; here their tables are replaced by
// locking ones. The tables of a plain INSERT are told that rows may wait for
// the end of the statement. What the engine would compare without a collation
// is replaced too (collate.go).
type execBuilder struct {
	base *rowexec.BaseBuilder
	// plain is a builder that leaves to the engine what owners could do; nil for
	// that one itself.
	plain *execBuilder
}

var _ sql.NodeExecBuilder = (*execBuilder)(nil)

// Build implements sql.NodeExecBuilder. A nil iterator leaves the node to the
// engine. A rewritten node comes here again and is then found unchanged.
func (b *execBuilder) Build(ctx *sql.Context, n sql.Node, row sql.Row) (sql.RowIter, error) {
	if s, ok := ctx.Session.(*Session); ok && s.fast.capture != nil && s.fast.capture.root == nil {
		s.fast.capture.root = n
	}
	if iter, done, err := buildControl(ctx, n); done {
		return iter, err
	}
	switch n.(type) {
	case *plan.InsertInto, *plan.Update, *plan.DeleteFrom:
		session := sessionOf(ctx)
		session.changing = session.statement
	}
	next, err := b.rewrite(ctx, n)
	if err != nil {
		return nil, err
	}
	if next != nil {
		return b.base.Build(ctx, next, row)
	}
	switch n := n.(type) {
	case *plan.InsertInto:
		if p := plainLoadOf(ctx, n); p != nil {
			return p.build(b.base, n, row)
		}
	case *plan.IndexedTableAccess:
		nothing, err := findsNothing(ctx, n, row)
		if err != nil || nothing {
			return sql.RowsToRowIter(), err
		}
	case *plan.JoinNode:
		if batched, err := batchJoin(ctx, n, row); err != nil || batched != nil {
			if err != nil {
				return nil, err
			}
			return b.base.Build(ctx, batched, row)
		}
	case *readAhead:
		from, err := b.base.Build(ctx, n.Node, row)
		if err != nil {
			return nil, err
		}
		return &readAheadIter{from: from, batch: n.batch}, nil
	case *awaitedLookup:
		if iter := n.batch.take(ctx); iter != nil {
			return iter, nil
		}
		return b.base.Build(ctx, n.IndexedTableAccess, row)
	case *plan.AddColumn:
		return addAtOnce(ctx, n)
	case *plan.AlterDefaultSet, *plan.AlterDefaultDrop:
		return alterDefault(ctx, n)
	case *plan.AlterIndex:
		return alterOnline(ctx, n)
	case *plan.Distinct:
		return b.buildDistinct(ctx, n, row)
	case *plan.Filter:
		if next := b.pushFilter(ctx, n, row); next != nil {
			return b.base.Build(ctx, next, row)
		}
	case *plan.GroupBy:
		if iter := b.reduce(ctx, n, row); iter != nil {
			return iter, nil
		}
	case *atOwners:
		return b.base.Build(ctx, n.Node, row)
	case *plan.Sort:
		return b.buildSort(ctx, n, row)
	case *setNode:
		return b.buildSet(ctx, n, row)
	case *distinctNode:
		from, err := b.base.Build(ctx, n.Node, row)
		if err != nil {
			return nil, err
		}
		return &distinctIter{from: from, rows: n.set}, nil
	case *materialized:
		from, err := b.base.Build(ctx, n.Node, row)
		if err != nil {
			return nil, err
		}
		return &materializedIter{from: from}, nil
	}
	return nil, nil
}

// rewrite returns the node to run in place of n, nil for n itself.
func (b *execBuilder) rewrite(ctx *sql.Context, n sql.Node) (sql.Node, error) {
	next, err := rewriteChange(ctx, n)
	if err != nil || next != nil {
		return next, err
	}
	switch n := n.(type) {
	case *plan.Set:
		return nil, mayAssign(ctx, n)
	case *plan.Filter, *plan.Limit, *plan.TopN:
		if top, ok := n.(*plan.TopN); ok {
			if next, err := spareSort(ctx, top); err != nil || next != nil {
				return next, err
			}
		}
		if next, err := collate(ctx, n); err != nil || next != nil {
			return next, err
		}
		return narrowScan(ctx, n)
	case *plan.SetOp:
		return collateSetOp(ctx, n), nil
	case *plan.DescribeQuery:
		return describePushdown(ctx, n)
	case *plan.RecursiveCte:
		return collateRecursion(ctx, n)
	}
	return collate(ctx, n)
}

// rewriteChange is rewrite for statements that change rows.
func rewriteChange(ctx *sql.Context, n sql.Node) (sql.Node, error) {
	switch n := n.(type) {
	case *plan.Update:
		locks := updateLocks(ctx, n)
		locks.buffered = mayHoldBack(ctx, n, n.Ignore, len(n.Returning) > 0)
		locked, sameLocks, err := locks.tables(ctx, n)
		if err != nil {
			return nil, err
		}
		next, same, err := compareBytes(ctx, locked)
		return changed(next, same && sameLocks, err)
	case *plan.DeleteFrom:
		locks := deleteLocks(ctx, n)
		locks.buffered = mayHoldBack(ctx, n, false, len(n.Returning) > 0)
		locked, same, err := locks.tables(ctx, n)
		if err != nil || same == transform.NewTree || !rescans(ctx, n.Child) {
			return changed(locked, same, err)
		}
		next := *locked.(*plan.DeleteFrom)
		next.Child = &materialized{next.Child}
		return &next, nil
	case *plan.UpdateSource:
		next := *n
		if rescans(ctx, n.Child) {
			next.Child = &materialized{n.Child}
		}
		if !n.Ignore {
			if strict := strictUpdates(ctx, n.UpdateExprs.AllExpressions()); strict != nil {
				return next.WithExpressions(ctx, strict...)
			}
		}
		if next.Child == n.Child {
			return nil, nil
		}
		return &next, nil
	case *plan.InsertInto:
		locked, sameLocks, err := lockSource(ctx, n)
		if err != nil {
			return nil, err
		}
		insert := bufferInsert
		if n.OnDupExprs.HasUpdates() {
			insert = compareDuplicates
		}
		next, same, err := insert(ctx, locked)
		if insert, ok := next.(*plan.InsertInto); ok && err == nil {
			loading, sameTable, err := rewriteLoad(ctx, insert)
			return changed(loading, same && sameLocks && sameTable, err)
		}
		return changed(next, same && sameLocks, err)
	}
	return nil, nil
}

func changed(n sql.Node, same transform.TreeIdentity, err error) (sql.Node, error) {
	if err != nil || same == transform.SameTree {
		return nil, err
	}
	return n, nil
}

// plain tells whether changes of the table's rows can be applied by the page:
// each row has a key of its own, and no trigger looks at the table in between.
func (t *Table) plain() bool {
	if t.now().keyless() {
		return false
	}
	schema := t.session.snapshot().Schema(t.info.database)
	return schema == nil || len(schema.Triggers) == 0
}

// mayHoldBack tells whether an UPDATE or DELETE of one table may collect its rows:
// nobody asks between two of them what became of the first. IGNORE and RETURNING
// do, foreign keys look into the table, and what a join changes may be read by the
// join.
func mayHoldBack(ctx *sql.Context, n sql.Node, ignore, returning bool) bool {
	if ignore || returning || rescans(ctx, n) {
		return false
	}
	alone := true
	transform.InspectWithOpaque(ctx, n, func(_ *sql.Context, n sql.Node) bool {
		switch n.(type) {
		case *plan.ForeignKeyHandler, *plan.TriggerExecutor, *plan.UpdateJoin:
			alone = false
		}
		return alone
	})
	return alone
}

// bufferInsert lets a plain INSERT collect its rows: nobody looks at the table
// between two of them, and nobody needs to know at once which is a duplicate.
func bufferInsert(ctx *sql.Context, n *plan.InsertInto) (sql.Node, transform.TreeIdentity, error) {
	if n.Ignore || n.IsReplace || n.HasAfterTrigger || n.OnDupExprs.HasUpdates() || len(n.Returning) > 0 || hasTrigger(ctx, n.Source) {
		return n, transform.SameTree, nil
	}
	destination, same, err := replaceTables(ctx, n.Destination, func(t *Table) *Table {
		if t.buffered {
			return nil
		}
		next := *t
		next.buffered = true
		return &next
	})
	if err != nil || same == transform.SameTree {
		return n, transform.SameTree, err
	}
	next := *n
	next.Destination = destination
	if target := findTable(ctx, destination); target != nil && rescans(ctx, n.Source) && reads(ctx, n.Source, target.info) {
		next.Source = &materialized{n.Source}
	}
	return &next, transform.NewTree, nil
}

// findTable is the table of ours below n.
func findTable(ctx *sql.Context, n sql.Node) *Table {
	var found *Table
	transform.InspectWithOpaque(ctx, n, func(_ *sql.Context, n sql.Node) bool {
		if t, ok := n.(*plan.ResolvedTable); ok && found == nil {
			found = ownTable(t.Table)
		}
		return found == nil
	})
	return found
}

func hasTrigger(ctx *sql.Context, n sql.Node) bool {
	found := false
	transform.InspectWithOpaque(ctx, n, func(_ *sql.Context, n sql.Node) bool {
		if _, ok := n.(*plan.TriggerExecutor); ok {
			found = true
		}
		return !found
	})
	return found
}

// replaceTables puts f's table in place of each of ours below n; nil keeps it.
func replaceTables(ctx *sql.Context, n sql.Node, f func(*Table) *Table) (sql.Node, transform.TreeIdentity, error) {
	return transform.NodeWithOpaque(ctx, n, replaceIn(f))
}

// replaceIn is replaceTables for one node.
func replaceIn(f func(*Table) *Table) transform.NodeFunc {
	return func(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
		switch n := n.(type) {
		case *plan.ResolvedTable:
			next := replaceTable(n.Table, f)
			if next == nil {
				return n, transform.SameTree, nil
			}
			replaced, err := n.ReplaceTable(ctx, next)
			if err != nil {
				return nil, transform.SameTree, err
			}
			return replaced.(sql.Node), transform.NewTree, nil
		case *plan.IndexedTableAccess:
			next := replaceTable(n.Table, f)
			if next == nil {
				return n, transform.SameTree, nil
			}
			access := *n
			access.Table = next.(sql.IndexedTable)
			// Editors are asked for here, not at what is read.
			if named, ok := n.TableNode.(*plan.ResolvedTable); ok {
				if own := replaceTable(named.Table, f); own != nil {
					replaced, err := named.ReplaceTable(ctx, own)
					if err != nil {
						return nil, transform.SameTree, err
					}
					access.TableNode = replaced.(sql.TableNode)
				}
			}
			return &access, transform.NewTree, nil
		}
		return n, transform.SameTree, nil
	}
}

// replaceTable looks through the engine's wrappers; nil if nothing changes.
func replaceTable(t sql.Table, f func(*Table) *Table) sql.Table {
	switch t := t.(type) {
	case *Table:
		if next := f(t); next != nil {
			return next
		}
	case *IndexedTable:
		if next := f(t.Table); next != nil {
			return &IndexedTable{next}
		}
	case *plan.ProcessTable:
		if next := replaceTable(t.Table, f); next != nil {
			wrapped := *t
			wrapped.Table = next
			return &wrapped
		}
	case sql.MutableTableWrapper:
		if next := replaceTable(t.Underlying(), f); next != nil {
			return t.WithUnderlying(next)
		}
	}
	return nil
}

// lockMode translates a locking clause.
func lockMode(m wire.LockMarker) readMode {
	mode := readMode{}
	switch m.Strength {
	case wire.LockShared:
		mode.lock = txn.LockShared
	case wire.LockExclusive:
		mode.lock = txn.LockExclusive
	}
	switch m.Wait {
	case wire.LockNoWait:
		mode.wait = txn.NoWait
	case wire.LockSkipLocked:
		mode.wait = txn.SkipLocked
	}
	return mode
}

// pastMode reads a table as it was at a point in time.
func (s *Session) pastMode(ctx *sql.Context, asOf any) (readMode, error) {
	at, err := pointInTime(ctx, asOf)
	if err != nil {
		return readMode{}, err
	}
	tx := s.catalog.coordinator.Begin(txn.Options{
		Isolation: txn.RepeatableRead, ReadOnly: true, Label: "as of",
		At: storage.MakeTimestamp(uint64(at.UnixMilli()), 0),
	})
	s.past = append(s.past, tx)
	return readMode{tx: tx}, nil
}

// pointInTime reads an AS OF value: a time, or a date and time as text, both UTC.
func pointInTime(ctx *sql.Context, asOf any) (time.Time, error) {
	v, _, err := types.DatetimeMaxPrecision.Convert(ctx, asOf)
	if err != nil || v == nil {
		return time.Time{}, errNoHistory
	}
	at, ok := v.(time.Time)
	if !ok {
		return time.Time{}, errNoHistory
	}
	return at, nil
}
