package sqlfront

import (
	"context"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/sqltypes"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
)

// control answers BEGIN, COMMIT and ROLLBACK.
func (f *fastPath) control(ctx context.Context, q *fastQuery, plan *fastPlan) (bool, wire.Lesson, error) {
	s := q.session
	query, err := f.begin(ctx, q)
	if err != nil {
		return true, nil, sql.CastSQLError(err)
	}
	defer query.ProcessList.EndQuery(query)
	if err := s.CommandBegin(); err != nil {
		return true, nil, sql.CastSQLError(err)
	}
	defer s.CommandEnd()
	f.taken.Add(1)
	sql.IncrementStatusVariable(query, "Questions", 1)
	s.ClearWarnings()
	if err := s.controlled(query, plan.statement.Verb); err != nil {
		return true, nil, sql.CastSQLError(err)
	}
	// The engine takes them for reads of no rows.
	s.GetLastQueryInfo().RowCount.Store(-1)
	s.GetLastQueryInfo().FoundRows.Store(0)
	query.ProcessList.EndQuery(query)
	q.showState()
	return true, nil, q.answer(&sqltypes.Result{})
}

func (s *Session) controlled(ctx *sql.Context, verb fastpath.Verb) error {
	c := wire.Control{Access: wire.AccessDefault, Chain: wire.ChoiceDefault, Release: wire.ChoiceDefault}
	switch verb {
	case fastpath.Begin:
		return s.startExplicit(ctx, c)
	case fastpath.Commit:
		c.Verb = wire.ControlCommit
	default:
		c.Verb = wire.ControlRollback
	}
	return s.complete(ctx, c)
}
