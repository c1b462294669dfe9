package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// waits runs statement in the background, lets until see it wait, and returns
// where its error will be.
func (s *stack) waits(t testing.TB, c *sql.Conn, statement string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- execErr(c, statement) }()
	s.waiting(t, 1)
	return done
}

// A row may not enter what a locking read has read, by whatever way, until the
// reader's transaction ends.
func TestARangeStaysTrue(t *testing.T) {
	for _, c := range []struct{ read, change string }{
		{"SELECT id FROM t WHERE id BETWEEN 15 AND 35 FOR UPDATE", "INSERT INTO t VALUES (25, 0, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 15 AND 35 FOR SHARE", "INSERT INTO t VALUES (31, 0, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 15 AND 35 FOR SHARE", "UPDATE t SET id = 16 WHERE id = 10"},
		{"SELECT id FROM t WHERE id BETWEEN 15 AND 35 FOR SHARE", "UPDATE t SET id = 50 WHERE id = 30"},
		{"SELECT id FROM t WHERE id > 100 FOR UPDATE", "INSERT INTO t VALUES (200, 0, 0)"},
		{"SELECT id FROM t WHERE id = 15 FOR SHARE", "INSERT INTO t VALUES (15, 0, 0)"},
		{"SELECT id FROM t WHERE v = 2 FOR UPDATE", "INSERT INTO t VALUES (25, 2, 0)"},
		{"SELECT id FROM t WHERE v = 2 FOR SHARE", "UPDATE t SET v = 2 WHERE id = 10"},
		{"SELECT id FROM t WHERE v = 2 FOR SHARE", "UPDATE t SET v = 9 WHERE id = 20"},
		{"SELECT id FROM t WHERE v BETWEEN 5 AND 9 FOR SHARE", "UPDATE t SET v = 6 WHERE id = 10"},
		{"SELECT id FROM t WHERE n = 2 FOR SHARE", "UPDATE t SET n = 2 WHERE id = 10"},
		{"SELECT id FROM t WHERE n = 2 FOR SHARE", "INSERT INTO t VALUES (25, 0, 2)"},
		{"SELECT id FROM t ORDER BY id LIMIT 2 FOR UPDATE", "INSERT INTO t VALUES (12, 0, 0)"},
		{"SELECT id FROM t ORDER BY id LIMIT 2 FOR SHARE", "DELETE FROM t WHERE id = 10"},
		{"SELECT COUNT(*) FROM t FOR SHARE", "INSERT INTO t VALUES (25, 0, 0)"},
		{"SELECT MAX(id) FROM t FOR SHARE", "INSERT INTO t VALUES (99, 0, 0)"},
		{"SELECT w FROM u WHERE w = 7 FOR SHARE", "INSERT INTO u VALUES (15, 7, 0)"},
		{"SELECT w FROM u WHERE w > 4 FOR SHARE", "UPDATE u SET w = 8 WHERE id = 10"},
		{"SELECT t.id FROM t JOIN u ON t.id = u.id FOR SHARE", "INSERT INTO u VALUES (25, 25, 25)"},
		{"SELECT id FROM t WHERE n = (SELECT MAX(n) FROM u FOR SHARE)", "INSERT INTO u VALUES (15, 15, 15)"},
	} {
		t.Run(c.read+" "+c.change, func(t *testing.T) {
			s, db := app(t, lockSchema...)
			a, b := connection(t, db), connection(t, db)
			run(t, a, "BEGIN")
			before := query(t, a, c.read)
			done := s.waits(t, b, c.change)
			require.Equal(t, before, query(t, a, c.read))
			run(t, a, "COMMIT")
			require.NoError(t, <-done)
		})
	}
}

// At SERIALIZABLE a plain SELECT inside a transaction is such a read.
func TestSerializableReadsStayTrue(t *testing.T) {
	s, db := app(t, lockSchema...)
	a, b := connection(t, db), connection(t, db)
	run(t, a, "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
	for _, begin := range []string{"BEGIN", "SET autocommit = 0"} {
		run(t, a, begin)
		require.Empty(t, query(t, a, "SELECT id FROM t WHERE v = 7"))
		done := s.waits(t, b, "INSERT INTO t VALUES (70, 7, 7)")
		require.Empty(t, query(t, a, "SELECT id FROM t WHERE v = 7"))
		run(t, a, "COMMIT")
		require.NoError(t, <-done)
		run(t, b, "DELETE FROM t WHERE id = 70")
	}
	run(t, a, "SET autocommit = 1")
	// On its own it takes none.
	run(t, b, "BEGIN", "INSERT INTO t VALUES (70, 7, 7)")
	require.Empty(t, query(t, a, "SELECT id FROM t WHERE v = 7"))
	run(t, b, "ROLLBACK")
}

// A child and its parent's end cannot both happen, at any level.
func TestForeignKeysHoldAtEveryLevel(t *testing.T) {
	for _, level := range []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"} {
		t.Run(level, func(t *testing.T) {
			s, db := app(t, "CREATE TABLE p (id INT PRIMARY KEY, u INT UNIQUE)", "INSERT INTO p VALUES (1, 1), (2, 2), (3, 3)",
				"CREATE TABLE c (id INT PRIMARY KEY, p INT, u INT, FOREIGN KEY (p) REFERENCES p (id), FOREIGN KEY (u) REFERENCES p (u))",
				"CREATE TABLE d (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)")
			a, b := connection(t, db), connection(t, db)
			for _, c := range []*sql.Conn{a, b} {
				run(t, c, "SET SESSION TRANSACTION ISOLATION LEVEL "+level)
			}
			run(t, a, "BEGIN", "INSERT INTO c VALUES (1, 1, NULL)")
			done := s.waits(t, b, "DELETE FROM p WHERE id = 1")
			run(t, a, "COMMIT")
			require.Equal(t, 1451, number(<-done))

			run(t, a, "BEGIN", "INSERT INTO c VALUES (2, NULL, 2)")
			done = s.waits(t, b, "UPDATE p SET u = 20 WHERE id = 2")
			run(t, a, "COMMIT")
			require.Equal(t, 1451, number(<-done))

			run(t, a, "BEGIN", "INSERT INTO d VALUES (1, 3)")
			done = s.waits(t, b, "DELETE FROM p WHERE id = 3")
			run(t, a, "COMMIT")
			require.NoError(t, <-done)
			require.Empty(t, query(t, a, "SELECT * FROM d"), "the cascade sees what was committed meanwhile")

			run(t, a, "DELETE FROM c", "BEGIN", "DELETE FROM p WHERE id = 1")
			done = s.waits(t, b, "INSERT INTO c VALUES (3, 1, NULL)")
			run(t, a, "COMMIT")
			require.Equal(t, 1452, number(<-done))
		})
	}
}

// Any number of sessions insert and move the same unique values; there is never
// a duplicate, and nothing but the errors that say so.
func TestUniqueUnderAnyInterleaving(t *testing.T) {
	for _, level := range []string{"READ COMMITTED", "REPEATABLE READ"} {
		t.Run(level, func(t *testing.T) {
			const workers, rounds, values = 4, 60, 5
			_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v INT NOT NULL, UNIQUE KEY (v))")
			var group sync.WaitGroup
			for w := range workers {
				c := connection(t, db)
				run(t, c, "SET SESSION TRANSACTION ISOLATION LEVEL "+level)
				group.Go(func() {
					for r := range rounds {
						v := (w + 3*r) % values
						for _, q := range []string{
							fmt.Sprintf("INSERT INTO t (v) VALUES (%d)", v), fmt.Sprintf("UPDATE t SET v = %d WHERE v = %d", (v+1)%values, v),
							fmt.Sprintf("DELETE FROM t WHERE v = %d", (v+2)%values),
						} {
							if n := number(execErr(c, q)); n != 0 && n != 1062 && n != 1213 {
								t.Errorf("%s: %d", q, n)
							}
						}
					}
				})
			}
			group.Wait()
			require.Equal(t, query(t, db, "SELECT COUNT(DISTINCT v) FROM t IGNORE INDEX (v)"), query(t, db, "SELECT COUNT(*) FROM t IGNORE INDEX (v)"))
			require.Equal(t, query(t, db, "SELECT id, v FROM t IGNORE INDEX (v) ORDER BY id"), query(t, db, "SELECT id, v FROM t FORCE INDEX (v) WHERE v >= 0 ORDER BY id"))
		})
	}
}

// Consumers of a queue get each job once, and none waits for another.
func TestQueueOfSkipLocked(t *testing.T) {
	const workers, jobs = 8, 120
	for _, index := range []string{"", ", KEY state (state)", ", KEY state (state, id)"} {
		t.Run(index, func(t *testing.T) {
			_, db := app(t, "CREATE TABLE q (id INT PRIMARY KEY, state INT NOT NULL, who INT"+index+")")
			for i := range jobs {
				run(t, db, fmt.Sprintf("INSERT INTO q VALUES (%d, 0, NULL)", i))
			}
			var group sync.WaitGroup
			var taken sync.Map
			for w := range workers {
				c := connection(t, db)
				run(t, c, "SET innodb_lock_wait_timeout = 1")
				group.Go(func() {
					for taken := &taken; !t.Failed(); {
						id, err := takeJob(c, w)
						if err != nil {
							t.Error(err)
							return
						}
						if id == "" {
							if left := query(t, c, "SELECT COUNT(*) FROM q WHERE state = 0"); left[0] == "0" {
								return
							}
							continue
						}
						if other, twice := taken.LoadOrStore(id, w); twice {
							t.Errorf("job %s is done by %v and %d", id, other, w)
						}
					}
				})
			}
			group.Wait()
			require.Equal(t, []string{fmt.Sprint(jobs)}, query(t, db, "SELECT COUNT(*) FROM q WHERE state = 1 AND who IS NOT NULL"))
		})
	}
}

func takeJob(c *sql.Conn, who int) (string, error) {
	if err := execErr(c, "BEGIN"); err != nil {
		return "", err
	}
	got, err := tryQuery(c, "SELECT id FROM q WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED")
	if err != nil || len(got) == 0 {
		execErr(c, "ROLLBACK")
		return "", err
	}
	if err := execErr(c, fmt.Sprintf("UPDATE q SET state = 1, who = %d WHERE id = %s", who, got[0])); err != nil {
		return "", err
	}
	return got[0], execErr(c, "COMMIT")
}

// What SKIP LOCKED does not return it does not keep from others.
func TestSkipLockedLocksWhatItReturns(t *testing.T) {
	_, db := app(t, "CREATE TABLE q (id INT PRIMARY KEY, state INT, KEY (state))")
	var rows []string
	for i := range 60 {
		rows = append(rows, fmt.Sprintf("(%d, %d)", i, i%2))
	}
	run(t, db, "INSERT INTO q VALUES "+strings.Join(rows, ","))
	a, b := connection(t, db), connection(t, db)
	for _, from := range []string{"q WHERE state = 0 ORDER BY id", "q WHERE state = 0", "q IGNORE INDEX (state) WHERE state = 0 ORDER BY id", "q WHERE state < 1"} {
		run(t, a, "BEGIN")
		run(t, b, "BEGIN")
		first := query(t, a, "SELECT id FROM "+from+" LIMIT 3 FOR UPDATE SKIP LOCKED")
		second := query(t, b, "SELECT id FROM "+from+" LIMIT 40 FOR UPDATE SKIP LOCKED")
		require.Len(t, first, 3, from)
		require.Len(t, second, 27, from)
		require.NotContains(t, second, first[0])
		run(t, a, "ROLLBACK")
		run(t, b, "ROLLBACK")
	}
}

// A commit that was answered has let go of its locks, for those who do not wait
// (H15).
func TestNoWaitAfterAnAnsweredCommit(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0), (4, 0)")
	a, b := connection(t, db), connection(t, db)
	for range 50 {
		run(t, a, "BEGIN", "UPDATE t SET v = v + 1", "COMMIT")
		require.Len(t, query(t, b, "SELECT id FROM t FOR UPDATE SKIP LOCKED"), 4)
		require.Len(t, query(t, b, "SELECT id FROM t FOR UPDATE NOWAIT"), 4)
	}
}

func TestLockingReadsInPreparedStatements(t *testing.T) {
	_, db := app(t, lockSchema...)
	a, probe := connection(t, db), connection(t, db)
	for clause, want := range map[string]string{"FOR UPDATE": "x", "FOR SHARE": "s", "LOCK IN SHARE MODE": "s", "FOR SHARE OF t SKIP LOCKED": "s"} {
		prepared, err := a.PrepareContext(context.Background(), "SELECT v FROM t WHERE id = ? "+clause)
		require.NoError(t, err, clause)
		for _, id := range []int{10, 20} {
			run(t, a, "BEGIN")
			var v int
			require.NoError(t, prepared.QueryRow(id).Scan(&v), clause)
			require.Equal(t, want, lockOn(t, probe, "t", id), clause)
			require.Equal(t, "-", lockOn(t, probe, "t", 30), clause)
			run(t, a, "ROLLBACK")
		}
		require.NoError(t, prepared.Close())
	}
	run(t, a, "PREPARE s FROM 'SELECT v FROM t WHERE id = 10 FOR SHARE'", "BEGIN", "EXECUTE s")
	require.Equal(t, "s", lockOn(t, probe, "t", 10))
	run(t, a, "ROLLBACK")
	fails(t, a, 3568, "SELECT * FROM t FOR UPDATE OF nobody")
	fails(t, a, 1221, "SELECT * FROM t AS OF '2020-01-01' FOR UPDATE")
}

// Under READ COMMITTED an UPDATE does not wait for rows that it does not want,
// and a statement keeps no locks on such rows; what an earlier statement has
// locked stays locked.
func TestReadCommittedLetsGo(t *testing.T) {
	s, db := app(t, lockSchema...)
	a, b, probe := connection(t, db), connection(t, db), connection(t, db)
	for _, c := range []*sql.Conn{a, b} {
		run(t, c, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "BEGIN")
	}
	run(t, a, "UPDATE t SET n = 8 WHERE id = 10")
	run(t, b, "UPDATE t SET n = 9 WHERE n = 2")
	done := s.waits(t, b, "DELETE FROM t WHERE n = 3") // waits for the row that a has changed
	run(t, a, "ROLLBACK")
	require.NoError(t, <-done)
	require.Equal(t, "t:--xx- u:-----", lockedKeys(t, probe))
	run(t, b, "ROLLBACK")

	run(t, a, "BEGIN")
	require.Len(t, query(t, a, "SELECT * FROM t WHERE id = 10 FOR SHARE"), 1)
	require.Empty(t, query(t, a, "SELECT * FROM t WHERE n = 77 FOR UPDATE"))
	require.NotEqual(t, "-", lockOn(t, probe, "t", 10))
	require.Equal(t, "-", lockOn(t, probe, "t", 20))
	run(t, a, "ROLLBACK")
}
