package sqlfront

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A client that noted the id of its transaction learns from any node what became
// of it.
func TestTransactionStatus(t *testing.T) {
	g := newGateways(t, 2, Config{}, twoTables...)
	a, b := connection(t, g.on(1, "root", "")), connection(t, g.on(2, "root", ""))
	status := func(id string) string {
		t.Helper()
		return one(t, b, "ROWLOCK_TRANSACTION_STATUS('"+id+"')")
	}
	run(t, a, "BEGIN", "INSERT INTO d.t VALUES (7)", "INSERT INTO d.u VALUES (7)")
	id := one(t, a, "ROWLOCK_TRANSACTION_ID()")
	require.Equal(t, "undecided", status(id))
	run(t, a, "COMMIT")
	require.Equal(t, "committed", status(id))
	run(t, a, "BEGIN")
	next := one(t, a, "ROWLOCK_TRANSACTION_ID()")
	require.NotEqual(t, id, next)
	require.Equal(t, next, one(t, a, "ROWLOCK_TRANSACTION_ID()"))
	run(t, a, "ROLLBACK")
	require.Equal(t, "undecided", status(next), "it never voted")
	_, err := tryQuery(b, "SELECT ROWLOCK_TRANSACTION_STATUS('x')")
	require.Equal(t, 1411, number(err), "%v", err)
	require.Equal(t, "NULL", one(t, b, "ROWLOCK_TRANSACTION_STATUS(NULL)"))
}
