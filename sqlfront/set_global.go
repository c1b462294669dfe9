package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/vitess/go/mysql"
)

// mayAssign refuses SET GLOBAL and SET PERSIST to accounts without
// SYSTEM_VARIABLES_ADMIN or SUPER (manual, 7.1.9.1): the engine asks nobody.
func mayAssign(ctx *sql.Context, n *plan.Set) error {
	global := false
	for _, e := range n.Expressions() {
		sql.Inspect(ctx, e, func(_ *sql.Context, e sql.Expression) bool {
			field, ok := e.(*expression.SetField)
			if !ok {
				return true
			}
			if v, ok := field.Left().(*expression.SystemVar); ok {
				global = global || beyondSession(v)
			}
			return false // what is assigned may read anything
		})
	}
	if !global {
		return nil
	}
	users := sessionOf(ctx).server.engine.Analyzer.Catalog.MySQLDb
	if !users.Enabled() ||
		users.UserHasPrivileges(ctx, sql.NewPrivilegedOperation(sql.PrivilegeCheckSubject{}, sql.PrivilegeType_Super)) ||
		users.UserHasPrivileges(ctx, sql.NewDynamicPrivilegedOperation("system_variables_admin")) {
		return nil
	}
	return mysql.NewSQLError(1227, "42000",
		"Access denied; you need (at least one of) the SUPER or SYSTEM_VARIABLES_ADMIN privilege(s) for this operation")
}

// beyondSession tells whether an assignment to v changes more than this session.
func beyondSession(v *expression.SystemVar) bool {
	scope, ok := v.Scope.(*sql.MysqlScope)
	return !ok || scope.Type != sql.SystemVariableScope_Session
}
