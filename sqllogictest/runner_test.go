package sqllogictest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runText runs one script against an endpoint with these answers.
func runText(t *testing.T, text string, answers map[string]answer, o Options) (*Report, *endpoint, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.slt")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	e := newEndpoint(answers)
	o.Open = e.open
	report, err := Run(t.Context(), []string{path}, o)
	require.NoError(t, err)
	return report, e, path
}

var table = map[string]answer{
	"ok":      {},
	"three":   {affected: 3},
	"none":    {columns: 1},
	"numbers": {columns: 2, values: []any{int64(2), "b", int64(10), "a", int64(1), nil}},
	"reals":   {columns: 1, values: []any{"1.0005", "-3", nil, 2.5}},
	"texts":   {columns: 1, values: []any{"", "a\tb", "é", "plain"}},
	"wide":    {columns: 1, values: []any{"12.9", "-0.5", "abc", "18446744073709551615", "1e3"}},
	"dup":     {err: errors.New("Error 1062 (23000): Duplicate entry '1'")},
	"other":   {columns: 2, values: []any{int64(1), nil, int64(2), "b", int64(10), "a"}},
	"several": {err: errors.New("Error 1105 (HY000): first\n\nthird")},
}

func TestOutcomes(t *testing.T) {
	const pass = "1 passed, 0 failed, 0 skipped"
	const fail = "0 passed, 1 failed, 0 skipped"
	const skip = "0 passed, 0 failed, 1 skipped"
	cases := []struct{ name, script, want string }{
		{"statement", "statement ok\nok\n", pass},
		{"statement that fails", "statement ok\ndup\n", fail},
		{"statement that must fail", "statement error\nok\n", fail},
		{"any error", "statement error\ndup\n", pass},
		{"error by number", "statement error 1062\ndup\n", pass},
		{"another number", "statement error 1063\ndup\n", fail},
		{"error by state", "query error 23000\ndup\n", pass},
		{"error by pattern", "statement error Duplicate .* '1'\ndup\n", pass},
		{"another pattern", "statement error Duplicate .* '2'\ndup\n", fail},
		{"error by lines", "statement error\nseveral\n----\nfirst\n\nthird\n\n\n", pass},
		{"other lines", "statement error\nseveral\n----\nfirst\n\n\n", fail},
		{"count", "statement count 3\nthree\n", pass},
		{"another count", "statement count 2\nthree\n", fail},
		{"rows in order", "query IT nosort\nnumbers\n----\n2\nb\n10\na\n1\nNULL\n", pass},
		{"no sort mode is nosort", "query IT\nnumbers\n----\n2\nb\n10\na\n1\nNULL\n", pass},
		{"rows sorted as text", "query IT rowsort\nnumbers\n----\n1\nNULL\n10\na\n2\nb\n", pass},
		{"values sorted", "query IT valuesort\nnumbers\n----\n1\n10\n2\nNULL\na\nb\n", pass},
		{"sort mode of the script", "control sortmode rowsort\n\nquery IT\nnumbers\n----\n1\nNULL\n10\na\n2\nb\n", pass},
		{"rows on lines", "query IT nosort\nnumbers\n----\n2  b\n10\ta\n1 NULL\n", pass},
		{"rows on lines that differ", "query IT nosort\nnumbers\n----\n2 b\n10 a\n1 b\n", fail},
		{"rows on lines, refused", "control resultmode valuewise\n\nquery IT\nnumbers\n----\n2 b\n10 a\n1 NULL\n", fail},
		{"columns", "query I nosort\nnumbers\n----\n2\n", fail},
		{"one value too few", "query IT nosort\nnumbers\n----\n2\nb\n10\na\n1\n", fail},
		{"empty result", "query I nosort\nnone\n----\n", pass},
		{"result instead of none", "query IT nosort\nnumbers\n----\n", fail},
		{"unchecked query", "query IT\nnumbers\n", pass},
		{"reals", "query R nosort\nreals\n----\n1.000\n-3.000\nNULL\n2.500\n", pass},
		{"texts", "query T nosort\ntexts\n----\n(empty)\na@b\n@@\nplain\n", pass},
		{"texts of a script that writes unicode", "query T nosort\ntexts\n----\n(empty)\na@b\né\nplain\n", pass},
		{"integers", "query I nosort\nwide\n----\n12\n0\n0\n18446744073709551615\n1000\n", pass},
		// md5 of "2\nb\n10\na\n1\nNULL\n"
		{"hash", "query IT nosort\nnumbers\n----\n6 values hashing to f9ccd1c87449dfe16a4be315139293f0\n", pass},
		{"another hash", "query IT nosort\nnumbers\n----\n6 values hashing to 3c13dee48d9356ae19af2515e05e6b54\n", fail},
		{"another number of values", "query IT nosort\nnumbers\n----\n5 values hashing to f9ccd1c87449dfe16a4be315139293f0\n", fail},
		{"not for this engine", "skipif mysql\nstatement ok\ndup\n", skip},
		{"only for another", "onlyif mssql\nstatement ok\ndup\n", skip},
		{"both conditions", "onlyif mysql\nskipif mssql\nstatement ok\nok\n", pass},
		{"halt", "statement ok\nok\n\nonlyif mysql\nhalt\n\nstatement ok\ndup\n", pass},
		{"halt of another engine", "onlyif mssql\nhalt\n\nstatement ok\ndup\n", fail},
		{"system is refused", "system ok\ntrue\n", fail},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			report, e, _ := runText(t, c.script, table, Options{})
			require.Equal(t, c.want, report.Summary(), "%+v", report.Files)
			require.Equal(t, 1, e.mu.dropped, "the script's database is gone")
		})
	}
}

func TestLabels(t *testing.T) {
	same := "query IT rowsort l\nnumbers\n\nquery IT rowsort l\nother\n"
	report, _, _ := runText(t, same, table, Options{})
	require.Equal(t, "2 passed, 0 failed, 0 skipped", report.Summary())

	differ := "query IT rowsort l\nnumbers\n\nquery IT nosort l\nnumbers\n"
	report, _, _ = runText(t, differ, table, Options{})
	require.Equal(t, "1 passed, 1 failed, 0 skipped", report.Summary())
	require.Contains(t, report.Files[0].Failures[0].Reason, "label l had another result at")
}

func TestRetry(t *testing.T) {
	failures := 2
	answers := map[string]answer{"flaky": {err: errors.New("not yet"), failures: &failures}}
	report, e, _ := runText(t, "statement ok retry 3 backoff 1ms\nflaky\n", answers, Options{})
	require.Equal(t, "1 passed, 0 failed, 0 skipped", report.Summary())
	require.Zero(t, failures)
	require.Len(t, e.mu.asked, 5, "create, three attempts, drop: %q", e.mu.asked)
}

func TestVariablesAndSystem(t *testing.T) {
	answers := map[string]answer{
		"pair":       {columns: 2, values: []any{int64(7), "seven"}},
		"get 7":      {columns: 1, values: []any{int64(7)}},
		"get seven$": {columns: 1, values: []any{int64(7)}},
		"get $a":     {columns: 1, values: []any{int64(0)}},
	}
	script := `
query I
get $a
----
0

control substitution on

let a, b
pair

query I
get ${a}
----
7

query I
get ${none:$b}\$
----
7

system ok
echo "hello"
----
hello


statement error variable none is not set
get $none
`
	report, _, _ := runText(t, script, answers, Options{AllowSystem: true})
	// A name without a value is a failure of the record, not an error of the server.
	require.Equal(t, "5 passed, 1 failed, 0 skipped", report.Summary(), "%+v", report.Files)
}

func TestConnections(t *testing.T) {
	script := "statement ok\nok\n\nconnection a\nstatement ok\nok\n\nconnection a\nstatement ok\nok\n\nstatement ok\nok\n"
	_, e, _ := runText(t, script, table, Options{})
	require.Equal(t, 3, e.mu.conns, "one to create the database, the default one, and a")
}

// A record over its time limit fails, and those behind it still run.
func TestTimeLimit(t *testing.T) {
	answers := map[string]answer{"slow": {block: true}, "ok": {}}
	report, _, _ := runText(t, "statement ok\nslow\n\nstatement ok\nok\n", answers, Options{Timeout: 10 * time.Millisecond})
	require.Equal(t, "1 passed, 1 failed, 0 skipped", report.Summary())
	require.Contains(t, report.Files[0].Failures[0].Reason, "no answer within 10ms")
}

func TestMalformedScriptIsAFailure(t *testing.T) {
	folder := t.TempDir()
	bad, good := filepath.Join(folder, "bad.slt"), filepath.Join(folder, "good.slt")
	require.NoError(t, os.WriteFile(bad, []byte("statement ok\nok\n\nstatment ok\n"), 0o644))
	require.NoError(t, os.WriteFile(good, []byte("statement ok\nok\n"), 0o644))
	e := newEndpoint(table)
	report, err := Run(t.Context(), []string{bad, good}, Options{Open: e.open})
	require.NoError(t, err)
	require.Equal(t, "1 passed, 1 failed, 0 skipped", report.Summary())
	require.Equal(t, bad+`:4: unknown directive "statment"`, report.Files[0].Error)
	require.Len(t, e.mu.asked, 3, "the malformed script ran nothing: %q", e.mu.asked)
}

func TestNoEndpoint(t *testing.T) {
	e := newEndpoint(nil)
	delete(e.mu.databases, "")
	_, err := Run(t.Context(), nil, Options{Open: e.open})
	require.ErrorIs(t, err, errNoConnection)
}

func TestReports(t *testing.T) {
	script := "subtest one\nstatement ok\nok\n\nquery IT rowsort\nnumbers\n----\n1\n\nskipif mysql\nstatement ok\nok\n"
	var last Progress
	report, _, path := runText(t, script, table, Options{Progress: func(p Progress) { last = p }})
	require.Equal(t, Progress{Files: 1, FilesDone: 1, Passed: 1, Failed: 1, Skipped: 1, Fraction: 1, Elapsed: last.Elapsed}, last)

	var text bytes.Buffer
	require.NoError(t, report.WriteText(&text, 5))
	for _, part := range []string{path + ":5: 6 lines of result instead of 1", "subtest one", "numbers", "NULL", filepath.Dir(path)} {
		require.Contains(t, text.String(), part)
	}
	require.True(t, strings.HasSuffix(text.String(), "\n1 passed, 1 failed, 1 skipped\n"), text.String())

	var encoded bytes.Buffer
	require.NoError(t, report.WriteJSON(&encoded))
	var decoded Report
	require.NoError(t, json.Unmarshal(encoded.Bytes(), &decoded))
	require.Equal(t, report.Failed, decoded.Failed)
	require.Equal(t, []string{"1"}, decoded.Files[0].Failures[0].Want)

	var junit bytes.Buffer
	require.NoError(t, report.WriteJUnit(&junit))
	var suites junitSuites
	require.NoError(t, xml.Unmarshal(junit.Bytes(), &suites))
	require.Equal(t, 1, suites.Suites[0].Failures)
	require.Contains(t, suites.Suites[0].Cases[0].Failure.Text, "6 lines of result instead of 1")
}

// A rewritten script passes, and what was right stays as it was.
func TestRewrite(t *testing.T) {
	script := `# kept
hash-threshold 4

statement ok
dup

statement error
ok

statement count 9
three

query IT nosort
other
----
wrong

query I rowsort
wide
----

query IT nosort
other

control resultmode rowwise

query IT rowsort
numbers
----
1 x

query I nosort
dup
----
1

# the end
`
	report, _, path := runText(t, script, table, Options{Rewrite: true})
	require.Equal(t, "1 passed, 7 failed, 0 skipped", report.Summary())
	e := newEndpoint(table)
	again, err := Run(t.Context(), []string{path}, Options{Open: e.open})
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "8 passed, 0 failed, 0 skipped", again.Summary(), string(text))
	for _, part := range []string{"# kept\n", "statement error 1062\ndup\n", "statement ok\nok\n", "statement count 3\n", "values hashing to", "1 NULL\n10 a\n2 b\n", "query error 1062\ndup\n\n# the end\n"} {
		require.Contains(t, string(text), part)
	}
}
