package codec

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
)

// Check tests values against the planner's ranges, where spans hold more than the ranges do. It places bounds as
// [KeyCodec.Spans] does, so that both agree on what a range holds.
type Check struct {
	columns []keyColumn
	ranges  [][]interval
}

// interval is one column's part of a range, as keys; hi nil is the open end.
type interval struct{ lo, hi []byte }

// NewCheck returns a check of the first columns of c and more, if the ranges have more; more are ascending columns.
// Prefix lengths do not count: values are checked whole.
func (c *KeyCodec) NewCheck(ctx context.Context, ranges sql.MySQLRangeCollection, more ...sql.Type) (*Check, error) {
	whole := &KeyCodec{}
	for _, column := range c.columns {
		column.PrefixLength = 0
		whole.columns = append(whole.columns, column)
	}
	for _, t := range more {
		column, err := newKeyColumn(KeyColumn{Type: t})
		if err != nil {
			return nil, err
		}
		whole.columns = append(whole.columns, column)
	}
	k := &Check{columns: whole.columns}
	for _, r := range ranges {
		if len(r) > len(whole.columns) {
			return nil, fmt.Errorf("range over %d columns of a check of %d", len(r), len(whole.columns))
		}
		intervals, ok, err := whole.intervals(ctx, r)
		if err != nil {
			return nil, err
		}
		if ok {
			k.ranges = append(k.ranges, intervals)
		}
	}
	return k, nil
}

// checkPrefix stands before the keys of a check: without any, the place behind all keys has no encoding.
var checkPrefix = []byte{1}

// intervals are those of one range; ok is false when it is empty.
func (c *KeyCodec) intervals(ctx context.Context, r sql.MySQLRange) (out []interval, ok bool, err error) {
	for i := range r {
		if empty(r[i]) {
			return nil, false, nil
		}
		e, err := c.ends(ctx, i, slices.Clip(checkPrefix), r[i])
		if err != nil {
			return nil, false, fmt.Errorf("range on key column %d: %w", i, err)
		}
		if e.fixed {
			e.hi = append(bytes.Clone(e.lo), 0) // the key itself: a column's encoding is no prefix of another's
		}
		out = append(out, interval{e.lo, e.hi})
	}
	return out, true, nil
}

// Contains tells whether values, in the order of the columns, lie in one of the ranges.
func (k *Check) Contains(ctx context.Context, values []any) (bool, error) {
	c := &KeyCodec{columns: k.columns}
	keys := make([][]byte, len(values))
	for i, v := range values {
		var err error
		if keys[i], err = c.AppendColumn(ctx, slices.Clip(checkPrefix), i, v); err != nil {
			return false, err
		}
	}
	for _, r := range k.ranges {
		if contained(r, keys) {
			return true, nil
		}
	}
	return false, nil
}

func contained(r []interval, keys [][]byte) bool {
	for i := range r {
		if bytes.Compare(keys[i], r[i].lo) < 0 || r[i].hi != nil && bytes.Compare(keys[i], r[i].hi) >= 0 {
			return false
		}
	}
	return true
}
