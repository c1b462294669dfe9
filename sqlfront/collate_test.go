package sqlfront

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCollation asks what MySQL 8.0 answers where the default collation takes
// different letters for the same: as a text statement and as a prepared one,
// without an index and with one.
func TestCollation(t *testing.T) {
	s := newStack(t, Config{})
	run(t, s.db("", ""), "CREATE DATABASE d")
	text, prepared := s.db("d", "interpolateParams=true"), s.db("d", "")
	for _, table := range []string{"t (id INT PRIMARY KEY, v VARCHAR(20), n INT)", "k (id INT PRIMARY KEY, v VARCHAR(20), n INT, KEY (v))"} {
		run(t, text, "CREATE TABLE "+table)
	}
	run(t, text, "INSERT INTO t VALUES (1,'b',1),(2,'B',1),(4,'ae',2)", "INSERT INTO k SELECT * FROM t",
		"CREATE TABLE o (id INT PRIMARY KEY, w VARCHAR(30), n INT)", "INSERT INTO o VALUES (1,'B',1),(2,'Ae',2)",
		"CREATE TABLE s (id INT PRIMARY KEY, w VARCHAR(20) COLLATE utf8mb4_0900_as_cs, n INT)", "INSERT INTO s VALUES (1,'b',1),(2,'B',2)")
	type values []any
	for _, c := range []struct {
		query string
		args  values
		want  []string
	}{
		{"SELECT id FROM %s WHERE v IN (?, ?) ORDER BY id", values{"B", "AE"}, []string{"1", "2", "4"}},
		{"SELECT id FROM %s WHERE v NOT IN (?, ?) ORDER BY id", values{"B", "AE"}, []string{}},
		{"SELECT id FROM %s WHERE v NOT IN (?, NULL) ORDER BY id", values{"ae"}, []string{}},
		{"SELECT id, v IN (?, NULL) FROM %s ORDER BY id", values{"B"}, []string{"1,1", "2,1", "4,NULL"}},
		{"SELECT id FROM %s WHERE v IN (CONCAT(?, ''), 'x') ORDER BY id", values{"B"}, []string{"1", "2"}},
		{"SELECT id FROM %s WHERE LOWER(v) IN (?, 'AE') ORDER BY id", values{"B"}, []string{"1", "2", "4"}},
		{"SELECT id FROM %s WHERE LOWER(v) = UPPER(?) ORDER BY id", values{"b"}, []string{"1", "2"}},
		{"SELECT id FROM %s WHERE LOWER(v) = UPPER(v) ORDER BY id", nil, []string{"1", "2", "4"}},
		{"SELECT id FROM %s WHERE (id, v) IN ((1, ?), (4, 'AE')) ORDER BY id", values{"B"}, []string{"1", "4"}},
		{"SELECT id, (id, v) IN ((1, ?), (4, 'AE')) FROM %s ORDER BY id", values{"B"}, []string{"1,1", "2,0", "4,1"}},
		{"SELECT id FROM %s WHERE v COLLATE utf8mb4_bin IN (?, 'AE') ORDER BY id", values{"B"}, []string{"2"}},
		{"SELECT id FROM %s WHERE v <=> ? ORDER BY id", values{"B"}, []string{"1", "2"}},
		{"SELECT id, v <=> ? FROM %s ORDER BY id", values{nil}, []string{"1,0", "2,0", "4,0"}},
		{"SELECT COUNT(DISTINCT v) FROM %s WHERE id > ?", values{0}, []string{"2"}},
		{"SELECT COUNT(DISTINCT v, n), COUNT(DISTINCT v, id), COUNT(DISTINCT LOWER(v)) FROM %s", nil, []string{"2,3,2"}},
		{"SELECT DISTINCT v FROM %s ORDER BY id > ?, v", values{100}, []string{"ae", "b"}},
		{"SELECT DISTINCT UPPER(v) x FROM %s ORDER BY x", nil, []string{"AE", "B"}},
		{"SELECT DISTINCT v COLLATE utf8mb4_bin x FROM %s ORDER BY x", nil, []string{"B", "ae", "b"}},
		{"SELECT COUNT(*) FROM (SELECT DISTINCT v, n FROM %s) q", nil, []string{"2"}},
		{"SELECT n, COUNT(*) FROM %s GROUP BY CONCAT(v, ?), n ORDER BY n", values{"x"}, []string{"1,2", "2,1"}},
		{"SELECT v FROM %s UNION SELECT ? ORDER BY v", values{"B"}, []string{"ae", "b"}},
		{"SELECT COUNT(*) FROM (SELECT v FROM %s UNION ALL SELECT ?) q", values{"B"}, []string{"4"}},
		{"SELECT v, n FROM %s UNION SELECT w, n FROM o ORDER BY v LIMIT 1", nil, []string{"ae,2"}},
		{"SELECT v FROM %s INTERSECT SELECT w FROM o ORDER BY v", nil, []string{"ae", "b"}},
		{"SELECT v FROM %s EXCEPT SELECT w FROM o", nil, []string{}},
		{"SELECT v FROM %s EXCEPT SELECT ?", values{"B"}, []string{"ae"}},
		{"SELECT v FROM %s EXCEPT ALL SELECT ? ORDER BY v", values{"AE"}, []string{"b", "B"}},
		{"SELECT COUNT(*) FROM (SELECT v FROM %s INTERSECT ALL SELECT ?) q", values{"B"}, []string{"1"}},
		{"WITH RECURSIVE c(v) AS (SELECT v FROM %s WHERE id = 1 UNION SELECT UPPER(v) FROM c) SELECT * FROM c", nil, []string{"b"}},
		{"SELECT id FROM %[1]s a WHERE EXISTS (SELECT 1 FROM %[1]s b WHERE b.v = a.v AND b.id <> a.id) ORDER BY id", nil, []string{"1", "2"}},
		{"SELECT id FROM %s a WHERE EXISTS (SELECT v FROM o WHERE o.w = a.v UNION SELECT w FROM o WHERE o.w = a.v AND id = 7) ORDER BY id", nil, []string{"1", "2", "4"}},
		{"SELECT id, (SELECT COUNT(DISTINCT b.v) FROM %[1]s b WHERE b.v = a.v) FROM %[1]s a ORDER BY id", nil, []string{"1,1", "2,1", "4,1"}},
		{"SELECT id, (SELECT DISTINCT b.v FROM t b WHERE b.v = a.v) FROM %s a ORDER BY id", nil, []string{"1,b", "2,b", "4,ae"}},
		{"SELECT id FROM %s WHERE v IN (SELECT w FROM o) ORDER BY id", nil, []string{"1", "2", "4"}},
		{"SELECT id FROM %s WHERE v NOT IN (SELECT w FROM o WHERE id = ?) ORDER BY id", values{1}, []string{"4"}},
		{"SELECT id, v IN (SELECT w FROM o WHERE id = ?) FROM %s ORDER BY id", values{1}, []string{"1,1", "2,1", "4,0"}},
		{"SELECT id FROM %s WHERE (id, v) IN (SELECT id, w FROM o) ORDER BY id", nil, []string{"1"}},
		{"SELECT id FROM %s WHERE (id, v) NOT IN (SELECT id, w FROM o) ORDER BY id", nil, []string{"2", "4"}},
		{"SELECT id, (v, n) IN (SELECT w, n FROM o WHERE id > ?) FROM %s ORDER BY id", values{0}, []string{"1,1", "2,1", "4,1"}},
		{"SELECT id, (v, n) IN (SELECT w, NULL FROM o WHERE id = ?) FROM %s ORDER BY id", values{1}, []string{"1,NULL", "2,NULL", "4,0"}},
		{"SELECT id, (v, NULL) IN (SELECT w, n FROM o WHERE o.n <= a.id) FROM %s a ORDER BY id", nil, []string{"1,NULL", "2,NULL", "4,NULL"}},
		{"SELECT id, v IN (SELECT CONCAT(w, '') FROM o WHERE id = ?) FROM %s ORDER BY id", values{1}, []string{"1,1", "2,1", "4,0"}},
		{"SELECT a.id, o.id FROM %s a JOIN o ON a.v = o.w ORDER BY a.id", nil, []string{"1,1", "2,1", "4,2"}},
		{"SELECT /*+ HASH_JOIN(a,o) */ a.id, o.id FROM %s a JOIN o ON a.v = o.w ORDER BY a.id", nil, []string{"1,1", "2,1", "4,2"}},
		{"SELECT /*+ HASH_JOIN(a,o) */ a.id, o.id FROM %s a JOIN o ON a.v = o.w AND a.n = o.n ORDER BY a.id", nil, []string{"1,1", "2,1", "4,2"}},
		{"SELECT /*+ HASH_JOIN(a,b) */ a.id, b.id FROM %[1]s a JOIN %[1]s b ON a.v = b.v AND a.n = b.n ORDER BY a.id, b.id", nil,
			[]string{"1,1", "1,2", "2,1", "2,2", "4,4"}},
		{"SELECT /*+ HASH_JOIN(a,o) */ a.id, o.id FROM %s a LEFT JOIN o ON LOWER(a.v) = o.w AND o.id = ? ORDER BY a.id", values{1},
			[]string{"1,1", "2,1", "4,NULL"}},
		{"SELECT GROUP_CONCAT(DISTINCT v ORDER BY id SEPARATOR '-') FROM %s", nil, []string{"b-ae"}},
		{"SELECT n, GROUP_CONCAT(DISTINCT v, n) FROM %s GROUP BY n ORDER BY n", nil, []string{"1,b1", "2,ae2"}},
		{"SELECT MIN(v), MAX(v) FROM %s WHERE id > ?", values{1}, []string{"ae,B"}},
		{"SELECT id, COUNT(*) OVER (PARTITION BY v) FROM %s ORDER BY id", nil, []string{"1,2", "2,2", "4,1"}},
		{"SELECT CASE v WHEN ? THEN 'y' ELSE 'n' END, NULLIF(v, ?), FIELD(v, 'AE', ?) FROM %s ORDER BY id", values{"B", "B", "B"},
			[]string{"y,NULL,2", "y,NULL,2", "n,ae,1"}},
		{"SELECT LEAST(v, ?), GREATEST('AA', v), LEAST(v, NULL) FROM %s ORDER BY id", values{"C"}, []string{"b,b,NULL", "B,B,NULL", "ae,ae,NULL"}},
		{"SELECT INSTR(v, ?), LOCATE(?, v) FROM %s ORDER BY id", values{"B", "B"}, []string{"1,1", "1,1", "0,0"}},
		{"SELECT v BETWEEN ? AND 'B', STRCMP(v, 'B'), v LIKE 'B%%' FROM %s ORDER BY id", values{"A"}, []string{"1,0,1", "1,0,1", "1,-1,0"}},
	} {
		for _, table := range []string{"t", "k"} {
			q := fmt.Sprintf(c.query+"%[2]s", table, "")
			for name, db := range map[string]*sql.DB{"text": text, "prepared": prepared} {
				t.Run(fmt.Sprintf("%s/%s", name, q), func(t *testing.T) {
					require.Equal(t, c.want, query(t, db, q, c.args...))
				})
			}
		}
	}
	t.Run("a column's own collation decides", func(t *testing.T) {
		require.Equal(t, []string{"2"}, query(t, text, "SELECT id FROM s WHERE w IN ('B','x')"))
		require.Equal(t, []string{"2"}, query(t, text, "SELECT COUNT(DISTINCT w) FROM s"))
		require.Equal(t, []string{"b", "B"}, query(t, text, "SELECT DISTINCT w FROM s ORDER BY w"))
	})
	t.Run("changes", func(t *testing.T) {
		run(t, text, "CREATE TABLE c (id INT PRIMARY KEY, v VARCHAR(9), CHECK (v IN ('B','ae')))",
			"INSERT INTO c VALUES (1,'b'),(2,'AE'),(3,'B')")
		_, err := text.Exec("INSERT INTO c VALUES (4,'x')")
		require.ErrorContains(t, err, "3819")
		run(t, text, "UPDATE c SET v = 'ae' WHERE v IN ('AE','x')", "DELETE FROM c WHERE v IN ('B','x')")
		require.Equal(t, []string{"2,ae"}, query(t, prepared, "SELECT * FROM c"))
		run(t, text, "UPDATE c JOIN o ON o.w = c.v SET c.v = 'AE'")
		require.Equal(t, []string{"2,AE"}, query(t, prepared, "SELECT * FROM c"))
		result, err := prepared.Exec("INSERT INTO c VALUES (2,'B') ON DUPLICATE KEY UPDATE v = ?", "ae")
		require.NoError(t, err)
		n, _ := result.RowsAffected()
		require.Equal(t, []string{"2,ae"}, query(t, prepared, "SELECT * FROM c"))
		require.EqualValues(t, 2, n)
		create := query(t, text, "SHOW CREATE TABLE c")
		require.Contains(t, create[0], "IN ('B', 'ae')")
	})
}
