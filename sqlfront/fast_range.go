package sqlfront

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
)

// errNotOurs says that a plan is not what it was taken for.
var errNotOurs = errors.New("a plan of another form")

// rowsAtOnce is how many rows the engine sends before it looks for more.
const rowsAtOnce = 128

// captured is the plan of the statement that the engine runs, if somebody wants it.
type captured struct{ root sql.Node }

// tryTree answers a statement from the engine's plan for one of the same shape.
func (f *fastPath) tryTree(ctx context.Context, q *fastQuery, plan *fastPlan) (bool, wire.Lesson, error) {
	s := q.session
	bound := s.bind(plan, s.GetCurrentDatabase())
	if !bound.ours {
		return false, nil, nil
	}
	condition := &plan.statement.Where[0]
	bounds, ok := bound.bounds(condition, q.values)
	if !ok {
		return false, nil, nil
	}
	n := plan.statement
	if (n.Verb != fastpath.Select || n.Lock == fastpath.UpdateLock) && !s.mayWrite() {
		return false, nil, nil
	}
	if bound.tree == nil {
		wanted, values := &captured{}, slices.Clone(q.values)
		s.fast.capture = wanted
		return false, lesson(func(fields []*querypb.Field) { s.learnTree(plan, bound, wanted, values, fields) }), nil
	}
	if bound.locked != nil {
		return f.execute(ctx, q, bound, n.Verb, f.locked(q, bound, bounds))
	}
	if bound.ranged != nil {
		if scan, ok := bound.ranged.span(bound, bounds); ok {
			return f.execute(ctx, q, bound, n.Verb, f.ranged(q, bound, scan))
		}
	}
	// The plan may have to take over, and knows no larger keys.
	if bound.change != nil && (literalFits(condition.Value.Of(q.values)) || mutated("0083.large-key")) {
		if values, ok := bound.change.values(s, bound.info, n.Assign, q.values); ok {
			return f.execute(ctx, q, bound, n.Verb, f.changing(q, plan, bound, bounds, values))
		}
	}
	assign, ok := bound.tree.assigned(s, n.Assign, q.values)
	var key *expression.Literal
	if ok && bound.locks() {
		key, ok = literalOf(s, condition.Value.Of(q.values))
	}
	if !ok {
		return false, nil, nil
	}
	return f.execute(ctx, q, bound, n.Verb, q.planned(f, bound, n, func(ctx *sql.Context) (sql.Node, error) { return bound.tree.plan(ctx, s, bounds, key, assign) }))
}

// planned executes a plan.
func (q *fastQuery) planned(f *fastPath, b *boundRead, n *fastpath.Statement, plan func(*sql.Context) (sql.Node, error)) func(*sql.Context) error {
	build := func(ctx *sql.Context) (sql.RowIter, error) {
		tree, err := plan(ctx)
		if err != nil {
			return nil, err
		}
		iter, err := f.server.engine.Analyzer.ExecBuilder.Build(ctx, tree, nil)
		if err != nil {
			return nil, err
		}
		return finish(ctx, tree, iter, n.Verb)
	}
	if n.Verb == fastpath.Select {
		return func(ctx *sql.Context) error { return q.stream(ctx, b, build) }
	}
	return func(ctx *sql.Context) error { return q.write(ctx, build) }
}

// learnTree notes the plan that the engine has made.
func (s *Session) learnTree(plan *fastPlan, bound *boundRead, wanted *captured, values []fastpath.Value, fields []*querypb.Field) {
	if wanted.root == nil || s.catalog.snapshot.Load().Version != bound.version {
		return
	}
	next := *bound
	if !bound.locks() {
		var err error
		if wanted.root, err = withoutFilter(s.plain, wanted.root, bound.info); err != nil {
			return
		}
	}
	next.tree = newTree(s.plain, wanted.root, bound)
	usable := next.tree != nil
	switch verb := plan.statement.Verb; {
	case !usable:
	case verb == fastpath.Select:
		usable = next.takeResult(wanted.root.Schema(s.plain), fields) && (!bound.locks() || next.repeats(s, plan.statement, values))
	default:
		usable = len(fields) == 0 && (verb != fastpath.Update || next.tree.takeSets(s, wanted.root, bound, plan.statement.Assign, values)) &&
			next.repeats(s, plan.statement, values)
	}
	if usable {
		next.change = newChange(wanted.root, &next)
		switch {
		case next.verb != fastpath.Select:
		case next.locks():
			next.locked = newLocked(wanted.root, &next)
		default:
			next.ranged = newRanged(s.plain, wanted.root, &next)
		}
		plan.bound.CompareAndSwap(bound, &next)
	} else {
		plan.bound.CompareAndSwap(bound, bound.missed())
	}
}

// takeResult notes how the engine described the result.
func (b *boundRead) takeResult(schema sql.Schema, fields []*querypb.Field) bool {
	if len(fields) != len(schema) {
		return false
	}
	b.fields, b.result = fields, nil
	for i, c := range schema {
		b.result = append(b.result, c.Type)
		if fields[i].Type != c.Type.Type() {
			return false
		}
	}
	return true
}

// repeats tells whether the statement that the plan was made for can be executed from
// it.
func (b *boundRead) repeats(s *Session, n *fastpath.Statement, values []fastpath.Value) bool {
	bounds, ok := b.bounds(&n.Where[0], values)
	if !ok {
		return false
	}
	key, ok := literalOf(s, n.Where[0].Value.Of(values))
	if !ok {
		return false
	}
	assign, ok := b.tree.assigned(s, n.Assign, values)
	if !ok {
		return false
	}
	_, err := b.tree.plan(s.plain, s, bounds, key, assign)
	return err == nil
}

// execute does with a plan what the engine does, from the start of the statement.
func (f *fastPath) execute(ctx context.Context, q *fastQuery, b *boundRead, verb fastpath.Verb, run func(*sql.Context) error) (bool, wire.Lesson, error) {
	s := q.session
	ctx, end := context.WithCancel(ctx)
	defer end()
	q.watch(ctx, end)
	defer q.unwatch()
	query, err := f.begin(ctx, q)
	if err != nil {
		return true, nil, sql.CastSQLError(err)
	}
	defer query.ProcessList.EndQuery(query)
	if err := s.CommandBegin(); err != nil {
		return true, nil, sql.CastSQLError(err)
	}
	defer s.CommandEnd()
	if !s.may(b) {
		return false, nil, nil
	}
	if s.tx == nil {
		s.startTransaction(query, sql.ReadWrite, q.plain)
	}
	same, err := s.openBound(query, b)
	if err == nil && !same {
		return false, nil, nil
	}
	f.taken.Add(1)
	sql.IncrementStatusVariable(query, "Questions", 1)
	switch verb {
	case fastpath.Update:
		sql.IncrementStatusVariable(query, "Com_update", 1)
	case fastpath.Delete:
		sql.IncrementStatusVariable(query, "Com_delete", 1)
	case fastpath.Insert, fastpath.Replace:
		sql.IncrementStatusVariable(query, "Com_insert", 1)
	}
	if err == nil {
		s.ClearWarnings()
		if verb == fastpath.Select {
			sql.IncrementStatusVariable(query, "Com_select", 1)
		}
		err = run(query)
	}
	if err != nil {
		err = sql.CastSQLError(err)
	}
	return true, nil, err
}

// stream sends the rows of a plan as the engine's handler does.
func (q *fastQuery) stream(ctx *sql.Context, b *boundRead, build func(*sql.Context) (sql.RowIter, error)) error {
	iter, err := build(ctx)
	if err != nil {
		return err
	}
	sent := false
	result := &sqltypes.Result{Fields: b.fields}
	for {
		row, err := iter.Next(ctx)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err == io.EOF {
			break
		}
		if err == nil {
			err = q.add(ctx, b, result, row)
		}
		if err == nil && result.RowsAffected == rowsAtOnce {
			sent = true
			err = q.send(result)
			result = &sqltypes.Result{Fields: b.fields}
		}
		if err != nil {
			_ = iter.Close(ctx)
			return err
		}
	}
	if err := iter.Close(ctx); err != nil {
		return err
	}
	q.showState()
	if sent && result.RowsAffected == 0 {
		return nil
	}
	return q.send(result)
}

// send answers. From then on the protocol layer may read from the connection.
func (q *fastQuery) send(result *sqltypes.Result) error {
	q.unwatch()
	return q.answer(result)
}

// encoding is room for the values of several rows.
type encoding struct {
	values []sqltypes.Value
	bytes  []byte
}

// rowsRoom is of how many rows values are made at once.
const rowsRoom = 32

func (q *fastQuery) add(ctx *sql.Context, b *boundRead, result *sqltypes.Result, row sql.Row) error {
	if len(q.room.values) < len(row) {
		q.room.values = make([]sqltypes.Value, rowsRoom*len(row))
	}
	values := q.room.values[:len(row):len(row)]
	q.room.values = q.room.values[len(row):]
	err := b.encodeInto(ctx, &q.room.bytes, values, row)
	if err != nil {
		return err
	}
	result.Rows = append(result.Rows, values)
	result.RowsAffected++
	return nil
}
