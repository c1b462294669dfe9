package sqlfront

import (
	"context"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// Admin changes the cluster. An error that an operator can act upon says why.
type Admin interface {
	// Drain takes a node's shards away until it is started again; Undrain takes
	// Drain and Leave back.
	Drain(ctx context.Context, node uint64) error
	Undrain(ctx context.Context, node uint64) error
	// Leave moves a node's replicas to others; Remove forgets a node that has none.
	Leave(ctx context.Context, node uint64) error
	Remove(ctx context.Context, node uint64) error
	// SetReplication asks for a number of replicas of every shard, 0: by the
	// number of nodes.
	SetReplication(ctx context.Context, replicas int) error
	// PreserveVersion keeps the cluster's version as it is until FinalizeVersion.
	PreserveVersion(ctx context.Context) error
	FinalizeVersion(ctx context.Context) error
}

// procedure is a procedure of the database rowlock. The engine looks procedures of
// a program's own up by their name alone; so that a user's procedure of the same
// name is not hidden, they are found only in statements that name the database.
type procedure struct {
	name   string
	schema sql.Schema
	// call is a function as sql.ExternalStoredProcedureDetails describes it.
	call any
}

// clusterProcedures are the procedures of operators.
func (s *Server) clusterProcedures() []procedure {
	a := s.config.Admin
	if a == nil {
		return nil
	}
	one := func(name string, do func(context.Context, uint64) error) procedure {
		return procedure{name: name, schema: doneSchema, call: func(ctx *sql.Context, node uint64) (sql.RowIter, error) {
			return s.administered(ctx, func() error { return do(ctx, node) })
		}}
	}
	all := func(name string, do func(context.Context) error) procedure {
		return procedure{name: name, schema: doneSchema, call: func(ctx *sql.Context) (sql.RowIter, error) {
			return s.administered(ctx, func() error { return do(ctx) })
		}}
	}
	return []procedure{
		one("drain_node", a.Drain), one("undrain_node", a.Undrain), one("leave_node", a.Leave), one("remove_node", a.Remove),
		all("preserve_version", a.PreserveVersion), all("finalize_version", a.FinalizeVersion),
		one("set_replication_factor", func(ctx context.Context, replicas uint64) error {
			err := a.SetReplication(ctx, int(min(replicas, 1000)))
			if err == nil {
				s.ShowReplication(replicas)
			}
			return err
		}),
	}
}

// doneSchema is the result of a procedure that says only that it is done.
var doneSchema = sql.Schema{{Name: "result", Type: types.LongText, Source: systemDatabaseName}}

// administered runs what only an administrator may do.
func (s *Server) administered(ctx *sql.Context, do func() error) (sql.RowIter, error) {
	if !s.isAdministrator(ctx) {
		return nil, sql.ErrPrivilegeCheckFailed.New(ctx.Client().User)
	}
	if err := do(); err != nil {
		return nil, err
	}
	return sql.RowsToRowIter(sql.Row{"ok"}), nil
}

// isAdministrator reports whether the session's user has SUPER.
func (s *Server) isAdministrator(ctx *sql.Context) bool {
	users := s.engine.Analyzer.Catalog.MySQLDb
	return !users.Enabled() || users.UserHasPrivileges(ctx, sql.NewPrivilegedOperation(sql.PrivilegeCheckSubject{}, sql.PrivilegeType_Super))
}

var _ sql.ExternalStoredProcedureProvider = (*Provider)(nil)

// ExternalStoredProcedure implements sql.ExternalStoredProcedureProvider.
func (p *Provider) ExternalStoredProcedure(ctx *sql.Context, name string, _ int) (*sql.ExternalStoredProcedureDetails, error) {
	found, ok := p.procedures[strings.ToLower(name)]
	if !ok || !namesSystemDatabase(ctx) {
		return nil, nil
	}
	return &sql.ExternalStoredProcedureDetails{Name: found.name, Schema: found.schema, Function: found.call, ReadOnly: true}, nil
}

// ExternalStoredProcedures implements sql.ExternalStoredProcedureProvider.
func (p *Provider) ExternalStoredProcedures(ctx *sql.Context, name string) ([]sql.ExternalStoredProcedureDetails, error) {
	d, err := p.ExternalStoredProcedure(ctx, name, 0)
	if d == nil || err != nil {
		return nil, err
	}
	return []sql.ExternalStoredProcedureDetails{*d}, nil
}

func namesSystemDatabase(ctx *sql.Context) bool {
	return strings.EqualFold(ctx.GetCurrentDatabase(), systemDatabaseName) ||
		strings.Contains(strings.ReplaceAll(strings.ToLower(ctx.Query()), "`", ""), systemDatabaseName+".")
}
