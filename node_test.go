package rowlock

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// What one connection committed is there for a client on the wire, and after the
// node was closed and opened again.
func TestOpenUseReopen(t *testing.T) {
	dir := t.TempDir()
	open := func() (*Node, *sql.DB) {
		node, err := Open(t.Context(), Options{Dir: dir, Shards: 4})
		require.NoError(t, err)
		return node, sql.OpenDB(node.Connector(""))
	}
	node, db := open()
	exec(t, db, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(20))",
		"INSERT INTO shop.t VALUES (1, 'one'), (2, 'two'), (3, NULL)")
	require.Len(t, node.Status(), 5, "four data shards and the system shard")

	address, err := node.ListenMySQL("127.0.0.1:0")
	require.NoError(t, err)
	wire, err := sql.Open("mysql", "root@tcp("+address.String()+")/shop")
	require.NoError(t, err)
	require.Equal(t, 3, count(t, wire))
	require.NoError(t, wire.Close())
	require.NoError(t, db.Close())
	require.NoError(t, node.Close(t.Context()))
	require.NoError(t, node.Close(t.Context()), "closing again changes nothing")
	_, err = node.ListenMySQL("127.0.0.1:0")
	require.ErrorIs(t, err, ErrClosed)

	node, db = open()
	require.Equal(t, 3, count(t, db))
	require.NoError(t, db.Close())
	require.NoError(t, node.Close(t.Context()))
}

func count(t *testing.T, db *sql.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM shop.t").Scan(&n))
	return n
}

func TestOpenRefusals(t *testing.T) {
	_, err := Open(t.Context(), Options{})
	require.ErrorContains(t, err, "Dir is empty")
	_, err = Open(t.Context(), Options{Dir: t.TempDir(), Shards: -1})
	require.ErrorContains(t, err, "-1 shards")

	dir := t.TempDir()
	node, err := Open(t.Context(), Options{Dir: dir, Shards: 1})
	require.NoError(t, err)
	_, err = Open(t.Context(), Options{Dir: dir, Shards: 1})
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, node.Close(t.Context()))

	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text[len(text)-3]++
	require.NoError(t, os.WriteFile(path, text, 0o644))
	_, err = Open(t.Context(), Options{Dir: dir})
	require.ErrorIs(t, err, ErrCorrupt)
	require.NoError(t, os.WriteFile(path, []byte("rowlock 99\n"), 0o644))
	_, err = Open(t.Context(), Options{Dir: dir})
	require.ErrorIs(t, err, ErrFormat)
}

// A log that is not a node's own is refused, whatever the rest of the directory says.
func TestForeignLog(t *testing.T) {
	dir := t.TempDir()
	node, err := Open(t.Context(), Options{Dir: dir, Shards: 1})
	require.NoError(t, err)
	require.NoError(t, node.Close(t.Context()))
	path := filepath.Join(dir, "log", "ROWLOCK")
	require.NoError(t, os.WriteFile(path, []byte("something else\n"), 0o644))
	_, err = Open(t.Context(), Options{Dir: dir})
	require.ErrorIs(t, err, ErrFormat)
}

// Everything in a process that names a directory shares one node, which goes
// with the last of them.
func TestSharedNode(t *testing.T) {
	dir := t.TempDir()
	first, err := sql.Open(DriverName, dir+"?shards=2")
	require.NoError(t, err)
	exec(t, first, "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)", "INSERT INTO shop.t VALUES (1)")
	second, err := sql.Open(DriverName, dir+"?database=shop")
	require.NoError(t, err)
	require.Equal(t, 1, count(t, second))
	require.NoError(t, first.Close())
	require.Equal(t, 1, count(t, second), "the node serves whoever is left")
	_, err = Open(t.Context(), Options{Dir: dir})
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, second.Close())

	node, err := Open(context.Background(), Options{Dir: dir})
	require.NoError(t, err, "the directory is free")
	require.NoError(t, node.Close(context.Background()))
}
