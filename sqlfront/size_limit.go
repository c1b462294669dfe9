package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// sizeLimit is txn_total_size_limit: the most that the session's next transaction
// may write, in bytes; 0 leaves it to the server's own limit, which no session
// can exceed.
func (s *Session) sizeLimit(ctx *sql.Context) int64 {
	v, err := s.GetSessionVariable(ctx, "txn_total_size_limit")
	if err != nil {
		return 0
	}
	n, _, err := types.Int64.Convert(ctx, v)
	if err != nil || n == nil {
		return 0
	}
	return max(n.(int64), 0)
}
