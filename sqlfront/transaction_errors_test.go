package sqlfront

import (
	"context"
	"database/sql"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

func requireNumber(t testing.TB, number uint16, state string, err error) {
	t.Helper()
	var e *mysql.MySQLError
	require.ErrorAs(t, err, &e)
	require.Equal(t, number, e.Number, "%v", err)
	require.Equal(t, state, string(e.SQLState[:]), "%v", err)
}

func attempt(c *sql.Conn, q string, args ...any) error {
	_, err := c.ExecContext(context.Background(), q, args...)
	return err
}

// What two sessions do to one another must reach their drivers under the
// numbers that drivers retry on.
func TestTransactionErrorsOverTheWire(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "interpolateParams=false")
	run(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v INT)", "INSERT INTO d.t VALUES (1,1),(2,2)")
	a, b := connection(t, db), connection(t, db)

	t.Run("conflict with the snapshot", func(t *testing.T) {
		run(t, a, "BEGIN")
		query(t, a, "SELECT * FROM d.t")
		run(t, b, "UPDATE d.t SET v = v + 1 WHERE id = 1")
		requireNumber(t, 1213, "40001", attempt(a, "UPDATE d.t SET v = ? WHERE id = ?", 7, 1))
		// The whole transaction is gone, and the session is usable.
		run(t, a, "UPDATE d.t SET v = v + 1 WHERE id = 1", "ROLLBACK")
		require.Equal(t, []string{"1,3", "2,2"}, query(t, b, "SELECT * FROM d.t ORDER BY id"))
	})
	t.Run("lock wait timeout ends the statement only", func(t *testing.T) {
		run(t, a, "BEGIN", "UPDATE d.t SET v = 10 WHERE id = 1")
		run(t, b, "SET innodb_lock_wait_timeout = 1", "BEGIN", "UPDATE d.t SET v = 20 WHERE id = 2")
		requireNumber(t, 1205, "HY000", attempt(b, "UPDATE d.t SET v = 20 WHERE id = 1"))
		run(t, a, "ROLLBACK")
		run(t, b, "COMMIT")
		require.Equal(t, []string{"1,3", "2,20"}, query(t, a, "SELECT * FROM d.t ORDER BY id"))
	})
	t.Run("deadlock", func(t *testing.T) {
		run(t, a, "BEGIN", "UPDATE d.t SET v = 0 WHERE id = 1")
		run(t, b, "SET innodb_lock_wait_timeout = 50", "BEGIN", "UPDATE d.t SET v = 0 WHERE id = 2")
		waits := make(chan error, 1)
		go func() { waits <- attempt(a, "UPDATE d.t SET v = 0 WHERE id = 2") }()
		err := attempt(b, "UPDATE d.t SET v = 0 WHERE id = 1")
		other := <-waits
		if err == nil {
			err, other = other, err
		}
		requireNumber(t, 1213, "40001", err)
		require.NoError(t, other, "one victim is enough")
		run(t, a, "ROLLBACK")
		run(t, b, "ROLLBACK")
	})
	t.Run("max_execution_time of the session", func(t *testing.T) {
		run(t, a, "SET SESSION max_execution_time = 20")
		_, err := tryQuery(a, "SELECT SLEEP(20)")
		requireNumber(t, 3024, "HY000", err)
		run(t, a, "SET SESSION max_execution_time = 0")
	})
	t.Run("serializable", func(t *testing.T) {
		run(t, a, "SET SESSION transaction_isolation = 'SERIALIZABLE'", "BEGIN")
		run(t, b, "SET SESSION transaction_isolation = 'SERIALIZABLE'", "SET innodb_lock_wait_timeout = 1", "BEGIN", "UPDATE d.t SET v = v + 1 WHERE id = 1")
		_, err := tryQuery(b, "SELECT v FROM d.t WHERE id = 2")
		require.NoError(t, err)
		run(t, a, "SET innodb_lock_wait_timeout = 1")
		_, err = tryQuery(a, "SELECT v FROM d.t WHERE id = 1")
		requireNumber(t, 1205, "HY000", err)
		run(t, a, "ROLLBACK")
		// On its own it is a snapshot read and waits for nobody.
		require.Equal(t, []string{"3"}, query(t, a, "SELECT v FROM d.t WHERE id = 1"))
		run(t, b, "ROLLBACK")
		run(t, a, "SET SESSION transaction_isolation = 'REPEATABLE-READ'")
	})
	t.Run("read only", func(t *testing.T) {
		run(t, a, "START TRANSACTION READ ONLY")
		requireNumber(t, 1792, "25006", attempt(a, "UPDATE d.t SET v = 0"))
		run(t, a, "ROLLBACK")
	})
}

// The views of database rowlock are readable with users and grants in force.
func TestSystemViews(t *testing.T) {
	s := newStack(t, Config{Sources: Sources{
		Shards: func(context.Context) ([]ShardInfo, error) { return []ShardInfo{{Shard: 1, Owner: 1, Share: 0.5}}, nil },
	}})
	db := s.db("rowlock", "")
	require.Equal(t, []string{"1,0.5"}, query(t, db, "SELECT shard, share FROM shards"))
	require.Equal(t, []string{"1"}, query(t, db, "SELECT owner FROM rowlock.shards WHERE shard = 1"))
	require.Equal(t, []string{"advisory_locks", "checksums", "deadlocks", "innodb_status", "jobs", "lock_waits", "locks", "metrics", "moves", "nodes",
		"replicas", "sessions", "shards", "transactions"}, query(t, db, "SHOW TABLES"))
	_, err := db.Exec("CREATE VIEW v AS SELECT 1")
	require.Error(t, err)
}

// A row of a joined DELETE goes once, however many partners it has.
func TestDeleteJoinedRowsOnce(t *testing.T) {
	_, db := app(t,
		"CREATE TABLE p (id INT PRIMARY KEY, a INT)", "CREATE TABLE c (id INT PRIMARY KEY, pid INT, KEY (pid))", "CREATE TABLE bare (a INT)",
		"INSERT INTO p VALUES (1,1),(2,2)", "INSERT INTO c VALUES (1,1),(2,1),(3,2)", "INSERT INTO bare VALUES (1),(1),(2)",
		"DELETE p, c FROM p JOIN c ON p.id = c.pid WHERE p.id = 1")
	require.Equal(t, []string{"2"}, query(t, db, "SELECT id FROM p"))
	require.Equal(t, []string{"3"}, query(t, db, "SELECT id FROM c"))
	run(t, db, "INSERT INTO c VALUES (4,1),(5,1)", "DELETE bare FROM bare JOIN c ON bare.a = c.pid WHERE c.pid = 1")
	require.Equal(t, []string{"2"}, query(t, db, "SELECT a FROM bare"))
}

// Constraints hold on tables with virtual columns and functional indexes too.
func TestChecksBesideVirtualColumns(t *testing.T) {
	_, db := app(t,
		"CREATE TABLE v (a INT PRIMARY KEY, b INT, c INT AS (b + 1) VIRTUAL, KEY (c), CHECK (b < 5))",
		"CREATE TABLE f (a INT PRIMARY KEY, b INT)", "CREATE INDEX e ON f ((b + 1))", "ALTER TABLE f ADD CONSTRAINT small CHECK (b < 5)",
		"ALTER TABLE v ADD CONSTRAINT even CHECK (c % 2 = 0)")
	for _, table := range []string{"v", "f"} {
		insert := "INSERT INTO " + table + " (a, b) VALUES "
		run(t, db, insert+"(1, 1), (2, NULL)")
		requireNumber(t, 3819, "HY000", attemptDB(db, insert+"(3, 9)"))
		requireNumber(t, 3819, "HY000", attemptDB(db, "UPDATE "+table+" SET b = 11"))
		require.Equal(t, []string{"1,1", "2,NULL"}, query(t, db, "SELECT a, b FROM "+table+" ORDER BY a"))
	}
	requireNumber(t, 3819, "HY000", attemptDB(db, "INSERT INTO v (a, b) VALUES (4, 2)"))
}

func attemptDB(db *sql.DB, q string) error {
	_, err := db.Exec(q)
	return err
}

// Conditions hold whatever ranges the planner makes of them.
func TestUnequalDecimals(t *testing.T) {
	_, db := app(t, "CREATE TABLE b (id INT PRIMARY KEY, d DECIMAL(10,3), KEY (d))", "INSERT INTO b VALUES (1,1.5),(2,1.4),(3,1.6)")
	require.Equal(t, []string{"2", "3"}, query(t, db, "SELECT id FROM b WHERE d <> 1.5 ORDER BY id"))
	require.Equal(t, []string{"2", "3"}, query(t, db, "SELECT id FROM b WHERE NOT (d = 1.5) ORDER BY id"))
}
