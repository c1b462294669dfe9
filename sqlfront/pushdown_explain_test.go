package sqlfront

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// EXPLAIN says that owners choose rows where they would: not of what is locked.
func TestExplainOfLockingStatements(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)", "CREATE TABLE u LIKE t")
	c := connection(t, db)
	for _, tc := range []struct {
		setting, statement string
		owners             bool
	}{
		{"REPEATABLE READ", "SELECT * FROM t WHERE a = 3", true},
		{"REPEATABLE READ", "SELECT COUNT(*) FROM t WHERE a = 3", true},
		{"REPEATABLE READ", "SELECT * FROM t WHERE a = 3 FOR UPDATE", false},
		{"REPEATABLE READ", "UPDATE t SET b = 1 WHERE a = 3", false},
		{"REPEATABLE READ", "DELETE FROM t WHERE a = 3", false},
		{"REPEATABLE READ", "UPDATE t JOIN u USING (id) SET t.b = 1 WHERE t.a = 3", false},
		{"REPEATABLE READ", "DELETE t FROM t JOIN u USING (id) WHERE t.a = 3", false},
		{"REPEATABLE READ", "INSERT INTO u SELECT * FROM t WHERE a = 3", false},
		{"READ COMMITTED", "DELETE FROM t WHERE a = 3", false},
		{"SERIALIZABLE", "SELECT * FROM t WHERE a = 3", false},
	} {
		run(t, c, "SET SESSION TRANSACTION ISOLATION LEVEL "+tc.setting, "BEGIN")
		lines := query(t, c, "EXPLAIN "+tc.statement)
		run(t, c, "ROLLBACK")
		require.Equal(t, tc.owners, strings.Contains(strings.Join(lines, "\n"), "AtOwners"), "%s: %s %v", tc.setting, tc.statement, lines)
	}
	require.Contains(t, strings.Join(query(t, c, "EXPLAIN SELECT * FROM t WHERE a = 3"), "\n"), "AtOwners", "a SELECT that is its own transaction does not lock")
}
