package sqlfront

import (
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"

	"github.com/rowlockdb/rowlock/sqlfront/reduce"
)

// A filter over a whole table is evaluated by the engine, as ever; but rows of which its
// beginning is known to be false need not come here. The engine evaluates a AND b from
// the left and stops at the first that is false: an error or a warning of b is not met
// then, here or there. Where a is NULL it goes on with b, so that such rows come unless
// owners know all of the condition.

// pushedFilter is the part of a condition that owners evaluate.
type pushedFilter struct {
	filter  reduce.Filter
	encoded []byte
}

// pushFilter returns the node with a table whose rows are filtered by owners; nil if
// there is nothing that they could do.
func (b *execBuilder) pushFilter(ctx *sql.Context, n *plan.Filter, row sql.Row) sql.Node {
	if b.plain == nil || len(row) > 0 {
		return nil
	}
	pushed := planFilter(ctx, n)
	if pushed == nil {
		return nil
	}
	next, _, err := replaceTables(ctx, n, func(t *Table) *Table {
		changed := *t
		changed.read.filter = pushed
		return &changed
	})
	if err != nil {
		return nil
	}
	return next
}

// planFilter is the part of a node's condition that owners can evaluate, nil if there is
// none, or has been told to them already.
func planFilter(ctx *sql.Context, n *plan.Filter) *pushedFilter {
	t, _ := reducible(n)
	if t == nil || !t.mayReduce() || !sessionOf(ctx).flagOr(ctx, pushdownVariable, true) {
		return nil
	}
	b := &programBuilder{ctx: ctx, table: t, info: t.now()}
	var known []reduce.Condition
	parts := conjuncts(n.Expression, nil)
	for _, e := range parts {
		c, ok := b.condition(e)
		if !ok {
			break
		}
		known = append(known, c)
	}
	if len(known) == 0 {
		return nil
	}
	p := reduce.Program{Where: &reduce.Condition{Test: reduce.And, Args: known}}
	b.place(&p)
	f := &pushedFilter{filter: reduce.Filter{Columns: p.Columns, Where: *p.Where, OrNull: len(known) < len(parts)}}
	if f.filter.Valid() != nil {
		return nil
	}
	return f
}

// conjuncts are the parts of an AND in the order in which the engine evaluates them.
func conjuncts(e sql.Expression, parts []sql.Expression) []sql.Expression {
	if and, ok := e.(*expression.And); ok {
		return conjuncts(and.RightChild, conjuncts(and.LeftChild, parts))
	}
	return append(parts, e)
}

// program is the filter with the columns that a scan decodes.
func (f *pushedFilter) program(s *rowScan) []byte {
	if f.encoded != nil {
		return f.encoded
	}
	filter := f.filter
	if len(s.rows.columns) < len(s.info.stored) {
		filter.Keep = []uint32{}
		for _, c := range s.rows.columns {
			filter.Keep = append(filter.Keep, s.info.desc.Columns[c].ID)
		}
		slices.Sort(filter.Keep)
	}
	f.encoded = filter.Append(nil)
	return f.encoded
}
