package sqlfront

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// numbered rows: (1, 1, 'r1'), (2, 2, 'r2'), ...
func insertRows(table string, from, to int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO %s VALUES ", table)
	for i := from; i <= to; i++ {
		if i > from {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d,%d,'r%d')", i, i, i)
	}
	return b.String()
}

// Statements over more rows than a page do what they would do row by row: a row
// sees what became of the rows before it, a duplicate undoes the statement and
// nothing else, its locks stay.
func TestStatementsOfManyRows(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "")
	run(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, n INT, v VARCHAR(20), UNIQUE KEY (n), KEY (v))",
		"CREATE TABLE d.u LIKE d.t")
	a, b := connection(t, db), connection(t, db)
	const rows = pageRows + 500
	count := func(table, where string) string {
		return query(t, b, "SELECT COUNT(*), CAST(COALESCE(SUM(id), 0) AS SIGNED) FROM d."+table+" WHERE "+where)[0]
	}
	sum := func(n int) string { return fmt.Sprintf("%d,%d", n, n*(n+1)/2) }

	t.Run("INSERT and INSERT ... SELECT", func(t *testing.T) {
		run(t, a, insertRows("d.t", 1, rows), "INSERT INTO d.u SELECT * FROM d.t")
		require.Equal(t, sum(rows), count("t", "TRUE"))
		require.Equal(t, sum(rows), count("u", "v LIKE 'r%'"))
		require.Equal(t, sum(rows), count("u", "n > 0"))
	})
	t.Run("a duplicate beyond the first page undoes the statement", func(t *testing.T) {
		run(t, a, "BEGIN", "INSERT INTO d.t VALUES (-1,-1,'kept')")
		many := insertRows("d.t", rows+1, 2*rows) + fmt.Sprintf(",(%d,%d,'twice')", 3*rows, rows+7)
		requireNumber(t, 1062, "23000", attempt(a, many))
		run(t, b, "SET innodb_lock_wait_timeout = 1")
		requireNumber(t, 1205, "HY000", attempt(b, fmt.Sprintf("INSERT INTO d.t VALUES (%d,NULL,NULL)", rows+1)))
		run(t, a, "COMMIT")
		require.Equal(t, []string{"-1,-1,kept"}, query(t, b, fmt.Sprintf("SELECT * FROM d.t WHERE id < 1 OR id > %d", rows)))
		run(t, a, "DELETE FROM d.t WHERE id < 0")
	})
	t.Run("UPDATE in the order of its rows", func(t *testing.T) {
		// Each row takes the key that the row before has left.
		run(t, a, "UPDATE d.t SET id = id - 1, n = n - 1 ORDER BY id")
		require.Equal(t, fmt.Sprintf("%d,%d", rows, rows*(rows-1)/2), count("t", "TRUE"))
		require.Equal(t, "1,5", count("t", "n = 5"))
		// The other way round the first row meets the second.
		requireNumber(t, 1062, "23000", attempt(a, "UPDATE d.t SET id = id + 1 ORDER BY id"))
		requireNumber(t, 1062, "23000", attempt(a, "UPDATE d.t SET n = 7"))
		run(t, a, "UPDATE d.t SET id = id + 1, n = n + 1 ORDER BY id DESC")
		require.Equal(t, sum(rows), count("t", "TRUE"))
		run(t, a, "UPDATE d.t SET v = 'same'")
		require.Equal(t, sum(rows), count("t", "v = 'same'"))
		require.Equal(t, "0,0", count("t", "v = 'r3'"))
	})
	t.Run("nothing of a transaction that is rolled back", func(t *testing.T) {
		run(t, a, "BEGIN", "UPDATE d.t SET v = 'gone'", "DELETE FROM d.u WHERE id > 0", insertRows("d.u", 1, rows), "ROLLBACK")
		require.Equal(t, sum(rows), count("t", "v = 'same'"))
		require.Equal(t, sum(rows), count("u", "v LIKE 'r%'"))
	})
	t.Run("own writes are seen", func(t *testing.T) {
		run(t, a, "BEGIN", "DELETE FROM d.u WHERE id > 10", insertRows("d.u", 11, rows), "UPDATE d.u SET v = 'new' WHERE n > 20", "DELETE FROM d.u WHERE v = 'new'", "COMMIT")
		require.Equal(t, sum(20), count("u", "TRUE"))
		require.Equal(t, sum(20), count("u", "v LIKE 'r%'"))
	})
	t.Run("triggers look at the table in between", func(t *testing.T) {
		run(t, a, "USE d", "CREATE TABLE d.log (id INT PRIMARY KEY, left_over INT)",
			"CREATE TRIGGER d.watch AFTER DELETE ON d.u FOR EACH ROW INSERT INTO d.log SELECT MAX(OLD.id), COUNT(*) FROM d.u",
			"DELETE FROM d.u WHERE id > 17 ORDER BY id")
		require.Equal(t, []string{"18,19", "19,18", "20,17"}, query(t, b, "SELECT * FROM d.log ORDER BY id"))
		run(t, a, "DROP TRIGGER d.watch")
	})
	t.Run("foreign keys", func(t *testing.T) {
		run(t, a, "CREATE TABLE d.child (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES d.u (id) ON DELETE CASCADE)",
			"INSERT INTO d.child SELECT id, id FROM d.u")
		requireNumber(t, 1452, "23000", attempt(a, "UPDATE d.child SET up = up + 1 ORDER BY id"))
		run(t, a, "DELETE FROM d.u WHERE id > 5")
		require.Equal(t, sum(5), count("child", "TRUE"))
		require.Equal(t, sum(5), count("u", "TRUE"))
	})
}

// Beyond txn_total_size_limit a statement gets error 1197 and leaves nothing; the
// transaction goes on.
func TestSizeLimitOfATransaction(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "")
	run(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, n INT, v VARCHAR(20))")
	c := connection(t, db)
	require.Equal(t, []string{"0"}, query(t, c, "SELECT @@txn_total_size_limit"))
	run(t, c, "SET SESSION txn_total_size_limit = 20000", "BEGIN", "INSERT INTO d.t VALUES (0,0,'kept')")
	requireNumber(t, 1197, "HY000", attempt(c, insertRows("d.t", 1, 1000)))
	run(t, c, insertRows("d.t", 1, 10), "COMMIT")
	require.Equal(t, []string{"11"}, query(t, c, "SELECT COUNT(*) FROM d.t"))
	requireNumber(t, 1197, "HY000", attempt(c, insertRows("d.t", 11, 1000)))
	require.Equal(t, []string{"11"}, query(t, c, "SELECT COUNT(*) FROM d.t"))
	run(t, c, "SET SESSION txn_total_size_limit = 0", insertRows("d.t", 11, 1000))
	require.Equal(t, []string{"1001"}, query(t, c, "SELECT COUNT(*) FROM d.t"))
}
