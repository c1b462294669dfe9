package sqlfront

import (
	"fmt"
	"slices"
	"sync"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// virtualChecks enforces the CHECK constraints of tables with virtual columns,
// hidden ones behind functional indexes included. The engine wraps such a table
// for reading and then does not find the table's constraints any more.
type virtualChecks struct {
	once        sync.Once
	expressions map[int]sql.Expression // by position behind the schema's end
	err         error
}

func (t *tableInfo) hasVirtual() bool {
	return slices.ContainsFunc(t.schema, func(c *sql.Column) bool { return c.Virtual })
}

// checkConstraints fails if a row breaks a constraint that the engine does not
// see. The row has its virtual columns.
func (t *tableInfo) checkConstraints(ctx *sql.Context, row sql.Row) error {
	if !t.ownChecks {
		return nil
	}
	t.checks.once.Do(func() { t.checks.expressions, t.checks.err = t.resolveChecks(ctx) })
	if t.checks.err != nil {
		return t.checks.err
	}
	for i, e := range t.checks.expressions {
		check := t.desc.Checks[i-len(t.schema)]
		v, err := e.Eval(ctx, row)
		if err != nil {
			return fmt.Errorf("constraint %s: %w", check.Name, err)
		}
		if v == nil {
			continue // unknown is not false (SQL standard; manual, 15.1.20.6)
		}
		if holds, err := sql.ConvertToBool(ctx, v); err != nil || !holds {
			return sql.ErrCheckConstraintViolated.New(check.Name)
		}
	}
	return nil
}

// resolveChecks binds the texts of the enforced constraints: to the builder they
// are more virtual columns.
func (t *tableInfo) resolveChecks(ctx *sql.Context) (map[int]sql.Expression, error) {
	schema := t.schema.Copy()
	for _, c := range t.desc.Checks {
		column := &sql.Column{Name: "!check!" + c.Name, Type: types.Boolean, Nullable: true, Virtual: true,
			Source: t.schema[0].Source, DatabaseSource: t.schema[0].DatabaseSource}
		if c.Enforced {
			column.Generated = sql.NewUnresolvedColumnDefaultValue(c.Expression)
		}
		schema = append(schema, column)
	}
	all, err := t.resolve(ctx, schema)
	if err != nil {
		return nil, err
	}
	for i := range t.schema {
		delete(all, i)
	}
	return all, nil
}
