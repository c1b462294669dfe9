package sqlfront

import (
	"context"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/vitess/go/sqltypes"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
	"github.com/rowlockdb/rowlock/storage"
)

// fastLocked is how FOR UPDATE or FOR SHARE of columns of one row by its primary key runs
// without a plan (decision 0083).
type fastLocked struct {
	rows *codec.Projection // of the result columns
}

// newLocked prepares a SELECT of which the engine has made the plan root; nil if it needs
// the plan.
func newLocked(root sql.Node, b *boundRead) *fastLocked {
	var columns []string
	if p, ok := root.(*plan.Project); ok {
		for _, e := range p.Projections {
			if a, ok := e.(*expression.Alias); ok {
				e = a.Child
			}
			f, ok := e.(*expression.GetField)
			if !ok {
				return nil
			}
			columns = append(columns, f.Name())
		}
		root = p.Child
	}
	if f, ok := root.(*plan.Filter); ok {
		root = f.Child
	}
	access, ok := root.(*plan.IndexedTableAccess)
	if !ok || ownTable(access.Table) == nil {
		return nil
	}
	if columns == nil {
		for _, c := range ownTable(access.Table).Schema(nil) {
			columns = append(columns, c.Name)
		}
	}
	if len(columns) != len(b.result) {
		return nil
	}
	positions := make([]int, len(columns))
	for i, name := range columns {
		at := b.info.desc.Column(name)
		position, ok := b.info.position[at]
		if at < 0 || !ok || b.info.schema[at].Hidden || b.info.schema[at].HiddenSystem || !b.info.schema[at].Type.Equals(b.result[i]) {
			return nil
		}
		positions[i] = position
	}
	rows, err := b.info.rows.NewProjection(positions)
	if err != nil {
		return nil
	}
	return &fastLocked{rows}
}

// locked executes a locking read of one row.
func (f *fastPath) locked(q *fastQuery, b *boundRead, bounds []bound) func(*sql.Context) error {
	return func(ctx *sql.Context) error {
		key, err := b.pointKey(ctx, bounds)
		if err != nil {
			return err
		}
		f.direct.Add(1)
		result, err := q.session.readLocked(ctx, b, key)
		info := q.session.GetLastQueryInfo()
		if !mutated("0083.row-count") {
			info.RowCount.Store(-1)
		}
		info.FoundRows.Store(int64(len(result.Rows)))
		if err == nil {
			err = q.settleAlone(ctx)
		}
		if err != nil {
			return err
		}
		q.showState()
		return q.send(result)
	}
}

// readLocked locks a row and encodes it.
func (s *Session) readLocked(ctx *sql.Context, b *boundRead, key storage.Key) (*sqltypes.Result, error) {
	result := &sqltypes.Result{Fields: b.fields}
	_, found, err := s.lockRow(ctx, b.info, b.mode, key)
	if err != nil || !found.Found {
		return result, err
	}
	row := make(sql.Row, len(b.result))
	if err := b.info.rows.Project(ctx, b.locked.rows, found.Value, row); err != nil {
		return result, s.failed(err)
	}
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	values, err := b.encode(ctx, row)
	if err == nil {
		result.Rows, result.RowsAffected = [][]sqltypes.Value{values}, 1
	}
	return result, err
}

// pointKey is the key of the only row that is asked for.
func (b *boundRead) pointKey(ctx context.Context, bounds []bound) (storage.Key, error) {
	x := b.info.primary
	return x.key.AppendColumn(ctx, append(make([]byte, 0, 24), x.start...), 0, bounds[0].lo)
}
