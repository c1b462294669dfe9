package sqlfront

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/vt/sqlparser"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// tableLocks are what LOCK TABLES has locked for a session. The metadata locks
// belong to the session, not to its transactions; what a transaction finds held
// here it does not lock itself. Whoever gives them up ends the transaction first.
type tableLocks struct {
	holder  catalog.Holder
	active  bool // also when nothing but temporary tables was named
	tables  []lockedTable
	checked uint64 // the last statement that was compared with tables
	claim   *claim // the same locks on other nodes; nil: there are none
}

// lockedTable is a table of the list: its tableLock name, the name that statements
// must call it by, and whether it may be written.
type lockedTable struct {
	name, alias string
	write       bool
}

func errNotLocked(table string) error {
	return mysql.NewSQLError(mysql.ERTableNotLocked, "HY000", "Table '%s' was not locked with LOCK TABLES", table)
}

func errLockedToRead(table string) error {
	return mysql.NewSQLError(mysql.ERTableNotLockedForWrite, "HY000", "Table '%s' was locked with a READ lock and can't be updated", table)
}

// refuse tells why the session cannot have a metadata lock beside its LOCK TABLES:
// waiting for it could be waiting for itself. Tables that are only used, by views,
// triggers, procedures and foreign keys, are locked as without LOCK TABLES.
func (l *tableLocks) refuse(name string, mode catalog.Mode) error {
	schema, table, isTable := strings.Cut(name, "/")
	switch {
	case !l.active || mode == catalog.SharedRead || strings.Contains(schema, ":"):
		return nil
	case !isTable:
		return mysql.NewSQLError(1192, "HY000",
			"Can't execute the given command because you have active locked tables or an active transaction")
	case l.holder.Holds(name, catalog.ReadOnly):
		return errLockedToRead(table)
	case mode == catalog.Exclusive:
		return errNotLocked(table)
	}
	return nil
}

// lockToWrite takes the metadata lock of a statement that writes rows.
func (t *Table) lockToWrite(ctx *sql.Context) error {
	if t.info.temporary {
		return nil
	}
	return t.session.lockMode(ctx, t.info.lock, catalog.SharedWrite)
}

// lockToRead is lockToWrite before a scan that locks rows exclusively: before it
// has any row that somebody under LOCK TABLES could wait for.
func (t *Table) lockToRead(ctx *sql.Context) error {
	if t.read.lock != txn.LockExclusive || t.read.tx != nil {
		return nil
	}
	return t.lockToWrite(ctx)
}

// lockTables is LOCK TABLES. It commits what is open, gives up what a former one
// has locked, and gets all of its tables at once or none.
func (s *Session) lockTables(ctx *sql.Context, n *plan.LockTables) error {
	tables, modes, err := s.lockList(ctx, n)
	if err != nil {
		return err
	}
	err = s.commitOpen(ctx)
	s.releaseTables()
	if err != nil {
		return err
	}
	if err := s.acquireTables(ctx, modes); err != nil {
		s.releaseTables()
		return err
	}
	s.locked.active, s.locked.tables, s.locked.checked = true, tables, s.statement
	return nil
}

// lockList is what LOCK TABLES names, and the metadata locks for it.
func (s *Session) lockList(ctx *sql.Context, n *plan.LockTables) ([]lockedTable, map[string]catalog.Mode, error) {
	var stmt *sqlparser.LockTables
	switch text := s.parsed(ctx).(type) {
	case *sqlparser.LockTables:
		stmt = text
	case *sqlparser.Execute:
		return nil, nil, mysql.NewSQLError(1295, "HY000", "This command is not supported in the prepared statement protocol yet")
	default:
		return nil, nil, mysql.NewSQLError(1314, "0A000", "LOCK is not allowed in stored procedures")
	}
	if len(stmt.Tables) != len(n.Locks) {
		return nil, nil, fmt.Errorf("LOCK TABLES of %d tables was planned for %d", len(stmt.Tables), len(n.Locks))
	}
	var tables []lockedTable
	modes := map[string]catalog.Mode{}
	for i, l := range n.Locks {
		entry, temporary, err := s.lockEntry(ctx, stmt.Tables[i].Table, l.Write)
		if err != nil {
			return nil, nil, err
		}
		if temporary {
			continue
		}
		if slices.ContainsFunc(tables, func(o lockedTable) bool { return o.alias == entry.alias }) {
			return nil, nil, mysql.NewSQLError(mysql.ERNonUniqTable, "42000", "Not unique table/alias: '%s'", entry.alias)
		}
		tables = append(tables, entry)
		mode := catalog.ReadOnly
		if l.Write {
			mode = catalog.Exclusive
		}
		for _, name := range tablesBelow(ctx, l.Table) {
			modes[name] = max(modes[name], mode)
		}
	}
	return tables, modes, nil
}

// lockEntry is an entry of the list, as it is written.
func (s *Session) lockEntry(ctx *sql.Context, e sqlparser.TableExpr, write bool) (entry lockedTable, temporary bool, err error) {
	aliased, ok := e.(*sqlparser.AliasedTableExpr)
	if !ok {
		return entry, false, fmt.Errorf("LOCK TABLES of %s", sqlparser.String(e))
	}
	name, ok := aliased.Expr.(sqlparser.TableName)
	if !ok {
		return entry, false, fmt.Errorf("LOCK TABLES of %s", sqlparser.String(e))
	}
	database := databaseOf(ctx, name)
	entry = lockedTable{name: tableLock(database, name.Name.String()), alias: strings.ToLower(aliased.As.String()), write: write}
	if entry.alias == "" {
		entry.alias = entry.name // by its full name: a and b.a are two
	}
	return entry, s.temporary.find(database, name.Name.String()) != nil, nil
}

// tablesBelow are the metadata locks of the tables that a planned name stands for:
// one, or those of a view.
func tablesBelow(ctx *sql.Context, n sql.Node) []string {
	var names []string
	transform.InspectWithOpaque(ctx, n, func(_ *sql.Context, n sql.Node) bool {
		if t, ok := n.(*plan.ResolvedTable); ok {
			if own := ownTable(t.Table); own != nil && !own.info.temporary {
				names = append(names, own.info.lock)
			}
		}
		return true
	})
	return names
}

// acquireTables locks all tables and their schemas at once, on all nodes. The tables
// were found before they were locked; they must be there still.
func (s *Session) acquireTables(ctx *sql.Context, modes map[string]catalog.Mode) error {
	var tables []catalog.Request
	for name, mode := range modes {
		tables = append(tables, catalog.Request{Name: name, Mode: mode})
	}
	slices.SortFunc(tables, func(a, b catalog.Request) int { return cmp.Compare(a.Name, b.Name) })
	if len(tables) == 0 {
		return nil
	}
	requests := slices.Clone(tables)
	for _, r := range tables {
		schema, _, _ := strings.Cut(r.Name, "/")
		if r := (catalog.Request{Name: schema, Mode: catalog.SharedRead}); !slices.Contains(requests, r) {
			requests = append(requests, r)
		}
	}
	var err error
	s.locked.claim, err = s.server.lockEverywhere(ctx, &s.locked.holder, requests, s.metadataWait(ctx))
	if err != nil {
		return s.lockTimeout(tables[0].Name, err)
	}
	for _, r := range tables {
		schema, table, _ := strings.Cut(r.Name, "/")
		info, err := s.lookupTable(schema, table)
		if err != nil {
			return err
		}
		if info == nil {
			return sql.ErrTableNotFound.New(table)
		}
	}
	return nil
}

// unlockTables is UNLOCK TABLES: it commits, if LOCK TABLES is in force, and ends
// FLUSH TABLES WITH READ LOCK, which does not commit.
func (s *Session) unlockTables(ctx *sql.Context) error {
	s.releaseGlobal()
	if !s.locked.active {
		return nil
	}
	err := s.commitOpen(ctx)
	s.releaseTables()
	return err
}

func (s *Session) commitOpen(ctx *sql.Context) error {
	if s.tx == nil {
		s.catalog.locks.ReleaseAll(&s.holder)
		return nil
	}
	return s.commit(ctx)
}

// releaseTables ends LOCK TABLES. No transaction that relied on it is open.
func (s *Session) releaseTables() {
	s.giveUpTables()
	s.locked.active, s.locked.tables = false, nil
}

// giveUpTables gives up the locks of LOCK TABLES, here and on other nodes.
func (s *Session) giveUpTables() {
	s.catalog.locks.ReleaseAll(&s.locked.holder)
	s.server.unclaim(s.locked.claim)
	s.locked.claim = nil
}

// stillLocked is nil if what the session has locked holds on all nodes.
func (s *Session) stillLocked(now time.Time) error {
	if err := s.locked.claim.check(now); err != nil {
		return err
	}
	for _, c := range s.global.claims {
		if err := c.check(now); err != nil {
			return err
		}
	}
	return nil
}

// followChange keeps the list right after a schema change: a table that was
// renamed is locked under its new name, one that is gone no longer. When none is
// left, LOCK TABLES has ended.
func (s *Session) followChange(d *schemaChange) {
	if !s.locked.active {
		return
	}
	left := len(s.locked.tables)
	defer func() {
		if s.locked.active {
			s.server.changeClaim(context.Background(), s.locked.claim, s.locked.holder.Held())
		}
	}()
	for _, gone := range d.changes {
		if gone.Kind != catalog.KindTable || gone.Value != nil {
			continue
		}
		name := tableLock(gone.Database, gone.Name)
		s.catalog.locks.Release(&s.locked.holder, name)
		to := d.renamed[name]
		if to != "" {
			s.catalog.locks.Pass(&s.holder, &s.locked.holder, to)
		}
		s.locked.move(name, to)
	}
	if left > 0 && len(s.locked.tables) == 0 {
		s.releaseTables()
	}
}

// move renames a table of the list, or removes it.
func (l *tableLocks) move(name, to string) {
	for i := range l.tables {
		t := &l.tables[i]
		if t.name == name && to != "" {
			if t.alias == name {
				t.alias = to
			}
			t.name = to
		}
	}
	l.tables = slices.DeleteFunc(l.tables, func(t lockedTable) bool { return t.name == name })
}
