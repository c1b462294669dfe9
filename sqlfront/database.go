package sqlfront

import (
	"maps"
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/transform"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/txn"
)

// Database is the engine's handle of one database. It holds a name only; what
// is in the database is looked up in the session's view each time.
type Database struct {
	provider *Provider
	name     string
}

var (
	_ sql.CollatedDatabase        = (*Database)(nil)
	_ sql.TableCreator            = (*Database)(nil)
	_ sql.IndexedTableCreator     = (*Database)(nil)
	_ sql.TableDropper            = (*Database)(nil)
	_ sql.TableRenamer            = (*Database)(nil)
	_ sql.TemporaryTableCreator   = (*Database)(nil)
	_ sql.TemporaryTableDatabase  = (*Database)(nil)
	_ sql.VersionedDatabase       = (*Database)(nil)
	_ sql.ViewDatabase            = (*Database)(nil)
	_ sql.TriggerDatabase         = (*Database)(nil)
	_ sql.StoredProcedureDatabase = (*Database)(nil)
	_ sql.EventDatabase           = (*Database)(nil)
	_ sql.SchemaValidator         = (*Database)(nil)
)

// Name implements sql.Nameable.
func (d *Database) Name() string { return d.name }

func (d *Database) schema(ctx *sql.Context) *catalog.Schema {
	if schema := sessionOf(ctx).snapshot().Schema(d.name); schema != nil {
		return schema
	}
	return &catalog.Schema{}
}

// GetTableInsensitive implements sql.Database. The transaction that asks keeps
// the table's definition in force until it ends.
func (d *Database) GetTableInsensitive(ctx *sql.Context, name string) (sql.Table, bool, error) {
	s := sessionOf(ctx)
	if t, ok := s.temporaryTable(d.name, name); ok {
		return t, true, numbered(s.recent(ctx, readMode{}, t.info))
	}
	return d.table(ctx, s, name, readMode{})
}

func (d *Database) table(ctx *sql.Context, s *Session, name string, mode readMode) (sql.Table, bool, error) {
	if err := s.knowsSchema(ctx, mode); err != nil {
		return nil, false, numbered(err)
	}
	if d.schema(ctx).Table(name) == nil {
		return nil, false, nil
	}
	if err := s.lockTable(ctx, d.name, name); err != nil {
		return nil, false, err
	}
	info, err := s.lookupTable(d.name, name)
	if err != nil || info == nil {
		return nil, false, err
	}
	if err := s.recent(ctx, mode, info); err != nil {
		return nil, false, numbered(err)
	}
	return &Table{session: s, info: info, read: mode}, true, nil
}

// GetTableInsensitiveAsOf implements sql.VersionedDatabase. The parser passes
// locking clauses this way as well as the user's AS OF.
func (d *Database) GetTableInsensitiveAsOf(ctx *sql.Context, name string, asOf any) (sql.Table, bool, error) {
	s := sessionOf(ctx)
	marker, ok := wire.DecodeLockMarker(asOf)
	if ok && !marker.HasAsOf {
		if t, ok := s.temporaryTable(d.name, name); ok {
			return t, true, nil // only this session can see it
		}
		mode := lockMode(marker)
		if mode.lock == txn.LockExclusive && s.readOnly() && d.schema(ctx).Table(name) != nil {
			return nil, false, sql.ErrReadOnlyTransaction.New()
		}
		return d.table(ctx, s, name, mode)
	}
	if ok {
		return nil, false, errLockedPast
	}
	mode, err := s.pastMode(ctx, asOf)
	if err != nil {
		return nil, false, err
	}
	return d.table(ctx, s, name, mode)
}

// GetTableNamesAsOf implements sql.VersionedDatabase.
func (d *Database) GetTableNamesAsOf(ctx *sql.Context, _ any) ([]string, error) {
	return d.GetTableNames(ctx)
}

// GetTableNames implements sql.Database.
func (d *Database) GetTableNames(ctx *sql.Context) ([]string, error) {
	names := map[string]string{}
	for lower, t := range d.schema(ctx).Tables {
		names[lower] = t.Name
	}
	out := make([]string, 0, len(names))
	for _, lower := range slices.Sorted(maps.Keys(names)) {
		out = append(out, names[lower])
	}
	return out, nil
}

// GetCollation implements sql.CollatedDatabase.
func (d *Database) GetCollation(ctx *sql.Context) sql.CollationID {
	return sql.CollationID(d.schema(ctx).Collation)
}

// SetCollation implements sql.CollatedDatabase.
func (d *Database) SetCollation(ctx *sql.Context, collation sql.CollationID) error {
	s := sessionOf(ctx)
	change, err := s.change(ctx)
	if err != nil {
		return err
	}
	if err := s.lockName(ctx, schemaLock(d.name), true); err != nil {
		return err
	}
	next := d.schema(ctx).Database
	next.Collation = uint16(collation)
	change.set(s.catalog.snapshot.Load(), catalog.Change{
		Kind: catalog.KindDatabase, Database: strings.ToLower(d.name), Value: &next})
	return nil
}

// CreateTable implements sql.TableCreator.
func (d *Database) CreateTable(ctx *sql.Context, name string, schema sql.PrimaryKeySchema, collation sql.CollationID, comment string) error {
	return d.create(ctx, name, schema, nil, collation, comment)
}

// CreateIndexedTable implements sql.IndexedTableCreator: idx is the primary key
// with its prefix lengths.
func (d *Database) CreateIndexedTable(ctx *sql.Context, name string, schema sql.PrimaryKeySchema, idx sql.IndexDef, collation sql.CollationID, comment string) error {
	return d.create(ctx, name, schema, idx.Columns, collation, comment)
}

func (d *Database) create(ctx *sql.Context, name string, schema sql.PrimaryKeySchema, key []sql.IndexColumn, collation sql.CollationID, comment string) error {
	s := sessionOf(ctx)
	if d.schema(ctx).Table(name) != nil {
		return sql.ErrTableAlreadyExists.New(name)
	}
	change, err := s.change(ctx)
	if err != nil {
		return err
	}
	if err := s.lockName(ctx, schemaLock(d.name), false); err != nil {
		return err
	}
	if err := s.lockName(ctx, tableLock(d.name, name), true); err != nil {
		return err
	}
	change.view = s.catalog.snapshot.Load().Apply(change.changes)
	owner := change.view.Schema(d.name)
	if owner == nil {
		return sql.ErrDatabaseNotFound.New(d.name)
	}
	if owner.Table(name) != nil {
		return sql.ErrTableAlreadyExists.New(name)
	}
	desc, err := s.newTable(ctx, name, schema, key, collation, comment)
	if err != nil {
		return err
	}
	desc.Database = owner.ID
	change.fresh = append(change.fresh, desc.Rows)
	change.set(s.catalog.snapshot.Load(), catalog.Change{
		Kind: catalog.KindTable, Database: strings.ToLower(d.name), Name: strings.ToLower(name), Value: desc})
	return nil
}

// newTable is the descriptor of a table to be created.
func (s *Session) newTable(ctx *sql.Context, name string, schema sql.PrimaryKeySchema, key []sql.IndexColumn, collation sql.CollationID, comment string) (*catalog.Table, error) {
	text, placement := wire.SplitComment(comment)
	desc := &catalog.Table{Name: name, Version: 1, Collation: uint16(collation), Comment: text}
	var err error
	if desc.ID, err = s.catalog.newID(ctx); err != nil {
		return nil, err
	}
	if desc.Rows, err = s.catalog.newID(ctx); err != nil {
		return nil, err
	}
	for _, c := range schema.Schema {
		column, err := newColumn(ctx, c)
		if err != nil {
			return nil, err
		}
		desc.NextColumn++
		column.ID = desc.NextColumn
		desc.Columns = append(desc.Columns, column)
	}
	setKey(desc, schema, key)
	if err := setPlacement(desc, placement); err != nil {
		return nil, err
	}
	s.setBlocks(desc)
	return desc, nil
}

// setKey takes the primary key from an engine schema; prefixes, if any, from
// the index definition.
func setKey(desc *catalog.Table, schema sql.PrimaryKeySchema, key []sql.IndexColumn) {
	desc.Key = nil
	for _, ordinal := range schema.PkOrdinals {
		column := catalog.IndexColumn{Column: desc.Columns[ordinal].ID}
		desc.Columns[ordinal].Nullable = false
		for _, k := range key {
			if strings.EqualFold(k.Name, desc.Columns[ordinal].Name) {
				column.Prefix = uint16(k.Length)
			}
		}
		desc.Key = append(desc.Key, column)
	}
}

// setPlacement sets PARTITION BY KEY. The columns must be part of the primary
// key (MySQL manual, 24.6.1), and not by a prefix: the shard of a row must follow
// from its key.
func setPlacement(desc *catalog.Table, names []string) error {
	for _, name := range names {
		i := desc.Column(name)
		if i < 0 {
			return sql.ErrKeyColumnDoesNotExist.New(name)
		}
		whole := catalog.IndexColumn{Column: desc.Columns[i].ID}
		if len(desc.Key) > 0 && !slices.Contains(desc.Key, whole) {
			return errPartitionKey
		}
		desc.Placement = append(desc.Placement, desc.Columns[i].ID)
	}
	return nil
}

// newColumn is the stored form of a column, without its id.
func newColumn(ctx *sql.Context, c *sql.Column) (catalog.Column, error) {
	typ, err := catalog.NewType(c.Type)
	if err != nil {
		return catalog.Column{}, err
	}
	return catalog.Column{
		Name: c.Name, Type: typ, Nullable: c.Nullable, Default: sqlText(ctx, c.Default), Generated: sqlText(ctx, c.Generated),
		OnUpdate: sqlText(ctx, c.OnUpdate), Comment: c.Comment, Extra: c.Extra, Virtual: c.Virtual,
		AutoIncrement: c.AutoIncrement, Hidden: c.Hidden, HiddenSystem: c.HiddenSystem,
	}, nil
}

// sqlText is an expression as text, with columns named without their table: the
// table may be renamed.
func sqlText(ctx *sql.Context, e *sql.ColumnDefaultValue) string {
	if e == nil {
		return ""
	}
	stripped, _, err := transform.Expr(ctx, e, stripTable)
	if err != nil {
		return e.String()
	}
	return stripped.String()
}

// ValidateSchema implements sql.SchemaValidator.
func (d *Database) ValidateSchema(schema sql.Schema) error { return validateRowSize(schema) }
