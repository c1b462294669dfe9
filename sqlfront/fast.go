package sqlfront

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/mysql"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
	"github.com/dolthub/vitess/go/vt/sqlparser"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
)

// The fast path executes the statements that applications send all day without the
// engine, which needs ten times as long to plan one of them as to run it. It must
// not be told from the engine by anything but the time it takes (decision 0070):
//
//   - what a statement is was found out with the engine's parser, for the first text
//     of its shape (fastpath.Shape), under the same database, sql_mode and character
//     sets;
//   - how its result is described to the client is what the engine itself said when
//     it ran the statement for the first time, in the same version of the schema;
//   - tables, locks, snapshots, privileges, rows and values come from the functions
//     that the engine calls, in the same order;
//   - whatever is not certain is left to the engine before anything has been done.

// fastPath is the fast path of a server. Its methods may be called from any goroutine.
type fastPath struct {
	server *Server
	pids   atomic.Uint64
	parser *wire.Parser

	taken  atomic.Uint64 // statements that were answered, for tests
	direct atomic.Uint64 // and of those, the ones that changed or locked rows without a plan
	ranges atomic.Uint64 // and the ones that read ranges without a plan
}

// firstPid begins numbers of statements that the engine's own never reach.
const firstPid = 1 << 62

func newFastPath(s *Server) *fastPath {
	f := &fastPath{server: s, parser: wire.NewParser()}
	f.pids.Store(firstPid)
	return f
}

// fastQuery is one statement that may be ours.
type fastQuery struct {
	session  *Session
	conn     *mysql.Conn
	text     string
	prepared *mysql.PrepareData // nil: the text is all
	answer   wire.Answer
	plain    bool // see fastPlan
	values   []fastpath.Value
	watched  *clientWatch // for the client's disappearance; nil: none
	room     encoding
}

// Try implements wire.FastPath.
func (f *fastPath) Try(ctx context.Context, c *mysql.Conn, text string, prepared *mysql.PrepareData, answer wire.Answer) (bool, wire.Lesson, error) {
	s, ok := c.ClientData.(*Session)
	if !ok {
		return false, nil, nil
	}
	s.fast.capture = nil
	settings := &s.variables().fast
	if !settings.on || s.ddl != nil || s.locked.active || len(s.global.claims) > 0 || len(s.temporary.tables) > 0 {
		return false, nil, nil
	}
	q := &fastQuery{session: s, conn: c, text: text, prepared: prepared, answer: answer, values: s.fast.values[:0]}
	plan := f.find(settings, q)
	defer q.keepRoom()
	if plan == nil {
		return false, nil, nil
	}
	switch plan.statement.Verb {
	case fastpath.Select:
		q.plain = plan.plain
		if q.prepared == nil && slices.ContainsFunc(q.values, func(v fastpath.Value) bool { return v.Kind == fastpath.Text }) {
			q.plain = wire.PlainSelect(text) // it looks into strings, too
		}
		if plan.statement.Planned {
			return f.tryTree(ctx, q, plan)
		}
		return f.tryRead(ctx, q, plan)
	case fastpath.Update, fastpath.Delete:
		return f.tryTree(ctx, q, plan)
	case fastpath.Insert, fastpath.Replace:
		return f.tryInsert(ctx, q, plan)
	default:
		return f.control(ctx, q, plan)
	}
}

// maxRoom is for how many values a session keeps room.
const maxRoom = 64

// keepRoom leaves the room of the values to the next statement, without them: they may
// be long, and the session idle.
func (q *fastQuery) keepRoom() {
	clear(q.values)
	q.session.fast.values = nil
	if cap(q.values) <= maxRoom {
		q.session.fast.values = q.values[:0]
	}
}

// find is the plan for a statement, nil if it is surely not ours.
func (f *fastPath) find(settings *fastSettings, q *fastQuery) *fastPlan {
	if q.prepared != nil {
		if len(q.text) > fastpath.MaxText {
			return nil
		}
		plan, ok := settings.plans.prepared(q.text)
		if !ok {
			plan = f.recognise(settings, q, q.text, byText)
		}
		if plan == nil || !q.parameters(plan.statement.Values) {
			return nil
		}
		return plan
	}
	s := q.session
	var ok bool
	s.fast.shape, q.values, ok = fastpath.Shape(s.fast.shape[:0], q.values, q.text)
	if !ok {
		return nil
	}
	plan, ok := settings.plans.text(s.fast.shape)
	if !ok {
		plan = f.recognise(settings, q, string(s.fast.shape), byShape)
	}
	return plan
}

// recognise looks at a statement whose shape was not seen before.
func (f *fastPath) recognise(settings *fastSettings, q *fastQuery, shape string, list int) *fastPlan {
	var plan *fastPlan
	if list == byShape || fastpath.Simple(q.text) {
		stmt, _, rest, err := f.parser.ParseWithOptions(context.Background(), q.text, ';', false, settings.parsing)
		if err == nil && rest == "" && unmarked(stmt) {
			if known := fastpath.Recognise(stmt, q.values); known != nil {
				plan = &fastPlan{statement: known, plain: wire.PlainSelect(q.text)}
			}
		}
	}
	settings.plans, plan = settings.plans.of.put(settings.plans, shape, list, plan)
	return plan
}

// unmarked takes the mark of a locking clause from the table of a SELECT, which says
// nothing that the clause does not say. It is false for one that says more.
func unmarked(stmt sqlparser.Statement) bool {
	n, ok := stmt.(*sqlparser.Select)
	if !ok || n.Lock == nil || n.Lock.Type == "" || len(n.From) != 1 {
		return true
	}
	table, ok := n.From[0].(*sqlparser.AliasedTableExpr)
	if !ok || table.AsOf == nil {
		return false // a table that no clause locks
	}
	literal, ok := table.AsOf.Time.(*sqlparser.SQLVal)
	if !ok || literal.Type != sqlparser.StrVal || table.AsOf.Start != nil || table.AsOf.End != nil {
		return false
	}
	marker, ok := wire.DecodeLockMarker(string(literal.Val))
	if !ok || marker.HasAsOf || marker.Wait != wire.LockBlock || (marker.Strength == wire.LockShared) != (n.Lock.Type == sqlparser.ShareModeStr) {
		return false
	}
	table.AsOf = nil
	return true
}

// parameters reads the values of a prepared statement. It is false for what may
// not mean the same to a column as to the engine.
func (q *fastQuery) parameters(n int) bool {
	if int(q.prepared.ParamsCount) != n || len(q.prepared.BindVars) != n {
		return false
	}
	for i := range n {
		v, ok := parameter(q.prepared.BindVars[parameterName(i)])
		if !ok {
			return false
		}
		q.values = append(q.values, v)
	}
	return true
}

// begin makes the context of a statement and enters it in the list of processes.
func (f *fastPath) begin(ctx context.Context, q *fastQuery) (*sql.Context, error) {
	list := f.server.engine.ProcessList
	made := sql.NewContext(ctx, sql.WithSession(q.session), sql.WithPid(f.pids.Add(1)), sql.WithQuery(q.text),
		sql.WithMemoryManager(f.server.engine.MemoryManager), sql.WithProcessList(list))
	return list.BeginQuery(made, q.text)
}

// showState sets the flags of the connection that its next packets carry.
func (q *fastQuery) showState() {
	flags := q.conn.StatusFlags &^ uint16(mysql.ServerStatusAutocommit|mysql.ServerInTransaction)
	if q.session.autocommit() {
		flags |= uint16(mysql.ServerStatusAutocommit)
	}
	if q.session.tx != nil {
		flags |= uint16(mysql.ServerInTransaction)
	}
	if q.conn.StatusFlags != flags { // behind a cursor, the connection sets others
		q.conn.StatusFlags = flags
	}
}

// lesson takes what the engine said of a statement's result.
type lesson func(fields []*querypb.Field)

// Learn implements wire.Lesson.
func (l lesson) Learn(fields []*querypb.Field) { l(fields) }
