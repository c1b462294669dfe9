package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/vt/sqlparser"

	"github.com/rowlockdb/rowlock/sqlfront/wire"
)

// checkLocked compares the tables that the present statement names with those of
// LOCK TABLES, when the first of them is looked up: before it waits for anything.
// What views, triggers and procedures use is not named.
func (s *Session) checkLocked(ctx *sql.Context) error {
	if !s.locked.active || s.locked.checked == s.statement {
		return nil
	}
	stmt := s.parsed(ctx)
	if e, ok := stmt.(*sqlparser.Execute); ok {
		stmt, _ = s.prepared.get(e.Name)
	}
	c := lockCheck{session: s, ctx: ctx, common: map[string]bool{}}
	if err := c.statement(stmt); err != nil {
		return err
	}
	s.locked.checked = s.statement
	return nil
}

// parsed is the statement that runs, nil if its text is none.
func (s *Session) parsed(ctx *sql.Context) sqlparser.Statement {
	stmt, _, _, err := wire.NewParser().Parse(ctx, ctx.Query(), true)
	if err != nil {
		return nil
	}
	return stmt
}

// databaseOf is the database of a name in a statement.
func databaseOf(ctx *sql.Context, name sqlparser.TableName) string {
	if database := name.DbQualifier.String(); database != "" {
		return database
	}
	return ctx.GetCurrentDatabase()
}

// lockCheck walks a statement.
type lockCheck struct {
	session *Session
	ctx     *sql.Context
	common  map[string]bool // names of common table expressions
}

// statement checks statements that read or write rows. Schema changes meet the
// list where they lock what they change.
func (c *lockCheck) statement(stmt sqlparser.Statement) error {
	switch n := stmt.(type) {
	case *sqlparser.Select, *sqlparser.SetOp, *sqlparser.ParenSelect:
	case *sqlparser.Explain:
		return c.statement(n.Statement)
	case *sqlparser.Load:
		return c.named(n.Table, "", true)
	case *sqlparser.Insert:
		if err := c.named(n.Table, "", true); err != nil {
			return err
		}
	case *sqlparser.Update, *sqlparser.Delete:
	default:
		return nil
	}
	c.findCommon(stmt)
	if err := c.walk(stmt); err != nil {
		return err
	}
	return c.targets(stmt)
}

func (c *lockCheck) findCommon(stmt sqlparser.Statement) {
	sqlparser.Walk(func(n sqlparser.SQLNode) (bool, error) {
		if e, ok := n.(*sqlparser.CommonTableExpr); ok && e != nil {
			c.common[strings.ToLower(e.As.String())] = true
		}
		return true, nil
	}, stmt)
}

func (c *lockCheck) walk(stmt sqlparser.Statement) error {
	return sqlparser.Walk(func(n sqlparser.SQLNode) (bool, error) {
		e, ok := n.(*sqlparser.AliasedTableExpr)
		if !ok || e == nil {
			return true, nil
		}
		if name, ok := e.Expr.(sqlparser.TableName); ok {
			return true, c.named(name, e.As.String(), false)
		}
		return true, nil
	}, stmt)
}

// targets checks what an UPDATE or DELETE of one table writes, whether or not it
// finds a row, and the named targets of a DELETE. The targets of a joined UPDATE
// are known to its editors.
func (c *lockCheck) targets(stmt sqlparser.Statement) error {
	var from sqlparser.TableExprs
	switch n := stmt.(type) {
	case *sqlparser.Update:
		from = n.TableExprs
	case *sqlparser.Delete:
		from = n.TableExprs
	}
	if len(from) != 1 {
		return nil
	}
	e, ok := from[0].(*sqlparser.AliasedTableExpr)
	if !ok {
		return nil
	}
	name, ok := e.Expr.(sqlparser.TableName)
	if !ok {
		return nil
	}
	return c.named(name, e.As.String(), true)
}

// named checks one table that the statement names.
func (c *lockCheck) named(name sqlparser.TableName, alias string, write bool) error {
	table := name.Name.String()
	if name.DbQualifier.IsEmpty() && (c.common[strings.ToLower(table)] || strings.EqualFold(table, "dual")) {
		return nil
	}
	database := databaseOf(c.ctx, name)
	if c.session.snapshot().Schema(database) == nil || c.session.temporary.find(database, table) != nil {
		return nil // of the system, or unknown, or the session's own
	}
	lock := tableLock(database, table)
	shown, known := table, lock
	if alias != "" {
		shown, known = alias, strings.ToLower(alias)
	}
	for _, t := range c.session.locked.tables {
		if t.name != lock || t.alias != known && !(t.alias == lock && strings.EqualFold(alias, table)) {
			continue
		}
		if write && !t.write {
			return errLockedToRead(shown)
		}
		return nil
	}
	return errNotLocked(shown)
}
