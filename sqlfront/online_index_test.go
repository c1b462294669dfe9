package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// sound checks a table's indexes against its rows.
func sound(t testing.TB, db *sql.DB, table string, entries ...string) {
	t.Helper()
	lines := query(t, db, "CALL rowlock.check_table('app', '"+table+"')")
	for _, line := range lines {
		require.Contains(t, line, ",none,", "%v", lines)
	}
	if len(entries) > 0 {
		require.Equal(t, entries, lines)
	}
}

// writers change a table on several gateways until stop is called. No statement may
// fail, except with the numbers that are named.
func writers(t *testing.T, may []int, dbs ...*sql.DB) (stop func()) {
	var ended atomic.Bool
	var group sync.WaitGroup
	for n, db := range dbs {
		for w := range 2 {
			group.Go(func() {
				random := rand.New(rand.NewPCG(uint64(n), uint64(w)))
				for i := 0; !ended.Load(); i++ {
					mine := 10000*(2*n+w+1) + random.IntN(200)
					q := fmt.Sprintf("REPLACE INTO t (id, v, s) VALUES (%d, %d, 'x')", mine, random.IntN(10))
					switch i % 4 {
					case 1:
						q = fmt.Sprintf("UPDATE t SET v = v + 1 WHERE id = %d", mine)
					case 2:
						q = fmt.Sprintf("DELETE FROM t WHERE id = %d", mine)
					case 3:
						q = fmt.Sprintf("UPDATE t SET s = 'y%d' WHERE id = %d", i, mine)
					}
					if err := execErr(db, q); err != nil && !slices.Contains(may, number(err)) {
						t.Errorf("%s: %v", q, err)
						return
					}
				}
			})
		}
	}
	return func() {
		ended.Store(true)
		group.Wait()
	}
}

// An index comes and goes on one gateway while others write: no statement fails,
// no row is without its entry, no entry without its row.
func TestIndexesUnderWritesOnTwoGateways(t *testing.T) {
	_, _, a, b := telling(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(1500))
	stop := writers(t, nil, a, b)
	defer stop()
	for i := range 4 {
		db, other := a, b
		if i%2 == 1 {
			db, other = b, a
		}
		run(t, db, "CREATE INDEX v ON t (v)")
		sound(t, other, "t")
		require.Equal(t, []string{"1"}, query(t, other, "SELECT (SELECT COUNT(*) FROM t WHERE v >= 0) = (SELECT COUNT(*) FROM t WHERE s >= '')"))
		run(t, other, "ALTER TABLE t ADD COLUMN n INT DEFAULT 3", "DROP INDEX v ON t")
		run(t, db, "ALTER TABLE t DROP COLUMN n")
	}
	stop()
	run(t, a, "CREATE INDEX v ON t (v)")
	sound(t, b, "t")
}

// A unique index that cannot be is undone, with MySQL's error, and leaves nothing.
func TestAUniqueIndexThatCannotBe(t *testing.T) {
	s, _, a, b := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(700))
	// Nobody else fails for what the index would not have allowed. Its entries are locked all
	// the same: two rows that change 3 to 5 and 5 to 3 meet in a deadlock, as with an index
	// that is complete.
	stop := writers(t, []int{1213}, b)
	require.Equal(t, 1062, number(execErr(a, "CREATE UNIQUE INDEX v ON t (v)")))
	stop()
	require.Empty(t, s.table("app", "t").Indexes)
	for s.records(t, keyGarbage) > 0 {
		time.Sleep(time.Millisecond)
	}
	require.Equal(t, []string{"add index,failed,1"}, query(t, a, "SELECT kind, state, error LIKE '[%]' FROM rowlock.jobs"))
	run(t, b, "CREATE UNIQUE INDEX s ON t (id, s)")
	require.Equal(t, 1061, number(execErr(a, "CREATE UNIQUE INDEX s ON t (id, v)")))
	require.Equal(t, 1062, number(execErr(a, "INSERT INTO t VALUES (1, 1, 'row 1')")))
	sound(t, a, "t")
}

// Two rows of a unique index that is not complete: what leaves for one of them must
// not take the other's entry along.
func TestUniqueEntriesBelongToTheirRows(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 5)")
	set := func(state catalog.IndexState) { s.setIndex(t, true, state) }
	set(catalog.IndexDeleteOnly)
	run(t, db, "INSERT INTO t VALUES (9, 9)", "UPDATE t SET v = 10 WHERE id = 9")
	require.Zero(t, s.keysUnder(t, 1<<40), "nothing is added")
	set(catalog.IndexWriteOnly)
	run(t, db, "INSERT INTO t VALUES (2, 5)") // row 1 has no entry yet
	require.Equal(t, 1, s.keysUnder(t, 1<<40))
	require.Equal(t, 1062, number(execErr(db, "INSERT INTO t VALUES (3, 5)")))
	run(t, db, "UPDATE t SET v = 6 WHERE id = 1", "UPDATE t SET v = 5 WHERE id = 2", "DELETE FROM t WHERE id = 1")
	require.Equal(t, 1, s.keysUnder(t, 1<<40))
	set(catalog.IndexDeleteOnly)
	run(t, db, "INSERT INTO t VALUES (4, 5)", "DELETE FROM t WHERE id = 4")
	require.Equal(t, 1, s.keysUnder(t, 1<<40))
	run(t, db, "DELETE FROM t WHERE id = 2")
	require.Zero(t, s.keysUnder(t, 1<<40))
}

// A job is seen, held, let go on and cancelled by SQL, from any gateway.
func TestJobsBySQL(t *testing.T) {
	s, _, a, b := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(1500))
	blocker := connection(t, a)
	state := func() string {
		return strings.Join(query(t, b, "SELECT state, rows_total FROM rowlock.jobs ORDER BY id DESC LIMIT 1"), "")
	}
	begin := func() (done chan error, id string) {
		run(t, blocker, "START TRANSACTION", "UPDATE t SET v = 100 WHERE id = 1400")
		before := len(query(t, a, "SELECT * FROM rowlock.jobs"))
		done = make(chan error, 1)
		go func() { done <- execErr(a, "CREATE INDEX v ON t (v)") }()
		for len(query(t, a, "SELECT * FROM rowlock.jobs")) == before {
			time.Sleep(time.Millisecond)
		}
		return done, query(t, a, "SELECT id FROM rowlock.jobs ORDER BY id DESC LIMIT 1")[0]
	}
	done, id := begin()
	require.Contains(t, state(), "running,")
	run(t, b, "CALL rowlock.pause_job("+id+")")
	require.Contains(t, state(), "paused,")
	run(t, blocker, "COMMIT")
	run(t, b, "INSERT INTO t VALUES (5000, 1, 'x')")
	select {
	case err := <-done:
		t.Fatal("a job that is held goes on", err)
	case <-time.After(300 * time.Millisecond):
	}
	run(t, b, "CALL rowlock.resume_job("+id+")")
	require.NoError(t, <-done)
	sound(t, b, "t", "v,none,NULL,1501")
	run(t, a, "DROP INDEX v ON t")

	done, id = begin()
	run(t, b, "CALL rowlock.cancel_job("+id+")")
	run(t, blocker, "COMMIT")
	require.Error(t, <-done)
	require.Contains(t, state(), "cancelled,")
	require.Empty(t, s.table("app", "t").Indexes)
	require.Error(t, execErr(b, "CALL rowlock.cancel_job("+id+")"))
	run(t, a, "CREATE USER nobody")
	require.Eventually(t, func() bool {
		return number(execErr(dialed(t, s.server, "nobody", "", ""), "CALL rowlock.cancel_job("+id+")")) != 0
	}, time.Minute, 10*time.Millisecond)
}

// The gateway that builds an index dies: another one finishes it.
func TestAJobOutlivesItsGateway(t *testing.T) {
	s, g, a, b := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(2000))
	blocker := connection(t, a)
	run(t, blocker, "START TRANSACTION", "UPDATE t SET v = 100 WHERE id = 1900")
	go b.ExecContext(context.Background(), "CREATE INDEX v ON t (v)")
	started := func() bool {
		desc := s.table("app", "t")
		return len(desc.Indexes) > 0
	}
	for !started() {
		time.Sleep(time.Millisecond)
	}
	run(t, a, "INSERT INTO t VALUES (5000, 1, 'x')")
	g.server.catalog.follower.end()
	g.die()
	run(t, blocker, "COMMIT")
	require.Eventually(t, func() bool {
		return slices.Equal([]string{"done,1"}, query(t, a, "SELECT state, node FROM rowlock.jobs"))
	}, time.Minute, 10*time.Millisecond)
	sound(t, a, "t", "v,none,NULL,2001")
}

// check_table finds what is not as it should be.
func TestCheckTableFindsDifferences(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20), KEY v (v))", fillRows(20))
	info := s.server.catalog.counted()
	require.Empty(t, info)
	desc := s.table("app", "t")
	compiled, err := s.server.catalog.info(s.server.catalog.snapshot.Load().Schema("app"), desc)
	require.NoError(t, err)
	ctx := context.Background()
	x := compiled.indexes[0]
	entry := func(id, v int) location {
		home, err := compiled.rowLocation(ctx, []any{int32(id), int32(v), ""})
		require.NoError(t, err)
		at, _, err := x.entryLocation(ctx, []any{int32(id), int32(v), ""}, home)
		require.NoError(t, err)
		return at
	}
	tx := s.server.catalog.begin("test")
	require.NoError(t, lockRecord(ctx, tx, entry(3, 3).txn()))
	require.NoError(t, tx.Delete(entry(3, 3).txn()))
	home, err := compiled.rowLocation(ctx, []any{int32(77), int32(7), ""})
	require.NoError(t, err)
	value, err := x.encodeEntry(ctx, []any{int32(77), int32(7), ""}, home)
	require.NoError(t, err)
	require.NoError(t, lockRecord(ctx, tx, entry(77, 7).txn()))
	require.NoError(t, tx.Put(entry(77, 7).txn(), value))
	require.NoError(t, tx.Commit(ctx))
	lines := query(t, db, "CALL rowlock.check_table('app', 't')")
	require.Len(t, lines, 3)
	require.Contains(t, lines[0], "v,missing entry,")
	require.Contains(t, lines[1], "v,entry without a row,")
	require.Equal(t, "v,differences,NULL,20", lines[2])
}
