package sqlfront

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/stretchr/testify/require"
)

// fastWaiter is a session of the fast path whose next UPDATE of row 1 is known, and
// another one that has the row's lock.
func fastWaiter(t *testing.T) (s *stack, waiting *rawClient, holding *rawClient, id uint64) {
	s, _ = app(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT)", "INSERT INTO t VALUES (1, 1)")
	waiting, holding = rawConnect(t, s.server, "root", "app", 0), rawConnect(t, s.server, "root", "app", 0)
	waiting.query("SET SESSION innodb_lock_wait_timeout = 100000")
	waiting.query("UPDATE t SET k = k + 1 WHERE id = 1")
	before := s.server.fast.taken.Load()
	waiting.query("UPDATE t SET k = k + 1 WHERE id = 1")
	require.Equal(t, before+1, s.server.fast.taken.Load())
	holding.query("BEGIN")
	holding.query("UPDATE t SET k = 0 WHERE id = 1")
	return s, waiting, holding, uint64(waiting.id(t))
}

// A locking read of the fast path waits for the row's lock, and keeps what it gets.
func TestFastLockingReadWaits(t *testing.T) {
	s, reading, holding, _ := fastWaiter(t)
	const read = "SELECT k FROM t WHERE id = %d FOR UPDATE"
	for range 2 {
		reading.query(fmt.Sprintf(read, 2))
	}
	before := s.server.fast.taken.Load()
	reading.query("BEGIN")
	done := make(chan string)
	go func() { done <- value(reading.query(fmt.Sprintf(read, 1))) }()
	s.waiting(t, 1)
	holding.query("COMMIT")
	require.Equal(t, "0", <-done)
	require.Equal(t, before+3, s.server.fast.taken.Load())
	waits := make(chan string)
	go func() { waits <- shown(holding.query(waitingUpdate)) }()
	s.waiting(t, 1)
	reading.query("COMMIT")
	require.NotEmpty(t, <-waits)
}

// id is the connection's number.
func (c *rawClient) id(t *testing.T) (id int) {
	packets := c.query("SELECT CONNECTION_ID()")
	_, err := fmt.Sscan(string(packets[len(packets)-2][1:]), &id)
	require.NoError(t, err)
	return id
}

const waitingUpdate = "UPDATE t SET k = k + 1 WHERE id = 1"

// A statement of the fast path that waits for a lock is in the list of processes, and
// KILL QUERY ends it with the engine's error.
func TestFastStatementIsKilled(t *testing.T) {
	s, waiting, holding, id := fastWaiter(t)
	done := make(chan [][]byte)
	go func() {
		waiting.write(0, append([]byte{0x03}, waitingUpdate...))
		done <- waiting.results()
	}()
	s.waiting(t, 1)
	shown := query(t, s.db("app", ""), fmt.Sprintf("SELECT info FROM information_schema.processlist WHERE id = %d", id))
	require.Equal(t, []string{waitingUpdate}, shown)
	run(t, s.db("app", ""), fmt.Sprintf("KILL QUERY %d", id))
	answer := <-done
	require.Equal(t, byte(0xFF), answer[0][0])
	require.Equal(t, uint16(1317), binary.LittleEndian.Uint16(answer[0][1:]))
	holding.query("COMMIT")
	require.Equal(t, "\x010", string(waiting.query("SELECT k FROM t WHERE id = 1")[3]))
}

// The client of a statement that waits for a lock goes away: nobody waits any more.
func TestFastStatementWithoutItsClientEnds(t *testing.T) {
	s, waiting, holding, _ := fastWaiter(t)
	waiting.write(0, append([]byte{0x03}, waitingUpdate...))
	s.waiting(t, 1)
	require.NoError(t, waiting.conn.Close())
	s.notWaiting(t)
	holding.query("COMMIT")
	require.Equal(t, "\x010", string(holding.query("SELECT k FROM t WHERE id = 1")[3]))
}

// notWaiting lets nobody see a lock request that waits at the owners.
func (s *stack) notWaiting(t testing.TB) {
	t.Helper()
	for waits := 1; waits > 0; {
		waits = 0
		for _, id := range s.node.Router().DataShards() {
			locks, err := s.node.Router().Locks(context.Background(), id)
			require.NoError(t, err)
			for _, l := range locks {
				if l.Waiting {
					waits++
				}
			}
		}
	}
}

// Triggers and references may come while a known statement waits for its table's
// metadata lock, as they may while it asks for the schema: it heeds them.
func TestFastStatementHeedsWhatCameWhileItWaited(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT)", "INSERT INTO t VALUES (1, 1), (2, 2)",
		"CREATE TABLE child (id INT PRIMARY KEY, p INT, KEY (p))", "INSERT INTO child VALUES (1, 2)")
	c, other := rawConnect(t, s.server, "root", "app", 0), rawConnect(t, s.server, "root", "app", 0)
	meanwhile := func(text string, do ...string) {
		before := s.server.fast.taken.Load()
		for range 3 {
			c.query(strings.Replace(text, "= 1", "= 99", 1))
		}
		require.Greater(t, s.server.fast.taken.Load(), before, "it is known")
		other.query("LOCK TABLES t WRITE, child WRITE")
		c.write(0, append([]byte{0x03}, text...))
		until(t, text+" runs", func() bool {
			return len(query(t, db, "SELECT 1 FROM information_schema.processlist WHERE info = '"+text+"'")) > 0
		})
		for _, q := range append(do, "UNLOCK TABLES") {
			require.Equal(t, byte(0), other.query(q)[0][0], q)
		}
		c.results()
	}
	meanwhile("UPDATE t SET k = 8 WHERE id = 1", "CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW SET NEW.k = 99")
	require.Equal(t, []string{"99"}, query(t, db, "SELECT k FROM t WHERE id = 1"))
	run(t, db, "DROP TRIGGER g", "UPDATE child SET p = 1")
	meanwhile("DELETE FROM t WHERE id = 1", "ALTER TABLE child ADD FOREIGN KEY (p) REFERENCES t (id)")
	require.Equal(t, []string{"1", "2"}, query(t, db, "SELECT id FROM t ORDER BY id"))
}

// Privileges that were taken away on another gateway are heard of at the latest when a
// statement begins, and hold for it.
func TestFastStatementHeedsPrivilegesThatItHearsOf(t *testing.T) {
	for _, text := range []string{"SELECT k FROM t WHERE id = 1", "SELECT k FROM t WHERE id BETWEEN 1 AND 2", waitingUpdate, "DELETE FROM t WHERE id = 5", "REPLACE INTO t (id, k) VALUES (6, 6)"} {
		t.Run(text, func(t *testing.T) {
			s, _, _, other := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT)", "INSERT INTO t VALUES (1, 42)", "CREATE USER u",
				"GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO u")
			c := rawConnect(t, s.server, "u", "app", 0)
			c.query(text)
			before := s.server.fast.taken.Load()
			require.NotEqual(t, byte(0xFF), c.query(text)[0][0])
			require.Equal(t, before+1, s.server.fast.taken.Load())
			f := &s.server.catalog.follower
			f.polling <- struct{}{} // nothing is heard of here
			run(t, other, "REVOKE SELECT, INSERT, UPDATE, DELETE ON app.* FROM u")
			f.failures.Add(1) // as if a change of users had failed
			c.write(0, append([]byte{0x03}, text...))
			s.running(t, text)
			<-f.polling
			answer := c.results()
			require.Equal(t, byte(0xFF), answer[0][0], shown(answer))
			require.Contains(t, []uint16{1044, 1142}, binary.LittleEndian.Uint16(answer[0][1:]), shown(answer))
		})
	}
}

// running waits until a statement is in the list of processes.
func (s *stack) running(t testing.TB, text string) {
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(s.server.engine.ProcessList.Processes(), func(p gms.Process) bool { return p.Query == text })
	}, time.Minute, time.Millisecond)
}
