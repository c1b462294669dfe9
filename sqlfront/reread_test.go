package sqlfront

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// reads is how often the owners were asked for rows.
func (s *stack) reads() (n uint64) {
	for _, shard := range s.node.Status() {
		n += shard.Reads
	}
	return n
}

// A correlated subquery opens its scan once per outer row; the shards are asked
// for it twice, however many rows there are.
func TestRepeatedScansAreReadTwice(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (a INT PRIMARY KEY, b INT)")
	var values []string
	for i := range 40 {
		values = append(values, fmt.Sprintf("(%d,%d)", i, i%5))
	}
	run(t, db, "INSERT INTO t VALUES "+strings.Join(values, ","))
	before := s.reads()
	rows := query(t, db, "SELECT a, (SELECT COUNT(*) FROM t AS x WHERE x.b < t.b) FROM t ORDER BY a")
	require.Len(t, rows, 40)
	require.Equal(t, "7,16", rows[7])
	// Three scans of three shards, and a page or two more of each.
	require.Less(t, s.reads()-before, uint64(40))
}

// The engine filters and groups in goroutines of their own: subqueries of both read at
// the same time.
func TestRepeatedScansBesideEachOther(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (a INT PRIMARY KEY, b INT)")
	var values, want []string
	for i := range 400 {
		values = append(values, fmt.Sprintf("(%d,%d)", i, i))
		if i > 1 {
			want = append(want, fmt.Sprintf("%d,%d", i, i-1))
		}
	}
	run(t, db, "INSERT INTO t VALUES "+strings.Join(values, ","))
	for range 5 {
		require.Equal(t, want, query(t, db, `SELECT a, (SELECT MAX(b) FROM t AS x WHERE x.a < t.a) AS m FROM t
			WHERE (SELECT MAX(b) FROM t AS y WHERE y.a < t.a) > 0 GROUP BY a, m ORDER BY a`))
	}
}

// What a statement writes, its later reads see: nothing remembered may survive.
func TestRepeatedScansSeeOwnWrites(t *testing.T) {
	_, db := app(t,
		"CREATE TABLE t (a INT PRIMARY KEY, b INT)", "CREATE TABLE log (n INT)", "INSERT INTO t VALUES (1,0),(2,0),(3,0),(4,0)",
		"CREATE TRIGGER count_log BEFORE UPDATE ON t FOR EACH ROW INSERT INTO log SELECT COUNT(*) FROM log",
		"UPDATE t SET b = 1")
	require.Equal(t, []string{"0", "1", "2", "3"}, query(t, db, "SELECT n FROM log ORDER BY n"))
	c := connection(t, db)
	run(t, c, "BEGIN")
	for i := range 4 {
		// A self-join repeats its inner scan in every statement.
		require.Equal(t, []string{fmt.Sprint((4 + i) * (4 + i))}, query(t, c, "SELECT COUNT(*) FROM t x JOIN t y ON x.b <= y.b + 100 JOIN (SELECT 1) z"))
		run(t, c, fmt.Sprintf("INSERT INTO t VALUES (%d, 0)", 10+i))
	}
	run(t, c, "ROLLBACK")
	require.Equal(t, []string{"16"}, query(t, c, "SELECT COUNT(*) FROM t x, t y"))
}
