package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Owners answer as the engine does: the same statements run both ways in the same
// transaction, over generated tables that others change meanwhile.

// aboutStatements is how many statements the comparison runs, fewer without
// ROWLOCK_PUSHDOWN_STATEMENTS.
func aboutStatements(t testing.TB) int {
	if text := os.Getenv("ROWLOCK_PUSHDOWN_STATEMENTS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	return 1200
}

func seedOf(t testing.TB, fixed uint64) uint64 {
	if text := os.Getenv("ROWLOCK_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		return n
	}
	return fixed
}

// pushTypes are column types with what their values are drawn from.
var pushTypes = []struct {
	sql    string
	values []string
}{
	{"TINYINT", []string{"-128", "-1", "0", "1", "2", "3", "127"}},
	{"TINYINT UNSIGNED", []string{"0", "1", "2", "200", "255"}},
	{"SMALLINT", []string{"-32768", "-7", "0", "7", "300", "32767"}},
	{"MEDIUMINT UNSIGNED", []string{"0", "5", "70000", "16777215"}},
	{"INT", []string{"-2147483648", "-100", "-1", "0", "1", "100", "2147483647"}},
	{"INT UNSIGNED", []string{"0", "1", "9", "4294967295"}},
	{"BIGINT", []string{"-5", "0", "1", "12", "4000000000", "-4000000000"}},
	{"BIGINT", []string{"-9223372036854775808", "-9007199254740993", "0", "1", "9007199254740993", "9223372036854775807"}},
	{"BIGINT UNSIGNED", []string{"0", "3", "9007199254740991", "9007199254740993", "18446744073709551615"}},
	{"BOOLEAN", []string{"0", "1"}},
	{"DATE", []string{"'2020-02-29'", "'1000-01-01'", "'1969-12-31'", "'9999-12-31'"}},
	{"DATETIME(6)", []string{"'2020-02-29 01:02:03.000001'", "'2020-02-29 01:02:03'", "'1999-12-31 23:59:59.999999'"}},
	{"TIMESTAMP", []string{"'2020-02-29 01:02:03'", "'1971-01-01 00:00:01'"}},
	{"YEAR", []string{"1999", "2020"}},
	{"DECIMAL(20,4)", []string{"1.5", "-2.25", "100000000000.0001"}},
	{"DOUBLE", []string{"0.1", "-1e300", "3"}},
	{"VARCHAR(20)", []string{"'a'", "'A'", "'ä'", "''", "'b '"}},
	{"ENUM('x','y')", []string{"'x'", "'y'"}},
	{"BIT(5)", []string{"b'10101'", "b'0'"}},
}

type pushColumn struct {
	name   string
	typ    string
	values []string
	null   bool
}

type pushTable struct {
	name    string
	columns []pushColumn
	key     int // columns of the key that come first; 0: no key
}

func (c pushColumn) value(r *rand.Rand) string {
	if c.null && r.IntN(5) == 0 {
		return "NULL"
	}
	return c.values[r.IntN(len(c.values))]
}

func newPushTable(r *rand.Rand, name string) pushTable {
	p := pushTable{name: name, key: 1}
	p.columns = []pushColumn{{name: "id", typ: "INT"}}
	for i := range 3 + r.IntN(5) {
		k := pushTypes[r.IntN(len(pushTypes))]
		if i < 2 { // something to count with
			k = pushTypes[r.IntN(10)]
		}
		p.columns = append(p.columns, pushColumn{name: fmt.Sprintf("c%d", i), typ: k.sql, values: k.values, null: r.IntN(3) > 0})
	}
	if r.IntN(4) == 0 {
		p.key = 0
	}
	return p
}

func (p pushTable) create() string {
	var parts []string
	for _, c := range p.columns {
		null := " NOT NULL"
		if c.null {
			null = " NULL"
		}
		parts = append(parts, c.name+" "+c.typ+null)
	}
	if p.key > 0 {
		parts = append(parts, "PRIMARY KEY (id)")
	}
	return fmt.Sprintf("CREATE TABLE %s (%s)", p.name, strings.Join(parts, ", "))
}

func (p pushTable) row(r *rand.Rand, id int) string {
	values := []string{strconv.Itoa(id)}
	for _, c := range p.columns[1:] {
		values = append(values, c.value(r))
	}
	return "(" + strings.Join(values, ",") + ")"
}

// change is a statement that changes rows.
func (p pushTable) change(r *rand.Rand) string {
	c := p.columns[1+r.IntN(len(p.columns)-1)]
	id := r.IntN(300)
	switch r.IntN(3) {
	case 0:
		return fmt.Sprintf("UPDATE %s SET %s = %s WHERE id BETWEEN %d AND %d", p.name, c.name, c.value(r), id, id+3)
	case 1:
		return fmt.Sprintf("DELETE FROM %s WHERE id = %d", p.name, id)
	}
	return fmt.Sprintf("REPLACE INTO %s VALUES %s", p.name, p.row(r, id))
}

func (p pushTable) column(r *rand.Rand) pushColumn { return p.columns[r.IntN(len(p.columns))] }

func (p pushTable) literal(r *rand.Rand, c pushColumn) string {
	switch {
	case r.IntN(12) == 0:
		return "NULL"
	case c.values == nil || r.IntN(4) == 0:
		return []string{"-1", "0", "1", "7", "150", "300", "-129", "70000", "5000000000", "18446744073709551615", "9007199254740993", "1.5", "'3'"}[r.IntN(13)]
	}
	return c.values[r.IntN(len(c.values))]
}

func (p pushTable) condition(r *rand.Rand, depth int) string {
	if depth > 0 && r.IntN(2) == 0 {
		switch r.IntN(3) {
		case 0:
			return "(" + p.condition(r, depth-1) + " AND " + p.condition(r, depth-1) + ")"
		case 1:
			return "(" + p.condition(r, depth-1) + " OR " + p.condition(r, depth-1) + ")"
		}
		return "NOT (" + p.condition(r, depth-1) + ")"
	}
	c := p.columns[r.IntN(len(p.columns))]
	switch r.IntN(8) {
	case 0:
		return c.name + " IS NULL"
	case 1:
		return c.name + " IS NOT NULL"
	case 2:
		return fmt.Sprintf("%s IN (%s, %s, %s)", c.name, p.literal(r, c), p.literal(r, c), p.literal(r, c))
	case 3:
		return fmt.Sprintf("%s BETWEEN %s AND %s", c.name, p.literal(r, c), p.literal(r, c))
	case 4:
		return fmt.Sprintf("%s %s %s", p.literal(r, c), []string{"=", "<", ">", "<=", ">=", "<>"}[r.IntN(6)], c.name)
	}
	return fmt.Sprintf("%s %s %s", c.name, []string{"=", "<", ">", "<=", ">=", "<>", "<=>"}[r.IntN(7)], p.literal(r, c))
}

func (p pushTable) aggregate(r *rand.Rand) string {
	c := p.column(r).name
	return []string{"COUNT(*)", "COUNT(1)", "COUNT(" + c + ")", "SUM(" + c + ")", "MIN(" + c + ")", "MAX(" + c + ")", "AVG(" + c + ")",
		"COUNT(DISTINCT " + c + ")", "SUM(" + c + ") + 1", "COUNT(NULL)", "SUM(DISTINCT " + c + ")", "BIT_OR(" + c + ")"}[r.IntN(12)]
}

// statement is one that owners can answer, most of the time.
func (p pushTable) statement(r *rand.Rand, asOf string) string {
	if r.IntN(3) == 0 {
		return p.filtered(r, asOf)
	}
	var groups, out []string
	for range r.IntN(3) {
		groups = append(groups, p.column(r).name)
	}
	out = append(out, groups...)
	for range 1 + r.IntN(3) {
		out = append(out, p.aggregate(r))
	}
	q := fmt.Sprintf("SELECT %s FROM %s%s", strings.Join(out, ", "), p.name, asOf)
	if r.IntN(5) == 0 && asOf == "" {
		q += " AS x"
	}
	if r.IntN(2) == 0 {
		q += " WHERE " + p.condition(r, 2)
	}
	if len(groups) > 0 {
		q += " GROUP BY " + strings.Join(groups, ", ")
	}
	if r.IntN(6) == 0 {
		q += " HAVING COUNT(*) > 1"
	}
	if r.IntN(6) == 0 {
		q += " LIMIT 3"
	}
	return q
}

// filtered is a statement whose rows owners choose, in part at least.
func (p pushTable) filtered(r *rand.Rand, asOf string) string {
	out := "*"
	if r.IntN(2) == 0 {
		out = p.column(r).name + ", " + p.column(r).name
	}
	condition := p.condition(r, 2)
	if r.IntN(2) == 0 {
		condition += " AND " + p.condition(r, 1)
	}
	q := fmt.Sprintf("SELECT %s FROM %s%s WHERE %s", out, p.name, asOf, condition)
	switch r.IntN(4) {
	case 0:
		q += fmt.Sprintf(" LIMIT %d", r.IntN(5))
	case 1:
		q += " ORDER BY " + p.column(r).name + ", id LIMIT 7"
	}
	return q
}

// answer is what a statement came to, with its warnings.
func answer(c *sql.Conn, q string) string {
	rows, err := tryQuery(c, q)
	if err != nil {
		return err.Error()
	}
	warnings, err := tryQuery(c, "SHOW WARNINGS")
	if err != nil {
		return err.Error()
	}
	return strings.Join(rows, "\n") + "\n" + strings.Join(warnings, "\n")
}

// bothWays compares, in whatever transaction the connection is in.
func bothWays(t *testing.T, c *sql.Conn, q string) {
	t.Helper()
	run(t, c, "SET rowlock_pushdown = 0")
	want := answer(c, q)
	run(t, c, "SET rowlock_pushdown = 1")
	require.Equal(t, want, answer(c, q), q)
}

func TestPushdownAnswersAsTheEngine(t *testing.T) {
	var blocks atomic.Bool // every other table's rows are placed by them
	s := newStack(t, Config{NoAuthentication: true, Blocks: blocks.Load})
	r := rand.New(rand.NewPCG(seedOf(t, 17), 1))
	run(t, s.db("", ""), "CREATE DATABASE d")
	total, each := aboutStatements(t), 150
	for n := 0; n*each < total; n++ {
		blocks.Store(n%2 == 0)
		comparePushdown(t, s, newPushTable(r, fmt.Sprintf("t%d", n)), rand.New(rand.NewPCG(r.Uint64(), 2)), min(each, total-n*each))
	}
	// Not everything fell back.
	pushed, left := s.server.pushdowns.done.Load(), s.server.pushdowns.left.Load()
	require.Greater(t, pushed, uint64(total/20))
	require.NotZero(t, left)
}

// comparePushdown fills a table and compares statements of all kinds of transactions
// while two others change the table.
func comparePushdown(t *testing.T, s *stack, p pushTable, r *rand.Rand, statements int) {
	db := s.db("d", "")
	run(t, db, p.create())
	var rows []string
	for id := range 250 {
		rows = append(rows, p.row(r, id))
	}
	run(t, db, "INSERT INTO "+p.name+" VALUES "+strings.Join(rows, ","))
	if r.IntN(2) == 0 { // rows that lack a column
		added := pushColumn{name: "late", typ: "INT", values: []string{"5", "6", "7"}, null: true}
		run(t, db, "ALTER TABLE "+p.name+" ADD COLUMN late INT DEFAULT 6")
		p.columns = append(p.columns, added)
	}
	filled := time.Now().UTC().Format("2006-01-02 15:04:05.000000")
	changers := changeMeanwhile(t, s, p, r)
	defer changers()
	ctx := context.Background()
	c, err := db.Conn(ctx)
	require.NoError(t, err)
	defer c.Close()
	for done := 0; done < statements; {
		asOf := ""
		begin := "START TRANSACTION WITH CONSISTENT SNAPSHOT"
		var own []string
		switch r.IntN(6) {
		case 0:
			own = append(own, p.change(r), "SAVEPOINT s", p.change(r))
			if r.IntN(2) == 0 {
				own = append(own, "ROLLBACK TO s")
			}
		case 1:
			begin = "START TRANSACTION READ ONLY"
		case 2:
			asOf = " AS OF '" + filled + "'"
		}
		run(t, c, begin)
		for _, q := range own {
			if _, err := c.ExecContext(ctx, q); err != nil {
				run(t, c, "ROLLBACK", begin) // it met those who change the table
				break
			}
		}
		for range 4 {
			bothWays(t, c, p.statement(r, asOf))
			done++
		}
		run(t, c, "ROLLBACK")
	}
}

func changeMeanwhile(t *testing.T, s *stack, p pushTable, r *rand.Rand) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range 2 {
		own := rand.New(rand.NewPCG(r.Uint64(), 3))
		db := s.db("d", "")
		all.Go(func() {
			for ctx.Err() == nil {
				// A conflict with another is as good as a change.
				_, _ = db.ExecContext(ctx, p.change(own))
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}
