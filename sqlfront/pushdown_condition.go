package sqlfront

import (
	"math"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/reduce"
)

// condition translates a condition of integer columns and integer constants. The engine
// compares an unsigned integer with a signed one as floats; so that this makes no
// difference, constants are smaller than 2^53, or of the column's own kind.
func (b *programBuilder) condition(e sql.Expression) (reduce.Condition, bool) {
	switch e := e.(type) {
	case *expression.And:
		return b.both(reduce.And, e.LeftChild, e.RightChild)
	case *expression.Or:
		return b.both(reduce.Or, e.LeftChild, e.RightChild)
	case *expression.Not:
		c, ok := b.condition(e.Child)
		return not(c), ok
	case *expression.IsNull:
		c, ok := b.column(e.Child)
		if !ok {
			return reduce.Condition{}, false
		}
		return reduce.Condition{Test: reduce.IsNull, Column: b.use(c)}, true
	case *expression.Equals:
		return b.compare(reduce.In, e.Left(), e.Right(), false)
	case *expression.LessThan:
		return b.compare(reduce.Less, e.Left(), e.Right(), false)
	case *expression.GreaterThan:
		return b.compare(reduce.Greater, e.Left(), e.Right(), false)
	case *expression.LessThanOrEqual:
		return b.compare(reduce.Greater, e.Left(), e.Right(), true)
	case *expression.GreaterThanOrEqual:
		return b.compare(reduce.Less, e.Left(), e.Right(), true)
	case *expression.Between:
		low, ok := b.compare(reduce.Less, e.Val, e.Lower, true)
		if !ok {
			return reduce.Condition{}, false
		}
		high, ok := b.compare(reduce.Greater, e.Val, e.Upper, true)
		return reduce.Condition{Test: reduce.And, Args: []reduce.Condition{low, high}}, ok
	case *expression.InTuple:
		return b.in(e.Left(), e.Right())
	case *expression.HashInTuple:
		return b.in(e.Left(), e.Right())
	}
	return reduce.Condition{}, false
}

func not(c reduce.Condition) reduce.Condition {
	return reduce.Condition{Test: reduce.Not, Args: []reduce.Condition{c}}
}

func (b *programBuilder) both(test reduce.Test, left, right sql.Expression) (reduce.Condition, bool) {
	l, ok := b.condition(left)
	if !ok {
		return l, false
	}
	r, ok := b.condition(right)
	return reduce.Condition{Test: test, Args: []reduce.Condition{l, r}}, ok
}

// compare translates a comparison, or the negation of one.
func (b *programBuilder) compare(test reduce.Test, left, right sql.Expression, negated bool) (reduce.Condition, bool) {
	if _, ok := left.(*expression.GetField); !ok {
		left, right = right, left
		switch test {
		case reduce.Less:
			test = reduce.Greater
		case reduce.Greater:
			test = reduce.Less
		}
	}
	column, ok := b.integerColumn(left)
	if !ok {
		return reduce.Condition{}, false
	}
	value, ok := b.constantFor(column, right)
	if !ok {
		return reduce.Condition{}, false
	}
	c := b.comparison(test, column, value)
	if negated {
		c = not(c)
	}
	return c, true
}

// comparison is test of a column and a constant.
func (b *programBuilder) comparison(test reduce.Test, column int, v constant64) reduce.Condition {
	at := b.use(column)
	stored, place := v.stored(b.kind(column))
	if place == 0 {
		return reduce.Condition{Test: test, Column: at, Values: []uint64{stored}}
	}
	// The constant lies below (-1) or above (1) all values of the column.
	never := reduce.Condition{Test: reduce.Never, Column: at}
	if test == reduce.Greater && place < 0 || test == reduce.Less && place > 0 {
		return not(never)
	}
	return never
}

// in translates a list of constants.
func (b *programBuilder) in(left, right sql.Expression) (reduce.Condition, bool) {
	column, ok := b.integerColumn(left)
	list, isList := right.(expression.Tuple)
	if !ok || !isList {
		return reduce.Condition{}, false
	}
	c := reduce.Condition{Test: reduce.In, Column: b.use(column)}
	for _, e := range list {
		if literal, ok := e.(*expression.Literal); ok && literal.Val == nil {
			c.OrNull = true
			continue
		}
		v, ok := b.constantFor(column, e)
		if !ok || !v.small() {
			return reduce.Condition{}, false
		}
		if stored, place := v.stored(b.kind(column)); place == 0 {
			c.Values = append(c.Values, stored)
		}
	}
	return c, true
}

func (b *programBuilder) integerColumn(e sql.Expression) (int, bool) {
	c, ok := b.column(e)
	return c, ok && types.IsInteger(b.info.schema[c].Type) && b.kind(c) != reduce.Any
}

// constant64 is an integer constant.
type constant64 struct {
	negative bool
	size     uint64 // without the sign
	unsigned bool   // its type is
}

// small tells whether a float holds it, and everything nearer to 0.
func (v constant64) small() bool { return v.size < 1<<53 }

// stored is its form as a value of a column; place says whether it lies below or above
// all of them.
func (v constant64) stored(kind reduce.Kind) (stored uint64, place int) {
	switch {
	case kind == reduce.Unsigned && v.negative:
		return 0, -1
	case kind == reduce.Unsigned:
		return v.size, 0
	case v.negative:
		return reduce.StoredSigned(-int64(v.size)), 0
	case v.size > math.MaxInt64:
		return 0, 1
	}
	return reduce.StoredSigned(int64(v.size)), 0
}

// constantFor is a constant that the engine compares with a column exactly.
func (b *programBuilder) constantFor(column int, e sql.Expression) (constant64, bool) {
	v, ok := constantInteger(b.ctx, e)
	return v, ok && (v.small() || v.unsigned == (b.kind(column) == reduce.Unsigned))
}

func constantInteger(ctx *sql.Context, e sql.Expression) (constant64, bool) {
	literal, ok := e.(*expression.Literal)
	if minus, is := e.(*expression.UnaryMinus); is {
		literal, ok = minus.Child.(*expression.Literal)
	}
	if !ok || !types.IsInteger(literal.Type(ctx)) || !types.IsInteger(e.Type(ctx)) {
		return constant64{}, false
	}
	value, err := e.Eval(ctx, nil)
	if err != nil {
		return constant64{}, false
	}
	switch v := value.(type) {
	case int8:
		return signedInteger(int64(v)), true
	case int16:
		return signedInteger(int64(v)), true
	case int32:
		return signedInteger(int64(v)), true
	case int64:
		return signedInteger(v), v != math.MinInt64
	case uint8:
		return constant64{size: uint64(v), unsigned: true}, true
	case uint16:
		return constant64{size: uint64(v), unsigned: true}, true
	case uint32:
		return constant64{size: uint64(v), unsigned: true}, true
	case uint64:
		return constant64{size: v, unsigned: true}, true
	}
	return constant64{}, false
}

func signedInteger(v int64) constant64 {
	if v < 0 {
		return constant64{negative: true, size: uint64(-v)}
	}
	return constant64{size: uint64(v)}
}
