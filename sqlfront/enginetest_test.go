package sqlfront

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	process "os/exec"
	"slices"
	"strings"
	"testing"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/enginetest"
	"github.com/dolthub/go-mysql-server/enginetest/scriptgen/setup"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/vt/sqlparser"
	"github.com/stretchr/testify/require"
)

// The SQL engine's own test suites run against this backend in a child process,
// because some of their cases fail and are known to: testdata/enginetest.txt
// lists them with reasons, and the failures have to be exactly those.

// suiteEnv tells the child which suite to run.
const suiteEnv = "ROWLOCK_ENGINE_SUITE"

var suites = map[string]func(*testing.T, enginetest.Harness){
	// Queries and statements, plain and prepared.
	"Queries":               enginetest.TestQueries,
	"QueriesPrepared":       enginetest.TestQueriesPrepared,
	"QueryErrors":           enginetest.TestQueryErrors,
	"OrderByGroupBy":        enginetest.TestOrderByGroupBy,
	"PreparedStatements":    enginetest.TestPreparedStatements,
	"Scripts":               enginetest.TestScripts,
	"ScriptsPrepared":       enginetest.TestScriptsPrepared,
	"Spatial":               enginetest.TestSpatialScripts,
	"Json":                  func(t *testing.T, h enginetest.Harness) { enginetest.TestJsonScripts(t, h, nil) },
	"InsertInto":            enginetest.TestInsertInto,
	"InsertQueriesPrepared": enginetest.TestInsertQueriesPrepared,
	"InsertScriptsPrepared": enginetest.TestInsertScriptsPrepared,
	"InsertErrors":          enginetest.TestInsertIntoErrors,
	"InsertIgnore":          enginetest.TestInsertIgnoreInto,
	"InsertDuplicateNoKey":  enginetest.TestInsertDuplicateKeyKeyless,
	"IgnoreDuplicateNoKey":  enginetest.TestIgnoreIntoWithDuplicateUniqueKeyKeyless,
	"ReplaceInto":           enginetest.TestReplaceInto,
	"ReplaceErrors":         enginetest.TestReplaceIntoErrors,
	"ReplacePrepared":       enginetest.TestReplaceQueriesPrepared,
	"Update":                enginetest.TestUpdate,
	"UpdateIgnore":          enginetest.TestUpdateIgnore,
	"UpdateErrors":          enginetest.TestUpdateErrors,
	"UpdatePrepared":        enginetest.TestUpdateQueriesPrepared,
	"Delete":                enginetest.TestDelete,
	"DeleteErrors":          enginetest.TestDeleteErrors,
	"DeletePrepared":        enginetest.TestDeleteQueriesPrepared,
	"Truncate":              enginetest.TestTruncate,
	"Blobs":                 enginetest.TestBlobs,
	// Definitions.
	"CreateDatabase":     enginetest.TestCreateDatabase,
	"DropDatabase":       enginetest.TestDropDatabase,
	"CreateTable":        enginetest.TestCreateTable,
	"DropTable":          enginetest.TestDropTable,
	"RenameTable":        enginetest.TestRenameTable,
	"AlterTable":         enginetest.TestAlterTable,
	"AddColumn":          enginetest.TestAddColumn,
	"ModifyColumn":       enginetest.TestModifyColumn,
	"RenameColumn":       enginetest.TestRenameColumn,
	"DropColumn":         enginetest.TestDropColumn,
	"DropColumnNoKey":    enginetest.TestDropColumnKeylessTables,
	"ColumnDefaults":     enginetest.TestColumnDefaults,
	"OnUpdate":           enginetest.TestOnUpdateExprScripts,
	"Generated":          enginetest.TestGeneratedColumns,
	"PrimaryKeys":        enginetest.TestAddDropPks,
	"PrimaryKeyOrder":    enginetest.TestPkOrdinalsDDL,
	"PrimaryKeyOrderDML": enginetest.TestPkOrdinalsDML,
	"Indexes":            enginetest.TestIndexes,
	"IndexPrefix":        enginetest.TestIndexPrefix,
	"IndexedExpressions": enginetest.TestIndexedExpressions,
	"NullRanges":         enginetest.TestNullRanges,
	"Checks":             enginetest.TestCreateCheckConstraints,
	"ChecksOnInsert":     enginetest.TestChecksOnInsert,
	"ChecksOnUpdate":     enginetest.TestChecksOnUpdate,
	"DropCheck":          enginetest.TestDropCheckConstraints,
	"ForeignKeys":        enginetest.TestForeignKeys,
	"CreateForeignKeys":  enginetest.TestCreateForeignKeys,
	"DropForeignKeys":    enginetest.TestDropForeignKeys,
	"Triggers":           enginetest.TestTriggers,
	"TriggerErrors":      enginetest.TestTriggerErrors,
	"RollbackTriggers":   enginetest.TestRollbackTriggers,
	"Procedures":         enginetest.TestStoredProcedures,
	"Views":              enginetest.TestViews,
	"Events":             enginetest.TestEvents,
	"Collations":         enginetest.TestCharsetCollationEngine,
	"InformationSchema":  enginetest.TestInfoSchema,
}

// TestEngineSuiteChild is the child's side of TestEngineSuites.
func TestEngineSuiteChild(t *testing.T) {
	run, ok := suites[os.Getenv(suiteEnv)]
	if !ok {
		return // not a child: TestEngineSuites starts it
	}
	run(t, newEngineHarness(t))
}

// minimum is the least share of a suite that has to pass. One small suite is
// mostly about a number that MySQL reports otherwise; the list says so.
var minimum = map[string]float64{"Truncate": 0.5}

// TestEngineSuites compares the failures of every suite with the list.
func TestEngineSuites(t *testing.T) {
	known := readKnownFailures(t)
	for _, name := range slices.Sorted(mapKeys(suites)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := runSuite(t, name)
			failed := slices.Sorted(mapKeys(result.failed))
			total := result.passed + len(failed)
			t.Logf("%d of %d leaf tests pass, %d skipped by the suite", result.passed, total, result.skipped)
			require.Positive(t, total, "the suite did not run")
			require.GreaterOrEqual(t, float64(result.passed)/float64(total), cmp.Or(minimum[name], 0.9))
			require.Empty(t, difference(failed, known[name]), "fail and are not listed")
			require.Empty(t, difference(known[name], failed), "are listed and pass")
		})
	}
}

type suiteResult struct {
	passed, skipped int
	failed          map[string]bool
}

// runSuite runs one suite in a child process and counts its leaf tests.
func runSuite(t *testing.T, name string) suiteResult {
	c := process.Command(os.Args[0], "-test.run=^TestEngineSuiteChild$", "-test.v", "-test.timeout=20m")
	c.Env = append(os.Environ(), suiteEnv+"="+name)
	output, err := c.CombinedOutput()
	var exit *process.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.Contains(t, string(output), "--- ", "suite %s died:\n%s", name, tail(output))
	require.NotContains(t, string(output), "\npanic:", tail(output))
	return parseSuite(output)
}

// parseSuite reads the verdicts of go test -v. A test that has subtests is not
// a leaf.
func parseSuite(output []byte) suiteResult {
	verdict := map[string]string{}
	parents := map[string]bool{}
	scanner := bufio.NewScanner(bytes.NewReader(output))
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		line := strings.TrimLeft(scanner.Text(), " ")
		for _, kind := range []string{"PASS", "FAIL", "SKIP"} {
			rest, ok := strings.CutPrefix(line, "--- "+kind+": ")
			if !ok {
				continue
			}
			if i := strings.LastIndex(rest, " ("); i >= 0 {
				rest = rest[:i]
			}
			verdict[rest] = kind
		}
	}
	for name := range verdict {
		for i := strings.LastIndex(name, "/"); i > 0; i = strings.LastIndex(name[:i], "/") {
			parents[name[:i]] = true
		}
	}
	r := suiteResult{failed: map[string]bool{}}
	for name, kind := range verdict {
		leaf := strings.TrimPrefix(name, "TestEngineSuiteChild/")
		switch {
		case name == "TestEngineSuiteChild" || parents[name]:
		case kind == "PASS":
			r.passed++
		case kind == "SKIP":
			r.skipped++
		default:
			r.failed[leaf] = true
		}
	}
	return r
}

func tail(output []byte) string {
	return string(output[max(0, len(output)-4000):])
}

// readKnownFailures reads lines "suite<TAB>test", grouped under reasons, which
// are comment lines.
func readKnownFailures(t *testing.T) map[string][]string {
	data, err := os.ReadFile("testdata/enginetest.txt")
	require.NoError(t, err)
	known := map[string][]string{}
	reason := ""
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, "#") {
			reason = line
			continue
		}
		suite, test, ok := strings.Cut(line, "\t")
		if !ok {
			continue
		}
		require.NotEmpty(t, reason, "no reason given for %s", line)
		known[suite] = append(known[suite], test)
	}
	return known
}

func difference(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func mapKeys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// engineHarness gives the suites one server for all tests; its databases are
// dropped between them.
type engineHarness struct {
	stack   *stack
	session *Session
	scripts []setup.SetupScript
}

var (
	_ enginetest.Harness             = (*engineHarness)(nil)
	_ enginetest.IndexHarness        = (*engineHarness)(nil)
	_ enginetest.ForeignKeyHarness   = (*engineHarness)(nil)
	_ enginetest.KeylessTableHarness = (*engineHarness)(nil)
	_ enginetest.ClientHarness       = (*engineHarness)(nil)
	_ enginetest.TransactionHarness  = (*engineHarness)(nil)
)

func newEngineHarness(t *testing.T) *engineHarness {
	return &engineHarness{stack: newStack(t, Config{Collation: "utf8mb4_0900_bin", Version: "8.0.31", hideSystem: true})}
}

func (h *engineHarness) NewContext() *sql.Context {
	if h.session == nil {
		h.session = newSession(enginetest.NewBaseSession(), h.stack.server)
	}
	return h.context(h.session)
}

func (h *engineHarness) context(s *Session) *sql.Context {
	return sql.NewContext(context.Background(), sql.WithSession(s), sql.WithProcessList(sqle.NewProcessList()))
}

func (h *engineHarness) NewContextWithClient(client sql.Client) *sql.Context {
	base := sql.NewBaseSessionWithClientServer("address", client, 1)
	return h.context(newSession(base, h.stack.server))
}

func (h *engineHarness) NewSession() *sql.Context {
	h.session = newSession(enginetest.NewBaseSession(), h.stack.server)
	return h.NewContext()
}

func (h *engineHarness) Setup(scripts ...[]setup.SetupScript) {
	h.scripts = nil
	for _, s := range scripts {
		h.scripts = append(h.scripts, s...)
	}
}

func (h *engineHarness) SupportsNativeIndexCreation() bool { return true }
func (h *engineHarness) SupportsForeignKeys() bool         { return true }
func (h *engineHarness) SupportsKeylessTables() bool       { return true }

// NewEngine drops every database and runs the setup scripts.
func (h *engineHarness) NewEngine(t *testing.T) (enginetest.QueryEngine, error) {
	h.endSession()
	e := &testEngine{h.stack.server.engine}
	ctx := h.NewContext()
	for _, db := range h.stack.server.provider.AllDatabases(ctx) {
		if err := e.run(ctx, "DROP DATABASE `"+db.Name()+"`"); err != nil {
			return nil, err
		}
	}
	scripts := h.scripts
	if len(scripts) == 0 {
		scripts = setup.MydbData
	}
	ctx = enginetest.NewContext(h)
	for _, script := range scripts {
		for _, q := range script {
			if err := e.run(ctx, q); err != nil {
				return nil, fmt.Errorf("%s: %w", q, err)
			}
		}
	}
	h.endSession()
	return e, nil
}

func (h *engineHarness) endSession() {
	if h.session != nil {
		h.session.SessionEnd()
	}
	h.session = nil
}

// testEngine brackets every statement as the protocol handler does, and turns
// panics into errors, so that one case does not end the suite.
type testEngine struct{ *sqle.Engine }

func (e *testEngine) run(ctx *sql.Context, q string) error {
	ctx = ctx.WithQuery(q)
	_, iter, _, err := e.Query(ctx, q)
	if err != nil {
		return err
	}
	_, err = sql.RowIterToRows(ctx, iter)
	return err
}

func (e *testEngine) Query(ctx *sql.Context, q string) (sql.Schema, sql.RowIter, *sql.QueryFlags, error) {
	return e.QueryWithBindings(ctx, q, nil, nil, nil)
}

func (e *testEngine) QueryWithBindings(ctx *sql.Context, q string, parsed sqlparser.Statement, bindings map[string]sqlparser.Expr, flags *sql.QueryFlags) (schema sql.Schema, iter sql.RowIter, out *sql.QueryFlags, err error) {
	s := sessionOf(ctx)
	s.CommandEnd()
	_ = s.CommandBegin()
	defer recovered(&err)
	defer func() {
		if err != nil {
			s.CommandEnd()
		}
	}()
	schema, iter, out, err = e.Engine.QueryWithBindings(ctx, q, parsed, bindings, flags)
	if err != nil {
		return nil, nil, nil, err
	}
	return schema, &testIter{RowIter: iter, session: s}, out, nil
}

func (e *testEngine) Close() error { return nil }

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v", r)
	}
}

// testIter ends the command when the statement is done. The handler does not
// close the iterator of a statement that failed, so neither does this.
type testIter struct {
	sql.RowIter
	session *Session
	failed  bool
}

func (i *testIter) Next(ctx *sql.Context) (row sql.Row, err error) {
	defer recovered(&err)
	row, err = i.RowIter.Next(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		i.failed = true
	}
	return row, err
}

func (i *testIter) Close(ctx *sql.Context) (err error) {
	defer i.session.CommandEnd()
	if i.failed {
		return nil
	}
	defer recovered(&err)
	return i.RowIter.Close(ctx)
}
