package sqlfront

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// countEvery sets how old a number of rows may be.
func (s *tableStatistics) countEvery(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.every = d
}

// settled waits until nothing is left to be counted.
func (s *tableStatistics) settled(t testing.TB) {
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.mu.tables {
			if e.ordered {
				return false
			}
		}
		return true
	}, time.Minute, time.Millisecond)
}

func explained(t *testing.T, db *sql.DB, q string) string {
	return strings.Join(query(t, db, "EXPLAIN "+q), "\n")
}

// grownElsewhere is a join that another gateway planned when one table had five rows;
// now it has 8,000, and the other 300.
func grownElsewhere(t *testing.T) (g *second, other *sql.DB, join string) {
	_, g, db, other := twoGateways(t,
		"CREATE TABLE grown (id INT PRIMARY KEY, k INT, KEY (k))", "CREATE TABLE few (id INT PRIMARY KEY, k INT, KEY (k))",
		series("grown", 5, "id,k", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }),
		series("few", 300, "id,k", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }))
	g.server.catalog.stats.countEvery(time.Hour)
	join = "SELECT * FROM grown JOIN few ON grown.k = few.k"
	require.Regexp(t, "(?s)LookupJoin.*name: grown.*IndexedTableAccess\\(few\\)", explained(t, other, join))
	run(t, db, series("grown", 8000, "id,k", func(i int) string { return fmt.Sprintf("(%d,%d)", i+10, i) }))
	require.Regexp(t, "(?s)LookupJoin.*name: grown.*IndexedTableAccess\\(few\\)", explained(t, other, join))
	return g, other, join
}

// 8,000 lookups become 300.
const fewFirst = "(?s)LookupJoin.*name: few.*IndexedTableAccess\\(grown\\)"

func TestAnalyzeRepairsAJoinOrder(t *testing.T) {
	_, other, join := grownElsewhere(t)
	require.Equal(t, []string{"grown,analyze,status,OK"}, query(t, other, "ANALYZE TABLE grown"))
	require.Regexp(t, fewFirst, explained(t, other, join))
}

func TestAJoinOrderRepairsItself(t *testing.T) {
	g, other, join := grownElsewhere(t)
	g.server.catalog.stats.countEvery(0)
	explained(t, other, join) // asks, finds the number old, and does not wait
	g.server.catalog.stats.settled(t)
	require.Regexp(t, fewFirst, explained(t, other, join))
}

// A table that is larger than the first look is counted in the background, from the
// shards that it takes.
func TestLargeTablesAreCountedFromSomeShards(t *testing.T) {
	s, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE placed (a INT, b INT, PRIMARY KEY (a, b)) PARTITION BY KEY (a)")
	stats := &s.server.catalog.stats
	stats.countEvery(time.Hour)
	for part := range 6 {
		run(t, db, series("t", 5000, "id,v", func(i int) string { return fmt.Sprintf("(%d,1)", part*5000+i) }))
	}
	run(t, db, series("placed", 1500, "a,b", func(i int) string { return fmt.Sprintf("(1,%d)", i) }))
	rows := func(table string) float64 {
		schema := s.server.catalog.snapshot.Load().Schema("app")
		info, err := s.server.catalog.info(schema, schema.Table(table))
		require.NoError(t, err)
		for range 2 { // the second answer is what the background has counted
			explained(t, db, "SELECT * FROM "+table+" x JOIN "+table+" y ON x.v = y.v")
			stats.settled(t)
		}
		n, known := stats.known(info, time.Now())
		require.True(t, known)
		return float64(n)
	}
	require.InEpsilon(t, 30000, rows("t"), 0.05)
	run(t, db, "ALTER TABLE placed ADD COLUMN v INT")
	require.EqualValues(t, 1500, rows("placed"), "one shard has all of them")
}

// The planner takes from the statistics of a unique index that a lookup finds one row.
// They must not outlive the index.
func TestHistogramsAreOfOneDefinition(t *testing.T) {
	_, db := app(t, "CREATE TABLE t (id INT PRIMARY KEY, u INT NOT NULL, UNIQUE KEY u (u))")
	run(t, db, series("t", 300, "id,u", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }), "ANALYZE TABLE t")
	q := "SELECT * FROM t WHERE u = 7 ORDER BY id"
	require.Equal(t, []string{"7,7"}, query(t, db, q))
	run(t, db, "ALTER TABLE t DROP INDEX u", "ALTER TABLE t ADD INDEX u (u)", "INSERT INTO t VALUES (1000, 7)")
	require.Equal(t, []string{"7,7", "1000,7"}, query(t, db, q))
	require.Equal(t, []string{"2"}, query(t, db, "SELECT COUNT(*) FROM t WHERE u = 7"))
	run(t, db, "ANALYZE TABLE t")
	require.Equal(t, []string{"7,7", "1000,7"}, query(t, db, q))
	run(t, db, "ALTER TABLE t ADD COLUMN w INT DEFAULT 1", "ALTER TABLE t ADD INDEX w (w)", "UPDATE t SET w = id", "ANALYZE TABLE t",
		"ALTER TABLE t DROP INDEX w", "ALTER TABLE t DROP INDEX u", "ALTER TABLE t ADD INDEX u (w)", "ALTER TABLE t ADD INDEX w (u)")
	require.Equal(t, []string{"7,7,7", "1000,7,1000"}, query(t, db, q))
	require.Equal(t, []string{"8,8,8"}, query(t, db, "SELECT * FROM t WHERE w = 8"))
	require.Contains(t, explained(t, db, "SELECT * FROM t WHERE w = 8"), "index: [t.w]")
	run(t, db, "DROP TABLE t", "CREATE TABLE t (id INT PRIMARY KEY, u INT NOT NULL, KEY u (u))", "INSERT INTO t VALUES (1,7),(2,7),(3,7)")
	require.Len(t, query(t, db, q), 3)
}

// ANALYZE TABLE of every kind of table and index, beside a writer: it neither waits nor
// fails, and answers stay the same.
func TestAnalyzeOfAllTables(t *testing.T) {
	tables := []string{
		"CREATE TABLE Nothing (id INT PRIMARY KEY, v INT, KEY (v))",
		"CREATE TABLE NoKey (a INT, b VARCHAR(20), KEY (b))",
		"CREATE TABLE kinds (id VARBINARY(8) PRIMARY KEY, d DECIMAL(8,3), t DATETIME, e ENUM('x','y'), s SET('p','q'), y YEAR, h TIME, f DOUBLE, b BLOB, x TEXT, KEY (d, t), KEY (e), KEY (s), KEY (y), KEY (h), KEY (f), KEY (b(4)), KEY (x(3)))",
		"CREATE TABLE computed (id INT PRIMARY KEY, a INT, b INT AS (a * 2), KEY (b))",
	}
	_, db := app(t, tables...)
	for i := range 30 {
		run(t, db, fmt.Sprintf("INSERT INTO NoKey VALUES (%d, %s)", i, []string{"NULL", "'a'", "'A'", "'b'"}[i%4]),
			fmt.Sprintf("INSERT INTO kinds VALUES ('k%d', %d.5, '2024-01-0%d', 'x', 'p,q', 20%02d, '0%d:00:00', %d.25, REPEAT('%d', 9), REPEAT('ä', %d))", i, i%7, i%9+1, i, i%10, i, i%3, i%5),
			fmt.Sprintf("INSERT INTO computed (id, a) VALUES (%d, %d)", i, i%6))
	}
	run(t, db, "INSERT INTO kinds (id) VALUES ('null')")
	questions := []string{
		"SELECT * FROM Nothing WHERE v = 1", "SELECT a FROM NoKey WHERE b = 'a' ORDER BY a", "SELECT a FROM NoKey WHERE b IS NULL ORDER BY a",
		"SELECT id FROM kinds WHERE d = 1.5 AND t > '2024-01-02' ORDER BY id", "SELECT id FROM kinds WHERE e = 'x' AND s = 'p,q' ORDER BY id",
		"SELECT id FROM kinds WHERE y BETWEEN 2003 AND 2007 OR h = '03:00:00' ORDER BY id", "SELECT id FROM kinds WHERE f < 4 ORDER BY id",
		"SELECT id FROM kinds WHERE b = '000000000' ORDER BY id", "SELECT id FROM kinds WHERE x LIKE 'ää%' ORDER BY id", "SELECT id FROM kinds WHERE d = 'x' ORDER BY id",
		"SELECT id FROM computed WHERE b = 4 ORDER BY id", "SELECT c.id, k.id FROM computed c JOIN kinds k ON c.a = k.d ORDER BY 1, 2",
	}
	var before [][]string
	for _, q := range questions {
		before = append(before, query(t, db, q))
	}
	c := connection(t, db)
	run(t, c, "BEGIN", "UPDATE NoKey SET a = a + 1", "UPDATE computed SET a = a + 1", "DELETE FROM kinds")
	for _, table := range []string{"Nothing", "NoKey", "kinds", "computed"} {
		require.Equal(t, []string{table + ",analyze,status,OK"}, query(t, db, "ANALYZE TABLE "+table))
	}
	run(t, c, "ROLLBACK")
	for i, q := range questions {
		require.Equal(t, before[i], query(t, db, q), q)
	}
}

// between is a condition on a column of any kind.
func (g generatedJoins) between() string {
	column := g.column()
	switch g.IntN(6) {
	case 0:
		return column + " IS NULL"
	case 1:
		return fmt.Sprintf("%s IN (%s, %s, %s)", column, g.value(column), g.value(column), g.value(column))
	case 2:
		return fmt.Sprintf("%s BETWEEN %s AND %s", column, g.value(column), g.value(column))
	}
	return fmt.Sprintf("%s %s %s", column, []string{"=", "<", ">", "<=", ">=", "<>", "<=>"}[g.IntN(7)], g.value(column))
}

// Whatever plan histograms lead to, the rows are the same.
func TestAnalyzeChangesNoAnswer(t *testing.T) {
	_, c := joinStack(t)
	for _, seed := range seeds(4) {
		g := generatedJoins{rand.New(rand.NewPCG(seed, 80)), true}
		run(t, c, g.tables()...)
		queries := make([]string, 80)
		answers := make([][]string, len(queries))
		for i := range queries {
			queries[i], _, _ = strings.Cut(g.query(), " LIMIT")
			if i%2 == 0 {
				queries[i] = "SELECT * FROM a WHERE " + g.between() + []string{" AND ", " OR "}[g.IntN(2)] + g.between()
			}
			answers[i] = query(t, c, queries[i])
		}
		run(t, c, "ANALYZE TABLE a", "ANALYZE TABLE b", "ANALYZE TABLE c")
		for i, q := range queries {
			require.ElementsMatch(t, answers[i], query(t, c, q), "seed %d: %s\n%v %v", seed, q, query(t, c, "EXPLAIN "+q), query(t, c, "SHOW CREATE TABLE a"))
		}
	}
}
