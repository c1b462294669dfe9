package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/vitess/go/mysql"
)

// requireTLS and replicationFactor are variables of which an assignment does something.
const (
	requireTLS        = "require_secure_transport"
	replicationFactor = "rowlock_replication_factor"
)

// mayAssign refuses SET GLOBAL and SET PERSIST to accounts without
// SYSTEM_VARIABLES_ADMIN or SUPER (manual, 7.1.9.1): the engine asks nobody. What
// belongs to the cluster is changed there.
func mayAssign(ctx *sql.Context, n *plan.Set) error {
	var global []*expression.SetField
	for _, e := range n.Expressions() {
		sql.Inspect(ctx, e, func(_ *sql.Context, e sql.Expression) bool {
			field, ok := e.(*expression.SetField)
			if !ok {
				return true
			}
			if v, ok := field.Left().(*expression.SystemVar); ok && beyondSession(v) {
				global = append(global, field)
			}
			return false // what is assigned may read anything
		})
	}
	if len(global) == 0 {
		return nil
	}
	s := sessionOf(ctx).server
	if !s.privileged(ctx, sql.PrivilegeType_Super, "system_variables_admin") {
		return mysql.NewSQLError(1227, "42000",
			"Access denied; you need (at least one of) the SUPER or SYSTEM_VARIABLES_ADMIN privilege(s) for this operation")
	}
	for _, field := range global {
		if err := s.assigned(ctx, field); err != nil {
			return err
		}
	}
	return nil
}

// assigned does what an assignment is for, before the engine notes the value.
func (s *Server) assigned(ctx *sql.Context, field *expression.SetField) error {
	name := strings.ToLower(field.Left().(*expression.SystemVar).Name)
	if name != requireTLS && name != replicationFactor {
		return nil
	}
	value, err := field.Right().Eval(ctx, nil)
	if err != nil {
		return err
	}
	v, _, ok := sql.SystemVariables.GetGlobal(name)
	if !ok {
		return sql.ErrUnknownSystemVariable.New(name)
	}
	if value, _, err = v.GetType().Convert(ctx, value); err != nil {
		return err
	}
	if name == requireTLS {
		if s.config.TLS == nil && value == int8(1) {
			return mysql.NewSQLError(3160, "HY000",
				"No secure transports (SSL or Shared Memory) are configured, unable to set --require_secure_transport=ON.")
		}
		return nil
	}
	replicas, ok := value.(int64)
	if s.config.Admin == nil || !ok {
		return mysql.NewSQLError(1238, "HY000", "Variable '%s' is a read only variable", name)
	}
	return s.config.Admin.SetReplication(ctx, int(replicas))
}

// ShowReplication gives rowlock_replication_factor the value that the cluster has.
func (s *Server) ShowReplication(replicas uint64) {
	if s.replication.Swap(replicas+1) != replicas+1 {
		sql.SystemVariables.AssignValues(map[string]any{replicationFactor: int64(replicas)})
	}
}

// beyondSession tells whether an assignment to v changes more than this session.
func beyondSession(v *expression.SystemVar) bool {
	scope, ok := v.Scope.(*sql.MysqlScope)
	return !ok || scope.Type != sql.SystemVariableScope_Session
}

// GetSessionVariable implements sql.Session. The engine gives a session a copy of
// variables that are global only; of those that others change, the cluster among them,
// that would be out of date.
func (s *Session) GetSessionVariable(ctx *sql.Context, name string) (any, error) {
	if strings.EqualFold(name, replicationFactor) || strings.EqualFold(name, requireTLS) {
		_, v, _ := sql.SystemVariables.GetGlobal(name)
		return v, nil
	}
	return s.BaseSession.GetSessionVariable(ctx, name)
}
