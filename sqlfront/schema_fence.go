package sqlfront

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/txn"
)

// fence keeps everybody off a table before a schema change begins to read it
// (H11). The table gets a new version, which says that this gateway is about to
// change it and nothing else; every other gateway locks the table when it sees
// that, and says so when the transactions that used it have ended; then the
// version is made the least one that the shards accept. What was planned with an
// older one, on a gateway that has not answered, cannot commit any more.
//
// The stored version moves first: if the change fails or the process dies at any
// point, nobody plans with a version that is refused. The freeze itself ends with
// the next version: the change's own, or one that says nothing new.
func (s *Session) fence(ctx *sql.Context, d *schemaChange, database, table string) error {
	name := tableLock(database, table)
	for {
		schema := s.catalog.snapshot.Load().Schema(database)
		if schema == nil {
			return nil
		}
		desc := schema.Table(table)
		if desc == nil || d.fenced[desc.ID] {
			return nil
		}
		frozen, version, err := s.freeze(ctx, schema, desc)
		if err != nil {
			return numbered(err)
		}
		if frozen == nil {
			// Another gateway was first. It gets the lock here, and we queue behind it.
			if err := s.letPass(ctx, name); err != nil {
				return err
			}
			continue
		}
		d.fenced[desc.ID] = true
		d.frozen = append(d.frozen, frozenTable{schema.Name, frozen})
		s.catalog.follower.busy(1)
		if err := s.catalog.follower.settled(ctx, version, name); err != nil {
			return numbered(err)
		}
		if err := s.catalog.coordinator.RaiseSchema(ctx, uint64(frozen.ID), frozen.Version); err != nil {
			return numbered(err)
		}
		return nil
	}
}

// frozenTable is a table that a schema change has frozen, as it is stored then.
type frozenTable struct {
	database string
	table    *catalog.Table
}

// freeze stores the next version of a table with the mark of this gateway. It
// returns nil if the table is not stored as the descriptor says, or frozen by
// another gateway.
func (s *Session) freeze(ctx context.Context, schema *catalog.Schema, desc *catalog.Table) (*catalog.Table, uint64, error) {
	change := catalog.Change{Kind: catalog.KindTable, Database: strings.ToLower(schema.Name), Name: strings.ToLower(desc.Name)}
	var next *catalog.Table
	var version uint64
	err := s.catalog.update(ctx, "schema fence", func(tx *txn.Txn) error {
		next = nil
		var now catalog.Table
		found, err := record(ctx, tx, objectKey(change), &now)
		if err != nil || !found || now.ID != desc.ID || now.Version != desc.Version {
			return err
		}
		if now.Frozen != 0 && now.Frozen != s.catalog.follower.id {
			return nil
		}
		frozen := desc.Clone()
		frozen.Version++
		frozen.Frozen = s.catalog.follower.id
		if version, err = countChange(ctx, tx); err != nil {
			return err
		}
		if err := putRecord(ctx, tx, objectKey(change), frozen); err != nil {
			return err
		}
		next = frozen
		return nil
	})
	if err != nil || next == nil {
		return nil, 0, err
	}
	change.Value = next
	s.catalog.publish([]catalog.Change{change}, version)
	return next, version, nil
}

// letPass gives an exclusive metadata lock up, lets the schema changes of other
// gateways have it, and takes it again.
func (s *Session) letPass(ctx *sql.Context, name string) error {
	if s.locked.holder.Holds(name, catalog.Exclusive) {
		// LOCK TABLES keeps the other gateway waiting, so this one cannot wait for it.
		return numbered(&txn.Error{Code: txn.Deadlock, Detail: "schema change of another gateway on " + name})
	}
	s.catalog.locks.Release(&s.holder, name)
	if err := s.catalog.follower.refresh(ctx); err != nil {
		return numbered(err)
	}
	return s.lockName(ctx, name, true)
}

// thawAll ends what a schema change has frozen that did not come to its end.
func (s *Server) thawAll(frozen []frozenTable) {
	for _, f := range frozen {
		for s.catalog.thaw(s.catalog.follower.life, f.database, f.table) != nil {
			select {
			case <-time.After(beatEvery):
				continue
			case <-s.catalog.follower.life.Done():
			}
			break // whoever finds this gateway dead thaws
		}
		s.catalog.follower.busy(-1)
	}
}

// fenceDatabase is fence for a database with all that is in it.
func (s *Session) fenceDatabase(ctx *sql.Context, d *schemaChange, name string) error {
	for {
		frozen, version, err := s.freezeDatabase(ctx, name)
		if err != nil {
			return numbered(err)
		}
		if frozen {
			d.database = strings.ToLower(name)
			s.catalog.follower.busy(1)
			if err := s.catalog.follower.settled(ctx, version, schemaLock(name)); err != nil {
				return numbered(err)
			}
			return s.raiseAll(ctx, name)
		}
		if s.catalog.snapshot.Load().Schema(name) == nil {
			return nil
		}
		if err := s.letPass(ctx, schemaLock(name)); err != nil {
			return err
		}
	}
}

// raiseAll makes the shards refuse what was planned with any table of a database
// that is about to go.
func (s *Session) raiseAll(ctx context.Context, name string) error {
	schema := s.catalog.snapshot.Load().Schema(name)
	if schema == nil {
		return nil
	}
	for _, desc := range schema.Tables {
		if err := s.catalog.coordinator.RaiseSchema(ctx, uint64(desc.ID), desc.Version+1); err != nil {
			return numbered(err)
		}
	}
	return nil
}

// freezeDatabase marks a database as this gateway's; false if another gateway has
// it, or has something in it frozen, or if it is gone.
func (s *Session) freezeDatabase(ctx context.Context, name string) (bool, uint64, error) {
	if err := s.catalog.follower.refresh(ctx); err != nil {
		return false, 0, err
	}
	schema := s.catalog.snapshot.Load().Schema(name)
	if schema == nil {
		return false, 0, nil
	}
	for _, desc := range schema.Tables {
		if desc.Frozen != 0 && desc.Frozen != s.catalog.follower.id {
			return false, 0, nil
		}
	}
	change := catalog.Change{Kind: catalog.KindDatabase, Database: strings.ToLower(name)}
	var version uint64
	err := s.catalog.update(ctx, "schema fence", func(tx *txn.Txn) error {
		version, change.Value = 0, nil
		var now catalog.Database
		found, err := record(ctx, tx, objectKey(change), &now)
		if err != nil || !found || now.Frozen != 0 && now.Frozen != s.catalog.follower.id {
			return err
		}
		now.Frozen = s.catalog.follower.id
		if version, err = countChange(ctx, tx); err != nil {
			return err
		}
		change.Value = &now
		return putRecord(ctx, tx, objectKey(change), &now)
	})
	if err != nil || version == 0 {
		return false, 0, err
	}
	s.catalog.publish([]catalog.Change{change}, version)
	// What was created in it meanwhile goes with it.
	return true, version, s.catalog.follower.refresh(ctx)
}

// thawSchema is thawAll for a database.
func (s *Server) thawSchema(name string) {
	defer s.catalog.follower.busy(-1)
	for s.catalog.thawDatabase(s.catalog.follower.life, name, s.catalog.follower.id) != nil {
		select {
		case <-time.After(beatEvery):
		case <-s.catalog.follower.life.Done():
			return
		}
	}
}

// countChange raises the stored number of schema changes and returns it.
func countChange(ctx context.Context, tx *txn.Txn) (uint64, error) {
	var version uint64
	if _, err := record(ctx, tx, systemKey(keyVersion), &version); err != nil {
		return 0, err
	}
	return version + 1, putRecord(ctx, tx, systemKey(keyVersion), version+1)
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
