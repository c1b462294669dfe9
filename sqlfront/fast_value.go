package sqlfront

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
)

// parameterNames are what the protocol layer calls parameters.
var parameterNames = func() (names [64]string) {
	for i := range names {
		names[i] = "v" + strconv.Itoa(i+1)
	}
	return names
}()

func parameterName(i int) string {
	if i < len(parameterNames) {
		return parameterNames[i]
	}
	return "v" + strconv.Itoa(i+1)
}

// parameter reads the value of a parameter: NULL, whole numbers and text.
func parameter(v *querypb.BindVariable) (fastpath.Value, bool) {
	if v == nil {
		return fastpath.Value{}, false
	}
	switch v.Type {
	case sqltypes.Int64:
		n, err := strconv.ParseInt(string(v.Value), 10, 64)
		return fastpath.Int(n), err == nil
	case sqltypes.Uint64:
		n, err := strconv.ParseUint(string(v.Value), 10, 64)
		return fastpath.Uint(n), err == nil
	case sqltypes.Null:
		return fastpath.Value{Kind: fastpath.Null}, true
	case sqltypes.VarBinary, sqltypes.VarChar:
		return fastpath.Value{Kind: fastpath.Text, Text: string(v.Value)}, true
	}
	return fastpath.Value{}, false
}

// wholeColumn tells whether a column of type t holds whole numbers as such. YEAR,
// BIT, ENUM and SET do not: they compare in ways of their own.
func wholeColumn(t sql.Type) bool {
	switch t.Type() {
	case sqltypes.Int8, sqltypes.Int16, sqltypes.Int24, sqltypes.Int32, sqltypes.Int64,
		sqltypes.Uint8, sqltypes.Uint16, sqltypes.Uint24, sqltypes.Uint32, sqltypes.Uint64:
		return true
	}
	return false
}

// textColumn tells whether a column holds text that its key compares as the engine
// compares it with a literal.
func textColumn(t sql.Type) bool {
	s, ok := t.(sql.StringType)
	if !ok || s.Collation().CharacterSet() != sql.CharacterSet_utf8mb4 {
		return false
	}
	return t.Type() == sqltypes.VarChar || t.Type() == sqltypes.Char
}

// keyValue is a value as a column of a key holds it; not ok if the column cannot hold
// it, or if it is not of the column's kind.
func keyValue(t sql.Type, v fastpath.Value) (any, bool) {
	if v.Kind == fastpath.Integer {
		return wholeValue(t, v)
	}
	if s, ok := t.(sql.StringType); ok && v.Kind == fastpath.Text && textColumn(t) {
		return v.Text, utf8.ValidString(v.Text) && int64(utf8.RuneCountInString(v.Text)) <= s.MaxCharacterLength()
	}
	return nil, false
}

// wholeValue is a value as a column of whole numbers holds it; not ok if the column
// cannot hold it.
func wholeValue(t sql.Type, v fastpath.Value) (any, bool) {
	if v.Kind != fastpath.Integer {
		return nil, false
	}
	if sqltypes.IsUnsigned(t.Type()) {
		return unsignedValue(t, v)
	}
	if v.Magnitude > math.MaxInt64 {
		return nil, false
	}
	n := int64(v.Magnitude)
	if v.Negative {
		n = -n
	}
	switch t.Type() {
	case sqltypes.Int8:
		return int8(n), int64(int8(n)) == n
	case sqltypes.Int16:
		return int16(n), int64(int16(n)) == n
	case sqltypes.Int24:
		return int32(n), n >= -1<<23 && n < 1<<23
	case sqltypes.Int32:
		return int32(n), int64(int32(n)) == n
	case sqltypes.Int64:
		return n, true
	}
	return nil, false
}

func unsignedValue(t sql.Type, v fastpath.Value) (any, bool) {
	if v.Negative {
		return nil, false
	}
	n := v.Magnitude
	switch t.Type() {
	case sqltypes.Uint8:
		return uint8(n), n <= math.MaxUint8
	case sqltypes.Uint16:
		return uint16(n), n <= math.MaxUint16
	case sqltypes.Uint24:
		return uint32(n), n < 1<<24
	case sqltypes.Uint32:
		return uint32(n), n <= math.MaxUint32
	case sqltypes.Uint64:
		return n, true
	}
	return nil, false
}
