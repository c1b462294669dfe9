package sqlfront

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

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
	return id.String() + "-" + s.server.ownerTag(ctx.Client().User, id), nil
}

// ownerTag marks an id as one that this user's transaction was given: only a server of
// the cluster can make it, so it shows wherever the user asks, years and sessions later.
func (s *Server) ownerTag(user string, id storage.TxnID) string {
	mac := hmac.New(sha256.New, s.config.Secret)
	mac.Write(id.Append(nil))
	mac.Write([]byte(user))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// mayAsk tells whether the session may know what became of a transaction: its own
// user's, or with the PROCESS privilege any.
func (s *Server) mayAsk(ctx *sql.Context, id storage.TxnID, tag string) bool {
	own := hmac.Equal([]byte(tag), []byte(s.ownerTag(ctx.Client().User, id)))
	return own || s.privileged(ctx, sql.PrivilegeType_Process, "")
}

// transactionStatus is ROWLOCK_TRANSACTION_STATUS(id). The id is that of
// ROWLOCK_TRANSACTION_ID(), or of the view of transactions, which has no tag.
func transactionStatus(ctx *sql.Context, _ *txn.Advisory, text string, _ []any) (any, error) {
	bare, tag := text, ""
	if strings.Count(text, "-") == 3 {
		bare, tag = text[:strings.LastIndex(text, "-")], text[strings.LastIndex(text, "-")+1:]
	}
	id, ok := storage.ParseTxnID(bare)
	if !ok {
		return nil, mysql.NewSQLError(1411, "HY000", "Incorrect transaction id value: '%s' for function rowlock_transaction_status", text)
	}
	if !sessionOf(ctx).server.mayAsk(ctx, id, tag) {
		return nil, mysql.NewSQLError(1227, "42000", "Access denied; you need (at least one of) the PROCESS privilege(s) for this operation")
	}
	outcome, err := sessionOf(ctx).catalog.coordinator.Outcome(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("status of transaction %s: %w", id, numbered(err))
	}
	return string(outcome), nil
}
