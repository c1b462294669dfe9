package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"

	"github.com/rowlockdb/rowlock/txn"
)

// statementLocks decides how a statement that changes rows locks what it reads,
// as InnoDB does: exclusively what it changes, shared what it only looks at.
// MySQL tells its storage engines the type of statement; here the tables of the
// plan are replaced by locking ones.
type statementLocks struct {
	targets []string // tables to be changed, by alias
	all     bool     // every table of the statement itself is to be changed
	others  txn.Lock // on tables that are only read
	semi    bool     // what does not match is not locked (see looseScan)
	// buffered editors of the targets hold rows back.
	buffered bool
}

// tables puts the locks into a plan.
func (l statementLocks) tables(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
	return l.node(ctx, n, "")
}

// node is tables below an alias.
func (l statementLocks) node(ctx *sql.Context, n sql.Node, alias string) (sql.Node, transform.TreeIdentity, error) {
	switch n := n.(type) {
	case *plan.ResolvedTable, *plan.IndexedTableAccess:
		next, same, err := replaceIn(l.choose(alias))(ctx, n)
		if err != nil {
			return nil, transform.SameTree, err
		}
		changed, sameExpressions, err := l.expressions(ctx, next)
		return changed, same && sameExpressions, err
	case *plan.TableAlias:
		alias = n.Name()
	case *plan.SubqueryAlias:
		l = statementLocks{others: l.others}
		child, same, err := l.node(ctx, n.Child, "")
		if err != nil || same {
			return n, transform.SameTree, err
		}
		return n.WithChild(child), transform.NewTree, nil
	case *plan.TriggerExecutor:
		return l.trigger(ctx, n)
	case *materialized:
	}
	next, same, err := l.children(ctx, n, alias)
	if err != nil {
		return nil, transform.SameTree, err
	}
	changed, sameExpressions, err := l.expressions(ctx, next)
	return changed, same && sameExpressions, err
}

// trigger leaves the trigger's own statements alone: they come by themselves.
func (l statementLocks) trigger(ctx *sql.Context, n *plan.TriggerExecutor) (sql.Node, transform.TreeIdentity, error) {
	left, same, err := l.node(ctx, n.Left(), "")
	if err != nil || same {
		return n, transform.SameTree, err
	}
	next, err := n.WithChildren(ctx, left, n.Right())
	return next, transform.NewTree, err
}

func (l statementLocks) children(ctx *sql.Context, n sql.Node, alias string) (sql.Node, transform.TreeIdentity, error) {
	old := n.Children()
	var children []sql.Node
	for i, c := range old {
		next, same, err := l.node(ctx, c, alias)
		if err != nil {
			return nil, transform.SameTree, err
		}
		if !same && children == nil {
			children = append([]sql.Node{}, old...)
		}
		if !same {
			children[i] = next
		}
	}
	if children == nil {
		return n, transform.SameTree, nil
	}
	next, err := n.WithChildren(ctx, children...)
	return next, transform.NewTree, err
}

// expressions reaches the subqueries in a node's expressions.
func (l statementLocks) expressions(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
	if l.others == txn.LockNone {
		return n, transform.SameTree, nil
	}
	inner := statementLocks{others: l.others}
	return transform.OneNodeExpressions(ctx, n, func(ctx *sql.Context, e sql.Expression) (sql.Expression, transform.TreeIdentity, error) {
		subquery, ok := e.(*plan.Subquery)
		if !ok {
			return e, transform.SameTree, nil
		}
		query, same, err := inner.node(ctx, subquery.Query, "")
		if err == nil && !same {
			subquery.Query = query // in place: the engine frees the cache of the one it knows
		}
		return e, transform.SameTree, err
	})
}

// choose returns what replaces a table known by an alias, or by its own name.
func (l statementLocks) choose(alias string) func(*Table) *Table {
	return func(t *Table) *Table {
		name := alias
		if name == "" {
			name = t.Name()
		}
		lock := l.others
		if l.all || l.isTarget(name) {
			lock = txn.LockExclusive
		}
		if lock <= t.read.lock || t.read.tx != nil {
			return nil
		}
		change := lock == txn.LockExclusive
		next := t.locking(readMode{lock: lock, change: true, wait: t.read.wait, semi: l.semi && change})
		next.buffered = l.buffered && change && t.plain()
		return next
	}
}

func (l statementLocks) isTarget(name string) bool {
	for _, t := range l.targets {
		if strings.EqualFold(t, name) {
			return true
		}
	}
	return false
}

// othersLock is the lock on tables that a statement only reads. READ COMMITTED
// reads the snapshot instead where InnoDB does: in INSERT and in an UPDATE of
// one table, but not in DELETE and in statements over several tables.
func (s *Session) othersLock(always bool) txn.Lock {
	if s.tx != nil && s.tx.isolation == txn.ReadCommitted && !always || mutated("2.2.sources-unlocked") {
		return txn.LockNone
	}
	return txn.LockShared
}

// updateLocks are the locks of UPDATE.
func updateLocks(ctx *sql.Context, n *plan.Update) statementLocks {
	l := statementLocks{others: sessionOf(ctx).othersLock(n.IsJoin), all: true, semi: true}
	transform.InspectWithOpaque(ctx, n, func(_ *sql.Context, n sql.Node) bool {
		join, ok := n.(*plan.UpdateJoin)
		if !ok {
			return true
		}
		l.all, l.semi = false, false
		for name := range join.UpdateTargets {
			l.targets = append(l.targets, name)
		}
		return false
	})
	return l
}

// deleteLocks are the locks of DELETE.
func deleteLocks(ctx *sql.Context, n *plan.DeleteFrom) statementLocks {
	l := statementLocks{others: sessionOf(ctx).othersLock(true)}
	for _, target := range n.GetDeleteTargets() {
		name := ""
		transform.InspectWithOpaque(ctx, target, func(_ *sql.Context, n sql.Node) bool {
			switch n := n.(type) {
			case *plan.TableAlias:
				name = n.Name()
			case *plan.ResolvedTable:
				name = n.Name()
			case *plan.IndexedTableAccess:
				name = n.Name()
			}
			return name == ""
		})
		l.targets = append(l.targets, name)
	}
	l.all = len(l.targets) == 0
	return l
}

// lockSource locks what INSERT and REPLACE read: the rows of their SELECT and of
// the subqueries beside it.
func lockSource(ctx *sql.Context, n *plan.InsertInto) (*plan.InsertInto, transform.TreeIdentity, error) {
	l := statementLocks{others: sessionOf(ctx).othersLock(false)}
	if l.others == txn.LockNone || n.Source == nil {
		return n, transform.SameTree, nil
	}
	source, same, err := l.node(ctx, n.Source, "")
	if err != nil {
		return nil, transform.SameTree, err
	}
	next := *n
	next.Source = source
	changed, sameExpressions, err := l.expressions(ctx, &next)
	if err != nil {
		return nil, transform.SameTree, err
	}
	if insert, ok := changed.(*plan.InsertInto); ok && !(bool(same) && bool(sameExpressions)) {
		return insert, transform.NewTree, nil
	}
	return n, transform.SameTree, nil
}
