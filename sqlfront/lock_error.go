package sqlfront

import (
	"errors"
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/mysql"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// endsTransaction tells whether an error leaves nothing of the transaction.
// innodb_rollback_on_timeout makes a lock wait timeout such an error.
func endsTransaction(c txn.Code) bool {
	return c.Fatal() || c == txn.LockTimeout && rollbackOnTimeout()
}

func rollbackOnTimeout() bool {
	_, v, ok := sql.SystemVariables.GetGlobal("innodb_rollback_on_timeout")
	if !ok {
		return false
	}
	on, _, err := types.Boolean.Convert(sql.NewEmptyContext(), v)
	return err == nil && on != nil && on != int8(0)
}

// explained adds to the message of a wait that failed what it was for and who
// was in the way. Programs know these errors by number and by how the message
// begins, which stays as MySQL writes it.
func (s *Session) explained(err error) error {
	result := numbered(err)
	var e *txn.Error
	var shown *mysql.SQLError
	if !errors.As(err, &e) || !errors.As(result, &shown) || e.Key == nil {
		return result
	}
	switch e.Code {
	case txn.Conflict:
		return s.conflict(shown, e)
	case txn.Deadlock, txn.LockTimeout, txn.WouldBlock:
	default:
		return result
	}
	more := s.catalog.keyNames().describe(e.Key, nil).String()
	if !e.Other.IsZero() {
		more += ", in the way is transaction " + s.catalog.nameTransaction(e.Other)
	}
	if e.Cycle != "" {
		more += ", cycle " + e.Cycle
	}
	copied := *shown
	copied.Message = fmt.Sprintf("%s (%s)", shown.Message, more)
	return &copied
}

// conflict says which row changed after the snapshot, and who changed it. Its
// number is the one that programs try again on, or by choice MariaDB's (1020).
func (s *Session) conflict(shown *mysql.SQLError, e *txn.Error) error {
	key := s.catalog.keyNames().describe(e.Key, nil)
	copied := *shown
	if v, err := s.GetSessionVariable(s.plain, "snapshot_isolation_error"); err == nil && fmt.Sprint(v) == "CHECKREAD" {
		copied.Num, copied.State = 1020, "HY000"
		copied.Message = fmt.Sprintf("Record has changed since last read in table '%s'", key.table)
	}
	writer := ""
	if info, ok := s.catalog.coordinator.Recent(e.Other.Start); ok {
		writer = fmt.Sprintf(" by transaction %s of connection %d, whose last statement was: %s", info.ID, info.Connection, info.Statement)
	} else if !e.Other.IsZero() {
		writer = fmt.Sprintf(" by the transaction that started at %x", uint64(e.Other.Start))
	}
	copied.Message += fmt.Sprintf(" (%s was changed after this transaction's snapshot%s)", key, writer)
	return &copied
}

// nameTransaction adds the connection to a transaction's id, if it is one of this
// server's.
func (c *Catalog) nameTransaction(id storage.TxnID) string {
	if info, ok := c.coordinator.Info(id); ok && info.Connection != 0 {
		return fmt.Sprintf("%s of connection %d", id, info.Connection)
	}
	return id.String()
}
