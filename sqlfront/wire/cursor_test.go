package wire

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dolthub/go-mysql-server/server"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
	"github.com/stretchr/testify/require"
)

// Without a cursor no row waits in the server.
func TestNoCursorKeepsNoRows(t *testing.T) {
	s := startServer(t, ListenerOptions{}, nil, func(_ *server.Config, o *HandlerOptions) { o.CursorMemory = 1 })
	var got string
	for range 3 {
		require.NoError(t, s.db.QueryRowContext(context.Background(), "SELECT REPEAT('x', ?)", 100000).Scan(&got))
		require.Equal(t, strings.Repeat("x", 100000), got)
	}
}

func TestCursorRows(t *testing.T) {
	var held atomic.Int64
	fields := []*querypb.Field{{Name: "a"}, {Name: "b"}}
	text := []byte("hello")
	part := func() *sqltypes.Result {
		return &sqltypes.Result{Fields: fields, Rows: [][]sqltypes.Value{{sqltypes.MakeTrusted(sqltypes.VarChar, text), sqltypes.NULL}, {sqltypes.MakeTrusted(sqltypes.VarChar, nil), sqltypes.NULL}}}
	}
	size := int64(len(text) + 2*rowBytes + 4*valueBytes)
	r := &cursorRows{held: &held, limit: 2 * size}
	require.NoError(t, r.add(part()))
	require.NoError(t, r.add(part()))
	require.NoError(t, r.add(&sqltypes.Result{Fields: fields}), "nothing more")
	require.Equal(t, 2*size, held.Load())
	copy(text, "other") // the engine uses its memory again
	for range 2 {
		got := r.next()
		require.Equal(t, fields, got.Fields)
		require.Equal(t, "hello", got.Rows[0][0].ToString())
		require.Equal(t, []bool{false, true}, []bool{got.Rows[1][0].IsNull(), got.Rows[1][1].IsNull()})
	}
	require.Nil(t, r.next())

	full := &cursorRows{held: &held, limit: 2 * size}
	err := full.add(part())
	require.Equal(t, 1114, err.(*mysql.SQLError).Num)
	full.free()
	full.free()
	require.Equal(t, 2*size, held.Load())
	r.free()
	require.Zero(t, held.Load())
	require.NoError(t, full.add(&sqltypes.Result{Fields: fields}), "a result without rows")
	require.Equal(t, fields, full.next().Fields)
}
