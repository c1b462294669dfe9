package sqlfront

import (
	"cmp"
	"io"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// buildSort runs ORDER BY columns, nil to leave it to the engine. The order is the
// engine's, which looks each column up in its row, asks the type, and puts each
// character's weight together, for every comparison.
func (b *execBuilder) buildSort(ctx *sql.Context, n *plan.Sort, row sql.Row) (sql.RowIter, error) {
	for _, c := range n.SortConditions {
		if _, ok := c.Expr.(*expression.GetField); !ok {
			return nil, nil
		}
	}
	from, err := b.base.Build(ctx, n.Child, row)
	if err != nil {
		return nil, err
	}
	return &sortedIter{from: from, order: newRowOrder(ctx, n.SortConditions)}, nil
}

// rowOrder compares rows.
type rowOrder struct{ columns []orderColumn }

type orderColumn struct {
	column  *expression.GetField
	typ     sql.Type
	weights *asciiWeights // nil: the type is always asked
	sql.SortCondition
}

func newRowOrder(ctx *sql.Context, conditions sql.SortConditions) *rowOrder {
	o := &rowOrder{}
	for _, c := range conditions {
		next := orderColumn{column: c.Expr.(*expression.GetField), typ: c.Expr.Type(ctx), SortCondition: c}
		if text, ok := next.typ.(types.StringType); ok && types.IsTextOnly(text) {
			next.weights = weightsOf(text.Collation())
		}
		o.columns = append(o.columns, next)
	}
	return o
}

// compare is sorters.RowSorter.CompareRows.
func (o *rowOrder) compare(ctx *sql.Context, a, b sql.Row) (int, error) {
	for i := range o.columns {
		c := &o.columns[i]
		x, err := c.column.Eval(ctx, a)
		if err != nil {
			return 0, sql.ErrUnableSort.Wrap(err)
		}
		y, err := c.column.Eval(ctx, b)
		if err != nil {
			return 0, sql.ErrUnableSort.Wrap(err)
		}
		if order, err := c.compare(ctx, x, y); order != 0 || err != nil {
			return order, err
		}
	}
	return 0, nil
}

func (c *orderColumn) compare(ctx *sql.Context, x, y any) (int, error) {
	if c.Order == sql.Descending {
		x, y = y, x
	}
	if c.weights != nil {
		s, isText := x.(string)
		t, areText := y.(string)
		if isText && areText {
			if order, ok := c.weights.compare(s, t); ok {
				return order, nil
			}
		}
	}
	if x == nil && y == nil {
		return 0, nil
	}
	if c.NullOrdering == sql.NullsFirst {
		if x == nil {
			return -1, nil
		}
		if y == nil {
			return 1, nil
		}
	}
	return c.typ.Compare(ctx, x, y)
}

// sort orders rows; equal ones keep their places.
func (o *rowOrder) sort(ctx *sql.Context, rows []sql.Row) (err error) {
	type placed struct {
		row   sql.Row
		place int
	}
	all := make([]placed, len(rows))
	for i, r := range rows {
		all[i] = placed{r, i}
	}
	slices.SortFunc(all, func(a, b placed) int {
		if err != nil {
			return 0
		}
		var order int
		if order, err = o.compare(ctx, a.row, b.row); order != 0 {
			return order
		}
		return cmp.Compare(a.place, b.place)
	})
	for i := range all {
		rows[i] = all[i].row
	}
	return err
}

// sortedIter reads everything before it gives the first row.
type sortedIter struct {
	from  sql.RowIter
	order *rowOrder
	read  bool
	rows  []sql.Row
}

var _ sql.RowIter = (*sortedIter)(nil)

// Next implements sql.RowIter.
func (i *sortedIter) Next(ctx *sql.Context) (sql.Row, error) {
	if !i.read {
		if err := i.readAll(ctx); err != nil {
			return nil, err
		}
		i.read = true
	}
	if len(i.rows) == 0 {
		return nil, io.EOF
	}
	row := i.rows[0]
	i.rows = i.rows[1:]
	return row, nil
}

func (i *sortedIter) readAll(ctx *sql.Context) error {
	cache, dispose := ctx.Memory.NewRowsCache(ctx)
	defer dispose()
	for {
		row, err := i.from.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := cache.Add(row); err != nil {
			return err
		}
	}
	rows := cache.Get()
	if err := i.order.sort(ctx, rows); err != nil {
		return err
	}
	i.rows = rows
	return nil
}

// Close implements sql.RowIter.
func (i *sortedIter) Close(ctx *sql.Context) error {
	i.rows = nil
	return i.from.Close(ctx)
}
