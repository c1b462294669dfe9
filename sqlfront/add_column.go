package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// addAtOnce runs ALTER TABLE .. ADD COLUMN by the descriptor alone when the new
// column has a constant default: the descriptor says what older rows hold. The
// engine itself would rewrite every row. It returns nil when the engine has to
// do it.
func addAtOnce(ctx *sql.Context, n *plan.AddColumn) (sql.RowIter, error) {
	resolved, ok := n.Table.(*plan.ResolvedTable)
	if !ok {
		return nil, nil
	}
	t := ownTable(resolved.Table)
	column := n.Column()
	if t == nil || t.now().keyless() || !constantDefault(column) {
		return nil, nil
	}
	target := n.TargetSchema()
	order := n.Order(ctx)
	if order != nil && !order.First && target.IndexOf(order.AfterColumn, t.Name()) < 0 {
		return nil, sql.ErrTableColumnNotFound.New(t.Name(), order.AfterColumn)
	}
	if err := n.ValidateDefaultPosition(ctx, target); err != nil {
		return nil, err
	}
	if typ, ok := column.Type.(sql.TypeWithCollation); ok && typ.Collation() == sql.Collation_Unspecified {
		var err error
		if column.Type, err = typ.WithNewCollation(t.Collation()); err != nil {
			return nil, err
		}
	}
	if err := t.AddColumn(ctx, column, order); err != nil {
		return nil, err
	}
	return sql.RowsToRowIter(sql.NewRow(types.NewOkResult(0))), nil
}

// constantDefault tells whether every existing row gets the same value.
func constantDefault(c *sql.Column) bool {
	if c.Generated != nil || c.AutoIncrement || c.PrimaryKey || c.Default == nil {
		return false
	}
	return c.Default.Resolved() && c.Default.IsLiteral()
}
