package sqlfront

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
)

// With snapshot_isolation OFF a transaction can change rows that are newer than
// its snapshot. It then sees its own version of them, once, by every index.
func TestOwnWritesAheadOfTheSnapshot(t *testing.T) {
	for _, index := range []string{"KEY by_k (k)", "UNIQUE KEY by_k (k)", "KEY by_k (k, v)"} {
		t.Run(index, func(t *testing.T) {
			_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, v INT, "+index+")", "INSERT INTO t VALUES (1, 5, 0), (2, 50, 0), (3, 60, 0)")
			c := connection(t, db)
			run(t, c, "SET SESSION snapshot_isolation = OFF", "BEGIN")
			require.Equal(t, "1 5 0;2 50 0;3 60 0;", text(t, c, "SELECT id, k, v FROM t WHERE k > 0 ORDER BY id"))
			run(t, db, "UPDATE t SET k = 6 WHERE id = 1", "INSERT INTO t VALUES (4, 7, 0)", "UPDATE t SET k = 8 WHERE id = 2", "UPDATE t SET k = 9 WHERE id = 3")
			run(t, c, "UPDATE t SET v = 1 WHERE id = 1", "INSERT INTO t VALUES (4, 7, 0) ON DUPLICATE KEY UPDATE v = 1", "DELETE FROM t WHERE id = 2")
			// Row 3 is not ours: it stays as the snapshot has it.
			want := "1 6 1;3 60 0;4 7 1;"
			require.Equal(t, want, text(t, c, "SELECT id, k, v FROM t ORDER BY id"))
			require.Equal(t, want, text(t, c, "SELECT id, k, v FROM t WHERE k > 0 ORDER BY id"))
			require.Equal(t, "1 6 1;", text(t, c, "SELECT id, k, v FROM t WHERE k = 6"))
			require.Equal(t, "4 7 1;", text(t, c, "SELECT id, k, v FROM t WHERE k = 7"))
			require.Empty(t, text(t, c, "SELECT id, k, v FROM t WHERE k = 5"))
			require.Equal(t, "6;7;60;", text(t, c, "SELECT k FROM t WHERE k > 0 ORDER BY k"))
			run(t, c, "COMMIT")
			require.Equal(t, "1 6 1;3 9 0;4 7 1;", text(t, c, "SELECT id, k, v FROM t WHERE k > 0 ORDER BY id"))
		})
	}
}

// text is a query's answer, a semicolon behind each row.
func text(t *testing.T, c *sql.Conn, query string) string {
	t.Helper()
	rows, err := c.QueryContext(context.Background(), query)
	require.NoError(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(t, err)
	values := make([]string, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	out := ""
	for rows.Next() {
		require.NoError(t, rows.Scan(into...))
		for i, v := range values {
			if i > 0 {
				out += " "
			}
			out += v
		}
		out += ";"
	}
	require.NoError(t, rows.Err())
	return out
}
