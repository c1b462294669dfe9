package sqlfront

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// twin is a pair of servers with the same data, of which one has no fast path: what
// is run on both must be answered alike to the last byte.
type twin struct {
	t          testing.TB
	fast, slow *stack
	statements uint64 // compared
}

func newTwin(t testing.TB, statements ...string) *twin { return newTwinOf(t, true, statements...) }

// newTwinOf says which of the two places the rows of its tables by blocks.
func newTwinOf(t testing.TB, fast bool, statements ...string) *twin {
	w := &twin{t: t, fast: newStack(t, Config{Blocks: func() bool { return fast }}), slow: newStack(t, Config{Blocks: func() bool { return !fast }})}
	for _, s := range []*stack{w.fast, w.slow} {
		run(t, s.db("", ""), "CREATE DATABASE app")
		db := s.db("app", "")
		db.SetMaxOpenConns(1)
		run(t, db, statements...)
	}
	return w
}

// taken is how many statements the fast path has answered.
func (w *twin) taken() uint64 {
	require.Zero(w.t, w.slow.server.fast.taken.Load(), "the fast path that is off")
	return w.fast.server.fast.taken.Load()
}

// twinSession is one session on both.
type twinSession struct {
	t            testing.TB
	w            *twin
	user         string
	capabilities uint32
	fast, slow   *rawClient
	prepared     map[string]uint32
}

func (w *twin) session(user string, capabilities uint32) *twinSession {
	c := &twinSession{t: w.t, w: w, user: user, capabilities: capabilities}
	c.connect()
	return c
}

func (c *twinSession) connect() {
	c.prepared = map[string]uint32{}
	c.fast = rawConnect(c.t, c.w.fast.server, c.user, "app", c.capabilities)
	c.slow = rawConnect(c.t, c.w.slow.server, c.user, "app", c.capabilities)
	c.fast.query("SET SESSION rowlock_fast_path = ON")
	c.slow.query("SET SESSION rowlock_fast_path = OFF")
}

// ended connects again after a statement at which the engine panicked, which closes
// the connection.
func (c *twinSession) ended(answer [][]byte) {
	if p := answer[0]; p[0] == 0xFF && binary.LittleEndian.Uint16(p[1:]) == 1815 {
		c.connect()
	}
}

// transactions are the only thing that two servers call by different names.
var transactions = regexp.MustCompile(`transaction [0-9a-f]+-[0-9a-f]+-[0-9a-f]+`)

func alike(packets [][]byte) string {
	return transactions.ReplaceAllString(shown(packets), "transaction")
}

// query runs a text on both.
func (c *twinSession) query(text string) [][]byte {
	c.t.Helper()
	c.w.statements++
	want := c.slow.query(text)
	require.Equal(c.t, alike(want), alike(c.fast.query(text)), "text: %s", text)
	c.ended(want)
	return want
}

// execute runs a prepared statement on both.
func (c *twinSession) execute(text string, parameters ...any) [][]byte {
	c.t.Helper()
	id, ok := c.prepared[text]
	if !ok {
		var want, got [][]byte
		var again uint32
		id, want = c.slow.prepare(text)
		again, got = c.fast.prepare(text)
		require.Equal(c.t, shown(want), shown(got), "prepare: %s", text)
		require.Equal(c.t, id, again)
		if id == 0 {
			return want
		}
		c.prepared[text] = id
	}
	c.w.statements++
	want := c.slow.execute(id, parameters)
	require.Equal(c.t, alike(want), alike(c.fast.execute(id, parameters)), "prepared: %s %v", text, parameters)
	c.ended(want)
	return want
}

// Ranges of more rows than the engine sends at once.
func TestFastRangeRead(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, c VARCHAR(20), KEY (k))", fillTwin(400))
	for _, capabilities := range []uint32{0, clientDeprecateEOF | clientMultiStatements} {
		c := w.session("root", capabilities)
		before := w.taken()
		for range 3 {
			for _, last := range []int64{0, 1, 100, 127, 128, 129, 256, 300, 400, 500} {
				for _, what := range []string{"SELECT c FROM t WHERE id BETWEEN ? AND ?", "SELECT SUM(k), COUNT(*) FROM t WHERE id BETWEEN ? AND ?",
					"SELECT c FROM t WHERE id BETWEEN ? AND ? ORDER BY c", "SELECT DISTINCT c FROM t WHERE id BETWEEN ? AND ? ORDER BY c",
					"SELECT id FROM t WHERE id BETWEEN ? AND ? ORDER BY id DESC", "SELECT id, c FROM t WHERE id IN (?, 300, ?, 7, 7)"} {
					c.execute(what, int64(1), last)
					c.query(strings.Replace(strings.Replace(what, "?", "1", 1), "?", strconv.FormatInt(last, 10), 1))
				}
				c.query("SELECT FOUND_ROWS(), ROW_COUNT()")
			}
			c.query("BEGIN")
			c.query("UPDATE t SET c = 'mine' WHERE id = 3")
		}
		c.query("ROLLBACK")
		require.Greater(t, w.taken()-before, uint64(200))
	}
}

// Cursors of the server: the rows wait in the statement until they are fetched. They
// are compared with those of the statement without a cursor.
func TestFastPathAndCursors(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, c VARCHAR(20), KEY (k))", fillTwin(300))
	c := w.session("root", 0)
	for _, text := range []string{"SELECT c FROM t WHERE id = ?", "SELECT id, c FROM t WHERE id BETWEEN 1 AND ?", "SELECT SUM(k) FROM t WHERE id BETWEEN 1 AND ?",
		"UPDATE t SET k = k + 1 WHERE id = ?"} {
		for _, last := range []int64{5, 1, 100} {
			c.execute(text, last)
			want := rowPackets(c.execute(text, last))
			before := w.taken()
			require.Equal(t, want, rowPackets(c.fast.cursor(c.prepared[text], []any{last})), "%s %d", text, last)
			require.Equal(t, before+1, w.taken())
		}
	}
}

// rowPackets are the rows of an answer in the binary protocol, or its only packet.
func rowPackets(packets [][]byte) (rows [][]byte) {
	for _, p := range packets {
		if p[0] == 0 {
			rows = append(rows, p)
		}
	}
	return rows
}

// fillTwin is an INSERT of n rows into t (id, k, c).
func fillTwin(n int) string {
	var rows []string
	for i := range n {
		rows = append(rows, fmt.Sprintf("(%d, %d, 'C%d')", i+1, i*7%100, i%37))
	}
	return "INSERT INTO t VALUES " + strings.Join(rows, ", ")
}

func TestFastPointRead(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n BIGINT UNSIGNED, KEY (n))",
		"INSERT INTO t VALUES (1, 'one', 1), (2, NULL, 2), (7, 'seven', 18446744073709551615)")
	for _, capabilities := range []uint32{0, clientDeprecateEOF, clientMultiStatements, clientFoundRows | clientDeprecateEOF} {
		c := w.session("root", capabilities)
		before := w.taken()
		for range 3 {
			c.query("SELECT v FROM t WHERE id = 7")
			c.query("SELECT * FROM t WHERE id=2")
			c.query("SELECT n, V, id FROM app.t WHERE t.id=9")
			c.execute("SELECT v FROM t WHERE id = ?", int64(1))
			c.execute("SELECT v FROM t WHERE id = ?", uint64(2))
			c.execute("SELECT v, n AS m FROM t WHERE id = 7")
			c.query("SELECT ROW_COUNT(), FOUND_ROWS()")
			c.execute("SELECT v FROM t WHERE id = ?", nil)
			c.execute("SELECT v FROM t WHERE id = ?", "1")
			c.execute("SELECT v FROM t WHERE id = ?", 1.5)
			c.execute("SELECT v FROM t WHERE id = ?", int64(1<<40))
		}
		require.GreaterOrEqual(t, w.taken()-before, uint64(12))
		for _, control := range []string{"BEGIN", "COMMIT", "START TRANSACTION", "ROLLBACK"} {
			c.query("UPDATE t SET v = v WHERE id > 1")
			c.query(control)
			c.query("SELECT ROW_COUNT(), FOUND_ROWS()")
			c.query("SHOW WARNINGS")
			c.execute(control)
			c.query("SELECT FOUND_ROWS(), ROW_COUNT()")
		}
		c.query("BEGIN")
		c.query("SELECT v FROM t WHERE id = 7")
		c.query("UPDATE t SET v = 'changed' WHERE id = 7")
		c.query("SELECT v FROM t WHERE id = 7")
		c.query("ROLLBACK")
		c.execute("BEGIN")
		c.execute("SELECT v FROM t WHERE id = 7")
		c.execute("COMMIT")
		c.query("SELECT v FROM t WHERE id = 7")
		c.query("UPDATE t SET v = v WHERE id > 1")
		c.query("SELECT v FROM t WHERE id = 7")
		c.query("SELECT ROW_COUNT(), FOUND_ROWS()")
		c.query("SHOW SESSION STATUS LIKE 'Questions'")
		c.query("SHOW SESSION STATUS LIKE 'Com_select'")
	}
}

// Keys of text, under collations that tell letters apart and not.
func TestFastTextKey(t *testing.T) {
	w := newTwin(t)
	for _, collation := range []string{"utf8mb4_0900_ai_ci", "utf8mb4_bin", "utf8mb4_general_ci", "latin1_swedish_ci"} {
		charset, _, _ := strings.Cut(collation, "_")
		c := w.session("root", 0)
		c.query("DROP TABLE IF EXISTS t")
		c.query("CREATE TABLE t (name VARCHAR(10) CHARACTER SET " + charset + " COLLATE " + collation + ", code CHAR(3) CHARACTER SET " + charset +
			" COLLATE " + collation + ", v INT, PRIMARY KEY (name, code))")
		c.query("INSERT INTO t VALUES ('a', 'x', 1), ('ä1', 'X1', 2), ('b ', 'y', 3), ('', '', 4), ('1', '2', 5), ('ß', 'ss', 6)")
		before := w.taken()
		all := func() {
			for _, name := range []string{"a", "A", "a ", " a", "b", "b ", "ä1", "Ä1", "a1", "", "1", "01", "ß", "ss", "S", "much too long for it", "😀"} {
				for _, code := range []string{"x", "X", "X1", "y", "", "2", "ss"} {
					c.query("SELECT v, name FROM t WHERE name = '" + name + "' AND code = '" + code + "'")
					c.execute("SELECT v FROM t WHERE code = ? AND name = ?", code, name)
				}
			}
			c.query("SELECT v FROM t WHERE name = 1 AND code = 2")
			c.execute("SELECT v FROM t WHERE code = ? AND name = ?", int64(2), int64(1))
			c.execute("SELECT v FROM t WHERE code = ? AND name = ?", "x", "\xff")
		}
		all()
		require.Equal(t, charset == "utf8mb4", w.taken()-before > 100, collation)
		c.query("SET NAMES latin1")
		before = w.taken()
		all()
		c.query("SET NAMES binary")
		all()
		require.Equal(t, before, w.taken(), "with other character sets")
	}
}

// Statements that are known mean what the variables of the session say now.
func TestFastPathAndVariables(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, c VARCHAR(20), at TIMESTAMP)",
		"INSERT INTO t VALUES (1, 1, 'ä', '2020-01-01 00:00:00'), (2, 2, 'b', '2021-07-01 12:00:00'), (3, 3, 'c', NULL)")
	for _, set := range []string{"SET sql_select_limit = 0", "SET sql_select_limit = 1", "SET NAMES latin1", "SET character_set_results = NULL", "SET NAMES binary",
		"SET autocommit = 0", "SET sql_mode = 'ANSI_QUOTES'", "SET sql_mode = ''", "SET time_zone = '+07:00'", "SET max_execution_time = 1000000",
		"SET SESSION transaction_read_only = ON", "SET SESSION transaction_isolation = 'SERIALIZABLE'", "SET rowlock_read_staleness = 1",
		"USE mysql", "SET completion_type = 'CHAIN'", "SET completion_type = 'RELEASE'", "SET collation_connection = utf8mb4_bin"} {
		c := w.session("root", clientDeprecateEOF)
		all := func() {
			c.query("SELECT * FROM t WHERE id = 1")
			c.execute("SELECT c, at FROM t WHERE id = ?", int64(2))
			c.query("SELECT id, c FROM app.t WHERE id BETWEEN 1 AND 3")
			c.query("SELECT SUM(k) FROM t WHERE id BETWEEN 1 AND 3")
			c.query("UPDATE t SET k = 5 WHERE id = 3")
			c.query("UPDATE t SET c = '' WHERE id = 3")
			c.query("SELECT @@autocommit, @@in_transaction IS NULL")
		}
		for range 2 {
			all()
		}
		c.query(set)
		for range 3 {
			all()
		}
		if !strings.Contains(set, "RELEASE") {
			c.query("COMMIT")
			all()
		}
		c.query("ROLLBACK AND NO CHAIN NO RELEASE") // nobody waits for its locks
	}
	require.NotZero(t, w.taken())
}

// Changes of a row by its primary key, in a transaction and alone.
func TestFastWrite(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, c VARCHAR(20), KEY (k), UNIQUE KEY (c))", "INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, NULL)")
	for _, capabilities := range []uint32{0, clientDeprecateEOF, clientFoundRows} {
		c := w.session("root", capabilities)
		alone := func(expected int, statement func()) {
			for range 3 {
				statement()
			}
			before := w.taken()
			statement()
			require.Equal(t, uint64(expected), w.taken()-before)
		}
		alone(2, func() {
			c.query("UPDATE t SET k = k + 1 WHERE id = 1")
			c.execute("UPDATE t SET k = k + 1 WHERE id = ?", int64(2))
			c.query("SELECT ROW_COUNT()")
		})
		alone(3, func() {
			c.query("UPDATE t SET c = 'x' WHERE id = 1")
			c.query("UPDATE t SET c = 'x' WHERE id = 2") // a duplicate
			c.query("SHOW WARNINGS")
			c.execute("UPDATE t SET c = ?, k = ? WHERE id = ?", "a", int64(7), int64(1))
		})
		alone(1, func() { c.query("UPDATE t SET c = 'far too long for the column' WHERE id = 1") })
		alone(2, func() {
			c.query("UPDATE t SET k = 5 WHERE id = 1")
			c.query("UPDATE t SET k = 5000000000 WHERE id = 1")
		})
		alone(5, func() {
			c.query("BEGIN")
			c.execute("DELETE FROM t WHERE id = ?", int64(1))
			c.query("SELECT c FROM t WHERE id = 1")
			c.query("DELETE FROM t WHERE id = 1")
			c.query("ROLLBACK")
		})
		alone(0, func() { c.query("UPDATE t SET nothing = 1 WHERE id = 1") })
		c.query("START TRANSACTION READ ONLY")
		alone(0, func() { c.query("UPDATE t SET k = k + 1 WHERE id = 1") })
		c.query("COMMIT")
		c.query("SELECT * FROM t ORDER BY id")
		c.query("SHOW SESSION STATUS LIKE 'Com_update'")
		c.query("SHOW SESSION STATUS LIKE 'Com_delete'")
		c.query("SHOW SESSION STATUS LIKE 'Questions'")
	}
	c := w.session("root", 0)
	for _, ddl := range []string{"SET @x = 1", "CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW SET NEW.k = 99", "DROP TRIGGER g",
		"CREATE TRIGGER h BEFORE INSERT ON t FOR EACH ROW SET NEW.k = 98", "DROP TRIGGER h",
		"CREATE TABLE child (id INT PRIMARY KEY, of INT, FOREIGN KEY (of) REFERENCES t (id))", "INSERT INTO child VALUES (1, 2)", "DROP TABLE child",
		"ALTER TABLE t ADD CHECK (k < 50)", "ALTER TABLE t ADD COLUMN twice INT AS (k * 2) STORED"} {
		c.query(ddl)
		for range 3 {
			c.query("UPDATE t SET k = k + 10 WHERE id = 2")
			c.query("SELECT k FROM t WHERE id = 2")
			c.query("DELETE FROM t WHERE id = 2")
			c.query("INSERT INTO t (id, k, c) VALUES (2, 2, 'b')")
			c.query("SELECT k FROM t WHERE id = 2")
		}
	}
}

// Reads that lock the row they find, or the gap where it would be.
func TestFastLockingRead(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, c VARCHAR(20), UNIQUE KEY (c))", "CREATE TABLE n (id INT PRIMARY KEY, k INT, KEY (k))",
		"INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, NULL)", "INSERT INTO n VALUES (1, 1), (2, 2)")
	for _, set := range []string{"SET autocommit = 1", "SET autocommit = 0", "SET SESSION transaction_isolation = 'READ-COMMITTED'",
		"SET SESSION transaction_isolation = 'SERIALIZABLE'", "SET SESSION snapshot_isolation = OFF", "SET row_lock_durability = 'replicated'"} {
		c := w.session("root", clientDeprecateEOF)
		c.query(set)
		before := w.taken()
		for i := range 4 {
			for _, table := range []string{"t", "n"} {
				c.execute("BEGIN")
				c.execute("SELECT k FROM "+table+" WHERE id = ? FOR UPDATE", int64(1+i%3))
				c.query(fmt.Sprintf("SELECT * FROM %s WHERE id = %d FOR SHARE", table, i))
				c.execute("UPDATE "+table+" SET k = k - ?, id = id + 0 WHERE id = ?", int64(i*100), int64(1))
				c.execute("SELECT k AS x FROM "+table+" WHERE id = ? LOCK IN SHARE MODE", int64(1))
				c.query([]string{"COMMIT", "ROLLBACK"}[i%2])
				c.query("SELECT id FROM " + table + " WHERE id = 1 FOR UPDATE")
				c.query("SELECT ROW_COUNT(), FOUND_ROWS()")
			}
			c.query("START TRANSACTION READ ONLY")
			c.query("SELECT k FROM t WHERE id = 1 FOR UPDATE")
			c.query("SELECT k FROM t WHERE id = 1 FOR SHARE")
			c.query("COMMIT")
		}
		require.Greater(t, w.taken()-before, uint64(20))
		c.query("ROLLBACK")
	}
}

// INSERT of one row: numbers that the server chooses and those that it is given,
// defaults, duplicates, what does not fit.
func TestFastInsert(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL DEFAULT 7, c VARCHAR(10) NOT NULL DEFAULT '', d DATETIME DEFAULT '2020-01-01', n INT, UNIQUE KEY (c))",
		"CREATE TABLE strict (id INT PRIMARY KEY, must INT NOT NULL, t TINYINT)", "CREATE TABLE plain (a BIGINT UNSIGNED, b VARCHAR(5), PRIMARY KEY (b, a))")
	for _, capabilities := range []uint32{0, clientDeprecateEOF | clientMultiStatements} {
		c := w.session("root", capabilities)
		before := w.taken()
		for i := range 6 {
			c.query(fmt.Sprintf("INSERT INTO t (k, c) VALUES (%d, 'c%d-%d')", i*100, i, capabilities))
			c.query("SELECT LAST_INSERT_ID(), ROW_COUNT(), FOUND_ROWS()")
			c.execute("INSERT INTO t (k, c, n) VALUES (?, ?, ?)", int64(i), fmt.Sprintf("p%d-%d", i, capabilities), int64(-i))
			c.query(fmt.Sprintf("INSERT INTO t (c, id) VALUES ('i%d-%d', %d)", i, capabilities, []int{50, 0, 40, 60, 0, 70}[i]+int(capabilities%7)*1000))
			c.query("SELECT LAST_INSERT_ID(), ROW_COUNT()")
			c.query("INSERT INTO t (k, c) VALUES (1, 'c1-0')") // a duplicate, or not
			c.query(fmt.Sprintf("INSERT INTO t (id, k, c, n) VALUES (0, 1, 'm%d-%d', NULL), (%d, 2, 'n%d-%d', 1), (NULL, 3, 'o%d', NULL)",
				i, capabilities, 500+i*10, i, capabilities, i*int(capabilities+1)))
			c.query("SELECT LAST_INSERT_ID(), ROW_COUNT()")
			c.execute("INSERT INTO t (id, c, n) VALUES (?, ?, ?), (?, ?, ?)", int64(600+i), fmt.Sprint("q", i), nil, nil, fmt.Sprint("q", i*int(capabilities)), int64(1))
			c.query("SELECT LAST_INSERT_ID(), ROW_COUNT()")
			c.query(fmt.Sprintf("REPLACE INTO t (id, c, n) VALUES (%d, 'c1-0', NULL)", i+int(capabilities)))
			c.query(fmt.Sprintf("REPLACE INTO t (k, c) VALUES (%d, 'c1-0'), (%d, 'c1-1')", i, i))
			c.query("SELECT LAST_INSERT_ID(), ROW_COUNT()")
			c.execute("UPDATE t SET n = ? WHERE id = ?", nil, int64(i))
			c.execute("UPDATE t SET k = ? WHERE id = ?", nil, int64(i)) // it must not be NULL
			c.query("INSERT INTO t (k, c) VALUES (1, 'far too long')")
			c.query("SHOW WARNINGS")
			c.query(fmt.Sprintf("INSERT INTO strict (id, t) VALUES (%d, 1)", i))
			c.query(fmt.Sprintf("INSERT INTO strict VALUES (%d, 1, %d)", i+int(capabilities), i*60))
			c.execute("INSERT INTO plain VALUES (?, ?)", uint64(1<<63)+uint64(i), "x")
			c.execute("INSERT INTO plain VALUES (?, ?)", int64(i), fmt.Sprint(i))
			c.query("BEGIN")
			c.query(fmt.Sprintf("INSERT INTO t (k, c) VALUES (%d, 'r%d')", i, i))
			c.query("ROLLBACK")
		}
		require.Greater(t, w.taken()-before, uint64(40))
		for _, table := range []string{"t", "strict", "plain"} {
			c.query("SELECT * FROM " + table + " ORDER BY 1, 2")
		}
		c.query("SHOW SESSION STATUS LIKE 'Com_insert'")
	}
	u := w.session("root", 0)
	u.query("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
	for _, id := range []int{9000, 9001, 0, 9002, 0} {
		u.query(fmt.Sprintf("INSERT INTO t (id, c) VALUES (%d, 'z%d')", id, id))
		u.query("SELECT LAST_INSERT_ID()")
	}
	u.query("SET sql_mode = ''")
	for range 3 {
		u.query("INSERT INTO t (k, c) VALUES (99999999999, 'far too long')")
		u.query("SHOW WARNINGS")
	}
	u.query("SELECT * FROM t ORDER BY id")
}
