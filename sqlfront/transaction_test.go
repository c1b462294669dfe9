package sqlfront

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// number is the MySQL error number of err, 0 if it has none.
func number(err error) int {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return int(e.Number)
	}
	return 0
}

func connection(t testing.TB, db *sql.DB) *sql.Conn {
	c, err := db.Conn(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func execErr(c interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, q string) error {
	_, err := c.ExecContext(context.Background(), q)
	return err
}

// app starts a stack with a database app and the given statements run in it.
func app(t testing.TB, statements ...string) (*stack, *sql.DB) {
	return appOf(t, newStack(t, Config{}), statements...)
}

// appWithBlocks places the rows of its tables by blocks, so that a few are on one shard.
// With app they are on several.
func appWithBlocks(t testing.TB, statements ...string) (*stack, *sql.DB) {
	return appOf(t, newStack(t, Config{Blocks: func() bool { return true }}), statements...)
}

func appOf(t testing.TB, s *stack, statements ...string) (*stack, *sql.DB) {
	run(t, s.db("", ""), "CREATE DATABASE app")
	db := s.db("app", "")
	run(t, db, statements...)
	return s, db
}

// waiting lets until see the lock requests that wait at the owners.
func (s *stack) waiting(t testing.TB, n int) {
	t.Helper()
	for {
		waits := 0
		for _, id := range s.node.Router().DataShards() {
			locks, err := s.node.Router().Locks(context.Background(), id)
			require.NoError(t, err)
			for _, l := range locks {
				if l.Waiting {
					waits++
				}
			}
		}
		if waits >= n {
			return
		}
	}
}

func TestLockingReads(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, KEY v (v))", "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN")
	require.Equal(t, []string{"2"}, query(t, a, "SELECT id FROM t WHERE v = 2 FOR UPDATE"))
	_, err := tryQuery(b, "SELECT id FROM t WHERE id = 2 FOR UPDATE NOWAIT")
	require.Equal(t, 3572, number(err))
	require.Equal(t, []string{"1", "3"}, query(t, b, "SELECT id FROM t ORDER BY id FOR UPDATE SKIP LOCKED"))
	require.Equal(t, []string{"1", "2", "3"}, query(t, b, "SELECT id FROM t ORDER BY id"))
	run(t, b, "SET innodb_lock_wait_timeout = 1")
	require.Equal(t, 1205, number(execErr(b, "UPDATE t SET v = 9 WHERE id = 2")))

	done := make(chan error, 1)
	run(t, b, "SET innodb_lock_wait_timeout = 50")
	go func() { done <- execErr(b, "UPDATE t SET v = v + 10 WHERE id = 2") }()
	s.waiting(t, 1)
	run(t, a, "UPDATE t SET v = 5 WHERE id = 2", "COMMIT")
	require.NoError(t, <-done)
	require.Equal(t, []string{"15"}, query(t, a, "SELECT v FROM t WHERE id = 2"))
}

func TestDeadlockRollsOneBack(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0), (2, 0)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN", "UPDATE t SET v = 1 WHERE id = 1")
	run(t, b, "BEGIN", "UPDATE t SET v = 2 WHERE id = 2")
	done := make(chan error, 1)
	go func() { done <- execErr(a, "UPDATE t SET v = 1 WHERE id = 2") }()
	s.waiting(t, 1)
	errB := execErr(b, "UPDATE t SET v = 2 WHERE id = 1")
	if errB == nil {
		// b waits for a's rollback and then has the lock.
		require.Equal(t, 1213, number(<-done))
		run(t, b, "COMMIT")
		require.Equal(t, []string{"2", "2"}, query(t, db, "SELECT v FROM t"))
		return
	}
	require.Equal(t, 1213, number(errB))
	require.NoError(t, <-done)
	run(t, a, "COMMIT")
	require.Equal(t, []string{"1", "1"}, query(t, db, "SELECT v FROM t"))
	// The victim's session is usable and out of its transaction.
	run(t, b, "UPDATE t SET v = 3 WHERE id = 1")
	require.Equal(t, []string{"3", "1"}, query(t, a, "SELECT v FROM t ORDER BY id"))
}

func TestAFailedStatementKeepsNoLock(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	a, b := connection(t, db), connection(t, db)
	require.Equal(t, 1062, number(execErr(a, "INSERT INTO t VALUES (2), (1)")))
	run(t, b, "SET innodb_lock_wait_timeout = 1", "DELETE FROM t WHERE id = 1")
	require.Equal(t, []string{"0"}, query(t, a, "SELECT COUNT(*) FROM t"))
}

func TestReadOnlyTransaction(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	c := connection(t, db)
	run(t, c, "START TRANSACTION READ ONLY")
	require.Equal(t, 1792, number(execErr(c, "INSERT INTO t VALUES (2)")))
	require.Equal(t, []string{"1"}, query(t, c, "SELECT id FROM t"))
	run(t, c, "COMMIT", "INSERT INTO t VALUES (2)")
}

func TestKillUndoesTheStatement(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)")
	a, b, k := connection(t, db), connection(t, db), connection(t, db)
	run(t, a, "BEGIN", "UPDATE t SET v = 7 WHERE id = 3")
	id := query(t, b, "SELECT CONNECTION_ID()")[0]
	run(t, b, "BEGIN", "UPDATE t SET v = 1 WHERE id = 1")
	done := make(chan error, 1)
	go func() { done <- execErr(b, "UPDATE t SET v = v + 100") }()
	s.waiting(t, 1)
	run(t, k, "KILL QUERY "+id)
	require.Equal(t, 1317, number(<-done))
	run(t, a, "COMMIT")
	run(t, b, "COMMIT")
	require.Equal(t, []string{"1", "0", "7"}, query(t, k, "SELECT v FROM t ORDER BY id"))
}

func TestConcurrentTransfers(t *testing.T) {
	const accounts, workers, rounds = 8, 4, 25
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL, KEY v (v))")
	for i := range accounts {
		run(t, db, fmt.Sprintf("INSERT INTO t VALUES (%d, 100)", i))
	}
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for r := range rounds {
				from, to := (w+r)%accounts, (w*3+r*5+1)%accounts
				for transfer(db, from, to) != nil {
				}
			}
		})
	}
	group.Wait()
	require.Equal(t, []string{"800"}, query(t, db, "SELECT SUM(v) FROM t"))
	require.Equal(t, []string{"8"}, query(t, db, "SELECT COUNT(*) FROM t FORCE INDEX (v) WHERE v > -10000"))
}

func transfer(db *sql.DB, from, to int) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec("UPDATE t SET v = v - 1 WHERE id = ?", from); err != nil {
		return err
	}
	if _, err := tx.Exec("UPDATE t SET v = v + 1 WHERE id = ?", to); err != nil {
		return err
	}
	return tx.Commit()
}

func TestTemporaryTables(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "CREATE TEMPORARY TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, s VARCHAR(10), KEY s (s))",
		"INSERT INTO t (s) VALUES ('x'), ('y')", "ALTER TABLE t ADD COLUMN n INT DEFAULT 4")
	require.Equal(t, []string{"2,y,4"}, query(t, a, "SELECT * FROM t WHERE s = 'y'"))
	require.Equal(t, []string{"1"}, query(t, b, "SELECT * FROM t"))
	run(t, a, "BEGIN", "DELETE FROM t", "ROLLBACK")
	require.Equal(t, []string{"2"}, query(t, a, "SELECT COUNT(*) FROM t"))
	run(t, a, "DROP TABLE t")
	require.Equal(t, []string{"1"}, query(t, a, "SELECT * FROM t"))
}

func TestSystemDatabase(t *testing.T) {
	s := newStack(t, Config{Sources: Sources{Nodes: func(context.Context) ([]NodeInfo, error) {
		return []NodeInfo{{Node: 1, Address: "127.0.0.1:1", State: "up"}}, nil
	}}})
	db := s.db("rowlock", "")
	require.Equal(t, []string{"1,127.0.0.1:1,up"}, query(t, db, "SELECT node, address, state FROM nodes"))
	require.Equal(t, []string{"0"}, query(t, db, "SELECT COUNT(*) FROM locks"))
}

func TestSingleStatementsNeverConflict(t *testing.T) {
	const workers, rounds = 4, 50
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)", "INSERT INTO t VALUES (1, 0)")
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range rounds {
				if _, err := db.Exec("UPDATE t SET v = v + 1 WHERE id = 1"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	require.Equal(t, []string{"200"}, query(t, db, "SELECT v FROM t"))
}

func TestForeignKeysLockTheParent(t *testing.T) {
	s, db := app(t, "CREATE TABLE p (id INT PRIMARY KEY, v INT)",
		"CREATE TABLE c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id))", "INSERT INTO p VALUES (1, 0), (2, 0)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN", "INSERT INTO c VALUES (1, 1)")
	done := make(chan error, 1)
	go func() { done <- execErr(b, "DELETE FROM p WHERE id = 1") }()
	s.waiting(t, 1)
	run(t, a, "COMMIT")
	require.Equal(t, 1451, number(<-done))
	require.Equal(t, 1452, number(execErr(a, "INSERT INTO c VALUES (2, 3)")))
	// A parent that changed after the snapshot is no conflict.
	run(t, a, "BEGIN")
	require.Len(t, query(t, a, "SELECT * FROM p"), 2)
	run(t, b, "UPDATE p SET v = 1 WHERE id = 2")
	run(t, a, "INSERT INTO c VALUES (3, 2)", "COMMIT")
}

// later draws timestamps until the millisecond has changed, and returns it.
func (s *stack) later(t testing.TB) time.Time {
	first := time.Time{}
	for {
		now, err := s.coordinator.Now(context.Background())
		require.NoError(t, err)
		at := now.Physical().Truncate(time.Millisecond)
		if first.IsZero() {
			first = at
		}
		if at.After(first) {
			return at
		}
	}
}

func TestAsOf(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
	at := s.later(t).UTC().Format("2006-01-02 15:04:05.000000")
	s.later(t)
	run(t, db, "UPDATE t SET v = 2")
	require.Equal(t, []string{"1"}, query(t, db, "SELECT v FROM t AS OF '"+at+"'"))
	require.Equal(t, []string{"2"}, query(t, db, "SELECT v FROM t"))
}

func BenchmarkPointSelect(b *testing.B) {
	_, db := app(b, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(1000))
	stmt, err := db.Prepare("SELECT s FROM t WHERE id = ?")
	require.NoError(b, err)
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			var s string
			if err := stmt.QueryRow(i % 1000).Scan(&s); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkPointSelectText has every statement parsed and planned.
func BenchmarkPointSelectText(b *testing.B) {
	_, db := app(b, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(1000))
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			var s string
			if err := db.QueryRow(fmt.Sprintf("SELECT s FROM t WHERE id = %d", i%1000)).Scan(&s); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkUpdateByKey is a transaction of one statement on one row.
func BenchmarkUpdateByKey(b *testing.B) {
	_, db := app(b, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(1000))
	stmt, err := db.Prepare("UPDATE t SET v = v + 1 WHERE id = ?")
	require.NoError(b, err)
	for i := 0; b.Loop(); i++ {
		if _, err := stmt.Exec(i % 1000); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInsert(b *testing.B) {
	_, db := app(b, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v INT, s VARCHAR(20), KEY v (v))")
	stmt, err := db.Prepare("INSERT INTO t (v, s) VALUES (?, 'text')")
	require.NoError(b, err)
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			if _, err := stmt.Exec(i); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func TestAnUpdateLocksOnlyTheEntriesItChanges(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, w INT, KEY v (v), KEY w (w))", "INSERT INTO t VALUES (1, 1, 1)")
	c := connection(t, db)
	run(t, c, "BEGIN", "UPDATE t SET v = 2 WHERE id = 1")
	locked := map[catalog.ID]bool{}
	for _, id := range s.node.Router().DataShards() {
		locks, err := s.node.Router().Locks(context.Background(), id)
		require.NoError(t, err)
		for _, l := range locks {
			locked[catalog.ID(binary.BigEndian.Uint64(l.Lo))] = true
		}
	}
	table := s.table("app", "t")
	require.True(t, locked[table.Rows])
	require.True(t, locked[table.Indexes[0].ID])
	require.False(t, locked[table.Indexes[1].ID])
	run(t, c, "COMMIT")
	require.Equal(t, []string{"1"}, query(t, db, "SELECT id FROM t WHERE v = 2"))
	require.Equal(t, []string{"1"}, query(t, db, "SELECT id FROM t WHERE w = 1"))
	require.Empty(t, query(t, db, "SELECT id FROM t WHERE v = 1"))
}

func TestSerializableHasNoWriteSkew(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0), (2, 0)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", "BEGIN")
	run(t, b, "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", "BEGIN")
	query(t, a, "SELECT v FROM t WHERE id = 1")
	query(t, b, "SELECT v FROM t WHERE id = 2")
	done := make(chan error, 1)
	go func() { done <- execErr(a, "UPDATE t SET v = 1 WHERE id = 2") }()
	s.waiting(t, 1) // a's write waits for what b has read
	err := execErr(b, "UPDATE t SET v = 1 WHERE id = 1")
	other := <-done
	require.True(t, (err == nil) != (other == nil), "%v and %v", err, other)
}

func TestSkipLockedLeavesRowsForOthers(t *testing.T) {
	_, db := app(t, "CREATE TABLE q (id INT PRIMARY KEY)", "INSERT INTO q VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15)")
	a, b := connection(t, db), connection(t, db)
	run(t, a, "BEGIN")
	run(t, b, "BEGIN")
	const next = "SELECT id FROM q ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
	first, second := query(t, a, next), query(t, b, next)
	require.Len(t, first, 1)
	require.Len(t, second, 1)
	require.NotEqual(t, first, second)
}
