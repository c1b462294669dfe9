package sqlfront

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/codec"
)

// Changes of a table that leave its rows where they are: rows carry column ids,
// so columns may come, go, move and be renamed by the descriptor alone.

func (t *Table) edit(ctx *sql.Context, f func(*schemaChange, *catalog.Table) error) error {
	if t.info.temporary {
		return t.session.changeTemporary(ctx, t.info.database, t.info.desc.Name, f)
	}
	return t.session.changeTable(ctx, t.info.database, t.info.desc.Name, f)
}

// AddColumn implements sql.AlterableTable. The engine rewrites the table for
// anything but a nullable column without default, or a virtual one.
func (t *Table) AddColumn(ctx *sql.Context, column *sql.Column, order *sql.ColumnOrder) error {
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		if desc.Column(column.Name) >= 0 {
			return sql.ErrColumnExists.New(column.Name)
		}
		c, err := newColumn(ctx, column)
		if err != nil {
			return err
		}
		desc.NextColumn++
		c.ID = desc.NextColumn
		if c.Missing, err = missingValue(ctx, column); err != nil {
			return err
		}
		desc.Columns = append(desc.Columns, c)
		moveColumn(desc, len(desc.Columns)-1, order)
		return nil
	})
}

// missingValue is what rows written before the column hold: its constant
// default, or NULL.
func missingValue(ctx *sql.Context, column *sql.Column) ([]byte, error) {
	if column.Virtual || column.Default == nil || !column.Default.Resolved() || !column.Default.IsLiteral() {
		return nil, nil
	}
	v, err := column.Default.Eval(ctx, nil)
	if err != nil || v == nil {
		return nil, err
	}
	return codec.AppendDefault(ctx, nil, column.Type, v)
}

// moveColumn puts the column at position from where order says.
func moveColumn(desc *catalog.Table, from int, order *sql.ColumnOrder) {
	if order == nil || !order.First && order.AfterColumn == "" {
		return
	}
	c := desc.Columns[from]
	desc.Columns = slices.Delete(desc.Columns, from, from+1)
	to := 0
	if !order.First {
		to = desc.Column(order.AfterColumn) + 1
	}
	desc.Columns = slices.Insert(desc.Columns, to, c)
}

// DropColumn implements sql.AlterableTable, for columns that no index uses.
func (t *Table) DropColumn(ctx *sql.Context, name string) error {
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		i := desc.Column(name)
		if i < 0 {
			return sql.ErrTableColumnNotFound.New(desc.Name, name)
		}
		desc.Columns = slices.Delete(desc.Columns, i, i+1)
		return nil
	})
}

// ModifyColumn implements sql.AlterableTable, for changes that the values at
// rest survive.
func (t *Table) ModifyColumn(ctx *sql.Context, name string, column *sql.Column, order *sql.ColumnOrder) error {
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		i := desc.Column(name)
		if i < 0 {
			return sql.ErrTableColumnNotFound.New(desc.Name, name)
		}
		c, err := newColumn(ctx, column)
		if err != nil {
			return err
		}
		old := desc.Columns[i]
		c.ID, c.Missing = old.ID, old.Missing
		if desc.InKey(old.ID) {
			c.Nullable = false
		}
		desc.Columns[i] = c
		moveColumn(desc, i, order)
		return nil
	})
}

// CreateCheck implements sql.CheckAlterableTable.
func (t *Table) CreateCheck(ctx *sql.Context, check *sql.CheckDefinition) error {
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		name := check.Name
		if name == "" {
			name = freeCheckName(desc)
		}
		if checkIndex(desc, name) >= 0 {
			return sql.ErrDuplicateCheckName.New(name)
		}
		desc.Checks = append(desc.Checks, catalog.Check{Name: name, Expression: check.CheckExpression, Enforced: check.Enforced})
		return nil
	})
}

func checkIndex(desc *catalog.Table, name string) int {
	return slices.IndexFunc(desc.Checks, func(c catalog.Check) bool { return strings.EqualFold(c.Name, name) })
}

// freeCheckName names a constraint as MySQL does: table, _chk_, number.
func freeCheckName(desc *catalog.Table) string {
	for i := 1; ; i++ {
		if name := fmt.Sprintf("%s_chk_%d", desc.Name, i); checkIndex(desc, name) < 0 {
			return name
		}
	}
}

// DropCheck implements sql.CheckAlterableTable.
func (t *Table) DropCheck(ctx *sql.Context, name string) error {
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		i := checkIndex(desc, name)
		if i < 0 {
			return fmt.Errorf("check '%s' was not found on the table", name)
		}
		desc.Checks = slices.Delete(desc.Checks, i, i+1)
		return nil
	})
}

// convertTo recognises ALTER TABLE .. CONVERT TO CHARACTER SET. The engine plans
// it like a change of the default and never calls ModifyStoredCollation.
var convertTo = regexp.MustCompile(`(?i)\bCONVERT\s+TO\s+(CHARACTER\s+SET|CHARSET)\b`)

// ModifyStoredCollation implements sql.CollationAlterableTable. The table is
// rewritten, because keys are made of the collation's weights.
func (t *Table) ModifyStoredCollation(ctx *sql.Context, collation sql.CollationID) error {
	if err := t.setCollation(ctx, collation); err != nil {
		return err
	}
	now := t.now().keySchema
	next := sql.NewPrimaryKeySchema(now.Schema.Copy(), now.PkOrdinals...)
	for _, c := range next.Schema {
		typ, ok := c.Type.(sql.TypeWithCollation)
		if !ok || typ.Collation() == sql.Collation_binary {
			continue
		}
		var err error
		if c.Type, err = typ.WithNewCollation(collation); err != nil {
			return err
		}
	}
	to, err := t.RewriteInserter(ctx, now, next, nil, nil, nil)
	if err != nil {
		return err
	}
	return t.copyInto(ctx, to)
}

// copyInto passes every row of the table on, and closes to.
func (t *Table) copyInto(ctx *sql.Context, to sql.RowInserter) error {
	whole := *t
	whole.columns, whole.schema, whole.names = nil, nil, nil
	partitions, err := whole.Partitions(ctx)
	if err != nil {
		return err
	}
	rows := sql.NewTableRowIter(ctx, &whole, partitions)
	defer rows.Close(ctx)
	if err := insertAll(ctx, to, rows); err != nil {
		to.DiscardChanges(ctx, err)
		to.Close(ctx)
		return err
	}
	return to.Close(ctx)
}

// ModifyDefaultCollation implements sql.CollationAlterableTable.
func (t *Table) ModifyDefaultCollation(ctx *sql.Context, collation sql.CollationID) error {
	if convertTo.MatchString(ctx.Query()) {
		return t.ModifyStoredCollation(ctx, collation)
	}
	return t.setCollation(ctx, collation)
}

func (t *Table) setCollation(ctx *sql.Context, collation sql.CollationID) error {
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		desc.Collation = uint16(collation)
		return nil
	})
}

// ModifyComment implements sql.CommentAlterableTable.
func (t *Table) ModifyComment(ctx *sql.Context, comment string) error {
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		desc.Comment = comment
		return nil
	})
}

// AddForeignKey implements sql.ForeignKeyTable.
func (t *Table) AddForeignKey(ctx *sql.Context, fk sql.ForeignKeyConstraint) error {
	if fk.OnDelete == sql.ForeignKeyReferentialAction_SetDefault || fk.OnUpdate == sql.ForeignKeyReferentialAction_SetDefault {
		return sql.ErrForeignKeySetDefault.New()
	}
	if child, _ := t.session.foreignKey(t.info.database, fk.Name); child != nil {
		return sql.ErrForeignKeyDuplicateName.New(fk.Name)
	}
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		desc.ForeignKeys = append(desc.ForeignKeys, catalog.NewForeignKey(fk))
		return nil
	})
}

// foreignKey finds a constraint by name: names are unique in a database.
func (s *Session) foreignKey(database, name string) (*catalog.Table, int) {
	schema := s.snapshot().Schema(database)
	if schema == nil {
		return nil, -1
	}
	for _, desc := range schema.Tables {
		for i, f := range desc.ForeignKeys {
			if strings.EqualFold(f.Name, name) {
				return desc, i
			}
		}
	}
	return nil, -1
}

// DropForeignKey implements sql.ForeignKeyTable.
func (t *Table) DropForeignKey(ctx *sql.Context, name, _, _ string) error {
	child, i := t.session.foreignKey(t.info.database, name)
	if child == nil {
		return sql.ErrForeignKeyNotFound.New(name, t.Name())
	}
	return t.session.changeTable(ctx, t.info.database, child.Name, func(_ *schemaChange, desc *catalog.Table) error {
		desc.ForeignKeys = slices.Delete(desc.ForeignKeys, i, i+1)
		return nil
	})
}

// UpdateForeignKey implements sql.ForeignKeyTable. The child may have been
// renamed already, so the constraint is looked up by its name.
func (t *Table) UpdateForeignKey(ctx *sql.Context, name string, fk sql.ForeignKeyConstraint) error {
	child, i := t.session.foreignKey(t.info.database, name)
	if child == nil {
		return t.AddForeignKey(ctx, fk)
	}
	if other, _ := t.session.foreignKey(t.info.database, fk.Name); other != nil && !strings.EqualFold(name, fk.Name) {
		return sql.ErrForeignKeyDuplicateName.New(fk.Name)
	}
	return t.session.changeTable(ctx, t.info.database, child.Name, func(_ *schemaChange, desc *catalog.Table) error {
		desc.ForeignKeys[i] = catalog.NewForeignKey(fk)
		return nil
	})
}

// stripTable names columns without their table.
func stripTable(ctx *sql.Context, e sql.Expression) (sql.Expression, transform.TreeIdentity, error) {
	field, ok := e.(*expression.GetField)
	if !ok {
		return e, transform.SameTree, nil
	}
	plain := expression.NewGetField(field.Index(), field.Type(ctx), field.Name(), field.IsNullable(ctx))
	return plain.WithQuotedNames(sql.DefaultMySQLSchemaFormatter, field.IsQuotedIdentifier()), transform.NewTree, nil
}

// validateRowSize refuses rows wider than MySQL allows (manual, 8.4.7): columns
// of the TEXT and BLOB families count little.
func validateRowSize(schema sql.Schema) error {
	var width int64
	for _, c := range schema {
		s, ok := c.Type.(sql.StringType)
		switch {
		case !ok:
			width += 8
		case types.IsTextBlob(s):
			width += 16
		default:
			width += s.MaxByteLength()
		}
	}
	if width > types.MaxRowLength {
		return errRowLength(width)
	}
	return nil
}
