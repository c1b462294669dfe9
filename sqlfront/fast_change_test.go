package sqlfront

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Changes of one row that need no plan, beside those that look like them and do.
func TestFastChange(t *testing.T) {
	w := newTwin(t, `CREATE TABLE t (id INT PRIMARY KEY, a INT, must INT NOT NULL, tiny TINYINT, mid MEDIUMINT, big BIGINT, u TINYINT UNSIGNED, ubig BIGINT UNSIGNED,
		v VARCHAR(5), b VARCHAR(5) COLLATE utf8mb4_bin, c CHAR(5) NOT NULL, x TEXT, s TINYTEXT, l VARCHAR(5) CHARACTER SET latin1, d DECIMAL(5,2), uq INT,
		KEY (a), KEY (v), UNIQUE KEY (uq))`,
		`INSERT INTO t VALUES (1, 1, 1, 127, 8388607, 9223372036854775807, 255, 18446744073709551615, 'a', 'a', 'a', 'a', 'a', 'a', 1.5, 1),
		(2, NULL, -1, -128, -8388608, -9223372036854775808, 0, 0, NULL, NULL, 'b', NULL, NULL, NULL, NULL, 2), (3, 3, 3, 3, 3, 3, 3, 3, 'c', 'c', 'c', 'c', 'c', 'c', 3, NULL)`)
	values := map[string][]any{
		"a": {nil, int64(0), int64(-7), int64(2147483647), int64(2147483648), "5", "x", 1.5}, "must": {int64(1), nil, int64(-1)},
		"tiny": {int64(127), int64(-128), int64(128), int64(-129), uint64(5)}, "mid": {int64(8388607), int64(8388608), int64(-8388608)},
		"big": {int64(1 << 62), uint64(1 << 63), int64(-1 << 63)}, "u": {int64(255), int64(256), int64(-1)}, "ubig": {uint64(1<<64 - 1), int64(-1), int64(7)},
		"v": {"a", "A", "a ", "ünïcö", "sixsix", "\xff", nil, int64(7)}, "b": {"a", "A", "sixsix", nil}, "c": {"c", "C", "c ", nil}, "x": {"x", "", nil, "\xc3"},
		"s": {"s", fmt.Sprintf("%0255d", 1), fmt.Sprintf("%0256d", 1)}, "l": {"l", "é"}, "d": {int64(1), 1.25}, "uq": {int64(1), int64(2), int64(9), nil},
	}
	for _, set := range []string{"SET autocommit = 1", "SET sql_mode = ''", "SET SESSION transaction_isolation = 'READ-COMMITTED'",
		"SET SESSION transaction_isolation = 'SERIALIZABLE'", "SET SESSION snapshot_isolation = OFF", "SET autocommit = 0", "SET NAMES latin1"} {
		for _, capabilities := range []uint32{0, clientFoundRows | clientDeprecateEOF} {
			c := w.session("root", capabilities)
			c.query(set)
			for _, column := range []string{"a", "must", "tiny", "mid", "big", "u", "ubig", "v", "b", "c", "x", "s", "l", "d", "uq"} {
				for i, v := range append(values[column], values[column]...) {
					c.execute("UPDATE t SET "+column+" = ? WHERE id = ?", v, int64(1+i%4))
					c.query("SELECT ROW_COUNT(), FOUND_ROWS()")
					if n, ok := v.(int64); ok {
						c.execute("UPDATE t SET a = a + 1, "+column+" = "+column+" - ? WHERE id = ?", n, int64(1+i%4))
						c.query(fmt.Sprintf("UPDATE t SET %s = %s + %d WHERE id = %d", column, column, n, 1+i%3))
						c.query("SHOW WARNINGS")
					}
				}
				c.query("SELECT * FROM t ORDER BY id")
				c.query("COMMIT")
			}
			c.query("SELECT id, a FROM t FORCE INDEX (a) WHERE a > -100 ORDER BY a, id")
			for i := range 5 {
				c.query("BEGIN")
				c.execute("DELETE FROM t WHERE id = ?", int64(i))
				c.query("SELECT ROW_COUNT(), FOUND_ROWS()")
				c.execute("DELETE FROM t WHERE id = ?", int64(i))
				c.execute("UPDATE t SET must = ? WHERE id = ?", int64(i), int64(i))
				c.query("SELECT id FROM t ORDER BY a, id")
				c.query("ROLLBACK")
			}
			c.query("COMMIT")
		}
	}
	require.Greater(t, w.fast.server.fast.direct.Load(), uint64(500))
}

// Keys, and values of columns, that 64 bits with a sign do not hold or just hold.
func TestFastChangeOfLargeNumbers(t *testing.T) {
	w := newTwin(t, "CREATE TABLE u (id BIGINT UNSIGNED PRIMARY KEY, tiny TINYINT, big BIGINT UNSIGNED)", "CREATE TABLE i (id BIGINT PRIMARY KEY, tiny TINYINT, big BIGINT)",
		"INSERT INTO u VALUES (18446744073709551615, 120, 18446744073709551000), (9223372036854775808, 120, 9223372036854775806), (9223372036854775807, 120, 7), (1, 120, 1)",
		"INSERT INTO i VALUES (-9223372036854775808, -120, -9223372036854775800), (-9223372036854775807, -120, 9223372036854775800), (9223372036854775807, 120, 7), (1, 120, 1)")
	keys := map[string][]any{"u": {uint64(1), uint64(math.MaxInt64), uint64(1 << 63), uint64(math.MaxUint64)},
		"i": {int64(1), int64(math.MaxInt64), int64(math.MinInt64), int64(math.MinInt64 + 1)}}
	for _, set := range []string{"SET sql_mode = DEFAULT", "SET sql_mode = ''"} {
		c := w.session("root", 0)
		c.query(set)
		for range 4 {
			for _, table := range []string{"i", "u"} {
				for _, key := range keys[table] {
					where := fmt.Sprintf(" WHERE id = %d", key)
					c.query("UPDATE " + table + " SET tiny = tiny + 3" + where)
					c.query("SHOW WARNINGS")
					c.execute("UPDATE "+table+" SET big = big - ? WHERE id = ?", int64(1), key)
					c.execute("UPDATE "+table+" SET big = big + ? WHERE id = ?", int64(math.MaxInt64), key)
					c.execute("UPDATE "+table+" SET big = ? WHERE id = ?", key, key)
					c.query("SELECT * FROM " + table + where + " FOR UPDATE")
					c.query("BEGIN")
					c.execute("DELETE FROM "+table+" WHERE id = ?", key)
					c.query("SELECT * FROM " + table + " ORDER BY id")
					c.query("ROLLBACK")
				}
			}
		}
	}
	require.NotZero(t, w.fast.server.fast.direct.Load())
}

// An UPDATE that fails takes back what it has written, and nothing else of the
// transaction.
func TestFastChangeThatFails(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, u INT, UNIQUE KEY (u), KEY (k))", "INSERT INTO t VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)")
	c, other := w.session("root", 0), w.session("root", 0)
	for range 4 {
		c.query("BEGIN")
		c.query("UPDATE t SET k = 10 WHERE id = 1")
		c.query("UPDATE t SET k = 20, u = 1 WHERE id = 2") // a duplicate
		c.query("SELECT ROW_COUNT(), FOUND_ROWS()")
		c.query("SELECT * FROM t FORCE INDEX (k) ORDER BY k")
		c.query("UPDATE t SET u = 4 WHERE id = 3")
		c.query("SAVEPOINT s")
		c.query("UPDATE t SET k = 5 WHERE id = 3")
		c.query("DELETE FROM t WHERE id = 2")
		c.query("ROLLBACK TO s")
		c.query("SELECT * FROM t ORDER BY id")
		c.query("COMMIT")
		other.query("SELECT * FROM t ORDER BY k")
		c.query("UPDATE t SET k = id, u = u - 0 WHERE id = 1")
		c.query("UPDATE t SET k = 3 WHERE id = 3")
		c.query("UPDATE t SET u = 3 WHERE id = 3")
		c.query("UPDATE t SET k = 1 WHERE id = 1")
	}
	require.NotZero(t, w.fast.server.fast.direct.Load())
}

// A transaction without snapshot isolation changes a row that is newer than its
// snapshot, in a column of no index: its reads through an index find it.
func TestFastChangeAheadOfTheSnapshot(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, n INT, KEY (k))", "INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)")
	c, other := w.session("root", 0), w.session("root", 0)
	c.query("SET SESSION snapshot_isolation = OFF")
	for i := range 5 {
		before := w.fast.server.fast.direct.Load()
		c.query("BEGIN")
		c.query("SELECT * FROM t WHERE id = 2")
		other.query(fmt.Sprintf("UPDATE t SET k = %d WHERE id = 1", 10+i))
		c.query(fmt.Sprintf("UPDATE t SET n = %d WHERE id = 1", 20+i))
		c.query("SELECT * FROM t FORCE INDEX (k) WHERE k >= 10")
		c.query("SELECT * FROM t FORCE INDEX (k) WHERE k < 10")
		c.query("COMMIT")
		if i > 2 {
			require.Equal(t, before+2, w.fast.server.fast.direct.Load())
		}
	}
}

// Under READ COMMITTED, what was not found does not stay locked.
func TestFastChangeOfNothingLocksNothing(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT)")
	c, other := w.session("root", 0), w.session("root", 0)
	c.query("SET SESSION transaction_isolation = 'READ-COMMITTED'")
	other.query("SET SESSION innodb_lock_wait_timeout = 1")
	for i := range 5 {
		c.query("BEGIN")
		c.query(fmt.Sprintf("UPDATE t SET k = 1 WHERE id = %d", i))
		c.query(fmt.Sprintf("DELETE FROM t WHERE id = %d", i))
		require.Equal(t, byte(0), other.query(fmt.Sprintf("INSERT INTO t VALUES (%d, 1)", i))[0][0])
		c.query("COMMIT")
	}
	require.NotZero(t, w.fast.server.fast.direct.Load())
}

// A table that others have locked to be read is not changed, and its rows are not
// locked to be changed, while that lasts.
func TestFastChangeUnderLockTables(t *testing.T) {
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT)", "INSERT INTO t VALUES (1, 1)")
	c, other := w.session("root", 0), w.session("root", 0)
	c.query("SET SESSION lock_wait_timeout = 1")
	for i := range 5 {
		if i == 4 {
			other.query("LOCK TABLES t READ")
		}
		for _, q := range []string{"UPDATE t SET k = 1 WHERE id = 1", "DELETE FROM t WHERE id = 2", "SELECT k FROM t WHERE id = 1 FOR UPDATE", "INSERT INTO t VALUES (3, 3)"} {
			answer := c.query(q)
			require.Equal(t, i == 4, answer[0][0] == 0xFF && binary.LittleEndian.Uint16(answer[0][1:]) == 1205, q)
		}
		c.query("DELETE FROM t WHERE id = 3")
	}
	other.query("UNLOCK TABLES")
	require.NotZero(t, w.fast.server.fast.direct.Load())
}

// Rows of values that columns hold as they are: numbers that the server chooses and
// those that it is given, defaults, duplicates, what does not fit.
func TestFastRows(t *testing.T) {
	w := newTwin(t, "CREATE TABLE a (id SMALLINT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL DEFAULT 7, c VARCHAR(5) NOT NULL DEFAULT 'd', n INT, UNIQUE KEY (c), KEY (k, n))",
		"CREATE TABLE m (k INT PRIMARY KEY, id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, x TEXT, KEY (id))", "CREATE TABLE two (a INT, b VARCHAR(5), c TINYINT UNSIGNED NOT NULL, PRIMARY KEY (b, a))")
	for _, set := range []string{"SET autocommit = 1", "SET sql_mode = ''", "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'", "SET autocommit = 0"} {
		c := w.session("root", 0)
		c.query(set)
		state := func() {
			c.query("SELECT ROW_COUNT(), LAST_INSERT_ID(), FOUND_ROWS()")
			c.query("SHOW WARNINGS")
		}
		for i := range 6 {
			c.query(fmt.Sprintf("INSERT INTO a (k) VALUES (%d)", i))
			state()
			c.execute("INSERT INTO a (c, n) VALUES (?, ?)", fmt.Sprint("x", i), int64(i))
			state()
			c.execute("INSERT INTO a (id, k, c) VALUES (?, ?, ?)", []any{int64(100 + 10*i), nil, int64(0), int64(-i), int64(40), int64(32767)}[i], int64(i), fmt.Sprint("y", i))
			state()
			c.execute("INSERT INTO a (id, c) VALUES (?, ?), (?, ?), (?, ?)", int64(300+10*i), fmt.Sprint("a", i), nil, fmt.Sprint("b", i), int64(0), fmt.Sprint("c", i%3))
			state()
			c.query(fmt.Sprintf("INSERT INTO a (k, c) VALUES (1, 'e%d'), (2, 'e%d'), (3, 'f%d')", i, i%4, i))
			state()
			c.query(fmt.Sprintf("INSERT INTO m (k, x) VALUES (%d, NULL), (%d, 'text')", i, 10+i))
			state()
			c.execute("INSERT INTO m VALUES (?, ?, ?)", int64(20+i), []any{nil, int64(0), uint64(1 << 62), int64(5), int64(-1), uint64(1 << 63)}[i], "t")
			state()
			c.execute("INSERT INTO two VALUES (?, ?, ?)", int64(i), "k", []any{int64(0), int64(255), int64(256), nil, int64(-1), "5"}[i])
			state()
			c.execute("INSERT INTO two VALUES (?, ?, ?)", nil, fmt.Sprint(i), int64(1))
			c.execute("INSERT INTO two VALUES (?, ?, ?)", int64(i), []any{"A", "a", "a ", "sixsix", nil, "\xff"}[i], int64(1))
			state()
			c.query("DELETE FROM two WHERE a > 0")
			c.query(fmt.Sprintf("UPDATE m SET x = 'y' WHERE k = %d", i))
			c.query(fmt.Sprintf("SELECT x FROM m WHERE k = %d FOR UPDATE", i))
			state()
			for _, table := range []string{"a", "m", "two"} {
				c.query("SELECT * FROM " + table + " ORDER BY 1, 2")
			}
			c.query([]string{"COMMIT", "ROLLBACK"}[i%2])
		}
		c.query("DELETE FROM a WHERE id < 32767")
		c.query("DELETE FROM m")
		c.query("COMMIT")
	}
	require.Greater(t, w.fast.server.fast.direct.Load(), uint64(80))
}
