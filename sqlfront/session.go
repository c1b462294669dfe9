package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/vt/sqlparser"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/txn"
)

// Session is one client connection. It owns the transaction: what the engine
// holds as its transaction is a token that points here. The engine drops tokens
// without a word on some paths, and starts a second one inside CALL; neither
// may lose a lock or a write.
type Session struct {
	*sql.BaseSession
	server  *Server
	catalog *Catalog

	tx     *Transaction
	ddl    *schemaChange
	holder catalog.Holder
	locked tableLocks
	global globalRead
	// statement counts commands; begun is the last one that the transaction
	// was told of.
	statement, begun uint64
	changing         uint64     // the last one that changes rows
	past             []*txn.Txn // AS OF readers of the present statement
	rereads          rereads
	described        struct { // the answer of describing for one text
		text string
		yes  bool
	}
	planned   planTime
	stale     error // why the schema may be old; statements that use no table do not mind
	temporary temporaryTables
	next      nextTransaction
	leaving   atomic.Bool   // the client leaves after the present answer
	advisory  *txn.Advisory // nil before the first GET_LOCK
	prepared  statementCache
	cached    statementCache
	plain     *sql.Context // for reading variables outside of a statement
	known     sessionVariables
	fast      fastSession
	name      string     // see label
	load      *plainLoad // the LOAD DATA that runs, if not all its lines go through the engine
}

var (
	_ sql.TransactionSession    = (*Session)(nil)
	_ sql.LifecycleAwareSession = (*Session)(nil)
)

func newSession(base *sql.BaseSession, server *Server) *Session {
	s := &Session{BaseSession: base, server: server, catalog: server.catalog}
	s.holder.Within(&s.locked.holder)
	s.prepared.limit = server.config.PreparedStatements
	s.cached.limit = server.config.PreparedStatements
	s.plain = sql.NewContext(context.Background(), sql.WithSession(s))
	s.matchTwins()
	return s
}

// sessionOf is the Session of a context.
func sessionOf(ctx *sql.Context) *Session {
	if s, ok := ctx.Session.(*earlySession); ok {
		return s.Session
	}
	return ctx.Session.(*Session)
}

// snapshot is the schema as this session sees it.
func (s *Session) snapshot() *catalog.Snapshot {
	if s.ddl != nil {
		return s.ddl.view
	}
	return s.catalog.snapshot.Load()
}

// tableInfo is a table as this session sees it, nil if there is none.
func (s *Session) tableInfo(database, table string) *tableInfo {
	info, err := s.lookupTable(database, table)
	if err != nil {
		return nil
	}
	return info
}

func (s *Session) lookupTable(database, table string) (*tableInfo, error) {
	schema := s.snapshot().Schema(database)
	if schema == nil {
		return nil, nil
	}
	desc := schema.Table(table)
	if desc == nil {
		return nil, nil
	}
	if s.ddl == nil {
		return s.catalog.info(schema, desc)
	}
	if info := s.ddl.tables[desc]; info != nil {
		return info, nil
	}
	info, err := compileTable(schema.Name, desc)
	if err == nil {
		s.ddl.tables[desc] = info
	}
	return info, err
}

// txn is the live transaction, told of the present statement.
func (s *Session) txn(ctx *sql.Context) (*txn.Txn, error) {
	if s.tx == nil {
		if _, err := s.StartTransaction(ctx, sql.ReadWrite); err != nil {
			return nil, err
		}
	}
	s.settle(ctx)
	if s.begun != s.statement {
		s.begun = s.statement
		s.tx.txn.SetLockWait(s.variables().rowLockWait)
		s.tx.txn.BeginStatement(ctx, ctx.Query())
	}
	return s.tx.txn, nil
}

func (s *Session) readOnly() bool { return s.tx != nil && s.tx.readOnly }

// failed looks at an error of the layer below: some end the transaction, and
// then the session has none any more (MySQL does the same on error 1213).
func (s *Session) failed(err error) error {
	var e *txn.Error
	shown := s.explained(err)
	if errors.As(err, &e) && endsTransaction(e.Code) && s.tx != nil {
		s.tx.txn.Rollback(context.Background())
		s.spend(s.tx)
		s.tx.done = true
		s.tx = nil
		s.abandonChange()
		s.catalog.locks.ReleaseAll(&s.holder)
		s.BaseSession.SetIgnoreAutoCommit(false)
	}
	return shown
}

// numbered gives an error of the layers below its MySQL number before the
// engine sees it, for the engine makes a text without a number of every error
// type that it does not know.
func numbered(err error) error {
	if err == nil {
		return nil
	}
	var e *txn.Error
	if !errors.As(err, &e) {
		return err
	}
	return wire.MapError(err)
}

// CommandBegin implements sql.LifecycleAwareSession. A gateway that has not asked
// for schema changes for long asks before the statement is planned.
func (s *Session) CommandBegin() error {
	s.statement++
	s.stale = nil
	defer func() { s.planned = s.catalog.follower.planTime() }()
	if s.catalog.follower.fresh() {
		return nil
	}
	if s.variables().characteristics.staleness > 0 {
		s.stale = errUnasked // what it reads may be old enough
		return nil
	}
	s.hear()
	return nil
}

// hear asks for schema changes, and remembers if that failed.
func (s *Session) hear() {
	s.stale = nil
	ctx, cancel := context.WithTimeout(context.Background(), planFor)
	defer cancel()
	if err := s.catalog.follower.refresh(ctx); err != nil {
		s.stale = unheard(ctx, err)
	}
}

// unheard is the error of a statement for which the schema could not be asked. That
// the time for it ran out does not mean that the client has ended anything.
func unheard(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return &txn.Error{Code: txn.Unavailable, Detail: "this node cannot reach the system shard and may not know the schema any more"}
}

// CommandEnd implements sql.LifecycleAwareSession. An implicit transaction that
// the engine left open, as it does when a statement fails, ends here.
func (s *Session) CommandEnd() {
	s.fast.capture = nil
	ctx := context.Background()
	for _, past := range s.past {
		past.Rollback(ctx)
	}
	s.past = nil
	if s.tx == nil {
		s.SetIgnoreAutoCommit(false) // nothing is open, so nothing is explicit
	}
	if s.GetIgnoreAutoCommit() || !s.autocommit() {
		s.abandonChange()
		return
	}
	if s.tx != nil {
		s.tx.txn.Rollback(ctx)
	}
	s.over(nil)
}

// label is what the session's transactions are called.
func (s *Session) label() string {
	if s.name == "" {
		s.name = fmt.Sprintf("connection %d", s.ID())
	}
	return s.name
}

// SessionEnd implements sql.LifecycleAwareSession. The engine calls it under a
// lock that every connection needs, so the rollback, which may wait for the
// network, goes its own way.
func (s *Session) SessionEnd() {
	tx := s.tx
	s.tx = nil
	s.abandonChange()
	s.temporary.dropAll(s)
	s.endAdvisory()
	past := s.past
	s.past = nil
	if tx == nil && len(past) == 0 {
		s.catalog.locks.ReleaseAll(&s.holder)
		s.giveUpTables()
		s.releaseGlobal()
		return
	}
	s.server.background.Go(func() {
		for _, p := range past {
			p.Rollback(context.Background())
		}
		if tx != nil {
			tx.txn.Rollback(context.Background())
		}
		s.catalog.locks.ReleaseAll(&s.holder)
		s.giveUpTables()
		s.releaseGlobal()
	})
}

// Parsed statements are kept in bounded caches: the engine's maps grow with
// every distinct text until the client leaves.

// PrepareQuery implements sql.Session.
func (s *Session) PrepareQuery(query string, stmt sqlparser.Statement) { s.prepared.put(query, stmt) }

// GetPreparedQuery implements sql.Session.
func (s *Session) GetPreparedQuery(query string) (sqlparser.Statement, bool) {
	return s.prepared.get(query)
}

// UnprepareQuery implements sql.Session.
func (s *Session) UnprepareQuery(query string) { s.prepared.remove(query) }

// CacheQuery implements sql.Session.
func (s *Session) CacheQuery(query string, stmt sqlparser.Statement) { s.cached.put(query, stmt) }

// GetCachedQuery implements sql.Session.
func (s *Session) GetCachedQuery(query string) (sqlparser.Statement, bool) {
	return s.cached.get(query)
}
