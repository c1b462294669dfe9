package sqlfront

import (
	"sort"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/sorters"

	"github.com/rowlockdb/rowlock/txn"
)

// firstRows are the rows that a statement wants of a table in an order that no
// index has: ORDER BY with LIMIT. A loose scan then finds all rows, puts them in
// order and locks the first ones only. Otherwise each consumer of a queue would
// lock the whole queue to take one job.
type firstRows struct {
	order sql.SortConditions
	n     int
}

// lookAll finds all candidates and orders them.
func (s *rowScan) lookAll(ctx *sql.Context) error {
	for !s.loose.ended {
		if err := s.look(ctx); err != nil {
			return err
		}
	}
	found := s.loose.found
	rows := make([]sql.Row, len(found))
	for i, c := range found {
		rows[i] = append(c.row.Copy(), i) // behind what the order looks at
	}
	sorter := sorters.NewRowSorterWithRows(ctx, s.mode.first.order, rows)
	sort.Stable(sorter)
	if err := sorter.GetError(); err != nil {
		return err
	}
	s.loose.found = make([]candidate, 0, len(found))
	for _, r := range rows {
		s.loose.found = append(s.loose.found, found[r[len(r)-1].(int)])
	}
	return nil
}

// narrowFirst tells a loose scan about the order and the number of rows that
// the node above it wants. It must be one that leaves out what does not match
// before it locks: others would be in its place.
func narrowFirst(ctx *sql.Context, n sql.Node, order sql.SortConditions, rows int) (sql.Node, error) {
	if rows <= 0 || rows > largePage {
		return nil, nil
	}
	for _, o := range order.ToExpressions() {
		if !evaluatesAlike(ctx, o) {
			return nil, nil
		}
	}
	level := sessionOf(ctx).level()
	filters := 0
	pass := func(n sql.Node) bool {
		switch n := n.(type) {
		case *plan.Filter:
			filters++
			return filters == 1 && evaluatesAlike(ctx, n.Expression)
		case *plan.Sort, *plan.TableAlias:
			return true
		}
		return false
	}
	return narrow(ctx, n, func(t *Table) *Table {
		judges := t.read.wait == txn.SkipLocked || t.read.semi && level == txn.ReadCommitted
		if t.read.first != nil || !judges || t.now().hasVirtual() {
			return nil
		}
		next := *t
		next.read.first, next.read.limit = &firstRows{order, rows}, rows
		return &next
	}, pass)
}
