package rowlock

import (
	"context"
	"database/sql"
	"net"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// A client whose connection ends in the middle of a transaction, politely, by a
// closed or by a reset socket, leaves nothing: its locks are free at once and what
// it wrote is not there.
func TestLocksOfAVanishedClientAreFree(t *testing.T) {
	node, err := Open(t.Context(), Options{Dir: t.TempDir(), Shards: 4})
	require.NoError(t, err)
	defer func() { require.NoError(t, node.Close(context.Background())) }()
	address, err := node.ListenMySQL("127.0.0.1:0")
	require.NoError(t, err)
	sockets := make(chan net.Conn, 100)
	dial := func(_ context.Context, addr string) (net.Conn, error) {
		c, err := net.Dial("tcp", addr)
		sockets <- c
		return c, err
	}
	mysql.RegisterDialContext("captured", dial)
	defer mysql.DeregisterDialContext("captured")
	stays, err := sql.Open("mysql", "root@tcp("+address.String()+")/")
	require.NoError(t, err)
	defer stays.Close()
	exec(t, stays, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, v INT)", "INSERT INTO shop.t VALUES (1000, 0), (2000, 0), (3000, 0), (4000, 0)")
	for name, end := range map[string]func(*sql.Conn, *net.TCPConn){
		"quit":   func(c *sql.Conn, _ *net.TCPConn) { _ = c.Raw(func(any) error { return context.Canceled }) },
		"closed": func(_ *sql.Conn, s *net.TCPConn) { s.Close() },
		"reset":  func(_ *sql.Conn, s *net.TCPConn) { _ = s.SetLinger(0); s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			vanishes, err := sql.Open("mysql", "root@captured("+address.String()+")/shop")
			require.NoError(t, err)
			defer vanishes.Close()
			c, err := vanishes.Conn(t.Context())
			require.NoError(t, err)
			for _, q := range []string{"BEGIN", "UPDATE t SET v = 1", "SELECT * FROM t WHERE id > 2000 FOR UPDATE"} {
				_, err := c.ExecContext(t.Context(), q)
				require.NoError(t, err)
			}
			end(c, (<-sockets).(*net.TCPConn))
			_ = c.Close()
			_ = vanishes.Close()

			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			tx, err := stays.BeginTx(ctx, nil)
			require.NoError(t, err)
			defer tx.Rollback()
			var sum int
			require.NoError(t, tx.QueryRowContext(ctx, "SELECT CAST(SUM(v) AS SIGNED) FROM (SELECT v FROM shop.t FOR UPDATE) q").Scan(&sum))
			require.Zero(t, sum)
			_, err = tx.ExecContext(ctx, "UPDATE shop.t SET v = 0")
			require.NoError(t, err)
		})
	}
}
