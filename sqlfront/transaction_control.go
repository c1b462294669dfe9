package sqlfront

import (
	"fmt"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/vitess/go/mysql"

	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/txn"
)

// characteristics are the isolation level and the access mode of a transaction.
type characteristics struct {
	isolation txn.Isolation
	readOnly  bool
	firstWins bool          // snapshot_isolation
	durable   bool          // row_lock_durability is replicated
	staleness time.Duration // rowlock_read_staleness
}

// nextTransaction is what SET TRANSACTION has said of the next transaction only.
type nextTransaction struct{ isolation, readOnly string }

// oneShot reads what SET TRANSACTION without a scope assigned: a piece of its text.
func (s *Session) oneShot(ctx *sql.Context, value any) error {
	if s.inTransaction() {
		return mysql.NewSQLError(1568, "25001", "Transaction characteristics can't be changed while a transaction is in progress")
	}
	text := strings.ToLower(fmt.Sprint(value))
	if level, ok := strings.CutPrefix(text, "isolation level "); ok {
		s.next.isolation = strings.ReplaceAll(strings.ToUpper(level), " ", "-")
	} else {
		s.next.readOnly = text
	}
	s.settle(ctx)
	return nil
}

// inTransaction tells whether a transaction of several statements is going on.
func (s *Session) inTransaction() bool {
	return s.tx != nil && (s.tx.explicit || !s.tx.implicit && !s.tx.txn.ID().IsZero())
}

// level is the isolation level of the transaction that goes on.
func (s *Session) level() txn.Isolation {
	if s.tx == nil {
		return txn.RepeatableRead
	}
	return s.tx.isolation
}

// characteristics are those of a transaction that begins now.
func (s *Session) characteristics() characteristics {
	c := s.variables().characteristics
	if s.next.isolation != "" {
		c.isolation = isolationOf(s.next.isolation)
	}
	if s.next.readOnly != "" {
		c.readOnly = s.next.readOnly == "read only"
	}
	return c
}

func isolationOf(name string) txn.Isolation {
	switch strings.ToUpper(name) {
	case "READ-COMMITTED", "READ-UNCOMMITTED":
		return txn.ReadCommitted
	case "SERIALIZABLE":
		return txn.Serializable
	}
	return txn.RepeatableRead
}

// SetUserVariable implements sql.Session.
func (s *Session) SetUserVariable(ctx *sql.Context, name string, value any, typ sql.Type) error {
	if strings.EqualFold(name, wire.NextTransaction) {
		return s.oneShot(ctx, value)
	}
	return s.BaseSession.SetUserVariable(ctx, name, value, typ)
}

// SetSessionVariable implements sql.Session. autocommit that is switched on
// commits what is open; the two names of a characteristic keep one value.
func (s *Session) SetSessionVariable(ctx *sql.Context, name string, value any) error {
	lower := strings.ToLower(name)
	if lower == "autocommit" {
		on, err := sql.ConvertToBool(ctx, value)
		if err == nil && on && !s.autocommit() && s.tx != nil {
			if err := s.commit(ctx); err != nil {
				return err
			}
		}
	}
	if err := s.assign(ctx, name, value); err != nil {
		return err
	}
	if twin, ok := twins[lower]; ok {
		if err := s.assign(ctx, twin, value); err != nil {
			return err
		}
		s.settle(ctx)
	}
	return nil
}

// twins are the names that MySQL gave transaction characteristics before 8.0.
var twins = map[string]string{
	"transaction_isolation": "tx_isolation", "tx_isolation": "transaction_isolation",
	"transaction_read_only": "tx_read_only", "tx_read_only": "transaction_read_only",
}

// matchTwins gives the old names the values that the session starts with.
func (s *Session) matchTwins() {
	for _, name := range [...]string{"transaction_isolation", "transaction_read_only"} {
		if v, err := s.GetSessionVariable(s.plain, name); err == nil {
			s.assign(s.plain, twins[name], v)
		}
	}
}

// buildControl runs the statements that begin and end transactions.
func buildControl(ctx *sql.Context, n sql.Node) (sql.RowIter, bool, error) {
	s := sessionOf(ctx)
	var err error
	switch n := n.(type) {
	case *plan.StartTransaction:
		access := wire.AccessDefault
		if n.TransChar == sql.ReadOnly {
			access = wire.AccessReadOnly
		}
		err = s.startExplicit(ctx, wire.Control{Access: access})
	case *plan.Commit:
		err = s.complete(ctx, wire.Control{Verb: wire.ControlCommit, Chain: wire.ChoiceDefault, Release: wire.ChoiceDefault})
	case *plan.Rollback:
		err = s.complete(ctx, wire.Control{Verb: wire.ControlRollback, Chain: wire.ChoiceDefault, Release: wire.ChoiceDefault})
	case *plan.CreateSavepoint:
		c, ok := wire.DecodeControl(n.Name)
		if !ok {
			return nil, false, nil
		}
		switch c.Verb {
		case wire.ControlBegin:
			err = s.startExplicit(ctx, c)
		case wire.ControlFlush:
			err = s.flushWithReadLock(ctx)
		default:
			err = s.complete(ctx, c)
		}
	case *plan.LockTables:
		err = s.lockTables(ctx, n)
	case *plan.UnlockTables:
		err = s.unlockTables(ctx)
	case *plan.ShowProcessList:
		iter, err := s.showProcesses(ctx)
		return iter, true, err
	case *plan.Kill:
		iter, err := s.kill(ctx, n)
		return iter, true, err
	default:
		err = s.commitBefore(ctx, n)
		return nil, err != nil, err
	}
	return sql.RowsToRowIter(), true, err
}

// commitBefore ends the open transaction before a statement that MySQL makes an
// end of it (manual, 13.3.3), also if the statement then finds nothing to do.
// Changes of tables see to it themselves (Session.change).
func (s *Session) commitBefore(ctx *sql.Context, n sql.Node) error {
	switch n := n.(type) {
	case *plan.CreateTable:
		if n.Temporary() {
			return nil
		}
	case *plan.CreateDB, *plan.DropDB, *plan.AlterDB, *plan.CreateView, *plan.DropView, *plan.CreateTrigger, *plan.DropTrigger,
		*plan.CreateProcedure, *plan.DropProcedure, *plan.CreateEvent, *plan.DropEvent:
	case *plan.CreateUser, *plan.DropUser, *plan.AlterUser, *plan.RenameUser, *plan.CreateRole, *plan.DropRole,
		*plan.Grant, *plan.GrantRole, *plan.GrantProxy, *plan.Revoke, *plan.RevokeRole, *plan.RevokeProxy:
	case *plan.AnalyzeTable, *plan.FlushPrivileges:
	default:
		return nil
	}
	switch {
	case s.ddl != nil: // part of a schema change that has begun
		return nil
	case s.readOnly():
		return sql.ErrReadOnlyTransaction.New()
	}
	return s.commit(ctx)
}

// startExplicit is START TRANSACTION: it commits what is open.
func (s *Session) startExplicit(ctx *sql.Context, c wire.Control) error {
	if err := s.commit(ctx); err != nil {
		return err
	}
	s.releaseTables()
	next := s.characteristics()
	switch c.Access {
	case wire.AccessReadOnly:
		next.readOnly = true
	case wire.AccessReadWrite:
		next.readOnly = false
	}
	s.beginExplicit(ctx, next)
	if c.Snapshot && next.isolation == txn.RepeatableRead {
		_, err := s.tx.txn.Snapshot(ctx) // other levels: no effect (manual, 13.3.1)
		return s.failed(err)
	}
	return nil
}

// beginExplicit starts a transaction that lasts until it is ended by name.
func (s *Session) beginExplicit(ctx *sql.Context, c characteristics) {
	ctx.SetIgnoreAutoCommit(true)
	s.tx = &Transaction{explicit: true, characteristics: c, txn: s.begin(ctx, c, false)}
	s.begun = s.statement
	s.tx.txn.BeginStatement(ctx, ctx.Query())
}

// complete is COMMIT or ROLLBACK with what follows it, or what completion_type
// says of a plain one.
func (s *Session) complete(ctx *sql.Context, c wire.Control) error {
	if c.Chain == wire.ChoiceYes && c.Release == wire.ChoiceYes {
		return mysql.NewSQLError(1064, "42000", "You have an error in your SQL syntax: AND CHAIN and RELEASE exclude each other")
	}
	s.completion(ctx, &c)
	same := s.characteristics()
	var err error
	if s.tx != nil {
		same = s.tx.characteristics
		if c.Verb == wire.ControlCommit {
			err = s.commit(ctx)
		} else {
			err = s.Rollback(ctx, s.tx)
		}
	}
	ctx.SetIgnoreAutoCommit(false)
	switch {
	case err != nil:
		return err
	case c.Chain == wire.ChoiceYes:
		s.beginExplicit(ctx, same)
	case c.Release == wire.ChoiceYes:
		s.leaving.Store(true)
	}
	return nil
}

// completion fills what was not said from completion_type.
func (s *Session) completion(ctx *sql.Context, c *wire.Control) {
	if c.Chain != wire.ChoiceDefault || c.Release != wire.ChoiceDefault {
		return // a choice of either kind is complete
	}
	v, err := s.GetSessionVariable(ctx, "completion_type")
	if err != nil {
		return
	}
	switch strings.ToUpper(fmt.Sprint(v)) {
	case "CHAIN":
		c.Chain = wire.ChoiceYes
	case "RELEASE":
		c.Release = wire.ChoiceYes
	}
}

// Leaving tells the protocol that the connection ends after the answer to this
// statement: COMMIT RELEASE.
func (s *Session) Leaving() bool { return s.leaving.Load() }
