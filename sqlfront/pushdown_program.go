package sqlfront

import (
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/sqlfront/reduce"
)

// programBuilder translates a node into a program for the owners. Whatever it does not
// know for certain to be the same there it refuses.
type programBuilder struct {
	ctx   *sql.Context
	table *Table
	info  *tableInfo

	used []int // schema positions of the columns, in the order in which they were met
}

// reference is a column by its place in used; places in the program follow when all
// columns are known.
type reference = int

// groupBy returns nil for what owners cannot do.
func (b *programBuilder) groupBy(n *plan.GroupBy, filter sql.Expression) *pushdown {
	p := &pushdown{table: b.table}
	var groups []int // schema positions
	for _, e := range n.GroupByExprs {
		c, ok := b.column(e)
		if !ok || b.kind(c) == reduce.Any {
			return nil
		}
		groups = append(groups, c)
		p.program.Groups = append(p.program.Groups, b.use(c))
	}
	for _, e := range n.SelectDeps {
		if !b.result(p, e, groups) {
			return nil
		}
	}
	if filter != nil {
		c, ok := b.condition(filter)
		if !ok {
			return nil
		}
		p.program.Where = &c
	}
	if len(p.program.Aggregates) == 0 && len(groups) == 0 {
		return nil
	}
	b.place(&p.program)
	return p
}

// result adds a column of the node: one of the groups' columns, or an aggregate.
func (b *programBuilder) result(p *pushdown, e sql.Expression, groups []int) bool {
	if c, ok := b.column(e); ok {
		at := slices.Index(groups, c)
		if at < 0 {
			return false
		}
		typ := b.info.schema[c].Type
		p.results = append(p.results, func(g *reduce.Group) (any, error) {
			v := g.Values[at]
			if v.Null {
				return nil, nil
			}
			return codec.FromVarint(typ, v.Stored)
		})
		return true
	}
	a, value := b.aggregate(e)
	if value == nil {
		return false
	}
	at := len(p.program.Aggregates)
	p.program.Aggregates = append(p.program.Aggregates, a)
	p.results = append(p.results, func(g *reduce.Group) (any, error) { return value(g.States[at]) })
	return true
}

// aggregate translates an aggregate, and says how the engine's value of it is made; nil
// if it cannot.
func (b *programBuilder) aggregate(e sql.Expression) (reduce.Aggregate, func(reduce.State) (any, error)) {
	children := e.Children()
	if len(children) != 1 { // there is a window
		return reduce.Aggregate{}, nil
	}
	child := children[0]
	switch e.(type) {
	case *aggregation.Count:
		return b.count(child)
	case *aggregation.Sum, *aggregation.Avg:
		c, ok := b.column(child)
		if !ok || !types.IsInteger(b.info.schema[c].Type) {
			return reduce.Aggregate{}, nil
		}
		value := sumOf
		if _, avg := e.(*aggregation.Avg); avg {
			value = averageOf
		}
		return reduce.Aggregate{Op: reduce.Sum, Column: b.use(c)}, value
	case *aggregation.Min, *aggregation.Max:
		c, ok := b.column(child)
		if !ok || b.kind(c) == reduce.Any {
			return reduce.Aggregate{}, nil
		}
		a := reduce.Aggregate{Op: reduce.Min, Column: b.use(c)}
		if _, most := e.(*aggregation.Max); most {
			a.Op = reduce.Max
		}
		typ := b.info.schema[c].Type
		return a, func(s reduce.State) (any, error) {
			if s.N == 0 {
				return nil, nil
			}
			return codec.FromVarint(typ, s.Stored)
		}
	}
	return reduce.Aggregate{}, nil
}

func (b *programBuilder) count(child sql.Expression) (reduce.Aggregate, func(reduce.State) (any, error)) {
	value := func(s reduce.State) (any, error) { return s.N, nil }
	switch child := child.(type) {
	case *expression.Star:
		return reduce.Aggregate{Op: reduce.CountRows}, value
	case *expression.Literal:
		if child.Val != nil {
			return reduce.Aggregate{Op: reduce.CountRows}, value
		}
	case *expression.GetField:
		if c, ok := b.column(child); ok {
			return reduce.Aggregate{Op: reduce.Count, Column: b.use(c)}, value
		}
	}
	return reduce.Aggregate{}, nil
}

// sumOf is the engine's sum of integers: a float.
func sumOf(s reduce.State) (any, error) {
	if s.N == 0 {
		return nil, nil
	}
	return float64(s.Sum), nil
}

func averageOf(s reduce.State) (any, error) {
	if s.N == 0 {
		return nil, nil
	}
	return float64(s.Sum) / float64(s.N), nil
}

// column is the schema position of a column of the table.
func (b *programBuilder) column(e sql.Expression) (int, bool) {
	field, ok := e.(*expression.GetField)
	if !ok {
		return 0, false
	}
	at, columns := field.Index(), b.table.columns
	if columns != nil {
		if at < 0 || at >= len(columns) {
			return 0, false
		}
		at = columns[at]
	}
	if at < 0 || at >= len(b.info.schema) || !strings.EqualFold(b.info.schema[at].Name, field.Name()) {
		return 0, false
	}
	_, stored := b.info.position[at]
	return at, stored
}

// kind is how a column's stored values can be compared.
func (b *programBuilder) kind(c int) reduce.Kind {
	t := b.info.schema[c].Type
	switch {
	case types.IsInteger(t) && types.IsUnsigned(t):
		return reduce.Unsigned
	case types.IsInteger(t) && types.IsSigned(t):
		return reduce.Signed
	case types.IsDateType(t) || types.IsDatetimeType(t) || types.IsTimestampType(t):
		return reduce.Time
	}
	return reduce.Any
}

// use is a column's place in used.
func (b *programBuilder) use(c int) reference {
	at := slices.Index(b.used, c)
	if at < 0 {
		at = len(b.used)
		b.used = append(b.used, c)
	}
	return at
}

// place brings the columns into the order of their ids.
func (b *programBuilder) place(p *reduce.Program) {
	id := func(c int) uint32 { return b.info.desc.Columns[c].ID }
	order := slices.Clone(b.used)
	slices.SortFunc(order, func(x, y int) int { return int(int64(id(x)) - int64(id(y))) })
	places := make([]int, len(b.used))
	for i, c := range b.used {
		places[i] = slices.Index(order, c)
	}
	for _, c := range order {
		p.Columns = append(p.Columns, reduce.Column{ID: id(c), Kind: b.kind(c), Default: b.info.desc.Columns[c].Missing})
	}
	for i := range p.Groups {
		p.Groups[i] = places[p.Groups[i]]
	}
	for i := range p.Aggregates {
		if p.Aggregates[i].Op != reduce.CountRows {
			p.Aggregates[i].Column = places[p.Aggregates[i].Column]
		}
	}
	if p.Where != nil {
		placeCondition(p.Where, places)
	}
}

func placeCondition(c *reduce.Condition, places []int) {
	switch c.Test {
	case reduce.And, reduce.Or, reduce.Not:
		for i := range c.Args {
			placeCondition(&c.Args[i], places)
		}
	default:
		c.Column = places[c.Column]
	}
}
