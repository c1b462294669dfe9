package sqlfront

import (
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/mysql"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// transactionID is ROWLOCK_TRANSACTION_ID(): the id of the open transaction, NULL
// without one. A client notes it to be able to ask after an unknown outcome (1180,
// 2013) what became of the transaction.
func transactionID(ctx *sql.Context, _ *txn.Advisory, _ string, _ []any) (any, error) {
	s := sessionOf(ctx)
	if s.tx == nil {
		return nil, nil
	}
	id, err := s.tx.txn.Identify(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	return id.String(), nil
}

// transactionStatus is ROWLOCK_TRANSACTION_STATUS(id).
func transactionStatus(ctx *sql.Context, _ *txn.Advisory, text string, _ []any) (any, error) {
	id, ok := storage.ParseTxnID(text)
	if !ok {
		return nil, mysql.NewSQLError(1411, "HY000", "Incorrect transaction id value: '%s' for function rowlock_transaction_status", text)
	}
	outcome, err := sessionOf(ctx).catalog.coordinator.Outcome(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("status of transaction %s: %w", id, numbered(err))
	}
	return string(outcome), nil
}
