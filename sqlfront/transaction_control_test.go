package sqlfront

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
)

// fails runs a statement that must be refused under a number.
func fails(t testing.TB, c *sql.Conn, n int, q string) {
	t.Helper()
	rows, err := tryQuery(c, q)
	require.Equal(t, n, number(err), "%s: %v %v", q, rows, err)
}

func TestSetTransactionMeansTheNextOneOnly(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0)")
	a, b := connection(t, db), connection(t, db)
	sees := func(want string) {
		t.Helper()
		require.Equal(t, []string{want}, query(t, a, "SELECT v FROM t"))
	}
	run(t, a, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "BEGIN")
	sees("0")
	run(t, b, "UPDATE t SET v = 1")
	sees("1")
	fails(t, a, 1568, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
	require.Equal(t, []string{"REPEATABLE-READ"}, query(t, a, "SELECT @@transaction_isolation"))
	run(t, a, "COMMIT", "BEGIN")
	sees("1")
	run(t, b, "UPDATE t SET v = 2")
	sees("1")
	run(t, a, "COMMIT")

	// It survives statements that touch no table, and it ends with the next
	// statement that does.
	run(t, a, "SET TRANSACTION READ ONLY", "SET @x = 1")
	require.Equal(t, []string{"1"}, query(t, a, "SELECT 1"))
	fails(t, a, 1792, "UPDATE t SET v = 9")
	sees("2")
	run(t, a, "UPDATE t SET v = 3")

	// Without autocommit a transaction is in progress from its first access.
	run(t, a, "SET autocommit = 0", "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
	sees("3")
	fails(t, a, 1568, "SET TRANSACTION READ ONLY")
	run(t, b, "UPDATE t SET v = 4")
	sees("4")
	run(t, a, "COMMIT")
	sees("4")
	run(t, b, "UPDATE t SET v = 5")
	sees("4")
}

func TestTransactionVariables(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)")
	c := connection(t, db)
	variables := "SELECT @@transaction_isolation, @@tx_isolation, @@transaction_read_only, @@tx_read_only"
	require.Equal(t, []string{"REPEATABLE-READ,REPEATABLE-READ,0,0"}, query(t, c, variables))
	run(t, c, "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ ONLY")
	require.Equal(t, []string{"READ-UNCOMMITTED,READ-UNCOMMITTED,1,1"}, query(t, c, variables))
	fails(t, c, 1792, "INSERT INTO t VALUES (1)")
	run(t, c, "START TRANSACTION READ WRITE", "INSERT INTO t VALUES (1)", "COMMIT", "BEGIN")
	fails(t, c, 1792, "INSERT INTO t VALUES (2)")
	run(t, c, "ROLLBACK", "SET tx_isolation = 'SERIALIZABLE', tx_read_only = 0")
	require.Equal(t, []string{"SERIALIZABLE,SERIALIZABLE,0,0"}, query(t, c, variables))
	fails(t, c, 1231, "SET SESSION transaction_isolation = 'CHAOS'")
	run(t, c, "SET GLOBAL TRANSACTION ISOLATION LEVEL READ COMMITTED")
	defer run(t, c, "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	require.Equal(t, []string{"SERIALIZABLE"}, query(t, c, "SELECT @@transaction_isolation"), "sessions that are there keep theirs")
	require.Equal(t, []string{"READ-COMMITTED,READ-COMMITTED,0,0"}, query(t, connection(t, db), variables))
}

func TestConsistentSnapshotIsTakenAtOnce(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)")
	a, b := connection(t, db), connection(t, db)
	for _, begin := range []string{"START TRANSACTION WITH CONSISTENT SNAPSHOT", "start transaction read only , with consistent snapshot"} {
		run(t, a, begin)
		run(t, b, "INSERT INTO t VALUES (1)")
		require.Empty(t, query(t, a, "SELECT id FROM t"), begin)
		run(t, a, "COMMIT")
		run(t, b, "DELETE FROM t")
	}
	run(t, a, "START TRANSACTION")
	run(t, b, "INSERT INTO t VALUES (1)")
	require.Equal(t, []string{"1"}, query(t, a, "SELECT id FROM t"), "else by the first read")
}

func TestReadOnlyTransactionsRefuseWrites(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)",
		"CREATE PROCEDURE p() INSERT INTO t VALUES (7, 7)")
	c := connection(t, db)
	run(t, c, "CREATE TEMPORARY TABLE tmp (id INT PRIMARY KEY, v INT)", "START TRANSACTION READ ONLY")
	for _, q := range []string{
		"INSERT INTO t VALUES (2, 2)", "REPLACE INTO t VALUES (1, 2)", "UPDATE t SET v = 2", "DELETE FROM t WHERE id = 1",
		"SELECT * FROM t FOR UPDATE", "INSERT INTO t SELECT * FROM tmp", "CREATE TABLE u (id INT)", "DROP TABLE t",
		"ALTER TABLE t ADD COLUMN w INT", "TRUNCATE TABLE t", "CALL p()",
	} {
		if q == "INSERT INTO t SELECT * FROM tmp" {
			run(t, c, "INSERT INTO tmp VALUES (5, 5)")
		}
		fails(t, c, 1792, q)
	}
	run(t, c, "UPDATE tmp SET v = 6", "INSERT INTO tmp SELECT id, v FROM t")
	require.Equal(t, []string{"1,1", "5,6"}, query(t, c, "SELECT * FROM tmp ORDER BY id"))
	require.Equal(t, []string{"1"}, query(t, c, "SELECT id FROM t FOR SHARE"))
	run(t, c, "COMMIT", "INSERT INTO t VALUES (2, 2)")
	require.Equal(t, []string{"1,1", "2,2"}, query(t, c, "SELECT * FROM t ORDER BY id"))
}

func TestAutocommit(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)")
	a, b := connection(t, db), connection(t, db)
	count := func(want string) {
		t.Helper()
		require.Equal(t, []string{want}, query(t, b, "SELECT COUNT(*) FROM t"))
	}
	run(t, a, "SET autocommit = 0", "INSERT INTO t VALUES (1)")
	count("0")
	run(t, a, "ROLLBACK", "INSERT INTO t VALUES (2)", "SET autocommit = 1")
	count("1")
	run(t, a, "INSERT INTO t VALUES (3)")
	count("2")
	run(t, a, "BEGIN", "INSERT INTO t VALUES (4)", "SET autocommit = 1") // it was on: nothing ends
	count("2")
	run(t, a, "ROLLBACK")
	count("2")
	run(t, a, "SET autocommit = OFF", "BEGIN", "INSERT INTO t VALUES (5)", "SET autocommit = ON")
	count("3")
	run(t, a, "SET autocommit = 0", "INSERT INTO t VALUES (6)", "SET SESSION autocommit = 0")
	count("3")
	run(t, a, "BEGIN")
	count("4")
}

func TestStatementsThatCommit(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT)", "CREATE TABLE u (id INT)", "CREATE VIEW tv AS SELECT * FROM t")
	a, b := connection(t, db), connection(t, db)
	rows := 0
	for _, q := range []string{
		"BEGIN", "START TRANSACTION READ ONLY", "CREATE TABLE n (id INT)", "ALTER TABLE n ADD COLUMN v INT", "CREATE INDEX i ON n (v)",
		"DROP INDEX i ON n", "TRUNCATE TABLE n", "RENAME TABLE n TO m", "DROP TABLE m", "CREATE TABLE IF NOT EXISTS u (id INT)", "CREATE DATABASE other", "DROP DATABASE other",
		"CREATE VIEW w AS SELECT 1", "DROP VIEW w", "CREATE PROCEDURE p() SELECT 1", "DROP PROCEDURE p",
		"CREATE TRIGGER g BEFORE INSERT ON u FOR EACH ROW SET NEW.id = 1", "DROP TRIGGER g", "CREATE USER x", "GRANT SELECT ON app.* TO x", "DROP USER x", "ANALYZE TABLE u",
	} {
		run(t, a, "BEGIN", "INSERT INTO t VALUES ()", q)
		rows++
		require.Len(t, query(t, b, "SELECT id FROM t"), rows, q)
		run(t, a, "ROLLBACK")
		require.Len(t, query(t, b, "SELECT id FROM t"), rows, q)
	}
	for _, q := range []string{"CREATE TEMPORARY TABLE tmp (id INT)", "DROP TEMPORARY TABLE tmp", "SET @x = 1", "SHOW TABLES", "SAVEPOINT s", "SELECT * FROM tv", "INSERT INTO u SELECT * FROM tv"} {
		run(t, a, "BEGIN", "INSERT INTO t VALUES ()", q)
		require.Len(t, query(t, b, "SELECT id FROM t"), rows, q)
		run(t, a, "ROLLBACK")
		require.Len(t, query(t, b, "SELECT id FROM t"), rows, q)
	}
}

func TestSavepoints(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN", "INSERT INTO t VALUES (2, 0)", "SAVEPOINT s", "UPDATE t SET v = 1 WHERE id = 1", "SAVEPOINT later",
		"DELETE FROM t WHERE id = 2", "ROLLBACK TO SAVEPOINT S")
	require.Equal(t, []string{"1,0", "2,0"}, query(t, a, "SELECT * FROM t ORDER BY id"))
	fails(t, a, 1305, "ROLLBACK TO later")
	fails(t, a, 1305, "RELEASE SAVEPOINT later")
	fails(t, b, 3572, "SELECT * FROM t WHERE id = 1 FOR UPDATE NOWAIT") // locks stay
	run(t, a, "UPDATE t SET v = 2 WHERE id = 1", "ROLLBACK TO s", "UPDATE t SET v = 3 WHERE id = 1", "RELEASE SAVEPOINT s")
	fails(t, a, 1305, "ROLLBACK TO s")
	run(t, a, "COMMIT")
	require.Equal(t, []string{"1,3", "2,0"}, query(t, b, "SELECT * FROM t ORDER BY id"))
	run(t, a, "SAVEPOINT gone")
	fails(t, a, 1305, "ROLLBACK TO gone")
	// A name used again moves.
	run(t, a, "BEGIN", "SAVEPOINT s", "INSERT INTO t VALUES (3, 0)", "SAVEPOINT s", "INSERT INTO t VALUES (4, 0)", "ROLLBACK WORK TO s", "COMMIT")
	require.Equal(t, []string{"1", "2", "3"}, query(t, b, "SELECT id FROM t ORDER BY id"))
	fails(t, a, 1305, "ROLLBACK TO s")
}

func TestCommitAndChain(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)",
		"CREATE PROCEDURE p() BEGIN INSERT INTO t VALUES (20); COMMIT AND CHAIN; INSERT INTO t VALUES (21); ROLLBACK WORK AND NO CHAIN; END")
	a, b := connection(t, db), connection(t, db)
	rows := func(want ...string) {
		t.Helper()
		require.ElementsMatch(t, want, query(t, b, "SELECT id FROM t"))
	}
	run(t, a, "START TRANSACTION READ ONLY", "COMMIT AND CHAIN")
	fails(t, a, 1792, "INSERT INTO t VALUES (1)") // the access mode goes on
	run(t, a, "COMMIT AND NO CHAIN", "INSERT INTO t VALUES (1)")
	rows("1")
	run(t, a, "BEGIN", "INSERT INTO t VALUES (2)", "ROLLBACK AND CHAIN", "INSERT INTO t VALUES (3)")
	rows("1")
	run(t, a, "ROLLBACK")
	run(t, a, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "BEGIN", "COMMIT WORK AND CHAIN NO RELEASE")
	require.Empty(t, query(t, a, "SELECT id FROM t WHERE id = 4"))
	run(t, b, "INSERT INTO t VALUES (4)")
	require.Len(t, query(t, a, "SELECT id FROM t WHERE id = 4"), 1, "the level goes on")
	run(t, a, "COMMIT", "SET completion_type = 'CHAIN'", "BEGIN", "INSERT INTO t VALUES (5)", "COMMIT", "INSERT INTO t VALUES (6)")
	rows("1", "4", "5")
	run(t, a, "ROLLBACK AND NO CHAIN", "INSERT INTO t VALUES (7)", "SET completion_type = 'NO_CHAIN'")
	rows("1", "4", "5", "7")
	run(t, a, "CALL p()")
	rows("1", "4", "5", "7", "20")
	fails(t, a, 1064, "COMMIT AND CHAIN RELEASE")
	prepared, err := a.PrepareContext(context.Background(), "COMMIT AND CHAIN")
	require.NoError(t, err)
	run(t, a, "BEGIN", "INSERT INTO t VALUES (8)")
	_, err = prepared.Exec()
	require.NoError(t, err)
	run(t, a, "INSERT INTO t VALUES (9)", "ROLLBACK")
	rows("1", "4", "5", "7", "20", "8")
}

func TestCommitReleaseEndsTheConnection(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)")
	for i, end := range []string{"COMMIT RELEASE", "COMMIT"} {
		c := connection(t, db)
		run(t, c, "BEGIN", "INSERT INTO t VALUES ("+string(rune('1'+i))+")")
		if end == "COMMIT" {
			run(t, c, "SET completion_type = 2")
		}
		run(t, c, end)
		_, err := tryQuery(c, "SELECT 1")
		require.Error(t, err, end)
		require.Len(t, query(t, db, "SELECT id FROM t"), i+1)
	}
}
