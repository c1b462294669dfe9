package sqlfront

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// Advisory locks exclude the sessions of all nodes, in one queue, and the holder's
// number is good for KILL from anywhere.
func TestAdvisoryLocksOfAllNodes(t *testing.T) {
	g := newGateways(t, 3, Config{})
	a, b, c := connection(t, g.on(1, "root", "")), connection(t, g.on(2, "root", "")), connection(t, g.on(3, "root", ""))
	token := func(s queryer) (n uint64) {
		t.Helper()
		n, err := strconv.ParseUint(one(t, s, "LOCK_TOKEN('job')"), 10, 64)
		require.NoError(t, err)
		return n
	}
	id := one(t, a, "CONNECTION_ID()")
	require.Equal(t, "1", one(t, a, "GET_LOCK('job', 0)"))
	first := token(a)
	require.Equal(t, "0,0,"+id, one(t, b, "GET_LOCK('job', 0), RELEASE_LOCK('job'), IS_USED_LOCK('job')"))
	forB := inBackground(b, "SELECT GET_LOCK('job', -1)")
	awaitWaiters(t, c, "job", 1)
	forC := inBackground(c, "SELECT GET_LOCK('job', -1)")
	awaitWaiters(t, a, "job", 2)
	require.Equal(t, "1", one(t, a, "RELEASE_LOCK('job')"))
	require.Equal(t, []string{"1"}, (<-forB).rows, "who came first gets it first")
	second := token(b)
	require.Greater(t, second, first)
	// The holder is killed from where the lock is not.
	run(t, a, "KILL "+one(t, a, "IS_USED_LOCK('job')"))
	require.Equal(t, []string{"1"}, (<-forC).rows)
	require.Greater(t, token(c), second)
}

// A circle of sessions on two nodes is refused with 3058; both keep what they have.
func TestAdvisoryDeadlockOverNodes(t *testing.T) {
	g := newGateways(t, 2, Config{})
	a, b := connection(t, g.on(1, "root", "")), connection(t, g.on(2, "root", ""))
	require.Equal(t, "1", one(t, a, "GET_LOCK('x', 0)"))
	require.Equal(t, "1", one(t, b, "GET_LOCK('y', 0)"))
	waiting := inBackground(a, "SELECT GET_LOCK('y', -1)")
	awaitWaiters(t, b, "y", 1)
	_, err := tryQuery(b, "SELECT GET_LOCK('x', -1)")
	require.Equal(t, 3058, number(err), "%v", err)
	require.Equal(t, "0,0", one(t, b, "IS_FREE_LOCK('x'), IS_FREE_LOCK('y')"))
	require.Equal(t, "1", one(t, b, "RELEASE_LOCK('y')"))
	require.Equal(t, []string{"1"}, (<-waiting).rows)
}
