package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// compareBytes lets an UPDATE see that a value changed when only its letters'
// case did: the engine compares the old row and the new one by the schema of
// what it updates and skips equal ones. Derived tables keep their collations.
func compareBytes(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
	tables := replaceIn(bytewiseTable)
	return transform.Node(ctx, n, func(ctx *sql.Context, n sql.Node) (sql.Node, transform.TreeIdentity, error) {
		source, ok := n.(*plan.UpdateSource)
		if !ok {
			return tables(ctx, n)
		}
		// Over a join stands a projection, whose columns have types of their own.
		project, ok := source.Child.(*plan.Project)
		if !ok {
			return n, transform.SameTree, nil
		}
		child, same, err := transform.OneNodeExpressions(ctx, project, bytewiseField)
		if err != nil || same == transform.SameTree {
			return n, transform.SameTree, err
		}
		next := *source
		next.Child = child
		return &next, transform.NewTree, nil
	})
}

// compareDuplicates is compareBytes for ON DUPLICATE KEY UPDATE, which always
// writes but counts only what changed.
func compareDuplicates(ctx *sql.Context, n *plan.InsertInto) (sql.Node, transform.TreeIdentity, error) {
	destination, ok := n.Destination.(*plan.InsertDestination)
	if !ok {
		return n, transform.SameTree, nil
	}
	schema := bytewiseSchema(destination.Sch)
	if schema == nil {
		return n, transform.SameTree, nil
	}
	binary, next := *destination, *n
	binary.Sch = schema
	next.Destination = &binary
	return &next, transform.NewTree, nil
}

func bytewiseTable(t *Table) *Table {
	if t.bytewise {
		return nil
	}
	schema := bytewiseSchema(t.Schema(nil))
	if schema == nil {
		return nil
	}
	next := *t
	next.bytewise, next.schema = true, schema
	return &next
}

// bytewiseSchema is nil when the columns compare by their bytes already.
func bytewiseSchema(columns sql.Schema) sql.Schema {
	any := false
	schema := append(sql.Schema(nil), columns...)
	for i, c := range schema {
		if binary := bytewiseType(c.Type); binary != nil {
			column := *c
			column.Type = binary
			schema[i], any = &column, true
		}
	}
	if !any {
		return nil
	}
	return schema
}

func bytewiseField(ctx *sql.Context, e sql.Expression) (sql.Expression, transform.TreeIdentity, error) {
	f, ok := e.(*expression.GetField)
	if !ok {
		return e, transform.SameTree, nil
	}
	binary := bytewiseType(f.Type(ctx))
	if binary == nil {
		return e, transform.SameTree, nil
	}
	return expression.NewGetFieldWithTable(f.Index(), int(f.TableId()), binary, f.Database(), f.Table(), f.Name(), f.IsNullable(ctx)),
		transform.NewTree, nil
}

// bytewiseType is t with a binary collation, nil if t's values compare so.
func bytewiseType(t sql.Type) sql.Type {
	text, ok := t.(sql.StringType)
	if !ok || !folds(text.Collation()) {
		return nil
	}
	binary, err := types.CreateString(text.Type(), text.MaxCharacterLength(), text.CharacterSet().BinaryCollation())
	if err != nil {
		return nil // the comparison stays as it was
	}
	return binary
}
