package sqlfront

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// schemaChange collects what one DDL statement does. Its session sees the
// result at once; everyone else after commit, which writes all descriptors, the
// garbage and the new counters in one transaction. If the statement fails or
// the process dies before, nothing of it has happened, except that rows built
// under fresh ids are garbage, which the build records tell.
type schemaChange struct {
	changes   []catalog.Change
	view      *catalog.Snapshot
	tables    map[*catalog.Table]*tableInfo
	fresh     []catalog.ID          // ids that become reachable with this change
	built     []deadData            // those of them that have a build record
	garbage   []deadData            // ids whose data this change makes unreachable
	auto      map[catalog.ID]uint64 // table id -> next value; 0 removes the counter
	renamed   map[string]string     // metadata locks of tables: former name -> name
	published bool
	fenced    map[catalog.ID]bool // tables whose older versions the shards refuse
}

// set records a change and brings the view up to date.
func (d *schemaChange) set(base *catalog.Snapshot, c catalog.Change) {
	d.changes = slices.DeleteFunc(d.changes, func(o catalog.Change) bool {
		return o.Kind == c.Kind && o.Database == c.Database && o.Name == c.Name
	})
	d.changes = append(d.changes, c)
	d.view = base.Apply(d.changes)
}

// change starts the session's schema change, or returns the one that is open.
// It commits the open transaction first, as MySQL does (manual, 13.3.3).
func (s *Session) change(ctx *sql.Context) (*schemaChange, error) {
	if s.ddl != nil {
		return s.ddl, nil
	}
	if s.readOnly() {
		return nil, sql.ErrReadOnlyTransaction.New()
	}
	if err := s.restart(ctx); err != nil {
		return nil, err
	}
	s.ddl = &schemaChange{
		view: s.catalog.snapshot.Load(), tables: map[*catalog.Table]*tableInfo{}, auto: map[catalog.ID]uint64{},
		fenced: map[catalog.ID]bool{}, renamed: map[string]string{},
	}
	return s.ddl, nil
}

// lockName takes a metadata lock of the transaction.
func (s *Session) lockName(ctx *sql.Context, name string, exclusive bool) error {
	if exclusive {
		return s.lockMode(ctx, name, catalog.Exclusive)
	}
	return s.lockMode(ctx, name, catalog.SharedRead)
}

// lockMode takes a metadata lock of the transaction, unless LOCK TABLES has it.
func (s *Session) lockMode(ctx *sql.Context, name string, mode catalog.Mode) error {
	if s.holder.Holds(name, mode) || s.locked.holder.Holds(name, mode) {
		return nil
	}
	if err := s.locked.refuse(name, mode); err != nil {
		return err
	}
	return s.lockTimeout(name, s.catalog.locks.Acquire(ctx, &s.holder, name, mode, s.metadataWait(ctx)))
}

// lockFresh takes the name that a table is to get, which no LOCK TABLES can have
// locked.
func (s *Session) lockFresh(ctx *sql.Context, name string) error {
	if s.locked.holder.Holds(name, catalog.Exclusive) {
		return nil
	}
	return s.lockTimeout(name, s.catalog.locks.Acquire(ctx, &s.holder, name, catalog.Exclusive, s.metadataWait(ctx)))
}

// lockTimeout gives a wait that took too long its number.
func (s *Session) lockTimeout(name string, err error) error {
	if errors.Is(err, catalog.ErrLockTimeout) {
		return numbered(&txn.Error{Code: txn.LockTimeout, Detail: "metadata lock on " + name})
	}
	return err
}

// lockTable keeps a table's definition in force until the transaction ends.
// Statements that describe tables lock nothing, as in MySQL: they would touch
// every table and hold up changes of all of them.
func (s *Session) lockTable(ctx *sql.Context, database, table string) error {
	if s.describing(ctx) {
		return nil
	}
	if err := s.checkLocked(ctx); err != nil {
		return err
	}
	if err := s.lockName(ctx, schemaLock(database), false); err != nil {
		return err
	}
	return s.lockName(ctx, tableLock(database, table), false)
}

// describing tells whether the statement is SHOW, DESCRIBE or reads
// information_schema, or LOCK TABLES, which takes its locks when it runs.
func (s *Session) describing(ctx *sql.Context) bool {
	text := ctx.Query()
	if s.described.text != text {
		s.described.text = text
		lower := strings.ToLower(strings.TrimSpace(text))
		s.described.yes = strings.HasPrefix(lower, "show") || strings.HasPrefix(lower, "lock") || strings.HasPrefix(lower, "desc") ||
			strings.Contains(lower, "information_schema")
	}
	return s.described.yes
}

func (s *Session) metadataWait(ctx *sql.Context) time.Duration {
	if wait := s.seconds(ctx, "lock_wait_timeout"); wait > 0 {
		return wait
	}
	return time.Hour
}

// tableLock and schemaLock are the names of metadata locks.
func tableLock(database, table string) string {
	return strings.ToLower(database) + "/" + strings.ToLower(table)
}

func schemaLock(database string) string { return strings.ToLower(database) }

// changeTable replaces a table's descriptor by what edit makes of it. edit gets
// a copy it may modify.
func (s *Session) changeTable(ctx *sql.Context, database, table string, edit func(*schemaChange, *catalog.Table) error) error {
	d, schema, desc, err := s.tableForChange(ctx, database, table)
	if err != nil {
		return err
	}
	next := desc.Clone()
	next.Version++
	if err := edit(d, next); err != nil {
		return err
	}
	if strings.ToLower(next.Name) != strings.ToLower(desc.Name) {
		d.renamed[tableLock(schema.Name, desc.Name)] = tableLock(schema.Name, next.Name)
		d.set(s.catalog.snapshot.Load(), catalog.Change{
			Kind: catalog.KindTable, Database: strings.ToLower(schema.Name), Name: strings.ToLower(desc.Name)})
	}
	d.set(s.catalog.snapshot.Load(), catalog.Change{
		Kind: catalog.KindTable, Database: strings.ToLower(schema.Name), Name: strings.ToLower(next.Name), Value: next})
	return nil
}

// tableForChange locks a table exclusively and returns its present descriptor.
func (s *Session) tableForChange(ctx *sql.Context, database, table string) (*schemaChange, *catalog.Schema, *catalog.Table, error) {
	d, err := s.change(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := s.lockName(ctx, schemaLock(database), false); err != nil {
		return nil, nil, nil, err
	}
	if err := s.lockName(ctx, tableLock(database, table), true); err != nil {
		return nil, nil, nil, err
	}
	if err := s.fence(ctx, d, database, table); err != nil {
		return nil, nil, nil, err
	}
	d.view = s.catalog.snapshot.Load().Apply(d.changes)
	schema := d.view.Schema(database)
	if schema == nil {
		return nil, nil, nil, sql.ErrDatabaseNotFound.New(database)
	}
	desc := schema.Table(table)
	if desc == nil {
		return nil, nil, nil, sql.ErrTableNotFound.New(table)
	}
	return d, schema, desc, nil
}

// changeObject puts or removes (value nil) a view, trigger, procedure or event.
func (s *Session) changeObject(ctx *sql.Context, kind catalog.Kind, database, name string, value any) error {
	d, err := s.change(ctx)
	if err != nil {
		return err
	}
	if err := s.lockName(ctx, schemaLock(database), false); err != nil {
		return err
	}
	if err := s.lockName(ctx, string(kind)+":"+tableLock(database, name), true); err != nil {
		return err
	}
	d.set(s.catalog.snapshot.Load(), catalog.Change{
		Kind: kind, Database: strings.ToLower(database), Name: strings.ToLower(name), Value: value})
	return nil
}

// commitChange writes the schema change into tx, commits tx and publishes.
func (s *Session) commitChange(ctx *sql.Context, tx *txn.Txn) error {
	d := s.ddl
	if err := s.datePublic(ctx, d); err != nil {
		return err
	}
	if err := s.writeChange(ctx, tx, d); err != nil {
		return err
	}
	err := tx.Commit(ctx)
	var e *txn.Error
	if errors.As(err, &e) && e.Code == txn.Unknown {
		// The store knows the outcome even though this call does not. If nothing
		// was committed, the build records are still there and the next start
		// finds them; to give the data up now could be to give up live data.
		d.built = nil
		if again := s.catalog.reload(ctx); again != nil {
			s.server.config.Logger.Error("schema change with unknown outcome; reload failed", "error", again)
		}
		return err
	}
	if err != nil {
		return err
	}
	// The change is durable: from here on nothing may keep it from being
	// published, least of all a client that has gone.
	d.published = true
	s.catalog.publish(d.changes)
	s.followChange(d)
	for table, next := range d.auto {
		s.catalog.auto.reset(table, next)
	}
	s.server.garbage.wake()
	return nil
}

func (s *Session) writeChange(ctx *sql.Context, tx *txn.Txn, d *schemaChange) error {
	if err := countChange(ctx, tx); err != nil {
		return err
	}
	for _, c := range d.changes {
		var err error
		if c.Value == nil {
			err = deleteRecord(ctx, tx, objectKey(c))
		} else {
			err = putRecord(ctx, tx, objectKey(c), c.Value)
		}
		if err != nil {
			return err
		}
	}
	return s.writeData(ctx, tx, d)
}

// writeData records what became of data: built, or garbage.
func (s *Session) writeData(ctx *sql.Context, tx *txn.Txn, d *schemaChange) error {
	for _, b := range d.built {
		if err := deleteRecord(ctx, tx, idKey(keyBuild, b.ID)); err != nil {
			return err
		}
	}
	for _, g := range d.garbage {
		if err := putRecord(ctx, tx, idKey(keyGarbage, g.ID), g); err != nil {
			return err
		}
	}
	for table, next := range d.auto {
		var err error
		if next == 0 {
			err = deleteRecord(ctx, tx, idKey(keyAuto, table))
		} else {
			err = putRecord(ctx, tx, idKey(keyAuto, table), next)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// abandonChange forgets an unfinished schema change. Its build records stay;
// the garbage collector removes what they name.
func (s *Session) abandonChange() {
	if s.ddl == nil {
		return
	}
	if len(s.ddl.built) > 0 {
		s.server.garbage.abandon(s.ddl.built)
	}
	s.ddl = nil
}
