package sqlfront

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// A gateway that cannot ask for schema changes reads what is old enough for the schema
// that it knows, and nothing younger, however old a session says it may be.
func TestStaleReadsNeedTheirSchema(t *testing.T) {
	_, g, one, two := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
	ctx := context.Background()
	conn, err := two.Conn(ctx)
	require.NoError(t, err)
	defer conn.Close()
	ask := func(query string) (v int, err error) {
		err = conn.QueryRowContext(ctx, query).Scan(&v)
		return v, err
	}
	_, err = conn.ExecContext(ctx, "SET rowlock_read_staleness = 3600")
	require.NoError(t, err)
	got, err := ask("SELECT v FROM t")
	require.NoError(t, err)
	require.Equal(t, 1, got)
	var past string
	require.NoError(t, conn.QueryRowContext(ctx, "SELECT CAST(UTC_TIMESTAMP(3) AS CHAR)").Scan(&past))

	f := &g.server.catalog.follower
	now := storage.MakeTimestamp(uint64(time.Now().UnixMilli()), 0)
	require.Eventually(t, func() bool { return f.latest() == 0 && storage.Timestamp(f.known.Load()) > now }, time.Minute, 10*time.Millisecond,
		"it is asked all the time")
	f.polling <- struct{}{} // no more questions
	f.renewed.Store(0)
	require.NotZero(t, f.latest())
	_, err = one.Exec("UPDATE t SET v = 2")
	require.NoError(t, err)
	// Its only replica has no past of its own to show: the snapshot would be of now.
	_, err = ask("SELECT v FROM t")
	require.ErrorContains(t, err, "may not know the schema")
	got, err = ask("SELECT v FROM t AS OF TIMESTAMP '" + past + "'")
	require.NoError(t, err)
	require.Equal(t, 1, got)
	<-f.polling
	got, err = ask("SELECT v FROM t")
	require.NoError(t, err)
	require.Equal(t, 2, got)
}
