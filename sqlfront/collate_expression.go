package sqlfront

import (
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/hash"
	"github.com/dolthub/go-mysql-server/sql/types"
)

var (
	_ sql.Expression  = (*textIn)(nil)
	_ sql.Expression  = (*textEquals)(nil)
	_ sql.Expression  = (*textExtreme)(nil)
	_ sql.Expression  = (*textKey)(nil)
	_ sql.Aggregation = (*concatDistinct)(nil)
)

// evalText is an expression's text; ok is false for NULL.
func evalText(ctx *sql.Context, e sql.Expression, row sql.Row) (text string, ok bool, err error) {
	v, err := e.Eval(ctx, row)
	if err != nil || v == nil {
		return "", false, err
	}
	text, _, err = types.ConvertToCollatedString(ctx, v, e.Type(ctx))
	return text, err == nil, err
}

// textIn is left IN (list), all of it text.
type textIn struct {
	left      sql.Expression
	list      expression.Tuple
	collation sql.CollationID

	// known has the hashes of the literals; the others are evaluated each time.
	known   map[uint64]struct{}
	hasNull bool
	others  []sql.Expression
}

func newTextIn(ctx *sql.Context, left sql.Expression, list expression.Tuple, collation sql.CollationID) (*textIn, error) {
	in := &textIn{left: left, list: list, collation: collation, known: make(map[uint64]struct{}, len(list))}
	for _, e := range list {
		if _, ok := e.(*expression.Literal); !ok {
			in.others = append(in.others, e)
			continue
		}
		text, ok, err := evalText(ctx, e, nil)
		if err != nil {
			return nil, err
		}
		if !ok {
			in.hasNull = true
			continue
		}
		key, err := collation.HashToUint(text)
		if err != nil {
			return nil, err
		}
		in.known[key] = struct{}{}
	}
	return in, nil
}

// Eval implements sql.Expression: NULL if nothing matches and a NULL is there.
func (in *textIn) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	text, ok, err := evalText(ctx, in.left, row)
	if err != nil || !ok {
		return nil, err
	}
	key, err := in.collation.HashToUint(text)
	if err != nil {
		return nil, err
	}
	if _, found := in.known[key]; found {
		return true, nil
	}
	null := in.hasNull
	for _, e := range in.others {
		text, ok, err := evalText(ctx, e, row)
		if err != nil {
			return nil, err
		}
		if !ok {
			null = true
			continue
		}
		other, err := in.collation.HashToUint(text)
		if err != nil {
			return nil, err
		}
		if other == key {
			return true, nil
		}
	}
	if null {
		return nil, nil
	}
	return false, nil
}

// Type implements sql.Expression.
func (*textIn) Type(*sql.Context) sql.Type { return types.Boolean }

// IsNullable implements sql.Expression.
func (*textIn) IsNullable(*sql.Context) bool { return true }

// Resolved implements sql.Expression.
func (in *textIn) Resolved() bool { return in.left.Resolved() && in.list.Resolved() }

// Children implements sql.Expression.
func (in *textIn) Children() []sql.Expression { return []sql.Expression{in.left, in.list} }

// WithChildren implements sql.Expression.
func (in *textIn) WithChildren(ctx *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != 2 {
		return nil, sql.ErrInvalidChildrenNumber.New(in, len(children), 2)
	}
	list, ok := children[1].(expression.Tuple)
	if !ok {
		return nil, fmt.Errorf("IN wants a list, not %T", children[1])
	}
	return newTextIn(ctx, children[0], list, in.collation)
}

// String implements sql.Expression.
func (in *textIn) String() string { return fmt.Sprintf("(%s IN %s)", in.left, in.list) }

// textEquals is = or <=> between texts.
type textEquals struct {
	expression.BinaryExpressionStub
	collation sql.CollationID
	nullSafe  bool
	text      string
}

func newTextEquals(left, right sql.Expression, collation sql.CollationID, nullSafe bool, text string) *textEquals {
	return &textEquals{expression.BinaryExpressionStub{LeftChild: left, RightChild: right}, collation, nullSafe, text}
}

// Eval implements sql.Expression.
func (e *textEquals) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	left, leftOK, err := evalText(ctx, e.LeftChild, row)
	if err != nil {
		return nil, err
	}
	right, rightOK, err := evalText(ctx, e.RightChild, row)
	if err != nil {
		return nil, err
	}
	if !leftOK || !rightOK {
		if e.nullSafe {
			return leftOK == rightOK, nil
		}
		return nil, nil
	}
	order, err := collatedType(e.collation).Compare(ctx, left, right)
	return order == 0, err
}

// Type implements sql.Expression.
func (*textEquals) Type(*sql.Context) sql.Type { return types.Boolean }

// IsNullable implements sql.Expression.
func (e *textEquals) IsNullable(*sql.Context) bool { return !e.nullSafe }

// WithChildren implements sql.Expression.
func (e *textEquals) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != 2 {
		return nil, sql.ErrInvalidChildrenNumber.New(e, len(children), 2)
	}
	return newTextEquals(children[0], children[1], e.collation, e.nullSafe, e.text), nil
}

// String implements sql.Expression.
func (e *textEquals) String() string { return e.text }

// textExtreme is LEAST (sign -1) or GREATEST (sign 1) of texts: NULL if one is,
// the first of equal ones.
type textExtreme struct {
	args      []sql.Expression
	collation sql.CollationID
	sign      int
	text      string
	typ       sql.Type
}

// Eval implements sql.Expression.
func (e *textExtreme) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	compare := collatedType(e.collation)
	best := ""
	for i, arg := range e.args {
		text, ok, err := evalText(ctx, arg, row)
		if err != nil || !ok {
			return nil, err
		}
		if i == 0 {
			best = text
			continue
		}
		order, err := compare.Compare(ctx, text, best)
		if err != nil {
			return nil, err
		}
		if order*e.sign > 0 {
			best = text
		}
	}
	return best, nil
}

// Type implements sql.Expression.
func (e *textExtreme) Type(*sql.Context) sql.Type { return e.typ }

// IsNullable implements sql.Expression.
func (*textExtreme) IsNullable(*sql.Context) bool { return true }

// Resolved implements sql.Expression.
func (e *textExtreme) Resolved() bool { return expression.ExpressionsResolved(e.args...) }

// Children implements sql.Expression.
func (e *textExtreme) Children() []sql.Expression { return e.args }

// WithChildren implements sql.Expression.
func (e *textExtreme) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != len(e.args) {
		return nil, sql.ErrInvalidChildrenNumber.New(e, len(children), len(e.args))
	}
	next := *e
	next.args = children
	return &next, nil
}

// String implements sql.Expression.
func (e *textExtreme) String() string { return e.text }

// CollationCoercibility implements sql.CollationCoercible.
func (e *textExtreme) CollationCoercibility(*sql.Context) (sql.CollationID, byte) {
	return e.collation, 4
}

// textKey is a number that is the same for texts that are the same.
type textKey struct {
	child     sql.Expression
	collation sql.CollationID
}

// Eval implements sql.Expression.
func (k *textKey) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	text, ok, err := evalText(ctx, k.child, row)
	if err != nil || !ok {
		return nil, err
	}
	return k.collation.HashToUint(text)
}

// Type implements sql.Expression.
func (*textKey) Type(*sql.Context) sql.Type { return types.Uint64 }

// IsNullable implements sql.Expression.
func (k *textKey) IsNullable(ctx *sql.Context) bool { return k.child.IsNullable(ctx) }

// Resolved implements sql.Expression.
func (k *textKey) Resolved() bool { return k.child.Resolved() }

// Children implements sql.Expression.
func (k *textKey) Children() []sql.Expression { return []sql.Expression{k.child} }

// WithChildren implements sql.Expression.
func (k *textKey) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != 1 {
		return nil, sql.ErrInvalidChildrenNumber.New(k, len(children), 1)
	}
	return &textKey{child: children[0], collation: k.collation}, nil
}

// String implements sql.Expression.
func (k *textKey) String() string { return k.child.String() }

// concatDistinct is GROUP_CONCAT(DISTINCT ...): rows whose keys were seen do
// not reach the engine's buffer.
type concatDistinct struct {
	*aggregation.GroupConcat
	keys []sql.Expression
}

// WithChildren implements sql.Expression. The keys stand for expressions of the
// same row, so they stay with a node that is only copied.
func (c *concatDistinct) WithChildren(ctx *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	inner, err := c.GroupConcat.WithChildren(ctx, children...)
	if err != nil {
		return nil, err
	}
	return &concatDistinct{GroupConcat: inner.(*aggregation.GroupConcat), keys: c.keys}, nil
}

// NewBuffer implements sql.Aggregation.
func (c *concatDistinct) NewBuffer(ctx *sql.Context) (sql.AggregationBuffer, error) {
	buffer, err := c.GroupConcat.NewBuffer(ctx)
	if err != nil {
		return nil, err
	}
	return &concatBuffer{AggregationBuffer: buffer, keys: c.keys, seen: map[uint64]struct{}{}}, nil
}

type concatBuffer struct {
	sql.AggregationBuffer
	keys []sql.Expression
	seen map[uint64]struct{}
}

// Update implements sql.AggregationBuffer. Rows with a NULL do not count.
func (b *concatBuffer) Update(ctx *sql.Context, row sql.Row) error {
	values := make(sql.Row, len(b.keys))
	for i, e := range b.keys {
		v, err := e.Eval(ctx, row)
		if err != nil || v == nil {
			return err
		}
		values[i] = v
	}
	key, err := hash.HashOf(ctx, nil, values)
	if err != nil {
		return err
	}
	if _, found := b.seen[key]; found {
		return nil
	}
	b.seen[key] = struct{}{}
	return b.AggregationBuffer.Update(ctx, row)
}
