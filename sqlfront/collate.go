package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// The engine compares and hashes text by its bytes in places where MySQL uses
// the collation: IN lists, <=>, LEAST and GREATEST, DISTINCT, set operations,
// hash joins. What is wrong there is replaced when the plan is built, after the
// choice of indexes; plans without such text stay as the engine made them.
// Which collation decides is the engine's own rule of coercibility (MySQL 8.0
// Reference Manual, "Collation Coercibility in Expressions").

// folds tells whether a collation takes different bytes for the same text.
func folds(id sql.CollationID) bool {
	return id != sql.Collation_Unspecified && id != sql.Collation_binary && !strings.HasSuffix(id.Name(), "_bin")
}

// textOnly tells whether all expressions are character strings. A type for the
// value NULL is none.
func textOnly(ctx *sql.Context, expressions ...sql.Expression) bool {
	for _, e := range expressions {
		if !types.IsTextOnly(e.Type(ctx)) {
			return false
		}
	}
	return true
}

// commonCollation is the one that decides when the expressions are compared.
func commonCollation(ctx *sql.Context, expressions ...sql.Expression) sql.CollationID {
	collation, strength := sql.GetCoercibility(ctx, expressions[0])
	for _, e := range expressions[1:] {
		next, nextStrength := sql.GetCoercibility(ctx, e)
		collation, strength = sql.ResolveCoercibility(collation, strength, next, nextStrength)
	}
	return collation
}

// collatedType is text that is compared and hashed by a collation.
func collatedType(collation sql.CollationID) sql.Type {
	return types.CreateLongText(collation)
}

// collate returns n with expressions that follow their collations, nil if n's
// do already. Definitions are left alone: the text of their expressions is kept.
func collate(ctx *sql.Context, n sql.Node) (sql.Node, error) {
	switch n := n.(type) {
	case *plan.Filter:
		// In place: the inner side of a join comes here once for every outer row.
		condition, same, err := transform.Expr(ctx, n.Expression, collateExpression)
		if err == nil && same == transform.NewTree {
			n.Expression = condition
		}
		return nil, err
	case *plan.HashLookup:
		return nil, collateLookup(ctx, n)
	case *plan.GroupBy:
		return collateGroups(ctx, n)
	case *plan.Having, *plan.Project, *plan.JoinNode, *plan.Window, *plan.Sort, *plan.TopN,
		*plan.InsertInto, *plan.Update, *plan.UpdateSource:
		return changed(transform.OneNodeExpressions(ctx, n, collateExpression))
	}
	return nil, nil
}

// collateExpression is a transform.ExprFunc.
func collateExpression(ctx *sql.Context, e sql.Expression) (sql.Expression, transform.TreeIdentity, error) {
	var next sql.Expression
	var err error
	switch e := e.(type) {
	case *expression.HashInTuple:
		next, err = collateIn(ctx, e, e.Left(), e.Right())
	case *expression.InTuple:
		next, err = collateIn(ctx, e, e.Left(), e.Right())
	case *plan.InSubquery:
		if in := collateSubquery(ctx, e); in != nil {
			next = in
		}
	case *expression.NullSafeEquals:
		next = collateEquals(ctx, e, e.Left(), e.Right(), true)
	case *expression.Equals:
		pairs, collated, pairErr := collatePairs(ctx, e.Left(), e.Right())
		if pairErr != nil || collated {
			next, err = pairs, pairErr
			break
		}
		next = collateEquals(ctx, e, e.Left(), e.Right(), false)
	case *function.Least:
		next = collateExtreme(ctx, e, e.Args, -1)
	case *function.Greatest:
		next = collateExtreme(ctx, e, e.Args, 1)
	case *aggregation.CountDistinct:
		next, err = collateCount(ctx, e)
	case *aggregation.GroupConcat:
		next, err = collateConcat(ctx, e)
	}
	if err != nil || next == nil {
		return e, transform.SameTree, err
	}
	return next, transform.NewTree, nil
}

func collateIn(ctx *sql.Context, in, left, right sql.Expression) (sql.Expression, error) {
	list, ok := right.(expression.Tuple)
	if !ok {
		return nil, nil
	}
	if tuple, ok := left.(expression.Tuple); ok {
		return collateTupleIn(ctx, in, tuple, list)
	}
	texts := []sql.Expression{left}
	for _, e := range list {
		if e.Type(ctx) != types.Null {
			texts = append(texts, e)
		}
	}
	if !textOnly(ctx, texts...) {
		return unhashedIn(ctx, in, left, list), nil
	}
	if collation := commonCollation(ctx, texts...); folds(collation) {
		return newTextIn(ctx, left, list, collation)
	}
	return nil, nil
}

// unhashedIn compares with each member of a list as it is, nil if a hashed list
// is right already. The engine hashes all members as it compares the first: with
// an integer first, 1.5 became 2, and 2 IN (7, 1.5) was true.
func unhashedIn(ctx *sql.Context, in, left sql.Expression, list expression.Tuple) sql.Expression {
	if _, hashed := in.(*expression.HashInTuple); !hashed {
		return nil
	}
	var first sql.Type
	for _, e := range list {
		if e.Type(ctx) == types.Null {
			continue
		}
		t := types.GetCompareType(left.Type(ctx), e.Type(ctx))
		if first == nil {
			first = types.GetCompareType(left.Type(ctx), list[0].Type(ctx))
		}
		if !t.Equals(first) {
			return expression.NewInTuple(left, list)
		}
	}
	return nil
}

// collateTupleIn makes (a, b) IN ((c, d), ...) a chain of (a, b) = (c, d). A
// hashed list is right already.
func collateTupleIn(ctx *sql.Context, in sql.Expression, left, list expression.Tuple) (sql.Expression, error) {
	if _, hashed := in.(*expression.HashInTuple); hashed {
		return nil, nil
	}
	any := false
	var rows []sql.Expression
	for _, row := range list {
		pairs, collated, err := collatePairs(ctx, left, row)
		if err != nil || pairs == nil {
			return nil, err
		}
		rows, any = append(rows, pairs), any || collated
	}
	if !any {
		return nil, nil
	}
	return expression.JoinOr(rows...), nil
}

// collatePairs makes (a, b) = (c, d) a = c AND b = d: the truth value is the
// same, also with NULL. It is nil for what is not a pair of tuples; collated
// tells whether a collation makes a difference.
func collatePairs(ctx *sql.Context, left, right sql.Expression) (pairs sql.Expression, collated bool, err error) {
	a, ok := left.(expression.Tuple)
	b, isTuple := right.(expression.Tuple)
	if !ok || !isTuple || len(a) != len(b) {
		return nil, false, nil
	}
	var all []sql.Expression
	for i := range a {
		if _, nested := a[i].(expression.Tuple); nested {
			return nil, false, nil
		}
		collated = collated || textOnly(ctx, a[i], b[i]) && folds(commonCollation(ctx, a[i], b[i]))
		pair, _, err := collateExpression(ctx, expression.NewEquals(a[i], b[i]))
		if err != nil {
			return nil, false, err
		}
		all = append(all, pair)
	}
	return expression.JoinAnd(all...), collated, nil
}

// collateEquals leaves = alone where the engine asks the collation: it does
// except for two texts of one type, as functions have.
func collateEquals(ctx *sql.Context, e, left, right sql.Expression, nullSafe bool) sql.Expression {
	if !textOnly(ctx, left, right) {
		return nil
	}
	if !nullSafe && !left.Type(ctx).Equals(right.Type(ctx)) {
		return nil
	}
	collation := commonCollation(ctx, left, right)
	if !folds(collation) || typeCollation(left.Type(ctx)) == collation && typeCollation(right.Type(ctx)) == collation && !nullSafe {
		return nil
	}
	return newTextEquals(left, right, collation, nullSafe, e.String())
}

func collateExtreme(ctx *sql.Context, e sql.Expression, args []sql.Expression, sign int) sql.Expression {
	if len(args) == 0 || !textOnly(ctx, args...) {
		return nil
	}
	if collation := commonCollation(ctx, args...); folds(collation) {
		return &textExtreme{args: args, collation: collation, sign: sign, text: e.String(), typ: e.Type(ctx)}
	}
	return nil
}

// collationKey is what e is grouped by, nil where e's values may be taken as
// they are.
func collationKey(ctx *sql.Context, e sql.Expression) *textKey {
	if !textOnly(ctx, e) {
		return nil
	}
	if collation := commonCollation(ctx, e); folds(collation) {
		return &textKey{child: e, collation: collation}
	}
	return nil
}

func collateCount(ctx *sql.Context, n *aggregation.CountDistinct) (sql.Expression, error) {
	any := false
	keys := append([]sql.Expression(nil), n.Children()...)
	for i, e := range keys {
		if _, ok := e.(*expression.Star); ok {
			continue
		}
		if key := collationKey(ctx, e); key != nil {
			keys[i], any = key, true
		}
	}
	if !any {
		return nil, nil
	}
	next := *n
	next.ChildExpressions = keys
	return &next, nil
}

// collateConcat sees to DISTINCT, and to several expressions, of which the
// engine takes the first only. It looks for DISTINCT in the aggregate's text:
// the engine shows it nowhere else.
func collateConcat(ctx *sql.Context, n *aggregation.GroupConcat) (sql.Expression, error) {
	keys := append([]sql.Expression(nil), n.OutputExpressions()...)
	any := len(keys) > 1
	for i, e := range keys {
		if key := collationKey(ctx, e); key != nil {
			keys[i], any = key, true
		}
	}
	if !any {
		return nil, nil
	}
	distinct := strings.HasPrefix(n.String(), "group_concat(distinct ")
	if outputs := n.OutputExpressions(); len(outputs) > 1 {
		joined, err := function.NewConcat(ctx, outputs...)
		if err != nil {
			return nil, err
		}
		order := n.Children()[:len(n.Children())-len(outputs)]
		next, err := n.WithChildren(ctx, append(append([]sql.Expression(nil), order...), joined)...)
		if err != nil {
			return nil, err
		}
		n = next.(*aggregation.GroupConcat).WithId(n.Id()).(*aggregation.GroupConcat)
		if !distinct {
			return n, nil
		}
	}
	if !distinct {
		return nil, nil
	}
	return &concatDistinct{GroupConcat: n, keys: keys}, nil
}

// collateGroups also sees to GROUP BY an expression whose type has lost the
// collation of what it is made of.
func collateGroups(ctx *sql.Context, n *plan.GroupBy) (sql.Node, error) {
	collated, same, err := transform.OneNodeExpressions(ctx, n, collateExpression)
	if err != nil {
		return nil, err
	}
	next := *collated.(*plan.GroupBy)
	groups := append([]sql.Expression(nil), next.GroupByExprs...)
	for i, e := range groups {
		if key := collationKey(ctx, e); key != nil && typeCollation(e.Type(ctx)) != key.collation {
			groups[i], same = key, transform.NewTree
		}
	}
	if same == transform.SameTree {
		return nil, nil
	}
	next.GroupByExprs = groups
	return &next, nil
}

func typeCollation(t sql.Type) sql.CollationID {
	if text, ok := t.(sql.StringType); ok {
		return text.Collation()
	}
	return sql.Collation_Unspecified
}

// collateLookup makes the keys of a hash join equal where the join's condition,
// which is checked afterwards, may be true. In place, because the node keeps
// the hashed rows.
func collateLookup(ctx *sql.Context, n *plan.HashLookup) error {
	left, right := n.LeftProbeKey, n.RightEntryKey
	if textOnly(ctx, left, right) {
		if collation := commonCollation(ctx, left, right); folds(collation) && typeCollation(n.CompareType) != collation {
			n.CompareType = collatedType(collation)
		}
		return nil
	}
	probe, ok := left.(expression.Tuple)
	entry, isTuple := right.(expression.Tuple)
	if !ok || !isTuple || len(probe) != len(entry) {
		return nil
	}
	any := false
	probe, entry = append(expression.Tuple(nil), probe...), append(expression.Tuple(nil), entry...)
	for i := range probe {
		if !textOnly(ctx, probe[i], entry[i]) {
			continue
		}
		if collation := commonCollation(ctx, probe[i], entry[i]); folds(collation) {
			probe[i], entry[i] = &textKey{child: probe[i], collation: collation}, &textKey{child: entry[i], collation: collation}
			any = true
		}
	}
	if any {
		n.LeftProbeKey, n.RightEntryKey, n.CompareType = probe, entry, probe.Type(ctx)
	}
	return nil
}
