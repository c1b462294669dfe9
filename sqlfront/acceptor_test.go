package sqlfront

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A connection that comes in beside Close is closed, whoever is first.
func TestAcceptorBesideClose(t *testing.T) {
	a := newAcceptor()
	early, client := net.Pipe()
	_, err := a.track(early)
	require.NoError(t, err)
	require.NoError(t, a.Close())
	late, other := net.Pipe() // handed over before Close, taken in after it
	_, err = a.track(late)
	require.ErrorIs(t, err, net.ErrClosed)
	a.closeConnections()
	for _, c := range []net.Conn{client, other} {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	}
}

// What sessions leave behind is rolled back when Close returns.
func TestCloseWaitsForRollbacks(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY)")
	for i := range 20 {
		run(t, connection(t, db), "BEGIN", fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
	}
	require.GreaterOrEqual(t, len(s.coordinator.Active()), 20, "the server has some of its own now and then")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, s.server.Close(ctx))
	require.Empty(t, s.coordinator.Active())
	s.stopNode(ctx)
	s.start()
	require.Empty(t, query(t, s.db("app", ""), "SELECT id FROM t"))
}
