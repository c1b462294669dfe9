package sqlfront

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A statement that fails inside a transaction leaves nothing, and the transaction
// what it had: also where errors of single rows are ignored, as a LOAD DATA LOCAL
// always does, for that is no reason to keep half of a statement.
func TestFailedStatementLeavesNothing(t *testing.T) {
	s := newStack(t, Config{})
	db, other := connection(t, s.db("", "")), connection(t, s.db("", ""))
	run(t, db, "SET GLOBAL local_infile = 1", "CREATE DATABASE d", "USE d", "SET innodb_lock_wait_timeout = 1",
		"CREATE TABLE t (id INT PRIMARY KEY, a INT, j JSON, UNIQUE KEY (a))", "INSERT INTO t (id, a) VALUES (100, 100), (101, 101), (102, 102), (103, 103)",
		"CREATE TABLE l (id INT PRIMARY KEY)")
	run(t, other, "USE d", "BEGIN", "INSERT INTO t (id, a) VALUES (3, 3)")
	for _, c := range []struct {
		statement string
		file      string
		want      int
	}{
		{"INSERT IGNORE INTO t (id, a) VALUES (1, 1), (100, 2), (2, 2), (3, 4)", "", 1205},
		{"INSERT IGNORE INTO t (id, a) SELECT id - 100, a FROM t WHERE id > 100 ORDER BY id", "", 1205},
		{`INSERT IGNORE INTO t VALUES (1, 1, '{}'), (2, 100, '{}'), (4, 4, '{bad')`, "", 3140},
		{"REPLACE INTO t (id, a) VALUES (1, 101), (100, 1), (3, 4)", "", 1205},
		{"INSERT INTO t (id, a) VALUES (1, 1), (100, 1), (3, 4) ON DUPLICATE KEY UPDATE j = '{}'", "", 1205},
		{"UPDATE IGNORE t SET a = a - 100 WHERE id >= 100 ORDER BY id", "", 1205},
		{"LOAD DATA LOCAL INFILE %s INTO TABLE t FIELDS TERMINATED BY '|' (id, a)", "1|1\n2|1\n4|4\n3|3\n", 1205},
		{"LOAD DATA LOCAL INFILE %s INTO TABLE t FIELDS TERMINATED BY '|' (id, a, j)", "1|1|{}\n2|2|{bad\n", 3140},
		{"LOAD DATA LOCAL INFILE %s REPLACE INTO TABLE t FIELDS TERMINATED BY '|' (id, a)", "1|101\n3|3\n", 1205},
	} {
		t.Run(c.statement, func(t *testing.T) {
			run(t, db, "BEGIN", "INSERT INTO t (id, a) VALUES (7, 7)", "UPDATE t SET a = 200 WHERE id = 100")
			var err error
			if c.file == "" {
				_, err = db.ExecContext(context.Background(), c.statement)
			} else {
				_, err = loadFile(db, c.statement, c.file)
			}
			require.Equal(t, c.want, number(err), "%v", err)
			run(t, db, "COMMIT")
			require.Equal(t, []string{"7,7,NULL", "100,200,NULL", "101,101,NULL", "102,102,NULL", "103,103,NULL"}, query(t, db, "SELECT * FROM t ORDER BY id"))
			run(t, db, "DELETE FROM t WHERE id = 7", "UPDATE t SET a = 100 WHERE id = 100")
		})
	}
}

// The rows that have errors to ignore are left out one by one, and a statement that
// is run again in a procedure is undone as itself, not as all its runs.
func TestIgnoredRowsAndRepeatedStatements(t *testing.T) {
	s := newStack(t, Config{})
	db := connection(t, s.db("", ""))
	run(t, db, "CREATE DATABASE d", "USE d", "CREATE TABLE parents (id INT PRIMARY KEY)", "INSERT INTO parents VALUES (1), (2), (3), (4)",
		"CREATE TABLE t (id INT PRIMARY KEY, p INT, a INT CHECK (a >= 0), FOREIGN KEY (p) REFERENCES parents (id))",
		"CREATE TABLE seen (id INT PRIMARY KEY)",
		"CREATE TRIGGER tr AFTER INSERT ON seen FOR EACH ROW INSERT IGNORE INTO t VALUES (NEW.id, NEW.id, 0), (NEW.id, NEW.id, 1), (NEW.id + 10, NEW.id, -1)")
	run(t, db, "BEGIN", "INSERT IGNORE INTO t VALUES (1, 1, 0), (1, 2, 0), (2, 2, -5), (3, 30, 0), (4, 4, 0)")
	require.Equal(t, []string{"1,1,0", "4,4,0"}, query(t, db, "SELECT * FROM t ORDER BY id"))
	run(t, db, "DELETE FROM t", "INSERT INTO seen VALUES (1), (2), (3)")
	require.Equal(t, []string{"1,1,0", "2,2,0", "3,3,0"}, query(t, db, "SELECT * FROM t ORDER BY id"))
	_, err := db.ExecContext(context.Background(), "INSERT INTO seen VALUES (4), (5), (1)")
	require.Equal(t, 1062, number(err), "%v", err)
	run(t, db, "COMMIT")
	require.Equal(t, []string{"1,1,0", "2,2,0", "3,3,0"}, query(t, db, "SELECT * FROM t ORDER BY id"))
}

// A LOAD DATA that is killed between two rows leaves nothing in its transaction: here
// before a row that is left out.
func TestKilledLoadInATransactionLeavesNothing(t *testing.T) {
	s := newStack(t, Config{})
	db, other := connection(t, s.db("", "")), connection(t, s.db("", ""))
	run(t, db, "SET GLOBAL local_infile = 1", "CREATE DATABASE d", "USE d", "CREATE TABLE t (id INT PRIMARY KEY, a INT CHECK (a >= 0))", "BEGIN", "INSERT INTO t VALUES (7, 7)")
	id := one(t, db, "CONNECTION_ID()")
	file, rest := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := loadFrom(db, "LOAD DATA LOCAL INFILE %s INTO TABLE t FIELDS TERMINATED BY ',' (id, a)", file)
		file.CloseWithError(io.ErrClosedPipe) // who writes must not wait
		ended <- err
	}()
	_, err := io.WriteString(rest, "1,1\n2,2\n3,-")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return len(query(t, other, "SELECT * FROM rowlock.transactions WHERE writes >= 3")) > 0
	}, time.Minute, time.Millisecond)
	run(t, other, "KILL QUERY "+id)
	_, _ = io.WriteString(rest, "1\n")
	_ = rest.Close()
	select {
	case err := <-ended:
		require.Equal(t, 1317, number(err), "%v", err)
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	run(t, db, "COMMIT")
	require.Equal(t, []string{"7"}, query(t, db, "SELECT id FROM t"))
}

// INSERT and REPLACE of several rows that the fast path answers are undone as a whole.
func TestFastInsertIsAtomic(t *testing.T) {
	s := newStack(t, Config{})
	db, other := connection(t, s.db("", "")), connection(t, s.db("", ""))
	run(t, db, "CREATE DATABASE d", "USE d", "SET innodb_lock_wait_timeout = 1", "SET rowlock_fast_path = ON",
		"CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, UNIQUE KEY (a))", "INSERT INTO t VALUES (1, 1), (100, 100)")
	run(t, other, "USE d", "BEGIN", "INSERT INTO t VALUES (3, 3)")
	for _, verb := range []string{"INSERT", "REPLACE"} {
		for i := range 3 { // its shape is learned
			first := 200 + 3*i
			run(t, db, "BEGIN")
			_, err := db.ExecContext(context.Background(), threeRows(verb, first, first, first+1, first+1, first+2, first+2))
			require.NoError(t, err)
			run(t, db, "ROLLBACK")
		}
		before := s.server.fast.taken.Load()
		run(t, db, "BEGIN", "INSERT INTO t VALUES (7, 7)")
		_, err := db.ExecContext(context.Background(), threeRows(verb, 4, 4, 5, 1, 3, 9)) // REPLACE removes a row first
		require.Contains(t, map[string][]int{"INSERT": {1062, 1205}, "REPLACE": {1205}}[verb], number(err), "%v", err)
		_, err = db.ExecContext(context.Background(), threeRows(verb, 4, 4, 5, 5, 3, 9))
		require.Equal(t, 1205, number(err), "%v", err)
		run(t, db, "COMMIT")
		require.Greater(t, s.server.fast.taken.Load(), before+1)
		require.Equal(t, []string{"1,1", "7,7", "100,100"}, query(t, db, "SELECT * FROM t ORDER BY id"), verb)
		run(t, db, "DELETE FROM t WHERE id = 7")
	}
}

func threeRows(verb string, v ...int) string {
	return fmt.Sprintf("%s INTO t VALUES (%d, %d), (%d, %d), (%d, %d)", verb, v[0], v[1], v[2], v[3], v[4], v[5])
}
