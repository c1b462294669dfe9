package sqlfront

import (
	"context"
	"fmt"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/txn"
)

// Transaction is the engine's token for a session's transaction.
type Transaction struct {
	characteristics
	txn        *txn.Txn
	implicit   bool // begun as the transaction of a single statement
	explicit   bool // begun by START TRANSACTION, or chained to one that ended
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

// GetTransaction implements sql.Session: the session's own transaction, whatever
// the engine believes. Around CALL the engine puts another transaction in its
// place and the former one back afterwards, also when the procedure has ended it;
// later statements then ran in a transaction that nobody would ever commit.
func (s *Session) GetTransaction() sql.Transaction {
	if s.tx == nil {
		return nil
	}
	return s.tx
}

// SetTransaction implements sql.Session. The session decides itself: see
// StartTransaction, CommitTransaction, Rollback and CommandEnd.
func (s *Session) SetTransaction(sql.Transaction) {}

// StartTransaction implements sql.TransactionSession. Nothing is sent yet. A
// live transaction is returned again: the engine asks for a second one inside
// CALL, and after paths on which it forgot the first.
func (s *Session) StartTransaction(ctx *sql.Context, c sql.TransactionCharacteristic) (sql.Transaction, error) {
	if s.tx == nil {
		s.startTransaction(ctx, c, s.implicit(ctx) && wire.PlainSelect(ctx.Query()))
	}
	return s.tx, nil
}

// startTransaction is StartTransaction where there is none. plain says that the
// statement only reads (wire.PlainSelect).
func (s *Session) startTransaction(ctx *sql.Context, c sql.TransactionCharacteristic, plain bool) {
	next := s.characteristics()
	next.readOnly = next.readOnly || c == sql.ReadOnly
	s.tx = &Transaction{implicit: s.implicit(ctx), characteristics: next, txn: s.begin(ctx, next, plain)}
	s.begun = s.statement
	s.tx.txn.BeginStatement(ctx, ctx.Query())
}

// begin starts a transaction as the session variables ask for. The access mode
// READ ONLY is not the layer's below: temporary tables may be written, and FOR
// SHARE may lock.
func (s *Session) begin(ctx *sql.Context, c characteristics, plain bool) *txn.Txn {
	autocommit, v := s.implicit(ctx), s.variables()
	o := txn.Options{
		// A SELECT that is its own transaction is serializable at its snapshot,
		// without locks (manual, 17.7.2.1, SERIALIZABLE).
		ReadOnly:          autocommit && plain,
		Isolation:         c.isolation,
		SnapshotIsolation: c.firstWins,
		DurableLocks:      c.durable,
		Autocommit:        autocommit,
		LockWait:          v.rowLockWait,
		MaxBytes:          v.sizeLimit,
		Label:             s.label(),
		Connection:        uint64(s.ID()),
	}
	if o.ReadOnly || !autocommit && c.readOnly {
		o.Staleness, o.Latest = c.staleness, s.catalog.follower.latest()
	}
	return s.catalog.coordinator.Begin(o)
}

// implicit tells whether a statement that begins now is its own transaction.
func (s *Session) implicit(ctx *sql.Context) bool {
	return s.autocommit() && !ctx.GetIgnoreAutoCommit()
}

// settle begins again a transaction that has sent nothing yet, if it would be
// another now: the engine starts one with every statement, before that statement
// has said what the transaction is to be.
func (s *Session) settle(ctx *sql.Context) {
	t := s.tx
	if t == nil || t.explicit || !t.txn.ID().IsZero() || t.txn.Writes() > 0 {
		return
	}
	implicit, c := s.implicit(ctx), s.characteristics()
	if implicit == t.implicit && c == t.characteristics {
		return
	}
	t.txn.Rollback(ctx) // it has sent nothing
	t.implicit, t.characteristics, t.txn = implicit, c, s.begin(ctx, c, implicit && wire.PlainSelect(ctx.Query()))
	t.txn.BeginStatement(ctx, ctx.Query())
}

func (s *Session) isolation(ctx *sql.Context) txn.Isolation {
	v, err := s.GetSessionVariable(ctx, "transaction_isolation")
	if err != nil {
		return txn.RepeatableRead
	}
	return isolationOf(fmt.Sprint(v))
}

// CommitTransaction implements sql.TransactionSession: the engine asks for it
// at the end of a statement. It asks too often: after a statement that reads a
// view, because planning the view looked like defining it. What has to be
// committed is known here.
func (s *Session) CommitTransaction(ctx *sql.Context, token sql.Transaction) error {
	t, ok := token.(*Transaction)
	if !ok || t.done || t != s.tx {
		return nil // ended before, as the inner one of CALL
	}
	if s.ddl == nil && (t.explicit || !s.implicit(ctx)) {
		return nil
	}
	return s.commit(ctx)
}

// commit commits what is open. Whatever it returns, the transaction is over: the
// engine would keep a failed one.
func (s *Session) commit(ctx *sql.Context) error {
	t := s.tx
	if t == nil {
		return nil
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
		s.spend(s.tx)
		s.tx.done = true
		s.tx = nil
	}
	s.catalog.locks.ReleaseAll(&s.holder)
	if ctx != nil {
		ctx.SetIgnoreAutoCommit(false)
	}
}

// spend forgets what SET TRANSACTION said, if t was the transaction it meant.
func (s *Session) spend(t *Transaction) {
	if t.explicit || !t.txn.ID().IsZero() {
		s.next = nextTransaction{}
	}
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
	s.spend(s.tx)
	s.tx.savepoints, s.tx.explicit = nil, false
	if err != nil {
		s.over(ctx)
		return numbered(err)
	}
	s.tx.txn = s.catalog.begin(s.label())
	s.begun = s.statement
	s.tx.txn.BeginStatement(ctx, ctx.Query())
	return nil
}

// refresh lets a schema change read what its own builds have committed.
func (s *Session) refresh(ctx *sql.Context) {
	s.rereads.changed()
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
	s.rereads.changed()
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
