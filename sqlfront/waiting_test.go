package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
)

// lockCount counts the locks held and waited for.
func (s *stack) lockCount(t testing.TB) (held, waits int) {
	t.Helper()
	for _, id := range append([]shard.ID{shard.System}, s.node.Router().DataShards()...) {
		locks, err := s.node.Router().Locks(context.Background(), id)
		require.NoError(t, err)
		for _, l := range locks {
			if l.Waiting {
				waits++
			} else {
				held++
			}
		}
	}
	return held, waits
}

// until repeats what does not happen at once.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// overTCP opens a pool whose connections the test can cut.
func (s *stack) overTCP(t testing.TB) (*sql.DB, func() net.Conn) {
	address, err := s.server.Listen("127.0.0.1:0")
	require.NoError(t, err)
	var last net.Conn
	name := fmt.Sprintf("cut%p", t)
	mysql.RegisterDialContext(name, func(ctx context.Context, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address.String())
		last = c
		return c, err
	})
	db, err := sql.Open("mysql", fmt.Sprintf("root@%s(node)/app", name))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db, func() net.Conn { return last }
}

// Whatever ends a wait for a row lock ends it at once, leaves no request in the
// queue, and keeps or drops the locks that the transaction had as its kind says.
func TestWhatEndsALockWait(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0), (2, 0)")
	tcp, newest := s.overTCP(t)
	holder, killer := connection(t, db), connection(t, db)
	for _, c := range []struct {
		name    string
		pool    *sql.DB
		number  int // of the error; 0: none arrives
		keeps   bool
		end     func(t *testing.T, id string, cancel func())
		setting string
	}{
		{"KILL QUERY", tcp, 1317, true, func(t *testing.T, id string, _ func()) { run(t, killer, "KILL QUERY "+id) }, ""},
		{"KILL CONNECTION", tcp, 0, false, func(t *testing.T, id string, _ func()) { run(t, killer, "KILL CONNECTION "+id) }, ""},
		{"disconnect", tcp, 0, false, func(t *testing.T, _ string, _ func()) { require.NoError(t, newest().Close()) }, ""},
		{"context over TCP", tcp, 0, false, func(_ *testing.T, _ string, cancel func()) { cancel() }, ""},
		{"context inside the process", db, 0, false, func(_ *testing.T, _ string, cancel func()) { cancel() }, ""},
		{"max_execution_time", tcp, 3024, true, nil, "SET max_execution_time = 50"},
		{"innodb_lock_wait_timeout", tcp, 1205, true, nil, "SET innodb_lock_wait_timeout = 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, holder, "BEGIN", "UPDATE t SET v = v + 1 WHERE id = 1")
			tcp.SetMaxIdleConns(0) // the next connection is a new one
			waiter, err := c.pool.Conn(context.Background())
			require.NoError(t, err)
			id := query(t, waiter, "SELECT CONNECTION_ID()")[0]
			if c.setting != "" {
				run(t, waiter, c.setting)
			}
			run(t, waiter, "BEGIN", "UPDATE t SET v = v + 1 WHERE id = 2")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				rows, err := waiter.QueryContext(ctx, "SELECT v FROM t WHERE id = 1 FOR UPDATE")
				if err == nil {
					rows.Next()
					err = rows.Err()
					rows.Close()
				}
				done <- err
			}()
			if c.end != nil {
				s.waiting(t, 1)
				c.end(t, id, cancel)
			}
			err = <-done
			require.Error(t, err)
			if c.number != 0 {
				require.Equal(t, c.number, number(err), "%v", err)
			}
			want := 1
			if c.keeps {
				want = 2
			}
			until(t, "the locks that should be left", func() bool {
				held, waits := s.lockCount(t)
				return held == want && waits == 0
			})
			if c.keeps {
				run(t, waiter, "COMMIT")
				require.Equal(t, "1", query(t, db, "SELECT v FROM t WHERE id = 2")[0])
				run(t, db, "UPDATE t SET v = 0 WHERE id = 2")
			} else {
				require.Equal(t, "0", query(t, db, "SELECT v FROM t WHERE id = 2")[0])
			}
			waiter.Close()
			run(t, holder, "ROLLBACK")
			until(t, "no lock", func() bool { held, waits := s.lockCount(t); return held+waits == 0 })
		})
	}
}

// A connection that is killed while it does nothing gives its locks back, too.
func TestKillOfAnIdleConnection(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0), (2, 0)")
	a, k := connection(t, db), connection(t, db)
	id := query(t, a, "SELECT CONNECTION_ID()")[0]
	run(t, a, "BEGIN", "UPDATE t SET v = 1")
	run(t, k, "KILL "+id)
	until(t, "no lock", func() bool { held, _ := s.lockCount(t); return held == 0 })
	run(t, k, "SET innodb_lock_wait_timeout = 1", "UPDATE t SET v = 2")
	require.Error(t, execErr(a, "COMMIT"))
	require.Equal(t, []string{"2", "2"}, query(t, k, "SELECT v FROM t"))
}

// innodb_lock_wait_timeout: 1205 undoes the statement and keeps the transaction,
// or ends the transaction where innodb_rollback_on_timeout is ON. The global value
// is that of new sessions.
func TestLockWaitTimeout(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)")
	a := connection(t, db)
	require.Equal(t, []string{"50"}, query(t, a, "SELECT @@innodb_lock_wait_timeout"))
	run(t, a, "SET GLOBAL innodb_lock_wait_timeout = 1")
	defer run(t, a, "SET GLOBAL innodb_lock_wait_timeout = 50")
	require.Equal(t, []string{"50"}, query(t, a, "SELECT @@innodb_lock_wait_timeout"))
	b, err := s.db("app", "").Conn(context.Background())
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, []string{"1"}, query(t, b, "SELECT @@innodb_lock_wait_timeout"))
	run(t, a, "BEGIN", "UPDATE t SET v = 9 WHERE id = 3")
	run(t, b, "BEGIN", "UPDATE t SET v = 1 WHERE id = 1")
	// The statement changes row 2 before it waits for row 3.
	requireNumber(t, 1205, "HY000", execErr(b, "UPDATE t SET v = 5 WHERE id >= 2"))
	require.Equal(t, []string{"1", "0", "0"}, query(t, b, "SELECT v FROM t ORDER BY id"))
	run(t, b, "COMMIT")

	run(t, a, "SET GLOBAL innodb_rollback_on_timeout = ON")
	defer run(t, a, "SET GLOBAL innodb_rollback_on_timeout = OFF")
	run(t, b, "BEGIN", "UPDATE t SET v = 2 WHERE id = 1")
	requireNumber(t, 1205, "HY000", execErr(b, "UPDATE t SET v = 5 WHERE id = 3"))
	held, _ := s.lockCount(t)
	require.Equal(t, 1, held, "the transaction of b is over")
	require.Equal(t, []string{"1", "0", "0"}, query(t, b, "SELECT v FROM t ORDER BY id"))
	run(t, a, "ROLLBACK")
}

// lock_wait_timeout bounds the wait for a table's definition, and KILL ends it.
func TestMetadataLockWait(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 0)")
	a, b, k := connection(t, db), connection(t, db), connection(t, db)
	run(t, a, "BEGIN", "UPDATE t SET v = 1")
	run(t, b, "SET lock_wait_timeout = 1")
	requireNumber(t, 1205, "HY000", execErr(b, "ALTER TABLE t ADD COLUMN n INT"))
	run(t, b, "SET lock_wait_timeout = 100")
	id := query(t, b, "SELECT CONNECTION_ID()")[0]
	done := make(chan error, 1)
	go func() { done <- execErr(b, "ALTER TABLE t ADD COLUMN n INT") }()
	until(t, "ALTER TABLE runs", func() bool {
		return len(query(t, k, "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'ALTER%'")) > 0
	})
	for ended := false; !ended; {
		run(t, k, "KILL QUERY "+id)
		select {
		case err := <-done:
			require.Equal(t, 1317, number(err), "%v", err)
			ended = true
		case <-time.After(time.Millisecond):
		}
	}
	run(t, a, "UPDATE t SET v = 2", "COMMIT")
	run(t, b, "ALTER TABLE t ADD COLUMN n INT")
}

// The message of a failed wait says what it was for and who was in the way.
func TestWhatAFailedWaitSays(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT, n VARCHAR(5) COLLATE utf8mb4_bin, v INT, PRIMARY KEY (id, n))", "INSERT INTO t VALUES (1, 'x', 0), (2, 'y', 0)")
	a, b := connection(t, db), connection(t, db)
	idA := query(t, a, "SELECT CONNECTION_ID()")[0]
	run(t, a, "BEGIN", "UPDATE t SET v = 1 WHERE id = 1", "INSERT INTO t VALUES (3, 'z', 0)")
	run(t, b, "SET innodb_lock_wait_timeout = 1", "BEGIN", "UPDATE t SET v = 2 WHERE id = 2")
	in := `in the way is transaction [0-9a-f-]+ of connection ` + idA
	_, err := tryQuery(b, "SELECT v FROM t WHERE id = 1 AND n = 'x' FOR UPDATE NOWAIT")
	require.Equal(t, 3572, number(err))
	err = execErr(b, "UPDATE t SET v = 2 WHERE id = 1 AND n = 'x'")
	require.Equal(t, 1205, number(err))
	require.Regexp(t, `Lock wait timeout exceeded; try restarting transaction \(PRIMARY \(1, 'x'\) of table app.t, `+in+`\)$`, err.Error())
	run(t, b, "SET innodb_lock_wait_timeout = 50")
	done := make(chan error, 1)
	go func() { done <- execErr(a, "UPDATE t SET v = 1 WHERE id = 2 AND n = 'y'") }()
	s.waiting(t, 1)
	err = execErr(b, "UPDATE t SET v = 2 WHERE id = 1 AND n = 'x'") // b has written less
	require.NoError(t, <-done)
	require.Equal(t, 1213, number(err))
	require.Regexp(t, `Deadlock found when trying to get lock; try restarting transaction \(PRIMARY \(1, 'x'\) of table app.t, `+
		in+`, cycle [0-9a-f-]+ -> [0-9a-f-]+ -> [0-9a-f-]+\)$`, err.Error())
	run(t, a, "ROLLBACK")
}
