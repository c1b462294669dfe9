package rowlock_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock"
)

// Tables are placed by blocks once every node knows them; tables from before stay as they
// are until their rows are put elsewhere. A release that does not know them is refused.
func TestBlocksWaitForTheirVersion(t *testing.T) {
	t.Parallel()
	c := &cluster{t: t}
	n := c.add()
	n.options.Cluster = ""
	n.options.Speak(1, 5)
	require.NoError(t, n.start())
	record := func(table string) byte {
		b, err := n.node.Stored(context.Background(), "sql/object/table/"+hex.EncodeToString([]byte("d"))+"/"+hex.EncodeToString([]byte(table)))
		require.NoError(t, err)
		require.NotEmpty(t, b)
		return b[0]
	}
	var rows []string
	for i := range 300 {
		rows = append(rows, fmt.Sprintf("(%d)", i))
	}
	c.exec(0, "CREATE DATABASE d")
	c.exec(0, "CREATE TABLE d.t (id BIGINT PRIMARY KEY)")
	c.exec(0, "INSERT INTO d.t VALUES "+strings.Join(rows, ","))
	require.EqualValues(t, 1, record("t"))
	n.stop()
	n.options.Speak(1, 6)
	require.NoError(t, n.start())
	require.Eventually(t, func() bool { return n.node.Active(6) }, time.Minute, 10*time.Millisecond)
	c.exec(0, "CREATE TABLE d.u LIKE d.t")
	c.exec(0, "INSERT INTO d.u SELECT * FROM d.t")
	require.EqualValues(t, 1, record("t"))
	require.EqualValues(t, 2, record("u"))
	for _, table := range []string{"t", "u"} {
		require.Equal(t, 100, c.one(0, "SELECT COUNT(*) FROM d."+table+" WHERE id BETWEEN 100 AND 199"))
		require.Equal(t, 1, c.one(0, "SELECT COUNT(*) FROM d."+table+" WHERE id = 128"))
	}
	c.exec(0, "TRUNCATE TABLE d.t")
	require.EqualValues(t, 2, record("t"))
	n.stop()
	n.options.Speak(1, 5)
	require.ErrorIs(t, n.start(), rowlock.ErrFormat)
	n.options.Speak(1, 6)
	require.NoError(t, n.start())
	require.Equal(t, 100, c.one(0, "SELECT COUNT(*) FROM d.u WHERE id BETWEEN 100 AND 199"))
	n.stop()
}
