package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/vitess/go/sqltypes"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
)

// fastRows is how an INSERT of rows runs without a plan (decision 0083), if columns hold
// all of its values as they are.
type fastRows struct {
	columns []rowColumn // of the table
	width   int         // of a row of values
}

// rowColumn is what a column of the table gets: one of the values, or always the same.
type rowColumn struct {
	given int // -1: fixed
	fixed any
}

// newRows prepares an INSERT; nil if it needs the plan.
func newRows(s *Session, t *fastInsert, info *tableInfo, width int) *fastRows {
	if t.root.IsReplace || len(t.columns) != len(info.schema) || t.at >= 0 && !wholeColumn(info.schema[t.at].Type) {
		return nil
	}
	r := &fastRows{width: width}
	for i, e := range t.columns {
		column := rowColumn{given: -1}
		switch e := e.(type) {
		case *expression.GetField:
			column.given = e.Index()
		case *sql.ColumnDefaultValue:
			ok := i == t.at
			if !ok {
				column.fixed, ok = fixedDefault(s, info.schema[i], e)
			}
			if !ok {
				return nil
			}
		default:
			return nil
		}
		r.columns = append(r.columns, column)
	}
	return r
}

// fixedDefault is the default of a column, if it holds it as it is.
func fixedDefault(s *Session, column *sql.Column, e *sql.ColumnDefaultValue) (any, bool) {
	v, err := e.Eval(s.plain, nil)
	if err != nil {
		return nil, false
	}
	literal := fastpath.Value{Kind: fastpath.Null}
	switch n, whole := signed(v); {
	case whole:
		literal = fastpath.Int(n)
	case v != nil:
		text, ok := v.(string)
		if !ok {
			return nil, false
		}
		literal = fastpath.Value{Kind: fastpath.Text, Text: text}
	}
	fixed, ok := storedValue(s, column, literal)
	return fixed, ok && fixed == v
}

// rows are the rows of one execution, without what the server chooses; not ok if they
// need the engine.
func (t *fastInsert) direct(s *Session, info *tableInfo, list []fastpath.Assignment, values []fastpath.Value) ([]sql.Row, bool) {
	if t.rowsOf == nil {
		return nil, false
	}
	rows, r := make([]sql.Row, t.rows), t.rowsOf
	for i := range rows {
		row := make(sql.Row, len(r.columns))
		for at, c := range r.columns {
			row[at] = c.fixed
			if c.given < 0 {
				continue
			}
			v, ok := list[i*r.width+c.given].Value.Of(values), at == t.at
			if !ok || v.Kind != fastpath.Null {
				row[at], ok = storedValue(s, info.schema[at], v)
			}
			if !ok {
				return nil, false
			}
		}
		rows[i] = row
	}
	return rows, true
}

// inserting executes an INSERT. chosen is the number of the first row for which the
// server chooses a value; -1: none.
func (f *fastPath) inserting(q *fastQuery, b *boundRead, rows []sql.Row, chosen int) func(*sql.Context) error {
	return func(ctx *sql.Context) error {
		f.direct.Add(1)
		first, err := q.session.insertRows(ctx, b, rows, chosen)
		if err != nil {
			return err
		}
		if err := q.settleAlone(ctx); err != nil {
			return err
		}
		q.showState()
		return q.send(&sqltypes.Result{RowsAffected: uint64(len(rows)), InsertID: first})
	}
}

// insertRows adds rows, all or none. It returns the value of the first one that the
// server may choose.
func (s *Session) insertRows(ctx *sql.Context, b *boundRead, rows []sql.Row, chosen int) (first uint64, err error) {
	s.changing = s.statement
	e := &editor{table: &Table{session: s, info: b.info, buffered: true}, session: s}
	e.StatementBegin(ctx)
	for i, row := range rows {
		err := s.insertRow(ctx, e, b, row)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if err != nil {
			e.DiscardChanges(ctx, err)
			return 0, err
		}
		if at := b.insert.at; at >= 0 {
			number := numberOf(row[at])
			if i == chosen && !mutated("0083.last-id") {
				s.GetLastQueryInfo().LastInsertId.Store(number)
			}
			if i == 0 {
				first = uint64(number)
			}
		}
	}
	s.GetLastQueryInfo().RowCount.Store(int64(len(rows)))
	return first, e.StatementComplete(ctx)
}

// insertRow gives one row to the editor, with what the server chooses for it.
func (s *Session) insertRow(ctx *sql.Context, e *editor, b *boundRead, row sql.Row) error {
	if at := b.insert.at; at >= 0 {
		var err error
		if row[at], err = s.autoValue(ctx, b.info, at, row[at]); err != nil {
			return sql.NewWrappedInsertError(nil, err)
		}
	}
	if err := e.Insert(ctx, row); err != nil {
		return sql.NewWrappedInsertError(row, err)
	}
	return nil
}

// autoValue is what the AUTO_INCREMENT column of a new row gets, as the engine's
// expression of that name has it.
func (s *Session) autoValue(ctx *sql.Context, info *tableInfo, at int, given any) (any, error) {
	typ := info.schema[at].Type
	n := int64(0)
	if given != nil {
		n = numberOf(given)
		_, large := given.(uint64)
		if n < 0 && !large || n == 0 && sql.LoadSqlMode(s.plain).ModeEnabled(sql.NoAutoValueOnZero) {
			return given, nil
		}
	}
	if n == 0 {
		given = nil
	}
	if given != nil && mutated("0083.counter-left") {
		return given, nil
	}
	sequence, err := s.autoNext(ctx, info, given)
	if err != nil || given != nil {
		return given, err
	}
	value, in, err := typ.Convert(ctx, sequence)
	if err == nil && in != sql.InRange {
		err = sql.ErrValueOutOfRange.New(sequence, typ)
	}
	return value, err
}

// numberOf is a whole number of a row as a signed one, whatever that makes of it.
func numberOf(v any) int64 {
	if n, ok := v.(uint64); ok {
		return int64(n)
	}
	n, _ := signed(v)
	return n
}
