package sqlfront

import (
	"io"
	"math"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/rowexec"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
)

// allowed tells whether a statement that changes rows of the table changes nothing
// else in a snapshot that has the table: no trigger, no constraint besides its keys, no
// column that the server computes. Triggers and references are not the table's own:
// they may come and go without it.
func (b *boundRead) allowed(in *catalog.Snapshot) bool {
	if b.verb == fastpath.Select {
		return true
	}
	schema, desc := in.Schema(b.schema), b.info.desc
	if len(schema.Triggers) > 0 || len(desc.Checks) > 0 || len(desc.ForeignKeys) > 0 || len(in.References(b.schema, desc.Name)) > 0 {
		return false
	}
	for _, c := range b.info.schema {
		if c.OnUpdate != nil || c.Generated != nil || c.Virtual || c.Hidden || c.HiddenSystem {
			return false
		}
	}
	return true
}

// mayWrite tells whether a statement of the session that begins now may write: the
// engine says what is in its way if not.
func (s *Session) mayWrite() bool {
	if s.tx != nil {
		return !s.tx.readOnly && !s.server.engine.IsReadOnly()
	}
	return !s.characteristics().readOnly && !s.server.engine.IsReadOnly()
}

// literalFits tells whether literalOf knows a value.
func literalFits(v fastpath.Value) bool {
	return v.Kind != fastpath.Integer || v.Magnitude <= math.MaxInt64
}

// literalOf is a value as the engine makes a literal of it.
func literalOf(s *Session, v fastpath.Value) (*expression.Literal, bool) {
	switch v.Kind {
	case fastpath.Null:
		return expression.NewLiteral(nil, types.Null), true
	case fastpath.Text:
		return expression.NewLiteral(v.Text, types.CreateLongText(s.GetCollation())), true
	}
	if !literalFits(v) {
		return nil, false
	}
	n := int64(v.Magnitude)
	if v.Negative {
		n = -n
	}
	// The smallest type that holds it, a signed one first.
	switch {
	case n >= math.MinInt8 && n <= math.MaxInt8:
		return expression.NewLiteral(int8(n), types.Int8), true
	case n >= 0 && n <= math.MaxUint8:
		return expression.NewLiteral(uint8(n), types.Uint8), true
	case n >= math.MinInt16 && n <= math.MaxInt16:
		return expression.NewLiteral(int16(n), types.Int16), true
	case n >= 0 && n <= math.MaxUint16:
		return expression.NewLiteral(uint16(n), types.Uint16), true
	case n >= math.MinInt32 && n <= math.MaxInt32:
		return expression.NewLiteral(int32(n), types.Int32), true
	case n >= 0 && n <= math.MaxUint32:
		return expression.NewLiteral(uint32(n), types.Uint32), true
	}
	return expression.NewLiteral(n, types.Int64), true
}

// fastSet is an assignment of an UPDATE: the column, and unless it gets the value
// itself, the one that the value is added to or subtracted from.
type fastSet struct {
	column sql.Expression
	of     sql.Expression // nil: the value itself
	op     string
	first  *expression.Literal // for which the plan was made, for mutations
}

// takeSets looks at what an UPDATE assigns, whose plan was made for these values.
func (t *fastTree) takeSets(s *Session, root sql.Node, b *boundRead, list []fastpath.Assignment, values []fastpath.Value) bool {
	update, ok := root.(*plan.Update)
	if !ok || update.Ignore || len(update.Returning) > 0 || len(update.Checks()) > 0 {
		return false
	}
	source, ok := update.Child.(*plan.UpdateSource)
	if !ok || source.UpdateExprs.Length() != len(list) || len(source.UpdateExprs.ExplicitUpdateExprs()) != len(list) {
		return false
	}
	for i, e := range source.UpdateExprs.AllExpressions() {
		set, ok := newSet(s, e, b.info, list[i], list[i].Value.Of(values))
		if !ok {
			return false
		}
		t.sets = append(t.sets, set)
	}
	return true
}

// newSet looks at an assignment of a value as the engine has planned it.
func newSet(s *Session, e sql.Expression, info *tableInfo, a fastpath.Assignment, v fastpath.Value) (fastSet, bool) {
	set, ok := e.(*expression.SetField)
	if !ok {
		return fastSet{}, false
	}
	column, ok := set.LeftChild.(*expression.GetField)
	if !ok || info.desc.Column(column.Name()) != info.desc.Column(a.Column) {
		return fastSet{}, false
	}
	next, value := fastSet{column: column}, set.RightChild
	if !a.Direct {
		sum, ok := value.(*expression.Arithmetic)
		if !ok || v.Kind != fastpath.Integer {
			return fastSet{}, false
		}
		if _, ok := sum.LeftChild.(*expression.GetField); !ok {
			return fastSet{}, false
		}
		next.of, next.op, value = sum.LeftChild, sum.Op, sum.RightChild
	}
	have, ok := value.(*expression.Literal)
	want, is := literalOf(s, v)
	if !ok || !is || have.Val != want.Val || !have.Typ.Equals(want.Typ) {
		return fastSet{}, false
	}
	if mutated("0070.other-literals") {
		next.first = want
	}
	return next, true
}

// assigned are the expressions of an UPDATE with the values of one execution in place
// of those that the plan was made for; ok is false for a value that needs the engine.
// They are made anew each time: an Arithmetic notes its type when it is first asked.
func (t *fastTree) assigned(s *Session, list []fastpath.Assignment, values []fastpath.Value) ([]sql.Expression, bool) {
	exprs := make([]sql.Expression, len(t.sets))
	for i, set := range t.sets {
		v := list[i].Value.Of(values)
		literal, ok := literalOf(s, v)
		if !ok || set.of != nil && v.Kind != fastpath.Integer {
			return nil, false
		}
		if set.first != nil {
			literal = set.first
		}
		var value sql.Expression = literal
		if set.of != nil {
			value = expression.NewArithmetic(set.of, literal, set.op)
		}
		exprs[i] = expression.NewSetField(set.column, value)
	}
	return exprs, true
}

// finish completes the iterator of a plan as the engine does.
func finish(ctx *sql.Context, tree sql.Node, iter sql.RowIter, verb fastpath.Verb) (sql.RowIter, error) {
	flags := &sql.QueryFlags{}
	switch verb {
	case fastpath.Update:
		flags.Set(sql.QFlagUpdate)
	case fastpath.Delete:
		flags.Set(sql.QFlagDelete)
	case fastpath.Insert, fastpath.Replace:
		flags.Set(sql.QFlagInsert)
	}
	iter, _, err := rowexec.FinalizeIters(ctx, tree, flags, iter)
	return iter, err
}

// write sends what became of a statement that changes rows.
func (q *fastQuery) write(ctx *sql.Context, build func(*sql.Context) (sql.RowIter, error)) error {
	iter, err := build(ctx)
	if err != nil {
		return err
	}
	row, err := iter.Next(ctx)
	if err != nil {
		return err
	}
	if _, err := iter.Next(ctx); err != io.EOF {
		return errNotOurs
	}
	if err := iter.Close(ctx); err != nil {
		return err
	}
	ok := row[0].(types.OkResult)
	result := &sqltypes.Result{RowsAffected: ok.RowsAffected, InsertID: ok.InsertID}
	if ok.Info != nil {
		result.Info = ok.Info.String()
	}
	q.showState()
	return q.send(result)
}
