package sqlfront

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// blocked tells that a statement waits for a metadata lock and gets error 1205.
func blocked(t testing.TB, c connQuerier, q string) {
	t.Helper()
	run(t, c, "SET lock_wait_timeout = 1")
	_, err := c.ExecContext(context.Background(), q)
	require.Equal(t, 1205, number(err), "%s: %v", q, err)
	run(t, c, "SET lock_wait_timeout = DEFAULT")
}

var twoTables = []string{"CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "CREATE TABLE d.u (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)"}

// LOCK TABLES keeps away who it should on every node, and nobody when it is over,
// however it ends.
func TestLockTablesOnAllNodes(t *testing.T) {
	g := newGateways(t, 3, Config{}, twoTables...)
	for from := 1; from <= 3; from++ {
		a := connection(t, g.on(from, "root", ""))
		b, c := connection(t, g.on(from%3+1, "root", "")), connection(t, g.on((from+1)%3+1, "root", ""))
		run(t, a, "LOCK TABLES d.t READ")
		for _, other := range []connQuerier{b, c} {
			require.Equal(t, []string{"1"}, query(t, other, "SELECT id FROM d.t"))
			blocked(t, other, "INSERT INTO d.t VALUES (2)")
			run(t, other, "REPLACE INTO d.u VALUES (1)")
		}
		run(t, a, "LOCK TABLES d.t WRITE")
		blocked(t, b, "DELETE FROM d.t WHERE id = 9")
		_, err := tryQuery(a, "SELECT id FROM d.u")
		require.Equal(t, 1100, number(err))
		waiting := inBackground(c, "SELECT COUNT(*) FROM d.t")
		run(t, a, "INSERT INTO d.t VALUES (2)", "UNLOCK TABLES")
		require.Equal(t, []string{"2"}, (<-waiting).rows)
		run(t, b, "DELETE FROM d.t WHERE id = 2")

		run(t, a, "LOCK TABLES d.t WRITE")
		waiting = inBackground(b, "SELECT COUNT(*) FROM d.t")
		run(t, c, "KILL "+one(t, a, "CONNECTION_ID()"))
		require.Equal(t, []string{"1"}, (<-waiting).rows)
	}
}

// It waits for transactions of other nodes, which can go on with other tables; two
// at a time do not wait for each other.
func TestLockTablesWaitsForOtherNodes(t *testing.T) {
	g := newGateways(t, 2, Config{}, twoTables...)
	a, b := connection(t, g.on(1, "root", "")), connection(t, g.on(2, "root", ""))
	run(t, b, "BEGIN", "INSERT INTO d.t VALUES (3)")
	blocked(t, a, "LOCK TABLES d.t READ")
	run(t, connection(t, g.on(1, "root", "")), "INSERT INTO d.t VALUES (4)") // nothing is left of it
	locking := inBackground(a, "LOCK TABLES d.t WRITE, d.u WRITE")
	require.Eventually(t, func() bool {
		return len(query(t, b, "SELECT 1 FROM rowlock.sessions WHERE info LIKE 'LOCK%'")) == 1
	}, time.Minute, time.Millisecond)
	run(t, b, "INSERT INTO d.u VALUES (3)", "COMMIT")
	require.NoError(t, (<-locking).err)
	require.Equal(t, []string{"3", "1"}, []string{one(t, a, "(SELECT COUNT(*) FROM d.t)"), one(t, a, "(SELECT COUNT(*) FROM d.u)")})
	run(t, a, "UNLOCK TABLES")

	for range 5 {
		first, second := inBackground(a, "LOCK TABLES d.t WRITE, d.u READ"), inBackground(b, "LOCK TABLES d.u WRITE, d.t READ")
		for range 2 { // who has them lets the other go on
			select {
			case got := <-first:
				require.NoError(t, got.err)
				run(t, a, "UNLOCK TABLES")
				first = nil
			case got := <-second:
				require.NoError(t, got.err)
				run(t, b, "UNLOCK TABLES")
				second = nil
			}
		}
	}
}

// A schema change under LOCK TABLES is followed on the other nodes. A node that
// starts later holds what is locked before it has sessions.
func TestLockTablesIsFollowed(t *testing.T) {
	g := newGateways(t, 1, Config{}, twoTables...)
	a := connection(t, g.on(1, "root", ""))
	g.hub.peers = append(g.hub.peers, Peer{ID: 2, Up: true})
	g.hub.set(2, false, false)
	run(t, a, "USE d", "LOCK TABLES d.t WRITE", "ALTER TABLE d.t RENAME d.v")
	g.hub.set(2, true, false)
	g.start(2)
	b := connection(t, g.on(2, "root", ""))
	blocked(t, b, "SELECT * FROM d.v")
	run(t, b, "INSERT INTO d.u VALUES (1)")
	run(t, a, "DROP TABLE d.v")
	require.Equal(t, []string{"1"}, query(t, a, "SELECT id FROM d.u"), "the last table is gone, and LOCK TABLES with it")
}

// Who has a table locked WRITE changes its definition, on all nodes, and keeps it
// locked under its new name.
func TestSchemaChangeUnderLockTables(t *testing.T) {
	g := newGateways(t, 3, Config{}, twoTables...)
	a, b, c := connection(t, g.on(2, "root", "")), connection(t, g.on(1, "root", "")), connection(t, g.on(3, "root", ""))
	run(t, a, "USE d", "LOCK TABLES t WRITE, u READ", "ALTER TABLE t ADD COLUMN v INT DEFAULT 7", "CREATE INDEX i ON t (v)",
		"ALTER TABLE t RENAME w", "INSERT INTO w VALUES (2, 2)")
	blocked(t, b, "SELECT * FROM d.w")
	blocked(t, c, "INSERT INTO d.u VALUES (1)")
	run(t, a, "UNLOCK TABLES")
	for _, other := range []connQuerier{a, b, c} {
		require.Equal(t, []string{"1,7", "2,2"}, query(t, other, "SELECT * FROM d.w ORDER BY id"))
	}
	run(t, c, "USE d", "ALTER TABLE w DROP COLUMN v")
}

// A node that is up and does not answer makes LOCK TABLES fail; what it has locked
// when it falls silent is given up by it, and the session is told.
func TestLockTablesOfAGatewayThatIsCutOff(t *testing.T) {
	g := newGateways(t, 2, Config{}, twoTables...)
	a, b := connection(t, g.on(1, "root", "")), connection(t, g.on(2, "root", ""))
	g.hub.set(2, true, true)
	_, err := a.ExecContext(t.Context(), "LOCK TABLES d.t WRITE")
	require.Equal(t, 1105, number(err), "%v", err)
	run(t, a, "INSERT INTO d.t VALUES (5)")
	g.hub.set(2, true, false)

	run(t, a, "LOCK TABLES d.t WRITE")
	blocked(t, b, "INSERT INTO d.t VALUES (6)")
	g.hub.set(2, true, true)
	later := time.Now().Add(2 * claimLease)
	g.servers[1].dropLapsedClaims(later)
	run(t, b, "INSERT INTO d.t VALUES (6)")
	g.hub.set(2, true, false)
	require.Eventually(t, func() bool {
		_, err := tryQuery(a, "SELECT * FROM d.t")
		return number(err) == 1105
	}, time.Minute, 10*time.Millisecond)
	run(t, a, "UNLOCK TABLES")
	query(t, a, "SELECT * FROM d.t")
	require.NoError(t, (*claim)(nil).check(later))
	c := g.servers[0].claims.open(nil)
	c.heard(2, time.Now())
	require.Error(t, c.check(later), "who asked too long ago does not rely on the answer")
}

// A session relies on a node from when the node was asked, not from when it heard the
// answer: the node counts from in between.
func TestClaimsCountFromTheQuestion(t *testing.T) {
	g := newGateways(t, 2, Config{}, twoTables...)
	a := connection(t, g.on(1, "root", ""))
	var between time.Time
	g.hub.mu.Lock()
	g.hub.answered = func(ctx context.Context, question []byte) {
		switch q, err := decodePeerRequest(question); {
		case err != nil || q.kind != askClaim:
		case q.claim.renewal: // not to be heard in this test
			<-ctx.Done()
		default:
			between = time.Now()
		}
	}
	g.hub.mu.Unlock()
	run(t, a, "LOCK TABLES d.t WRITE")
	held := g.servers[0].claims
	held.Lock()
	defer held.Unlock()
	require.Len(t, held.own, 1)
	for _, c := range held.own {
		c.mu.Lock()
		require.False(t, c.mu.granted[2].After(between))
		c.mu.Unlock()
	}
}

// FLUSH TABLES WITH READ LOCK keeps writers and schema changes away on all nodes,
// and its own session from writing. START TRANSACTION does not end it, and UNLOCK
// TABLES ends nothing else: that is how a dump gets its snapshot.
func TestFlushTablesWithReadLock(t *testing.T) {
	g := newGateways(t, 2, Config{}, append(twoTables, "CREATE USER ann@'%'", "GRANT SELECT ON *.* TO ann@'%'")...)
	a, b := connection(t, g.on(1, "root", "")), connection(t, g.on(2, "root", ""))
	run(t, b, "USE d", "BEGIN", "INSERT INTO d.u VALUES (1)")
	flushing := inBackground(a, "FLUSH TABLES WITH READ LOCK")
	require.Eventually(t, func() bool {
		return len(query(t, b, "SELECT 1 FROM rowlock.sessions WHERE info LIKE 'FLUSH%'")) == 1
	}, time.Minute, time.Millisecond)
	run(t, b, "INSERT INTO d.u VALUES (2)", "COMMIT")
	require.NoError(t, (<-flushing).err)

	for _, other := range []connQuerier{b, connection(t, g.on(1, "root", ""))} {
		require.Equal(t, []string{"1"}, query(t, other, "SELECT id FROM d.t"))
		for _, q := range []string{"INSERT INTO d.t VALUES (2)", "UPDATE d.u SET id = 9", "CREATE TABLE d.w (id INT)", "DROP TABLE d.u"} {
			blocked(t, other, q)
		}
	}
	for _, q := range []string{"INSERT INTO d.t VALUES (2)", "CREATE TABLE d.w (id INT)", "DROP TABLE d.t"} {
		_, err := a.ExecContext(t.Context(), q)
		require.Equal(t, 1223, number(err), "%s: %v", q, err)
	}
	run(t, a, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
	blocked(t, b, "DELETE FROM d.u")
	run(t, a, "UNLOCK TABLES")
	run(t, b, "DELETE FROM d.u", "CREATE TABLE d.w (id INT)")
	require.Equal(t, []string{"1", "2"}, query(t, a, "SELECT id FROM d.u ORDER BY id"), "the snapshot is still there")
	run(t, a, "COMMIT", "INSERT INTO d.t VALUES (7)")

	run(t, a, "FLUSH TABLES d.t, d.u WITH READ LOCK")
	blocked(t, b, "INSERT INTO d.t VALUES (8)")
	_, err := a.ExecContext(t.Context(), "FLUSH TABLES WITH READ LOCK")
	require.Equal(t, 1192, number(err), "%v", err)
	run(t, a, "UNLOCK TABLES", "FLUSH TABLES", "FLUSH TABLES WITH READ LOCK")
	run(t, b, "KILL "+one(t, a, "CONNECTION_ID()"))
	run(t, b, "INSERT INTO d.t VALUES (8)")
	_, err = connection(t, g.on(1, "ann", "")).ExecContext(t.Context(), "FLUSH TABLES WITH READ LOCK")
	require.Equal(t, 1227, number(err), "%v", err)
}
