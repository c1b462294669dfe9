package sqlfront

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

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

// Others than the user whose transaction it was need PROCESS; the user does not, on any
// node and in any session.
func TestTransactionStatusIsTheUsersOwn(t *testing.T) {
	g := newGateways(t, 2, Config{Secret: []byte("of the cluster")}, twoTables...)
	root := connection(t, g.on(1, "root", ""))
	run(t, root, "CREATE USER ann, bob, carl", "GRANT SELECT, INSERT ON d.* TO ann", "GRANT PROCESS ON *.* TO carl")
	made := g.servers[0].catalog.follower.settingsKnown()
	require.Eventually(t, func() bool { return g.servers[1].catalog.follower.settingsKnown() >= made }, time.Minute, 10*time.Millisecond,
		"accounts are in force on other gateways after a moment")
	on := func(at int, user string) *sql.Conn { return connection(t, g.on(at, user, "")) }
	first := on(1, "ann")
	run(t, first, "BEGIN", "INSERT INTO d.t VALUES (7)")
	id := one(t, first, "ROWLOCK_TRANSACTION_ID()")
	run(t, first, "COMMIT")
	bare := id[:strings.LastIndex(id, "-")]
	status := func(c *sql.Conn, id string) string {
		rows, err := tryQuery(c, "SELECT ROWLOCK_TRANSACTION_STATUS('"+id+"')")
		if err != nil {
			return fmt.Sprint(number(err))
		}
		return rows[0]
	}
	require.Equal(t, "committed", status(on(2, "ann"), id))
	require.Equal(t, "committed", status(on(2, "carl"), bare))
	require.Equal(t, "committed", status(root, bare))
	for _, asked := range []string{id, bare, bare + "-", bare + "-0000000000000000"} {
		require.Equal(t, "1227", status(on(2, "bob"), asked), asked)
	}
	require.Equal(t, "1227", status(first, bare), "anybody could have guessed it")
}
