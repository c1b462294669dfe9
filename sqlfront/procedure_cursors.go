package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// bodyRunner runs the statements of procedures. The engine lets a cursor read while the
// statements of its loop write, and end the transaction in which it reads. Here OPEN reads
// all rows, as MySQL's cursors do: the statement is over when the loop begins, and its rows
// stay as they are. Of other statements the engine reads all rows itself.
type bodyRunner struct{ sql.StatementRunner }

// QueryWithBindings implements sql.StatementRunner.
func (r bodyRunner) QueryWithBindings(ctx *sql.Context, query string, parsed sqlparser.Statement, bindings map[string]sqlparser.Expr, flags *sql.QueryFlags) (sql.Schema, sql.RowIter, *sql.QueryFlags, error) {
	schema, iter, flags, err := r.StatementRunner.QueryWithBindings(ctx, query, parsed, bindings, flags)
	if err != nil || mutated("0076.open-cursors") {
		return schema, iter, flags, err
	}
	rows, err := sql.RowIterToRows(ctx, iter)
	if err != nil {
		return nil, nil, nil, err
	}
	return schema, sql.RowsToRowIter(rows...), flags, nil
}
