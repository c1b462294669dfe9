package sqlfront

import (
	"math"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/sqltypes"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
)

// values are what an execution assigns, or adds; not ok if a column does not hold one of
// them as it is.
func (c *fastChange) values(s *Session, info *tableInfo, list []fastpath.Assignment, given []fastpath.Value) ([]any, bool) {
	if len(list) != len(c.sets) {
		return nil, false
	}
	out := make([]any, len(list))
	for i, set := range c.sets {
		v, column, ok := list[i].Value.Of(given), info.schema[set.column], false
		if set.of >= 0 {
			out[i], ok = whole(v)
		} else {
			out[i], ok = storedValue(s, column, v)
		}
		if !ok {
			return nil, false
		}
	}
	return out, true
}

// whole is a literal that is a whole number of 64 bits with a sign.
func whole(v fastpath.Value) (int64, bool) {
	n := int64(v.Magnitude)
	if v.Negative {
		n = -n
	}
	return n, v.Kind == fastpath.Integer && v.Magnitude <= math.MaxInt64
}

// storedValue is a literal as a column holds it; not ok if anything but that would have
// to be known: another type, another length, a warning.
func storedValue(s *Session, column *sql.Column, v fastpath.Value) (any, bool) {
	switch v.Kind {
	case fastpath.Null:
		return nil, column.Nullable
	case fastpath.Integer:
		if !wholeColumn(column.Type) || v.Magnitude > math.MaxInt64 {
			return nil, false
		}
		return wholeValue(column.Type, v)
	}
	t, ok := column.Type.(sql.StringType)
	if !ok || t.Collation().CharacterSet() != sql.CharacterSet_utf8mb4 || !s.variables().fast.unicode || !utf8.ValidString(v.Text) {
		return nil, false
	}
	switch t.Type() {
	case sqltypes.Char, sqltypes.VarChar:
		ok = int64(utf8.RuneCountInString(v.Text)) <= t.MaxCharacterLength()
	case sqltypes.Text:
		ok = int64(len(v.Text)) <= t.MaxByteLength()
	default:
		return nil, false
	}
	return v.Text, ok || mutated("0083.length")
}

// next is what a row becomes, and whether that is another one; not ok if the engine is
// to evaluate it.
func (c *fastChange) next(info *tableInfo, row sql.Row, values []any) (next sql.Row, changed, ok bool) {
	next = slices.Clone(row)
	for i, set := range c.sets {
		v := values[i]
		if set.of >= 0 {
			if v, ok = sum(info.schema[set.of], info.schema[set.column], next[set.of], v.(int64), set.minus); !ok {
				return nil, false, false
			}
		}
		next[set.column] = v
	}
	for _, set := range c.sets {
		same, ok := sameValue(row[set.column], next[set.column])
		if !ok {
			return nil, false, false
		}
		changed = changed || !same
	}
	return next, changed || mutated("0083.unchanged"), true
}

// sum is a number of a column with n added or taken away, as another column holds it.
func sum(of, to *sql.Column, v any, n int64, minus bool) (any, bool) {
	if v == nil {
		return nil, to.Nullable
	}
	l, ok := signed(v)
	if !ok {
		return nil, false
	}
	result := l + n
	if minus {
		result = l - n
		ok = (n > 0) == (result < l)
	} else {
		ok = (n > 0) == (result > l)
	}
	if !ok || result < 0 && sqltypes.IsUnsigned(of.Type.Type()) {
		return nil, false
	}
	return wholeValue(to.Type, fastpath.Int(result))
}

// signed is a whole number that a row holds.
func signed(v any) (int64, bool) {
	bits, ok := wholeBits(v)
	_, unsigned := v.(uint64)
	return int64(bits), ok && !(unsigned && bits > math.MaxInt64)
}

// sameValue compares what a column holds with what it is to hold, by the bytes of text
// (see compareBytes).
func sameValue(old, next any) (same, ok bool) {
	if old == nil || next == nil {
		return old == next, true
	}
	if reflect.TypeOf(old) != reflect.TypeOf(next) {
		return false, false
	}
	if text, is := old.(string); is && text != next && !utf8.ValidString(text) {
		return false, false
	}
	return old == next, true
}
