package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// alterDefault runs ALTER COLUMN .. SET DEFAULT and DROP DEFAULT in place of the engine,
// which would write the default into the column that all sessions of the node share,
// before anything is locked and whatever becomes of the statement. It returns nil for
// other nodes and for tables that are not ours.
func alterDefault(ctx *sql.Context, n sql.Node) (sql.RowIter, error) {
	switch n := n.(type) {
	case *plan.AlterDefaultSet:
		return setDefault(ctx, n.Database(), n.Table, n.ColumnName, n.Default)
	case *plan.AlterDefaultDrop:
		return setDefault(ctx, n.Database(), n.Table, n.ColumnName, nil)
	}
	return nil, nil
}

func setDefault(ctx *sql.Context, db sql.Database, table sql.Node, name string, to *sql.ColumnDefaultValue) (sql.RowIter, error) {
	planned := findTable(ctx, table)
	if planned == nil || mutated("H11.default-before-its-lock") {
		return nil, nil
	}
	// Other parts of the statement may have changed the table since it was planned.
	now, found, err := db.GetTableInsensitive(ctx, planned.Name())
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, sql.ErrTableNotFound.New(planned.Name())
	}
	t := ownTable(now)
	if t == nil {
		return nil, nil
	}
	schema := t.Schema(ctx)
	i := schema.IndexOfColName(name)
	if i < 0 {
		return nil, sql.ErrTableColumnNotFound.New(t.Name(), name)
	}
	column := *schema[i]
	column.Default = to
	if err := t.ModifyColumn(ctx, name, &column, nil); err != nil {
		return nil, err
	}
	return sql.RowsToRowIter(sql.NewRow(types.NewOkResult(0))), nil
}
