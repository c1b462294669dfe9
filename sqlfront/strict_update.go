package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// strictUpdates makes assignments of UPDATE refuse numbers that the column cannot
// hold, as INSERT does: the engine stored the nearest one without a word. Nil:
// nothing to change.
func strictUpdates(ctx *sql.Context, exprs []sql.Expression) []sql.Expression {
	if !sql.LoadSqlMode(ctx).Strict() {
		return nil
	}
	var out []sql.Expression
	for i, e := range exprs {
		set, ok := e.(*expression.SetField)
		if !ok {
			continue
		}
		column := set.LeftChild.Type(ctx)
		if _, done := set.RightChild.(*inRange); done || !types.IsNumber(column) {
			continue
		}
		if _, generated := set.RightChild.(*sql.ColumnDefaultValue); generated {
			continue
		}
		if out == nil {
			out = append(out, exprs...)
		}
		out[i] = expression.NewSetField(set.LeftChild, &inRange{wrapped{expression.UnaryExpressionStub{Child: set.RightChild}}, column})
	}
	return out
}

// inRange is a value that must fit a column's type.
type inRange struct {
	wrapped
	column sql.Type
}

// Eval implements sql.Expression.
func (r *inRange) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	v, err := r.Child.Eval(ctx, row)
	if err != nil || v == nil {
		return v, err
	}
	if _, where, err := r.column.Convert(ctx, v); err == nil && where != sql.InRange {
		return nil, sql.ErrValueOutOfRange.New(v, r.column)
	}
	return v, nil
}

// WithChildren implements sql.Expression.
func (r *inRange) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != 1 {
		return nil, sql.ErrInvalidChildrenNumber.New(r, len(children), 1)
	}
	return &inRange{wrapped{expression.UnaryExpressionStub{Child: children[0]}}, r.column}, nil
}
