package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/hash"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
)

var (
	_ sql.Expression = (*textInSubquery)(nil)
	_ sql.Disposable = (*textInSubquery)(nil)
)

// textInSubquery is left IN (SELECT ...) with text among its columns. The
// engine hashes several columns as one value, without their collations.
type textInSubquery struct {
	expression.BinaryExpressionStub
	left, right []sql.Type
	// collations are those of the text columns, Unspecified for the others.
	collations []sql.CollationID

	// The rows of a subquery that is evaluated once, by the keys of their text;
	// loose ones have a NULL there. first tells whether they are still the same.
	first   *any
	buckets map[uint64][][]any
	loose   [][]any
}

// collateSubquery leaves a single column alone when its type says how to hash.
func collateSubquery(ctx *sql.Context, in *plan.InSubquery) sql.Expression {
	subquery, ok := in.RightChild.(*plan.Subquery)
	if !ok {
		return nil
	}
	left := []sql.Expression{in.LeftChild}
	if tuple, ok := in.LeftChild.(expression.Tuple); ok {
		left = tuple
	}
	columns := subquery.Query.Schema(ctx)
	if len(columns) != len(left) {
		return nil // the engine's error
	}
	next := &textInSubquery{BinaryExpressionStub: in.BinaryExpressionStub, collations: make([]sql.CollationID, len(left))}
	any := false
	for i, e := range left {
		next.left, next.right = append(next.left, e.Type(ctx)), append(next.right, columns[i].Type)
		other, strength, ok := sideCollation(ctx, i, subquery.Query)
		if !ok || !textOnly(ctx, e) {
			continue
		}
		own, ownStrength := sql.GetCoercibility(ctx, e)
		next.collations[i], _ = sql.ResolveCoercibility(own, ownStrength, other, strength)
		any = any || len(left) > 1 || folds(next.collations[i]) && typeCollation(columns[i].Type) != next.collations[i]
	}
	if !any {
		return nil
	}
	return next
}

// Eval implements sql.Expression: NULL if no row matches and one might, but for
// its NULLs or those of the left side.
func (in *textInSubquery) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	v, err := in.LeftChild.Eval(ctx, row)
	if err != nil {
		return nil, err
	}
	left, ok := v.([]any)
	if !ok {
		left = []any{v}
	}
	all, err := in.RightChild.(*plan.Subquery).EvalMultiple(ctx, row)
	if err != nil || len(all) == 0 {
		return false, err
	}
	if in.first != &all[0] {
		if err := in.sort(ctx, all); err != nil {
			return nil, err
		}
	}
	key, hasKey, err := in.key(ctx, left, in.left)
	if err != nil {
		return nil, err
	}
	candidates := [][][]any{in.loose}
	if hasKey {
		candidates = append(candidates, in.buckets[key])
	} else {
		for _, rows := range in.buckets {
			candidates = append(candidates, rows)
		}
	}
	null := false
	for _, rows := range candidates {
		for _, other := range rows {
			equal, unknown, err := in.compare(ctx, left, other)
			if err != nil {
				return nil, err
			}
			if equal && !unknown {
				return true, nil
			}
			null = null || equal
		}
	}
	if null {
		return nil, nil
	}
	return false, nil
}

// sort puts the rows of the subquery where Eval looks for them.
func (in *textInSubquery) sort(ctx *sql.Context, all []any) error {
	in.first, in.buckets, in.loose = &all[0], make(map[uint64][][]any, len(all)), nil
	for _, v := range all {
		row, ok := v.([]any)
		if !ok {
			row = []any{v}
		}
		key, ok, err := in.key(ctx, row, in.right)
		if err != nil {
			return err
		}
		if !ok {
			in.loose = append(in.loose, row)
			continue
		}
		in.buckets[key] = append(in.buckets[key], row)
	}
	return nil
}

// key hashes the text of a row; ok is false if a text is NULL.
func (in *textInSubquery) key(ctx *sql.Context, row []any, columns []sql.Type) (key uint64, ok bool, err error) {
	keys := make(sql.Row, 0, len(row))
	for i, v := range row {
		if in.collations[i] == sql.Collation_Unspecified {
			continue
		}
		if v == nil {
			return 0, false, nil
		}
		text, _, err := types.ConvertToCollatedString(ctx, v, columns[i])
		if err != nil {
			return 0, false, err
		}
		k, err := in.collations[i].HashToUint(text)
		if err != nil {
			return 0, false, err
		}
		keys = append(keys, k)
	}
	key, err = hash.HashOf(ctx, nil, keys)
	return key, err == nil, err
}

// compare tells whether no column is different; unknown if a NULL is among them.
func (in *textInSubquery) compare(ctx *sql.Context, left, right []any) (equal, unknown bool, err error) {
	for i := range left {
		if left[i] == nil || right[i] == nil {
			unknown = true
			continue
		}
		var same any
		if in.collations[i] != sql.Collation_Unspecified {
			e := newTextEquals(expression.NewLiteral(left[i], in.left[i]), expression.NewLiteral(right[i], in.right[i]), in.collations[i], false, "")
			same, err = e.Eval(ctx, nil)
		} else {
			same, err = expression.NewEquals(expression.NewLiteral(left[i], in.left[i]), expression.NewLiteral(right[i], in.right[i])).Eval(ctx, nil)
		}
		if err != nil || same != true {
			return false, false, err
		}
	}
	return true, unknown, nil
}

// Type implements sql.Expression.
func (*textInSubquery) Type(*sql.Context) sql.Type { return types.Boolean }

// IsNullable implements sql.Expression.
func (*textInSubquery) IsNullable(*sql.Context) bool { return true }

// Dispose implements sql.Disposable.
func (in *textInSubquery) Dispose(ctx *sql.Context) {
	in.first, in.buckets, in.loose = nil, nil, nil
	in.RightChild.(*plan.Subquery).Dispose(ctx)
}

// WithChildren implements sql.Expression.
func (in *textInSubquery) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != 2 {
		return nil, sql.ErrInvalidChildrenNumber.New(in, len(children), 2)
	}
	return &textInSubquery{BinaryExpressionStub: expression.BinaryExpressionStub{LeftChild: children[0], RightChild: children[1]},
		left: in.left, right: in.right, collations: in.collations}, nil
}

// String implements sql.Expression.
func (in *textInSubquery) String() string {
	return "(" + in.LeftChild.String() + " IN " + in.RightChild.String() + ")"
}
