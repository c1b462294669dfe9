package sqlfront

import (
	"context"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// tryRead answers a SELECT of one row by its primary key.
func (f *fastPath) tryRead(ctx context.Context, q *fastQuery, plan *fastPlan) (bool, wire.Lesson, error) {
	s := q.session
	bound := s.bind(plan, s.GetCurrentDatabase())
	if !bound.ours {
		return false, nil, nil
	}
	if bound.fields == nil {
		return false, lesson(func(fields []*querypb.Field) { s.learn(plan, bound, fields) }), nil
	}
	if bound.text && !s.variables().fast.unicode {
		return false, nil, nil
	}
	key, ok := bound.keyOf(make([]byte, 0, 32), q.values)
	if !ok {
		return false, nil, nil
	}
	query, err := f.begin(ctx, q)
	if err != nil {
		return true, nil, sql.CastSQLError(err)
	}
	defer query.ProcessList.EndQuery(query)
	if err := s.CommandBegin(); err != nil {
		return true, nil, sql.CastSQLError(err)
	}
	defer s.CommandEnd()
	done, err := f.read(query, q, bound, key)
	if !done {
		return false, nil, nil
	}
	f.taken.Add(1)
	if err != nil {
		err = sql.CastSQLError(err)
	}
	return true, nil, err
}

// learn notes how the engine described the result of a statement, if the schema was
// the same all the time.
func (s *Session) learn(plan *fastPlan, bound *boundRead, fields []*querypb.Field) {
	if s.catalog.snapshot.Load().Version != bound.version {
		return
	}
	if next := bound.taught(s.plain, fields); next != nil {
		plan.bound.CompareAndSwap(bound, next)
	}
}

// may tells whether the user surely has the privileges that the statement needs. The
// engine says what is wrong if not. It is asked behind CommandBegin, which hears of users
// that others have changed, and before metadata locks, which a transaction would keep.
func (s *Session) may(b *boundRead) bool {
	users := s.server.engine.Analyzer.Catalog.MySQLDb
	return !users.Enabled() || users.UserHasPrivileges(s.plain, b.privilege()) || mutated("0070.unprivileged")
}

func (b *boundRead) privilege() sql.PrivilegedOperation {
	on := sql.PrivilegeCheckSubject{Database: b.schema, Table: b.table}
	switch b.verb {
	case fastpath.Update:
		return sql.NewPrivilegedOperation(on, sql.PrivilegeType_Select, sql.PrivilegeType_Update)
	case fastpath.Insert:
		return sql.NewPrivilegedOperation(on, sql.PrivilegeType_Insert)
	case fastpath.Replace:
		return sql.NewPrivilegedOperation(on, sql.PrivilegeType_Insert, sql.PrivilegeType_Delete)
	case fastpath.Delete:
		return sql.NewPrivilegedOperation(on, sql.PrivilegeType_Select, sql.PrivilegeType_Delete)
	}
	return sql.NewPrivilegedOperation(on, sql.PrivilegeType_Select)
}

// read does what the engine does with the statement. It is not done if the table is
// another by now; then nothing has been read.
func (f *fastPath) read(ctx *sql.Context, q *fastQuery, b *boundRead, key storage.Key) (done bool, err error) {
	s := q.session
	if !s.may(b) {
		return false, nil
	}
	if s.tx == nil {
		s.startTransaction(ctx, sql.ReadWrite, q.plain)
	}
	same, err := s.openBound(ctx, b)
	if err == nil && !same {
		return false, nil
	}
	sql.IncrementStatusVariable(ctx, "Questions", 1)
	if err != nil {
		return true, err
	}
	s.ClearWarnings()
	sql.IncrementStatusVariable(ctx, "Com_select", 1)
	row, found, err := s.readRow(ctx, b, key)
	s.endRead(ctx, found)
	if err != nil {
		return true, err
	}
	result := &sqltypes.Result{Fields: b.fields}
	if found {
		values, err := b.encode(ctx, row)
		if err != nil {
			return true, err
		}
		result.Rows, result.RowsAffected = [][]sqltypes.Value{values}, 1
	}
	ctx.ProcessList.EndQuery(ctx)
	q.showState()
	return true, q.answer(result)
}

// openBound is Database.table for a table that is known: it is the same if that would
// find it, and the statement may do with it what it might when it was bound. Much may
// have happened since then: the schema was asked for, and locks were waited for.
func (s *Session) openBound(ctx *sql.Context, b *boundRead) (same bool, err error) {
	if err := s.knowsSchema(ctx, b.mode); err != nil {
		return false, numbered(err)
	}
	for _, name := range [...]string{b.schemaLock, b.info.lock} {
		if err := s.lockName(ctx, name, false); err != nil {
			return false, err
		}
	}
	if now := s.catalog.snapshot.Load(); now.Version != b.version && !mutated("0070.old-table") {
		schema := now.Schema(b.schema)
		if schema == nil || schema.Table(b.table) != b.info.desc || !b.allowed(now) && !mutated("0070.triggers-meanwhile") {
			return false, nil
		}
	}
	return true, numbered(s.recent(ctx, b.mode, b.info))
}

// readRow is rowScan for one key of the primary index.
func (s *Session) readRow(ctx *sql.Context, b *boundRead, key storage.Key) (sql.Row, bool, error) {
	tx, err := s.txn(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := s.visible(ctx, tx, readMode{}, b.info, b.info.primary); err != nil {
		return nil, false, err
	}
	found, err := tx.Get(ctx, txn.At(b.info.primary.tokenOf(key), key), txn.ReadOptions{})
	if err != nil {
		return nil, false, s.failed(err)
	}
	if !found.Found {
		return nil, false, nil
	}
	row := make(sql.Row, b.rows.Len())
	if err := b.info.rows.Project(ctx, b.rows, found.Value, row); err != nil {
		return nil, false, s.failed(err)
	}
	return row, true, nil
}

// endRead is the end of a statement that reads: it commits what is its own
// transaction, and sets what ROW_COUNT() and FOUND_ROWS() show.
func (s *Session) endRead(ctx *sql.Context, found bool) {
	if s.tx != nil && s.implicit(ctx) {
		// Nothing was written: as with the engine, an error here is nobody's.
		_ = s.CommitTransaction(ctx, s.tx)
	}
	info := s.GetLastQueryInfo()
	if !mutated("0070.row-count") {
		info.RowCount.Store(-1)
	}
	rows := int64(0)
	if found {
		rows = 1
	}
	info.FoundRows.Store(rows)
}

// encode is a row as the client gets it.
func (b *boundRead) encode(ctx *sql.Context, row sql.Row) ([]sqltypes.Value, error) {
	values := make([]sqltypes.Value, len(row))
	return values, b.encodeInto(ctx, nil, values, row)
}

// encodeInto puts a row into values. Their bytes come from room, if there is any,
// which is made as needed; the engine uses its own in the same way.
func (b *boundRead) encodeInto(ctx *sql.Context, room *[]byte, values []sqltypes.Value, row sql.Row) error {
	for i, v := range row {
		if v == nil {
			continue // the zero Value is NULL
		}
		var to []byte
		if room != nil {
			to = roomFor(room, v)
		}
		value, err := b.result[i].SQL(ctx, to, v)
		if err != nil {
			return err
		}
		values[i] = value
		if n := value.Len(); n <= cap(to) && to != nil {
			*room = to[n:n]
		}
	}
	return nil
}

// bytesRoom is how many bytes of values room is made for at once.
const bytesRoom = 4 << 10

// roomFor is where a value may go.
func roomFor(room *[]byte, v any) []byte {
	need := 64
	if text, ok := v.(string); ok {
		need = len(text)
	}
	if need > bytesRoom/4 {
		return nil
	}
	if cap(*room) < need {
		*room = make([]byte, 0, bytesRoom)
	}
	return *room
}
