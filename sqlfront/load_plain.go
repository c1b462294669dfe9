package sqlfront

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/rowexec"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
)

// plainLoad is the file of a LOAD DATA as the engine reads it, without the lines that
// do not need the engine: once the table is locked as a whole, a line whose fields are
// what their columns hold becomes a row here. Every other line, and every line before,
// is given to the engine, one at a time, so that the rows are in the file's order, and
// conversions, warnings and errors are the engine's.
type plainLoad struct {
	ctx     *sql.Context
	session *Session
	node    *plan.LoadData
	fields  int          // of a line that are used
	columns []loadColumn // of the table
	editor  *editor
	lines   loadLines
	given   []byte // of the engine's line, what it has not read yet
	row     sql.Row
	rows    int // that did not go through the engine
	built   bool
	// statement is the session's count of them.
	statement uint64
}

// loadColumn is a column, and which field of a line is for it.
type loadColumn struct {
	field    int
	nullable bool
	auto     bool // AUTO_INCREMENT
	form     loadForm
	least    int64
	most     uint64
	bytes    bool // most is of bytes, not of characters
}

// loadForm is the Go type of a column's values.
type loadForm uint8

const (
	loadInt8 loadForm = iota
	loadInt16
	loadInt32
	loadInt64
	loadUint8
	loadUint16
	loadUint32
	loadUint64
	loadText
)

// newPlainLoad is nil for a statement all of whose lines are the engine's.
func newPlainLoad(ctx *sql.Context, n *plan.InsertInto, t *Table) *plainLoad {
	project, ok := n.Source.(*plan.Project)
	if !ok || !n.Ignore || len(n.Checks()) > 0 || n.FirstGeneratedAutoIncRowIdx >= 0 {
		return nil
	}
	file, ok := project.Child.(*plan.LoadData)
	if !ok || !file.Local || file.LinesTerminatedBy == "" || file.FieldsTerminatedBy == "" {
		return nil
	}
	for _, v := range file.UserVars {
		if v != nil {
			return nil
		}
	}
	info := t.now()
	if info.ownChecks || info.virtualIndex || len(project.Projections) != len(info.schema) || len(file.DestSch) != len(info.schema) {
		return nil
	}
	p := &plainLoad{ctx: ctx, session: sessionOf(ctx), node: file, row: make(sql.Row, len(info.schema)), columns: make([]loadColumn, len(info.schema))}
	for i, column := range info.schema {
		if !p.columns[i].take(column, project.Projections[i]) {
			return nil
		}
		p.fields = max(p.fields, p.columns[i].field+1)
	}
	return p
}

// plainLoadOf is what reads the file of a statement that is still to be built so.
func plainLoadOf(ctx *sql.Context, n *plan.InsertInto) *plainLoad {
	if !loadStatement(ctx.Query()) {
		return nil
	}
	if t := findTable(ctx, n.Destination); t != nil && t.file != nil && !t.file.built {
		return t.file
	}
	return nil
}

// take prepares a column, if it is one whose values are made here.
func (c *loadColumn) take(column *sql.Column, from sql.Expression) bool {
	if auto, ok := from.(*expression.AutoIncrement); ok {
		from, c.auto = auto.Child, true
	}
	field, ok := from.(*expression.GetField)
	if !ok || column.Generated != nil || column.Virtual || column.AutoIncrement != c.auto {
		return false
	}
	c.field, c.nullable = field.Index(), column.Nullable
	integer := func(form loadForm, least int64, most uint64) bool {
		c.form, c.least, c.most = form, least, most
		return types.IsInteger(column.Type)
	}
	switch column.Type.Type() {
	case sqltypes.Int8:
		return integer(loadInt8, math.MinInt8, math.MaxInt8)
	case sqltypes.Int16:
		return integer(loadInt16, math.MinInt16, math.MaxInt16)
	case sqltypes.Int24:
		return integer(loadInt32, -1<<23, 1<<23-1)
	case sqltypes.Int32:
		return integer(loadInt32, math.MinInt32, math.MaxInt32)
	case sqltypes.Int64:
		return integer(loadInt64, math.MinInt64, math.MaxInt64)
	case sqltypes.Uint8:
		return integer(loadUint8, 0, math.MaxUint8)
	case sqltypes.Uint16:
		return integer(loadUint16, 0, math.MaxUint16)
	case sqltypes.Uint24:
		return integer(loadUint32, 0, 1<<24-1)
	case sqltypes.Uint32:
		return integer(loadUint32, 0, math.MaxUint32)
	case sqltypes.Uint64:
		return integer(loadUint64, 0, math.MaxInt64) // what is more is the engine's
	case sqltypes.Char, sqltypes.VarChar, sqltypes.Text:
		text, ok := column.Type.(sql.StringType)
		if !ok || text.CharacterSet() != sql.CharacterSet_utf8mb4 {
			return false
		}
		c.form, c.bytes = loadText, column.Type.Type() == sqltypes.Text
		c.most = uint64(text.MaxCharacterLength())
		if c.bytes {
			c.most = uint64(text.MaxByteLength())
		}
		return true
	}
	return false
}

// value is what a column holds for a field. It is false if the engine has to say.
// A text is valid as long as the field.
func (c *loadColumn) value(field []byte) (any, bool) {
	if string(field) == loadNull {
		return nil, c.nullable && !c.auto || mutated("0087.null-anywhere")
	}
	if c.form == loadText {
		return c.text(field)
	}
	v, ok := loadInteger(field)
	if !ok || v < c.least || v > 0 && uint64(v) > c.most || c.auto && v <= 0 {
		return nil, false
	}
	switch c.form {
	case loadInt8:
		return int8(v), true
	case loadInt16:
		return int16(v), true
	case loadInt32:
		return int32(v), true
	case loadInt64:
		return v, true
	case loadUint8:
		return uint8(v), true
	case loadUint16:
		return uint16(v), true
	case loadUint32:
		return uint32(v), true
	}
	return uint64(v), true
}

func (c *loadColumn) text(field []byte) (any, bool) {
	if !utf8.Valid(field) || uint64(len(field)) > c.most && (c.bytes || uint64(utf8.RuneCount(field)) > c.most) {
		return nil, false
	}
	return unsafe.String(unsafe.SliceData(field), len(field)), true
}

// loadInteger reads digits, perhaps behind a minus, and nothing else.
func loadInteger(field []byte) (int64, bool) {
	digits := field
	negative := len(digits) > 0 && digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 { // 18 fit for sure
		return 0, false
	}
	var v int64
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		v = 10*v + int64(d-'0')
	}
	if negative {
		return -v, true
	}
	return v, true
}

// build builds the statement so that it reads its file through p.
func (p *plainLoad) build(b *rowexec.BaseBuilder, n *plan.InsertInto, row sql.Row) (sql.RowIter, error) {
	p.built = true
	open := p.ctx.LoadInfile
	ctx := *p.ctx
	sql.WithServices(sql.Services{KillConnection: p.ctx.KillConnection, LoadInfile: func(name string) (io.ReadCloser, error) {
		from, err := open(name)
		if err != nil {
			return nil, err
		}
		p.lines = newLoadLines(p.node)
		p.lines.from = from
		return p, nil
	}})(&ctx)
	iter, err := b.Build(&ctx, n, row)
	if err != nil {
		return nil, err
	}
	p.session.load, p.statement = p, p.session.statement
	return &plainLoadIter{RowIter: iter, load: p}, nil
}

// Read gives the engine the next line that it has to see. Rows are made of those
// before.
func (p *plainLoad) Read(to []byte) (int, error) {
	for len(p.given) == 0 {
		line, whole, err := p.lines.next()
		if err != nil {
			p.settle()
			return 0, err
		}
		if whole && p.editor != nil && p.editor.load.whole {
			done, err := p.insert(line)
			if err != nil {
				return 0, err
			}
			if done {
				continue
			}
		}
		p.given = line
		p.settle()
	}
	n := copy(to, p.given)
	p.given = p.given[n:]
	return n, nil
}

// Close implements io.Closer.
func (p *plainLoad) Close() error { return p.lines.from.Close() }

// settle is the end of the rows before the engine's line, as the engine ends one of
// its rows under IGNORE: what it takes back now is its own.
func (p *plainLoad) settle() {
	if e := p.editor; e != nil && e.load.whole && e.tx != nil && !mutated("0087.rows-unsettled") {
		e.session.catalog.stats.add(e.info().desc.Rows, e.delta)
		e.mark, e.delta = e.tx.Savepoint(), 0
	}
}

// insert makes a row of a line. It is false for a line that is the engine's: nothing
// has happened then.
func (p *plainLoad) insert(line []byte) (bool, error) {
	if p.rows%64 == 0 {
		if err := p.ctx.Err(); err != nil {
			return false, err
		}
	}
	fields, ok := p.lines.split(line, p.fields)
	if !ok {
		return true, nil
	}
	if len(fields) < p.fields {
		return false, nil
	}
	for i := range p.columns {
		if p.row[i], ok = p.columns[i].value(fields[p.columns[i].field]); !ok {
			return false, nil
		}
	}
	done, err := p.editor.loadPlain(p.ctx, p.row)
	if err != nil || !done {
		return false, err
	}
	p.rows++
	return true, nil
}

// loadPlain puts a row into a table that is locked as a whole. It is false, and
// nothing is put, if any of its keys is there.
func (e *editor) loadPlain(ctx *sql.Context, row sql.Row) (bool, error) {
	tx, err := e.writer(ctx)
	if err != nil {
		return false, err
	}
	writes, err := e.writes(ctx, e.load.buf[:0], 0, row)
	if err != nil {
		return false, nil // the engine may ignore it
	}
	e.load.buf = writes
	for _, w := range writes {
		if w.conflict && tx.Written(w.at.txn()) && !mutated("0087.duplicates-unseen") {
			return false, nil
		}
	}
	for i, c := range e.load.plain.columns {
		if !c.auto {
			continue
		}
		if _, err := e.table.GetNextAutoIncrementValue(ctx, row[i]); err != nil {
			return false, err
		}
	}
	for _, w := range writes {
		if err := tx.PutNew(ctx, w.at.txn(), w.value, w.conflict); err != nil {
			return false, e.failure(err)
		}
	}
	e.delta++
	return true, nil
}

// plainLoadIter adds the rows that the engine has not seen to those that it counted.
type plainLoadIter struct {
	sql.RowIter
	load *plainLoad
}

var _ sql.MutableRowIter = (*plainLoadIter)(nil)

// GetChildIter implements sql.MutableRowIter.
func (i *plainLoadIter) GetChildIter() sql.RowIter { return i.RowIter }

// WithChildIter implements sql.MutableRowIter.
func (i *plainLoadIter) WithChildIter(child sql.RowIter) sql.RowIter {
	return &plainLoadIter{RowIter: child, load: i.load}
}

// Next implements sql.RowIter. The engine does not close what has failed.
func (i *plainLoadIter) Next(ctx *sql.Context) (sql.Row, error) {
	row, err := i.RowIter.Next(ctx)
	if err != nil {
		i.load.end()
		return row, err
	}
	if len(row) != 1 {
		return row, nil
	}
	if result, ok := row[0].(types.OkResult); ok {
		result.RowsAffected += uint64(i.load.rows)
		ctx.GetLastQueryInfo().RowCount.Store(int64(result.RowsAffected))
		row = sql.NewRow(result)
	}
	return row, nil
}

// Close implements sql.RowIter.
func (i *plainLoadIter) Close(ctx *sql.Context) error {
	i.load.end()
	return i.RowIter.Close(ctx)
}

// end is the end of the statement.
func (p *plainLoad) end() {
	if p.session.load == p {
		p.session.load = nil
		p.session.server.loadedPlain.Add(int64(p.rows))
	}
}

// Warn implements sql.Session. The engine counts the rows it has seen, and names the
// number of one in a warning about a text that is not one.
func (s *Session) Warn(w *sql.Warning) {
	if s.load != nil && s.load.statement == s.statement && w.Code == mysql.ERTruncatedWrongValueForField && !mutated("0087.rows-uncounted") {
		w = s.load.renumbered(w)
	}
	s.BaseSession.Warn(w)
}

func (p *plainLoad) renumbered(w *sql.Warning) *sql.Warning {
	const before = " at row "
	i := strings.LastIndex(w.Message, before)
	if i < 0 {
		return w
	}
	n, err := strconv.Atoi(w.Message[i+len(before):])
	if err != nil {
		return w
	}
	next := *w
	next.Message = fmt.Sprint(w.Message[:i+len(before)], n+p.rows)
	return &next
}
