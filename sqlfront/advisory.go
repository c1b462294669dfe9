package sqlfront

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/mysql"

	"github.com/rowlockdb/rowlock/txn"
)

// maxAdvisoryName is how many characters the name of an advisory lock may have
// (MySQL manual, 14.14).
const maxAdvisoryName = 64

var errAdvisoryDeadlock = mysql.NewSQLError(3058, "HY000",
	"Deadlock found when trying to get user-level lock; try rolling back transaction/releasing locks and restarting lock acquisition.")

func errAdvisoryName(name string) error {
	return mysql.NewSQLError(3057, "42000", "Incorrect user-level lock name '%s'.", name)
}

// advisoryFunctions replace the engine's, which know one process only. Beside them
// are those that tell of transactions.
func advisoryFunctions() []sql.Function {
	definitions := []*advisoryFunction{
		{name: "get_lock", args: 2, typ: types.Int64, eval: getLock},
		{name: "release_lock", args: 1, typ: types.Int64, eval: releaseLock},
		{name: "release_all_locks", args: 0, typ: types.Int64, eval: releaseAllLocks},
		{name: "is_free_lock", args: 1, typ: types.Int64, eval: isFreeLock},
		{name: "is_used_lock", args: 1, typ: types.Uint64, eval: isUsedLock},
		{name: "lock_token", args: 1, typ: types.Uint64, eval: lockToken},
		{name: "rowlock_transaction_id", args: 0, typ: types.LongText, eval: transactionID},
		{name: "rowlock_transaction_status", args: 1, typ: types.LongText, text: true, eval: transactionStatus},
	}
	var functions []sql.Function
	for _, f := range definitions {
		functions = append(functions, sql.FunctionN{Name: f.name, Fn: f.new})
	}
	return functions
}

// advisoryFunction is one of the functions; name is that of the lock.
type advisoryFunction struct {
	name string
	args int
	typ  sql.Type
	text bool // the argument is any text, not a name; NULL for NULL
	eval func(ctx *sql.Context, locks *txn.Advisory, name string, rest []any) (any, error)
}

func (f *advisoryFunction) new(_ *sql.Context, args ...sql.Expression) (sql.Expression, error) {
	if len(args) != f.args {
		return nil, sql.ErrInvalidArgumentNumber.New(strings.ToUpper(f.name), f.args, len(args))
	}
	return &advisoryCall{f, args}, nil
}

// advisoryCall is such a function in an expression.
type advisoryCall struct {
	*advisoryFunction
	operands []sql.Expression
}

var (
	_ sql.FunctionExpression         = (*advisoryCall)(nil)
	_ sql.NonDeterministicExpression = (*advisoryCall)(nil)
	_ sql.CollationCoercible         = (*advisoryCall)(nil)
)

// FunctionName implements sql.FunctionExpression.
func (c *advisoryCall) FunctionName() string { return c.name }

// Description implements sql.FunctionExpression.
func (c *advisoryCall) Description() string { return "see docs/transactions.md, Advisory locks" }

// IsNonDeterministic implements sql.NonDeterministicExpression.
func (c *advisoryCall) IsNonDeterministic() bool { return true }

// CollationCoercibility implements sql.CollationCoercible.
func (c *advisoryCall) CollationCoercibility(*sql.Context) (sql.CollationID, byte) {
	return sql.Collation_binary, 5
}

// Type implements sql.Expression.
func (c *advisoryCall) Type(*sql.Context) sql.Type { return c.typ }

// IsNullable implements sql.Expression.
func (c *advisoryCall) IsNullable(*sql.Context) bool { return true }

// Children implements sql.Expression.
func (c *advisoryCall) Children() []sql.Expression { return c.operands }

// Resolved implements sql.Expression.
func (c *advisoryCall) Resolved() bool {
	for _, o := range c.operands {
		if !o.Resolved() {
			return false
		}
	}
	return true
}

// WithChildren implements sql.Expression.
func (c *advisoryCall) WithChildren(_ *sql.Context, children ...sql.Expression) (sql.Expression, error) {
	if len(children) != len(c.operands) {
		return nil, sql.ErrInvalidChildrenNumber.New(c, len(children), len(c.operands))
	}
	return &advisoryCall{c.advisoryFunction, children}, nil
}

// String implements sql.Expression.
func (c *advisoryCall) String() string {
	operands := make([]string, len(c.operands))
	for i, o := range c.operands {
		operands[i] = o.String()
	}
	return c.name + "(" + strings.Join(operands, ",") + ")"
}

// Eval implements sql.Expression.
func (c *advisoryCall) Eval(ctx *sql.Context, row sql.Row) (any, error) {
	values := make([]any, len(c.operands))
	for i, o := range c.operands {
		v, err := o.Eval(ctx, row)
		if err != nil {
			return nil, err
		}
		if values[i], err = sql.UnwrapAny(ctx, v); err != nil {
			return nil, err
		}
	}
	name := ""
	if len(values) > 0 {
		var err error
		if c.text {
			if values[0] == nil {
				return nil, nil
			}
			name = fmt.Sprint(values[0])
		} else if name, err = advisoryName(ctx, values[0]); err != nil {
			return nil, err
		}
		values = values[1:]
	}
	result, err := c.eval(ctx, sessionOf(ctx).advisoryLocks(), name, values)
	return result, advisoryError(err)
}

// advisoryName checks and normalizes the name of a lock: any case is the same.
func advisoryName(ctx *sql.Context, v any) (string, error) {
	if v == nil {
		return "", errAdvisoryName("NULL")
	}
	text, _, err := types.LongText.Convert(ctx, v)
	if err != nil {
		return "", err
	}
	name, ok := text.(string)
	if !ok {
		name = fmt.Sprint(text)
	}
	if n := utf8.RuneCountInString(name); n == 0 || n > maxAdvisoryName || !utf8.ValidString(name) {
		return "", errAdvisoryName(name)
	}
	return strings.ToLower(name), nil
}

// advisoryError gives errors their numbers: a deadlock among advisory locks has
// one of its own, because no transaction is rolled back.
func advisoryError(err error) error {
	var failed *txn.Error
	if errors.As(err, &failed) && failed.Code == txn.Deadlock {
		return errAdvisoryDeadlock
	}
	return numbered(err)
}

// advisoryLocks are the session's.
func (s *Session) advisoryLocks() *txn.Advisory {
	if s.advisory == nil {
		s.advisory = s.catalog.coordinator.Advisory(uint64(s.ID()))
	}
	return s.advisory
}

// endAdvisory gives the session's advisory locks up.
func (s *Session) endAdvisory() {
	if s.advisory != nil {
		s.advisory.End()
		s.advisory = nil
	}
}

func getLock(ctx *sql.Context, locks *txn.Advisory, name string, rest []any) (any, error) {
	got, err := locks.Get(ctx, name, advisoryWait(ctx, rest[0]))
	if err != nil {
		return nil, err
	}
	return int64(boolInt(got)), nil
}

// advisoryWait reads a number of seconds; a negative one is for ever, NULL none.
func advisoryWait(ctx *sql.Context, v any) time.Duration {
	n, _, err := types.Int64.Convert(ctx, v)
	seconds, ok := n.(int64)
	switch {
	case err != nil || !ok:
		return 0
	case seconds < 0 || seconds > 1<<31-1:
		return -1
	}
	return time.Duration(seconds) * time.Second
}

func releaseLock(ctx *sql.Context, locks *txn.Advisory, name string, _ []any) (any, error) {
	switch found, err := locks.Release(ctx, name); {
	case err != nil:
		return nil, err
	case found == txn.AdvisoryReleased:
		return int64(1), nil
	case found == txn.AdvisoryNotMine:
		return int64(0), nil
	}
	return nil, nil
}

func releaseAllLocks(ctx *sql.Context, locks *txn.Advisory, _ string, _ []any) (any, error) {
	n, err := locks.ReleaseAll(ctx)
	if err != nil {
		return nil, err
	}
	return int64(n), nil
}

func isFreeLock(ctx *sql.Context, locks *txn.Advisory, name string, _ []any) (any, error) {
	_, held, err := locks.Holder(ctx, name)
	if err != nil {
		return nil, err
	}
	return int64(boolInt(!held)), nil
}

func isUsedLock(ctx *sql.Context, locks *txn.Advisory, name string, _ []any) (any, error) {
	connection, held, err := locks.Holder(ctx, name)
	if err != nil || !held {
		return nil, err
	}
	return connection, nil
}

func lockToken(ctx *sql.Context, locks *txn.Advisory, name string, _ []any) (any, error) {
	token, held, err := locks.Token(ctx, name)
	if err != nil || !held {
		return nil, err
	}
	return token, nil
}
