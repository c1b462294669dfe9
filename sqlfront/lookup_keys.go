package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// findsNothing tells whether a lookup for values of another row, as in a join,
// can find nothing although its keys look as if it did. The engine converts the
// values to the types of the index's columns and forgets the condition: to an
// integer column 1.5 became 2. Such a value has no equal there.
func findsNothing(ctx *sql.Context, n *plan.IndexedTableAccess, row sql.Row) (bool, error) {
	if n.IsStatic() {
		return false, nil
	}
	index, ok := n.Index().(*Index)
	if !ok {
		return false, nil
	}
	columns := index.index.columns
	for i, key := range n.Expressions() {
		if i >= len(columns) {
			break
		}
		column, from := index.table.schema[columns[i]].Type, key.Type(ctx)
		if !types.IsInteger(column) || types.IsInteger(from) || !(types.IsNumber(from) || types.IsTextOnly(from)) || n.NullMask()[i] {
			continue
		}
		value, err := key.Eval(ctx, row)
		if err != nil || value == nil {
			return false, err
		}
		whole, _, err := column.Convert(ctx, value)
		if err != nil || whole == nil {
			continue // the lookup meets the same
		}
		same, err := expression.NewEquals(expression.NewLiteral(whole, column), expression.NewLiteral(value, from)).Eval(ctx, nil)
		if err != nil {
			return false, err
		}
		if same != true {
			return true, nil
		}
	}
	return false, nil
}
