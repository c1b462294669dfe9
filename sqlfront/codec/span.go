package codec

import (
	"context"

	"github.com/dolthub/go-mysql-server/sql"
)

// Span is a half-open interval of keys, [Lo, Hi). A nil Hi is the open end.
type Span struct {
	Lo, Hi []byte
	// Equal is the number of leading columns that the span fixes to one value (their encoding is a prefix of Lo).
	Equal int
	// Point says that every column is fixed and not NULL: Lo is the only key of a unique index inside the span.
	Point bool
}

// Spans turns the planner's ranges into key spans under prefix, sorted and without overlap. exact says that the spans hold
// the rows of the ranges and no others; otherwise rows have to be checked against the condition again.
func (c *KeyCodec) Spans(ctx context.Context, prefix []byte, ranges sql.MySQLRangeCollection) (spans []Span, exact bool, err error) {
	return nil, false, nil
}

// Bound is one end of a range over the first len(Values) columns.
type Bound struct {
	Values    []any
	Inclusive bool
}

// Range returns the span between two bounds; a bound without values is an open end. Bounds compare as tuples do.
// Descending columns are not supported by tuple comparison: the span is then given in key order.
func (c *KeyCodec) Range(ctx context.Context, prefix []byte, lower, upper Bound) (Span, error) {
	return Span{}, nil
}
