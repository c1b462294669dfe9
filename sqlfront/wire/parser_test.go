package wire

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/vt/sqlparser"
	"github.com/stretchr/testify/require"
)

// marks lists the locking markers of a statement's tables, in the order the tables are written.
func marks(t *testing.T, statement sqlparser.SQLNode) []string {
	var found []string
	require.NoError(t, sqlparser.Walk(func(n sqlparser.SQLNode) (bool, error) {
		if d, ok := n.(*sqlparser.DDL); ok {
			for _, body := range bodies(d) {
				found = append(found, marks(t, body)...)
			}
		}
		if e, ok := n.(*sqlparser.Explain); ok {
			found = append(found, marks(t, e.Statement)...)
		}
		e, ok := n.(*sqlparser.AliasedTableExpr)
		if !ok || e.AsOf == nil {
			return true, nil
		}
		literal, ok := e.AsOf.Time.(*sqlparser.SQLVal)
		if !ok {
			found = append(found, sqlparser.String(e.Expr)+": "+sqlparser.String(e.AsOf.Time)[:7])
			return true, nil
		}
		m, ok := DecodeLockMarker(string(literal.Val))
		require.True(t, ok)
		found = append(found, fmt.Sprintf("%s: %d %d %q", sqlparser.String(e.Expr), m.Strength, m.Wait, m.AsOf))
		return true, nil
	}, statement))
	return found
}

func bodies(d *sqlparser.DDL) []sqlparser.Statement {
	switch {
	case d.ProcedureSpec != nil:
		return []sqlparser.Statement{d.ProcedureSpec.Body}
	case d.TriggerSpec != nil:
		return []sqlparser.Statement{d.TriggerSpec.Body}
	}
	return nil
}

func TestLockingClauses(t *testing.T) {
	const share, exclusive, block, nowait, skip = 1, 2, 0, 1, 2
	mark := func(table string, strength, wait int) string {
		return fmt.Sprintf("%s: %d %d %q", table, strength, wait, "")
	}
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"SELECT * FROM t", nil},
		{"SELECT * FROM t FOR UPDATE", []string{mark("t", exclusive, block)}},
		{"SELECT * FROM t FOR UPDATE NOWAIT", []string{mark("t", exclusive, nowait)}},
		{"SELECT * FROM t FOR UPDATE SKIP LOCKED", []string{mark("t", exclusive, skip)}},
		{"SELECT * FROM t LOCK IN SHARE MODE", []string{mark("t", share, block)}},
		{"SELECT * FROM t for /* why */ share", []string{mark("t", share, block)}},
		{"SELECT * FROM t FOR SHARE NOWAIT", []string{mark("t", share, nowait)}},
		{"SELECT * FROM t FOR SHARE SKIP LOCKED;", []string{mark("t", share, skip)}},
		{"SELECT * FROM t a JOIN u b ON a.id = b.id FOR SHARE OF b", []string{mark("u", share, block)}},
		{"SELECT * FROM t a JOIN u b ON a.id = b.id FOR SHARE OF `a`, B SKIP LOCKED", []string{mark("t", share, skip), mark("u", share, skip)}},
		{"SELECT * FROM t a JOIN u b ON a.id = b.id FOR UPDATE OF a NOWAIT", []string{mark("t", exclusive, nowait)}},
		{"SELECT * FROM t, (u CROSS JOIN v) FOR UPDATE", []string{mark("t", exclusive, block), mark("u", exclusive, block), mark("v", exclusive, block)}},
		{"SELECT * FROM t WHERE id IN (SELECT id FROM u) FOR UPDATE", []string{mark("t", exclusive, block)}},
		{"SELECT * FROM (SELECT * FROM t FOR UPDATE) x JOIN u", []string{mark("t", exclusive, block)}},
		{"SELECT * FROM t UNION SELECT * FROM u FOR UPDATE", []string{mark("t", exclusive, block), mark("u", exclusive, block)}},
		{"SELECT 'for share' , \"FOR SHARE\", `for share` FROM t -- FOR SHARE", nil},
		{"SELECT 'it''s \\' FOR SHARE' FROM t FOR SHARE", []string{mark("t", share, block)}},
		{"SELECT SUBSTRING(a FROM 1 FOR share) FROM t", nil},
		{"INSERT INTO u SELECT * FROM t FOR SHARE", []string{mark("t", share, block)}},
		{"SELECT * FROM dual FOR UPDATE", nil},
		{"SELECT * FROM information_schema.tables FOR UPDATE", nil},
		{"SELECT * FROM t AS OF '2026-01-02' FOR UPDATE", []string{`t: 2 0 "2026-01-02"`}},
		{"SELECT * FROM t AS OF NOW() FOR UPDATE", []string{"t: concat("}},
		{"CREATE PROCEDURE p() BEGIN SELECT * FROM t FOR SHARE; IF 1 THEN SELECT * FROM u FOR UPDATE; END IF; END",
			[]string{mark("t", share, block), mark("u", exclusive, block)}},
		{"CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW BEGIN SET @x = (SELECT max(a) FROM u FOR SHARE); END", []string{mark("u", share, block)}},
		{"EXPLAIN SELECT * FROM t FOR UPDATE", []string{mark("t", exclusive, block)}},
		{"CREATE VIEW w AS SELECT * FROM t FOR UPDATE", []string{mark("t", exclusive, block)}},
	} {
		t.Run(c.query, func(t *testing.T) {
			statement, err := NewParser().ParseSimple(c.query)
			require.NoError(t, err)
			require.Equal(t, c.want, marks(t, statement))
		})
	}
}

func TestMultipleStatements(t *testing.T) {
	p := NewParser()
	query := "SELECT * FROM t FOR SHARE; SELECT * FROM u FOR SHARE OF u NOWAIT ; SELECT 3"
	statement, end, err := p.ParseOneWithOptions(context.Background(), query, sqlparser.ParserOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{`t: 1 0 ""`}, marks(t, statement))
	query = query[end:]
	statement, end, err = p.ParseOneWithOptions(context.Background(), query, sqlparser.ParserOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{`u: 1 1 ""`}, marks(t, statement))
	require.Equal(t, "SELECT 3", strings.TrimSpace(query[end:]))

	statement, parsed, rest, err := p.Parse(sql.NewEmptyContext(), "SELECT * FROM t FOR SHARE; SELECT * FROM u FOR SHARE", true)
	require.NoError(t, err)
	require.Equal(t, []string{`t: 1 0 ""`}, marks(t, statement))
	require.Equal(t, "SELECT * FROM t LOCK IN SHARE MODE", parsed)
	statement, _, rest, err = p.Parse(sql.NewEmptyContext(), rest, true)
	require.NoError(t, err)
	require.Equal(t, []string{`u: 1 0 ""`}, marks(t, statement))
	require.Empty(t, rest)
}

func TestRegexpBecomesAFunction(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT a REGEXP 'x' FROM t":                 "select regexp_like(a, 'x') = 1 from t",
		"SELECT 1 FROM t WHERE NOT a NOT RLIKE 'x'":  "select 1 from t where not regexp_like(a, 'x') = 0",
		"SELECT (a REGEXP 'x') REGEXP (b RLIKE 'y')": "select regexp_like((regexp_like(a, 'x') = 1), (regexp_like(b, 'y') = 1)) = 1",
	} {
		statement, err := NewParser().ParseSimple(query)
		require.NoError(t, err)
		statement.(*sqlparser.Select).SelectExprs[0].(*sqlparser.AliasedExpr).InputExpression = ""
		require.Equal(t, want, sqlparser.String(statement))
	}
}

func TestPartitioning(t *testing.T) {
	key := func(query string) (string, []string) {
		statement, err := NewParser().ParseSimple(query)
		require.NoError(t, err)
		comment := ""
		for _, o := range statement.(*sqlparser.DDL).TableSpec.TableOpts {
			if strings.EqualFold(o.Name, "comment") {
				comment = o.Value
			}
		}
		return SplitComment(comment)
	}
	comment, columns := key("CREATE TABLE t (a INT, b INT, PRIMARY KEY (a, b)) PARTITION BY KEY (a)")
	require.Equal(t, "", comment)
	require.Equal(t, []string{"a"}, columns)
	comment, columns = key("CREATE TABLE t (a INT, `b,c` INT, PRIMARY KEY (a, `b,c`)) COMMENT='mine' PARTITION BY KEY ALGORITHM = 2 (`b,c`, a) PARTITIONS 4")
	require.Equal(t, "mine", comment)
	require.Equal(t, []string{"b,c", "a"}, columns)
	comment, columns = key("CREATE TABLE t (a INT) COMMENT='mine'")
	require.Equal(t, "mine", comment)
	require.Nil(t, columns)

	for _, query := range []string{
		"CREATE TABLE t (a INT) PARTITION BY HASH (a)",
		"CREATE TABLE t (a INT) PARTITION BY LINEAR KEY (a)",
		"CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10))",
		"CREATE TABLE t (a INT) PARTITION BY LIST COLUMNS (a)",
		"CREATE TABLE t (a INT) PARTITION BY KEY (a) SUBPARTITION BY HASH (a)",
		"ALTER TABLE t DROP PARTITION p0",
	} {
		_, err := NewParser().ParseSimple(query)
		require.ErrorContains(t, err, "errno 1235", query)
	}
	_, err := NewParser().ParseSimple("SELECT * FROM t PARTITION (p0)")
	require.ErrorContains(t, err, "errno 1747")
}

func TestMarkerRoundTrip(t *testing.T) {
	for _, m := range []LockMarker{
		{}, {Strength: LockShared}, {Strength: LockExclusive, Wait: LockSkipLocked}, {Strength: LockShared, Wait: LockNoWait, AsOf: "2026-01-01 @x", HasAsOf: true},
		{Strength: LockExclusive, HasAsOf: true},
	} {
		decoded, ok := DecodeLockMarker(m.Encode())
		require.True(t, ok)
		require.Equal(t, m, decoded)
	}
	for _, v := range []any{nil, 1, "", "2026-01-01", markerPrefix, markerPrefix + "xq", markerPrefix + "xb!"} {
		_, ok := DecodeLockMarker(v)
		require.False(t, ok, "%v", v)
	}
}

func FuzzForShare(f *testing.F) {
	for _, q := range []string{"SELECT 1 FOR SHARE", "for share of `a``b`.c, d skip locked x", "'for share", "/*! for */ share", "-- for\nfor share skip", "for share of"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		text, edits := rewriteForShare(query)
		if edits == nil && text != query {
			t.Fatalf("%q changed to %q without an edit", query, text)
		}
		if end := original(len(text), edits); end != len(query) {
			t.Fatalf("end of %q is at %d", query, end)
		}
	})
}

func TestPlainSelect(t *testing.T) {
	for query, want := range map[string]bool{
		"select 1":                           true,
		" /* c */ SELECT * FROM t":           true,
		"SELECT * FROM t FOR UPDATE":         false,
		"select * from t lock in share mode": false,
		"SELECT 1 INTO @x":                   false,
		"(SELECT 1)":                         false,
		"INSERT INTO t SELECT 1":             false,
		"SELECT 1; DELETE FROM t":            false,
		"WITH c AS (SELECT 1) SELECT 1":      false,
		"BEGIN":                              false,
	} {
		require.Equal(t, want, PlainSelect(query), query)
	}
}

func TestCommentsForMariaDB(t *testing.T) {
	p := NewParser()
	for _, query := range []string{"/*M!999999 enable the sandbox mode */ SELECT 1", "\n/*M!1 x */ SELECT '/*M!1 */'"} {
		statement, err := p.ParseSimple(query)
		require.NoError(t, err, query)
		require.IsType(t, &sqlparser.Select{}, statement)
	}
	require.Equal(t, "SELECT '/*M!1 */'", plainComments("SELECT '/*M!1 */'"))
}
