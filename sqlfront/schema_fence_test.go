package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/txn"
)

// A transaction whose snapshot is older than an index reads the table without
// it; one whose snapshot is older than the rows as they lie now gets 1412.
func TestSnapshotOlderThanAnIndex(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(300), "CREATE TABLE u (id INT PRIMARY KEY)")
	a, b := connection(t, db), connection(t, db)
	const read = "SELECT COUNT(*) FROM t WHERE v = 3"
	run(t, a, "START TRANSACTION")
	require.Empty(t, query(t, a, "SELECT * FROM u")) // fixes the snapshot, locks no definition of t
	run(t, b, "CREATE INDEX v ON t (v)", "DELETE FROM t WHERE v = 3 AND id > 100")
	require.Equal(t, []string{"10"}, query(t, b, read))
	require.Equal(t, []string{"30"}, query(t, a, read))
	require.Equal(t, []string{"3"}, query(t, a, "SELECT id FROM t WHERE v = 3 ORDER BY v LIMIT 1"))
	run(t, a, "COMMIT", "START TRANSACTION")
	require.Empty(t, query(t, a, "SELECT * FROM u"))
	run(t, b, "ALTER TABLE t MODIFY COLUMN v BIGINT")
	_, err := tryQuery(a, read)
	require.Equal(t, 1412, number(err))
	run(t, a, "COMMIT")
	require.Equal(t, []string{"10"}, query(t, a, read))
}

// The past is refused where its data is not there, also after a restart.
func TestPastOlderThanTheDataAfterARestart(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(300))
	// moment returns a time that is over when it returns, as AS OF takes it.
	moment := func() string {
		at, err := s.coordinator.Now(context.Background())
		require.NoError(t, err)
		for now := at; now.Millis() < at.Millis()+2; {
			now, err = s.coordinator.Now(context.Background())
			require.NoError(t, err)
		}
		return "'" + time.UnixMilli(int64(at.Millis()+1)).UTC().Format("2006-01-02 15:04:05.000") + "'"
	}
	before := moment()
	run(t, db, "CREATE INDEX v ON t (v)")
	between := moment()
	for _, restarted := range []bool{false, true} {
		if restarted {
			run(t, db, "ALTER TABLE t MODIFY COLUMN s VARCHAR(30)", "ALTER TABLE t MODIFY COLUMN v BIGINT")
			s.stop()
			s.start()
			db = s.db("app", "")
			for _, at := range []string{before, between} {
				_, err := tryQuery(db, "SELECT COUNT(*) FROM t AS OF "+at+" WHERE v = 3")
				require.Equal(t, 1412, number(err), "rewritten since: %v", err)
			}
			continue
		}
		require.Equal(t, []string{"30"}, query(t, db, "SELECT COUNT(*) FROM t AS OF "+between+" WHERE v = 3"))
		require.Equal(t, []string{"30"}, query(t, db, "SELECT COUNT(*) FROM t AS OF "+before+" WHERE v = 3"), "without the index")
		s.stop()
		s.start()
		db = s.db("app", "")
		require.Equal(t, []string{"30"}, query(t, db, "SELECT COUNT(*) FROM t AS OF "+before+" WHERE v = 3"), "without the index")
	}
}

// H11 (a): who planned with a definition from before a schema change cannot
// commit after it, on whatever path: here one that no metadata lock keeps off.
func TestOldPlansCannotCommit(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(10))
	ctx := context.Background()
	for _, change := range []string{"CREATE INDEX v ON t (v)", "ALTER TABLE t ADD COLUMN n INT", "TRUNCATE TABLE t",
		"ALTER TABLE t RENAME TO t2", "DROP TABLE t2"} {
		desc := s.table("app", "t")
		if desc == nil {
			desc = s.table("app", "t2")
		}
		tx := s.coordinator.Begin(txn.Options{Isolation: txn.ReadCommitted})
		tx.Uses(uint64(desc.ID), desc.Version)
		key := systemKey("test/row")
		_, err := tx.Get(ctx, key, txn.ReadOptions{Lock: txn.LockExclusive})
		require.NoError(t, err)
		require.NoError(t, tx.Put(key, []byte("1")))
		run(t, db, change)
		var refused *txn.Error
		require.ErrorAs(t, tx.Commit(ctx), &refused, change)
		require.Equal(t, txn.SchemaChanged, refused.Code, change)
	}
}

// Rows change while an index comes and goes: it always has them all.
func TestIndexesComeAndGoUnderWrites(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(50))
	var stop atomic.Bool
	var group sync.WaitGroup
	var failure atomic.Pointer[error]
	for w := range 3 {
		group.Go(func() {
			for i := 0; !stop.Load(); i++ {
				id := 1000 + w*100000 + i
				_, err := db.ExecContext(context.Background(), fmt.Sprintf("INSERT INTO t VALUES (%d, %d, 'x')", id, i%10))
				if err == nil {
					_, err = db.ExecContext(context.Background(), fmt.Sprintf("UPDATE t SET v = v + 1 WHERE id = %d", id))
				}
				if n := number(err); err != nil && n != 1213 && n != 1412 {
					err = errors.Join(errors.New("writer"), err)
					failure.Store(&err)
					return
				}
			}
		})
	}
	for range 5 {
		run(t, db, "CREATE INDEX v ON t (v)")
		require.Equal(t, []string{"1"}, query(t, db, "SELECT (SELECT COUNT(*) FROM t WHERE v >= 0) = (SELECT COUNT(*) FROM t IGNORE INDEX (v) WHERE s >= '')"))
		run(t, db, "DROP INDEX v ON t")
	}
	stop.Store(true)
	group.Wait()
	if err := failure.Load(); err != nil {
		t.Fatal(*err)
	}
}
