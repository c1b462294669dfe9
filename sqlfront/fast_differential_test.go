package sqlfront

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFastPathDifferential runs generated statements on two servers, of which one
// has no fast path, and compares every byte of the answers: tables of generated
// types and keys, values at their edges, sessions with changing variables, schema
// changes, transactions, privileges. One of the two places rows by blocks. ROWLOCK_FASTPATH is the number of steps, of a few
// statements each (make fastpath), ROWLOCK_SEED another seed.
func TestFastPathDifferential(t *testing.T) {
	steps, seeds := 3000, []uint64{1, 2, 3}
	if text := os.Getenv("ROWLOCK_FASTPATH"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		steps = n
		for s := uint64(4); s <= 20; s++ {
			seeds = append(seeds, s)
		}
	}
	if text := os.Getenv("ROWLOCK_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		seeds = []uint64{seed}
	}
	var fast, direct, all uint64
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := newTwinOf(t, seed%2 == 1, "CREATE USER u", "CREATE USER v", "GRANT SELECT ON app.* TO v")
			d := newDifferential(t, w, seed)
			for range steps / len(seeds) {
				d.step()
			}
			d.end()
			t.Logf("%d of %d statements by the fast path", w.taken(), w.statements)
			fast, direct, all = fast+w.taken(), direct+w.fast.server.fast.direct.Load(), all+w.statements
		})
	}
	t.Logf("%d of %d statements by the fast path, of which %d changed or locked a row without a plan", fast, all, direct)
	require.Greater(t, fast*30, all, "the fast path is hardly ever taken")
	require.Greater(t, direct*500, all, "rows are hardly ever changed without a plan")
}

// TestFastChangeDifferential is TestFastPathDifferential for statements that change or
// lock one row, which have a short way of their own: keys of whole numbers, columns of
// the types that this way knows and of a few that it does not.
func TestFastChangeDifferential(t *testing.T) {
	steps, seeds := 900, []uint64{1, 2, 3}
	if text := os.Getenv("ROWLOCK_FASTPATH"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		steps = n / 10
		for s := uint64(4); s <= 10; s++ {
			seeds = append(seeds, s)
		}
	}
	if text := os.Getenv("ROWLOCK_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		seeds = []uint64{seed}
	}
	var direct, all uint64
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := newTwin(t, "CREATE USER u", "CREATE USER v", "GRANT SELECT ON app.* TO v")
			d := newChangeDifferential(t, w, seed)
			for range steps / len(seeds) {
				d.changes()
			}
			d.end()
			direct, all = direct+w.fast.server.fast.direct.Load(), all+w.statements
		})
	}
	t.Logf("%d of %d statements changed or locked a row without a plan", direct, all)
	require.Greater(t, direct*50, all, "rows are hardly ever changed without a plan")
}

// differential is one seed under way.
type differential struct {
	t        *testing.T
	w        *twin
	r        *rand.Rand
	seed     uint64
	sessions []*twinSession // the first one writes
	tables   []*fastTable
	open     bool // the reader is in a transaction
	simple   bool // tables of which most rows can be changed without a plan
}

func newDifferential(t *testing.T, w *twin, seed uint64) *differential {
	d := &differential{t: t, w: w, r: rand.New(rand.NewPCG(seed, 70)), seed: seed}
	d.start()
	return d
}

func newChangeDifferential(t *testing.T, w *twin, seed uint64) *differential {
	d := &differential{t: t, w: w, r: rand.New(rand.NewPCG(seed, 83)), seed: seed, simple: true}
	d.start()
	return d
}

func (d *differential) start() {
	w, seed := d.w, d.seed
	capabilities := []uint32{0, clientDeprecateEOF, clientMultiStatements | clientDeprecateEOF, clientFoundRows}
	for _, db := range []*stack{w.fast, w.slow} {
		run(d.t, db.db("", ""), "GRANT SELECT ON app.* TO u")
	}
	for _, user := range []string{"root", "root", "u", "v"} {
		d.sessions = append(d.sessions, w.session(user, capabilities[d.r.IntN(len(capabilities))]))
	}
	for i := range 3 {
		d.create(fmt.Sprintf("t%d_%d", seed, i))
	}
}

func (d *differential) end() {
	for _, c := range d.sessions {
		c.fast.conn.Close()
		c.slow.conn.Close()
	}
}

func pick[T any](d *differential, list []T) T { return list[d.r.IntN(len(list))] }

func (d *differential) chance(percent int) bool { return d.r.IntN(100) < percent }

// create makes a table and fills it.
func (d *differential) create(name string) {
	n := &fastTable{name: name}
	columns := 1
	if d.chance(40) {
		columns = 2 + d.r.IntN(2)
	}
	kinds := keyColumns
	if d.chance(75) || d.simple {
		kinds = keyColumns[:10] // whole numbers
	}
	others := otherColumns
	if d.simple {
		kinds, columns, others = changedKeys, 1, changedColumns
	}
	for i := range columns {
		c := pick(d, kinds)
		c.name = fmt.Sprintf("k%d", i)
		n.key = append(n.key, c)
	}
	large := d.simple && len(d.tables) == 0 // there is always a table of large numbers
	if large {
		n.key = []fastColumn{largeKey}
	}
	if columns == 1 && strings.Contains(n.key[0].definition, "INT") && d.chance(40) {
		n.key[0].definition += " AUTO_INCREMENT"
	}
	n.columns = append(n.columns, n.key...)
	for i := range 1 + d.r.IntN(6) {
		c := pick(d, others)
		if large && i == 0 {
			c = largeColumn
		}
		c.name = pick(d, []string{"c", "C", "col_", "`odd name`"}) + ""
		if c.name == "`odd name`" {
			c.name = fmt.Sprintf("`odd %d`", i)
		} else {
			c.name += strconv.Itoa(i)
		}
		n.columns = append(n.columns, c)
		if i == 0 {
			n.added = c.name
		}
	}
	d.r.Shuffle(len(n.columns), func(i, j int) { n.columns[i], n.columns[j] = n.columns[j], n.columns[i] })
	var definitions, names []string
	for _, c := range n.columns {
		definitions = append(definitions, c.name+" "+c.definition)
	}
	for _, c := range n.key {
		names = append(names, c.name)
	}
	definitions = append(definitions, "PRIMARY KEY ("+strings.Join(names, ", ")+")")
	definitions = d.index(n, definitions)
	writer := d.sessions[0]
	writer.query("CREATE TABLE " + name + " (" + strings.Join(definitions, ", ") + ")")
	for range 30 {
		d.write(writer.query, n, "INSERT IGNORE")
	}
	writer.query("COMMIT AND NO CHAIN")
	d.tables = append(d.tables, n)
}

func (d *differential) write(run func(string) [][]byte, n *fastTable, verb string) {
	var names, values []string
	for _, c := range n.columns {
		names = append(names, c.name)
		values = append(values, pick(d, c.values))
	}
	run(verb + " INTO " + n.name + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")")
}

// step is one statement of one session.
func (d *differential) step() {
	switch p := d.r.IntN(1000); {
	case p < 700:
		d.read()
	case p < 740:
		c := pick(d, d.sessions)
		run := c.query
		if d.chance(50) {
			run = func(text string) [][]byte { return c.execute(text) }
		}
		defer d.state(c)
		run(pick(d, []string{"BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "commit", "begin", "COMMIT WORK", "START TRANSACTION READ ONLY",
			"SELECT ROW_COUNT(), FOUND_ROWS(), LAST_INSERT_ID()", "SHOW WARNINGS", "SELECT DATABASE()"}))
	case p < 920:
		d.writing(func(writer *twinSession) { d.change(writer, pick(d, d.tables)) })
	case p < 945:
		d.writing(func(writer *twinSession) {
			d.write(writer.query, pick(d, d.tables), pick(d, []string{"INSERT", "REPLACE", "INSERT IGNORE"}))
		})
	case p < 960:
		d.variable(pick(d, d.sessions))
	default:
		d.rare()
	}
}

// writing has the first session write. Nobody else holds a lock then, and it keeps
// none: a statement that waits for a lock that is not given up shows nothing but that.
func (d *differential) writing(write func(writer *twinSession)) {
	for _, c := range d.sessions[1:] {
		c.query("COMMIT AND NO CHAIN")
	}
	writer := d.sessions[0]
	if d.chance(30) {
		writer.query("BEGIN")
	}
	for range 1 + d.r.IntN(3) {
		write(writer)
		d.readFrom(writer, pick(d, d.tables))
	}
	writer.query(pick(d, []string{"COMMIT AND NO CHAIN", "COMMIT AND NO CHAIN", "ROLLBACK AND NO CHAIN"}))
}

// state compares what a session says of its last statement.
func (d *differential) state(c *twinSession) {
	if d.chance(40) {
		c.query("SELECT ROW_COUNT(), FOUND_ROWS(), LAST_INSERT_ID()")
	}
	if d.chance(10) {
		c.query("SHOW WARNINGS")
	}
}

// variable changes a variable of a session; what has the fast path off, or makes
// texts mean something else, for a few statements.
func (d *differential) variable(c *twinSession) {
	if d.chance(60) {
		c.query(pick(d, []string{
			"SET autocommit = 0", "SET autocommit = 1", "SET autocommit = 1", "SET @x = 1",
			"SET SESSION transaction_isolation = 'READ-COMMITTED'", "SET SESSION transaction_isolation = 'REPEATABLE-READ'",
			"SET SESSION transaction_isolation = 'SERIALIZABLE'", "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET TRANSACTION READ ONLY",
			"SET SESSION snapshot_isolation = OFF", "SET SESSION snapshot_isolation = ON",
			"SET SESSION transaction_read_only = ON", "SET SESSION transaction_read_only = OFF",
		}))
		return
	}
	change := pick(d, [][2]string{
		{"SET NAMES latin1", "SET NAMES utf8mb4"}, {"SET character_set_results = NULL", "SET NAMES utf8mb4"},
		{"SET character_set_results = latin1", "SET NAMES utf8mb4"}, {"SET NAMES binary", "SET NAMES utf8mb4"},
		{"SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET NAMES utf8mb4"}, {"SET SESSION sql_mode = 'ANSI_QUOTES'", "SET SESSION sql_mode = DEFAULT"},
		{"SET SESSION time_zone = '+05:00'", "SET SESSION time_zone = 'SYSTEM'"}, {"SET SESSION sql_select_limit = 0", "SET SESSION sql_select_limit = DEFAULT"},
		{"SET SESSION max_execution_time = 100000", "SET SESSION max_execution_time = 0"},
		{"SET SESSION completion_type = 'CHAIN'", "SET SESSION completion_type = DEFAULT"}, {"USE mysql", "USE app"},
		{"SET SESSION sql_mode = ''", "SET SESSION sql_mode = DEFAULT"}, {"SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'", "SET SESSION sql_mode = DEFAULT"},
		{"SET SESSION rowlock_read_staleness = 1", "SET SESSION rowlock_read_staleness = 0"},
	})
	c.query(change[0])
	n := pick(d, d.tables)
	if c == d.sessions[0] {
		for _, other := range d.sessions[1:] {
			other.query("COMMIT AND NO CHAIN")
		}
		for range 3 {
			d.change(c, n)
		}
	}
	for range 6 {
		d.readFrom(c, n)
	}
	c.query(pick(d, []string{"COMMIT", "ROLLBACK"}))
	c.query(change[1])
	c.query("ROLLBACK AND NO CHAIN")
}

// quiet ends what is open, so that a schema change need not wait for it.
func (d *differential) quiet() {
	for _, c := range d.sessions {
		c.query("COMMIT AND NO CHAIN")
		c.query("UNLOCK TABLES")
	}
}

// rare changes the schema, users, or what a name means.
func (d *differential) rare() {
	d.quiet()
	i := d.r.IntN(len(d.tables))
	n, writer, other := d.tables[i], d.sessions[0], pick(d, d.sessions)
	switch d.r.IntN(13) {
	case 0:
		writer.query("DROP TABLE " + n.name)
		d.tables = append(d.tables[:i:i], d.tables[i+1:]...)
		d.create(n.name)
	case 1:
		writer.query("ALTER TABLE " + n.name + " ADD COLUMN added" + strconv.Itoa(d.r.IntN(5)) + " INT DEFAULT 3")
	case 2:
		writer.query("ALTER TABLE " + n.name + " DROP COLUMN added" + strconv.Itoa(d.r.IntN(5)))
	case 3:
		writer.query("RENAME TABLE " + n.name + " TO moved")
		d.readFrom(other, n)
		d.quiet()
		writer.query("CREATE VIEW " + n.name + " AS SELECT * FROM moved")
		d.readFrom(other, n)
		d.readFrom(other, n)
		d.quiet()
		writer.query("DROP VIEW " + n.name)
		writer.query("RENAME TABLE moved TO " + n.name)
	case 4:
		other.query("CREATE TEMPORARY TABLE " + n.name + " (k0 INT PRIMARY KEY, k1 INT, k2 INT, c0 INT, c1 TEXT)")
		d.readFrom(other, n)
		d.readFrom(other, n)
		other.query("DROP TEMPORARY TABLE " + n.name)
	case 5:
		other.query("LOCK TABLES " + n.name + " READ")
		d.readFrom(other, n)
		d.readFrom(other, pick(d, d.tables))
		other.query("UNLOCK TABLES")
	case 6:
		writer.query("GRANT SELECT ON app.* TO u")
	case 7:
		writer.query("GRANT SELECT ON app." + n.name + " TO u")
	case 8:
		writer.query("REVOKE SELECT ON app.* FROM u")
		d.readFrom(d.sessions[2], n)
	case 9:
		writer.query("REVOKE SELECT ON app." + n.name + " FROM u")
		d.readFrom(d.sessions[2], n)
	case 10:
		other.query("SET SESSION lock_wait_timeout = 1") // of FOR UPDATE, which waits in vain
		writer.query("FLUSH TABLES WITH READ LOCK")
		d.readFrom(writer, n)
		d.readFrom(other, n)
		writer.query("UNLOCK TABLES")
		other.query("SET SESSION lock_wait_timeout = DEFAULT")
	case 12:
		writer.query("CREATE TRIGGER fires BEFORE " + pick(d, []string{"UPDATE", "INSERT"}) + " ON " + n.name + " FOR EACH ROW SET @fired = COALESCE(@fired, 0) + 1")
		for range 5 {
			d.change(writer, n)
		}
		writer.query("SELECT @fired")
		d.quiet()
		writer.query("DROP TRIGGER fires")
	case 11:
		writer.query("CREATE INDEX added ON " + n.name + " (" + n.key[0].name + ")")
		d.readFrom(other, n)
		d.quiet()
		writer.query("DROP INDEX added ON " + n.name)
	}
}

func (d *differential) read() { d.readFrom(pick(d, d.sessions), pick(d, d.tables)) }
