package sqlfront

import (
	"context"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
)

// fastInsert is the plan that the engine made for the first INSERT or REPLACE of a
// shape: rows of values. Like fastTree it belongs to no session.
type fastInsert struct {
	root *plan.InsertInto
	// columns are what the columns of the table get, one of a row of values; that with
	// AUTO_INCREMENT what it is made of.
	columns []sql.Expression
	at      int // place of that column; -1: there is none
	auto    int // place of the AUTO_INCREMENT column's value in a row; -1: it has none
	rows    int
	rowsOf  *fastRows // nil: it needs the plan
}

// tryInsert answers an INSERT of rows from the engine's plan for one of the same
// shape.
func (f *fastPath) tryInsert(ctx context.Context, q *fastQuery, p *fastPlan) (bool, wire.Lesson, error) {
	s := q.session
	bound := s.bind(p, s.GetCurrentDatabase())
	if !bound.ours || !s.mayWrite() {
		return false, nil, nil
	}
	n := p.statement
	if bound.insert == nil {
		wanted, values := &captured{}, slices.Clone(q.values)
		s.fast.capture = wanted
		return false, lesson(func(fields []*querypb.Field) {
			if wanted.root == nil || len(fields) > 0 || s.catalog.snapshot.Load().Version != bound.version {
				return
			}
			next := *bound
			if next.insert = newInsert(s, wanted.root, bound.info, n, values); next.insert == nil {
				p.bound.CompareAndSwap(bound, bound.missed())
				return
			}
			p.bound.CompareAndSwap(bound, &next)
		}), nil
	}
	if rows, ok := bound.insert.direct(s, bound.info, n.Assign, q.values); ok {
		return f.execute(ctx, q, bound, n.Verb, f.inserting(q, bound, rows, bound.insert.chosen(s, n.Assign, q.values)))
	}
	rows, ok := bound.insert.tuples(s, n.Assign, q.values)
	if !ok {
		return false, nil, nil
	}
	return f.execute(ctx, q, bound, n.Verb, q.planned(f, bound, n, func(ctx *sql.Context) (sql.Node, error) {
		return bound.insert.plan(ctx, s, bound.info, rows, bound.insert.chosen(s, n.Assign, q.values))
	}))
}

// newInsert prepares a plan, nil if it is not of the kind that can be used again. It
// was made for these values.
func newInsert(s *Session, root sql.Node, info *tableInfo, n *fastpath.Statement, values []fastpath.Value) *fastInsert {
	insert, ok := root.(*plan.InsertInto)
	if !ok || insert.Ignore || insert.IsReplace != (n.Verb == fastpath.Replace) || insert.HasAfterTrigger || insert.OnDupExprs.HasUpdates() || len(insert.Returning) > 0 || len(insert.Checks()) > 0 {
		return nil
	}
	if _, ok := insert.Destination.(*plan.InsertDestination); !ok || findTable(s.plain, insert.Destination) == nil || findTable(s.plain, insert.Destination).info != info {
		return nil
	}
	project, ok := insert.Source.(*plan.Project)
	if !ok {
		return nil
	}
	source, ok := project.Child.(*plan.Values)
	if !ok || !sameValues(s, source.ExpressionTuples, n, values) {
		return nil
	}
	t := &fastInsert{at: -1, auto: -1, rows: n.Rows}
	for i, e := range project.Projections {
		if !t.takeColumn(e, len(n.Assign)/n.Rows) {
			return nil
		}
		if auto, ok := e.(*expression.AutoIncrement); ok {
			t.at, e = i, auto.Child // it has the table, and with it the session
		}
		t.columns = append(t.columns, e)
	}
	if t.at != info.desc.AutoColumn() || t.chosen(s, n.Assign, values) != insert.FirstGeneratedAutoIncRowIdx {
		return nil
	}
	own := *insert
	destination, err := ownerless(insert.Destination, sql.IndexLookup{})
	if err != nil {
		return nil
	}
	own.Destination, own.Source = destination, nil
	t.root = &own
	t.rowsOf = newRows(s, t, info, len(n.Assign)/n.Rows)
	return t
}

// sameValues tells whether the rows of a plan are those of the statement.
func sameValues(s *Session, tuples [][]sql.Expression, n *fastpath.Statement, values []fastpath.Value) bool {
	if len(tuples) != n.Rows {
		return false
	}
	list := n.Assign
	for _, tuple := range tuples {
		if len(tuple) != len(n.Assign)/n.Rows {
			return false
		}
		for i, e := range tuple {
			want, ok := literalOf(s, list[i].Value.Of(values))
			have, is := e.(*expression.Literal)
			if !ok || !is || have.Val != want.Val || !have.Typ.Equals(want.Typ) {
				return false
			}
		}
		list = list[len(tuple):]
	}
	return true
}

// takeColumn looks at what a column of the table gets.
func (t *fastInsert) takeColumn(e sql.Expression, values int) bool {
	switch e := e.(type) {
	case *expression.GetField:
		return e.Index() < values
	case *expression.AutoIncrement:
		if given, ok := e.Child.(*expression.GetField); ok {
			t.auto = given.Index()
			return t.auto < values
		}
		missing, ok := e.Child.(*sql.ColumnDefaultValue)
		return ok && missing == nil
	case *sql.ColumnDefaultValue:
		if e == nil {
			return true // NULL
		}
		_, ok := e.Expr.(*expression.Literal)
		return ok
	}
	return false
}

// chosen is the number of the first row for which the server chooses the value of the
// AUTO_INCREMENT column, as the engine counts them; -1: there is none.
func (t *fastInsert) chosen(s *Session, list []fastpath.Assignment, values []fastpath.Value) int {
	if t.at < 0 || t.auto < 0 {
		return min(t.at, 0)
	}
	zero := !sql.LoadSqlMode(s.plain).ModeEnabled(sql.NoAutoValueOnZero) && !mutated("0070.chosen-values")
	width := len(list) / t.rows
	for row := range t.rows {
		v := list[row*width+t.auto].Value.Of(values)
		if v.Kind == fastpath.Null || zero && v.Kind == fastpath.Integer && v.Magnitude == 0 {
			return row
		}
	}
	return -1
}

// plan is the tree for one execution in a session.
func (t *fastInsert) plan(ctx *sql.Context, s *Session, info *tableInfo, rows [][]sql.Expression, chosen int) (sql.Node, error) {
	columns := t.columns
	if i := t.at; i >= 0 {
		next, err := expression.NewAutoIncrementForColumn(ctx, &Table{session: s, info: info}, info.schema[i], columns[i])
		if err != nil {
			return nil, err
		}
		columns = slices.Clone(columns)
		columns[i] = next
	}
	destination, _, err := replaceTables(ctx, t.root.Destination, func(t *Table) *Table {
		next := *t
		next.session = s
		return &next
	})
	if err != nil {
		return nil, err
	}
	next := *t.root
	next.Destination, next.FirstGeneratedAutoIncRowIdx = destination, chosen
	next.Source = plan.NewProject(ctx, columns, plan.NewValues(rows))
	return &next, nil
}

// tuples are the rows of one execution as the engine's literals; not ok if the engine
// is to look at a value.
func (t *fastInsert) tuples(s *Session, list []fastpath.Assignment, values []fastpath.Value) ([][]sql.Expression, bool) {
	rows, width := make([][]sql.Expression, t.rows), len(list)/t.rows
	all := make([]sql.Expression, len(list))
	for i, a := range list {
		v := a.Value.Of(values)
		if i%width == t.auto && v.Kind == fastpath.Text {
			return nil, false
		}
		literal, ok := literalOf(s, v)
		if !ok {
			return nil, false
		}
		all[i] = literal
	}
	for i := range rows {
		rows[i] = all[i*width : (i+1)*width : (i+1)*width]
	}
	return rows, true
}
