package sqlfront

import (
	"context"
	"database/sql"
	"errors"
	"testing"

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
