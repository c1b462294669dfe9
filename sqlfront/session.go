package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
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
	// statement counts commands; begun is the last one that the transaction
	// was told of.
	statement, begun uint64
	past             []*txn.Txn // AS OF readers of the present statement
	described        struct {   // the answer of describing for one text
		text string
		yes  bool
	}
	temporary temporaryTables
	prepared  statementCache
	cached    statementCache
}

var (
	_ sql.TransactionSession    = (*Session)(nil)
	_ sql.LifecycleAwareSession = (*Session)(nil)
)

// Transaction is the engine's token for a session's transaction.
type Transaction struct {
	txn        *txn.Txn
	readOnly   bool
	savepoints []savepoint
	done       bool
}

type savepoint struct {
	name string
	at   txn.Savepoint
}

// String implements sql.Transaction.
func (t *Transaction) String() string { return t.txn.ID().String() }

// IsReadOnly implements sql.Transaction.
func (t *Transaction) IsReadOnly() bool { return t.readOnly }

func newSession(base *sql.BaseSession, server *Server) *Session {
	s := &Session{BaseSession: base, server: server, catalog: server.catalog}
	s.prepared.limit = server.config.PreparedStatements
	s.cached.limit = server.config.PreparedStatements
	return s
}

// sessionOf is the Session of a context.
func sessionOf(ctx *sql.Context) *Session { return ctx.Session.(*Session) }

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
		tx, err := s.StartTransaction(ctx, sql.ReadWrite)
		if err != nil {
			return nil, err
		}
		ctx.SetTransaction(tx)
	}
	if s.begun != s.statement {
		s.begun = s.statement
		s.tx.txn.SetLockWait(s.rowLockWait(ctx))
		s.tx.txn.BeginStatement(ctx, ctx.Query())
	}
	return s.tx.txn, nil
}

func (s *Session) readOnly() bool { return s.tx != nil && s.tx.readOnly }

// StartTransaction implements sql.TransactionSession. Nothing is sent yet. A
// live transaction is returned again: the engine asks for a second one inside
// CALL, and after paths on which it forgot the first.
func (s *Session) StartTransaction(ctx *sql.Context, c sql.TransactionCharacteristic) (sql.Transaction, error) {
	if s.tx != nil {
		if c == sql.ReadOnly {
			s.tx.readOnly = true
		}
		return s.tx, nil
	}
	readOnly := c == sql.ReadOnly || s.flag(ctx, "transaction_read_only")
	s.tx = &Transaction{readOnly: readOnly, txn: s.begin(ctx, readOnly)}
	s.begun = s.statement
	s.tx.txn.BeginStatement(ctx, ctx.Query())
	return s.tx, nil
}

// begin starts a transaction as the session variables ask for.
func (s *Session) begin(ctx *sql.Context, readOnly bool) *txn.Txn {
	autocommit := s.flag(ctx, "autocommit") && !ctx.GetIgnoreAutoCommit()
	return s.catalog.coordinator.Begin(txn.Options{
		// A SELECT that is its own transaction is serializable at its snapshot,
		// without locks (manual, 17.7.2.1, SERIALIZABLE).
		ReadOnly:          readOnly || autocommit && wire.PlainSelect(ctx.Query()),
		Isolation:         s.isolation(ctx),
		SnapshotIsolation: s.flagOr(ctx, "snapshot_isolation", true),
		Autocommit:        autocommit,
		LockWait:          s.rowLockWait(ctx),
		Label:             fmt.Sprintf("connection %d", s.ID()),
	})
}

func (s *Session) isolation(ctx *sql.Context) txn.Isolation {
	v, err := s.GetSessionVariable(ctx, "transaction_isolation")
	if err != nil {
		return txn.RepeatableRead
	}
	switch strings.ToUpper(fmt.Sprint(v)) {
	case "READ-COMMITTED", "READ-UNCOMMITTED":
		return txn.ReadCommitted
	case "SERIALIZABLE":
		return txn.Serializable
	}
	return txn.RepeatableRead
}

func (s *Session) flag(ctx *sql.Context, name string) bool { return s.flagOr(ctx, name, false) }

func (s *Session) flagOr(ctx *sql.Context, name string, missing bool) bool {
	v, err := s.GetSessionVariable(ctx, name)
	if err != nil || v == nil {
		return missing
	}
	b, err := sql.ConvertToBool(ctx, v)
	return err == nil && b
}

// rowLockWait is the session's lock wait timeout; 0 means the default.
func (s *Session) rowLockWait(ctx *sql.Context) time.Duration {
	return s.seconds(ctx, "innodb_lock_wait_timeout")
}

// seconds reads a variable that holds a number of seconds; 0 if it is unusable.
func (s *Session) seconds(ctx *sql.Context, name string) time.Duration {
	v, err := s.GetSessionVariable(ctx, name)
	if err != nil {
		return 0
	}
	n, _, err := types.Int64.Convert(ctx, v)
	if err != nil || n == nil {
		return 0
	}
	return time.Duration(min(n.(int64), 1<<30)) * time.Second
}

// CommitTransaction implements sql.TransactionSession. Whatever it returns, the
// transaction is over: the engine would keep a failed one.
func (s *Session) CommitTransaction(ctx *sql.Context, token sql.Transaction) error {
	t, ok := token.(*Transaction)
	if !ok || t.done || t != s.tx {
		return nil // ended before, as the inner one of CALL
	}
	var err error
	switch {
	case s.ddl != nil:
		err = s.commitChange(ctx, t.txn)
	case ctx.Err() != nil && t.txn.Writes() > 0:
		err = ctx.Err() // killed: nothing of the statement may stay
	default:
		err = t.txn.Commit(ctx)
	}
	if err != nil {
		t.txn.Rollback(context.WithoutCancel(ctx))
	}
	s.over(ctx)
	return numbered(err)
}

// over clears the state of a transaction that has ended.
func (s *Session) over(ctx *sql.Context) {
	s.abandonOrForget()
	if s.tx != nil {
		s.tx.done = true
		s.tx = nil
	}
	s.catalog.locks.ReleaseAll(&s.holder)
	if ctx != nil {
		ctx.SetIgnoreAutoCommit(false)
	}
	s.BaseSession.SetTransaction(nil)
}

// abandonOrForget drops the schema change. What a committed one built is in
// use and must not be given up.
func (s *Session) abandonOrForget() {
	if s.ddl != nil && s.ddl.published {
		s.ddl = nil
	}
	s.abandonChange()
}

// restart commits what is open and goes on in a new transaction under the same
// token, before a schema change.
func (s *Session) restart(ctx *sql.Context) error {
	if s.tx == nil {
		_, err := s.txn(ctx)
		return err
	}
	err := s.tx.txn.Commit(ctx)
	s.catalog.locks.ReleaseAll(&s.holder)
	ctx.SetIgnoreAutoCommit(false)
	s.tx.savepoints = nil
	if err != nil {
		s.over(ctx)
		return numbered(err)
	}
	s.tx.txn = s.catalog.begin(fmt.Sprintf("connection %d", s.ID()))
	s.begun = s.statement
	s.tx.txn.BeginStatement(ctx, ctx.Query())
	return nil
}

// refresh lets a schema change read what its own builds have committed.
func (s *Session) refresh(ctx *sql.Context) {
	if s.tx != nil {
		s.tx.txn.BeginStatement(ctx, ctx.Query())
	}
}

// Rollback implements sql.TransactionSession.
func (s *Session) Rollback(ctx *sql.Context, token sql.Transaction) error {
	t, ok := token.(*Transaction)
	if !ok || t.done || t != s.tx {
		return nil
	}
	err := t.txn.Rollback(context.WithoutCancel(ctx))
	s.over(ctx)
	return err
}

// CreateSavepoint implements sql.TransactionSession.
func (s *Session) CreateSavepoint(ctx *sql.Context, _ sql.Transaction, name string) error {
	tx, err := s.txn(ctx)
	if err != nil {
		return err
	}
	if i := s.tx.savepoint(name); i >= 0 {
		s.tx.savepoints = append(s.tx.savepoints[:i], s.tx.savepoints[i+1:]...)
	}
	s.tx.savepoints = append(s.tx.savepoints, savepoint{strings.ToLower(name), tx.Savepoint()})
	return nil
}

// RollbackToSavepoint implements sql.TransactionSession. Locks stay.
func (s *Session) RollbackToSavepoint(_ *sql.Context, _ sql.Transaction, name string) error {
	i := -1
	if s.tx != nil {
		i = s.tx.savepoint(name)
	}
	if i < 0 {
		return sql.ErrSavepointDoesNotExist.New(name)
	}
	if err := s.tx.txn.Aborted(); err != nil {
		return numbered(err)
	}
	s.tx.txn.RollbackTo(s.tx.savepoints[i].at)
	s.tx.savepoints = s.tx.savepoints[:i+1]
	return nil
}

// ReleaseSavepoint implements sql.TransactionSession.
func (s *Session) ReleaseSavepoint(_ *sql.Context, _ sql.Transaction, name string) error {
	i := -1
	if s.tx != nil {
		i = s.tx.savepoint(name)
	}
	if i < 0 {
		return sql.ErrSavepointDoesNotExist.New(name)
	}
	s.tx.savepoints = s.tx.savepoints[:i]
	return nil
}

func (t *Transaction) savepoint(name string) int {
	for i, p := range t.savepoints {
		if p.name == strings.ToLower(name) {
			return i
		}
	}
	return -1
}

// failed looks at an error of the layer below: some end the transaction, and
// then the session has none any more (MySQL does the same on error 1213).
func (s *Session) failed(err error) error {
	var e *txn.Error
	if errors.As(err, &e) && e.Code.Fatal() && s.tx != nil {
		s.tx.txn.Rollback(context.Background())
		s.tx.done = true
		s.tx = nil
		s.abandonChange()
		s.catalog.locks.ReleaseAll(&s.holder)
		s.BaseSession.SetTransaction(nil)
		s.BaseSession.SetIgnoreAutoCommit(false)
	}
	return numbered(err)
}

// numbered gives an error of the layers below its MySQL number before the
// engine sees it, for the engine makes a text without a number of every error
// type that it does not know.
func numbered(err error) error {
	var e *txn.Error
	if !errors.As(err, &e) {
		return err
	}
	return wire.MapError(err)
}

// CommandBegin implements sql.LifecycleAwareSession.
func (s *Session) CommandBegin() error {
	s.statement++
	return nil
}

// CommandEnd implements sql.LifecycleAwareSession. An implicit transaction that
// the engine left open, as it does when a statement fails, ends here.
func (s *Session) CommandEnd() {
	ctx := context.Background()
	for _, past := range s.past {
		past.Rollback(ctx)
	}
	s.past = nil
	if s.GetIgnoreAutoCommit() || !s.autocommit() {
		s.abandonChange()
		return
	}
	if s.tx != nil {
		s.tx.txn.Rollback(ctx)
	}
	s.over(nil)
}

// autocommit reads the variable without a query context.
func (s *Session) autocommit() bool {
	ctx := sql.NewContext(context.Background(), sql.WithSession(s))
	return s.flagOr(ctx, "autocommit", true)
}

// SessionEnd implements sql.LifecycleAwareSession. The engine calls it under a
// lock that every connection needs, so the rollback, which may wait for the
// network, goes its own way.
func (s *Session) SessionEnd() {
	tx := s.tx
	s.tx = nil
	s.abandonChange()
	s.temporary.dropAll(s)
	past := s.past
	s.past = nil
	if tx == nil && len(past) == 0 {
		s.catalog.locks.ReleaseAll(&s.holder)
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
