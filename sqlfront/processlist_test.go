package sqlfront

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every way to list the sessions lists those of all nodes, and their numbers say
// where they are.
func TestProcessListOfAllNodes(t *testing.T) {
	g := newGateways(t, 3, Config{})
	var ids []string
	for n := 1; n <= 3; n++ {
		c := connection(t, g.on(n, "root", ""))
		id := one(t, c, "CONNECTION_ID()")
		number, err := strconv.ParseUint(id, 10, 32)
		require.NoError(t, err)
		require.Equal(t, uint64(n), connectionNode(uint32(number)))
		ids = append(ids, id)
	}
	c := connection(t, g.on(2, "root", ""))
	ids = append(ids[:2], append([]string{one(t, c, "CONNECTION_ID()")}, ids[2:]...)...)
	for _, q := range []string{
		"SELECT id FROM information_schema.processlist ORDER BY id",
		"SELECT id FROM performance_schema.processlist ORDER BY id",
		"SELECT processlist_id FROM performance_schema.threads ORDER BY 1",
		"SELECT id FROM rowlock.sessions ORDER BY id",
	} {
		require.Equal(t, ids, query(t, c, q), q)
		require.Empty(t, query(t, c, "SHOW WARNINGS"), q)
	}
	require.Equal(t, []string{"1,1", "2,2", "3,1"}, query(t, c, "SELECT node, COUNT(*) FROM rowlock.sessions GROUP BY node ORDER BY node"))
	var shown []string
	for _, row := range query(t, c, "SHOW PROCESSLIST") {
		id, _, _ := strings.Cut(row, ",")
		shown = append(shown, id)
	}
	require.Equal(t, ids, shown)
	require.Equal(t, []string{"root,Query"}, query(t, c, "SELECT user, command FROM rowlock.sessions WHERE id = CONNECTION_ID()"))
}

// A node that is down or does not answer is named in a warning; the others'
// sessions are shown.
func TestProcessListWithoutANode(t *testing.T) {
	g := newGateways(t, 3, Config{})
	c := connection(t, g.on(1, "root", ""))
	connection(t, g.on(2, "root", ""))
	connection(t, g.on(3, "root", ""))
	for _, c3 := range []struct {
		up, silent bool
		says       string
	}{{false, true, "down"}, {true, true, "deadline"}, {true, false, ""}} {
		g.hub.set(3, c3.up, c3.silent)
		began := time.Now()
		want := []string{"1", "2"}
		if c3.says == "" {
			want = append(want, "3")
		}
		require.Equal(t, want, query(t, c, "SELECT node FROM rowlock.sessions ORDER BY 1"))
		require.Less(t, time.Since(began), time.Minute, "a lost answer must not hang the statement")
		warnings := query(t, c, "SHOW WARNINGS")
		if c3.says == "" {
			require.Empty(t, warnings)
			continue
		}
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0], "1105,node 3")
		require.Contains(t, warnings[0], c3.says)
	}
}

// KILL works from any node, on a statement and on a connection.
func TestKillOnAnotherNode(t *testing.T) {
	g := newGateways(t, 2, Config{})
	k := connection(t, g.on(1, "root", ""))
	for _, from := range []int{1, 2} {
		c := connection(t, g.on(2, "root", ""))
		k := connection(t, g.on(from, "root", ""))
		id := one(t, c, "CONNECTION_ID()")
		done := inBackground(c, "SELECT SLEEP(100)")
		require.Eventually(t, func() bool {
			return len(query(t, k, "SELECT 1 FROM rowlock.sessions WHERE info = 'SELECT SLEEP(100)' AND id = "+id)) == 1
		}, time.Minute, time.Millisecond)
		run(t, k, "KILL QUERY "+id)
		require.Equal(t, 1317, number((<-done).err))
		require.Equal(t, id, one(t, c, "CONNECTION_ID()"), "the connection is still there")
		run(t, k, "KILL "+id)
		_, err := tryQuery(c, "SELECT 1")
		require.Error(t, err)
	}
	// Those which never were: of this node, of another, of one that never was.
	for _, id := range []uint64{1 << 20, 1<<24 + 1<<20, 9<<24 + 1, 1<<32 - 1} {
		_, err := k.ExecContext(t.Context(), fmt.Sprint("KILL ", id))
		require.Equal(t, 1094, number(err), "%d: %v", id, err)
	}
	g.hub.set(2, true, true)
	_, err := k.ExecContext(t.Context(), fmt.Sprint("KILL ", 1<<24+1))
	require.Equal(t, 1105, number(err), "%v", err)
	require.ErrorContains(t, err, "Node 2 does not answer")
}

// Without PROCESS one sees the own sessions, and without SUPER one
// kills no others, wherever they are.
func TestSessionsOfOthers(t *testing.T) {
	g := newGateways(t, 1, Config{})
	root := connection(t, g.on(1, "root", ""))
	run(t, root, "CREATE USER ann@'%'", "CREATE USER bob@'%'", "CREATE USER eve@'%'", "GRANT PROCESS ON *.* TO bob@'%'",
		"GRANT SUPER ON *.* TO eve@'%'")
	g.hub.peers = append(g.hub.peers, Peer{ID: 2, Up: true})
	g.start(2) // it reads the accounts
	rootID := one(t, root, "CONNECTION_ID()")
	for _, c := range []struct {
		user    string
		sees    string
		mayKill int
	}{{"ann", "ann ann", 1095}, {"bob", "ann ann bob root root", 1095}, {"eve", "ann ann bob eve root root root", 0}} {
		var own []string
		me := connection(t, g.on(2, c.user, ""))
		if c.user == "ann" {
			other := connection(t, g.on(1, "ann", ""))
			own = append(own, one(t, other, "CONNECTION_ID()"))
			t.Cleanup(func() { other.Close() })
		}
		require.Equal(t, strings.Fields(c.sees), query(t, me, "SELECT user FROM information_schema.processlist ORDER BY user, id"), c.user)
		require.Len(t, query(t, me, "SHOW FULL PROCESSLIST"), len(strings.Fields(c.sees)))
		victim := connection(t, g.on(1, "root", ""))
		for _, id := range append(own, one(t, victim, "CONNECTION_ID()")) {
			_, err := me.ExecContext(t.Context(), "KILL QUERY "+id)
			want := c.mayKill
			if len(own) > 0 && id == own[0] {
				want = 0
			}
			require.Equal(t, want, number(err), "%s kills %s: %v", c.user, id, err)
		}
	}
	require.Equal(t, rootID, one(t, root, "CONNECTION_ID()"))
}
