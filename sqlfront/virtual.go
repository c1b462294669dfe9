package sqlfront

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/planbuilder"
	"github.com/dolthub/go-mysql-server/sql/transform"
)

// virtualColumns computes the values of virtual columns that are indexed. Rows
// carry no such values, and the engine does not always supply them: not in the
// existing row of a duplicate key, not in rows that a foreign key changes.
type virtualColumns struct {
	once        sync.Once
	expressions map[int]sql.Expression // by schema position
	err         error
}

// hasVirtualIndex tells whether any index is made of a virtual column.
func (t *tableInfo) hasVirtualIndex() bool {
	return slices.ContainsFunc(t.indexes, func(x *indexInfo) bool {
		return slices.ContainsFunc(x.columns, func(c int) bool { return t.schema[c].Virtual })
	})
}

// withVirtual is the row with its virtual columns computed from the others, if
// an index or a constraint of ours may need them.
func (t *tableInfo) withVirtual(ctx *sql.Context, row sql.Row) (sql.Row, error) {
	if !t.virtualIndex && !t.ownChecks {
		return row, nil
	}
	t.virtual.once.Do(func() { t.virtual.expressions, t.virtual.err = t.resolveVirtual(ctx) })
	if t.virtual.err != nil {
		return nil, t.virtual.err
	}
	full := row.Copy()
	for _, i := range sortedKeys(t.virtual.expressions) {
		v, err := t.virtual.expressions[i].Eval(ctx, full)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", t.schema[i].Name, err)
		}
		if full[i], _, err = t.schema[i].Type.Convert(ctx, v); err != nil {
			return nil, fmt.Errorf("column %s: %w", t.schema[i].Name, err)
		}
	}
	return full, nil
}

// bindHidden gives the hidden columns behind functional indexes bound
// expressions. The engine evaluates them as they are when it builds a further
// index, without binding them first.
func (t *tableInfo) bindHidden() {
	if !slices.ContainsFunc(t.schema, func(c *sql.Column) bool { return c.HiddenSystem && c.Virtual }) {
		return
	}
	bound, err := t.resolveVirtual(sql.NewEmptyContext())
	if err != nil {
		return // the statement that needs it meets the same error
	}
	for i, e := range bound {
		if value, ok := e.(*sql.ColumnDefaultValue); ok && t.schema[i].HiddenSystem {
			t.schema[i].Generated = value
		}
	}
}

// resolveVirtual binds the texts of the virtual columns to the schema.
func (t *tableInfo) resolveVirtual(ctx *sql.Context) (map[int]sql.Expression, error) {
	return t.resolve(ctx, t.schema.Copy())
}

// resolve binds the texts of the virtual columns of a schema that begins with
// the table's own.
func (t *tableInfo) resolve(ctx *sql.Context, schema sql.Schema) (map[int]sql.Expression, error) {
	builder := planbuilder.NewBuilderForColumnDefaultResolution(ctx, sql.EngineOverrides{})
	resolved := builder.ResolveSchemaDefaults(t.database, t.desc.Name, schema)
	out := map[int]sql.Expression{}
	for i, c := range resolved {
		if !c.Virtual || c.Generated == nil {
			continue
		}
		e, _, err := transform.Expr(ctx, c.Generated, func(ctx *sql.Context, e sql.Expression) (sql.Expression, transform.TreeIdentity, error) {
			field, ok := e.(*expression.GetField)
			if !ok {
				return e, transform.SameTree, nil
			}
			at := t.schema.IndexOfColName(field.Name())
			plain := expression.NewGetField(at, field.Type(ctx), field.Name(), field.IsNullable(ctx))
			return plain, transform.NewTree, nil
		})
		if err != nil {
			return nil, err
		}
		out[i] = e
	}
	return out, nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
