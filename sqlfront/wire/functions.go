package wire

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression/function"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// Functions returns the functions that replace the engine's own, for the catalog's function provider (sql.FunctionProvider):
//
//   - REGEXP_LIKE, REGEXP_INSTR, REGEXP_SUBSTR and REGEXP_REPLACE, which count characters instead of bytes, know groups in
//     replacements, look-around and back references, and stop after a second;
//   - REPEAT, SPACE, LPAD and RPAD, which answer NULL and a warning instead of building more than max_allowed_packet;
//   - INSTR, which is LOCATE with its arguments the other way round: the engine's own ignores the collation;
//   - LOAD_FILE, which answers NULL while secure_file_priv is NULL.
func Functions() []sql.Function {
	definitions := []definition{
		{name: "regexp_like", min: 2, max: 3, typ: types.Boolean, eval: evalRegexpLike},
		{name: "regexp_instr", min: 2, max: 6, typ: types.Int32, eval: evalRegexpInstr},
		{name: "regexp_substr", min: 2, max: 5, typ: types.LongText, eval: evalRegexpSubstr},
		{name: "regexp_replace", min: 3, max: 6, typ: types.LongText, eval: evalRegexpReplace},
		{name: "repeat", min: 2, max: 2, typ: types.LongText, eval: evalRepeat},
		{name: "space", min: 1, max: 1, typ: types.LongText, eval: evalSpace},
		{name: "lpad", min: 3, max: 3, typ: types.LongText, eval: evalPad(true)},
		{name: "rpad", min: 3, max: 3, typ: types.LongText, eval: evalPad(false)},
	}
	functions := []sql.Function{
		sql.Function1{Name: "load_file", Fn: newLoadFile},
		sql.Function2{Name: "instr", Fn: newInstr},
	}
	for i := range definitions {
		d := &definitions[i]
		functions = append(functions, sql.FunctionN{Name: d.name, Fn: d.new})
	}
	return functions
}

// definition is one function. eval gets values of which none is NULL: with a NULL among them the answer is NULL.
type definition struct {
	name     string
	min, max int
	typ      sql.Type
	eval     func(ctx *sql.Context, c *call, args []any) (any, error)
}

func (d *definition) new(_ *sql.Context, args ...sql.Expression) (sql.Expression, error) {
	if len(args) < d.min || len(args) > d.max {
		return nil, sql.ErrInvalidArgumentNumber.New(strings.ToUpper(d.name), fmt.Sprintf("%d to %d", d.min, d.max), len(args))
	}
	return &call{definition: d, args: args}, nil
}

// call is a function in an expression. Apart from the last pattern it compiled it has no state.
type call struct {
	*definition
	args    []sql.Expression
	pattern atomic.Pointer[compiled]
}

var (
	_ sql.FunctionExpression = (*call)(nil)
	_ sql.CollationCoercible = (*call)(nil)
)

// FunctionName implements sql.FunctionExpression.
func (c *call) FunctionName() string { return c.name }

// Description implements sql.FunctionExpression.
func (c *call) Description() string {
	return "see the MySQL Reference Manual, " + strings.ToUpper(c.name)
}

// Type implements sql.Expression.
func (c *call) Type(*sql.Context) sql.Type { return c.typ }

// IsNullable implements sql.Expression.
func (c *call) IsNullable(*sql.Context) bool { return true }

// Children implements sql.Expression.
func (c *call) Children() []sql.Expression { return c.args }

// Resolved implements sql.Expression.
func (c *call) Resolved() bool {
	for _, a := range c.args {
		if !a.Resolved() {
			return false
		}
	}
	return true
}

// WithChildren implements sql.Expression.
func (c *call) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != len(c.args) {
		return nil, sql.ErrInvalidChildrenNumber.New(c, len(children), len(c.args))
	}
	return &call{definition: c.definition, args: children}, nil
}

// String implements sql.Expression.
func (c *call) String() string {
	args := make([]string, len(c.args))
	for i, a := range c.args {
		args[i] = a.String()
	}
	return c.name + "(" + strings.Join(args, ",") + ")"
}

// CollationCoercibility implements sql.CollationCoercible: text and pattern decide together.
func (c *call) CollationCoercibility(ctx *sql.Context) (sql.CollationID, byte) {
	left, leftStrength := sql.GetCoercibility(ctx, c.args[0])
	if len(c.args) == 1 || c.name == "repeat" {
		return left, leftStrength
	}
	right, rightStrength := sql.GetCoercibility(ctx, c.args[1])
	return sql.ResolveCoercibility(left, leftStrength, right, rightStrength)
}

// Eval implements sql.Expression.
func (c *call) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	args := make([]any, len(c.args))
	for i, a := range c.args {
		v, err := a.Eval(ctx, row)
		if err == nil {
			v, err = sql.UnwrapAny(ctx, v)
		}
		if err != nil || v == nil {
			return nil, err
		}
		args[i] = v
	}
	return c.eval(ctx, c, args)
}

func textOf(ctx *sql.Context, v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	}
	converted, _, err := types.LongText.Convert(ctx, v)
	if err != nil {
		return "", err
	}
	if converted, err = sql.UnwrapAny(ctx, converted); err != nil {
		return "", err
	}
	s, ok := converted.(string)
	if !ok {
		return "", fmt.Errorf("value of Go type %T is no text", v)
	}
	return s, nil
}

func intOf(ctx *sql.Context, v any) (int64, error) {
	converted, _, err := types.Int64.Convert(ctx, v)
	if err != nil && !sql.ErrTruncatedIncorrect.Is(err) {
		return 0, err
	}
	n, _ := converted.(int64)
	return n, nil
}

// tooLong answers for a result above max_allowed_packet: NULL and warning 1301, as MySQL does.
func (c *call) tooLong(ctx *sql.Context, limit int64) (any, error) {
	ctx.Warn(1301, "%s", warningText(c.name, limit))
	return nil, nil
}

func evalRepeat(ctx *sql.Context, c *call, args []any) (any, error) {
	s, err := textOf(ctx, args[0])
	if err != nil {
		return nil, err
	}
	n, err := intOf(ctx, args[1])
	if err != nil || n < 1 || s == "" {
		return "", err
	}
	if limit := packetLimit(ctx); n > limit/int64(len(s)) {
		return c.tooLong(ctx, limit)
	}
	return strings.Repeat(s, int(n)), nil
}

func evalSpace(ctx *sql.Context, c *call, args []any) (any, error) {
	return evalRepeat(ctx, c, []any{" ", args[0]})
}

// evalPad makes LPAD and RPAD. The length counts characters; a shorter length cuts.
func evalPad(left bool) func(*sql.Context, *call, []any) (any, error) {
	return func(ctx *sql.Context, c *call, args []any) (any, error) {
		text, err := textOf(ctx, args[0])
		if err != nil {
			return nil, err
		}
		n, err := intOf(ctx, args[1])
		if err != nil || n < 0 {
			return nil, err
		}
		pad, err := textOf(ctx, args[2])
		if err != nil {
			return nil, err
		}
		// A character has a byte at least, so more characters than bytes allowed cannot fit.
		limit := packetLimit(ctx)
		if n > limit {
			return c.tooLong(ctx, limit)
		}
		runes, filler := []rune(text), []rune(pad)
		missing := int(n) - len(runes)
		if missing <= 0 {
			return string(runes[:n]), nil
		}
		if len(filler) == 0 {
			return "", nil
		}
		var b strings.Builder
		b.WriteString(strings.Repeat(pad, missing/len(filler)))
		b.WriteString(string(filler[:missing%len(filler)]))
		if int64(b.Len()+len(text)) > limit {
			return c.tooLong(ctx, limit)
		}
		if left {
			return b.String() + text, nil
		}
		return text + b.String(), nil
	}
}

func newInstr(ctx *sql.Context, text, part sql.Expression) sql.Expression {
	e, err := function.NewLocate(ctx, part, text)
	if err != nil { // only for a wrong number of arguments
		panic(err)
	}
	return e
}

func newLoadFile(ctx *sql.Context, name sql.Expression) sql.Expression {
	if filesAllowed() {
		return function.NewLoadFile(ctx, name)
	}
	d := &definition{name: "load_file", min: 1, max: 1, typ: types.LongBlob, eval: func(*sql.Context, *call, []any) (any, error) {
		return nil, nil
	}}
	return &call{definition: d, args: []sql.Expression{name}}
}
