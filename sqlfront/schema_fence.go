package sqlfront

import (
	"context"
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/txn"
)

// fence gives a table a new version that is the least one which the shards
// accept, before a schema change begins to read the table (H11). The definition
// stays what it was. The stored version moves first: if the change fails or the
// process dies at any point, nobody plans with a version that is refused.
//
// The metadata lock keeps this process's transactions off the table. The fence
// keeps off who does not know of it: one that planned with the former
// definition and votes late.
func (s *Session) fence(ctx *sql.Context, d *schemaChange, database, table string) error {
	schema := s.catalog.snapshot.Load().Schema(database)
	if schema == nil {
		return nil
	}
	desc := schema.Table(table)
	if desc == nil || d.fenced[desc.ID] {
		return nil
	}
	next := desc.Clone()
	next.Version++
	change := catalog.Change{Kind: catalog.KindTable, Database: strings.ToLower(schema.Name),
		Name: strings.ToLower(desc.Name), Value: next}
	err := s.catalog.update(ctx, "schema fence", func(tx *txn.Txn) error {
		if err := countChange(ctx, tx); err != nil {
			return err
		}
		return putRecord(ctx, tx, objectKey(change), next)
	})
	if err != nil {
		return numbered(err)
	}
	s.catalog.publish([]catalog.Change{change})
	if err := s.catalog.coordinator.RaiseSchema(ctx, uint64(next.ID), next.Version); err != nil {
		return numbered(err)
	}
	d.fenced[desc.ID] = true
	return nil
}

// countChange raises the stored number of schema changes.
func countChange(ctx context.Context, tx *txn.Txn) error {
	var version uint64
	if _, err := record(ctx, tx, systemKey(keyVersion), &version); err != nil {
		return err
	}
	return putRecord(ctx, tx, systemKey(keyVersion), version+1)
}

// datePublic writes into the changed descriptors from which timestamp on a
// snapshot shows all data under fresh ids. It is drawn when all of it has been
// committed, and while nobody else can write to the tables.
func (s *Session) datePublic(ctx *sql.Context, d *schemaChange) error {
	if len(d.fresh) == 0 {
		return nil
	}
	at, err := s.catalog.coordinator.Now(ctx)
	if err != nil {
		return err
	}
	for _, c := range d.changes {
		desc, ok := c.Value.(*catalog.Table)
		if !ok || desc == nil {
			continue
		}
		if slices.Contains(d.fresh, desc.Rows) {
			desc.Public = at
		}
		for i := range desc.Indexes {
			if slices.Contains(d.fresh, desc.Indexes[i].ID) {
				desc.Indexes[i].Public = at
			}
		}
	}
	return nil
}

// uses tells the transaction with which definition the statement changes or
// locks the table.
func (s *Session) uses(tx *txn.Txn, info *tableInfo) {
	if !info.temporary {
		tx.Uses(uint64(info.desc.ID), info.desc.Version)
	}
}

// usable tells whether the present statement may be planned through an index:
// not if its snapshot is older than the index and another plan will do (H11).
// What the plan uses all the same is refused when it is read (Session.visible).
func (t *Table) usable(ctx *sql.Context, x *indexInfo) bool {
	if x.public == 0 || t.read.lock != txn.LockNone {
		return true
	}
	tx := t.read.tx
	if tx == nil && t.session.tx != nil {
		tx = t.session.tx.txn
	}
	if tx == nil {
		return true
	}
	at := tx.ReadAt()
	if t.read.tx != nil {
		at, _ = tx.Snapshot(ctx) // an error is met again by the read
	}
	return at == 0 || at >= x.public || !wire.PlainSelect(ctx.Query())
}
