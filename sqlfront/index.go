package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
)

// Index is the engine's view of one index.
type Index struct {
	table *tableInfo
	index *indexInfo
}

var (
	_ sql.OrderedIndex  = (*Index)(nil)
	_ sql.ExtendedIndex = (*Index)(nil)
)

// ID implements sql.Index.
func (x *Index) ID() string { return x.index.name }

// Database implements sql.Index.
func (x *Index) Database() string { return x.table.database }

// Table implements sql.Index.
func (x *Index) Table() string { return x.table.desc.Name }

// IsUnique implements sql.Index.
func (x *Index) IsUnique() bool { return x.index.unique }

// IsSpatial implements sql.Index.
func (x *Index) IsSpatial() bool { return false }

// IsFullText implements sql.Index.
func (x *Index) IsFullText() bool { return false }

// IsVector implements sql.Index.
func (x *Index) IsVector() bool { return false }

// Comment implements sql.Index.
func (x *Index) Comment() string { return x.index.comment }

// IndexType implements sql.Index: what MySQL's tools expect of an ordered index.
func (x *Index) IndexType() string { return "BTREE" }

// IsGenerated implements sql.Index.
func (x *Index) IsGenerated() bool { return false }

// CanSupport implements sql.Index.
func (x *Index) CanSupport(*sql.Context, ...sql.Range) bool { return true }

// CanSupportOrderBy implements sql.Index.
func (x *Index) CanSupportOrderBy(sql.Expression) bool { return false }

// PrefixLengths implements sql.Index.
func (x *Index) PrefixLengths() []uint16 { return x.index.prefix }

// Expressions implements sql.Index.
func (x *Index) Expressions() []string {
	out := make([]string, len(x.index.columns))
	for i, c := range x.index.columns {
		out[i] = x.expression(c)
	}
	return out
}

func (x *Index) expression(column int) string {
	return x.table.desc.Name + "." + x.table.schema[column].Name
}

// ColumnExpressionTypes implements sql.Index. The types are those that values
// to search for are converted to, not the columns' own: see codec.BoundType.
func (x *Index) ColumnExpressionTypes(*sql.Context) []sql.ColumnExpressionType {
	return x.types(x.index.columns)
}

func (x *Index) types(columns []int) []sql.ColumnExpressionType {
	out := make([]sql.ColumnExpressionType, len(columns))
	for i, c := range columns {
		out[i] = sql.ColumnExpressionType{Expression: x.expression(c), Type: codec.BoundType(x.table.schema[c].Type)}
	}
	return out
}

// extended are the index columns and then the primary key's that are missing.
func (x *Index) extended() []int {
	if x.index.primary {
		return x.index.columns
	}
	return x.index.extended
}

// ExtendedExpressions implements sql.ExtendedIndex.
func (x *Index) ExtendedExpressions(*sql.Context) []string {
	var out []string
	for _, c := range x.extended() {
		out = append(out, x.expression(c))
	}
	return out
}

// ExtendedColumnExpressionTypes implements sql.ExtendedIndex.
func (x *Index) ExtendedColumnExpressionTypes(*sql.Context) []sql.ColumnExpressionType {
	return x.types(x.extended())
}

// CoversColumns implements sql.Index.
func (x *Index) CoversColumns(names []string) bool {
	var positions []int
	for _, n := range names {
		i := x.table.desc.Column(n)
		if i < 0 {
			return false
		}
		positions = append(positions, i)
	}
	return x.index.covers(positions)
}

// Order implements sql.OrderedIndex. A prefix does not order whole values.
func (x *Index) Order(*sql.Context) sql.IndexOrder {
	if x.index.prefix != nil {
		return sql.IndexOrderNone
	}
	return sql.IndexOrderAsc
}

// Reversible implements sql.OrderedIndex.
func (x *Index) Reversible(*sql.Context) bool { return x.index.prefix == nil }

// sameColumns tells whether two lists of names are the same columns in order.
func sameColumns(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !strings.EqualFold(a[i], b[i]) {
			return false
		}
	}
	return true
}
