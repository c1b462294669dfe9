package sqlfront

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// lineFormat is how a file is written and what the statement says of it.
type lineFormat struct {
	says, field, line, enclosed, start string
}

var lineFormats = []lineFormat{
	{"", "\t", "\n", "", ""},
	{`FIELDS TERMINATED BY ',' ENCLOSED BY '"'`, ",", "\n", `"`, ""},
	{`FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '"' ESCAPED BY '"' LINES TERMINATED BY '\r\n'`, ",", "\r\n", `"`, ""},
	{`FIELDS TERMINATED BY '||' ESCAPED BY '' LINES TERMINATED BY '\r\n' STARTING BY 'xx'`, "||", "\r\n", "", "xx"},
	{`FIELDS TERMINATED BY ';' ENCLOSED BY '$' ESCAPED BY '$' LINES TERMINATED BY 'ENDE'`, ";", "ENDE", "$", ""},
	{`FIELDS TERMINATED BY ',' ENCLOSED BY '' ESCAPED BY 'N' LINES TERMINATED BY '\n\n'`, ",", "\n\n", "", ""},
	{`FIELDS TERMINATED BY '"' ENCLOSED BY '"' LINES TERMINATED BY '\n' IGNORE 2 LINES`, `"`, "\n", `"`, ""},
	{`FIELDS TERMINATED BY 'aba' LINES STARTING BY 'ab'`, "aba", "\n", "", "ab"},
}

// oddPieces are put into fields here and there.
var oddPieces = []string{`"`, `""`, `\`, `\\`, `\N`, `N`, `NULL`, `\n`, `\t`, `\0`, `\Z`, `\b`, `\"`, `$`, `$$`, ",", ";", "|", "||", "\t", "\r", "ab", "aba",
	"xx", "EN", "é", "日本", "🙂", "\xff", "\xc3", "a\xe2\x82", "", " ", "0", "-", "+", "1.5", "1e3", "0x1F", "999999999999999999999999"}

func oddField(r *rand.Rand, f lineFormat) string {
	var b strings.Builder
	for range r.IntN(4) {
		if r.IntN(2) == 0 {
			b.WriteString(oddPieces[r.IntN(len(oddPieces))])
		} else {
			fmt.Fprintf(&b, "%d", r.IntN(1000)-200)
		}
	}
	if r.IntN(12) == 0 {
		b.WriteString(strings.Repeat("long", 8))
	}
	if f.enclosed != "" && r.IntN(2) == 0 {
		return f.enclosed + b.String() + f.enclosed
	}
	return b.String()
}

// linesText is a file whose first lines are plain and many of whose others are not.
func linesText(r *rand.Rand, f lineFormat, rows int) string {
	var b strings.Builder
	for i := range rows {
		fields := []string{fmt.Sprint(i%7 + 1), fmt.Sprintf("text %d", i), fmt.Sprint(int64(i) * 1234567891), fmt.Sprintf("more %d", i%9)}
		if i > loadAfter+20 {
			for k := range fields {
				if r.IntN(6) == 0 {
					fields[k] = oddField(r, f)
				}
			}
			switch r.IntN(15) {
			case 0:
				fields = fields[:r.IntN(len(fields))]
			case 1:
				fields = append(fields, oddField(r, f))
			case 2:
				fields = []string{""}
			}
		}
		if f.start != "" && r.IntN(30) > 0 {
			b.WriteString([]string{"", "before ", "a"}[r.IntN(3)] + f.start)
		}
		b.WriteString(strings.Join(fields, f.field))
		if i+1 < rows || r.IntN(2) == 0 {
			b.WriteString(f.line)
		}
	}
	return b.String()
}

// Whatever is in a file: rows, affected rows, warnings and errors are those of the
// engine, which sees some of its lines or all.
func TestLoadDataLines(t *testing.T) {
	var sent atomic.Int64
	s := newLoadStack(t, &sent)
	db := connection(t, s.db("", ""))
	run(t, db, "SET GLOBAL local_infile = 1", "SET max_error_count = 1000", "CREATE DATABASE d", "USE d")
	tables := []string{
		"n TINYINT NOT NULL, b VARCHAR(12), big BIGINT, e TEXT NOT NULL",
		"n INT UNSIGNED, b VARCHAR(12) NOT NULL, big BIGINT UNSIGNED NOT NULL, e CHAR(10) COLLATE utf8mb4_bin, UNIQUE KEY (e, b), KEY (big)",
		"n SMALLINT, b TINYTEXT, big MEDIUMINT UNSIGNED, e VARCHAR(12), id INT PRIMARY KEY AUTO_INCREMENT",
		"n INT, b VARCHAR(12), big BIGINT PRIMARY KEY, e VARCHAR(9)",
		"n INT, b VARCHAR(12), big BIGINT AUTO_INCREMENT, e VARCHAR(9), KEY (big)",
	}
	modes := []string{"", "STRICT_TRANS_TABLES", "NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES"}
	r := rand.New(rand.NewPCG(87, 1))
	for i, f := range lineFormats {
		for k, columns := range tables {
			if k > 0 && (i+k)%2 == 0 {
				continue // half of them are enough
			}
			text := linesText(r, f, loadAfter+180)
			mode := modes[r.IntN(len(modes))]
			local := []string{"", "IGNORE"}[r.IntN(2)]
			statement := "LOAD DATA LOCAL INFILE %s " + local + " INTO TABLE t " + f.says
			if k == 2 || r.IntN(2) == 0 {
				statement += " (n, b, big, e)"
			}
			t.Run(fmt.Sprintf("format %d table %d", i, k), func(t *testing.T) {
				type left struct {
					affected       int64
					err            string
					warnings, rows []string
				}
				var both [2]left
				for way := range both {
					run(t, db, "DROP TABLE IF EXISTS t", "CREATE TABLE t ("+columns+")", fmt.Sprintf("SET sql_mode = '%s', rowlock_bulk_load = %d", mode, way))
					plain := s.server.loadedPlain.Load()
					l := &both[way]
					var err error
					l.affected, err, l.warnings, l.rows = outcomeOf(t, db, statement, text)
					if err != nil {
						l.err = err.Error()
					}
					if k == 0 || k == 2 || k == 4 {
						slices.Sort(l.rows)
					}
					if k != 2 && err == nil { // id is not in the file
						require.Equal(t, way == 1, s.server.loadedPlain.Load() > plain, "%s %s %s", statement, mode, l.err)
					}
					l.rows = append(l.rows, query(t, db, "SELECT COUNT(*), SUM(n), SUM(LENGTH(b)) FROM t")...)
				}
				require.Equal(t, both[0], both[1], "%s\n%q", statement, text)
			})
		}
	}
}

// A line that is longer than what is read at once, in parts or whole, is one line.
func TestLoadDataLongLines(t *testing.T) {
	var sent atomic.Int64
	s := newLoadStack(t, &sent)
	db := connection(t, s.db("", ""))
	run(t, db, "SET GLOBAL local_infile = 1", "CREATE DATABASE d", "USE d", "CREATE TABLE t (id INT PRIMARY KEY, b LONGTEXT)")
	var b strings.Builder
	sizes := []int{0, loadBuffer - 10, loadBuffer + 1, loadLine - 3, 2*loadLine + 5, loadLine + 100}
	for i := range loadAfter + 60 {
		size := i % 20
		if i > loadAfter+10 && i%8 == 0 {
			size = sizes[i/8%len(sizes)]
		}
		fmt.Fprintf(&b, "%d\t%s\n", i, strings.Repeat("x", size))
	}
	var both [2][]string
	for way := range both {
		run(t, db, "TRUNCATE t", fmt.Sprintf("SET rowlock_bulk_load = %d", way))
		n, err := loadFile(db, "LOAD DATA LOCAL INFILE %s INTO TABLE t", b.String())
		require.NoError(t, err)
		require.EqualValues(t, loadAfter+60, n)
		both[way] = query(t, db, "SELECT id, LENGTH(b), MD5(b) FROM t ORDER BY id")
	}
	require.Equal(t, both[0], both[1])
}
