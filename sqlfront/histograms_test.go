package sqlfront

import (
	"testing"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// A sample of rows is of the columns that indexes have: the others may be large.
func TestSamplesKeepIndexedColumns(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB, k INT, v INT AS (k + 1), KEY (k), KEY (v, k))", "INSERT INTO t (id, b, k) VALUES (1, REPEAT('x', 100000), 5)")
	run(t, db, "ANALYZE TABLE t")
	c := s.server.catalog
	info, err := c.info(c.snapshot.Load().Schema("app"), s.table("app", "t"))
	require.NoError(t, err)
	ctx := gms.NewEmptyContext()
	sample := rowSample{ctx: ctx, info: info}
	tx := s.coordinator.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true})
	defer tx.Rollback(ctx)
	cursor, err := tx.Scan(ctx, txn.Scan{Lo: info.primary.start, Hi: keycodec.PrefixEnd(info.primary.start)})
	require.NoError(t, err)
	row, found, err := cursor.Next(ctx)
	require.NoError(t, err)
	require.True(t, found)
	require.NoError(t, sample.take(row.Value))
	require.Equal(t, gms.Row{int32(1), nil, int32(5), int32(6)}, sample.rows[0])
}
