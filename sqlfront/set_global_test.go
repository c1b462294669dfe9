package sqlfront

import (
	"database/sql"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// Global variables are for administrators.
func TestSetGlobalNeedsAPrivilege(t *testing.T) {
	s, db := app(t, "CREATE USER u@'%' IDENTIFIED BY 'p'", "CREATE USER boss@'%' IDENTIFIED BY 'p'",
		"GRANT SELECT ON app.* TO u@'%'", "GRANT ALL ON *.* TO boss@'%'")
	addr, err := s.server.Listen("127.0.0.1:0")
	require.NoError(t, err)
	as := func(user string) *sql.Conn {
		pool, err := sql.Open("mysql", fmt.Sprintf("%s:p@tcp(%s)/app?allowNativePasswords=true", user, addr.(*net.TCPAddr)))
		require.NoError(t, err)
		t.Cleanup(func() { pool.Close() })
		return connection(t, pool)
	}
	u := as("u")
	for _, q := range []string{"SET GLOBAL max_connections = 5", "SET @@GLOBAL.local_infile = 1", "SET SESSION sql_mode = '', GLOBAL max_connections = 5"} {
		require.Equal(t, 1227, number(attempt(u, q)), q)
	}
	run(t, u, "SET SESSION sql_mode = ''", "SET @a = 1", "SET autocommit = 0, NAMES utf8mb4")
	run(t, as("boss"), "SET GLOBAL max_execution_time = 0")
	run(t, db, "SET GLOBAL max_execution_time = 0")
	// Tools read these of every database.
	for _, q := range []string{"SELECT * FROM information_schema.TRIGGERS", "SHOW PROCEDURE STATUS", "SELECT * FROM information_schema.EVENTS"} {
		query(t, db, q)
	}
}
