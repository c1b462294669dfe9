package wire

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// Parser wraps the engine's parser and rewrites what the engine parses and then forgets, or does not parse at all:
//
//   - a locking clause becomes a LockMarker in the AS OF of the query block's own tables;
//   - FOR SHARE, which the grammar does not know, is rewritten before parsing;
//   - what COMMIT, ROLLBACK and START TRANSACTION say beyond their verb becomes the name of a savepoint (Control);
//   - SET TRANSACTION without a scope assigns to a variable of its own (NextTransaction);
//   - a REGEXP b and a RLIKE b become REGEXP_LIKE(a, b), which Functions overrides;
//   - PARTITION BY KEY goes into the table's comment and options (SplitComment, PartitionOption); every other partitioning is
//     an error, because the engine would ignore it.
//
// It has no state and is safe for concurrent use.
type Parser struct {
	sql.Parser
}

var _ sql.Parser = (*Parser)(nil)

// NewParser returns a parser for sql.EngineOverrides.Builder.Parser.
func NewParser() *Parser { return &Parser{Parser: sql.NewMysqlParser()} }

// ParseSimple implements sql.Parser.
func (p *Parser) ParseSimple(query string) (sqlparser.Statement, error) {
	query, _ = rewriteControl(plainComments(query))
	statement, err := p.Parser.ParseSimple(query)
	if text, edits := rewriteAfter(query, err); edits != nil {
		statement, err = p.Parser.ParseSimple(text)
	}
	return rewritten(statement, err)
}

// Parse implements sql.Parser. The texts it returns are the rewritten ones: they are stored and parsed again.
func (p *Parser) Parse(ctx *sql.Context, query string, multi bool) (sqlparser.Statement, string, string, error) {
	return p.ParseWithOptions(ctx, query, ';', multi, sql.LoadSqlMode(ctx).ParserOptions())
}

// ParseWithOptions implements sql.Parser.
func (p *Parser) ParseWithOptions(ctx context.Context, query string, delimiter rune, multi bool, options sqlparser.ParserOptions) (sqlparser.Statement, string, string, error) {
	query, _ = rewriteControl(plainComments(query))
	statement, parsed, remainder, err := p.Parser.ParseWithOptions(ctx, query, delimiter, multi, options)
	if text, edits := rewriteAfter(query, err); edits != nil {
		statement, parsed, remainder, err = p.Parser.ParseWithOptions(ctx, text, delimiter, multi, options)
	}
	statement, err = rewritten(statement, err)
	return statement, parsed, remainder, err
}

// ParseOneWithOptions implements sql.Parser; the position is one in query.
func (p *Parser) ParseOneWithOptions(ctx context.Context, query string, options sqlparser.ParserOptions) (sqlparser.Statement, int, error) {
	query, control := rewriteControl(plainComments(query))
	statement, end, err := p.Parser.ParseOneWithOptions(ctx, query, options)
	if text, edits := rewriteAfter(query, err); edits != nil {
		statement, end, err = p.Parser.ParseOneWithOptions(ctx, text, options)
		end = original(end, edits)
	}
	end = original(end, control)
	statement, err = rewritten(statement, err)
	return statement, end, err
}

// plainComments turns comments for MariaDB alone, /*M! ... */, at the head of a statement into plain ones, as MySQL takes them.
// The length stays. Dumps of MariaDB begin with one.
func plainComments(query string) string {
	rest := strings.TrimLeft(query, " \t\r\n")
	if !strings.HasPrefix(rest, "/*M!") {
		return query
	}
	at := len(query) - len(rest)
	return query[:at] + "/*  " + query[at+4:]
}

// rewriteAfter rewrites FOR SHARE in a text that the grammar did not take. What it takes has no such clause, though it may have
// the words: SUBSTRING(a FROM 1 FOR share).
func rewriteAfter(query string, err error) (string, []edit) {
	if err == nil || errors.Is(err, sqlparser.ErrEmpty) {
		return query, nil
	}
	if text, edits := rewriteShowEngine(query); edits != nil {
		return text, edits
	}
	return rewriteForShare(query)
}

func rewritten(statement sqlparser.Statement, err error) (sqlparser.Statement, error) {
	if err != nil || statement == nil {
		return statement, err
	}
	if err := rewrite(statement); err != nil {
		return nil, err
	}
	if f, ok := statement.(*sqlparser.Flush); ok {
		return flushLock(f), nil
	}
	return statement, nil
}

// flushLock writes FLUSH TABLES WITH READ LOCK, which the engine takes for nothing at all, as a savepoint (Control), and the one
// with names of tables as the LOCK TABLES that it is.
func flushLock(f *sqlparser.Flush) sqlparser.Statement {
	switch {
	case f.Option == nil || !f.Option.ReadLock:
		return f
	case len(f.Option.Tables) == 0:
		return &sqlparser.Savepoint{Identifier: Control{Verb: ControlFlush, Access: AccessDefault, Chain: ChoiceDefault, Release: ChoiceDefault}.encode()}
	}
	locks := &sqlparser.LockTables{}
	for _, name := range f.Option.Tables {
		locks.Tables = append(locks.Tables, &sqlparser.TableAndLockType{Lock: sqlparser.LockRead,
			Table: &sqlparser.AliasedTableExpr{Expr: name, Auth: sqlparser.AuthInformation{AuthType: sqlparser.AuthType_LOCK,
				TargetType: sqlparser.AuthTargetType_SingleTableIdentifier, TargetNames: []string{name.DbQualifier.String(), name.Name.String()}}}})
	}
	return locks
}

// rewrite changes the tree below node in place.
func rewrite(node sqlparser.SQLNode) error {
	return sqlparser.Walk(func(n sqlparser.SQLNode) (bool, error) {
		switch n := n.(type) {
		case *sqlparser.Select:
			lockSelect(n)
			return true, refuseFiles(n.Into, nil)
		case *sqlparser.SetOp:
			lockSetOp(n)
			return true, refuseFiles(n.Into, nil)
		case *sqlparser.Load:
			return true, refuseFiles(nil, n)
		case *sqlparser.Set:
			nextTransaction(n)
		case *sqlparser.Kill:
			n.SetAuthType(sqlparser.AuthType_IGNORE) // whose connection it is decides, not the account alone
		case *sqlparser.Show:
			if strings.EqualFold(n.Type, "processlist") {
				n.SetAuthType(sqlparser.AuthType_IGNORE) // decided for each row
			}
		case *sqlparser.ComparisonExpr:
			regexpLike(n)
		case *sqlparser.ConvertExpr:
			boundWidth(n)
		case *sqlparser.AliasedTableExpr:
			if len(n.Partitions) > 0 {
				return false, errNotPartitioned()
			}
		case *sqlparser.Explain:
			return true, rewrite(n.Statement)
		case *sqlparser.Declare:
			return true, rewriteHandler(n.Handler)
		case *sqlparser.AlterTable:
			return true, rewriteAlter(n)
		case *sqlparser.DDL:
			return true, rewriteDDL(n)
		}
		return true, nil
	}, node)
}

// rewriteDDL goes where Walk does not: into the bodies of procedures, triggers and events.
func rewriteDDL(n *sqlparser.DDL) error {
	if err := partitionTable(n); err != nil {
		return err
	}
	var bodies []sqlparser.Statement
	if n.ProcedureSpec != nil {
		bodies = append(bodies, n.ProcedureSpec.Body)
	}
	if n.TriggerSpec != nil {
		bodies = append(bodies, n.TriggerSpec.Body)
	}
	if n.EventSpec != nil {
		bodies = append(bodies, n.EventSpec.Body)
	}
	for _, body := range bodies {
		if body == nil {
			continue
		}
		if err := rewrite(body); err != nil {
			return err
		}
	}
	return rewriteTableSpec(n.TableSpec)
}

// rewriteTableSpec reaches the expressions of a table's definition: checks, defaults and generated columns.
func rewriteTableSpec(spec *sqlparser.TableSpec) error {
	if spec == nil {
		return nil
	}
	var expressions []sqlparser.Expr
	for _, column := range spec.Columns {
		expressions = append(expressions, column.Type.Default, column.Type.GeneratedExpr)
		if constraint := column.Type.Constraint; constraint != nil {
			if check, ok := constraint.Details.(*sqlparser.CheckConstraintDefinition); ok {
				expressions = append(expressions, check.Expr)
			}
		}
	}
	for _, constraint := range spec.Constraints {
		if check, ok := constraint.Details.(*sqlparser.CheckConstraintDefinition); ok {
			expressions = append(expressions, check.Expr)
		}
	}
	for _, e := range expressions {
		if e == nil {
			continue
		}
		if err := rewrite(e); err != nil {
			return err
		}
	}
	return nil
}

// regexpLike turns a REGEXP b into REGEXP_LIKE(a, b) = 1, and NOT REGEXP into = 0. The comparison stays in place, so its parent
// need not be known; NULL stays NULL either way.
func regexpLike(n *sqlparser.ComparisonExpr) {
	outcome := "1"
	switch n.Operator {
	case sqlparser.NotRegexpStr:
		outcome = "0"
	case sqlparser.RegexpStr:
	default:
		return
	}
	n.Left = &sqlparser.FuncExpr{
		Name: sqlparser.NewColIdent("regexp_like"),
		Exprs: sqlparser.SelectExprs{
			&sqlparser.AliasedExpr{Expr: n.Left},
			&sqlparser.AliasedExpr{Expr: n.Right},
		},
	}
	n.Operator, n.Right = sqlparser.EqualStr, sqlparser.NewIntVal([]byte(outcome))
}

// boundWidth makes NULL of a CAST to a BINARY that is wider than any packet, as MySQL does (without its warning): the engine
// would fill that many bytes.
func boundWidth(n *sqlparser.ConvertExpr) {
	if n.Type == nil || n.Type.Length == nil || !strings.EqualFold(n.Type.Type, "binary") {
		return
	}
	width, err := strconv.ParseUint(string(n.Type.Length.Val), 10, 64)
	if err != nil || width > defaultMaxPacket {
		n.Expr, n.Type.Length = &sqlparser.NullVal{}, nil
	}
}

// lockSelect moves a query block's locking clause to the block's own tables; subqueries have their own, or none.
func lockSelect(n *sqlparser.Select) {
	if n.Lock == nil || n.Lock.Type == "" {
		return
	}
	m := readLock(n.Lock)
	for _, e := range n.From {
		lockTables(e, m, n.Lock.Tables)
	}
}

// lockSetOp applies a locking clause at the end of a UNION to every block that has none of its own.
func lockSetOp(n *sqlparser.SetOp) {
	if n.Lock == nil || n.Lock.Type == "" {
		return
	}
	m := readLock(n.Lock)
	var lock func(s sqlparser.SelectStatement)
	lock = func(s sqlparser.SelectStatement) {
		switch s := s.(type) {
		case *sqlparser.Select:
			if s.Lock != nil && s.Lock.Type != "" {
				return
			}
			for _, e := range s.From {
				lockTables(e, m, n.Lock.Tables)
			}
		case *sqlparser.SetOp:
			lock(s.Left)
			lock(s.Right)
		case *sqlparser.ParenSelect:
			lock(s.Select)
		}
	}
	lock(n.Left)
	lock(n.Right)
}

// readLock reads a clause and removes the mark of a rewritten FOR SHARE from it.
func readLock(l *sqlparser.Lock) LockMarker {
	m := LockMarker{Strength: LockExclusive}
	if strings.HasPrefix(l.Type, sqlparser.ShareModeStr) {
		m.Strength = LockShared
	}
	switch {
	case strings.HasSuffix(l.Type, " nowait"):
		m.Wait = LockNoWait
	case strings.HasSuffix(l.Type, " skip locked"):
		m.Wait = LockSkipLocked
	}
	if len(l.Tables) > 0 && l.Tables[0].Name.String() == shareTable {
		m.Strength, l.Tables = LockShared, l.Tables[1:]
	}
	return m
}

func lockTables(e sqlparser.TableExpr, m LockMarker, of sqlparser.TableNames) {
	switch e := e.(type) {
	case *sqlparser.AliasedTableExpr:
		name, ok := e.Expr.(sqlparser.TableName)
		if ok && lockable(name) && named(e, name, of) {
			e.AsOf = markAsOf(e.AsOf, m)
		}
	case *sqlparser.JoinTableExpr:
		lockTables(e.LeftExpr, m, of)
		lockTables(e.RightExpr, m, of)
	case *sqlparser.ParenTableExpr:
		for _, inner := range e.Exprs {
			lockTables(inner, m, of)
		}
	}
}

// lockable leaves out what has no rows of ours: DUAL and the engine's own databases, which take no AS OF.
func lockable(name sqlparser.TableName) bool {
	switch strings.ToLower(name.DbQualifier.String()) {
	case "information_schema", "performance_schema", "mysql", "sys", "rowlock":
		return false
	case "":
		return !strings.EqualFold(name.Name.String(), "dual")
	}
	return true
}

// named tells whether an OF list means this table; without a list every table is meant. MySQL wants the alias when there is
// one.
func named(e *sqlparser.AliasedTableExpr, name sqlparser.TableName, of sqlparser.TableNames) bool {
	if len(of) == 0 {
		return true
	}
	known := name.Name.String()
	if !e.As.IsEmpty() {
		known = e.As.String()
	}
	for _, t := range of {
		if strings.EqualFold(t.Name.String(), known) {
			return true
		}
	}
	return false
}

// markAsOf joins a marker with the AS OF that the user may have written. A literal goes into the marker as text; any other
// expression is evaluated by the planner, behind the marker.
func markAsOf(user *sqlparser.AsOf, m LockMarker) *sqlparser.AsOf {
	if user == nil || user.Time == nil {
		return &sqlparser.AsOf{Time: sqlparser.NewStrVal([]byte(m.Encode()))}
	}
	m.HasAsOf = true
	if literal, ok := user.Time.(*sqlparser.SQLVal); ok && literal.Type != sqlparser.ValArg {
		m.AsOf = string(literal.Val)
		return &sqlparser.AsOf{Time: sqlparser.NewStrVal([]byte(m.Encode()))}
	}
	return &sqlparser.AsOf{Time: &sqlparser.FuncExpr{
		Name: sqlparser.NewColIdent("concat"),
		Exprs: sqlparser.SelectExprs{
			&sqlparser.AliasedExpr{Expr: sqlparser.NewStrVal([]byte(m.Encode()))},
			&sqlparser.AliasedExpr{Expr: user.Time},
		},
	}}
}
