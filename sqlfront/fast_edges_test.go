package sqlfront

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Values at the edges of their types, conversions, warnings, names of columns and texts
// that are nearly those that are known, under several modes.
func TestFastPathAtTheEdges(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, u BIGINT UNSIGNED, c VARCHAR(20), d DECIMAL(10,3), e ENUM('a','b'), b VARBINARY(10), j JSON, y YEAR, dt DATETIME(3), KEY (k))",
		"INSERT INTO t VALUES (1,1,1,'a',1.5,'a','x','{\"a\": 1}',2020,'2020-01-01 00:00:00.123'),(2,2,0,'b',2.5,'b','y',NULL,2021,NULL)",
		"CREATE TABLE n (id SMALLINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, v TINYINT UNSIGNED NOT NULL, w TINYINT)",
		"CREATE TABLE p (a VARCHAR(5) COLLATE utf8mb4_general_ci, b CHAR(3) COLLATE utf8mb4_bin, v INT, PRIMARY KEY (a))",
		"INSERT INTO p VALUES ('x ', 'q', 1), ('ß','s',2)",
		"CREATE TABLE v (id INT PRIMARY KEY, k INT)", "INSERT INTO v VALUES (1, 10)")
	for _, mode := range []string{"", "SET sql_mode = ''", "SET sql_mode = 'NO_UNSIGNED_SUBTRACTION'", "SET NAMES latin1", "SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET autocommit = 0"} {
		c := w.session("root", clientFoundRows)
		if mode != "" {
			c.query(mode)
		}
		for i := range 4 {
			for _, text := range []string{
				"UPDATE t SET u = u - 1 WHERE id = 2", "UPDATE t SET u = 18446744073709551615 WHERE id = 1", "UPDATE t SET u = u + 1 WHERE id = 1",
				"UPDATE t SET k = 2147483648 WHERE id = 1", "UPDATE t SET e = 'zz' WHERE id = 1", "UPDATE t SET e = 2 WHERE id = 1",
				"UPDATE t SET y = 99999 WHERE id = 1",
				"UPDATE t SET y = 5 WHERE id = 1", "UPDATE t SET d = '12345678.12345' WHERE id = 1", "UPDATE t SET d = 'abc' WHERE id = 1",
				"UPDATE t SET j = 'nojson' WHERE id = 1",
				"UPDATE t SET j = '[1]' WHERE id = 1", "UPDATE t SET dt = '2020-13-01' WHERE id = 1",
				"UPDATE t SET dt = '2021-02-03 04:05:06.78959' WHERE id = 1", "UPDATE t SET dt = 20200101 WHERE id = 1",
				"UPDATE t SET b = 'äää' WHERE id = 1", "UPDATE t SET b = 'ääääääääää' WHERE id = 1", "UPDATE t SET id = 3 WHERE id = 2",
				"UPDATE t SET id = 1 WHERE id = 3", "UPDATE t SET id = 2 WHERE id = 3",
				"UPDATE t SET c = c + 1 WHERE id = 1", "UPDATE t SET c = 5 WHERE id = 1", "UPDATE t SET c = c + 1 WHERE id = 1",
				"UPDATE t SET k = k + 'x' WHERE id = 1", "UPDATE t SET k = d - 1, d = k + 1 WHERE id = 1",
				"SHOW WARNINGS", "SELECT * FROM t WHERE id = 1", "SELECT * FROM t WHERE id BETWEEN 1 AND 3 ORDER BY c DESC, id",
				"SELECT SUM(u), AVG(u), MIN(c), MAX(e), SUM(k), AVG(d), COUNT(*) FROM t WHERE id BETWEEN 1 AND 3",
				"SELECT DISTINCT e FROM t WHERE id IN (3, 2, 1, 1) ORDER BY e",
				"SELECT c AS id, id AS c FROM t WHERE id IN (1, 2) ORDER BY c", "SELECT MAX(id) FROM t WHERE id BETWEEN 1 AND 2",
				"SELECT id, SUM(k) FROM t WHERE id = 1",
				"SELECT k, COUNT(*) FROM t WHERE id BETWEEN 1 AND 1", "SELECT MIN(j), MAX(y) FROM t WHERE id BETWEEN 1 AND 3",
				fmt.Sprintf("INSERT INTO n (v) VALUES (%d)", 250+i*3), fmt.Sprintf("INSERT INTO n (id, v) VALUES (%d, 1)", 65533+i),
				"INSERT INTO n (v, w) VALUES (1, 'x')", "INSERT INTO n (v, w) VALUES ('12', '-129')", "SELECT LAST_INSERT_ID()",
				"INSERT INTO n (w) VALUES (1)", "SHOW WARNINGS", "INSERT INTO t (id, j, e, y, b) VALUES (9, '{', 'c', 1800, 'ö')",
				"INSERT INTO t (id, j, e, y, b) VALUES (9, '{}', 'b', 70, 'ö')", "DELETE FROM t WHERE id = 9",
				"DELETE FROM n WHERE id = 65535",
				"SELECT a, b, v FROM p WHERE a = 'X'", "SELECT v FROM p WHERE a = 'x  '", "SELECT v FROM p WHERE a = 's'",
				"SELECT v FROM p WHERE a = 'x         '", "SELECT v FROM p WHERE a = 'x'",
				"SELECT v FROM v WHERE id = 1", "SELECT k FROM v WHERE id=1 ", " SELECT k FROM v WHERE id=+1",
				"SELECT k FROM v WHERE (id)=(1)", "SELECT k AS 'k' FROM v WHERE id=1", "SELECT k FROM V WHERE id=1",
				"SELECT K FROM APP.v WHERE ID=1",
				"select k from v where id = 00000000000000000000000000001", "SELECT k FROM v WHERE id = 1\n",
				"SELECT k FROM v WHERE id IN (1) AND id = 1", "SELECT ROW_COUNT(), FOUND_ROWS()", "SELECT @@warning_count",
			} {
				c.query(text)
			}
			for _, v := range []any{int64(1), uint64(1), "1", "zz", nil, 1.5, int64(-1), uint64(1 << 63), "2020-01-01"} {
				c.execute("UPDATE t SET k = k - ? WHERE id = ?", v, int64(1))
				c.execute("UPDATE t SET u = u - ? WHERE id = ?", v, int64(1))
				c.execute("UPDATE t SET dt = ?, c = ?, b = ? WHERE id = 1", v, v, v)
				c.query("SHOW WARNINGS")
				c.execute("INSERT INTO n (v, w) VALUES (?, ?)", v, v)
				c.execute("SELECT SUM(k) FROM t WHERE id BETWEEN ? AND 2", v)
				c.execute("SELECT v FROM p WHERE a = ?", v)
				c.query("SELECT k, u, dt, c, b FROM t WHERE id = 1")
			}
		}
		c.query("COMMIT")
	}
	require.Greater(t, w.taken(), uint64(500))
}

// Privileges, names, definitions and temporary tables that change between executions of
// known statements, and texts of several statements.
func TestFastPathWhileThingsChange(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT)", "INSERT INTO t VALUES (1,1),(2,2)", "CREATE USER u", "GRANT SELECT, UPDATE, INSERT ON app.t TO u", "CREATE ROLE r", "CREATE VIEW v AS SELECT * FROM t")
	c, u := w.session("root", clientMultiStatements|clientDeprecateEOF), w.session("u", clientMultiStatements)
	for range 4 {
		for _, text := range []string{"SELECT 1; SELECT k FROM t WHERE id = 1", "SELECT k FROM t WHERE id = 1;", "BEGIN; UPDATE t SET k = k + 1 WHERE id = 1; COMMIT", "SELECT k FROM t WHERE id = 1; SELECT k FROM t WHERE id = 2",
			"SELECT nothing; SELECT k FROM t WHERE id = 1", "SELECT 1; UPDATE t SET k = 3 WHERE id = 1", "SELECT 1; COMMIT",
			"SELECT k FROM t WHERE id = 1 -- x", "SELECT k FROM t /*! WHERE id = 1 */", "SELECT k FROM v WHERE id = 1"} {
			c.query(text)
			u.query(text)
		}
	}
	some := func() {
		for _, text := range []string{"SELECT k FROM t WHERE id = 1", "UPDATE t SET k = 5 WHERE id = 1", "DELETE FROM t WHERE id = 77", "INSERT INTO t VALUES (1, 1)", "SELECT k FROM t WHERE id BETWEEN 1 AND 2", "SELECT k FROM app.T WHERE id = 1"} {
			u.query(text)
			u.query(text)
		}
	}
	for _, ddl := range []string{"SET @a = 1", "REVOKE UPDATE ON app.t FROM u", "REVOKE SELECT ON app.t FROM u", "GRANT UPDATE ON app.t TO u", "GRANT SELECT ON app.t TO r", "GRANT r TO u", "REVOKE r FROM u", "GRANT ALL ON app.* TO u", "REVOKE ALL ON app.* FROM u",
		"GRANT SELECT (k) ON app.t TO u", "DROP USER u"} {
		c.query(ddl)
		some()
	}
	for _, text := range []string{"CREATE TEMPORARY TABLE t (id INT PRIMARY KEY, k INT)", "INSERT INTO t VALUES (1, 100)", "SELECT k FROM t WHERE id = 1", "DROP TEMPORARY TABLE t", "SELECT k FROM t WHERE id = 1",
		"LOCK TABLES v READ", "SELECT k FROM t WHERE id = 1", "UNLOCK TABLES", "LOCK TABLES t READ", "UPDATE t SET k = 5 WHERE id = 1",
		"UNLOCK TABLES", "RENAME TABLE t TO o", "CREATE VIEW t AS SELECT id, k + 1 AS k FROM o", "SELECT k FROM t WHERE id = 1",
		"SELECT k FROM t WHERE id = 1",
		"UPDATE t SET k = 5 WHERE id = 1", "DELETE FROM t WHERE id = 1", "DROP VIEW t", "SELECT k FROM t WHERE id = 1",
		"RENAME TABLE o TO t", "SELECT k FROM t WHERE id = 1",
		"ALTER TABLE t MODIFY k VARCHAR(10)", "SELECT k FROM t WHERE id = 1", "SELECT k FROM t WHERE id = 1",
		"UPDATE t SET k = 5 WHERE id = 1", "UPDATE t SET k = 'ab' WHERE id = 1", "SELECT SUM(k) FROM t WHERE id BETWEEN 1 AND 2",
		"SHOW WARNINGS", "SELECT SUM(k) FROM t WHERE id BETWEEN 1 AND 2", "SHOW WARNINGS",
		"ALTER TABLE t ADD COLUMN at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP INVISIBLE", "TRUNCATE t",
		"SELECT k FROM t WHERE id = 1", "SET SESSION TRANSACTION READ ONLY", "UPDATE t SET k = 5 WHERE id = 1", "INSERT INTO t VALUES (1, 1)"} {
		c.query(text)
	}
	require.Greater(t, w.taken(), uint64(50))
}
