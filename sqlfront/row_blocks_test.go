package sqlfront

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

func blockIndex(id catalog.ID, blocks rowBlocks) *indexInfo {
	return &indexInfo{id: id, start: dataPrefix(id), blocks: blocks, primary: true, unique: true}
}

// keyOf is the key of an integer from -2^63 to 2^64-1, given as text.
func (x *indexInfo) keyOf(text string) []byte {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return keycodec.AppendInt(bytes.Clone(x.start), n, false)
	}
	u, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return keycodec.AppendUint(bytes.Clone(x.start), u, false)
}

// The file says where rows are stored: a difference is broken data, not a file to update.
func TestBlocksAreStoredData(t *testing.T) {
	var b strings.Builder
	for _, blocks := range []rowBlocks{0, 1, 7, 10} {
		x := blockIndex(300, blocks)
		for _, n := range []string{
			"0", "1", "126", "127", "128", "255", "256", "1000", "1023", "1024", "65535", "65536", "2147483647", "4294967295", "9223372036854775807",
			"9223372036854775808", "18446744073709551488", "18446744073709551615",
			"-1", "-127", "-128", "-129", "-256", "-257", "-65537", "-2147483648", "-9223372036854775808",
		} {
			fmt.Fprintf(&b, "%d %s %016x\n", blocks, n, uint64(x.tokenOf(x.keyOf(n))))
		}
	}
	file := filepath.Join("testdata", "row_blocks.golden")
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

// Rows of a block share a token, and nothing else does; what another index has is not
// placed like it.
func TestNeighboursShareABlock(t *testing.T) {
	x := blockIndex(9, newBlocks)
	for _, first := range []int64{0, 128, 1 << 40, -128, -256, math.MinInt64} {
		token := x.tokenOf(x.keyOf(fmt.Sprint(first)))
		for i := range int64(128) {
			require.Equal(t, token, x.tokenOf(x.keyOf(fmt.Sprint(first+i))))
		}
		require.NotEqual(t, token, x.tokenOf(x.keyOf(fmt.Sprint(first+128))))
		require.NotEqual(t, token, blockIndex(10, newBlocks).tokenOf(dataPrefix(10)), "another index")
	}
	require.NotEqual(t, x.tokenOf(x.keyOf("127")), x.tokenOf(x.keyOf("128")))
	require.Equal(t, ring.TokenOf(x.keyOf("5")), blockIndex(9, 0).tokenOf(x.keyOf("5")), "of tables from before")
}

// Tokens are made in one place, which knows of blocks.
func TestTokensComeFromOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		want := 0
		if file == "row_blocks.go" {
			want = 1
		}
		require.Equal(t, want, strings.Count(string(text), "ring.TokenOf("), file)
	}
}

// Between two ends, which may be any bytes, lie the blocks of the least and of the
// largest integer between them.
func TestBlocksBetween(t *testing.T) {
	r := rand.New(rand.NewPCG(seedOf(t, 82), 1))
	end := func(x *indexInfo) []byte {
		key := x.keyOf(fmt.Sprint(r.Int64N(600) - 300))
		switch r.IntN(8) {
		case 0:
			key = x.keyOf(strconv.FormatUint(math.MaxUint64-r.Uint64N(300), 10))
		case 1:
			key = x.keyOf(strconv.FormatInt(math.MinInt64+r.Int64N(300), 10))
		case 2:
			key = x.keyOf(strconv.FormatInt(math.MaxInt64-r.Int64N(300), 10))
		}
		switch r.IntN(6) {
		case 0:
			key = keycodec.PrefixEnd(key)
		case 1:
			key = append(key, byte(r.Uint32()))
		case 2:
			key = key[:len(x.start)+r.IntN(len(key)-len(x.start)+1)]
		case 3:
			key = append(key[:len(x.start)], byte(0x0e+r.IntN(22)), byte(r.Uint32()))
		}
		return key
	}
	numbers := []string{}
	for i := int64(-700); i < 700; i++ {
		numbers = append(numbers, fmt.Sprint(i))
	}
	for i := range int64(500) {
		numbers = append(numbers, strconv.FormatUint(math.MaxUint64-uint64(i), 10), fmt.Sprint(math.MinInt64+i), fmt.Sprint(math.MaxInt64-i),
			strconv.FormatUint(math.MaxInt64+1+uint64(i), 10))
	}
	for range 300 {
		x := blockIndex(5, rowBlocks(1+r.IntN(8)))
		lo, hi := end(x), end(x)
		if r.IntN(10) == 0 {
			lo = x.start
		}
		if r.IntN(10) == 0 {
			hi = keycodec.PrefixEnd(x.start)
		}
		first, last, ok := x.blocksBetween(lo, hi)
		for _, n := range numbers {
			key := x.keyOf(n)
			if bytes.Compare(key, lo) < 0 || bytes.Compare(key, hi) >= 0 {
				continue
			}
			require.True(t, ok, "%s from %x to %x", n, lo, hi)
			neg, u, _ := keycodec.LeastInt(key[len(x.start):])
			b := x.blocks.of(neg, u)
			require.True(t, first <= b && b <= last, "%s from %x to %x: block %d from %d to %d", n, lo, hi, b, first, last)
			require.Equal(t, x.blockToken(b), x.tokenOf(key))
		}
		if ok && first < last { // they are not too many either
			for _, b := range []int64{first, last} {
				from, to := keycodec.AppendInt(bytes.Clone(x.start), b<<x.blocks, false), keycodec.PrefixEnd(x.start)
				if b < math.MaxInt64>>x.blocks {
					to = keycodec.AppendInt(bytes.Clone(x.start), (b+1)<<x.blocks, false)
				}
				require.True(t, b > math.MaxInt64>>x.blocks || bytes.Compare(from, hi) < 0 && bytes.Compare(lo, to) < 0, "from %x to %x: block %d", lo, hi, b)
			}
		}
	}
}

// asked notes which data shards are asked for rows.
type asked struct {
	txn.Router
	mu     sync.Mutex
	shards map[shard.ID]bool
	whole  map[shard.ID]bool // by reads of intervals
	reads  int               // of intervals
	stats  *tableStatistics
}

func (a *asked) note(s shard.ID, span bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s == shard.System {
		return
	}
	a.shards[s] = true
	if span {
		a.whole[s] = true
		a.reads++
	}
}

func (a *asked) Read(ctx context.Context, s shard.ID, r *shard.ReadRequest) (*shard.ReadResponse, error) {
	a.note(s, r.Span != nil)
	return a.Router.Read(ctx, s, r)
}

func (a *asked) ReadMany(ctx context.Context, reads []shard.ShardRead) {
	for _, r := range reads {
		a.note(r.Shard, r.Request.Span != nil)
	}
	a.Router.ReadMany(ctx, reads)
}

func (a *asked) Lock(ctx context.Context, s shard.ID, r *shard.LockRequest) (*shard.LockResponse, error) {
	a.note(s, r.Span != nil)
	return a.Router.Lock(ctx, s, r)
}

// shardsOf runs a statement and tells how many shards it read intervals on.
func (a *asked) shardsOf(t testing.TB, db queryer, statement string) int {
	t.Helper()
	query(t, db, statement) // what the planner wants to know is known then
	a.stats.settled(t)
	a.mu.Lock()
	a.shards, a.whole, a.reads = map[shard.ID]bool{}, map[shard.ID]bool{}, 0
	a.mu.Unlock()
	query(t, db, statement)
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.whole)
}

// blockApp is an app that places the rows of new tables as a switch says.
func blockApp(t testing.TB, statements ...string) (*stack, *sql.DB, *asked, *atomic.Bool) {
	var blocks atomic.Bool
	a := &asked{shards: map[shard.ID]bool{}, whole: map[shard.ID]bool{}}
	s := newStackOver(t, Config{Blocks: blocks.Load}, func(r txn.Router) txn.Router {
		a.Router = r
		return a
	})
	a.stats = &s.server.catalog.stats
	a.stats.countEvery(time.Hour)
	run(t, s.db("", ""), "CREATE DATABASE app")
	db := s.db("app", "")
	db.SetMaxOpenConns(1)
	blocks.Store(true)
	run(t, db, statements...)
	return s, db, a, &blocks
}

// A range of a block is on one shard, one of a few blocks on those that have them, a wide
// or open one on all; so it was with all ranges of tables from before.
func TestShardsOfARange(t *testing.T) {
	s, db, a, blocks := blockApp(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id BIGINT UNSIGNED PRIMARY KEY, v INT)")
	blocks.Store(false)
	run(t, db, "CREATE TABLE old (id INT PRIMARY KEY, v INT)")
	run(t, db, "INSERT INTO t VALUES (0, 1)"+every10(-500, 1500), "INSERT INTO u VALUES (18446744073709551615, 2)"+every10(0, 2000),
		"INSERT INTO old VALUES (0, 1)"+every10(-500, 1500))
	all := len(s.node.Router().DataShards())
	require.Equal(t, 3, all)
	owners := func(table string, keys ...string) int {
		x, ids := blockIndex(s.table("app", table).Rows, newBlocks), map[shard.ID]bool{}
		for _, k := range keys {
			ids[s.node.Router().Shard(x.tokenOf(x.keyOf(k)))] = true
		}
		return len(ids)
	}
	for _, fast := range []string{"ON", "OFF"} {
		run(t, db, "SET SESSION rowlock_fast_path = "+fast)
		for range 3 { // the fast path learns first
			for _, c := range []struct {
				where string
				want  int
			}{
				{"t WHERE id BETWEEN 0 AND 127", 1},
				{"t WHERE id BETWEEN 128 AND 255", 1},
				{"t WHERE id BETWEEN 100 AND 199", owners("t", "100", "199")},
				{"t WHERE id BETWEEN -5 AND 5", owners("t", "-5", "5")},
				{"t WHERE id > 99 AND id < 200", owners("t", "100", "199")},
				{"t WHERE id >= 10 AND id <= 10.5", 1},
				{"t WHERE id > 5", all},
				{"t WHERE id < 5", all},
				{"t WHERE id BETWEEN 0 AND 100000", all},
				{"t WHERE id BETWEEN 2147483600 AND 9000000000", all},
				{"t WHERE id BETWEEN 2147483600 AND 2147483640", owners("t", "2147483600", "2147483640")},
				{"t WHERE id BETWEEN 2147483600 AND 2147483700", all}, // beyond the type is an open end
				{"u WHERE id > 18446744073709551600", 1},
				{"u WHERE id BETWEEN 18446744073709551300 AND 18446744073709551615", owners("u", "18446744073709551300", "18446744073709551400", "18446744073709551500", "18446744073709551615")},
				{"t", all},
				{"old WHERE id BETWEEN 0 AND 9", all},
			} {
				require.Equal(t, c.want, a.shardsOf(t, db, "SELECT v FROM "+c.where), c.where)
				require.Equal(t, c.want, a.shardsOf(t, db, "SELECT v FROM "+c.where+" ORDER BY id DESC"), c.where)
			}
		}
	}
	run(t, db, "BEGIN")
	require.Equal(t, 1, a.shardsOf(t, db, "SELECT v FROM t WHERE id BETWEEN 0 AND 99 FOR UPDATE"), "an interval is locked where its rows can be")
	run(t, db, "COMMIT")
}

// Blocks that are full come in one read of each shard, also where several are on one.
func TestARangeOfFullBlocksIsReadOnce(t *testing.T) {
	s, db, a, _ := blockApp(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	var rows strings.Builder
	for i := range 2560 {
		fmt.Fprintf(&rows, ", (%d, 1)", i)
	}
	run(t, db, "INSERT INTO t VALUES "+rows.String()[2:])
	require.Equal(t, uint8(newBlocks), s.table("app", "t").Blocks)
	for _, c := range []struct {
		where string
		rows  int
	}{
		{"BETWEEN 128 AND 255", 128},
		{"BETWEEN 100 AND 400", 301},
		{"BETWEEN 0 AND 2559", 2560},
	} {
		for _, q := range []string{"SELECT v FROM t WHERE id " + c.where, "SELECT v FROM t WHERE id " + c.where + " ORDER BY id DESC"} {
			for range 3 { // the fast path learns first
				require.Equal(t, a.shardsOf(t, db, q), a.reads, q)
				require.Len(t, query(t, db, q), c.rows)
			}
		}
	}
}

// The same statements find the same rows wherever these are.
func TestBlocksChangeNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(seedOf(t, 83), 1))
	s, db, _, blocks := blockApp(t)
	for _, k := range []struct {
		typ      string
		least, n int64
		unsigned uint64 // beside these
	}{
		{"TINYINT", -128, 256, 0}, {"SMALLINT", -32768, 600, 0}, {"SMALLINT UNSIGNED", 65000, 536, 0}, {"MEDIUMINT", -300, 600, 0}, {"INT", -300, 3000, 0},
		{"INT UNSIGNED", 4294966000, 1296, 0}, {"BIGINT", math.MinInt64, 700, 0}, {"BIGINT", math.MaxInt64 - 700, 701, 0}, {"BIGINT UNSIGNED", 0, 500, math.MaxUint64},
	} {
		name := strings.ReplaceAll(k.typ, " ", "_")
		tables := []string{"old_" + name, "new_" + name}
		var values []string
		number := func() string {
			n := k.least + r.Int64N(k.n)
			if k.unsigned > 0 && r.IntN(2) == 0 {
				return strconv.FormatUint(k.unsigned-uint64(n), 10)
			}
			return strconv.FormatInt(n, 10)
		}
		seen := map[string]bool{}
		for range 300 {
			if n := number(); !seen[n] {
				seen[n] = true
				values = append(values, fmt.Sprintf("(%s, %d)", n, r.IntN(5)))
			}
		}
		for i, table := range tables {
			blocks.Store(i == 1)
			run(t, db, "DROP TABLE IF EXISTS "+table, "CREATE TABLE "+table+" (id "+k.typ+" PRIMARY KEY, v INT, KEY (v))",
				"INSERT INTO "+table+" VALUES "+strings.Join(values, ", "))
		}
		require.Equal(t, uint8(0), s.table("app", tables[0]).Blocks)
		require.Equal(t, uint8(newBlocks), s.table("app", tables[1]).Blocks)
		bound := func() string {
			switch r.IntN(12) {
			case 0:
				return pickOf(r, "-129", "128", "256", "-40000", "70000", "5000000000", "-5000000000", "9223372036854775808", "18446744073709551616", "-9223372036854775809", "NULL")
			case 1:
				return number() + ".5"
			}
			return number()
		}
		condition := func() string {
			switch r.IntN(7) {
			case 0:
				return "id " + pickOf(r, "<", "<=", ">", ">=", "=", "<=>") + " " + bound()
			case 1:
				return "id BETWEEN " + bound() + " AND " + bound() + " OR id BETWEEN " + bound() + " AND " + bound()
			case 2:
				return "id IN (" + bound() + ", " + bound() + ", " + bound() + ")"
			case 3:
				from := number()
				return "id >= " + from + " AND id <= " + from + " + 40"
			case 4:
				return "id BETWEEN " + bound() + " AND " + bound() + " AND v = 2"
			}
			return "id > " + bound() + " AND id <= " + bound()
		}
		for range 8 {
			where, tail := condition(), pickOf(r, "", "", " ORDER BY id DESC", " ORDER BY id", " ORDER BY id LIMIT 3", " ORDER BY id DESC LIMIT 2", " FOR UPDATE", " ORDER BY id DESC LIMIT 4 FOR SHARE")
			isolation := pickOf(r, "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
			var answers [2]string
			for i, table := range tables {
				run(t, db, "SET SESSION TRANSACTION ISOLATION LEVEL "+isolation, "BEGIN")
				var b strings.Builder
				statement := func(q string) {
					lines, err := tryQuery(db, q)
					fmt.Fprintln(&b, lines, err)
				}
				statement("SELECT id, v FROM " + table + " WHERE " + where + tail)
				statement("SELECT COUNT(*), SUM(v), MIN(id), MAX(id) FROM " + table + " WHERE " + where)
				statement("SELECT a.id, b.v FROM " + table + " a JOIN " + table + " b ON a.id = b.id WHERE a." + strings.ReplaceAll(where, " OR id", " OR a.id") + " AND a.v < 9 ORDER BY a.id, b.v")
				statement("UPDATE " + table + " SET v = v + 10 WHERE " + where)
				statement("SELECT id, v FROM " + table + " WHERE " + where + " ORDER BY id")
				statement("DELETE FROM " + table + " WHERE v > 11 AND (" + where + ")")
				statement("SELECT id, v FROM " + table + " ORDER BY id")
				run(t, db, "ROLLBACK")
				answers[i] = strings.ReplaceAll(b.String(), table, "t")
			}
			require.Equal(t, answers[0], answers[1], "%s: %s%s", k.typ, where, tail)
		}
		for _, table := range tables {
			require.Contains(t, query(t, db, "CALL rowlock.check_table('app', '"+table+"')")[0], "v,none")
		}
	}
}

func pickOf(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }

// every10 is values of rows with every tenth id.
func every10(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, ", (%d, 1)", 10*i+3)
	}
	return b.String()
}

// Nothing comes into a range that is locked, at none of its ends and on no shard.
func TestARangeOverBlocksStaysTrue(t *testing.T) {
	s, db := appWithBlocks(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1000, 1)"+every10(-500, 1500))
	require.Equal(t, uint8(newBlocks), s.table("app", "t").Blocks)
	a, b := connection(t, db), connection(t, db)
	for _, c := range []struct{ read, change string }{
		{"SELECT id FROM t WHERE id BETWEEN 100 AND 400 FOR UPDATE", "INSERT INTO t VALUES (100, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 100 AND 400 FOR UPDATE", "INSERT INTO t VALUES (127, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 100 AND 400 FOR SHARE", "INSERT INTO t VALUES (128, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 100 AND 400 FOR SHARE", "INSERT INTO t VALUES (300, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 100 AND 400 FOR SHARE", "INSERT INTO t VALUES (384, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 100 AND 400 FOR SHARE", "INSERT INTO t VALUES (400, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 100 AND 384 FOR UPDATE", "INSERT INTO t VALUES (384, 0)"},
		{"SELECT id FROM t WHERE id > 127 AND id < 257 FOR UPDATE", "INSERT INTO t VALUES (256, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN -130 AND 5 FOR UPDATE", "INSERT INTO t VALUES (-129, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN -130 AND 5 FOR UPDATE", "INSERT INTO t VALUES (-1, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN -130 AND 5 FOR UPDATE", "UPDATE t SET id = 0 WHERE id = 1000"},
		{"SELECT id FROM t WHERE id BETWEEN 600 AND 900 ORDER BY id DESC FOR UPDATE", "UPDATE t SET id = 700 WHERE id = 1000"},
		{"SELECT id FROM t WHERE id BETWEEN 100 AND 130 OR id BETWEEN 600 AND 700 FOR UPDATE", "INSERT INTO t VALUES (690, 0)"},
		{"SELECT id FROM t WHERE id > 5000 FOR UPDATE", "INSERT INTO t VALUES (7000, 0)"},
		{"SELECT id FROM t WHERE id BETWEEN 0 AND 100000 FOR SHARE", "INSERT INTO t VALUES (50000, 0)"},
	} {
		t.Run(c.read+" "+c.change, func(t *testing.T) {
			run(t, a, "BEGIN")
			before := query(t, a, c.read)
			run(t, b, "BEGIN", "INSERT INTO t VALUES (-10000, 1)", "ROLLBACK", "BEGIN") // that is outside
			done := s.waits(t, b, c.change)
			require.Equal(t, before, query(t, a, c.read))
			run(t, a, "ROLLBACK")
			require.NoError(t, <-done)
			run(t, b, "ROLLBACK")
		})
	}
}

// Rows keep their places until they get new ones, with a new index.
func TestBlocksGoWithTheRows(t *testing.T) {
	s, db, _, blocks := blockApp(t)
	const rows = 300
	check := func(table string) {
		t.Helper()
		require.Equal(t, []string{fmt.Sprint(rows)}, query(t, db, "SELECT COUNT(*) FROM "+table+" WHERE id >= 0"))
		require.Equal(t, []string{"100"}, query(t, db, "SELECT COUNT(*) FROM "+table+" WHERE id BETWEEN 200 AND 299"))
		for _, id := range []int{0, 127, 128, 299} {
			require.Equal(t, []string{fmt.Sprint(id)}, query(t, db, fmt.Sprintf("SELECT id FROM %s WHERE id = %d", table, id)))
		}
		require.Equal(t, []string{"30"}, query(t, db, "SELECT COUNT(*) FROM "+table+" FORCE INDEX (v) WHERE v = 3 AND s <> 'x'"))
		require.Contains(t, query(t, db, "CALL rowlock.check_table('app', '"+table+"')")[0], "v,none")
	}
	for _, before := range []bool{false, true} {
		for i, c := range []struct {
			statement string
			moved     bool // to new places
			blocks    bool // if so
		}{
			{"ALTER TABLE t ADD COLUMN x INT", false, false},
			{"ALTER TABLE t ADD COLUMN x INT DEFAULT 7 FIRST", false, false},
			{"ALTER TABLE t RENAME COLUMN s TO s2; ALTER TABLE t RENAME COLUMN s2 TO s", false, false},
			{"ALTER TABLE t COMMENT = 'c'", false, false},
			{"ALTER TABLE t ADD INDEX x (v, s)", false, false},
			{"CREATE UNIQUE INDEX x ON t (s)", false, false},
			{"ALTER TABLE t ADD CHECK (id < 1000000)", false, false},
			{"RENAME TABLE t TO r; RENAME TABLE r TO t", false, false},
			{"ANALYZE TABLE t", false, false},
			{"ALTER TABLE t MODIFY COLUMN id BIGINT", true, true},
			{"ALTER TABLE t MODIFY COLUMN id BIGINT UNSIGNED", true, true},
			{"ALTER TABLE t MODIFY COLUMN v BIGINT", true, true},
			{"ALTER TABLE t MODIFY COLUMN id DECIMAL(10)", true, false},
			{"ALTER TABLE t DROP PRIMARY KEY", true, false},
			{"ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, v)", true, false},
			{"ALTER TABLE t DROP PRIMARY KEY; ALTER TABLE t ADD PRIMARY KEY (id)", true, true},
			{"ALTER TABLE t MODIFY COLUMN id DECIMAL(10); ALTER TABLE t MODIFY COLUMN id INT", true, true},
			{"CREATE TABLE u LIKE t; INSERT INTO u SELECT * FROM t; DROP TABLE t; RENAME TABLE u TO t", true, true},
			{"CREATE TABLE u AS SELECT * FROM t; TRUNCATE TABLE t; INSERT INTO t SELECT * FROM u; DROP TABLE u", true, true},
		} {
			if before && i%3 > 0 {
				continue // what has blocks keeps or loses them in fewer ways
			}
			run(t, db, "DROP TABLE IF EXISTS t")
			blocks.Store(before)
			run(t, db, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20), KEY v (v))", fillRows(rows))
			old := s.table("app", "t")
			require.Equal(t, before, old.Blocks == newBlocks)
			blocks.Store(true)
			for _, statement := range strings.Split(c.statement, "; ") {
				run(t, db, statement)
			}
			next := s.table("app", "t")
			require.Equal(t, c.moved, next.Rows != old.Rows, c.statement)
			if c.moved {
				require.Equal(t, c.blocks, next.Blocks == newBlocks, c.statement)
			} else {
				require.Equal(t, old.Blocks, next.Blocks, c.statement)
			}
			check("t")
			require.NotContains(t, query(t, db, "SHOW CREATE TABLE t")[0], "PARTITION")
			run(t, db, "DROP TABLE t")
			s.collected(t)
			for _, id := range append(old.DataIDs(), next.DataIDs()...) {
				require.Zero(t, s.keysUnder(t, id), c.statement)
			}
		}
	}
}

// Only new tables with one integer as their key have blocks, and only where everybody
// knows them.
func TestWhichTablesHaveBlocks(t *testing.T) {
	s, db, _, blocks := blockApp(t, "CREATE TABLE like_this (id INT PRIMARY KEY)")
	for _, c := range []struct {
		columns string
		want    uint8
	}{
		{"id INT PRIMARY KEY", 7}, {"id INT AUTO_INCREMENT PRIMARY KEY, v INT", 7}, {"v INT, id TINYINT UNSIGNED, PRIMARY KEY (id)", 7}, {"id BOOLEAN PRIMARY KEY", 7},
		{"id BIGINT UNSIGNED PRIMARY KEY", 7}, {"id SERIAL PRIMARY KEY", 7}, {"id SMALLINT PRIMARY KEY, UNIQUE KEY (id)", 7}, {"id MEDIUMINT PRIMARY KEY", 7},
		{"id INT, v INT, PRIMARY KEY (id, v)", 0}, {"id INT", 0}, {"id INT UNIQUE NOT NULL", 0}, {"id VARCHAR(10) PRIMARY KEY", 0}, {"id DECIMAL(5) PRIMARY KEY", 0},
		{"id YEAR PRIMARY KEY", 0}, {"id BIT(5) PRIMARY KEY", 0}, {"id DATE PRIMARY KEY", 0}, {"id DOUBLE PRIMARY KEY", 0}, {"id ENUM('a') PRIMARY KEY", 0}, {"id SET('a') PRIMARY KEY", 0},
	} {
		for _, on := range []bool{true, false} {
			blocks.Store(on)
			run(t, db, "CREATE TABLE t ("+c.columns+")")
			want := c.want
			if !on {
				want = 0
			}
			require.Equal(t, want, s.table("app", "t").Blocks, c.columns)
			run(t, db, "DROP TABLE t")
		}
	}
	blocks.Store(true)
	run(t, db, "CREATE TABLE t (id INT PRIMARY KEY) PARTITION BY KEY (id)")
	require.Zero(t, s.table("app", "t").Blocks)
	blocks.Store(false)
	run(t, db, "CREATE TABLE u LIKE like_this")
	require.Zero(t, s.table("app", "u").Blocks)
}

// A temporary table's rows, their end with the session, a load of a file, foreign keys:
// all of them find the rows where they are.
func TestBlocksElsewhere(t *testing.T) {
	s, db := appWithBlocks(t, "CREATE TABLE p (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "CREATE TABLE c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)")
	a := connection(t, db)
	run(t, a, "CREATE TEMPORARY TABLE x (id INT PRIMARY KEY, v INT, s VARCHAR(20))", strings.Replace(fillRows(500), "INTO t", "INTO x", 1),
		"UPDATE x SET id = id + 1000 WHERE id BETWEEN 100 AND 399", "DELETE FROM x WHERE id BETWEEN 1200 AND 1299")
	require.Equal(t, []string{"400,1399"}, query(t, a, "SELECT COUNT(*), MAX(id) FROM x"))
	require.Equal(t, []string{"100"}, query(t, a, "SELECT COUNT(*) FROM x WHERE id BETWEEN 1300 AND 1399"))
	run(t, a, "DROP TEMPORARY TABLE x")

	run(t, a, "INSERT INTO p (v) VALUES (1)"+strings.Repeat(", (1)", 399), "INSERT INTO c SELECT id, id FROM p")
	require.Error(t, execErr(a, "INSERT INTO c VALUES (1000, 1000)"))
	run(t, a, "DELETE FROM p WHERE id BETWEEN 100 AND 299")
	require.Equal(t, []string{"200"}, query(t, a, "SELECT COUNT(*) FROM c"))
	require.Equal(t, []string{"28"}, query(t, a, "SELECT COUNT(*) FROM c JOIN p ON p.id = c.p WHERE c.id BETWEEN 300 AND 327"))
	require.Equal(t, 200, s.keysUnder(t, s.table("app", "p").Rows))
}

// What is to be removed says so too: an older release would look for it elsewhere.
func TestGarbageOfTablesWithBlocks(t *testing.T) {
	for want, desc := range map[byte]*catalog.Table{1: {ID: 3, Rows: 4, Key: []catalog.IndexColumn{{Column: 1}}}, 2: {ID: 3, Rows: 4, Key: []catalog.IndexColumn{{Column: 1}}, Blocks: 7}} {
		data, err := catalog.EncodeRecord(deadData{ID: 4, Table: desc})
		require.NoError(t, err)
		require.Equal(t, want, data[0])
		var back deadData
		require.NoError(t, catalog.DecodeRecord(data, &back))
		require.Equal(t, deadData{ID: 4, Table: desc}, back)
	}
}

// A descriptor that says what cannot be is refused.
func TestDescriptorsOfBlocks(t *testing.T) {
	s, _ := app(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id VARCHAR(5) PRIMARY KEY)", "CREATE TABLE w (id INT, v INT, PRIMARY KEY (id, v))")
	for table, blocks := range map[string]uint8{"t": largestBlocks + 1, "u": 7, "w": 7} {
		desc := s.table("app", table).Clone()
		desc.Blocks = blocks
		_, err := compileTable("app", desc)
		require.ErrorIs(t, err, catalog.ErrCorrupt, table)
	}
	for _, blocks := range []uint8{0, 1, 10, largestBlocks} {
		desc := s.table("app", "t").Clone()
		desc.Blocks = blocks
		info, err := compileTable("app", desc)
		require.NoError(t, err)
		require.Equal(t, rowBlocks(blocks), info.primary.blocks)
	}
}

// A gateway that may not make such tables uses those of others.
func TestGatewaysOfTwoMinds(t *testing.T) {
	s, db := appWithBlocks(t)
	s.config.Blocks = nil
	g := s.second(2)
	other := g.db("app")
	run(t, db, "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20), KEY v (v))")
	run(t, other, strings.Replace(fillRows(300), "INTO t", "INTO t", 1), "CREATE TABLE old LIKE t", "INSERT INTO old SELECT * FROM t")
	require.Equal(t, []uint8{newBlocks, 0}, []uint8{s.table("app", "t").Blocks, s.table("app", "old").Blocks})
	for _, d := range []*sql.DB{db, other} {
		for _, table := range []string{"t", "old"} {
			run(t, d, "UPDATE "+table+" SET v = v + 1 WHERE id BETWEEN 100 AND 199", "DELETE FROM "+table+" WHERE id = 128", "INSERT INTO "+table+" VALUES (128, 3, 'x')")
		}
	}
	for _, d := range []*sql.DB{db, other} {
		require.Equal(t, query(t, d, "SELECT * FROM t ORDER BY id"), query(t, d, "SELECT * FROM old ORDER BY id"))
		require.Equal(t, []string{"100"}, query(t, d, "SELECT COUNT(*) FROM t WHERE id BETWEEN 100 AND 199"))
	}
	run(t, other, "TRUNCATE TABLE t")
	run(t, db, "TRUNCATE TABLE old")
	require.Equal(t, []uint8{0, newBlocks}, []uint8{s.table("app", "t").Blocks, s.table("app", "old").Blocks})
}
