package sqlfront

import (
	"bytes"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// fastRanged is how a SELECT of a short range of the primary key runs without its plan
// (decision 0090): columns of the rows, in the order of other columns, without duplicates
// of one column, or simple aggregates of whole numbers. Values go from the stored row to
// the client as they are, where the engine would do nothing else.
type fastRanged struct {
	reverse bool
	rows    *codec.RawProjection
	columns []rangedColumn // that rows reads
	out     []int          // of columns: the result
	steps   []rangedStep   // in their order
	folds   []rangedFold   // the result, instead of out
}

// rangedColumn is a column that is read.
type rangedColumn struct {
	typ  sql.Type
	form codec.RawForm
	wire querypb.Type
	// unicode: the text is stored in the column's character set.
	unicode bool
}

// rangedStep is an ORDER BY, or a DISTINCT of one column.
type rangedStep struct {
	order    []rangedOrder
	distinct *rangedDistinct
}

type rangedOrder struct {
	column int
	orderColumn
	ranks *asciiRanks // of text with weights
}

type rangedDistinct struct {
	column int
	rows   *collatedRows
}

// rangedFold is an aggregate.
type rangedFold struct {
	of     rangedAggregate
	column int // -1: COUNT(*)
}

type rangedAggregate uint8

const (
	foldCount rangedAggregate = iota
	foldSum
	foldAvg
	foldMin
	foldMax
)

// gives tells whether an aggregate of a column is of a type.
func (a rangedAggregate) gives(t sql.Type, columns []rangedColumn, column int) bool {
	switch a {
	case foldCount:
		return t.Type() == sqltypes.Int64
	case foldSum, foldAvg:
		return t.Type() == sqltypes.Float64
	}
	return t.Equals(columns[column].typ)
}

// mostRanged is how many integers a range may have: what is sorted is all in memory.
// Longer ones are the plan's.
const mostRanged = 1 << 10

// newRanged prepares a SELECT of which the engine has made the plan root; nil if it needs
// the plan.
func newRanged(ctx *sql.Context, root sql.Node, b *boundRead) *fastRanged {
	c := rangedCompiler{ctx: ctx, b: b, made: &fastRanged{}}
	out := c.node(root)
	if c.failed || len(out) != len(b.result) {
		return nil
	}
	for i, o := range out {
		if (o.fold == nil) != (len(c.made.folds) == 0) {
			return nil
		}
		if o.fold != nil {
			if !o.fold.of.gives(b.result[i], c.made.columns, o.fold.column) {
				return nil
			}
			c.made.folds[i] = *o.fold
			continue
		}
		at := c.column(o.column)
		if c.failed || !c.made.columns[at].typ.Equals(b.result[i]) {
			return nil
		}
		c.made.out = append(c.made.out, at)
	}
	var err error
	if c.made.rows, err = b.info.rows.NewRawProjection(c.positions); err != nil {
		return nil
	}
	return c.made
}

// rangedCompiler follows columns from the table through the nodes of a plan.
type rangedCompiler struct {
	ctx       *sql.Context
	b         *boundRead
	made      *fastRanged
	schema    []int // of made.columns: their places in the table's schema
	positions []int // the same in stored rows
	failed    bool
}

// rangedOutput is a column of a node's rows: one of the table's, by its place in the
// schema, or an aggregate.
type rangedOutput struct {
	column int
	fold   *rangedFold
}

func (c *rangedCompiler) fail() []rangedOutput {
	c.failed = true
	return nil
}

// node is what a node's rows consist of.
func (c *rangedCompiler) node(n sql.Node) []rangedOutput {
	switch n := n.(type) {
	case *plan.IndexedTableAccess:
		return c.table(n)
	case *plan.Project:
		from := c.node(n.Child)
		out := make([]rangedOutput, 0, len(n.Projections))
		for _, e := range n.Projections {
			o, ok := outputOf(e, from)
			if !ok {
				return c.fail()
			}
			out = append(out, o)
		}
		return out
	case *plan.Sort:
		from := c.node(n.Child)
		c.order(n, from)
		return from
	case *plan.Distinct:
		from := c.node(n.Child)
		c.distinct(n, from)
		return from
	case *plan.GroupBy:
		return c.group(n, c.node(n.Child))
	}
	return c.fail()
}

// outputOf finds a column, which may have another name.
func outputOf(e sql.Expression, from []rangedOutput) (rangedOutput, bool) {
	if a, ok := e.(*expression.Alias); ok {
		e = a.Child
	}
	f, ok := e.(*expression.GetField)
	if !ok || f.Index() < 0 || f.Index() >= len(from) {
		return rangedOutput{}, false
	}
	return from[f.Index()], true
}

func (c *rangedCompiler) table(n *plan.IndexedTableAccess) []rangedOutput {
	own := ownTable(n.Table)
	if own == nil {
		return c.fail()
	}
	lookup, ok, err := n.GetLookup(c.ctx, nil)
	if err != nil || !ok {
		return c.fail()
	}
	c.made.reverse = lookup.IsReverse
	var out []rangedOutput
	for _, column := range own.Schema(c.ctx) {
		at := c.b.info.desc.Column(column.Name)
		if at < 0 {
			return c.fail()
		}
		out = append(out, rangedOutput{column: at})
	}
	return out
}

// column is the place in made.columns of a column of the schema.
func (c *rangedCompiler) column(at int) int {
	for i, have := range c.schema {
		if have == at {
			return i
		}
	}
	info := c.b.info
	position, ok := info.position[at]
	if s := info.schema[at]; !ok || s.Hidden || s.HiddenSystem || s.Virtual {
		c.failed = true
		return 0
	}
	c.schema, c.positions = append(c.schema, at), append(c.positions, position)
	typ := info.schema[at].Type
	next := rangedColumn{typ: typ, form: codec.RawFormOf(typ), wire: typ.Type()}
	if text, ok := typ.(types.StringType); ok {
		next.unicode = text.Collation().CharacterSet() == sql.CharacterSet_utf8mb4
	}
	c.made.columns = append(c.made.columns, next)
	return len(c.schema) - 1
}

// order takes what buildSort takes.
func (c *rangedCompiler) order(n *plan.Sort, from []rangedOutput) {
	for _, s := range n.SortConditions {
		if o, ok := outputOf(s.Expr, from); !ok || o.fold != nil {
			c.failed = true
			return
		} else if _, ok := s.Expr.(*expression.GetField); !ok {
			c.failed = true
			return
		}
	}
	step := rangedStep{}
	for _, o := range newRowOrder(c.ctx, n.SortConditions).columns {
		next := rangedOrder{column: c.column(from[o.column.Index()].column), orderColumn: o}
		if c.failed || !c.made.columns[next.column].typ.Equals(o.typ) {
			c.failed = true
			return
		}
		if o.weights != nil {
			next.ranks = o.weights.ranks()
		}
		step.order = append(step.order, next)
	}
	c.made.steps = append(c.made.steps, step)
}

// distinct takes one column of text with weights. How the engine compares rows of
// others has surprises, by which NULL equals some text.
func (c *rangedCompiler) distinct(n *plan.Distinct, from []rangedOutput) {
	rows := newCollatedRows(c.ctx, n.Child)
	if len(n.DistinctOn()) > 0 || len(from) != 1 || from[0].fold != nil || rows == nil || rows.weights[0] == nil {
		c.failed = true
		return
	}
	c.made.steps = append(c.made.steps, rangedStep{distinct: &rangedDistinct{column: c.column(from[0].column), rows: rows}})
}

// group takes aggregates of all rows.
func (c *rangedCompiler) group(n *plan.GroupBy, from []rangedOutput) []rangedOutput {
	if len(n.GroupByExprs) > 0 || len(c.made.steps) > 0 || len(c.made.folds) > 0 {
		return c.fail()
	}
	var out []rangedOutput
	for _, e := range n.SelectDeps {
		if a, ok := e.(*expression.Alias); ok {
			e = a.Child
		}
		f, ok := c.fold(e, from)
		if !ok {
			return c.fail()
		}
		out = append(out, rangedOutput{fold: f})
	}
	c.made.folds = make([]rangedFold, len(c.b.result))
	return out
}

func (c *rangedCompiler) fold(e sql.Expression, from []rangedOutput) (*rangedFold, bool) {
	f := &rangedFold{column: -1}
	var of sql.Expression
	switch e := e.(type) {
	case *aggregation.Count:
		f.of, of = foldCount, e.Child
		switch all := of.(type) {
		case *expression.Star:
			return f, true
		case *expression.Literal:
			return f, all.Value() != nil
		}
	case *aggregation.Sum:
		f.of, of = foldSum, e.Child
	case *aggregation.Avg:
		f.of, of = foldAvg, e.Child
	case *aggregation.Min:
		f.of, of = foldMin, e.Child
	case *aggregation.Max:
		f.of, of = foldMax, e.Child
	default:
		return nil, false
	}
	o, ok := outputOf(of, from)
	if !ok || o.fold != nil {
		return nil, false
	}
	f.column = c.column(o.column)
	if c.failed {
		return nil, false
	}
	form := c.made.columns[f.column].form
	return f, f.of == foldCount || form == codec.RawSigned || form == codec.RawUnsigned
}

// span is what is to be read of the bounds, as rowScan would read it; not ok if it is no
// short range.
func (r *fastRanged) span(b *boundRead, bounds []bound) (txn.Scan, bool) {
	if len(bounds) != 1 {
		return txn.Scan{}, false
	}
	most, ok := shortRange(bounds[0])
	if !ok {
		return txn.Scan{}, false
	}
	x := b.info.primary
	lo, err := x.key.AppendColumn(nil, append(make([]byte, 0, 24), x.start...), 0, bounds[0].lo)
	if err != nil {
		return txn.Scan{}, false
	}
	hi, err := x.key.AppendColumn(nil, append(make([]byte, 0, 24), x.start...), 0, bounds[0].hi)
	if err != nil {
		return txn.Scan{}, false
	}
	if bytes.Compare(lo, hi) > 0 { // the key descends
		lo, hi = hi, lo
	}
	scan := txn.Scan{Lo: lo, Hi: keycodec.PrefixEnd(hi), Where: txn.AllShards, Reverse: r.reverse, Limit: most + 1} // a page that is full may have another behind it
	if x.blocks > 0 {
		scan.Where = x.whereBlocks(scan.Lo, scan.Hi)
	}
	return scan, true
}

// shortRange is how many integers a range has; not ok if it is one, or too many.
func shortRange(b bound) (n int, ok bool) {
	lo, ok := wholeBits(b.lo)
	hi, fits := wholeBits(b.hi)
	return int(hi-lo) + 1, ok && fits && hi-lo > 0 && hi-lo < mostRanged
}

// wholeBits are those of a whole number as an integer of 64 bits. The difference of two
// of one type is right without regard to their sign.
func wholeBits(v any) (uint64, bool) {
	switch v := v.(type) {
	case int8:
		return uint64(int64(v)), true
	case int16:
		return uint64(int64(v)), true
	case int32:
		return uint64(int64(v)), true
	case int64:
		return uint64(v), true
	case uint8:
		return uint64(v), true
	case uint16:
		return uint64(v), true
	case uint32:
		return uint64(v), true
	case uint64:
		return v, true
	}
	return 0, false
}
