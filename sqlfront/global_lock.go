package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/mysql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// globalLock is the metadata lock of every schema change, beside that of what it
// changes. FLUSH TABLES WITH READ LOCK takes it to read, and all tables.
const globalLock = ":global"

// globalRead is FLUSH TABLES WITH READ LOCK of a session. It outlives transactions
// and LOCK TABLES, and takes nothing from the session but writing.
type globalRead struct {
	active  bool
	changes catalog.Holder // of globalLock
	tables  catalog.Holder
	claims  []*claim // the same locks on other nodes
}

func (g *globalRead) check() error {
	if g.active {
		return mysql.NewSQLError(1223, "HY000", "Can't execute the query because you have a conflicting read lock")
	}
	return nil
}

// refuse tells why the session cannot write.
func (g *globalRead) refuse(mode catalog.Mode) error {
	if mode == catalog.SharedRead || mode == catalog.ReadOnly {
		return nil
	}
	return g.check()
}

// flushWithReadLock is FLUSH TABLES WITH READ LOCK: it commits what is open, waits
// for schema changes and for transactions that have written, and keeps new ones
// away, on all nodes.
func (s *Session) flushWithReadLock(ctx *sql.Context) error {
	switch {
	case !s.server.privileged(ctx, sql.PrivilegeType_Reload, ""):
		return mysql.NewSQLError(1227, "42000", "Access denied; you need (at least one of) the RELOAD privilege(s) for this operation")
	case s.locked.active:
		return mysql.NewSQLError(1192, "HY000", "Can't execute the given command because you have active locked tables or an active transaction")
	case s.global.active:
		return nil
	}
	if err := s.commitOpen(ctx); err != nil {
		return err
	}
	// No table comes or goes once the first lock is there, so the list is complete.
	err := s.claimGlobally(ctx, &s.global.changes, []catalog.Request{{Name: globalLock, Mode: catalog.ReadOnly}})
	if err == nil {
		err = s.claimGlobally(ctx, &s.global.tables, s.allTables())
	}
	if err != nil {
		s.releaseGlobal()
		return s.lockTimeout("all tables", err)
	}
	s.global.active = true
	return nil
}

func (s *Session) claimGlobally(ctx *sql.Context, h *catalog.Holder, requests []catalog.Request) error {
	c, err := s.server.lockEverywhere(ctx, h, requests, s.metadataWait(ctx))
	if c != nil {
		s.global.claims = append(s.global.claims, c)
	}
	return err
}

// allTables are the requests that keep writers from every table.
func (s *Session) allTables() (requests []catalog.Request) {
	for _, schema := range s.catalog.snapshot.Load().Schemas() {
		requests = append(requests, catalog.Request{Name: schemaLock(schema.Name), Mode: catalog.SharedRead})
		for name := range schema.Tables {
			requests = append(requests, catalog.Request{Name: tableLock(schema.Name, strings.ToLower(name)), Mode: catalog.ReadOnly})
		}
	}
	return requests
}

// releaseGlobal ends FLUSH TABLES WITH READ LOCK.
func (s *Session) releaseGlobal() {
	s.catalog.locks.ReleaseAll(&s.global.tables)
	s.catalog.locks.ReleaseAll(&s.global.changes)
	for _, c := range s.global.claims {
		s.server.unclaim(c)
	}
	s.global.active, s.global.claims = false, nil
}
