package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// askedRows counts how often a statement asks the shards for rows: each is a message
// to every node that has some of them, and a wait.
type askedRows struct {
	txn.Router
	stats   *tableStatistics
	rounds  atomic.Int64
	keys    atomic.Int64
	mu      sync.Mutex
	locked  []string // what was asked to be locked
	largest int      // bytes of rows that were answered at once
}

func (a *askedRows) Lock(ctx context.Context, s shard.ID, q *shard.LockRequest) (*shard.LockResponse, error) {
	a.mu.Lock()
	what := fmt.Sprintf("shard %d: %x", s, q.Keys)
	if q.Span != nil {
		what += fmt.Sprintf(" %x-%x, %d rows", q.Span.Lo, q.Span.Hi, q.Limit)
	}
	a.locked = append(a.locked, what)
	a.mu.Unlock()
	return a.Router.Lock(ctx, s, q)
}

func (a *askedRows) Read(ctx context.Context, s shard.ID, q *shard.ReadRequest) (*shard.ReadResponse, error) {
	if s != shard.System { // the follower of the schema asks there, whenever it likes
		a.rounds.Add(1)
		a.keys.Add(int64(len(q.Keys)))
	}
	return a.Router.Read(ctx, s, q)
}

func (a *askedRows) ReadMany(ctx context.Context, reads []shard.ShardRead) {
	a.rounds.Add(1)
	for _, q := range reads {
		a.keys.Add(int64(len(q.Request.Keys)))
	}
	a.Router.ReadMany(ctx, reads)
	bytes := 0
	for _, q := range reads {
		if q.Response == nil {
			continue
		}
		for _, r := range q.Response.Rows {
			bytes += len(r.Value)
		}
	}
	a.mu.Lock()
	a.largest = max(a.largest, bytes)
	a.mu.Unlock()
}

// joinStack is a database whose questions are counted.
func joinStack(t *testing.T, statements ...string) (*askedRows, *sql.Conn) {
	asked := &askedRows{}
	s := newStackOver(t, Config{}, func(r txn.Router) txn.Router {
		asked.Router = r
		return asked
	})
	asked.stats = &s.server.catalog.stats
	asked.stats.countEvery(time.Hour)
	run(t, s.db("", ""), "CREATE DATABASE app")
	c := connection(t, s.db("app", ""))
	run(t, c, statements...)
	return asked, c
}

// rounds is how often a query asks for rows.
func (a *askedRows) of(t *testing.T, c *sql.Conn, q string) int {
	t.Helper()
	for range 2 { // what the planner wants to know is known then
		query(t, c, q)
		a.stats.settled(t)
	}
	before := a.rounds.Load()
	query(t, c, q)
	return int(a.rounds.Load() - before)
}

// series inserts rows (i, i) for i below n.
func series(table string, n int, columns string, row func(i int) string) string {
	var rows []string
	for i := range n {
		rows = append(rows, row(i))
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES %s", table, columns, strings.Join(rows, ","))
}

// A join by key asks for the rows of many outer rows at once, and for few at first.
func TestJoinsAskForManyRowsAtOnce(t *testing.T) {
	asked, c := joinStack(t,
		"CREATE TABLE outside (id INT PRIMARY KEY, a INT, b INT)",
		"CREATE TABLE byid (id INT PRIMARY KEY, v INT)",
		"CREATE TABLE byindex (id INT PRIMARY KEY, k INT, u INT, v INT, KEY (k), UNIQUE KEY (u))",
		series("outside", 200, "id,a,b", func(i int) string { return fmt.Sprintf("(%d,%d,%d)", i, i*7, i%50) }),
		series("byid", 1500, "id,v", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }),
		series("byindex", 1500, "id,k,u,v", func(i int) string { return fmt.Sprintf("(%d,%d,%d,%d)", i, i/3, i, i) }))
	for _, tc := range []struct {
		name, query string
		alone, most int // rounds without batches at least, and with them at most
	}{
		{"primary key", "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, i.v FROM outside o JOIN byid i ON i.id = o.a", 200, 12},
		{"outer join", "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, i.v FROM outside o LEFT JOIN byid i ON i.id = o.a + 1", 200, 12},
		{"unique index", "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, i.v FROM outside o JOIN byindex i ON i.u = o.a", 400, 18},
		{"index", "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, i.v FROM outside o JOIN byindex i ON i.k = o.a", 250, 18},
		{"a limit", "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, i.v FROM outside o JOIN byid i ON i.id = o.a LIMIT 1", 2, 2},
		{"three tables", "SELECT /*+ JOIN_ORDER(o,i,j) LOOKUP_JOIN(o,i) LOOKUP_JOIN(i,j) */ o.id, j.v FROM outside o JOIN byid i ON i.id = o.a JOIN byindex j ON j.u = i.v", 500, 30},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Contains(t, strings.Join(query(t, c, "EXPLAIN "+tc.query), "\n"), "LookupJoin")
			run(t, c, "SET rowlock_batched_joins = 0")
			alone := asked.of(t, c, tc.query)
			want := query(t, c, tc.query)
			run(t, c, "SET rowlock_batched_joins = 1")
			batched := asked.of(t, c, tc.query)
			require.Equal(t, want, query(t, c, tc.query))
			require.GreaterOrEqual(t, alone, tc.alone)
			require.LessOrEqual(t, batched, tc.most)
		})
	}
}

// LIMIT 1 looks up the few rows that are read ahead first, not a block of them.
func TestALimitedJoinReadsFewRowsAhead(t *testing.T) {
	asked, c := joinStack(t,
		"CREATE TABLE outside (id INT PRIMARY KEY)", "CREATE TABLE inside (id INT PRIMARY KEY, v INT)",
		series("outside", 500, "id", func(i int) string { return fmt.Sprintf("(%d)", i) }),
		series("inside", 1500, "id,v", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }))
	q := "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ i.v FROM outside o JOIN inside i ON i.id = o.id LIMIT 1"
	asked.of(t, c, q)
	before := asked.keys.Load()
	query(t, c, q)
	require.LessOrEqual(t, asked.keys.Load()-before, int64(firstAhead))
}

// Batches grow fast while they are small, up to what has room.
func TestBatchesStayWithinMemory(t *testing.T) {
	for _, tc := range []struct {
		looked, bytes int
		wide          bool
		parts, next   int
	}{
		{4, 100, false, 16, 16},
		{64, 100, false, 16, 256},
		{256, 100, false, 16, 256},
		{256, 2 * aheadBytes, false, 16, 128},
		{64, aheadBytes, false, 16, 64},
		{64, aheadBytes / 2, false, 16, 128},
		{2, 5 * aheadBytes, false, 16, 2},
		{0, 5 * aheadBytes, false, 16, 2},
		{16, 100, true, 16, 64},
		{64, 100, true, 16, 64},
		{256, 100, true, 16, 64},
		{4, 100, true, 4096, 4},
	} {
		require.Equal(t, tc.next, nextAhead(tc.looked, tc.bytes, tc.wide, tc.parts), tc)
	}
}

// generatedJoins makes tables and joins of them by seed.
type generatedJoins struct {
	*rand.Rand
	alike bool // only comparisons that every plan of the engine answers alike: see docs/limits.md
}

func (g generatedJoins) value(column string) string {
	if g.IntN(6) == 0 {
		return "NULL"
	}
	switch column {
	case "s":
		return "'" + []string{"a", "A", "b", "ä", "B ", "1", "2.5", "07", ""}[g.IntN(9)] + "'"
	case "d":
		return []string{"1", "1.5", "2.25", "-3", "7", "12"}[g.IntN(6)]
	case "e":
		return []string{"1", "1.5", "1e10", "-0.0", "7"}[g.IntN(5)]
	}
	return fmt.Sprint(g.IntN(16) - 3)
}

func (g generatedJoins) tables() []string {
	keys := []string{
		"PRIMARY KEY (id), KEY (k), UNIQUE KEY (u), KEY (s), KEY (d, k))",
		"PRIMARY KEY (id), KEY (k, d), UNIQUE KEY (u, s), KEY (s(1)), KEY (e))",
		"PRIMARY KEY (id, n), KEY (u), KEY (k, s), KEY (d))",
		"PRIMARY KEY (id, n), KEY (u), KEY (k)) PARTITION BY KEY (id)",
		"KEY (id), KEY (k), KEY (s, k), UNIQUE KEY (u))",
	}
	var out []string
	for i, name := range []string{"a", "b", "c"} {
		out = append(out, "DROP TABLE IF EXISTS "+name,
			fmt.Sprintf("CREATE TABLE %s (id INT NOT NULL, n INT NOT NULL, k INT, u INT, s VARCHAR(10), d DECIMAL(6,2), e DOUBLE, %s", name, keys[(i+g.IntN(len(keys)))%len(keys)]))
		for id := range g.IntN(70) {
			out = append(out, fmt.Sprintf("INSERT IGNORE INTO %s VALUES (%d,%d,%s,%s,%s,%s,%s)", name, id, g.IntN(3),
				g.value("k"), g.value("u"), g.value("s"), g.value("d"), g.value("e")))
		}
	}
	return out
}

func (g generatedJoins) column() string {
	return []string{"id", "id", "k", "k", "u", "u", "s", "d", "e", "n"}[g.IntN(10)]
}

// condition joins two tables by columns that have indexes, now and then of two types.
func (g generatedJoins) condition(left, right string) string {
	column := g.column()
	other := column
	if !g.alike && g.IntN(4) == 0 {
		other = g.column()
	}
	operator := "="
	if !g.alike && g.IntN(8) == 0 {
		operator = "<=>"
	}
	cond := fmt.Sprintf("%s.%s %s %s.%s", left, column, operator, right, other)
	switch g.IntN(6) {
	case 0:
		cond += fmt.Sprintf(" AND %s.k < %s.u", left, right)
	case 1:
		second := g.column()
		cond += fmt.Sprintf(" AND %s.%s = %s.%s", left, second, right, second)
	case 2:
		cond += fmt.Sprintf(" AND %s.n <> %d", right, g.IntN(3))
	}
	return cond
}

func (g generatedJoins) query() string {
	hint := []string{"", "/*+ JOIN_ORDER(a,b,c) */", "/*+ JOIN_ORDER(b,a,c) */", "/*+ LOOKUP_JOIN(a,b) LOOKUP_JOIN(b,c) */", "/*+ JOIN_ORDER(a,b,c) LOOKUP_JOIN(a,b) LOOKUP_JOIN(b,c) LOOKUP_JOIN(a,c) */"}[g.IntN(5)]
	where := []string{"", " WHERE a.n < 2", " WHERE a.k IS NOT NULL", " WHERE 10 / a.k > 0"}[g.IntN(4)]
	limit := ""
	if g.IntN(3) == 0 {
		limit = fmt.Sprintf(" LIMIT %d", 1+g.IntN(12))
	}
	join := []string{"JOIN", "LEFT JOIN"}[g.IntN(2)]
	switch g.IntN(6) {
	case 0, 1:
		return fmt.Sprintf("SELECT %s a.*, b.* FROM a %s b ON %s%s%s", hint, join, g.condition("a", "b"), where, limit)
	case 2:
		second := []string{"JOIN", "LEFT JOIN"}[g.IntN(2)]
		return fmt.Sprintf("SELECT %s a.id, b.id, c.* FROM a %s b ON %s %s c ON %s%s%s", hint, join, g.condition("a", "b"), second, g.condition("b", "c"), where, limit)
	case 3:
		not := []string{"", "NOT "}[g.IntN(2)]
		return fmt.Sprintf("SELECT %s a.* FROM a WHERE %sEXISTS (SELECT 1 FROM b WHERE %s)%s", hint, not, g.condition("a", "b"), limit)
	case 4:
		not := []string{"", "NOT "}[g.IntN(2)]
		column := g.column()
		return fmt.Sprintf("SELECT %s a.* FROM a WHERE a.%s %sIN (SELECT b.%s FROM b WHERE b.n < 2)%s", hint, column, not, column, limit)
	}
	return fmt.Sprintf("SELECT %s a.id, (SELECT COUNT(*) FROM b %s c ON %s WHERE b.k = a.k) FROM a %s%s", hint, join, g.condition("b", "c"), where, limit)
}

// seeds are the first n, or the one of ROWLOCK_SEED.
func seeds(n uint64) (out []uint64) {
	if one, err := strconv.ParseUint(os.Getenv("ROWLOCK_SEED"), 10, 64); err == nil {
		return []uint64{one}
	}
	for seed := range n {
		out = append(out, seed)
	}
	return out
}

// A join answers the same rows in the same order, the same error and the same warnings
// with and without batches, also with what its transaction has written.
func TestBatchedJoinsAnswerTheSame(t *testing.T) {
	asked, c := joinStack(t)
	alone, batched := int64(0), int64(0)
	for _, seed := range seeds(4) {
		g := generatedJoins{rand.New(rand.NewPCG(seed+5, 76)), false}
		run(t, c, g.tables()...)
		both := func(q string) {
			answers := [2][]string{}
			for i := range answers {
				run(t, c, fmt.Sprintf("SET rowlock_batched_joins = %d", i))
				before := asked.rounds.Load()
				rows, err := tryQuery(c, q)
				if i == 0 {
					alone += asked.rounds.Load() - before
				} else {
					batched += asked.rounds.Load() - before
				}
				answers[i] = append(rows, fmt.Sprint(err))
				answers[i] = append(answers[i], query(t, c, "SHOW WARNINGS")...)
			}
			require.Equal(t, answers[0], answers[1], "seed %d: %s", seed, q)
		}
		for range 60 {
			both(g.query())
		}
		run(t, c, "BEGIN")
		for range 25 {
			table := []string{"a", "b", "c"}[g.IntN(3)]
			switch g.IntN(3) {
			case 0:
				run(t, c, fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, g.IntN(70)))
			case 1:
				run(t, c, fmt.Sprintf("UPDATE IGNORE %s SET k = %s, s = %s WHERE id %% 7 = %d", table, g.value("k"), g.value("s"), g.IntN(7)))
			default:
				run(t, c, fmt.Sprintf("INSERT IGNORE INTO %s VALUES (%d,1,%s,%s,%s,%s,%s)", table, 70+g.IntN(30),
					g.value("k"), g.value("u"), g.value("s"), g.value("d"), g.value("e")))
			}
			both(g.query())
		}
		run(t, c, "ROLLBACK")
	}
	t.Logf("rounds: %d alone, %d in batches", alone, batched)
	require.Less(t, batched, alone)
}

// What a join of a locking read or of SERIALIZABLE locks is what it would lock row by
// row: a LIMIT leaves the rest alone.
func TestLockingJoinsReadNothingAhead(t *testing.T) {
	asked, c := joinStack(t,
		"CREATE TABLE outside (id INT PRIMARY KEY, a INT)", "CREATE TABLE inside (id INT PRIMARY KEY, v INT)", "CREATE TABLE third (id INT PRIMARY KEY)",
		series("outside", 40, "id,a", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }),
		series("inside", 1200, "id,v", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }),
		series("third", 1200, "id", func(i int) string { return fmt.Sprintf("(%d)", i) }))
	join := "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ i.id FROM outside o JOIN inside i ON i.id = o.a LIMIT 1"
	three := "SELECT /*+ JOIN_ORDER(o,i,j) LOOKUP_JOIN(o,i) LOOKUP_JOIN(i,j) */ j.id FROM outside o JOIN inside i ON i.id = o.a JOIN third j ON j.id = i.v LIMIT 1"
	for _, tc := range []struct{ level, query string }{
		{"REPEATABLE READ", join + " FOR UPDATE"},
		{"READ COMMITTED", join + " FOR UPDATE"},
		{"REPEATABLE READ", join + " FOR SHARE"},
		{"REPEATABLE READ", three + " FOR UPDATE"},
		{"SERIALIZABLE", join},
		{"SERIALIZABLE", three},
	} {
		var sets [2][]string
		asked.locked = nil
		for i := range sets {
			run(t, c, fmt.Sprintf("SET rowlock_batched_joins = %d", i), "SET SESSION TRANSACTION ISOLATION LEVEL "+tc.level, "BEGIN")
			require.Equal(t, []string{"0"}, query(t, c, tc.query))
			run(t, c, "ROLLBACK")
			sets[i], asked.locked = asked.locked, nil
			slices.Sort(sets[i]) // shards are asked in parallel
		}
		require.NotEmpty(t, sets[0], tc)
		require.Equal(t, sets[0], sets[1], tc)
	}
}

// A trigger changes what the join of its own statement looks up next.
func TestJoinsOfAChangeSeeWhatItsTriggersWrite(t *testing.T) {
	_, c := joinStack(t,
		"CREATE TABLE outside (id INT PRIMARY KEY)", "CREATE TABLE inside (id INT PRIMARY KEY, v INT)", "CREATE TABLE log (id INT, v INT)",
		series("outside", 20, "id", func(i int) string { return fmt.Sprintf("(%d)", i) }),
		series("inside", 1200, "id,v", func(i int) string { return fmt.Sprintf("(%d,0)", i) }),
		"CREATE TRIGGER next_one BEFORE INSERT ON log FOR EACH ROW UPDATE inside SET v = NEW.v + 1 WHERE id = NEW.id + 1",
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
	change := "INSERT INTO log SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, i.v FROM outside o JOIN inside i ON i.id = o.id"
	var logs [2][]string
	for i := range logs {
		run(t, c, fmt.Sprintf("SET rowlock_batched_joins = %d", i), "BEGIN", change)
		logs[i] = query(t, c, "SELECT * FROM log ORDER BY id")
		run(t, c, "ROLLBACK")
	}
	require.Equal(t, "19,19", logs[0][19])
	require.Equal(t, logs[0], logs[1])
}

// BenchmarkLookupJoin is a join of 200 outer rows by key and by index.
func BenchmarkLookupJoin(b *testing.B) {
	_, db := app(b, "CREATE TABLE outside (id INT PRIMARY KEY, a INT)", "CREATE TABLE inside (id INT PRIMARY KEY, k INT, KEY (k))",
		series("outside", 200, "id,a", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i*5) }),
		series("inside", 990, "id,k", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }))
	c := connection(b, db)
	for _, column := range []string{"id", "k"} {
		for _, batched := range []string{"OFF", "ON"} {
			b.Run(column+"/"+batched, func(b *testing.B) {
				run(b, c, "SET rowlock_batched_joins = "+batched)
				for b.Loop() {
					query(b, c, "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, i.k FROM outside o JOIN inside i ON i."+column+" = o.a")
				}
			})
		}
	}
}

// A client that locks its warnings gets each of them once, and as many warnings as there
// are rows.
func TestBatchedJoinsLeaveLockedWarningsAlone(t *testing.T) {
	_, c := joinStack(t,
		"CREATE TABLE outside (id INT PRIMARY KEY, s VARCHAR(10))", "CREATE TABLE inside (id INT PRIMARY KEY, v INT)",
		series("outside", 12, "id,s", func(i int) string { return fmt.Sprintf("(%d,'%dx')", i, i) }),
		series("inside", 1200, "id,v", func(i int) string { return fmt.Sprintf("(%d,%d)", i, i) }))
	for _, tc := range []struct{ warns, query string }{
		{"the key", "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ i.v FROM outside o JOIN inside i ON i.id = CAST(o.s AS SIGNED)"},
		{"the outer row", "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ i.v FROM (SELECT id, CAST(s AS SIGNED) AS n FROM outside) o JOIN inside i ON i.id = o.n"},
		{"what is made of the join", "SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ SUM(CAST(o.s AS SIGNED)) FROM outside o JOIN inside i ON i.id = o.id"},
	} {
		t.Run(tc.warns, func(t *testing.T) {
			require.Contains(t, strings.Join(query(t, c, "EXPLAIN "+tc.query), "\n"), "LookupJoin")
			var warnings [2][]string
			for i := range warnings {
				run(t, c, fmt.Sprintf("SET rowlock_batched_joins = %d", i), "SET lock_warnings = 0", "SELECT 1", "SET lock_warnings = 1")
				query(t, c, tc.query)
				warnings[i] = query(t, c, "SHOW WARNINGS")
			}
			run(t, c, "SET lock_warnings = 0")
			require.NotEmpty(t, warnings[0])
			require.Equal(t, warnings[0], warnings[1])
		})
	}
}

// A batch holds little also where lookups find something, and much, for the first time
// behind many rows; nor are they made one by one then.
func TestBatchesOfLargeRowsAreReadInParts(t *testing.T) {
	asked, c := joinStack(t,
		"CREATE TABLE outside (id INT PRIMARY KEY)",
		"CREATE TABLE byid (id INT PRIMARY KEY, v LONGTEXT)",
		"CREATE TABLE byunique (id INT PRIMARY KEY, u INT, v LONGTEXT, UNIQUE KEY (u))",
		"CREATE TABLE byprefix (x INT, y INT, v LONGTEXT, PRIMARY KEY (x, y))",
		"CREATE TABLE byindex (id INT PRIMARY KEY, k INT, v LONGTEXT, KEY (k))",
		series("outside", 280, "id", func(i int) string { return fmt.Sprintf("(%d)", i) }))
	for i := 90; i < 280; i += 10 { // 4, 16 and 64 rows ahead find nothing
		run(t, c, fmt.Sprintf("INSERT INTO byid SELECT id, REPEAT('x', 30000) FROM outside WHERE id BETWEEN %d AND %d", i, i+9),
			fmt.Sprintf("INSERT INTO byunique SELECT id, id, REPEAT('x', 30000) FROM outside WHERE id BETWEEN %d AND %d", i, i+9))
		for y := range 3 {
			run(t, c, fmt.Sprintf("INSERT INTO byprefix SELECT id, %d, REPEAT('x', 10000) FROM outside WHERE id BETWEEN %d AND %d", y, i, i+9),
				fmt.Sprintf("INSERT INTO byindex SELECT id * 3 + %d, id, REPEAT('x', 10000) FROM outside WHERE id BETWEEN %d AND %d", y, i, i+9))
		}
	}
	for _, tc := range []struct{ table, column string }{{"byid", "id"}, {"byunique", "u"}, {"byprefix", "x"}, {"byindex", "k"}} {
		t.Run(tc.table, func(t *testing.T) {
			q := fmt.Sprintf("SELECT /*+ LOOKUP_JOIN(o,i) JOIN_ORDER(o,i) */ o.id, LENGTH(i.v) FROM outside o LEFT JOIN %s i ON i.%s = o.id", tc.table, tc.column)
			require.Contains(t, strings.Join(query(t, c, "EXPLAIN "+q), "\n"), "LookupJoin")
			run(t, c, "SET rowlock_batched_joins = 0")
			want := query(t, c, q)
			run(t, c, "SET rowlock_batched_joins = 1")
			before := asked.rounds.Load()
			asked.largest = 0
			require.Equal(t, want, query(t, c, q))
			require.LessOrEqual(t, asked.largest, 3*aheadBytes)
			require.LessOrEqual(t, asked.rounds.Load()-before, int64(100))
		})
	}
}
