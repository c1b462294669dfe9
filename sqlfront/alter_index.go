package sqlfront

import (
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// CreateIndex implements sql.IndexAlterableTable. The index is empty; BuildIndex
// fills it if the table has rows.
func (t *Table) CreateIndex(ctx *sql.Context, def sql.IndexDef) error {
	switch def.Constraint {
	case sql.IndexConstraint_Fulltext:
		return sql.ErrFullTextNotSupported.New()
	case sql.IndexConstraint_Spatial:
		return errSpatialIndex
	case sql.IndexConstraint_Vector:
		return errVectorIndex
	}
	if def.Predicate != nil {
		return errPartialIndex
	}
	return t.edit(ctx, func(d *schemaChange, desc *catalog.Table) error {
		if desc.Index(def.Name) >= 0 || strings.EqualFold(def.Name, "PRIMARY") {
			return sql.ErrDuplicateKey.New(def.Name)
		}
		columns, err := columnIDs(desc, def.Columns)
		if err != nil {
			return err
		}
		id, err := t.session.catalog.newID(ctx)
		if err != nil {
			return err
		}
		d.fresh = append(d.fresh, id)
		desc.Indexes = append(desc.Indexes, catalog.Index{
			ID: id, Name: def.Name, Columns: columns, Unique: def.Constraint == sql.IndexConstraint_Unique, Comment: def.Comment,
		})
		_, err = compileTable(t.info.database, desc) // refuses types without an order
		return err
	})
}

// DropIndex implements sql.IndexAlterableTable.
func (t *Table) DropIndex(ctx *sql.Context, name string) error {
	return t.edit(ctx, func(d *schemaChange, desc *catalog.Table) error {
		i := desc.Index(name)
		if i < 0 {
			return sql.ErrIndexNotFound.New(name)
		}
		d.garbage = append(d.garbage, deadData{ID: desc.Indexes[i].ID, Table: desc.Clone()})
		desc.Indexes = slices.Delete(desc.Indexes, i, i+1)
		return nil
	})
}

// RenameIndex implements sql.IndexAlterableTable.
func (t *Table) RenameIndex(ctx *sql.Context, from, to string) error {
	return t.edit(ctx, func(_ *schemaChange, desc *catalog.Table) error {
		i := desc.Index(from)
		if i < 0 {
			return sql.ErrIndexNotFound.New(from)
		}
		if j := desc.Index(to); j >= 0 && j != i {
			return sql.ErrDuplicateKey.New(to)
		}
		desc.Indexes[i].Name = to
		return nil
	})
}

// ShouldBuildIndex implements sql.IndexBuildingTable.
func (t *Table) ShouldBuildIndex(*sql.Context, sql.IndexDef) (bool, error) { return true, nil }

// BuildIndex implements sql.IndexBuildingTable. The engine streams every row,
// virtual columns included, into the returned inserter.
func (t *Table) BuildIndex(ctx *sql.Context, def sql.IndexDef) (sql.RowInserter, error) {
	info := t.now()
	x := info.byName(def.Name)
	if x == nil {
		return nil, sql.ErrIndexNotFound.New(def.Name)
	}
	if info.keyless() {
		// The engine's rows do not tell their hidden keys: everything moves.
		return t.RewriteInserter(ctx, info.keySchema, info.keySchema, nil, nil, nil)
	}
	return newBuilder(ctx, t.session, info, x, []deadData{{ID: x.id, Table: info.desc}}, nil)
}

// CreateIndexForForeignKey implements sql.ForeignKeyTable. The engine does not
// stream rows here, so the index is filled from the table itself.
func (t *Table) CreateIndexForForeignKey(ctx *sql.Context, def sql.IndexDef) error {
	if err := t.CreateIndex(ctx, def); err != nil {
		return err
	}
	b, err := t.BuildIndex(ctx, def)
	if err != nil {
		return err
	}
	return t.copyInto(ctx, b)
}

// CreatePrimaryKey implements sql.PrimaryKeyAlterableTable. The engine does it
// by rewriting the table, because this backend is a sql.RewritableTable.
func (t *Table) CreatePrimaryKey(*sql.Context, []sql.IndexColumn) error { return errNeedsRewrite }

// DropPrimaryKey implements sql.PrimaryKeyAlterableTable; see CreatePrimaryKey.
func (t *Table) DropPrimaryKey(*sql.Context) error { return errNeedsRewrite }
