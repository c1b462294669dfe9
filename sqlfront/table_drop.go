package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// DropTable implements sql.TableDropper. The rows go later, in the background.
func (d *Database) DropTable(ctx *sql.Context, name string) error {
	s := sessionOf(ctx)
	if s.temporary.drop(s, d.name, name) {
		return nil
	}
	change, schema, desc, err := s.tableForChange(ctx, d.name, name)
	if err != nil {
		return err
	}
	change.garbage = append(change.garbage, dataOf(desc)...)
	change.auto[desc.ID] = 0
	change.set(s.catalog.snapshot.Load(), catalog.Change{
		Kind: catalog.KindTable, Database: strings.ToLower(schema.Name), Name: strings.ToLower(desc.Name)})
	return nil
}

// RenameTable implements sql.TableRenamer.
func (d *Database) RenameTable(ctx *sql.Context, from, to string) error {
	s := sessionOf(ctx)
	if !strings.EqualFold(from, to) {
		if _, err := s.change(ctx); err != nil {
			return err
		}
		if err := s.lockFresh(ctx, tableLock(d.name, to)); err != nil {
			return err
		}
		if d.schema(ctx).Table(to) != nil {
			return sql.ErrTableAlreadyExists.New(to)
		}
	}
	return s.changeTable(ctx, d.name, from, func(_ *schemaChange, desc *catalog.Table) error {
		desc.Name = to
		return nil
	})
}

// Truncate implements sql.TruncateableTable. TRUNCATE gives the table new, empty
// places for its data. The engine also calls it for DELETE without WHERE, which
// belongs to the transaction and can be rolled back; that one deletes rows.
func (t *Table) Truncate(ctx *sql.Context) (int, error) {
	if !strings.HasPrefix(strings.ToUpper(strings.TrimSpace(ctx.Query())), "TRUNCATE") || t.info.temporary {
		return t.deleteAll(ctx)
	}
	return 0, t.edit(ctx, func(d *schemaChange, desc *catalog.Table) error {
		d.garbage = append(d.garbage, dataOf(desc.Clone())...)
		if err := t.session.freshIDs(ctx, desc); err != nil {
			return err
		}
		d.fresh = append(d.fresh, desc.DataIDs()...)
		if desc.AutoColumn() >= 0 {
			d.auto[desc.ID] = 1
		}
		return nil
	})
}

// deleteAll deletes every row under its lock.
func (t *Table) deleteAll(ctx *sql.Context) (int, error) {
	whole := t.locking(readMode{lock: txn.LockExclusive})
	whole.columns, whole.schema, whole.names = nil, nil, nil
	rows, err := whole.open(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer rows.Close(ctx)
	e := newEditor(whole)
	e.StatementBegin(ctx)
	n, err := deleteEach(ctx, e, rows)
	if err != nil {
		e.DiscardChanges(ctx, err)
		return 0, err
	}
	return n, e.StatementComplete(ctx)
}

func deleteEach(ctx *sql.Context, e *editor, rows sql.RowIter) (int, error) {
	n := 0
	for {
		row, err := rows.Next(ctx)
		if isEOF(err) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if err := e.Delete(ctx, row); err != nil {
			return n, err
		}
		n++
	}
}
