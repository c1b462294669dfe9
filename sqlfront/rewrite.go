package sqlfront

import (
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// ShouldRewriteTable implements sql.RewritableTable: whether values at rest, or
// keys made of them, change.
func (t *Table) ShouldRewriteTable(_ *sql.Context, before, after sql.PrimaryKeySchema, old, next *sql.Column) bool {
	info := t.now()
	if len(before.PkOrdinals) != len(after.PkOrdinals) {
		return true
	}
	switch {
	case old == nil && next == nil:
		return true
	case old != nil && next != nil && next.AutoIncrement && !old.AutoIncrement:
		return true // the counter learns the values
	case old == nil: // added
		return next.AutoIncrement || info.keyless() && !next.Virtual
	case next == nil: // dropped
		return info.keyless() && !old.Virtual || info.indexed(old.Name)
	}
	// A virtual column's new expression changes the entries of its indexes.
	generated := old.Generated != nil || next.Generated != nil
	return !sameType(old.Type, next.Type) || old.Nullable && !next.Nullable || old.Virtual != next.Virtual ||
		generated && (!next.Virtual || info.indexed(old.Name))
}

// sameType compares types as they are stored; the engine's own comparison leaves
// out spatial reference systems.
func sameType(a, b sql.Type) bool {
	x, err1 := catalog.NewType(a)
	y, err2 := catalog.NewType(b)
	return err1 == nil && err2 == nil && reflect.DeepEqual(x, y)
}

// indexed tells whether any key is made of the column.
func (t *tableInfo) indexed(name string) bool {
	column := t.desc.Column(name)
	if column < 0 || slices.Contains(t.placement, column) {
		return true
	}
	if slices.Contains(t.primary.columns, column) {
		return true
	}
	return slices.ContainsFunc(t.indexes, func(x *indexInfo) bool { return slices.Contains(x.columns, column) })
}

// RewriteInserter implements sql.RewritableTable: rows in the new shape go
// under new ids, and the descriptor names them when all are there.
func (t *Table) RewriteInserter(ctx *sql.Context, before, after sql.PrimaryKeySchema, old, next *sql.Column, key []sql.IndexColumn) (sql.RowInserter, error) {
	if len(before.PkOrdinals) > 0 && len(after.PkOrdinals) == 0 {
		if err := sql.ValidatePrimaryKeyDrop(ctx, t, before); err != nil {
			return nil, err
		}
	}
	var desc *catalog.Table
	var garbage []deadData
	err := t.edit(ctx, func(_ *schemaChange, now *catalog.Table) error {
		desc, garbage = now.Clone(), dataOf(now.Clone())
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := t.session.reshape(ctx, desc, after, old, next, key); err != nil {
		return nil, err
	}
	info, err := compileTable(t.info.database, desc)
	if err != nil {
		return nil, err
	}
	info.temporary = t.info.temporary
	return newBuilder(ctx, t.session, info, nil, dataOf(desc), func(ctx *sql.Context) error {
		return t.edit(ctx, func(d *schemaChange, now *catalog.Table) error {
			version := now.Version
			*now = *desc
			now.Version = version
			d.fresh = append(d.fresh, desc.DataIDs()...)
			d.garbage = append(d.garbage, garbage...)
			return nil
		})
	})
}

// reshape gives desc the columns of an engine schema, and fresh ids.
func (s *Session) reshape(ctx *sql.Context, desc *catalog.Table, after sql.PrimaryKeySchema, old, next *sql.Column, key []sql.IndexColumn) error {
	before := desc.Clone()
	desc.Columns = nil
	for _, c := range after.Schema {
		column, err := newColumn(ctx, c)
		if err != nil {
			return err
		}
		name := c.Name
		if old != nil && next != nil && strings.EqualFold(c.Name, next.Name) {
			name = old.Name
		}
		if i := before.Column(name); i >= 0 {
			column.ID = before.Columns[i].ID
		} else {
			desc.NextColumn++
			column.ID = desc.NextColumn
		}
		desc.Columns = append(desc.Columns, column)
	}
	if key == nil {
		key = keyPrefixes(before)
	}
	setKey(desc, after, key)
	desc.Placement = slices.DeleteFunc(desc.Placement, func(id uint32) bool { return desc.ColumnByID(id) < 0 })
	if len(desc.Placement) == 0 || len(desc.Key) == 0 {
		desc.Placement = nil
	}
	dropMissingColumns(desc)
	return s.freshIDs(ctx, desc)
}

// keyPrefixes are the primary key's prefix lengths in the engine's form.
func keyPrefixes(desc *catalog.Table) []sql.IndexColumn {
	var out []sql.IndexColumn
	for _, k := range desc.Key {
		out = append(out, sql.IndexColumn{Name: desc.Columns[desc.ColumnByID(k.Column)].Name, Length: int64(k.Prefix)})
	}
	return out
}

// dropMissingColumns takes columns that are gone out of the indexes, and out
// the indexes that have none left.
func dropMissingColumns(desc *catalog.Table) {
	var kept []catalog.Index
	for _, x := range desc.Indexes {
		x.Columns = slices.DeleteFunc(slices.Clone(x.Columns), func(c catalog.IndexColumn) bool {
			return desc.ColumnByID(c.Column) < 0
		})
		if len(x.Columns) > 0 {
			kept = append(kept, x)
		}
	}
	desc.Indexes = kept
}

// freshIDs gives a table's data new places.
func (s *Session) freshIDs(ctx *sql.Context, desc *catalog.Table) error {
	if !mutated("0082.blocks-of-before") {
		s.setBlocks(desc)
	}
	var err error
	if desc.Rows, err = s.catalog.newID(ctx); err != nil {
		return err
	}
	for i := range desc.Indexes {
		if desc.Indexes[i].ID, err = s.catalog.newID(ctx); err != nil {
			return err
		}
	}
	return nil
}

// builder writes rows or index entries under fresh ids, in transactions of its
// own, each of bounded size. Nothing refers to the ids until the schema change
// commits; a record names them until then, so that a crash leaves no orphans.
type builder struct {
	editor editor
	only   *indexInfo // nil: whole rows
	own    *txn.Txn
	done   func(*sql.Context) error
	failed bool
	closed bool
}

// buildCommit is how many keys one transaction of a build may write.
const buildCommit = 4096

func newBuilder(ctx *sql.Context, s *Session, info *tableInfo, only *indexInfo, data []deadData, done func(*sql.Context) error) (*builder, error) {
	err := s.catalog.update(ctx, "start of a build", func(tx *txn.Txn) error {
		for _, d := range data {
			d.Gateway = s.catalog.follower.id
			if err := putRecord(ctx, tx, idKey(keyBuild, d.ID), d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.ddl != nil {
		s.ddl.built = append(s.ddl.built, data...)
	}
	b := &builder{only: only, done: done}
	b.editor = editor{table: &Table{session: s, info: info}, session: s, fixed: info, only: only}
	b.own = s.catalog.begin("build")
	b.editor.own = b.own
	return b, nil
}

// StatementBegin implements sql.EditOpenerCloser.
func (b *builder) StatementBegin(*sql.Context) {}

// StatementComplete implements sql.EditOpenerCloser.
func (b *builder) StatementComplete(*sql.Context) error { return nil }

// DiscardChanges implements sql.EditOpenerCloser.
func (b *builder) DiscardChanges(*sql.Context, error) error {
	b.failed = true
	return nil
}

// buildRows is how many rows of a build are locked by one request.
const buildRows = 256

// Insert implements sql.RowInserter.
func (b *builder) Insert(ctx *sql.Context, row sql.Row) error {
	if err := matchSRIDs(b.editor.fixed.schema, row); err != nil {
		return err
	}
	b.editor.pending = append(b.editor.pending, row.Copy())
	if len(b.editor.pending) < buildRows {
		return nil
	}
	if err := b.editor.flush(ctx); err != nil {
		return err
	}
	if b.own.Writes() < buildCommit {
		return nil
	}
	if err := b.own.Commit(ctx); err != nil {
		return err
	}
	b.own = b.editor.session.catalog.begin("build")
	b.editor.own = b.own
	return nil
}

// Close implements sql.Closer.
func (b *builder) Close(ctx *sql.Context) error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.failed || ctx.Err() != nil {
		b.own.Rollback(ctx)
		return ctx.Err()
	}
	err := b.editor.flush(ctx)
	if err == nil {
		err = b.own.Commit(ctx)
	}
	if err != nil {
		b.own.Rollback(ctx)
		return err
	}
	b.editor.session.refresh(ctx)
	if b.only == nil {
		b.editor.session.catalog.stats.add(b.editor.fixed.desc.Rows, b.editor.delta)
	}
	if b.done == nil {
		return nil
	}
	return b.done(ctx)
}

// insertAll passes every row on.
func insertAll(ctx *sql.Context, to sql.RowInserter, from sql.RowIter) error {
	for {
		row, err := from.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := to.Insert(ctx, row); err != nil {
			return err
		}
	}
}

// matchSRIDs checks values against columns that were given a spatial reference
// system after the values were stored.
func matchSRIDs(schema sql.Schema, row sql.Row) error {
	for i, c := range schema {
		t, ok := c.Type.(sql.SpatialColumnType)
		if !ok || row[i] == nil {
			continue
		}
		if err := t.MatchSRID(row[i]); err != nil {
			return sql.ErrNotMatchingSRIDWithColName.New(c.Name, err)
		}
	}
	return nil
}
