package sqlfront

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a conflict says: the table, the index and the key in SQL's words, and who
// was first.
func TestConflictsAreExplained(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, KEY v (v))", "INSERT INTO t VALUES (1, 10), (2, 20)")
	a, b := connection(t, db), connection(t, db)
	id := query(t, b, "SELECT CONNECTION_ID()")[0]
	begin := func(change string) {
		run(t, a, "BEGIN")
		query(t, a, "SELECT * FROM t")
		run(t, b, change)
	}
	begin("UPDATE t SET v = 11 WHERE id = 1")
	err := execErr(a, "UPDATE t SET v = 12 WHERE id = 1")
	requireNumber(t, 1213, "40001", err)
	for _, part := range []string{"PRIMARY (1) of table app.t", "of connection " + id, "UPDATE t SET v = 11 WHERE id = 1"} {
		require.ErrorContains(t, err, part)
	}
	begin("DELETE FROM t WHERE id = 2")
	err = execErr(a, "UPDATE t SET v = 12 WHERE v = 20")
	requireNumber(t, 1213, "40001", err)
	require.ErrorContains(t, err, "of table app.t")

	run(t, a, "SET snapshot_isolation_error = 'CHECKREAD'")
	begin("UPDATE t SET v = 13 WHERE id = 1")
	_, err = tryQuery(a, "SELECT * FROM t FOR UPDATE")
	requireNumber(t, 1020, "HY000", err)
	require.ErrorContains(t, err, "Record has changed since last read in table 't'")
	run(t, a, "UPDATE t SET v = 14 WHERE id = 1") // the transaction is gone
}

// The check comes before the condition, for what was there as for what is
// there now (H13): through indexes, for deleted rows, for rows that moved in.
func TestConflictsIncludeWhatIsGone(t *testing.T) {
	for _, c := range []struct{ change, statement string }{
		{"UPDATE t SET v = 6 WHERE id = 1", "UPDATE t SET n = 1 WHERE v = 5"},
		{"DELETE FROM t WHERE id = 1", "UPDATE t SET n = 1 WHERE v = 5"},
		{"DELETE FROM t WHERE id = 1", "DELETE FROM t WHERE id = 1"},
		{"DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (1, 1, 1)"},
		{"DELETE FROM t WHERE id = 1", "SELECT * FROM t WHERE id < 2 FOR SHARE"},
		{"INSERT INTO t VALUES (3, 5, 0)", "SELECT * FROM t WHERE v = 5 FOR UPDATE"},
		{"INSERT INTO t VALUES (3, 5, 0)", "UPDATE t SET n = 1 WHERE n = 77"},
		{"UPDATE t SET v = 5 WHERE id = 2", "DELETE FROM t WHERE v = 5"},
		{"UPDATE t SET n = 9 WHERE id = 1", "INSERT INTO s SELECT * FROM t"},
		{"UPDATE t SET n = 9 WHERE id = 1", "UPDATE s SET n = (SELECT MAX(n) FROM t)"},
	} {
		t.Run(c.change+" "+c.statement, func(t *testing.T) {
			_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, n INT, KEY v (v))", "CREATE TABLE s LIKE t",
				"INSERT INTO t VALUES (1, 5, 0), (2, 20, 0)", "INSERT INTO s VALUES (100, 1, 1)")
			a, b := connection(t, db), connection(t, db)
			for _, on := range []bool{true, false} {
				run(t, a, "SET snapshot_isolation = "+map[bool]string{true: "ON", false: "OFF"}[on], "BEGIN")
				query(t, a, "SELECT * FROM t")
				run(t, b, "BEGIN", c.change, "COMMIT")
				_, err := tryQuery(a, c.statement)
				if on {
					require.Equal(t, 1213, number(err), "%v", err)
				} else {
					require.NoError(t, err)
				}
				run(t, a, "ROLLBACK")
				run(t, b, "DELETE FROM t", "INSERT INTO t VALUES (1, 5, 0), (2, 20, 0)")
			}
		})
	}
}

func TestLevels(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0)")
	a, b := connection(t, db), connection(t, db)
	for _, c := range []struct{ level, second, third string }{
		{"READ UNCOMMITTED", "0", "1"}, {"READ COMMITTED", "0", "1"}, {"REPEATABLE READ", "0", "0"},
	} {
		run(t, b, "UPDATE t SET v = 0")
		run(t, a, "SET SESSION TRANSACTION ISOLATION LEVEL "+c.level, "BEGIN")
		query(t, a, "SELECT v FROM t")
		run(t, b, "BEGIN", "UPDATE t SET v = 1")
		require.Equal(t, []string{c.second}, query(t, a, "SELECT v FROM t"), c.level)
		run(t, b, "COMMIT")
		require.Equal(t, []string{c.third}, query(t, a, "SELECT v FROM t"), c.level)
		run(t, a, "COMMIT")
	}
	// A locking read fixes no snapshot.
	run(t, a, "BEGIN")
	require.Len(t, query(t, a, "SELECT * FROM t WHERE id = 1 FOR UPDATE"), 1)
	run(t, b, "INSERT INTO t VALUES (2, 2)")
	require.Len(t, query(t, a, "SELECT * FROM t"), 2)
	run(t, b, "INSERT INTO t VALUES (3, 3)")
	require.Len(t, query(t, a, "SELECT * FROM t"), 2)
	run(t, a, "COMMIT")
}

// The past can be read inside transactions and joins, and no further back than
// it is kept.
func TestAsOfInsideTransactions(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
	at := s.later(t).UTC().Format("2006-01-02 15:04:05.000000")
	s.later(t)
	a := connection(t, db)
	run(t, a, "BEGIN", "UPDATE t SET v = 2", "INSERT INTO t VALUES (2, 2)")
	require.Equal(t, []string{"1,1,2"}, query(t, a, "SELECT o.id, o.v, n.v FROM t AS OF '"+at+"' AS o JOIN t AS n ON o.id = n.id"))
	require.Equal(t, []string{"1"}, query(t, a, "SELECT COUNT(*) FROM t AS OF '"+at+"'"))
	run(t, a, "COMMIT", "START TRANSACTION READ ONLY")
	require.Equal(t, []string{"1"}, query(t, a, "SELECT v FROM t AS OF '"+at+"'"))
	fails(t, a, 1412, "SELECT v FROM t AS OF '2001-01-01 00:00:00'")
	fails(t, a, 1235, "SELECT v FROM t AS OF 'yesterday'")
	require.Len(t, query(t, a, "SELECT * FROM t"), 2, "the transaction goes on")
}
