package sqlfront

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lockedKeys shows, for keys of table t and u by their primary key, how others
// find them: x exclusively locked, s shared, - free. 15 and 35 are between and
// behind the rows 10, 20 and 30.
func lockedKeys(t testing.TB, probe *sql.Conn) string {
	t.Helper()
	var out []string
	for _, table := range []string{"t", "u"} {
		letters := table + ":"
		for _, key := range []int{10, 15, 20, 30, 35} {
			letters += lockOn(t, probe, table, key)
		}
		out = append(out, letters)
	}
	return strings.Join(out, " ")
}

func lockOn(t testing.TB, probe *sql.Conn, table string, key int) string {
	t.Helper()
	free := func(clause string) bool {
		_, err := tryQuery(probe, fmt.Sprintf("SELECT id FROM %s WHERE id = %d %s NOWAIT", table, key, clause))
		if err != nil {
			require.Equal(t, 3572, number(err), "%v", err)
		}
		return err == nil
	}
	switch {
	case free("FOR UPDATE"):
		return "-"
	case free("FOR SHARE"):
		return "s"
	}
	return "x"
}

// Three rows of t, two of u; v and w have indexes, n has none.
var lockSchema = []string{
	"CREATE TABLE t (id INT PRIMARY KEY, v INT, n INT, KEY v (v))",
	"CREATE TABLE u (id INT PRIMARY KEY, w INT, n INT, UNIQUE KEY w (w))",
	"INSERT INTO t VALUES (10, 1, 1), (20, 2, 2), (30, 3, 3)",
	"INSERT INTO u VALUES (10, 1, 1), (20, 5, 5), (30, 3, 3)",
	"CREATE TABLE dup (id INT PRIMARY KEY, v INT, n INT)",
	"CREATE VIEW tv AS SELECT * FROM t WHERE n < 3",
	"CREATE PROCEDURE share() SELECT * FROM t WHERE id = 10 FOR SHARE",
	"CREATE PROCEDURE consume() BEGIN DECLARE k INT; SELECT id INTO k FROM t WHERE v = 2 FOR UPDATE; UPDATE u SET n = 9 WHERE id = k; END",
	"CREATE TABLE trigged (id INT PRIMARY KEY, x INT)",
	"CREATE TRIGGER tr BEFORE INSERT ON trigged FOR EACH ROW SET NEW.x = (SELECT v FROM t WHERE id = 20 FOR UPDATE)",
}

func TestWhatAStatementLocks(t *testing.T) {
	_, db := app(t, lockSchema...)
	a, probe := connection(t, db), connection(t, db)
	for _, c := range []struct{ statement, repeatable, committed string }{
		{"SELECT * FROM t WHERE id = 10 FOR UPDATE",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"SELECT * FROM t WHERE id = 15 FOR UPDATE",
			"t:-x--- u:-----", "t:----- u:-----"},
		{"SELECT * FROM t WHERE id = 10 FOR SHARE",
			"t:s---- u:-----", "t:s---- u:-----"},
		{"SELECT * FROM t WHERE id = 10 LOCK IN SHARE MODE",
			"t:s---- u:-----", "t:s---- u:-----"},
		{"SELECT * FROM t WHERE id BETWEEN 10 AND 20 FOR UPDATE",
			"t:xxx-- u:-----", "t:x-x-- u:-----"},
		{"SELECT * FROM t WHERE v = 2 FOR UPDATE",
			"t:--x-- u:-----", "t:--x-- u:-----"},
		{"SELECT v FROM t WHERE v = 2 FOR UPDATE",
			"t:--x-- u:-----", "t:--x-- u:-----"},
		{"SELECT * FROM t WHERE v = 2 AND n = 9 FOR UPDATE",
			"t:--x-- u:-----", "t:----- u:-----"},
		{"SELECT * FROM t WHERE n = 2 FOR UPDATE",
			"t:xxxxx u:-----", "t:--x-- u:-----"},
		{"SELECT * FROM u WHERE w = 5 FOR UPDATE",
			"t:----- u:--x--", "t:----- u:--x--"},
		{"SELECT * FROM u WHERE w = 5 AND n = 9 FOR UPDATE",
			"t:----- u:--x--", "t:----- u:-----"},
		{"SELECT * FROM t ORDER BY id LIMIT 1 FOR UPDATE",
			"t:xxx-x u:-----", "t:x---- u:-----"},
		{"SELECT * FROM t WHERE n > 1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
			"t:--x-- u:-----", "t:--x-- u:-----"},
		{"SELECT * FROM t JOIN u ON t.id = u.id WHERE t.id = 10 FOR UPDATE",
			"t:x---- u:x----", "t:x---- u:x----"},
		{"SELECT * FROM t JOIN u ON t.id = u.id WHERE t.id = 10 FOR UPDATE OF u",
			"t:----- u:x----", "t:----- u:x----"},
		{"SELECT * FROM t AS x JOIN u ON x.id = u.id WHERE x.id = 10 FOR SHARE OF x NOWAIT",
			"t:s---- u:-----", "t:s---- u:-----"},
		{"SELECT * FROM (SELECT * FROM t WHERE id = 10) d FOR UPDATE",
			"t:----- u:-----", "t:----- u:-----"},
		{"SELECT * FROM (SELECT * FROM t WHERE id = 10 FOR UPDATE) d",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"SELECT * FROM t WHERE id = 10 AND v IN (SELECT n FROM u WHERE id = 20) FOR UPDATE",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"SELECT * FROM t WHERE id = (SELECT id FROM u WHERE id = 10 FOR SHARE)",
			"t:----- u:s----", "t:----- u:s----"},
		{"SELECT (SELECT v FROM t WHERE id = 10 FOR UPDATE)",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"WITH c AS (SELECT * FROM t WHERE id = 10) SELECT * FROM c FOR UPDATE",
			"t:----- u:-----", "t:----- u:-----"},
		{"WITH c AS (SELECT * FROM t WHERE id = 10 FOR UPDATE) SELECT * FROM c",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"(SELECT id FROM t WHERE id = 10 FOR UPDATE) UNION (SELECT id FROM u WHERE id = 10)",
			"t:xxxxx u:-----", "t:x---- u:-----"},
		{"SELECT id FROM t WHERE id = 10 UNION SELECT id FROM u WHERE id = 10 FOR SHARE",
			"t:sssss u:sssss", "t:s---- u:s----"},
		{"SELECT * FROM tv WHERE id = 10 FOR UPDATE",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"CALL share()",
			"t:s---- u:-----", "t:s---- u:-----"},
		{"CALL consume()",
			"t:--x-- u:--x--", "t:--x-- u:--x--"},
		{"INSERT INTO trigged VALUES (1, 1)",
			"t:--x-- u:-----", "t:--x-- u:-----"},
		{"UPDATE t SET n = 7 WHERE id = 10",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"UPDATE t SET n = 7 WHERE n = 2",
			"t:xxxxx u:-----", "t:--x-- u:-----"},
		{"UPDATE t SET n = 7 WHERE v = 2",
			"t:--x-- u:-----", "t:--x-- u:-----"},
		{"UPDATE t SET n = 7 ORDER BY id LIMIT 1",
			"t:xxxxx u:-----", "t:x---- u:-----"},
		{"UPDATE t SET n = (SELECT MAX(n) FROM u WHERE id < 15) WHERE id = 10",
			"t:x---- u:s----", "t:x---- u:-----"},
		{"UPDATE t SET n = 7 WHERE id IN (SELECT id FROM u WHERE w = 5)",
			"t:--x-- u:--s--", "t:--x-- u:-----"},
		{"UPDATE t JOIN u ON t.id = u.id SET t.n = 7 WHERE u.id = 10",
			"t:x---- u:s----", "t:x---- u:s----"},
		{"UPDATE t AS a JOIN u AS b ON a.id = b.id SET a.n = 7, b.n = 8 WHERE b.id = 10",
			"t:x---- u:x----", "t:x---- u:x----"},
		{"DELETE FROM t WHERE id = 10",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"DELETE FROM t WHERE n = 2",
			"t:xxxxx u:-----", "t:--x-- u:-----"},
		{"DELETE FROM t WHERE id IN (SELECT id FROM u WHERE w = 5)",
			"t:xxxxx u:--s--", "t:x-xx- u:--s--"},
		{"DELETE t FROM t JOIN u ON t.id = u.id WHERE u.id = 10",
			"t:xxxxx u:s----", "t:x-xx- u:s----"},
		{"DELETE x FROM t AS x JOIN u AS y ON x.id = y.id WHERE y.id = 10",
			"t:xxxxx u:s----", "t:x-xx- u:s----"},
		{"INSERT INTO t VALUES (15, 9, 9)",
			"t:-x--- u:-----", "t:-x--- u:-----"},
		{"INSERT INTO t VALUES (15, (SELECT n FROM u WHERE id = 10), 9)",
			"t:-x--- u:s----", "t:-x--- u:-----"},
		{"INSERT INTO dup SELECT * FROM t",
			"t:sssss u:-----", "t:----- u:-----"},
		{"INSERT INTO dup SELECT * FROM t WHERE v = 2",
			"t:--s-- u:-----", "t:----- u:-----"},
		{"INSERT INTO dup SELECT * FROM t WHERE id = 20 FOR UPDATE",
			"t:--x-- u:-----", "t:--x-- u:-----"},
		{"INSERT INTO dup SELECT t.* FROM t JOIN u ON t.id = u.id WHERE u.id = 10",
			"t:s---- u:s----", "t:----- u:-----"},
		{"REPLACE INTO dup SELECT * FROM t WHERE id = 10",
			"t:s---- u:-----", "t:----- u:-----"},
		{"REPLACE INTO t VALUES (10, 1, 8)",
			"t:x---- u:-----", "t:x---- u:-----"},
		{"REPLACE INTO u VALUES (15, 5, 8)",
			"t:----- u:-xx--", "t:----- u:-xx--"},
		{"INSERT INTO u VALUES (15, 5, 8) ON DUPLICATE KEY UPDATE n = 8",
			"t:----- u:-xx--", "t:----- u:-xx--"},
		{"INSERT IGNORE INTO u VALUES (15, 5, 8)",
			"t:----- u:-xx--", "t:----- u:-xx--"},
	} {
		t.Run(c.statement, func(t *testing.T) {
			for _, l := range [][2]string{{"REPEATABLE READ", c.repeatable}, {"READ COMMITTED", c.committed}} {
				level, want := l[0], l[1]
				run(t, a, "SET TRANSACTION ISOLATION LEVEL "+level, "BEGIN")
				_, err := tryQuery(a, c.statement)
				got := lockedKeys(t, probe)
				run(t, a, "ROLLBACK")
				require.NoError(t, err)
				require.Equal(t, want, got, level)
				require.Equal(t, "t:----- u:-----", lockedKeys(t, probe))
			}
		})
	}
}
