package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// temporaryTables are the TEMPORARY tables of a session. Only the descriptor is
// private to it: the rows live in the shards like all others and take part in
// transactions, under ids that a build record names, so that a crash leaves
// nothing behind.
type temporaryTables struct {
	tables map[string]*tableInfo // by tableLock name
}

func (t *temporaryTables) find(database, name string) *tableInfo {
	if len(t.tables) == 0 {
		return nil
	}
	return t.tables[tableLock(database, name)]
}

// handle is the engine's handle of a temporary table.
func (s *Session) temporaryTable(database, name string) (*Table, bool) {
	info := s.temporary.find(database, name)
	if info == nil {
		return nil, false
	}
	return &Table{session: s, info: info}, true
}

// CreateTemporaryTable implements sql.TemporaryTableCreator.
func (d *Database) CreateTemporaryTable(ctx *sql.Context, name string, schema sql.PrimaryKeySchema, collation sql.CollationID) error {
	s := sessionOf(ctx)
	if s.temporary.find(d.name, name) != nil {
		return sql.ErrTableAlreadyExists.New(name)
	}
	desc, err := s.newTable(ctx, name, schema, nil, collation, "")
	if err != nil {
		return err
	}
	return s.putTemporary(ctx, d.name, desc, dataOf(desc))
}

// putTemporary installs a descriptor after recording its new places.
func (s *Session) putTemporary(ctx *sql.Context, database string, desc *catalog.Table, fresh []deadData) error {
	info, err := compileTable(database, desc)
	if err != nil {
		return err
	}
	info.temporary = true
	err = s.catalog.update(ctx, "temporary table", func(tx *txn.Txn) error {
		for _, f := range fresh {
			f.Gateway = s.catalog.follower.id
			if err := putRecord(ctx, tx, idKey(keyBuild, f.ID), f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.temporary.tables == nil {
		s.temporary.tables = map[string]*tableInfo{}
	}
	s.temporary.tables[tableLock(database, desc.Name)] = info
	return nil
}

// changeTemporary is changeTable for a temporary table: no lock, and no record of
// the table itself.
func (s *Session) changeTemporary(ctx *sql.Context, database, name string, edit func(*schemaChange, *catalog.Table) error) error {
	info := s.temporary.find(database, name)
	if info == nil {
		return sql.ErrTableNotFound.New(name)
	}
	// ALTER TABLE commits, also of a temporary table.
	if err := s.restart(ctx); err != nil {
		return err
	}
	next := info.desc.Clone()
	next.Version++
	d := &schemaChange{auto: map[catalog.ID]uint64{}}
	if err := edit(d, next); err != nil {
		return err
	}
	var fresh []deadData
	for _, id := range d.fresh {
		fresh = append(fresh, deadData{ID: id, Table: next})
	}
	if err := s.putTemporary(ctx, database, next, fresh); err != nil {
		return err
	}
	s.server.garbage.abandon(d.garbage)
	for id, value := range d.auto {
		s.catalog.auto.setTemporary(id, value)
	}
	return nil
}

// drop removes a temporary table; false if there is none of that name.
func (t *temporaryTables) drop(s *Session, database, name string) bool {
	info := t.find(database, name)
	if info == nil {
		return false
	}
	delete(t.tables, tableLock(database, name))
	s.catalog.auto.forget(info.desc.ID)
	s.server.garbage.abandon(dataOf(info.desc))
	return true
}

// dropAll ends all of them with the session.
func (t *temporaryTables) dropAll(s *Session) {
	for _, info := range t.tables {
		s.catalog.auto.forget(info.desc.ID)
		s.server.garbage.abandon(dataOf(info.desc))
	}
	t.tables = nil
}

// GetAllTemporaryTables implements sql.TemporaryTableDatabase.
func (d *Database) GetAllTemporaryTables(ctx *sql.Context) ([]sql.Table, error) {
	s := sessionOf(ctx)
	var out []sql.Table
	for _, info := range s.temporary.tables {
		if strings.EqualFold(info.database, d.name) {
			out = append(out, &Table{session: s, info: info})
		}
	}
	return out, nil
}
