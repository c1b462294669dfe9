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

// nameTransaction adds the connection to a transaction's id, if it is one of this
// server's.
func (c *Catalog) nameTransaction(id storage.TxnID) string {
	if info, ok := c.coordinator.Info(id); ok && info.Connection != 0 {
		return fmt.Sprintf("%s of connection %d", id, info.Connection)
	}
	return id.String()
}
