package sqlfront

import (
	"math"
	"strconv"
	"sync"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/analyzer"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
)

// indexConditions decides which comparisons of a column with a value an index
// may answer. An index stands in the order of its column's type; a comparison
// that the engine makes in another order (a number with a binary string, text
// under another collation, an ENUM with what is no member) is left to a filter
// over all rows. The rest of a conjunction may still use an index.
type indexConditions struct{}

// planning is the context in which types are asked for and converted. The engine
// hands none over, and a new one, with a session and its variables, costs more
// than the rest of the planning. Nothing here reads or changes the session's
// state, except that ENUM looks for the SQL mode, which is the default's.
var planning = sync.OnceValue(sql.NewEmptyContext)

// Next implements sql.ExpressionTreeFilter.
func (indexConditions) Next(e sql.Expression) sql.Expression {
	op, left, right, ok := analyzer.IndexLeafChildren(e)
	if !ok || left == nil || right == nil {
		return e
	}
	ctx := planning()
	column, value := left, right
	if _, ok := left.(*expression.GetField); !ok {
		if _, ok := right.(*expression.GetField); ok {
			column, value = right, left
		}
	}
	if _, ok := column.(expression.Tuple); ok {
		return e
	}
	c := condition{column: column.Type(ctx), op: op}
	values := []sql.Expression{value}
	if list, ok := value.(expression.Tuple); ok {
		values = list
	}
	for _, v := range values {
		if !c.ordered(ctx, v) {
			return &filterOnly{wrapped{expression.UnaryExpressionStub{Child: e}}}
		}
	}
	if codec.IsBinary(c.column) {
		return comparableBytes(ctx, e)
	}
	return e
}

// condition is a comparison of a column.
type condition struct {
	column sql.Type
	op     sql.IndexScanOp
}

// equality tells whether only equal values pass: any superset of them will do.
func (c condition) equality() bool {
	switch c.op {
	case sql.IndexScanOpEq, sql.IndexScanOpNullSafeEq, sql.IndexScanOpInSet:
		return true
	}
	return false
}

// ordered tells whether the engine compares the column with e in the order that
// the column's index has.
func (c condition) ordered(ctx *sql.Context, e sql.Expression) bool {
	t := e.Type(ctx)
	literal, known := e.(*expression.Literal)
	if t == types.Null || known && literal.Val == nil {
		return true
	}
	if c.negated() && approximate(c.column) && !(known && integer(literal.Val)) {
		return false // the planner takes "not equal to a fraction" for "not NULL"
	}
	number, text, binary := types.IsNumber(t), types.IsTextOnly(t), codec.IsBinary(t)
	switch {
	case types.IsEnum(c.column), types.IsSet(c.column):
		if types.IsEnum(t) || types.IsSet(t) {
			return c.column.Equals(t)
		}
		return (number || text) && (known && converts(ctx, c.column, literal) || !known && c.equality())
	case types.IsTime(c.column):
		return (types.IsTime(t) || text || binary) && (!known || converts(ctx, c.column, literal))
	case types.IsTimespan(c.column):
		return !types.IsTime(t) && (!known || converts(ctx, c.column, literal))
	case codec.IsBinary(c.column):
		return text || binary || types.IsGeometry(t)
	case types.IsTextOnly(c.column):
		return text && c.sameCollation(ctx, e) || types.IsGeometry(t) && c.equality()
	case types.IsInteger(c.column):
		return number && exactInteger(literal) || text && wholeText(literal)
	case types.IsNumber(c.column):
		return number || text
	}
	return true
}

func (c condition) negated() bool {
	return c.op == sql.IndexScanOpNotEq || c.op == sql.IndexScanOpNotInSet
}

// approximate tells whether a column of type t may hold fractions.
func approximate(t sql.Type) bool { return types.IsFloat(t) || types.IsDecimal(t) }

func integer(v any) bool {
	switch v.(type) {
	case bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return true
	}
	return false
}

func converts(ctx *sql.Context, t sql.Type, literal *expression.Literal) bool {
	_, where, err := codec.BoundType(t).Convert(ctx, literal.Val)
	return err == nil && where == sql.InRange
}

// exactInteger refuses floats beyond the integers that floats can tell apart:
// there the engine rounds the column's value before it compares.
func exactInteger(literal *expression.Literal) bool {
	if literal == nil {
		return true
	}
	f, ok := literal.Val.(float64)
	return !ok || math.Abs(f) < 1<<53
}

// wholeText tells whether text is a plain integer. Other text the planner would
// round before it builds a range.
func wholeText(literal *expression.Literal) bool {
	if literal == nil {
		return false
	}
	s, ok := literal.Val.(string)
	if !ok {
		return false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && n > -1<<53 && n < 1<<53
}

// sameCollation refuses a value that brings an explicit collation of its own.
func (c condition) sameCollation(ctx *sql.Context, e sql.Expression) bool {
	collation, coercibility := sql.GetCoercibility(ctx, e)
	t, ok := c.column.(sql.StringType)
	return !ok || coercibility > 0 || collation == t.Collation()
}

// comparableBytes turns byte strings into text of the same type: the planner
// compares the values of two equalities with ==, which Go refuses for slices.
func comparableBytes(ctx *sql.Context, e sql.Expression) sql.Expression {
	out, _, err := transform.Expr(ctx, e, func(ctx *sql.Context, e sql.Expression) (sql.Expression, transform.TreeIdentity, error) {
		if _, ok := e.(expression.Comparer); !ok {
			return e, transform.SameTree, nil
		}
		operands := e.Children()
		for i, o := range operands {
			operands[i] = textOperand(ctx, o)
		}
		changed, err := e.WithChildren(ctx, operands...)
		return changed, transform.NewTree, err
	})
	if err != nil {
		return e
	}
	return out
}

// textOperand leaves columns, and expressions over them, alone.
func textOperand(ctx *sql.Context, e sql.Expression) sql.Expression {
	if list, ok := e.(expression.Tuple); ok {
		out := make(expression.Tuple, len(list))
		for i := range list {
			out[i] = textOperand(ctx, list[i])
		}
		return out
	}
	if literal, ok := e.(*expression.Literal); ok {
		if b, ok := literal.Val.([]byte); ok {
			return expression.NewLiteral(string(b), literal.Type(ctx))
		}
		return e
	}
	column := false
	sql.Inspect(ctx, e, func(_ *sql.Context, e sql.Expression) bool {
		_, ok := e.(*expression.GetField)
		column = column || ok
		return !column
	})
	if column || !codec.IsBinary(e.Type(ctx)) {
		return e
	}
	return &bytesAsText{wrapped{expression.UnaryExpressionStub{Child: e}}}
}

// bytesAsText is a byte string as a Go string.
type bytesAsText struct{ wrapped }

// Eval implements sql.Expression.
func (b *bytesAsText) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	v, err := b.Child.Eval(ctx, row)
	if err == nil {
		v, err = sql.UnwrapAny(ctx, v)
	}
	if bytes, ok := v.([]byte); ok {
		return string(bytes), err
	}
	return v, err
}

// WithChildren implements sql.Expression.
func (b *bytesAsText) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != 1 {
		return nil, sql.ErrInvalidChildrenNumber.New(b, len(children), 1)
	}
	return &bytesAsText{wrapped{expression.UnaryExpressionStub{Child: children[0]}}}, nil
}

// filterOnly is a condition that no index answers.
type filterOnly struct{ wrapped }

// Eval implements sql.Expression.
func (f *filterOnly) Eval(ctx *sql.Context, row sql.Row) (any, error) { return f.Child.Eval(ctx, row) }

// WithChildren implements sql.Expression.
func (f *filterOnly) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != 1 {
		return nil, sql.ErrInvalidChildrenNumber.New(f, len(children), 1)
	}
	return &filterOnly{wrapped{expression.UnaryExpressionStub{Child: children[0]}}}, nil
}

var _, _ sql.Expression = (*filterOnly)(nil), (*bytesAsText)(nil)

// wrapped is an expression around another that reads and prints as that one.
type wrapped struct{ expression.UnaryExpressionStub }

// Type implements sql.Expression.
func (w *wrapped) Type(ctx *sql.Context) sql.Type { return w.Child.Type(ctx) }

// String implements sql.Expression.
func (w *wrapped) String() string { return w.Child.String() }

// DebugString implements sql.DebugStringer.
func (w *wrapped) DebugString(ctx *sql.Context) string { return sql.DebugString(ctx, w.Child) }

// CollationCoercibility implements sql.CollationCoercible.
func (w *wrapped) CollationCoercibility(ctx *sql.Context) (sql.CollationID, byte) {
	return sql.GetCoercibility(ctx, w.Child)
}
