package codec

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"

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
		for _, later := range r[i+1:] {
			exact = exact && everything(later)
		}
		s.Lo, s.Hi, s.Point = e.lo, e.hi, false
		return s, s.Hi == nil || bytes.Compare(s.Lo, s.Hi) < 0, exact, nil
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
// prefix) or the value is not of the column's type, the bound moves outwards.
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
	v, where, err := c.comparable(ctx, key)
	switch {
	case err != nil:
		return position{}, err
	case where == sql.Overflow:
		return position{above: true, widened: true}, nil
	case where == sql.Underflow:
		return position{value: c.append(nil, nil), above: true, null: true, widened: true}, nil
	}
	p := position{value: c.append(nil, v), above: above, widened: !c.kind.holds(key)}
	switch full := c.full(v); {
	case full > 0 || p.widened:
		p.above, p.widened = !lower, true
	case full == 0 && above:
		// Longer values share this key: above it they are still to come, and up to it they are too many.
		p.above, p.widened = !lower, true
	}
	return p, nil
}

// comparable returns key as a value of the column's type. Keys come converted from the planner; a key of another type is
// converted here, and its place may be rounded.
func (c *keyColumn) comparable(ctx context.Context, key any) (any, sql.ConvertInRange, error) {
	if c.kind.holds(key) {
		return key, sql.InRange, nil
	}
	key, err := sql.UnwrapAny(ctx, key)
	if err != nil {
		return nil, sql.InRange, err
	}
	v, where, err := c.Type.Convert(ctx, key)
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
