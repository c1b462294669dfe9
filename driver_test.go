package rowlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

func TestDataSourceName(t *testing.T) {
	o, config, err := parseName("a/b c?database=shop&shards=4&lock_wait=2s&retention=1m&user=u&password=p%3F&parseTime=true")
	require.NoError(t, err)
	require.Equal(t, Options{Dir: "a/b c", Shards: 4, LockWait: 2 * time.Second, Retention: time.Minute, User: "u", Password: "p?"}, o)
	require.Equal(t, "shop", config.DBName)
	require.Equal(t, "u", config.User)
	require.True(t, config.ParseTime)

	o, config, err = parseName("dir")
	require.NoError(t, err)
	require.Equal(t, "dir", o.Dir)
	require.Empty(t, config.DBName)

	for _, bad := range []string{"d?shards=x", "d?lock_wait=5", "d?%zz", "d?parseTime=perhaps"} {
		_, _, err := parseName(bad)
		require.ErrorContains(t, err, "rowlock: data source name", bad)
	}
}

func TestRetryable(t *testing.T) {
	state := func(number uint16, s string) error {
		e := &mysql.MySQLError{Number: number}
		copy(e.SQLState[:], s)
		return fmt.Errorf("commit: %w", e)
	}
	require.True(t, Retryable(state(1213, "40001")))
	require.True(t, Retryable(state(1213, "HY000")))
	require.True(t, Retryable(state(4000, "40001")))
	require.False(t, Retryable(state(1205, "HY000")), "only the statement failed")
	require.False(t, Retryable(state(1180, "HY000")), "it may have committed")
	require.False(t, Retryable(errors.New("40001")))
	require.False(t, Retryable(nil))
}

// On one node, two connections that lock two rows in opposite orders deadlock;
// RunTx brings both to an end.
func TestRunTx(t *testing.T) {
	db := testNode(t)
	exec(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v INT)", "INSERT INTO d.t VALUES (1, 0), (2, 0)")
	attempts := make([]int, 2)
	meet := make(chan struct{}) // closed when both hold their first row
	arrived := make(chan struct{}, 2)
	go func() {
		<-arrived
		<-arrived
		close(meet)
	}()
	errs := make(chan error, 2)
	for i := range 2 {
		go func() {
			errs <- RunTx(t.Context(), db, nil, func(tx *sql.Tx) error {
				attempts[i]++
				if err := add(tx, 1+i); err != nil {
					return err
				}
				if attempts[i] == 1 {
					arrived <- struct{}{}
					<-meet
				}
				return add(tx, 2-i)
			})
		}()
	}
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.Equal(t, 3, attempts[0]+attempts[1], "one of them lost the deadlock once")
	var sum int
	require.NoError(t, db.QueryRow("SELECT SUM(v) FROM d.t").Scan(&sum))
	require.Equal(t, 4, sum)
}

func add(tx *sql.Tx, id int) error {
	_, err := tx.Exec("UPDATE d.t SET v = v + 1 WHERE id = ?", id)
	return err
}

// testNode opens a node with few shards and returns a pool on it.
func testNode(t *testing.T) *sql.DB {
	t.Helper()
	node, err := Open(t.Context(), Options{Dir: t.TempDir(), Shards: 3})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close(context.Background())) })
	db := sql.OpenDB(node.Connector(""))
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := db.Exec(s)
		require.NoError(t, err, s)
	}
}
