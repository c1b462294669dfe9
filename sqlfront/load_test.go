package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// newLoadStack is a server whose rows leave for their shards a few at a time.
// The number counts chunks.
func newLoadStack(t testing.TB, sent *atomic.Int64) *stack {
	return newStackWith(t, Config{}, func(r txn.Router) txn.Router { return &chunkCounter{r, sent} }, 400)
}

type chunkCounter struct {
	txn.Router
	sent *atomic.Int64
}

func (c *chunkCounter) Stage(ctx context.Context, s shard.ID, q *shard.StageRequest) error {
	c.sent.Add(1)
	return c.Router.Stage(ctx, s, q)
}

// loadFile runs a LOAD DATA LOCAL of text: %s in the statement stands for the file.
func loadFile(db *sql.Conn, statement, text string) (rows int64, err error) {
	return loadFrom(db, statement, strings.NewReader(text))
}

func loadFrom(db *sql.Conn, statement string, file io.Reader) (rows int64, err error) {
	name := fmt.Sprintf("file%p", db)
	mysql.RegisterReaderHandler(name, func() io.Reader { return file })
	defer mysql.DeregisterReaderHandler(name)
	result, err := db.ExecContext(context.Background(), strings.ReplaceAll(statement, "%s", "'Reader::"+name+"'"))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// tables that rows are loaded into: id, a, b, c of the file.
var loadTables = map[string]string{
	"primary key":     "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL",
	"indexes":         "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL, KEY (b), KEY (c, a)",
	"unique":          "id INT PRIMARY KEY, a INT, b VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, c INT NOT NULL, UNIQUE KEY (a), UNIQUE KEY (b, c)",
	"no key":          "id INT, a INT, b VARCHAR(20), c INT NOT NULL",
	"text key":        "id INT, a INT, b VARCHAR(20), c INT NOT NULL, PRIMARY KEY (b, id)",
	"partitions":      "id INT, a INT, b VARCHAR(20), c INT NOT NULL, PRIMARY KEY (id, a)) PARTITION BY KEY (a",
	"auto increment":  "id INT PRIMARY KEY AUTO_INCREMENT, a INT, b VARCHAR(20), c INT NOT NULL DEFAULT 7, KEY (a)",
	"generated":       "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL, d INT AS (a + 1) VIRTUAL, e INT AS (c * 2) STORED, KEY (e)",
	"checks":          "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL, CHECK (a < 390)",
	"defaults":        "id INT PRIMARY KEY, a INT, b VARCHAR(20) DEFAULT 'none', c INT NOT NULL, d TIMESTAMP NULL DEFAULT NULL, e INT DEFAULT (1 + 1)",
	"narrow":          "id TINYINT UNSIGNED PRIMARY KEY, a TINYINT, b VARCHAR(2), c INT NOT NULL",
	"a foreign key":   "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL, FOREIGN KEY (c) REFERENCES parents (id)",
	"its own parent":  "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL, KEY (a), FOREIGN KEY (a) REFERENCES t (id)",
	"with a trigger":  "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL",
	"rows are there":  "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL, UNIQUE KEY (a)",
	"rows were there": "id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL, UNIQUE KEY (a)",
}

// inserted are the tables whose rows go in one by one.
var inserted = map[string]bool{"a foreign key": true, "its own parent": true, "rows are there": true,
	"narrow": true, // few of its rows are no duplicates
}

// statements that load: the first and one of the others for each table. The second
// and the fourth insert row by row.
var loadStatements = []string{
	"LOAD DATA LOCAL INFILE %s INTO TABLE t FIELDS TERMINATED BY ',' (id, a, b, c)",
	"LOAD DATA LOCAL INFILE %s REPLACE INTO TABLE t FIELDS TERMINATED BY ',' (id, a, b, c)",
	"LOAD DATA LOCAL INFILE %s IGNORE INTO TABLE t FIELDS TERMINATED BY ',' IGNORE 3 LINES (id, a, b, c)",
	"LOAD DATA LOCAL INFILE %s INTO TABLE t FIELDS TERMINATED BY ',' (id, a, @x, c) SET b = CONCAT(@x, '!')",
	"  load data local infile %s into table t FIELDS TERMINATED BY ',' (id, a, b, c)",
}

// loadText makes lines with ascending keys but for some that were there before,
// with NULLs, fields that are missing and fields that do not fit.
func loadFileText(r *rand.Rand, rows int, clean bool) string {
	var b strings.Builder
	for i := range rows {
		id, a, text, c := fmt.Sprint(i+1), fmt.Sprint(i+1), fmt.Sprintf("row %d", i), fmt.Sprint(i%5+1)
		if !clean {
			switch r.IntN(30) {
			case 0:
				id = fmt.Sprint(r.IntN(rows) + 1)
			case 1:
				a = fmt.Sprint(r.IntN(rows) + 1)
			case 2:
				text = strings.ToUpper(fmt.Sprintf("row %d", r.IntN(rows)))
			case 3:
				a = `\N`
			case 4:
				c = "x"
			case 5:
				id, a = fmt.Sprint(rows-i), `\N`
			}
		}
		fmt.Fprintf(&b, "%s,%s,%s,%s\n", id, a, text, c)
	}
	return b.String()
}

// outcome of a load: what it answered, and what it left.
func outcomeOf(t *testing.T, db *sql.Conn, statement, text string) (affected int64, err error, warnings, rows []string) {
	affected, err = loadFile(db, statement, text)
	warnings = query(t, db, "SHOW WARNINGS")
	rows = query(t, db, "SELECT * FROM t")
	return
}

// What a LOAD DATA answers and leaves is the same whether the table is locked as a
// whole or the rows go in one by one: rows, entries of indexes, affected rows,
// warnings, errors.
func TestLoadDataBothWays(t *testing.T) {
	var sent atomic.Int64
	s := newLoadStack(t, &sent)
	db := connection(t, s.db("", ""))
	run(t, db, "SET GLOBAL local_infile = 1", "CREATE DATABASE d", "USE d", "CREATE TABLE parents (id INT PRIMARY KEY)", "INSERT INTO parents VALUES (1),(2),(3),(4)",
		"CREATE TABLE seen (id INT)")
	r := rand.New(rand.NewPCG(3, 4))
	for n, name := range slices.Sorted(maps.Keys(loadTables)) {
		columns := loadTables[name]
		t.Run(name, func(t *testing.T) {
			for _, i := range []int{0, 1 + n%(len(loadStatements)-1)} {
				statement := loadStatements[i]
				text := loadFileText(r, loadAfter+150, r.IntN(4) == 0)
				type left struct {
					affected       int64
					message        string
					warnings, rows []string
					more           []string
				}
				var both [2]left
				for way := range both {
					run(t, db, "SET FOREIGN_KEY_CHECKS = 0", "DROP TABLE IF EXISTS t", "SET FOREIGN_KEY_CHECKS = 1", "DELETE FROM seen", "CREATE TABLE t ("+columns+")")
					switch name {
					case "with a trigger":
						run(t, db, "CREATE TRIGGER look BEFORE INSERT ON t FOR EACH ROW INSERT INTO seen SELECT COUNT(*) FROM t")
					case "rows are there":
						run(t, db, "INSERT INTO t VALUES (9, 100, 'there', 1)")
					case "rows were there":
						run(t, db, "INSERT INTO t VALUES (9, 100, 'there', 1)", "DELETE FROM t")
					}
					run(t, db, fmt.Sprintf("SET rowlock_bulk_load = %d", way))
					l := &both[way]
					var err error
					sent.Store(0)
					l.affected, err, l.warnings, l.rows = outcomeOf(t, db, statement, text)
					if err != nil {
						l.message = err.Error()
					}
					ahead := way == 1 && i != 1 && i != 3 && !inserted[name]
					require.Equal(t, ahead, sent.Load() > 0, "%s: %d chunks", statement, sent.Load())
					for _, q := range []string{"SELECT COUNT(*), SUM(c) FROM t", "SELECT id FROM t WHERE a BETWEEN 10 AND 50 ORDER BY a, id", "SELECT COUNT(*), MAX(id) FROM seen"} {
						l.more = append(l.more, query(t, db, q)...)
					}
					for _, line := range query(t, db, "CALL rowlock.check_table('d', 't')") {
						require.Contains(t, line, ",none,")
						l.more = append(l.more, line)
					}
				}
				require.Equal(t, both[0], both[1], statement)
			}
		})
	}
}

// While a LOAD DATA has half of its file others see nothing of it and their rows
// wait; it can be killed, its client can go, and nothing stays of it then. Who has
// a lock on a row of the table, though it is empty, makes it insert row by row.
func TestLoadDataMidway(t *testing.T) {
	var sent atomic.Int64
	s := newLoadStack(t, &sent)
	db := connection(t, s.db("", ""))
	run(t, db, "SET GLOBAL local_infile = 1", "CREATE DATABASE d", "USE d", "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), c INT NOT NULL, KEY (a))")
	const load = "LOAD DATA LOCAL INFILE %s INTO TABLE t FIELDS TERMINATED BY ',' (id, a, b, c)"
	text := loadFileText(rand.New(rand.NewPCG(1, 1)), 8*loadAfter, true)
	half := func() (id string, rest *io.PipeWriter, ended chan error) {
		t.Helper()
		on := connection(t, s.db("d", ""))
		id = one(t, on, "CONNECTION_ID()")
		file, rest := io.Pipe()
		ended = make(chan error, 1)
		sent.Store(0)
		go func() {
			_, err := loadFrom(on, load, file)
			file.CloseWithError(io.ErrClosedPipe) // who writes must not wait
			ended <- err
		}()
		_, err := io.WriteString(rest, text[:len(text)/2])
		require.NoError(t, err)
		require.Eventually(t, func() bool { return sent.Load() > 0 }, time.Minute, time.Millisecond)
		return id, rest, ended
	}
	wait := func(ended chan error) error {
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Minute):
			t.Fatal("it does not end")
			return nil
		}
	}
	run(t, db, "SET innodb_lock_wait_timeout = 1")

	_, rest, ended := half()
	require.Equal(t, []string{"0"}, query(t, db, "SELECT COUNT(*) FROM t"))
	_, err := db.ExecContext(context.Background(), "INSERT INTO t VALUES (1000000, 1, '', 1)")
	require.Equal(t, 1205, number(err), "%v", err)
	_, err = io.WriteString(rest, text[len(text)/2:])
	require.NoError(t, err)
	require.NoError(t, rest.Close())
	require.NoError(t, wait(ended))
	require.Equal(t, []string{fmt.Sprint(8 * loadAfter)}, query(t, db, "SELECT COUNT(*) FROM t FORCE INDEX (a) WHERE a > 0"))
	run(t, db, "INSERT INTO t VALUES (1000000, 1, '', 1)", "TRUNCATE t")

	id, rest, ended := half()
	run(t, db, "KILL QUERY "+id)
	_, _ = io.WriteString(rest, text[len(text)/2:])
	require.NoError(t, rest.Close())
	require.Error(t, wait(ended))
	require.Equal(t, []string{"0"}, query(t, db, "SELECT COUNT(*) FROM t"))
	run(t, db, "SET innodb_lock_wait_timeout = 50", "INSERT INTO t VALUES (1000000, 1, '', 1)", "TRUNCATE t")

	id, rest, ended = half()
	run(t, db, "KILL "+id)
	_, _ = io.WriteString(rest, text[len(text)/2:])
	require.NoError(t, rest.Close())
	require.Error(t, wait(ended))
	require.Eventually(t, func() bool {
		_, err := db.ExecContext(context.Background(), "INSERT INTO t VALUES (7, 1, '', 1)")
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, []string{"7"}, query(t, db, "SELECT id FROM t"))
	run(t, db, "TRUNCATE t")

	// A transaction of more than one statement reads what it has loaded, and takes it back.
	for _, end := range []string{"ROLLBACK", "ROLLBACK TO s", "COMMIT"} {
		run(t, db, "BEGIN", "INSERT INTO t VALUES (1000000, 1, '', 1)", "SAVEPOINT s")
		sent.Store(0)
		_, err = loadFile(db, load, text)
		require.NoError(t, err)
		require.Zero(t, sent.Load())
		require.Equal(t, []string{fmt.Sprint(8*loadAfter + 1)}, query(t, db, "SELECT COUNT(*) FROM t"))
		run(t, db, end)
		want := map[string]string{"ROLLBACK": "0", "ROLLBACK TO s": "1", "COMMIT": fmt.Sprint(8*loadAfter + 1)}[end]
		require.Equal(t, []string{want}, query(t, db, "SELECT COUNT(*) FROM t"))
		run(t, db, "COMMIT", "TRUNCATE t")
	}

	other := connection(t, s.db("d", ""))
	run(t, other, "BEGIN")
	require.Empty(t, query(t, other, "SELECT * FROM t WHERE id = 1000000 FOR UPDATE"))
	sent.Store(0)
	_, err = loadFile(db, load, text)
	require.NoError(t, err)
	require.Equal(t, []string{fmt.Sprint(8 * loadAfter)}, query(t, db, "SELECT COUNT(*) FROM t"))
	run(t, other, "INSERT INTO t VALUES (1000000, 1, '', 1)", "COMMIT")
}

// txn_total_size_limit bounds a LOAD DATA that goes ahead like any other.
func TestLoadDataHasALimit(t *testing.T) {
	var sent atomic.Int64
	s := newLoadStack(t, &sent)
	db := connection(t, s.db("", ""))
	run(t, db, "SET GLOBAL local_infile = 1", "CREATE DATABASE d", "USE d", "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000))")
	var b strings.Builder
	for i := range loadAfter + 1000 {
		fmt.Fprintf(&b, "%d,%s\n", i+1, strings.Repeat("x", 1000))
	}
	const load = "LOAD DATA LOCAL INFILE %s INTO TABLE t FIELDS TERMINATED BY ',' (id, v)"
	run(t, db, "SET txn_total_size_limit = 500000") // the first rows fit
	_, err := loadFile(db, load, b.String())
	require.Equal(t, 1197, number(err), "%v", err)
	require.Positive(t, sent.Load())
	require.Equal(t, []string{"0"}, query(t, db, "SELECT COUNT(*) FROM t"))
	run(t, db, "SET txn_total_size_limit = 2000000")
	_, err = loadFile(db, load, b.String())
	require.NoError(t, err)
}
