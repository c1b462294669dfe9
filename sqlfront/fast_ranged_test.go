package sqlfront

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/sqlfront/codec"
)

// rangedShapes are statements that need no plan for short ranges, and what is like them
// and needs one.
var rangedShapes = []struct {
	text   string
	direct bool
}{
	{"SELECT c FROM t WHERE id BETWEEN ? AND ?", true},
	{"SELECT * FROM t WHERE id BETWEEN ? AND ?", true},
	{"SELECT u AS c, c AS u, u FROM t WHERE id BETWEEN ? AND ?", true},
	{"SELECT id FROM t WHERE id BETWEEN ? AND ? ORDER BY id DESC", true},
	{"SELECT id, d FROM t WHERE id BETWEEN ? AND ? ORDER BY d, u DESC", true},
	{"SELECT id, c FROM t WHERE id BETWEEN ? AND ? ORDER BY c", true},
	{"SELECT id, c FROM t WHERE id BETWEEN ? AND ? ORDER BY c DESC", true},
	{"SELECT id, b FROM t WHERE id BETWEEN ? AND ? ORDER BY b", true},
	{"SELECT id, l FROM t WHERE id BETWEEN ? AND ? ORDER BY l DESC, k", true},
	{"SELECT id, k FROM t WHERE id BETWEEN ? AND ? ORDER BY k", true},
	{"SELECT id, u FROM t WHERE id BETWEEN ? AND ? ORDER BY u DESC", true},
	{"SELECT id, u FROM t WHERE id BETWEEN ? AND ? ORDER BY u, k DESC, c", true},
	{"SELECT DISTINCT c FROM t WHERE id BETWEEN ? AND ? ORDER BY c", true},
	{"SELECT DISTINCT c FROM t WHERE id BETWEEN ? AND ? ORDER BY c DESC", true},
	{"SELECT DISTINCT c FROM t WHERE id BETWEEN ? AND ?", true},
	{"SELECT DISTINCT c FROM t WHERE id BETWEEN ? AND ? ORDER BY u", true},
	{"SELECT DISTINCT l FROM t WHERE id BETWEEN ? AND ? ORDER BY l", true},
	{"SELECT COUNT(*) FROM t WHERE id BETWEEN ? AND ?", true},
	{"SELECT SUM(k), SUM(u), COUNT(c), COUNT(*) FROM t WHERE id BETWEEN ? AND ?", true},
	{"SELECT MIN(k), MAX(k), MIN(u) AS x, MAX(u), MIN(id), MAX(s) FROM t WHERE id BETWEEN ? AND ?", true},
	{"SELECT AVG(u), AVG(k), AVG(s) FROM t WHERE id BETWEEN ? AND ?", true},
	{"SELECT DISTINCT b FROM t WHERE id BETWEEN ? AND ? ORDER BY b", false},
	{"SELECT DISTINCT k FROM t WHERE id BETWEEN ? AND ?", false},
	{"SELECT DISTINCT c, k FROM t WHERE id BETWEEN ? AND ? ORDER BY c", false},
	{"SELECT MAX(c), MIN(d) FROM t WHERE id BETWEEN ? AND ?", false},
	{"SELECT SUM(d), AVG(f) FROM t WHERE id BETWEEN ? AND ?", false},
	{"SELECT SUM(DISTINCT k) FROM t WHERE id BETWEEN ? AND ?", false},
	{"SELECT c, COUNT(*) FROM t WHERE id BETWEEN ? AND ? GROUP BY c", false},
	{"SELECT c FROM t WHERE id BETWEEN ? AND ? ORDER BY k LIMIT 2", false},
	{"SELECT c FROM t WHERE id BETWEEN ? AND ? LIMIT 2, 3", false},
	{"SELECT c FROM t WHERE id BETWEEN ? AND ? FOR SHARE", false},
	{"SELECT k + 1 FROM t WHERE id BETWEEN ? AND ?", false},
}

const rangedTable = `CREATE TABLE t (id %s PRIMARY KEY, k INT, u BIGINT UNSIGNED, s SMALLINT NOT NULL DEFAULT 7, c VARCHAR(40), b CHAR(12) COLLATE utf8mb4_bin,
	l VARCHAR(12) CHARACTER SET latin1, d DECIMAL(8,2), f DOUBLE, e ENUM('x','y'), dt DATETIME(3), v VARBINARY(8), KEY (k))`

// rangedRow is a row of values that are equal, nearly equal, NULL, and at their ends.
func rangedRow(r *rand.Rand, id int) string {
	of := func(list ...string) string { return list[r.IntN(len(list))] }
	return fmt.Sprintf("(%d, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", id,
		of("NULL", "0", "1", "-1", "2147483647", "-2147483648", "5"), of("NULL", "0", "1", "18446744073709551615", "9223372036854775808", "9007199254740993"),
		of("0", "-32768", "32767", "3"),
		of("NULL", "''", "'a'", "'A'", "'a '", "'ab'", "'abcdefgh'", "'abcdefghi'", "'ABCDEFGHJ'", "'abcdefghä'", "'ä'", "'Äb'", "'<nil>'", "'z'", "'😀'", "'_'", "'\\0'"),
		of("NULL", "''", "'a'", "'A'", "'abcdefghij'", "'abcdefghik'", "'ß'"), of("NULL", "''", "'a'", "'B'", "'é'", "'abcdefghij'", "'ABCDEFGHIj'"),
		of("NULL", "0", "-1.5", "123456.78"), of("NULL", "0", "1e300", "-0.1"), of("NULL", "'x'", "'y'"), of("NULL", "'2020-01-01 00:00:00.125'"), of("NULL", "'\\xff'", "'a'"))
}

func rangedRows(r *rand.Rand, from, n int) string {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = rangedRow(r, from+i)
	}
	return "INSERT INTO t VALUES " + strings.Join(rows, ", ")
}

// Every shape, over ranges of no row, one, and many, as text and prepared, while the
// session's state and the table change. One server has no fast path; every byte is
// compared. ROWLOCK_FASTPATH makes it longer (make fastpath).
func TestFastRanged(t *testing.T) {
	rounds := uint64(1)
	if os.Getenv("ROWLOCK_FASTPATH") != "" {
		rounds = 12
	}
	for seed := range rounds {
		for i, key := range []string{"INT", "BIGINT UNSIGNED", "TINYINT"} {
			t.Run(fmt.Sprint(key, seed), func(t *testing.T) { testRanged(t, key, rand.New(rand.NewPCG(seed, uint64(90+i)))) })
		}
	}
}

func testRanged(t *testing.T, key string, r *rand.Rand) {
	w := newTwin(t, fmt.Sprintf(rangedTable, key), rangedRows(r, 1, 110))
	ranges := &w.fast.server.fast.ranges
	c := w.session("root", clientDeprecateEOF)
	bounds := [][2]int{{1, 110}, {3, 40}, {20, 21}, {7, 7}, {115, 120}, {30, 20}, {0, 3}}
	if key == "INT" {
		bounds = append(bounds, [2]int{-5, 2}, [2]int{-2147483648, 2147483647}, [2]int{90, 1113}, [2]int{90, 1114})
	}
	all := func(shapes, ranges int) {
		for range shapes {
			shape := rangedShapes[r.IntN(len(rangedShapes))].text
			var answer [][]byte
			for range ranges {
				b := bounds[r.IntN(len(bounds))]
				if r.IntN(2) == 0 {
					answer = c.execute(shape, int64(b[0]), int64(b[1]))
				} else {
					answer = c.query(strings.Replace(strings.Replace(shape, "?", strconv.Itoa(b[0]), 1), "?", strconv.Itoa(b[1]), 1))
				}
			}
			// Where a value has a character that the client's character set lacks, the number
			// of rows that the engine has found by then depends on its goroutines.
			if failed := answer[len(answer)-1][0] == 0xFF; r.IntN(4) == 0 && !failed {
				c.query("SELECT ROW_COUNT(), FOUND_ROWS(), @@autocommit")
				c.query("SHOW WARNINGS")
			}
		}
	}
	for _, shape := range rangedShapes {
		for range 2 {
			c.execute(shape.text, int64(2), int64(60))
		}
		c.query("UPDATE t SET s = s + 1 WHERE id = 5") // so that ROW_COUNT() is something else
		before := ranges.Load()
		c.execute(shape.text, int64(2), int64(60))
		c.query("SELECT ROW_COUNT(), FOUND_ROWS()")
		require.Equal(t, shape.direct, ranges.Load() > before, shape.text)
		c.query(strings.Replace(strings.Replace(shape.text, "?", "2", 1), "?", "60", 1))
	}
	all(40, 4)
	c.query("BEGIN")
	c.query("UPDATE t SET c = 'mine', k = 6, u = NULL WHERE id IN (3, 30, 39)")
	c.query("DELETE FROM t WHERE id IN (21, 1)")
	c.query("REPLACE INTO t (id, k, c) VALUES (25, 1, 'new'), (118, NULL, 'other')")
	all(25, 3)
	c.query("ROLLBACK")
	all(10, 3)
	for _, set := range [][2]string{{"SET NAMES latin1", "SET NAMES utf8mb4"}, {"SET character_set_results = NULL", "SET NAMES utf8mb4"},
		{"SET character_set_results = binary", "SET NAMES utf8mb4"}, {"SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET NAMES utf8mb4"},
		{"SET sql_mode = 'ANSI_QUOTES'", "SET sql_mode = DEFAULT"}, {"START TRANSACTION READ ONLY", "COMMIT"}, {"SET autocommit = 0", "SET autocommit = 1"},
		{"SET SESSION transaction_isolation = 'SERIALIZABLE'", "SET SESSION transaction_isolation = 'REPEATABLE-READ'"}, {"SET sql_select_limit = 2", "SET sql_select_limit = DEFAULT"},
		{"SET SESSION transaction_isolation = 'READ-COMMITTED'", "SET SESSION transaction_isolation = 'REPEATABLE-READ'"},
		{"SET SESSION rowlock_read_staleness = 1", "SET SESSION rowlock_read_staleness = 0"}, {"SET max_execution_time = 100000", "SET max_execution_time = 0"},
		{"ALTER TABLE t ADD COLUMN late INT NOT NULL DEFAULT 9", "ALTER TABLE t DROP COLUMN s"}} {
		c.query(set[0])
		all(8, 4)
		c.query("BEGIN")
		all(3, 2)
		c.query("UPDATE t SET c = 'own', u = 4 WHERE id IN (3, 20, 21)")
		all(4, 2)
		c.query("ROLLBACK AND NO CHAIN")
		c.query(set[1])
	}
	all(20, 3)
	c.query("SHOW SESSION STATUS LIKE 'Com_select'")
	c.query("SHOW SESSION STATUS LIKE 'Questions'")
}

// A range of more rows than are sent at once, and rows that are sorted.
func TestFastRangedIsSentInPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 90))
	w := newTwin(t, fmt.Sprintf(rangedTable, "INT"), rangedRows(r, 1, 600))
	c := w.session("root", 0)
	for range 3 {
		for _, last := range []int64{127, 128, 129, 255, 256, 257, 600, 1024} {
			c.execute("SELECT id, c, k FROM t WHERE id BETWEEN ? AND ?", int64(1), last)
			c.execute("SELECT id, c FROM t WHERE id BETWEEN ? AND ? ORDER BY c, k", int64(1), last)
			c.execute("SELECT DISTINCT c FROM t WHERE id BETWEEN ? AND ? ORDER BY c", int64(1), last)
			c.execute("SELECT SUM(u), SUM(k), COUNT(*) FROM t WHERE id BETWEEN ? AND ?", int64(1), last)
			c.query("SELECT FOUND_ROWS()")
		}
	}
	require.GreaterOrEqual(t, w.fast.server.fast.ranges.Load(), uint64(80))
}

// Text that is sorted or sent later is a part of the row that was read, until that is a lot: then it
// is copied, and columns that nobody wants are let go of.
func TestFastRangedKeepsNoPages(t *testing.T) {
	rows, err := codec.NewRowCodec(1, []codec.Column{{ID: 1, Type: types.Text}, {ID: 2, Type: types.LongText}})
	require.NoError(t, err)
	only, err := rows.NewRawProjection([]int{0})
	require.NoError(t, err)
	r := &rangedRun{fastRanged: &fastRanged{rows: only, columns: []rangedColumn{{form: codec.RawText}}}, most: 40}
	var stored [][]byte
	for i := range 40 {
		row, err := rows.Append(t.Context(), nil, sql.Row{fmt.Sprintf("text %d", i), strings.Repeat("long", 4<<10)})
		require.NoError(t, err)
		require.NoError(t, r.add(row))
		stored = append(stored, row)
	}
	for _, row := range stored {
		clear(row)
	}
	for i := range int32(40) {
		require.Equal(t, fmt.Sprintf("text %d", i), string(r.row(i)[0].Text))
	}
	w := newTwin(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT, c VARCHAR(20))", fillTwin(300), "ALTER TABLE t ADD COLUMN doc TEXT", "UPDATE t SET doc = REPEAT('x', 3000 + id)")
	c := w.session("root", 0)
	for _, text := range []string{"SELECT c FROM t WHERE id BETWEEN ? AND ?", "SELECT * FROM t WHERE id BETWEEN ? AND ?", "SELECT c, id FROM t WHERE id BETWEEN ? AND ? ORDER BY c",
		"SELECT doc FROM t WHERE id BETWEEN ? AND ? ORDER BY doc DESC", "SELECT DISTINCT c FROM t WHERE id BETWEEN ? AND ? ORDER BY c", "SELECT COUNT(doc) FROM t WHERE id BETWEEN ? AND ?"} {
		for range 3 {
			c.execute(text, int64(2), int64(290))
		}
	}
	require.Equal(t, uint64(12), w.fast.server.fast.ranges.Load())
}

// Numbers of prefixes are in the order in which the engine has the texts.
func TestRanksOfPrefixes(t *testing.T) {
	texts := []string{"", "a", "A", "aa", "ab", "aB", "abcdefgh", "abcdefghi", "abcdefg", "~", " ", "a ", "\x00", "a\x00", "0", "zzzzzzzzz", "ä", "abcdefgä", "abcdefghä"}
	for i := range 128 {
		texts = append(texts, string(rune(i)), "x"+string(rune(i)))
	}
	for _, id := range []sql.CollationID{sql.Collation_utf8mb4_0900_ai_ci, sql.Collation_utf8mb4_0900_bin, sql.Collation_utf8mb4_general_ci, sql.Collation_utf8mb4_unicode_ci,
		sql.Collation_utf8mb4_bin, sql.Collation_latin1_swedish_ci, sql.Collation_latin1_german2_ci} {
		w := weightsOf(id)
		ranks := w.ranks()
		for _, a := range texts {
			x, plain := ranks.prefix([]byte(a))
			require.Equal(t, !slices.ContainsFunc([]byte(a)[:min(8, len(a))], func(c byte) bool { return c >= utf8.RuneSelf }), plain, "%q", a)
			require.Equal(t, utf8.RuneCountInString(a) == len(a), isASCII([]byte(a)))
			for _, b := range texts {
				y, also := ranks.prefix([]byte(b))
				order, ok := w.compare(a, b)
				if plain && also && x != y {
					require.True(t, ok)
					require.Equal(t, order < 0, x < y, "%s: %q %q", id.Name(), a, b)
				}
			}
		}
	}
}
