package sqlfront

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
)

// waits requires that a statement waits for a metadata lock: it gives up.
func waits(t *testing.T, c *sql.Conn, q string) {
	t.Helper()
	run(t, c, "SET lock_wait_timeout = 1")
	fails(t, c, 1205, q)
	run(t, c, "SET lock_wait_timeout = 1000")
}

// begun starts a statement and returns when it runs.
func begun(t *testing.T, watcher, c *sql.Conn, q string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- execErr(c, q) }()
	until(t, q+" runs", func() bool {
		return len(query(t, watcher, "SELECT 1 FROM information_schema.processlist WHERE info = '"+q+"'")) > 0
	})
	return done
}

func lockable(t *testing.T) (*stack, *sql.DB) {
	return app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id INT PRIMARY KEY, v INT)",
		"INSERT INTO t VALUES (1, 1)", "INSERT INTO u VALUES (1, 1)", "CREATE VIEW vw AS SELECT id FROM t")
}

func TestLockTablesRead(t *testing.T) {
	_, db := lockable(t)
	a, b, c := connection(t, db), connection(t, db), connection(t, db)
	run(t, a, "LOCK TABLES t READ LOCAL")
	run(t, b, "LOCK TABLES t READ", "UNLOCK TABLES")
	require.Equal(t, []string{"1,1"}, query(t, b, "SELECT * FROM t"))
	require.Equal(t, []string{"1"}, query(t, b, "SELECT id FROM t FOR SHARE"))
	run(t, b, "INSERT INTO u SELECT id + 1, v FROM t")
	run(t, b, "UPDATE u JOIN t USING (id) SET u.v = 1", "DELETE FROM u WHERE v IN (SELECT v + 1000 FROM t)")
	for _, q := range []string{
		"INSERT INTO t VALUES (2, 2)", "UPDATE t SET v = 2 WHERE id = 99", "DELETE FROM t", "SELECT * FROM t FOR UPDATE",
		"LOCK TABLES t WRITE", "TRUNCATE TABLE t", "INSERT INTO t VALUES (2, LENGTH('information_schema'))",
	} {
		waits(t, b, q)
	}
	// Its own session may read it, and nothing else.
	require.Equal(t, []string{"1,1"}, query(t, a, "SELECT * FROM t"))
	for _, q := range []string{
		"INSERT INTO t VALUES (2, 2)", "UPDATE t SET v = 2 WHERE id = 99", "DELETE FROM t WHERE id = 99", "REPLACE INTO t VALUES (1, 2)",
		"SELECT * FROM t FOR UPDATE", "DROP TABLE t", "ALTER TABLE t ADD COLUMN w INT", "TRUNCATE TABLE t",
	} {
		fails(t, a, 1099, q)
	}
	done := begun(t, c, b, "INSERT INTO t VALUES (2, 2)")
	run(t, a, "UNLOCK TABLES")
	require.NoError(t, <-done)
	require.Equal(t, []string{"2"}, query(t, a, "SELECT COUNT(*) FROM t"))
}

func TestLockTablesWrite(t *testing.T) {
	_, db := lockable(t)
	a, b, c := connection(t, db), connection(t, db), connection(t, db)
	run(t, a, "LOCK TABLES t LOW_PRIORITY WRITE")
	for _, q := range []string{"SELECT * FROM t", "SELECT * FROM vw", "INSERT INTO t VALUES (2, 2)", "LOCK TABLES t READ", "LOCK TABLES u READ, t WRITE",
		"DROP TABLE t", "DROP DATABASE app"} {
		waits(t, b, q)
	}
	run(t, b, "INSERT INTO u VALUES (2, 2)")
	require.NotEmpty(t, query(t, b, "SHOW CREATE TABLE t"))
	run(t, a, "INSERT INTO t VALUES (3, 3)", "UPDATE t SET v = v + 1", "DELETE FROM t WHERE id = 1")
	done := begun(t, c, b, "INSERT INTO u SELECT id + 10, v FROM t")
	require.Equal(t, []string{"3,4"}, query(t, a, "SELECT * FROM t FOR UPDATE"))
	run(t, a, "UNLOCK TABLES")
	require.NoError(t, <-done)
	require.Equal(t, []string{"1,1", "2,2", "13,4"}, query(t, c, "SELECT * FROM u ORDER BY id"))
}

// LOCK TABLES waits for transactions that have used the table, and those who come
// later wait behind it.
func TestLockTablesWaitsForTransactions(t *testing.T) {
	_, db := lockable(t)
	a, b, c, d := connection(t, db), connection(t, db), connection(t, db), connection(t, db)
	run(t, a, "BEGIN", "UPDATE t SET v = 7")
	done := begun(t, c, b, "LOCK TABLES u READ, t READ")
	waits(t, d, "INSERT INTO u VALUES (9, 9)")
	// Whoever it waits for goes on with the other table.
	run(t, a, "UPDATE u SET v = 7", "COMMIT")
	require.NoError(t, <-done)
	require.Equal(t, []string{"7,7"}, query(t, b, "SELECT t.v, u.v FROM t, u"))
	run(t, b, "UNLOCK TABLES")
	run(t, a, "BEGIN")
	query(t, a, "SELECT * FROM t")
	run(t, b, "LOCK TABLES t READ", "UNLOCK TABLES")
	waits(t, b, "LOCK TABLES t WRITE")
	run(t, a, "COMMIT")
	run(t, b, "LOCK TABLES t WRITE")
}

func TestLockTablesNamesWhatMayBeUsed(t *testing.T) {
	_, db := lockable(t)
	a, b := connection(t, db), connection(t, db)
	run(t, a, "CREATE TEMPORARY TABLE tmp (id INT PRIMARY KEY)", "LOCK TABLES t AS x READ, t WRITE")
	run(t, b, "BEGIN")
	for _, q := range []string{
		"SELECT * FROM u", "SELECT * FROM t, u", "SELECT * FROM t AS y", "SELECT (SELECT MAX(id) FROM u) FROM t", "SELECT * FROM vw",
		"INSERT INTO u VALUES (2, 2)", "INSERT INTO t SELECT * FROM u", "UPDATE u SET v = 1", "DELETE FROM u", "DROP TABLE u",
		"CREATE TABLE w (id INT)", "ALTER TABLE u ADD COLUMN w INT", "SELECT * FROM t WHERE id IN (SELECT id FROM u)",
		"WITH q AS (SELECT * FROM u) SELECT * FROM q", "SELECT * FROM t UNION SELECT * FROM u", "SELECT * FROM (SELECT * FROM u) z",
	} {
		fails(t, a, 1100, q)
	}
	fails(t, a, 1099, "UPDATE t AS x SET v = 1")
	fails(t, a, 1192, "DROP DATABASE app")
	require.Equal(t, []string{"1"}, query(t, a, "SELECT x.id FROM t AS x"))
	require.Equal(t, []string{"1"}, query(t, a, "WITH u AS (SELECT id FROM t) SELECT * FROM u"))
	run(t, a, "INSERT INTO t SELECT id + 1, v FROM t AS x", "INSERT INTO tmp SELECT id FROM t", "UPDATE app.t SET v = 5")
	require.Equal(t, []string{"2"}, query(t, a, "SELECT COUNT(*) FROM tmp"))
	query(t, a, "SELECT COUNT(*) FROM information_schema.tables")
	query(t, a, "SELECT COUNT(*) FROM rowlock.locks")
	query(t, a, "SELECT COUNT(*) FROM performance_schema.data_locks")
	fails(t, a, 1066, "LOCK TABLES t READ, t WRITE")
	fails(t, a, 1146, "LOCK TABLES t READ, missing READ")
	run(t, a, "UNLOCK TABLES", "UPDATE u SET v = 1")

	run(t, b, "ROLLBACK")
	run(t, a, "PREPARE p FROM 'SELECT * FROM u'", "LOCK TABLES t WRITE, u READ")
	require.Len(t, query(t, a, "EXECUTE p"), 1)
	run(t, a, "UPDATE t, u SET t.v = u.v WHERE t.id = u.id")
	fails(t, a, 1099, "UPDATE t, u SET u.v = 9 WHERE t.id = u.id")
	run(t, a, "LOCK TABLES t READ")
	fails(t, a, 1100, "EXECUTE p")
	run(t, a, "LOCK TABLES vw READ")
	require.Len(t, query(t, a, "SELECT * FROM vw"), 2)
	fails(t, a, 1100, "SELECT * FROM t")
	waits(t, b, "INSERT INTO t VALUES (77, 7)")
}

// What triggers, procedures and foreign keys use need not be named.
func TestLockTablesLeavesOutWhatIsUsedWithin(t *testing.T) {
	_, db := lockable(t)
	a := connection(t, db)
	run(t, a, "CREATE TABLE log (id INT PRIMARY KEY)", "CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO log VALUES (NEW.id)",
		"CREATE PROCEDURE p() SELECT COUNT(*) FROM log", "CREATE TABLE parent (id INT PRIMARY KEY)", "INSERT INTO parent VALUES (1)",
		"CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))")
	run(t, a, "LOCK TABLES t WRITE, child WRITE, parent READ", "INSERT INTO t VALUES (5, 5)", "INSERT INTO child VALUES (1, 1)")
	require.Equal(t, []string{"1"}, query(t, a, "CALL p()"))
	fails(t, a, 1099, "DELETE FROM parent")
	run(t, a, "LOCK TABLES child WRITE", "INSERT INTO child VALUES (2, 1)")
}

func TestWhatEndsLockTables(t *testing.T) {
	_, db := lockable(t)
	b := connection(t, db)
	for _, q := range []string{"UNLOCK TABLES", "BEGIN", "START TRANSACTION READ ONLY", "LOCK TABLES u READ"} {
		a := connection(t, db)
		run(t, a, "SET autocommit = 0", "LOCK TABLES t WRITE", "UPDATE t SET v = v + 1", q)
		run(t, b, "SET lock_wait_timeout = 30", "LOCK TABLES t WRITE", "UNLOCK TABLES")
		run(t, a, "ROLLBACK", "UNLOCK TABLES")
	}
	require.Equal(t, []string{"5"}, query(t, b, "SELECT v FROM t"), "each of them has committed")

	a := connection(t, db)
	run(t, a, "BEGIN", "UPDATE t SET v = 6", "LOCK TABLES t WRITE", "COMMIT", "ROLLBACK", "SET @x = 1", "SELECT v FROM t")
	waits(t, b, "SELECT v FROM t")
	fails(t, a, 1062, "INSERT INTO t VALUES (1, 1)")
	waits(t, b, "SELECT v FROM t")
	run(t, a, "BEGIN", "UPDATE t SET v = 7", "UNLOCK TABLES")
	run(t, a, "ROLLBACK")
	require.Equal(t, []string{"6"}, query(t, b, "SELECT v FROM t"), "without LOCK TABLES, UNLOCK TABLES commits nothing")
}

func TestLockTablesEndsWithItsSession(t *testing.T) {
	s, db := lockable(t)
	tcp, newest := s.overTCP(t)
	tcp.SetMaxIdleConns(0)
	b, k := connection(t, db), connection(t, db)
	for _, end := range []string{"KILL", "disconnect"} {
		a, err := tcp.Conn(context.Background())
		require.NoError(t, err)
		id := query(t, a, "SELECT CONNECTION_ID()")[0]
		run(t, a, "SET autocommit = 0", "LOCK TABLES t WRITE", "UPDATE t SET v = 100")
		done := begun(t, k, b, "UPDATE t SET v = v + 1")
		if end == "KILL" {
			run(t, k, "KILL "+id)
		} else {
			require.NoError(t, newest().Close())
		}
		require.NoError(t, <-done)
		a.Close()
	}
	require.Equal(t, []string{"3"}, query(t, b, "SELECT v FROM t"))
}

// KILL QUERY ends the wait of LOCK TABLES; nothing is locked, nothing stands in
// the queue, and it can be tried again.
func TestLockTablesWaitIsKilled(t *testing.T) {
	_, db := lockable(t)
	a, b, k := connection(t, db), connection(t, db), connection(t, db)
	run(t, a, "LOCK TABLES t READ")
	id := query(t, b, "SELECT CONNECTION_ID()")[0]
	done := begun(t, k, b, "LOCK TABLES u WRITE, t WRITE")
	run(t, k, "KILL QUERY "+id)
	require.Equal(t, 1317, number(<-done))
	run(t, k, "INSERT INTO u VALUES (2, 2)")
	require.Equal(t, []string{"1"}, query(t, k, "SELECT v FROM t"))
	done = begun(t, k, b, "LOCK TABLES u WRITE, t WRITE")
	run(t, a, "UNLOCK TABLES")
	require.NoError(t, <-done)
	waits(t, k, "INSERT INTO u VALUES (3, 3)")
}

// Schema changes of a locked table run in the session that has it.
func TestLockTablesAndSchemaChanges(t *testing.T) {
	_, db := lockable(t)
	a, b := connection(t, db), connection(t, db)
	run(t, a, "LOCK TABLES t WRITE, u WRITE", "ALTER TABLE t ADD COLUMN w INT", "CREATE INDEX i ON t (v)", "INSERT INTO t VALUES (2, 2, 2)")
	waits(t, b, "SELECT * FROM t")
	run(t, a, "TRUNCATE TABLE t", "RENAME TABLE t TO t2", "INSERT INTO t2 VALUES (3, 3, 3)")
	waits(t, b, "SELECT * FROM t2")
	fails(t, b, 1146, "SELECT * FROM t")
	run(t, a, "DROP TABLE t2")
	fails(t, b, 1146, "SELECT * FROM t2")
	waits(t, b, "SELECT * FROM u")
	run(t, a, "DROP TABLE u", "CREATE TABLE w (id INT)")
	query(t, b, "SELECT * FROM w")
}

// What mysqldump writes can be loaded.
func TestLoadOfADumpThatLocksTables(t *testing.T) {
	_, db := app(t)
	for _, autocommit := range []string{"0", "1"} {
		a, b := connection(t, db), connection(t, db)
		run(t, a, "SET autocommit = "+autocommit, "DROP TABLE IF EXISTS `d`", "CREATE TABLE `d` (`id` int NOT NULL, PRIMARY KEY (`id`))",
			"LOCK TABLES `d` WRITE", "/*!40000 ALTER TABLE `d` DISABLE KEYS */", "INSERT INTO `d` VALUES (1),(2)",
			"/*!40000 ALTER TABLE `d` ENABLE KEYS */", "UNLOCK TABLES")
		require.Equal(t, []string{"2"}, query(t, b, "SELECT COUNT(*) FROM d"), "autocommit=%s", autocommit)
	}
}

// Each statement of a text with several is compared with the list by itself, and
// LOCK TABLES is a statement of its own.
func TestLockTablesInOtherStatements(t *testing.T) {
	s, db := lockable(t)
	a, err := s.db("app", "multiStatements=true").Conn(context.Background())
	require.NoError(t, err)
	defer a.Close()
	b := connection(t, db)
	require.Equal(t, 1100, number(execErr(a, "LOCK TABLES t WRITE; INSERT INTO u VALUES (2, 2)")))
	run(t, a, "INSERT INTO t VALUES (2, 2); UNLOCK TABLES; INSERT INTO u VALUES (2, 2); LOCK TABLES u READ; UNLOCK TABLES")
	require.Equal(t, []string{"2"}, query(t, b, "SELECT COUNT(*) FROM u"))
	run(t, b, "PREPARE p FROM 'LOCK TABLES t READ'")
	fails(t, b, 1295, "EXECUTE p")
	run(t, b, "/* a comment */ LOCK TABLES t READ", "/* b */ LOCK TABLES u WRITE", "INSERT INTO u VALUES (3, 3)")
}
