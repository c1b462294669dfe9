package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
)

// fastTree is the plan that the engine made for the first statement of a shape: one
// table, read by ranges of its primary key. Later statements are executed from it,
// with other ranges and other values assigned. It belongs to no session and does not
// change.
type fastTree struct {
	root   sql.Node
	lookup sql.IndexLookup
	key    sql.Type // of the column that ranges are of

	sets []fastSet // what an UPDATE assigns
}

// newTree prepares a plan, nil if it is not of the kind that can be used again.
func newTree(ctx *sql.Context, root sql.Node, b *boundRead) *fastTree {
	t, info := &fastTree{}, b.info
	leaves := 0
	known := true
	transform.InspectWithOpaque(ctx, root, func(ctx *sql.Context, n sql.Node) bool {
		switch n := n.(type) {
		case nil:
		case *plan.IndexedTableAccess:
			leaves++
			known = known && t.takeLeaf(ctx, n, b)
		case *plan.Filter:
			known = known && rangeFilter(ctx, n, info)
			return known
		case *plan.Project, *plan.Sort, *plan.Distinct, *plan.GroupBy, *plan.Update, *plan.UpdateSource, *plan.DeleteFrom:
		default:
			known = false
		}
		if e, ok := n.(sql.Expressioner); ok {
			known = known && knownExpressions(ctx, e.Expressions())
		}
		return known
	})
	if !known || leaves != 1 {
		return nil
	}
	var err error
	if t.root, err = ownerless(root, t.lookup); err != nil {
		return nil
	}
	if mutated("0070.old-contexts") {
		t.root = root
	}
	return t
}

// nobody is a context for plans that wait for their next execution. The nodes keep the
// context that they were made with, to show themselves in messages.
var nobody = sql.NewEmptyContext()

// ownerless copies a plan without the session and the statement that it was made for,
// and without the values that it was to assign. lookup is how it reads its table.
func ownerless(root sql.Node, lookup sql.IndexLookup) (sql.Node, error) {
	next, _, err := transform.NodeWithOpaque(nobody, root, func(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
		switch n := n.(type) {
		case *plan.ResolvedTable:
			next, err := withoutSession(n)
			return next, transform.NewTree, err
		case *plan.IndexedTableAccess:
			next, err := accessWithoutSession(n, lookup)
			return next, transform.NewTree, err
		case *plan.Project:
			next := plan.NewProject(ctx, n.Projections, n.Child).WithAliasDeps(n.AliasDeps).WithCanDefer(n.CanDefer)
			return withoutContext(ctx, next)
		case *plan.Filter:
			return plan.NewFilter(ctx, n.Expression, n.Child), transform.NewTree, nil
		case *plan.DeleteFrom:
			var targets []sql.Node
			for _, target := range n.GetDeleteTargets() {
				table, ok := target.(*plan.ResolvedTable)
				if !ok {
					return nil, transform.SameTree, errNotOurs
				}
				next, err := withoutSession(table)
				if err != nil {
					return nil, transform.SameTree, err
				}
				targets = append(targets, next)
			}
			return n.WithTargets(targets), transform.NewTree, nil
		case *plan.UpdateSource:
			cut := make([]sql.Expression, n.UpdateExprs.Length())
			for i := range cut {
				cut[i] = expression.NewLiteral(nil, types.Null)
			}
			exprs, err := n.UpdateExprs.WithExpressions(cut)
			return plan.NewUpdateSource(ctx, n.Child, n.Ignore, exprs), transform.NewTree, err
		}
		return withoutContext(ctx, n)
	})
	return next, err
}

// withoutSession copies the node of one of our tables, without what the engine has put
// around it to watch its progress.
func withoutSession(n *plan.ResolvedTable) (sql.Node, error) {
	own := ownTable(n.Table)
	if own == nil {
		return nil, errNotOurs
	}
	next := *own
	next.session = nil
	replaced, err := n.ReplaceTable(nobody, &next)
	if err != nil {
		return nil, err
	}
	return replaced.(sql.Node), nil
}

func accessWithoutSession(n *plan.IndexedTableAccess, lookup sql.IndexLookup) (sql.Node, error) {
	table, ok := n.TableNode.(*plan.ResolvedTable)
	if !ok {
		return nil, errNotOurs
	}
	bare, err := withoutSession(table)
	if err != nil {
		return nil, err
	}
	// The table that is read may be a projection of the one that is named.
	next, err := plan.NewStaticIndexedAccessForTableNode(nobody, bare.(sql.TableNode), lookup)
	if err != nil {
		return nil, err
	}
	read := *ownTable(n.Table)
	read.session = nil
	return next.WithTable(&IndexedTable{&read})
}

// withoutContext copies the names of result columns, which keep a context, too.
func withoutContext(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
	return transform.OneNodeExpressions(ctx, n, func(ctx *sql.Context, e sql.Expression) (sql.Expression, transform.TreeIdentity, error) {
		if a, ok := e.(*expression.Alias); ok {
			next, err := a.WithChildren(ctx, a.Child)
			return next, transform.NewTree, err
		}
		return e, transform.SameTree, nil
	})
}

// rangeFilter tells whether a filter over the lookup says of the primary key what the
// lookup says already. The engine leaves it there if it does not trust all indexes of
// a table; ranges of whole numbers are exact.
func rangeFilter(ctx *sql.Context, n *plan.Filter, info *tableInfo) bool {
	if _, ok := n.Child.(*plan.IndexedTableAccess); !ok {
		return false
	}
	key := info.schema[info.primary.columns[0]].Name
	known := true
	transform.InspectExpr(ctx, n.Expression, func(_ *sql.Context, e sql.Expression) bool {
		switch e := e.(type) {
		case *expression.GetField:
			known = known && strings.EqualFold(e.Name(), key)
		case *expression.Literal, *expression.Between, *expression.And, *expression.GreaterThanOrEqual, *expression.LessThanOrEqual, *expression.Equals,
			*expression.InTuple, *expression.HashInTuple, expression.Tuple:
		default:
			known = false
		}
		return !known
	})
	return known
}

// withoutFilter drops the filter that rangeFilter has found: a read does as well
// without. One that locks does not: how it locks depends on the filter.
func withoutFilter(ctx *sql.Context, root sql.Node, info *tableInfo) (sql.Node, error) {
	next, _, err := transform.NodeWithOpaque(ctx, root, func(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
		if f, ok := n.(*plan.Filter); ok && rangeFilter(ctx, f, info) {
			return f.Child, transform.NewTree, nil
		}
		return n, transform.SameTree, nil
	})
	return next, err
}

// filtered is what a filter over the lookup of one row becomes for another row.
func filtered(ctx *sql.Context, n sql.Node, key *expression.Literal) (sql.Node, error) {
	f, ok := n.(*plan.Filter)
	if !ok || key == nil {
		return n, nil
	}
	equals, ok := f.Expression.(*expression.Equals)
	if !ok {
		return nil, errNotOurs
	}
	if _, ok := equals.Left().(*expression.GetField); !ok {
		return nil, errNotOurs
	}
	if _, ok := equals.Right().(*expression.Literal); !ok {
		return nil, errNotOurs
	}
	return plan.NewFilter(ctx, expression.NewEquals(equals.Left(), key), f.Child), nil
}

// takeLeaf looks at how the table is read.
func (t *fastTree) takeLeaf(ctx *sql.Context, n *plan.IndexedTableAccess, b *boundRead) bool {
	own := ownTable(n.Table)
	if own == nil || own.info != b.info || own.read != b.mode || own.bytewise || !n.IsStatic() {
		return false
	}
	lookup, ok, err := n.GetLookup(ctx, nil)
	if err != nil || !ok || lookup.IsEmptyRange || lookup.IsSpatialLookup {
		return false
	}
	index, ok := lookup.Index.(*Index)
	if !ok || index.table != b.info || !index.index.primary {
		return false
	}
	ranges, ok := lookup.Ranges.(sql.MySQLRangeCollection)
	if !ok || len(ranges) == 0 || len(ranges[0]) != 1 {
		return false
	}
	t.lookup, t.key = lookup, ranges[0][0].Typ
	t.lookup.Ranges = sql.MySQLRangeCollection{ranges[0]} // each execution makes its own, and lists are long
	return true
}

// knownExpressions tells whether expressions keep nothing of the statement that they
// were made for, literals apart.
func knownExpressions(ctx *sql.Context, list []sql.Expression) bool {
	known := true
	for _, e := range list {
		transform.InspectExpr(ctx, e, func(_ *sql.Context, e sql.Expression) bool {
			switch e.(type) {
			case *expression.GetField, *expression.Alias, *expression.Literal, *expression.SetField, *expression.Arithmetic,
				*aggregation.Sum, *aggregation.Count, *aggregation.Min, *aggregation.Max, *aggregation.Avg:
			default:
				known = false
			}
			return !known
		})
	}
	return known
}

// with copies a plan with its tables changed by edit, and what it assigns by assign.
func (t *fastTree) with(ctx *sql.Context, n sql.Node, edit func(*Table), key *expression.Literal, assign []sql.Expression) (sql.Node, error) {
	changed := func(t *Table) *Table {
		next := *t
		edit(&next)
		return &next
	}
	switch n := n.(type) {
	case *plan.Update:
		source, ok := n.Child.(*plan.UpdateSource)
		if !ok {
			return nil, errNotOurs
		}
		child, _, err := replaceTables(ctx, source.Child, changed)
		if err == nil {
			child, err = filtered(ctx, child, key)
		}
		if err != nil {
			return nil, err
		}
		exprs := source.UpdateExprs
		if assign != nil {
			if exprs, err = exprs.WithExpressions(assign); err != nil {
				return nil, err
			}
		}
		return n.WithChildren(ctx, plan.NewUpdateSource(ctx, child, source.Ignore, exprs))
	case *plan.DeleteFrom:
		child, _, err := replaceTables(ctx, n.Child, changed)
		if err == nil {
			child, err = filtered(ctx, child, key)
		}
		if err != nil {
			return nil, err
		}
		var targets []sql.Node
		for _, target := range n.GetDeleteTargets() {
			target, _, err := replaceTables(ctx, target, changed)
			if err != nil {
				return nil, err
			}
			targets = append(targets, target)
		}
		next, err := n.WithChildren(ctx, child)
		if err != nil {
			return nil, err
		}
		return next.(*plan.DeleteFrom).WithTargets(targets), nil
	}
	next, _, err := replaceTables(ctx, n, changed)
	if err != nil || key == nil {
		return next, err
	}
	next, _, err = transform.NodeWithOpaque(ctx, next, func(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
		if _, ok := n.(*plan.Filter); !ok {
			return n, transform.SameTree, nil
		}
		n, err := filtered(ctx, n, key)
		return n, transform.NewTree, err
	})
	return next, err
}

// bound is the ends of a range, as the primary key holds them.
type bound struct{ lo, hi any }

// bounds are the ranges of one execution; not ok if one of them is none.
func (b *boundRead) bounds(c *fastpath.Condition, values []fastpath.Value) ([]bound, bool) {
	typ := b.info.schema[b.info.primary.columns[0]].Type
	if c.In == nil {
		from, to := c.Value.Of(values), c.To.Of(values)
		lo, ok := wholeValue(typ, from)
		hi, fits := wholeValue(typ, to)
		return []bound{{lo, hi}}, ok && fits && from.AtMost(to)
	}
	list := make([]bound, len(c.In))
	for i, o := range c.In {
		v, ok := wholeValue(typ, o.Of(values))
		if !ok {
			return nil, false
		}
		list[i] = bound{v, v}
	}
	return list, true
}

// plan is the tree for one execution in a session.
func (t *fastTree) plan(ctx *sql.Context, s *Session, bounds []bound, key *expression.Literal, assign []sql.Expression) (sql.Node, error) {
	lookup := t.lookup
	ranges := make(sql.MySQLRangeCollection, len(bounds)) // the scan puts them in order
	for i, b := range bounds {
		ranges[i] = sql.MySQLRange{sql.ClosedRangeColumnExpr(b.lo, b.hi, t.key)}
	}
	lookup.Ranges = ranges
	return t.with(ctx, t.root, func(own *Table) { own.session, own.instead = s, &lookup }, key, assign)
}
