package fastpath

import (
	"strconv"
	"strings"

	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// Verb says what a statement does.
type Verb uint8

// The verbs.
const (
	Select Verb = iota + 1
	Update
	Delete
	Insert
	Replace
	Begin
	Commit
	Rollback
)

// Lock is what a SELECT does to the rows that it reads.
type Lock uint8

// The locks.
const (
	NoLock Lock = iota
	ShareLock
	UpdateLock
)

// Statement describes a statement.
type Statement struct {
	Verb     Verb
	Lock     Lock
	Database string // as written; empty: the current one
	Table    string // as written
	// Columns are the result columns of a SELECT as written; nil: all of them.
	Columns []string
	// Where are the columns that must equal a value, all of them. No column stands
	// in it twice.
	Where []Condition
	// Planned says that there is more to the statement than columns of one row: it
	// needs a plan. Nothing but the values of Where differs between its executions.
	Planned bool
	// Assign is what an UPDATE assigns, in the order of its text, or the rows of an
	// INSERT, one after the other; without names if the text has none.
	Assign []Assignment
	// Rows is how many rows an INSERT has.
	Rows int
	// Values is how many values an execution brings.
	Values int
}

// Condition is a column with the value that it must equal, with the two that it must
// lie between, or with those of which it must equal one.
type Condition struct {
	Column    string
	Value, To Operand // the same of an equality
	In        []Operand
}

// Assignment is a column with the value it gets, or with the one that is added to
// or subtracted from a column.
type Assignment struct {
	Column string
	Value  Operand
	Direct bool // the column gets the value itself
}

// Operand is a value of the statement: one that the execution brings, or one that
// is always the same.
type Operand struct {
	Place int // among what the execution brings; -1: Fixed
	Fixed Value
}

// Of is the operand's value in an execution.
func (o Operand) Of(values []Value) Value {
	if o.Place < 0 {
		return o.Fixed
	}
	return values[o.Place]
}

// Recognise describes a statement. Its text was taken apart by Shape into values,
// or has parameters and no values. nil: not one of ours.
func Recognise(stmt sqlparser.Statement, values []Value) *Statement {
	r := recogniser{values: values, statement: &Statement{}}
	switch n := stmt.(type) {
	case *sqlparser.Begin:
		r.statement.Verb = Begin
		if n.TransactionCharacteristic != "" {
			return nil
		}
	case *sqlparser.Commit:
		r.statement.Verb = Commit
	case *sqlparser.Rollback:
		r.statement.Verb = Rollback
	case *sqlparser.Select:
		r.statement.Verb = Select
		if !r.isSelect(n) {
			return nil
		}
	case *sqlparser.Update:
		r.statement.Verb, r.statement.Planned = Update, true
		if !r.isUpdate(n) {
			return nil
		}
	case *sqlparser.Insert:
		r.statement.Verb = Insert
		if n.Action == sqlparser.ReplaceStr {
			r.statement.Verb = Replace
		}
		if !r.isInsert(n) {
			return nil
		}
	case *sqlparser.Delete:
		r.statement.Verb, r.statement.Planned = Delete, true
		if !r.isDelete(n) {
			return nil
		}
	default:
		return nil
	}
	if len(values) > 0 && r.used != len(values) {
		return nil // a literal stands where no value is looked for
	}
	r.statement.Values = r.used
	return r.statement
}

// recogniser goes through a tree in the order of its text.
type recogniser struct {
	values    []Value
	used      int
	statement *Statement
}

func (r *recogniser) isSelect(n *sqlparser.Select) bool {
	if !r.from(n.From) {
		return false
	}
	plain := n.Into == nil && n.With == nil && n.Limit == nil && n.Having == nil && !r.unordered(n.OrderBy) && r.lock(n.Lock) &&
		len(n.GroupBy) == 0 && len(n.Comments) == 0 && len(n.Window) == 0
	o := n.QueryOpts
	r.statement.Planned = o.Distinct || len(n.OrderBy) > 0 || r.statement.Lock != NoLock
	if !plain || o.All || len(o.DistinctOn) > 0 || o.StraightJoinHint || o.SQLCalcFoundRows || o.SQLCache || o.SQLNoCache {
		return false
	}
	return r.columns(n.SelectExprs) && n.Where != nil && n.Where.Type == sqlparser.WhereStr && r.where(n.Where.Expr)
}

// lock takes a locking clause for all tables that waits.
func (r *recogniser) lock(l *sqlparser.Lock) bool {
	if l == nil {
		return true
	}
	switch l.Type {
	case "":
	case sqlparser.ShareModeStr:
		r.statement.Lock = ShareLock
	case sqlparser.ForUpdateStr:
		r.statement.Lock = UpdateLock
	default:
		return false
	}
	return len(l.Tables) == 0
}

func (r *recogniser) isUpdate(n *sqlparser.Update) bool {
	plain := len(n.Comments) == 0 && n.Ignore == "" && n.With == nil && len(n.OrderBy) == 0 && n.Limit == nil && len(n.Returning) == 0
	if !plain || !r.from(n.TableExprs) || n.Where == nil {
		return false
	}
	for _, e := range n.Exprs {
		if !r.assignment(e) {
			return false
		}
	}
	return r.where(n.Where.Expr)
}

// assignment takes a value, or a column with a value added or subtracted.
func (r *recogniser) assignment(e *sqlparser.AssignmentExpr) bool {
	column, ok := r.column(e.Name)
	if !ok {
		return false
	}
	a := Assignment{Column: column, Direct: true}
	value := e.Expr
	if sum, ok := value.(*sqlparser.BinaryExpr); ok {
		if sum.Operator != sqlparser.PlusStr && sum.Operator != sqlparser.MinusStr {
			return false
		}
		if _, ok := r.column(sum.Left); !ok {
			return false
		}
		a.Direct, value = false, sum.Right
	}
	if a.Direct {
		a.Value, ok = r.assignable(value)
	} else {
		a.Value, ok = r.operand(value)
	}
	r.statement.Assign = append(r.statement.Assign, a)
	return ok
}

// isInsert takes rows of values.
func (r *recogniser) isInsert(n *sqlparser.Insert) bool {
	plain := (n.Action == sqlparser.InsertStr || n.Action == sqlparser.ReplaceStr) && n.Ignore == "" && len(n.Comments) == 0 && n.With == nil && len(n.Partitions) == 0 && len(n.OnDup) == 0 && len(n.Returning) == 0
	rows, ok := n.Rows.(*sqlparser.AliasedValues)
	if !plain || !ok || !rows.As.IsEmpty() || len(rows.Columns) > 0 || len(rows.Values) == 0 || !n.Table.SchemaQualifier.IsEmpty() {
		return false
	}
	r.statement.Database, r.statement.Table = n.Table.DbQualifier.String(), n.Table.Name.String()
	r.statement.Rows = len(rows.Values)
	for _, row := range rows.Values {
		if len(row) == 0 || len(n.Columns) > 0 && len(n.Columns) != len(row) || len(row) != len(rows.Values[0]) || !r.row(n.Columns, row) {
			return false
		}
	}
	return true
}

func (r *recogniser) row(columns sqlparser.Columns, row sqlparser.ValTuple) bool {
	for i, e := range row {
		value, ok := r.assignable(e)
		if !ok {
			return false
		}
		a := Assignment{Value: value, Direct: true}
		if len(columns) > 0 {
			a.Column = columns[i].String()
		}
		r.statement.Assign = append(r.statement.Assign, a)
	}
	return true
}

// assignable takes a literal, a parameter or NULL.
func (r *recogniser) assignable(e sqlparser.Expr) (Operand, bool) {
	if _, ok := e.(*sqlparser.NullVal); ok {
		return Operand{Place: -1, Fixed: Value{Kind: Null}}, true
	}
	return r.operand(e)
}

func (r *recogniser) isDelete(n *sqlparser.Delete) bool {
	plain := len(n.Comments) == 0 && len(n.Targets) == 0 && n.With == nil && len(n.Partitions) == 0 && len(n.OrderBy) == 0 && n.Limit == nil && len(n.Returning) == 0
	return plain && r.from(n.TableExprs) && n.Where != nil && r.where(n.Where.Expr)
}

// from takes one table under its own name.
func (r *recogniser) from(from sqlparser.TableExprs) bool {
	if len(from) != 1 {
		return false
	}
	e, ok := from[0].(*sqlparser.AliasedTableExpr)
	if !ok || e.Hints != nil || e.AsOf != nil || !e.As.IsEmpty() || len(e.Partitions) > 0 || e.Lateral {
		return false
	}
	name, ok := e.Expr.(sqlparser.TableName)
	if !ok || name.Name.IsEmpty() || !name.SchemaQualifier.IsEmpty() {
		return false
	}
	r.statement.Database, r.statement.Table = name.DbQualifier.String(), name.Name.String()
	return true
}

func (r *recogniser) columns(list sqlparser.SelectExprs) bool {
	if len(list) == 1 {
		if star, ok := list[0].(*sqlparser.StarExpr); ok {
			return star.TableName.IsEmpty()
		}
	}
	r.statement.Columns = []string{}
	for _, e := range list {
		aliased, ok := e.(*sqlparser.AliasedExpr)
		if !ok {
			return false
		}
		if r.aggregate(aliased.Expr) {
			r.statement.Planned = true
			continue
		}
		column, ok := r.column(aliased.Expr)
		if !ok {
			return false
		}
		r.statement.Columns = append(r.statement.Columns, column)
	}
	return len(list) > 0
}

// aggregate takes COUNT(*), and simple aggregates of one column.
func (r *recogniser) aggregate(e sqlparser.Expr) bool {
	f, ok := e.(*sqlparser.FuncExpr)
	if !ok || f.Over != nil || !f.Qualifier.IsEmpty() || f.Distinct || len(f.Exprs) != 1 {
		return false
	}
	switch strings.ToLower(f.Name.String()) {
	case "count":
		if star, ok := f.Exprs[0].(*sqlparser.StarExpr); ok {
			return star.TableName.IsEmpty()
		}
	case "sum", "min", "max", "avg":
	default:
		return false
	}
	of, ok := f.Exprs[0].(*sqlparser.AliasedExpr)
	if !ok || !of.As.IsEmpty() {
		return false
	}
	_, ok = r.column(of.Expr)
	return ok
}

// unordered tells whether an ORDER BY has anything but columns.
func (r *recogniser) unordered(list sqlparser.OrderBy) bool {
	for _, o := range list {
		if _, ok := r.column(o.Expr); !ok {
			return true
		}
	}
	return false
}

// column takes a column, bare or with its table's name before it.
func (r *recogniser) column(e sqlparser.Expr) (string, bool) {
	c, ok := e.(*sqlparser.ColName)
	if !ok || c.StoredProcVal != nil || !c.Qualifier.DbQualifier.IsEmpty() || !c.Qualifier.SchemaQualifier.IsEmpty() {
		return "", false
	}
	if q := c.Qualifier.Name; !q.IsEmpty() && q.String() != r.statement.Table {
		return "", false
	}
	return c.Name.String(), true
}

// where takes equalities that are joined by AND.
func (r *recogniser) where(e sqlparser.Expr) bool {
	switch e := e.(type) {
	case *sqlparser.AndExpr:
		return r.where(e.Left) && r.where(e.Right)
	case *sqlparser.ParenExpr:
		return r.where(e.Expr)
	case *sqlparser.ComparisonExpr:
		if e.Operator == sqlparser.InStr {
			return r.list(e)
		}
		if e.Operator != sqlparser.EqualStr || e.Escape != nil {
			return false
		}
		column, ok := r.column(e.Left)
		if !ok {
			return false
		}
		for _, c := range r.statement.Where {
			if strings.EqualFold(c.Column, column) {
				return false
			}
		}
		value, ok := r.operand(e.Right)
		r.statement.Where = append(r.statement.Where, Condition{Column: column, Value: value, To: value})
		return ok
	case *sqlparser.RangeCond:
		column, ok := r.column(e.Left)
		if !ok || e.Operator != sqlparser.BetweenStr || len(r.statement.Where) > 0 {
			return false
		}
		from, ok := r.operand(e.From)
		if !ok {
			return false
		}
		to, ok := r.operand(e.To)
		r.statement.Where = append(r.statement.Where, Condition{Column: column, Value: from, To: to})
		r.statement.Planned = true
		return ok
	}
	return false
}

// list takes IN with values, alone.
func (r *recogniser) list(e *sqlparser.ComparisonExpr) bool {
	column, ok := r.column(e.Left)
	values, is := e.Right.(sqlparser.ValTuple)
	if !ok || !is || len(r.statement.Where) > 0 {
		return false
	}
	c := Condition{Column: column}
	for _, v := range values {
		value, ok := r.operand(v)
		if !ok {
			return false
		}
		c.In = append(c.In, value)
	}
	r.statement.Where = append(r.statement.Where, c)
	r.statement.Planned = true
	return len(c.In) > 0
}

// operand takes a literal or a parameter.
func (r *recogniser) operand(e sqlparser.Expr) (Operand, bool) {
	v, ok := e.(*sqlparser.SQLVal)
	if !ok {
		return Operand{}, false
	}
	if v.Type == sqlparser.ValArg {
		if string(v.Val) != ":v"+strconv.Itoa(r.used+1) || len(r.values) > 0 {
			return Operand{}, false
		}
		r.used++
		return Operand{Place: r.used - 1}, true
	}
	literal, ok := literal(v)
	if !ok {
		return Operand{}, false
	}
	if len(r.values) == 0 {
		return Operand{Place: -1, Fixed: literal}, true
	}
	if r.used == len(r.values) || r.values[r.used] != literal {
		return Operand{}, false
	}
	r.used++
	return Operand{Place: r.used - 1}, true
}

func literal(v *sqlparser.SQLVal) (Value, bool) {
	switch v.Type {
	case sqlparser.IntVal:
		return integer(string(v.Val))
	case sqlparser.StrVal:
		return Value{Kind: Text, Text: string(v.Val)}, true
	}
	return Value{}, false
}
