package codec

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"

	"github.com/rowlockdb/rowlock/storage/keycodec"
)

// Span is a half-open interval of keys, [Lo, Hi). A nil Hi is the open end.
type Span struct {
	Lo, Hi []byte
	// Equal is the number of leading columns that the span fixes to one value: their encoding, after the prefix, begins Lo.
	Equal int
	// Point says that every column is fixed and not NULL: Lo is the only key of a unique index inside the span.
	Point bool
}

// Spans turns the planner's ranges into key spans under prefix, sorted and without overlap. exact says that the spans hold
// the rows of the ranges and no others; otherwise rows have to be checked against the condition again.
func (c *KeyCodec) Spans(ctx context.Context, prefix []byte, ranges sql.MySQLRangeCollection) (spans []Span, exact bool, err error) {
	spans, exact = make([]Span, 0, len(ranges)), true
	for _, r := range ranges {
		if len(r) > len(c.columns) {
			return nil, false, fmt.Errorf("range over %d columns of a key of %d", len(r), len(c.columns))
		}
		s, ok, fits, err := c.span(ctx, prefix, r)
		if err != nil {
			return nil, false, err
		}
		exact = exact && fits
		if ok {
			spans = append(spans, s)
		}
	}
	return merge(spans), exact, nil
}

// span translates one range; ok is false when it is empty. Leading columns that are fixed to one value extend the prefix; the
// first that is not gives the two ends; conditions on later columns cannot be said with one span.
func (c *KeyCodec) span(ctx context.Context, prefix []byte, r sql.MySQLRange) (s Span, ok, exact bool, err error) {
	// The capacity is cut so that appending copies: prefix belongs to the caller.
	s, exact = Span{Lo: slices.Clip(prefix), Point: len(r) == len(c.columns)}, true
	for i := range r {
		if empty(r[i]) {
			return Span{}, false, true, nil
		}
	}
	for i := range r {
		e, err := c.ends(ctx, i, s.Lo, r[i])
		if err != nil {
			return Span{}, false, false, fmt.Errorf("range on key column %d: %w", i, err)
		}
		exact = exact && !e.widened
		if e.fixed {
			s.Lo, s.Equal, s.Point = e.lo, i+1, s.Point && !e.null && !e.widened
			continue
		}
		s.Lo, s.Hi, s.Point = e.lo, e.hi, false
		if s.Hi != nil && bytes.Compare(s.Lo, s.Hi) >= 0 {
			return Span{}, false, true, nil
		}
		for _, later := range r[i+1:] {
			exact = exact && everything(later)
		}
		return s, true, exact, nil
	}
	s.Hi = keycodec.PrefixEnd(s.Lo)
	return s, true, exact, nil
}

func empty(r sql.MySQLRangeColumnExpr) bool {
	_, low := r.LowerBound.(sql.AboveAll)
	_, high := r.UpperBound.(sql.BelowNull)
	return low || high
}

func everything(r sql.MySQLRangeColumnExpr) bool {
	_, low := r.LowerBound.(sql.BelowNull)
	_, high := r.UpperBound.(sql.AboveAll)
	return low && high
}

// ends are the two ends of a condition on one column, as keys.
type ends struct {
	lo, hi  []byte
	fixed   bool // one value only; lo is its key, hi is not set
	null    bool // and that value is NULL
	widened bool // holds more rows than the condition
}

func (c *KeyCodec) ends(ctx context.Context, i int, prefix []byte, r sql.MySQLRangeColumnExpr) (ends, error) {
	column := &c.columns[i]
	low, err := column.position(ctx, r.LowerBound, true)
	if err != nil {
		return ends{}, err
	}
	high, err := column.position(ctx, r.UpperBound, false)
	if err != nil {
		return ends{}, err
	}
	e := ends{widened: low.widened || high.widened}
	if low.value != nil && high.value != nil && !low.above && high.above && bytes.Equal(low.value, high.value) {
		e.fixed, e.null, e.lo = true, low.null, append(prefix, low.value...)
		return e, nil
	}
	if column.Desc {
		low, high = high, low
	}
	e.lo, e.hi = low.key(prefix, column.Desc), high.key(prefix, column.Desc)
	if e.lo == nil {
		e.lo = []byte{} // the lower end without a prefix; only a nil Hi means an open end
	}
	return e, nil
}

// position is a place between values: right below or right above one, or at one of the two ends (value nil).
type position struct {
	value   []byte
	above   bool
	null    bool
	widened bool
}

// key is the place as a key: below in value order is in front in an ascending column and behind in a descending one.
func (p position) key(prefix []byte, desc bool) []byte {
	k := append(slices.Clip(prefix), p.value...)
	if p.above != desc {
		return keycodec.PrefixEnd(k)
	}
	return k
}

// position reads a bound. NULL is the smallest value: below it is the lower end. Where the key holds less than the value (a
// prefix), the bound moves outwards; where it is of another type than the column, it keeps its place between the column's values.
func (c *keyColumn) position(ctx context.Context, bound sql.MySQLRangeCut, lower bool) (position, error) {
	switch bound := bound.(type) {
	case sql.BelowNull:
		if lower {
			// Written with NULL's bytes: NULL alone is then a fixed value like any other.
			return position{value: c.append(nil, nil), null: true}, nil
		}
		return position{}, nil
	case sql.AboveNull:
		return position{value: c.append(nil, nil), above: true, null: true}, nil
	case sql.AboveAll:
		return position{above: true}, nil
	case sql.Below:
		return c.valuePosition(ctx, bound.Key, false, lower)
	case sql.Above:
		return c.valuePosition(ctx, bound.Key, true, lower)
	}
	return position{}, fmt.Errorf("unknown bound %T", bound)
}

func (c *keyColumn) valuePosition(ctx context.Context, key any, above, lower bool) (position, error) {
	key, err := sql.UnwrapAny(ctx, key)
	if err != nil {
		return position{}, err
	}
	if _, whole := c.integers(); whole || c.kind == kindFloat32 || c.kind == kindFloat64 || c.kind == kindDecimal {
		return c.numberPosition(ctx, key, above, lower)
	}
	v, where, err := c.comparable(ctx, key)
	switch {
	case err != nil:
		return position{}, err
	case where != sql.InRange:
		return c.outside(where), nil
	}
	if t, ok := v.(time.Time); ok {
		// Not shortened to the column's precision: no value equals a bound between two, and all others have their side.
		return position{value: keycodec.AppendInt(nil, t.UnixMicro(), c.Desc), above: above}, nil
	}
	p := position{value: c.append(nil, v), above: above}
	switch full := c.full(v); {
	case full > 0:
		p.above, p.widened = !lower, true
	case full == 0 && above:
		// Longer values share this key: above it they are still to come, and up to it they are too many.
		p.above, p.widened = !lower, true
	}
	return p, nil
}

// outside is the place of a value beyond all that the column holds: above them, or below them and above NULL.
func (c *keyColumn) outside(where sql.ConvertInRange) position {
	if where == sql.Overflow {
		return position{above: true}
	}
	return position{value: c.append(nil, nil), above: true, null: true}
}

// integers tells whether the column's keys are integers that compare as numbers, and whether they have a sign.
func (c *keyColumn) integers() (signed, ok bool) {
	switch c.kind {
	case kindInt8, kindInt16, kindInt32, kindInt64, kindYear:
		return true, true
	case kindUint8, kindUint16, kindUint32:
		return false, true
	case kindUint64:
		return false, c.Type.Type() != sqltypes.Set
	}
	return false, false
}

// numberPosition finds the place of any number among the column's. Keys hold a wider range than the column: whatever they
// can say exactly needs no rounding.
func (c *keyColumn) numberPosition(ctx context.Context, key any, above, lower bool) (position, error) {
	if c.kind.holds(key) {
		return position{value: c.append(nil, key), above: above}, nil
	}
	converted, where, err := convertNumber(c.Type, key)
	if err != nil {
		// Not a number as the engine compares it; what an assignment would make of it.
		if converted, where, err = c.comparable(ctx, key); err != nil {
			return position{}, err
		}
	}
	if where != sql.InRange {
		return c.outside(where), nil
	}
	d, err := exactNumber(converted)
	if err != nil {
		return position{}, err
	}
	signed, whole := c.integers()
	switch {
	case whole && signed:
		return c.between(d, above, math.MinInt64, math.MaxInt64, func(n *big.Int) []byte {
			return keycodec.AppendInt(nil, n.Int64(), c.Desc)
		}), nil
	case whole:
		return c.between(d, above, 0, math.MaxUint64, func(n *big.Int) []byte {
			return keycodec.AppendUint(nil, n.Uint64(), c.Desc)
		}), nil
	case c.kind == kindDecimal:
		return position{value: c.append(nil, d), above: above}, nil
	}
	return c.floatPosition(d, above, lower), nil
}

// between is the place of d among integers from low to high: a fraction lies right above the integer below it.
func (c *keyColumn) between(d *apd.Decimal, above bool, low int64, high uint64, encode func(*big.Int) []byte) position {
	if d.Cmp(apd.New(low, 0)) < 0 {
		return c.outside(sql.Underflow)
	}
	if d.Cmp(types.DecimalFromUint64(high)) > 0 {
		return c.outside(sql.Overflow)
	}
	n, fraction := floor(d)
	return position{value: encode(n), above: above || fraction}
}

// floor returns the largest integer that is not above d, and whether d is above it. d is at most twenty digits before its
// point.
func floor(d *apd.Decimal) (*big.Int, bool) {
	n := new(big.Int).Set(d.Coeff.MathBigInt())
	if d.Negative {
		n.Neg(n)
	}
	if d.Exponent >= 0 {
		return n.Mul(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Exponent)), nil)), false
	}
	// More digits than the coefficient has shift all of them out.
	shift := min(-int64(d.Exponent), d.NumDigits()+1)
	var rest big.Int
	n.DivMod(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(shift), nil), &rest)
	return n, rest.Sign() != 0
}

// floatPosition is the place of d among floats. The engine compares a float with text as two floats, and with a decimal as
// two decimals: the float next to a decimal that is none may or may not equal it. It stays inside the span, and the condition
// itself, which the planner keeps when types differ, decides.
func (c *keyColumn) floatPosition(d *apd.Decimal, above, lower bool) position {
	f, err := strconv.ParseFloat(d.Text('E'), 64)
	if err != nil && math.IsInf(f, 0) {
		if f > 0 {
			return c.outside(sql.Overflow)
		}
		return c.outside(sql.Underflow)
	}
	p := position{value: keycodec.AppendFloat(nil, f, c.Desc), above: above}
	if types.DecimalFromFloat64(f).Cmp(d) != 0 {
		p.above = !lower
	}
	return p
}

// comparable returns key as a value of the column's type, or says on which side of them it lies. Keys come converted from
// the planner, except those of foreign keys and merge joins.
func (c *keyColumn) comparable(ctx context.Context, key any) (any, sql.ConvertInRange, error) {
	if c.kind.holds(key) {
		return key, sql.InRange, nil
	}
	t := BoundType(c.Type)
	if _, ok := t.(sql.StringType); ok {
		t = t.Promote() // a longer value has its place too
	}
	v, where, err := t.Convert(ctx, key)
	if err != nil && !sql.ErrTruncatedIncorrect.Is(err) {
		return nil, where, err
	}
	if where != sql.InRange {
		return nil, where, nil
	}
	if v, err = sql.UnwrapAny(ctx, v); err != nil {
		return nil, where, err
	}
	if !c.kind.holds(v) {
		return nil, where, fmt.Errorf("bound of Go type %T on a column of type %s", key, c.Type)
	}
	return v, sql.InRange, nil
}

// merge sorts spans and joins those that overlap: two values may have one key (a prefix), and a row must not be read twice.
func merge(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int { return bytes.Compare(a.Lo, b.Lo) })
	merged := spans[:0]
	for _, s := range spans {
		if n := len(merged); n > 0 && (merged[n-1].Hi == nil || bytes.Compare(s.Lo, merged[n-1].Hi) < 0) {
			merged[n-1] = join(merged[n-1], s)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// join returns the span that covers a and b, which overlap; a begins first.
func join(a, b Span) Span {
	if bytes.Equal(a.Lo, b.Lo) && bytes.Equal(a.Hi, b.Hi) && (a.Hi == nil) == (b.Hi == nil) {
		return a
	}
	a.Equal, a.Point = min(a.Equal, b.Equal), false
	if b.Hi == nil || a.Hi != nil && bytes.Compare(b.Hi, a.Hi) > 0 {
		a.Hi = b.Hi
	}
	return a
}

// Bound is one end of a range over the first len(Values) columns.
type Bound struct {
	Values    []any
	Inclusive bool
}

// Range returns the span between two bounds in key order (the order of a descending column is turned round); a bound without
// values is an open end. A bound on fewer columns than the key has stands for all keys that begin with it.
func (c *KeyCodec) Range(ctx context.Context, prefix []byte, lower, upper Bound) (Span, error) {
	lo, err := c.AppendKey(ctx, slices.Clip(prefix), lower.Values)
	if err != nil {
		return Span{}, err
	}
	hi, err := c.AppendKey(ctx, slices.Clip(prefix), upper.Values)
	if err != nil {
		return Span{}, err
	}
	if len(lower.Values) > 0 && !lower.Inclusive {
		lo = keycodec.PrefixEnd(lo)
	}
	if len(upper.Values) == 0 || upper.Inclusive {
		hi = keycodec.PrefixEnd(hi)
	}
	return Span{Lo: lo, Hi: hi}, nil
}
