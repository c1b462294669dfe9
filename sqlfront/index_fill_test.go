package sqlfront

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// setIndex moves the table app.t to its next version, with an index of its second
// column in a state that a job would bring it to.
func (s *stack) setIndex(t testing.TB, unique bool, state catalog.IndexState) {
	t.Helper()
	c := s.server.catalog
	next := s.table("app", "t").Clone()
	next.Version++
	if len(next.Indexes) == 0 {
		next.Indexes = []catalog.Index{{ID: 1 << 40, Name: "v", Columns: []catalog.IndexColumn{{Column: next.Columns[1].ID}}, Unique: unique}}
	}
	next.Indexes[0].State = state
	ok, err := c.startJob(context.Background(), jobRecord{ID: 1 << 41, Database: "app", State: jobPaused, Index: "v", Gateway: c.follower.id}, next)
	require.NoError(t, err)
	require.True(t, ok)
}

// filling is the work on the index of app.t, which is written by now.
func (s *stack) filling(t testing.TB) *indexFill {
	c := s.server.catalog
	info, err := c.info(c.snapshot.Load().Schema("app"), s.table("app", "t"))
	require.NoError(t, err)
	j := &indexJob{server: s.server, catalog: c, id: 1 << 41}
	return &indexFill{job: j, info: info, x: info.byName("v")}
}

// pages are all rows, as they are now.
func (f *indexFill) pages(t testing.TB) (pages []fillPage) {
	for part := range f.job.catalog.coordinator.Parts() {
		p := f.read(context.Background(), part, nil, leastStep)
		require.NoError(t, p.err)
		pages = append(pages, p)
	}
	return pages
}

func (f *indexFill) enterPages(pages []fillPage) error {
	var errs []error
	for i := range pages {
		errs = append(errs, f.enterPage(context.Background(), &pages[i]))
		pages[i].close(context.Background())
	}
	return errors.Join(errs...)
}

// Whatever happens to the rows between the reading of a page and the writing of its
// entries: every row has its entry then, and nothing else has.
func TestRowsThatChangeWhileAnIndexIsFilled(t *testing.T) {
	for _, unique := range []bool{false, true} {
		for _, c := range []struct {
			name       string
			statements []string
		}{
			{"nothing", nil},
			{"deleted", []string{"DELETE FROM t WHERE id = 3"}},
			{"all deleted", []string{"DELETE FROM t"}},
			{"another value", []string{"UPDATE t SET v = 1003 WHERE id = 3"}},
			{"another value for all", []string{"UPDATE t SET v = v + 1000"}},
			{"there and back", []string{"UPDATE t SET v = 1003 WHERE id = 3", "UPDATE t SET v = 3 WHERE id = 3"}},
			{"something else changed", []string{"UPDATE t SET s = 'new'"}},
			{"deleted and inserted", []string{"DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (3, 3, 'new')"}},
			{"replaced", []string{"REPLACE INTO t VALUES (3, 3, 'new'), (4, 1004, 'new')"}},
			{"inserted and deleted", []string{"INSERT INTO t VALUES (777, 777, '')", "DELETE FROM t WHERE id = 777"}},
			{"the value goes to another row", []string{"DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (777, 3, '')"}},
			{"the value goes to another row and away", []string{"DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (777, 3, '')", "DELETE FROM t WHERE id = 777"}},
			{"two change places", []string{"UPDATE t SET v = 1003 WHERE id = 3", "UPDATE t SET v = 3 WHERE id = 4", "UPDATE t SET v = 4 WHERE id = 3"}},
			{"another row number", []string{"UPDATE t SET id = 777 WHERE id = 3"}},
		} {
			name := c.name
			if unique {
				name = "unique, " + name
			}
			t.Run(name, func(t *testing.T) {
				s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", "INSERT INTO t VALUES (1, 1, ''), (2, 2, ''), (3, 3, ''), (4, 4, ''), (5, NULL, ''), (6, NULL, '')")
				s.setIndex(t, unique, catalog.IndexDeleteOnly)
				s.setIndex(t, unique, catalog.IndexWriteOnly)
				f := s.filling(t)
				early, late := f.pages(t), f.pages(t)
				run(t, db, c.statements...)
				require.NoError(t, f.enterPages(early))
				require.NoError(t, f.enterPages(late), "what was entered before is entered again")
				s.setIndex(t, unique, catalog.IndexPublic)
				sound(t, db, "t")
			})
		}
	}
}

// Rows that a transaction holds are entered as it leaves them.
func TestRowsThatAreLockedWhileAnIndexIsFilled(t *testing.T) {
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(50))
		s.setIndex(t, false, catalog.IndexDeleteOnly)
		s.setIndex(t, false, catalog.IndexWriteOnly)
		f := s.filling(t)
		holder := connection(t, db)
		run(t, holder, "START TRANSACTION", "UPDATE t SET v = 100 WHERE id < 20", "DELETE FROM t WHERE id > 40", "SELECT * FROM t WHERE id = 30 FOR UPDATE")
		pages := f.pages(t)
		done := make(chan error, 1)
		go func() {
			err := f.enterPages(pages)
			for errors.Is(err, errHold) { // nobody runs this job
				err = f.enterPages(pages)
			}
			done <- err
		}()
		run(t, holder, end)
		require.NoError(t, <-done)
		s.setIndex(t, false, catalog.IndexPublic)
		sound(t, db, "t")
	}
}

// Two rows of one value are an error where they are still there.
func TestDuplicatesWhileAUniqueIndexIsFilled(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", "INSERT INTO t VALUES (1, 1, ''), (2, 2, ''), (3, 2, ''), (4, 2, '')")
	s.setIndex(t, true, catalog.IndexDeleteOnly)
	s.setIndex(t, true, catalog.IndexWriteOnly)
	f := s.filling(t)
	early, late := f.pages(t), f.pages(t)
	run(t, db, "DELETE FROM t WHERE id = 3")
	var duplicate errDuplicateRow
	require.ErrorAs(t, f.enterPages(early), &duplicate)
	require.Equal(t, "[2]", duplicate.key)
	run(t, db, "DELETE FROM t WHERE id = 4")
	require.NoError(t, f.enterPages(late))
	s.setIndex(t, true, catalog.IndexPublic)
	sound(t, db, "t", "v,none,NULL,2")
}

// A transaction that has a snapshot from before its rows were entered changes them
// all the same: it has read nothing that has changed.
func TestTransactionsBesideTheFillingOfAnIndex(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(20))
	s.setIndex(t, false, catalog.IndexDeleteOnly)
	s.setIndex(t, false, catalog.IndexWriteOnly)
	f := s.filling(t)
	var open []*sql.Conn
	for range 3 {
		c := connection(t, db)
		run(t, c, "START TRANSACTION", "SELECT COUNT(*) FROM t")
		open = append(open, c)
	}
	require.NoError(t, f.enterPages(f.pages(t)))
	for i, q := range []string{"UPDATE t SET v = 77 WHERE id < 5", "DELETE FROM t WHERE id > 15", "REPLACE INTO t VALUES (10, 77, 'x')"} {
		run(t, open[i], q, "COMMIT")
	}
	s.setIndex(t, false, catalog.IndexPublic)
	sound(t, db, "t", "v,none,NULL,16")
}

// What a unique index will forbid is let pass while it is filled, and found; not any
// more in the state after that.
func TestDoublesWhileAUniqueIndexIsBuilt(t *testing.T) {
	for _, c := range []struct {
		name      string
		statement string
		found     bool
	}{
		{"no double", "INSERT INTO t VALUES (3, 3, '')", false},
		{"insert", "INSERT INTO t VALUES (3, 1, '')", true},
		{"two in one statement", "INSERT INTO t VALUES (3, 3, ''), (4, 3, '')", true},
		{"update", "UPDATE t SET v = 1 WHERE id = 2", true},
		{"update of all", "UPDATE t SET v = 7", true},
		{"replace", "REPLACE INTO t VALUES (2, 1, 'x')", true},
		{"replace of the row itself", "REPLACE INTO t VALUES (1, 1, 'x')", false},
		{"on duplicate key", "INSERT INTO t VALUES (1, 2, 'x') ON DUPLICATE KEY UPDATE s = 'y'", false},
		{"nulls", "INSERT INTO t VALUES (3, NULL, ''), (4, NULL, '')", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", "INSERT INTO t VALUES (1, 1, ''), (2, 2, '')")
			s.setIndex(t, true, catalog.IndexDeleteOnly)
			s.setIndex(t, true, catalog.IndexTolerant)
			f := s.filling(t)
			require.NoError(t, f.enterPages(f.pages(t)))
			run(t, db, c.statement)
			err := f.job.doubles(context.Background(), f.x.id)
			var duplicate errDuplicateRow
			require.Equal(t, c.found, errors.As(err, &duplicate), "%v", err)
			if c.found {
				require.NoError(t, s.server.catalog.forgetDoubles(context.Background(), f.x.id))
				require.NoError(t, f.job.doubles(context.Background(), f.x.id))
				return
			}
			require.NoError(t, err)
			s.setIndex(t, true, catalog.IndexWriteOnly)
			require.Equal(t, 1062, number(execErr(db, "INSERT INTO t VALUES (77, 1, '')")))
			s.setIndex(t, true, catalog.IndexPublic)
			sound(t, db, "t")
		})
	}
}

// A double that is committed while the index is built is the index's end, not the
// statement's.
func TestADoubleEndsTheIndex(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", "INSERT INTO t VALUES (1, 1, ''), (2, 2, '')")
	s.setIndex(t, true, catalog.IndexDeleteOnly)
	s.setIndex(t, true, catalog.IndexTolerant)
	f := s.filling(t)
	require.NoError(t, f.enterPages(f.pages(t)))
	run(t, db, "INSERT INTO t VALUES (3, 1, '')")
	run(t, db, "DELETE FROM t WHERE id = 3") // as in MySQL: it was there
	require.NoError(t, s.server.catalog.changeJob(context.Background(), 1<<41, func(r *jobRecord) error {
		r.State, r.TableID = jobRunning, s.table("app", "t").ID
		return nil
	}))
	s.server.jobs.wake()
	require.Eventually(t, func() bool {
		return slices.Equal([]string{"failed,[1]"}, query(t, db, "SELECT state, error FROM rowlock.jobs"))
	}, time.Minute, 10*time.Millisecond)
	require.Empty(t, s.table("app", "t").Indexes)
	require.Zero(t, s.records(t, keyDoubles))
}
