package sqlfront

import (
	"cmp"
	"context"
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
	frozen    []frozenTable       // what other gateways keep off for it
	database  string              // the database that is frozen as a whole
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
	if err := s.lockMode(ctx, globalLock, catalog.SharedWrite); err != nil {
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
	if s.holder.Holds(name, mode) || s.locked.holder.Holds(name, mode) || s.global.tables.Holds(name, mode) {
		return nil
	}
	if err := cmp.Or(s.global.refuse(mode), s.locked.refuse(name, mode)); err != nil {
		return err
	}
	return s.lockTimeout(name, s.catalog.locks.Acquire(ctx, &s.holder, name, mode, s.variables().metadataWait))
}

// lockFresh takes the name that a table is to get, which no LOCK TABLES can have
// locked.
func (s *Session) lockFresh(ctx *sql.Context, name string) error {
	if s.locked.holder.Holds(name, catalog.Exclusive) {
		return nil
	}
	return s.lockTimeout(name, s.catalog.locks.Acquire(ctx, &s.holder, name, catalog.Exclusive, s.variables().metadataWait))
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
	if err := s.stillLocked(time.Now()); err != nil {
		return err
	}
	if err := s.lockName(ctx, schemaLock(database), false); err != nil {
		return err
	}
	return s.lockName(ctx, tableLock(database, table), false)
}

// describing tells whether the statement is SHOW, DESCRIBE or reads
// information_schema, or LOCK TABLES or FLUSH TABLES, which take their locks when
// they run.
func (s *Session) describing(ctx *sql.Context) bool {
	text := ctx.Query()
	if s.described.text != text {
		s.described.text = text
		lower := strings.ToLower(strings.TrimSpace(text))
		s.described.yes = strings.HasPrefix(lower, "show") || strings.HasPrefix(lower, "lock") || strings.HasPrefix(lower, "flush") || strings.HasPrefix(lower, "desc") ||
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
	next.Frozen = 0
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
	if desc.Frozen != 0 && desc.Frozen != s.catalog.follower.id {
		return nil, nil, nil, numbered(&txn.Error{Code: txn.SchemaChanged, Detail: database + "." + table})
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
	if err := s.nameCounters(ctx, d); err != nil {
		return err
	}
	version, err := s.writeChange(ctx, tx, d)
	if err != nil {
		return err
	}
	err = tx.Commit(ctx)
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
	s.catalog.publish(d.changes, version)
	s.followChange(d)
	s.catalog.follower.busy(-len(d.frozen))
	if d.database != "" {
		s.catalog.follower.busy(-1)
	}
	d.frozen, d.database = nil, ""
	s.settleChange(ctx, version)
	s.server.garbage.wake()
	return nil
}

// nameCounters gives the tables whose counters are set anew new counters.
func (s *Session) nameCounters(ctx context.Context, d *schemaChange) error {
	for _, c := range d.changes {
		desc, ok := c.Value.(*catalog.Table)
		if !ok || desc == nil || d.auto[desc.ID] == 0 {
			continue
		}
		id, err := s.catalog.newID(ctx)
		if err != nil {
			return err
		}
		desc.AutoID, desc.AutoFirst = id, d.auto[desc.ID]
	}
	return nil
}

// settleChange waits until no gateway plans without a change that is committed.
// The change stands whatever becomes of that.
func (s *Session) settleChange(ctx context.Context, version uint64) {
	const patience = 4 * deadAfter
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := s.catalog.follower.settled(ctx, version); err != nil {
		s.server.config.Logger.Warn("other gateways may not have seen a schema change yet", "error", err)
	}
}

// writeChange writes the new descriptors, if what they replace is still what it
// was when the change began, and returns the change's number.
func (s *Session) writeChange(ctx *sql.Context, tx *txn.Txn, d *schemaChange) (uint64, error) {
	if err := s.unchanged(ctx, tx, d); err != nil {
		return 0, err
	}
	for _, c := range d.changes {
		var err error
		if c.Value == nil {
			err = deleteRecord(ctx, tx, objectKey(c))
		} else {
			err = putRecord(ctx, tx, objectKey(c), c.Value)
		}
		if err != nil {
			return 0, err
		}
	}
	if err := s.writeData(ctx, tx, d); err != nil {
		return 0, err
	}
	// Last, as everywhere: who changes the schema locks objects, then their
	// database, then the number.
	return countChange(ctx, tx)
}

// unchanged compares what is stored with what the change was made from. Frozen
// tables can differ if this gateway was taken for dead, and other ones are new:
// two gateways may create the same.
func (s *Session) unchanged(ctx context.Context, tx *txn.Txn, d *schemaChange) error {
	for _, f := range d.frozen {
		key := objectKey(catalog.Change{Kind: catalog.KindTable, Database: strings.ToLower(f.database), Name: strings.ToLower(f.table.Name)})
		var now catalog.Table
		found, err := record(ctx, tx, key, &now)
		if err != nil {
			return err
		}
		if !found || now.ID != f.table.ID || now.Version != f.table.Version || now.Frozen != f.table.Frozen {
			return &txn.Error{Code: txn.SchemaChanged, Detail: f.database + "." + f.table.Name}
		}
	}
	for _, c := range d.changes {
		if err := s.newStill(ctx, tx, d, c); err != nil {
			return err
		}
	}
	return s.databasesStand(ctx, tx, d)
}

// newStill refuses to create what exists by now.
func (s *Session) newStill(ctx context.Context, tx *txn.Txn, d *schemaChange, c catalog.Change) error {
	switch desc := c.Value.(type) {
	case *catalog.Table:
		if desc == nil || d.replaces(c) {
			return nil
		}
		found, err := record(ctx, tx, objectKey(c), &catalog.Table{})
		if err == nil && found {
			err = sql.ErrTableAlreadyExists.New(desc.Name)
		}
		return err
	case *catalog.Database:
		if desc == nil || c.Kind != catalog.KindDatabase {
			return nil
		}
		var now catalog.Database
		found, err := record(ctx, tx, objectKey(c), &now)
		switch {
		case err != nil || !found:
			return err
		case now.ID != desc.ID:
			return sql.ErrDatabaseExists.New(desc.Name)
		case now.Frozen != 0:
			return &txn.Error{Code: txn.SchemaChanged, Detail: desc.Name}
		}
		return nil
	}
	return nil
}

// replaces tells whether a change puts a version of a table in place of the one
// that was frozen under that name.
func (d *schemaChange) replaces(c catalog.Change) bool {
	return slices.ContainsFunc(d.frozen, func(f frozenTable) bool {
		return strings.EqualFold(f.database, c.Database) && strings.EqualFold(f.table.Name, c.Name)
	})
}

// databasesStand refuses to put anything into a database that is gone, or about
// to go.
func (s *Session) databasesStand(ctx context.Context, tx *txn.Txn, d *schemaChange) error {
	seen := map[string]bool{}
	for _, c := range d.changes {
		if c.Kind == catalog.KindDatabase {
			seen[c.Database] = seen[c.Database] || d.database == ""
		}
	}
	for _, c := range d.changes {
		if seen[c.Database] {
			continue
		}
		seen[c.Database] = true
		var now catalog.Database
		found, err := record(ctx, tx, objectKey(catalog.Change{Kind: catalog.KindDatabase, Database: c.Database}), &now)
		switch {
		case err != nil:
			return err
		case d.database != "" && (!found || now.Frozen != s.catalog.follower.id):
			return &txn.Error{Code: txn.SchemaChanged, Detail: c.Database}
		case !found:
			return sql.ErrDatabaseNotFound.New(c.Database)
		case d.database == "" && now.Frozen != 0:
			return &txn.Error{Code: txn.SchemaChanged, Detail: c.Database}
		}
	}
	return nil
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
	for table := range d.auto { // of an earlier version of this program
		if err := deleteRecord(ctx, tx, idKey(keyAuto, table)); err != nil {
			return err
		}
	}
	return nil
}

// abandonChange forgets an unfinished schema change. Its build records stay;
// the garbage collector removes what they name. What it has frozen thaws in the
// background: a session may end where nobody can wait for the network.
func (s *Session) abandonChange() {
	d := s.ddl
	if d == nil {
		return
	}
	if len(d.built) > 0 {
		s.server.garbage.abandon(d.built)
	}
	s.ddl = nil
	if len(d.frozen) > 0 {
		s.server.background.Go(func() { s.server.thawAll(d.frozen) })
	}
	if d.database != "" {
		s.server.background.Go(func() { s.server.thawSchema(d.database) })
	}
}
