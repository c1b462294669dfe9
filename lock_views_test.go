//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// viewed is a node with a table, and connections to it.
type viewed struct {
	t  *testing.T
	db *sql.DB
}

func newViewed(t *testing.T) *viewed {
	db, err := sql.Open("rowlock", t.TempDir()+"?shards=3")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	v := &viewed{t, db}
	for _, q := range []string{"CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, n INT, w VARCHAR(9) COLLATE utf8mb4_bin, KEY n (n, w))",
		"INSERT INTO app.t VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c')"} {
		_, err := db.Exec(q)
		require.NoError(t, err, q)
	}
	return v
}

func (v *viewed) conn() (*sql.Conn, uint64) {
	c, err := v.db.Conn(context.Background())
	require.NoError(v.t, err)
	v.t.Cleanup(func() { c.Close() })
	var id uint64
	require.NoError(v.t, c.QueryRowContext(context.Background(), "SELECT CONNECTION_ID()").Scan(&id))
	return c, id
}

func (v *viewed) exec(c *sql.Conn, statements ...string) {
	for _, q := range statements {
		_, err := c.ExecContext(context.Background(), q)
		require.NoError(v.t, err, q)
	}
}

// rows returns the rows of a query as text.
func (v *viewed) rows(q string) []string {
	rows, err := v.db.Query(q)
	require.NoError(v.t, err, q)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(v.t, err)
	var out []string
	for rows.Next() {
		values, targets := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		require.NoError(v.t, rows.Scan(targets...))
		line := ""
		for i, value := range values {
			if i > 0 {
				line += "|"
			}
			if !value.Valid {
				value.String = "NULL"
			}
			line += value.String
		}
		out = append(out, line)
	}
	require.NoError(v.t, rows.Err())
	return out
}

// until repeats a query until it has so many rows.
func (v *viewed) until(q string, n int) []string {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		rows := v.rows(q)
		if len(rows) == n {
			return rows
		}
		require.True(v.t, time.Now().Before(deadline), "%s never had %d rows: %v", q, n, rows)
	}
}

// Who waits for whom, on what, is in MySQL's views and in our own.
func TestLockViews(t *testing.T) {
	v := newViewed(t)
	a, idA := v.conn()
	b, idB := v.conn()
	v.exec(a, "BEGIN", "UPDATE app.t SET w = 'x' WHERE id = 1")
	v.exec(b, "BEGIN", "SELECT * FROM app.t WHERE id = 3 FOR SHARE")
	done := make(chan error, 1)
	const wanted = "DELETE FROM app.t WHERE id = 1"
	go func() { _, err := b.ExecContext(context.Background(), wanted); done <- err }()
	v.until("SELECT 1 FROM rowlock.lock_waits", 1)

	require.Equal(t, []string{fmt.Sprintf("app|t|PRIMARY|1|%d|X|%s|%d|X|UPDATE app.t SET w = 'x' WHERE id = 1|holds", idB, wanted, idA)},
		v.rows("SELECT table_schema, table_name, index_name, lock_data, waiting_connection, waiting_mode, waiting_statement, "+
			"blocking_connection, blocking_mode, blocking_statement, blocking_state FROM rowlock.lock_waits WHERE waited_seconds >= 0 AND since <= UTC_TIMESTAMP(6)"))
	require.Equal(t, []string{
		"PRIMARY|1|X,REC_NOT_GAP|GRANTED|" + fmt.Sprint(idA), "PRIMARY|1|X,REC_NOT_GAP|WAITING|" + fmt.Sprint(idB), "PRIMARY|3|S,REC_NOT_GAP|GRANTED|" + fmt.Sprint(idB),
		"n|10, 'a', 1|X,REC_NOT_GAP|GRANTED|" + fmt.Sprint(idA), "n|10, 'x', 1|X,REC_NOT_GAP|GRANTED|" + fmt.Sprint(idA),
	}, v.rows("SELECT INDEX_NAME, LOCK_DATA, LOCK_MODE, LOCK_STATUS, THREAD_ID FROM performance_schema.data_locks "+
		"WHERE OBJECT_SCHEMA = 'app' AND OBJECT_NAME = 't' AND LOCK_TYPE = 'RECORD' ORDER BY 1, 2, 4"))
	// The query of the manual: who blocks whom.
	require.Equal(t, []string{fmt.Sprintf("%d|%s|%d", idB, wanted, idA)}, v.rows(
		"SELECT r.trx_mysql_thread_id, r.trx_query, b.trx_mysql_thread_id FROM performance_schema.data_lock_waits w "+
			"JOIN information_schema.innodb_trx b ON b.trx_id = w.BLOCKING_ENGINE_TRANSACTION_ID "+
			"JOIN information_schema.innodb_trx r ON r.trx_id = w.REQUESTING_ENGINE_TRANSACTION_ID"))
	require.Equal(t, []string{"WAITING|GRANTED"}, v.rows("SELECT q.LOCK_STATUS, h.LOCK_STATUS FROM performance_schema.data_lock_waits w "+
		"JOIN performance_schema.data_locks q ON q.ENGINE_LOCK_ID = w.REQUESTING_ENGINE_LOCK_ID JOIN performance_schema.data_locks h ON h.ENGINE_LOCK_ID = w.BLOCKING_ENGINE_LOCK_ID"))
	require.Equal(t, []string{"LOCK WAIT|1", "RUNNING|0"},
		v.rows("SELECT trx_state, trx_wait_started IS NOT NULL FROM information_schema.innodb_trx ORDER BY 1"))
	require.Equal(t, []string{fmt.Sprintf("`app`.`t`|%d|%d|KILL %d", idB, idA, idA)},
		v.rows("SELECT locked_table, waiting_pid, blocking_pid, sql_kill_blocking_connection FROM sys.innodb_lock_waits"))
	status := v.rows("SHOW ENGINE INNODB STATUS")
	require.Len(t, status, 1)
	require.Contains(t, status[0], wanted)
	require.Contains(t, status[0], "PRIMARY (1) of table app.t lock_mode X waiting for TRANSACTION")
	require.NotContains(t, status[0], "DEADLOCK")
	require.Equal(t, []string{"5"}, v.rows("SELECT COUNT(*) FROM rowlock.locks WHERE table_name = 't'"))

	v.exec(a, "COMMIT")
	require.NoError(t, <-done)
	require.Empty(t, v.rows("SELECT * FROM rowlock.lock_waits"))
	v.exec(b, "ROLLBACK")
}

// An interval shows where it begins and ends.
func TestIntervalsInLockViews(t *testing.T) {
	v := newViewed(t)
	a, _ := v.conn()
	v.exec(a, "BEGIN", "SELECT * FROM app.t WHERE id BETWEEN 1 AND 2 FOR UPDATE")
	rows := v.rows("SELECT DISTINCT table_name, index_name, mode FROM rowlock.locks WHERE table_name = 't'")
	require.Equal(t, []string{"t|PRIMARY|X"}, rows)
	require.Regexp(t, `^\[1, `, v.rows("SELECT lock_data FROM rowlock.locks WHERE table_name = 't' LIMIT 1")[0])
	v.exec(a, "ROLLBACK")
}

// The last deadlocks stay readable: members, statements, keys and the victim.
func TestDeadlockViews(t *testing.T) {
	v := newViewed(t)
	a, idA := v.conn()
	b, idB := v.conn()
	for n := 1; n <= 3; n++ {
		v.exec(a, "BEGIN", "UPDATE app.t SET n = n + 1 WHERE id = 1", "UPDATE app.t SET n = n + 1 WHERE id = 3")
		v.exec(b, "BEGIN", "UPDATE app.t SET n = n + 1 WHERE id = 2")
		done := make(chan error, 1)
		go func() {
			_, err := a.ExecContext(context.Background(), "UPDATE app.t SET w = 'a' WHERE id = 2")
			done <- err
		}()
		v.until("SELECT 1 FROM rowlock.lock_waits", 1)
		_, err := b.ExecContext(context.Background(), "UPDATE app.t SET w = 'b' WHERE id = 1")
		require.ErrorContains(t, err, "1213")
		require.NoError(t, <-done)
		v.exec(a, "COMMIT")
		require.Len(t, v.rows("SELECT 1 FROM rowlock.deadlocks"), 2*n)
	}
	require.Equal(t, []string{
		fmt.Sprintf("0|%d|app|t|PRIMARY|2|X|UPDATE app.t SET w = 'a' WHERE id = 2", idA),
		fmt.Sprintf("1|%d|app|t|PRIMARY|1|X|UPDATE app.t SET w = 'b' WHERE id = 1", idB),
	}, v.rows("SELECT victim, connection, table_schema, table_name, index_name, lock_data, mode, statement FROM rowlock.deadlocks WHERE number = 3 ORDER BY victim"))
	require.Equal(t, []string{"1"}, v.rows("SELECT COUNT(DISTINCT a.number) FROM rowlock.deadlocks a JOIN rowlock.deadlocks b "+
		"ON a.number = b.number AND a.waits_for = b.transaction AND b.waits_for = a.transaction AND a.victim = 1 AND b.victim = 0 AND a.rows_written < b.rows_written WHERE a.number = 2"))
	status := v.rows("show engine innodb status")[0]
	require.Regexp(t, `(?s)LATEST DETECTED DEADLOCK.*UPDATE app.t SET w = '[ab]'.*WE ROLL BACK TRANSACTION \([12]\)`, status)
}
