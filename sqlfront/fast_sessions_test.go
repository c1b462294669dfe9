package sqlfront

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is known of a statement serves many sessions at the same time, each of which
// finds its own rows and its own transaction.
func TestFastPathOfManySessions(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, c VARCHAR(20), KEY (k))", fillTwin(100))
	const sessions, rounds = 6, 20
	var wait sync.WaitGroup
	for n := range sessions {
		c := rawConnect(t, s.server, "root", "app", 0)
		wait.Go(func() {
			id := n*10 + 1
			for i := range rounds {
				mine := fmt.Sprintf("%d-%d", n, i)
				c.query("BEGIN")
				c.query(fmt.Sprintf("UPDATE t SET c = '%s' WHERE id = %d", mine, id))
				c.query(fmt.Sprintf("INSERT INTO t (id, k, c) VALUES (%d, 5, '%s')", 1000+n, mine))
				if got := value(c.query(fmt.Sprintf("SELECT c FROM t WHERE id = %d", 1000+n))); got != mine {
					t.Errorf("session %d reads %q, not %q", n, got, mine)
				}
				if got := value(c.query(fmt.Sprintf("SELECT c FROM t WHERE id BETWEEN %d AND %d ORDER BY id", id, id+4))); got != mine {
					t.Errorf("session %d finds %q first, not %q", n, got, mine)
				}
				c.query("SELECT DISTINCT c FROM t WHERE id BETWEEN 1 AND 90 ORDER BY c")
				c.query("SELECT SUM(k), COUNT(*) FROM t WHERE id BETWEEN 1 AND 90")
				c.query(fmt.Sprintf("DELETE FROM t WHERE id = %d", 1000+n))
				c.query(fmt.Sprintf("UPDATE t SET k = k + 1 WHERE id = %d", id+1))
				c.query([]string{"COMMIT", "ROLLBACK"}[i%2])
			}
		})
	}
	wait.Wait()
	for n := range sessions {
		before, id := (n*10+1)*7%100, n*10+2
		require.Equal(t, []string{fmt.Sprint(before + rounds/2)}, query(t, db, fmt.Sprintf("SELECT k FROM t WHERE id = %d", id)))
		require.Equal(t, []string{fmt.Sprintf("%d-%d", n, rounds-2)}, query(t, db, fmt.Sprintf("SELECT c FROM t WHERE id = %d", id-1)))
	}
	require.Equal(t, []string{"0"}, query(t, db, "SELECT COUNT(*) FROM t WHERE id >= 1000"))
	require.Greater(t, s.server.fast.taken.Load(), uint64(sessions*rounds*5))
}

// value is the first column of the first row of an answer of one column.
func value(packets [][]byte) string {
	if len(packets) < 5 {
		return shown(packets)
	}
	return string(packets[3][1:])
}
