package sqlfront

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// lateOracle is a router whose oracle can run out of time.
type lateOracle struct {
	txn.Router
	late atomic.Bool
}

func (r *lateOracle) Timestamp(ctx context.Context) (storage.Timestamp, error) {
	if r.late.Load() {
		return 0, fmt.Errorf("extend the oracle's window: %w", context.DeadlineExceeded)
	}
	return r.Router.Timestamp(ctx)
}

// Nobody has interrupted a statement for which no timestamp can be had: 1030, which
// clients try again on, and not 1317.
func TestStatementsWithoutOracle(t *testing.T) {
	router := &lateOracle{}
	s := newStackOver(t, Config{}, func(r txn.Router) txn.Router {
		router.Router = r
		return router
	})
	db := s.db("", "")
	run(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v INT, KEY (v))", "INSERT INTO d.t VALUES (1, 1), (2, 2)")
	c := connection(t, db)
	for _, setting := range []string{"SET snapshot_isolation = ON", "SET snapshot_isolation = OFF"} {
		run(t, c, setting)
		for _, begin := range []string{"", "BEGIN"} {
			for _, q := range []string{
				"SELECT v FROM d.t WHERE id = 1", "SELECT id FROM d.t WHERE v = 1", "SELECT * FROM d.t", "SELECT COUNT(*) FROM d.t GROUP BY v",
				"SELECT * FROM d.t a JOIN d.t b ON b.id = a.v", "SELECT * FROM d.t WHERE id IN (SELECT v FROM d.t)",
				"SELECT * FROM d.t WHERE v > 0 FOR UPDATE SKIP LOCKED", "CALL rowlock.check_table('d', 't')",
				"INSERT INTO d.t SELECT id + 10, v FROM d.t", "START TRANSACTION WITH CONSISTENT SNAPSHOT",
			} {
				if begin != "" {
					run(t, c, begin)
				}
				router.late.Store(true)
				_, err := tryQuery(c, q)
				router.late.Store(false)
				requireNumber(t, 1030, "HY000", err)
				run(t, c, "ROLLBACK")
			}
		}
	}
	require.Equal(t, []string{"1,1", "2,2"}, query(t, c, "SELECT * FROM d.t ORDER BY id"))
}
