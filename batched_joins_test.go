package rowlock_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Three nodes answer joins in batches as they answer them row by row, from wherever
// they are asked.
func TestBatchedJoinsOnThreeNodes(t *testing.T) {
	c := newCluster(t, 3)
	c.replicated()
	c.exec(0, "CREATE DATABASE app")
	c.exec(0, "CREATE TABLE app.a (id INT PRIMARY KEY, k INT, u INT)")
	c.exec(0, "CREATE TABLE app.b (id INT PRIMARY KEY, k INT, u INT, KEY (k), UNIQUE KEY (u))")
	var a, b []string
	for i := range 90 {
		a = append(a, fmt.Sprintf("(%d,%d,%d)", i, i%40, i*3))
		b = append(b, fmt.Sprintf("(%d,%d,%d)", i*2, i%25, i))
	}
	c.exec(0, "INSERT INTO app.a VALUES "+strings.Join(a, ","))
	c.exec(1, "INSERT INTO app.b VALUES "+strings.Join(b, ","))
	c.exec(2, "INSERT INTO app.b VALUES (1001,NULL,NULL),(1002,NULL,NULL)")
	ask := func(at, batched int, query string) (rows []string) {
		c.patiently(query, func() error {
			rows = nil
			conn, err := c.nodes[at].db.Conn(t.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.ExecContext(t.Context(), fmt.Sprintf("SET rowlock_batched_joins = %d", batched)); err != nil {
				return err
			}
			found, err := conn.QueryContext(t.Context(), query)
			if err != nil {
				return err
			}
			defer found.Close()
			for found.Next() {
				var x, y sql.NullInt64
				if err := found.Scan(&x, &y); err != nil {
					return err
				}
				rows = append(rows, fmt.Sprint(x, y))
			}
			return found.Err()
		})
		return rows
	}
	hint := "SELECT /*+ LOOKUP_JOIN(a,b) JOIN_ORDER(a,b) */ "
	queries := []string{
		hint + "a.id, b.u FROM app.a JOIN app.b ON b.id = a.u",
		hint + "a.id, b.id FROM app.a LEFT JOIN app.b ON b.u = a.u",
		hint + "a.id, b.id FROM app.a JOIN app.b ON b.k = a.k WHERE a.id % 3 = 0",
		hint + "a.id, b.id FROM app.a LEFT JOIN app.b ON b.k = a.k AND b.id > a.u LIMIT 70",
		hint + "a.id, a.k FROM app.a WHERE EXISTS (SELECT 1 FROM app.b WHERE b.id = a.u)",
	}
	for i, q := range queries {
		want := ask(i%3, 0, q)
		require.NotEmpty(t, want, q)
		require.Equal(t, want, ask(i%3, 1, q), q)
	}
}
