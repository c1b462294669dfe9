package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func one(t testing.TB, c queryer, expression string) string {
	t.Helper()
	rows := query(t, c, "SELECT "+expression)
	require.Len(t, rows, 1)
	return rows[0]
}

// answered is what a statement in the background ended with.
type answered struct {
	rows []string
	err  error
}

func inBackground(c queryer, q string) <-chan answered {
	done := make(chan answered, 1)
	go func() {
		rows, err := tryQuery(c, q)
		done <- answered{rows, err}
	}()
	return done
}

// awaitWaiters waits until so many sessions stand in the queue of a lock.
func awaitWaiters(t testing.TB, c queryer, name string, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		rows := query(t, c, "SELECT waiters FROM rowlock.advisory_locks WHERE name = '"+name+"'")
		return len(rows) == 1 && len(strings.Fields(rows[0])) == n || n == 0 && len(rows) == 0
	}, 20*time.Second, 2*time.Millisecond)
}

func TestAdvisoryFunctions(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "")
	a, b := connection(t, db), connection(t, db)
	id := one(t, a, "CONNECTION_ID()")

	require.Equal(t, "1,NULL", one(t, a, "IS_FREE_LOCK('job'), IS_USED_LOCK('job')"))
	require.Equal(t, "NULL", one(t, a, "RELEASE_LOCK('job')"))
	require.Equal(t, "1", one(t, a, "GET_LOCK('Job', 10)"))
	require.Equal(t, "0,"+id, one(t, b, "IS_FREE_LOCK('jOB'), IS_USED_LOCK('job')"), "names have no case")
	require.Equal(t, "0", one(t, b, "GET_LOCK('job', 0)"))
	require.Equal(t, "0", one(t, b, "RELEASE_LOCK('job')"))

	require.Equal(t, "1", one(t, a, "GET_LOCK('other', 0)"), "several at once")
	require.Equal(t, "1", one(t, a, "GET_LOCK('job', 0)"), "once more")
	require.Equal(t, "1", one(t, a, "RELEASE_LOCK('job')"))
	require.Equal(t, "0", one(t, b, "GET_LOCK('job', 0)"), "taken twice, released once")
	require.Equal(t, "1", one(t, a, "RELEASE_LOCK('JOB')"))
	require.Equal(t, "1", one(t, b, "GET_LOCK('job', 0)"))
	require.Equal(t, "1", one(t, b, "GET_LOCK('job', -1)"))
	require.Equal(t, "2", one(t, b, "RELEASE_ALL_LOCKS()"))
	require.Equal(t, "0", one(t, b, "RELEASE_ALL_LOCKS()"))
	require.Equal(t, "1", one(t, a, "RELEASE_ALL_LOCKS()"))
	require.Empty(t, query(t, a, "SELECT * FROM rowlock.advisory_locks"))

	// A lock outlives transactions, and a rollback.
	run(t, a, "BEGIN")
	require.Equal(t, "1", one(t, a, "GET_LOCK('job', 0)"))
	run(t, a, "ROLLBACK")
	require.Equal(t, id, one(t, b, "IS_USED_LOCK('job')"))

	require.Equal(t, "1", one(t, a, "GET_LOCK(REPEAT('ä', 64), 0)"))
	for _, name := range []string{"''", "NULL", "REPEAT('ä', 65)"} {
		for _, f := range []string{"GET_LOCK(%s, 0)", "RELEASE_LOCK(%s)", "IS_FREE_LOCK(%s)", "IS_USED_LOCK(%s)", "LOCK_TOKEN(%s)"} {
			_, err := tryQuery(a, "SELECT "+fmt.Sprintf(f, name))
			require.Equal(t, 3057, number(err), err)
		}
	}
}

func TestLockToken(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "")
	a, b := connection(t, db), connection(t, db)
	require.Equal(t, "NULL", one(t, a, "LOCK_TOKEN('job')"))
	last := 0
	for i, c := range []*sql.Conn{a, b, a, a} {
		require.Equal(t, "1", one(t, c, "GET_LOCK('job', 0)"))
		var token int
		_, err := fmt.Sscan(one(t, c, "LOCK_TOKEN('job')"), &token)
		require.NoError(t, err)
		require.Greater(t, token, last, "grant %d", i)
		last = token
		require.Equal(t, "1", one(t, c, "GET_LOCK('job', 0)"))
		require.Equal(t, fmt.Sprint(token), one(t, c, "LOCK_TOKEN('job')"), "once more is no new grant")
		require.Equal(t, fmt.Sprint(token), query(t, c, "SELECT token FROM rowlock.advisory_locks")[0])
		require.Equal(t, "2", one(t, c, "RELEASE_ALL_LOCKS()"))
		require.Equal(t, "NULL", one(t, c, "LOCK_TOKEN('job')"))
	}
	require.Equal(t, "1", one(t, b, "GET_LOCK('job', 0)"))
	require.Equal(t, "NULL", one(t, a, "LOCK_TOKEN('job')"), "somebody else's")
}

func TestAdvisoryLocksEndWithTheirSession(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "")
	db.SetMaxIdleConns(-1) // a connection that was killed is not used again
	b := connection(t, db)
	for name, end := range map[string]func(*sql.Conn){
		"disconnect": func(c *sql.Conn) {
			c.Raw(func(d any) error { return d.(interface{ Close() error }).Close() })
		},
		"KILL": func(c *sql.Conn) { run(t, b, "KILL "+one(t, c, "CONNECTION_ID()")) },
	} {
		t.Run(name, func(t *testing.T) {
			a := connection(t, db)
			require.Equal(t, "1,1", one(t, a, "GET_LOCK('x', 0), GET_LOCK('y', 0)"))
			end(a)
			require.Equal(t, "1,1", one(t, b, "GET_LOCK('x', -1), GET_LOCK('y', -1)"))
			require.Equal(t, "2", one(t, b, "RELEASE_ALL_LOCKS()"))
		})
	}
	t.Run("restart", func(t *testing.T) {
		require.Equal(t, "1", one(t, b, "GET_LOCK('x', 0)"))
		s.crash()
		s.start()
		c := connection(t, s.db("", ""))
		require.Equal(t, "1", one(t, c, "IS_FREE_LOCK('x')"))
		require.Equal(t, "1", one(t, c, "GET_LOCK('x', 0)"))
	})
}

// A wait for an advisory lock ends with its statement, and leaves nothing behind.
func TestAdvisoryWaitIsInterrupted(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "")
	a, k := connection(t, db), connection(t, db)
	require.Equal(t, "1", one(t, a, "GET_LOCK('job', 0)"))
	t.Run("KILL QUERY", func(t *testing.T) {
		c := connection(t, db)
		id := one(t, c, "CONNECTION_ID()")
		done := inBackground(c, "SELECT GET_LOCK('job', -1)")
		awaitWaiters(t, k, "job", 1)
		run(t, k, "KILL QUERY "+id)
		require.Equal(t, 1317, number((<-done).err))
		awaitWaiters(t, k, "job", 0)
		require.Equal(t, "0", one(t, c, "GET_LOCK('job', 0)"), "the session goes on")
	})
	t.Run("KILL CONNECTION", func(t *testing.T) {
		c := connection(t, db)
		id := one(t, c, "CONNECTION_ID()")
		done := inBackground(c, "SELECT GET_LOCK('job', -1)")
		awaitWaiters(t, k, "job", 1)
		run(t, k, "KILL CONNECTION "+id)
		require.Error(t, (<-done).err)
		awaitWaiters(t, k, "job", 0)
	})
	t.Run("disconnect", func(t *testing.T) {
		c := connection(t, db)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			_, err := c.ExecContext(ctx, "SELECT GET_LOCK('job', -1)")
			done <- err
		}()
		awaitWaiters(t, k, "job", 1)
		cancel()
		require.Error(t, <-done)
		awaitWaiters(t, k, "job", 0)
	})
	t.Run("max_execution_time", func(t *testing.T) {
		c := connection(t, db)
		_, err := tryQuery(c, "SELECT /*+ MAX_EXECUTION_TIME(50) */ GET_LOCK('job', -1)")
		require.Equal(t, 3024, number(err), err)
		awaitWaiters(t, k, "job", 0)
	})
	require.Equal(t, "1", one(t, a, "RELEASE_LOCK('job')"))
	require.Equal(t, "1", one(t, k, "GET_LOCK('job', 0)"), "none of them took it")
}

func TestAdvisoryDeadlock(t *testing.T) {
	s := newStack(t, Config{})
	db := s.db("", "")
	a, b, c := connection(t, db), connection(t, db), connection(t, db)
	require.Equal(t, "1", one(t, a, "GET_LOCK('a', 0)"))
	require.Equal(t, "1", one(t, b, "GET_LOCK('b', 0)"))
	require.Equal(t, "1", one(t, c, "GET_LOCK('c', 0)"))
	first := inBackground(a, "SELECT GET_LOCK('b', 30)")
	awaitWaiters(t, c, "b", 1)
	second := inBackground(b, "SELECT GET_LOCK('c', 30)")
	awaitWaiters(t, c, "c", 1)
	_, err := tryQuery(c, "SELECT GET_LOCK('a', 30)")
	require.Equal(t, 3058, number(err), err)
	require.Equal(t, "1", one(t, c, "RELEASE_LOCK('c')"), "the victim keeps what it has")
	require.Equal(t, []string{"1"}, (<-second).rows)
	require.Equal(t, "2", one(t, b, "RELEASE_ALL_LOCKS()"))
	require.Equal(t, []string{"1"}, (<-first).rows)
}
