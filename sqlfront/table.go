package sqlfront

import (
	"io"
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// Table is the engine's handle of one table in one session and statement.
type Table struct {
	session *Session
	info    *tableInfo
	// columns are the schema positions of a projection; nil means all.
	columns []int
	schema  sql.Schema // of the projection
	names   []string
	read    readMode
	// buffered says that inserted rows may wait for the end of the statement.
	buffered bool
	// loads says that a LOAD DATA writes to it which may lock it as a whole.
	loads bool
	file  *plainLoad // what reads its file; nil: the engine
	// bytewise says that schema stands for the whole table (see compareBytes).
	bytewise bool
	// instead is what an index lookup selects, whatever the plan says; nil: the plan.
	instead *sql.IndexLookup
}

// readMode is how rows are read: from the snapshot, or latest and locked.
type readMode struct {
	lock txn.Lock
	wait txn.Wait
	tx   *txn.Txn // AS OF: a transaction that reads the past; nil: the session's
	// change says that the statement changes what it reads.
	change bool
	// anyVersion accepts rows that changed after the transaction's snapshot.
	anyVersion bool
	// interval locks what is scanned as a whole at every isolation level.
	interval bool
	where    *rowCondition // of the rows that the statement wants; nil: unknown
	semi     bool          // UPDATE of one table: see looseScan
	limit    int           // how many rows it fetches at least; 0: unknown
	first    *firstRows    // it fetches no more than these; nil: unknown
	filter   *pushedFilter // by which owners leave rows out of a scan of the table; nil: they send all
}

var (
	_ sql.Table                    = (*Table)(nil)
	_ sql.Databaseable             = (*Table)(nil)
	_ sql.TemporaryTable           = (*Table)(nil)
	_ sql.CommentedTable           = (*Table)(nil)
	_ sql.ProjectedTable           = (*Table)(nil)
	_ sql.PrimaryKeyTable          = (*Table)(nil)
	_ sql.IndexAddressableTable    = (*Table)(nil)
	_ sql.StatisticsTable          = (*Table)(nil)
	_ sql.InsertableTable          = (*Table)(nil)
	_ sql.UpdatableTable           = (*Table)(nil)
	_ sql.DeletableTable           = (*Table)(nil)
	_ sql.ReplaceableTable         = (*Table)(nil)
	_ sql.TruncateableTable        = (*Table)(nil)
	_ sql.AutoIncrementTable       = (*Table)(nil)
	_ sql.CheckTable               = (*Table)(nil)
	_ sql.CheckAlterableTable      = (*Table)(nil)
	_ sql.ForeignKeyTable          = (*Table)(nil)
	_ sql.AlterableTable           = (*Table)(nil)
	_ sql.RewritableTable          = (*Table)(nil)
	_ sql.IndexAlterableTable      = (*Table)(nil)
	_ sql.IndexBuildingTable       = (*Table)(nil)
	_ sql.PrimaryKeyAlterableTable = (*Table)(nil)
	_ sql.CollationAlterableTable  = (*Table)(nil)
	_ sql.CommentAlterableTable    = (*Table)(nil)
)

// now is the table as the session sees it at this moment: while the session
// changes the schema, a handle follows the changes.
func (t *Table) now() *tableInfo {
	if t.info.temporary {
		if info := t.session.temporary.find(t.info.database, t.info.desc.Name); info != nil {
			return info
		}
		return t.info
	}
	if t.session.ddl == nil {
		return t.info
	}
	if info := t.session.tableInfo(t.info.database, t.info.desc.Name); info != nil && info.desc.ID == t.info.desc.ID {
		return info
	}
	return t.info
}

// Name implements sql.Nameable.
func (t *Table) Name() string { return t.info.desc.Name }

// String implements fmt.Stringer.
func (t *Table) String() string { return t.info.desc.Name }

// Database implements sql.Databaseable.
func (t *Table) Database() string { return t.info.database }

// Schema implements sql.Table.
func (t *Table) Schema(*sql.Context) sql.Schema {
	if t.columns != nil || t.bytewise {
		return t.schema
	}
	return t.now().schema
}

// Collation implements sql.Table.
func (t *Table) Collation() sql.CollationID { return sql.CollationID(t.now().desc.Collation) }

// Comment implements sql.CommentedTable.
func (t *Table) Comment() string { return t.now().desc.Comment }

// IsTemporary implements sql.TemporaryTable. The engine asks every table under
// START TRANSACTION READ ONLY and cannot bear one that does not answer.
func (t *Table) IsTemporary() bool { return t.info.temporary }

// PrimaryKeySchema implements sql.PrimaryKeyTable.
func (t *Table) PrimaryKeySchema(*sql.Context) sql.PrimaryKeySchema { return t.now().keySchema }

// WithProjections implements sql.ProjectedTable.
func (t *Table) WithProjections(_ *sql.Context, names []string) (sql.Table, error) {
	next := *t
	next.columns, next.schema, next.names = nil, nil, nil
	if names == nil {
		return &next, nil
	}
	info := t.now()
	next.columns, next.schema, next.names = []int{}, sql.Schema{}, names
	for _, name := range names {
		i := info.desc.Column(name)
		if i < 0 {
			return nil, sql.ErrTableColumnNotFound.New(t.Name(), name)
		}
		next.columns = append(next.columns, i)
		next.schema = append(next.schema, info.schema[i])
	}
	return &next, nil
}

// Projections implements sql.ProjectedTable.
func (t *Table) Projections() []string { return t.names }

// partition is a whole table, or what an index lookup selects of it.
type partition struct{ lookup *sql.IndexLookup }

// Key implements sql.Partition.
func (partition) Key() []byte { return []byte("all") }

// onePartition is an iterator over a single partition. The fan-out over shards
// happens below, in the cursor.
type onePartition struct {
	partition partition
	done      bool
}

func (p *onePartition) Next(*sql.Context) (sql.Partition, error) {
	if p.done {
		return nil, io.EOF
	}
	p.done = true
	return p.partition, nil
}

func (p *onePartition) Close(*sql.Context) error { return nil }

// Partitions implements sql.Table.
func (t *Table) Partitions(*sql.Context) (sql.PartitionIter, error) { return &onePartition{}, nil }

// PartitionRows implements sql.Table.
func (t *Table) PartitionRows(ctx *sql.Context, p sql.Partition) (sql.RowIter, error) {
	return t.open(ctx, p.(partition).lookup)
}

// IndexedAccess implements sql.IndexAddressable.
func (t *Table) IndexedAccess(_ *sql.Context, _ sql.IndexLookup) sql.IndexedTable {
	return &IndexedTable{Table: t}
}

// PreciseMatch implements sql.IndexAddressable: whether the planner may drop the
// conditions that an index lookup answers. Its ranges are not always what the
// conditions say (it joins the two ranges of a <> over DECIMAL into one), and a
// condition too few is a wrong answer; so only of integers. There it matters most:
// with the condition in the way of a lookup by key, the planner does not see the
// chain of lookups in a join of many tables, and keeps the order they are written in.
func (t *Table) PreciseMatch() bool { return t.now().exactIndexes }

// GetIndexes implements sql.IndexAddressable.
func (t *Table) GetIndexes(ctx *sql.Context) ([]sql.Index, error) {
	info := t.now()
	var out []sql.Index
	if !info.keyless() { // without rows nothing else helps: see Session.visible
		out = append(out, &Index{table: info, index: info.primary})
	}
	for _, x := range info.indexes {
		if x.state == catalog.IndexPublic && t.usable(ctx, x) {
			out = append(out, &Index{table: info, index: x})
		}
	}
	return out, nil
}

// IndexedTable is a table read through an index.
type IndexedTable struct{ *Table }

var _ sql.IndexedTable = (*IndexedTable)(nil)

// LookupPartitions implements sql.IndexedTable.
func (t *IndexedTable) LookupPartitions(_ *sql.Context, lookup sql.IndexLookup) (sql.PartitionIter, error) {
	if t.instead != nil {
		return &onePartition{partition: partition{lookup: t.instead}}, nil
	}
	return &onePartition{partition: partition{lookup: &lookup}}, nil
}

// GetChecks implements sql.CheckTable.
func (t *Table) GetChecks(*sql.Context) ([]sql.CheckDefinition, error) {
	var out []sql.CheckDefinition
	for _, c := range t.now().desc.Checks {
		out = append(out, sql.CheckDefinition{Name: c.Name, CheckExpression: c.Expression, Enforced: c.Enforced})
	}
	return out, nil
}

// GetDeclaredForeignKeys implements sql.ForeignKeyTable.
func (t *Table) GetDeclaredForeignKeys(*sql.Context) ([]sql.ForeignKeyConstraint, error) {
	info := t.now()
	var out []sql.ForeignKeyConstraint
	for _, f := range info.desc.ForeignKeys {
		out = append(out, f.Constraint(info.database, info.desc.Name))
	}
	slices.SortFunc(out, func(a, b sql.ForeignKeyConstraint) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// GetReferencedForeignKeys implements sql.ForeignKeyTable.
func (t *Table) GetReferencedForeignKeys(*sql.Context) ([]sql.ForeignKeyConstraint, error) {
	return t.session.snapshot().References(t.info.database, t.Name()), nil
}

// RowCount implements sql.StatisticsTable. It is an estimate: exact counts are
// read from the rows.
func (t *Table) RowCount(ctx *sql.Context) (uint64, bool, error) {
	n, err := t.session.catalog.stats.rows(ctx, t.session, t.now())
	return n, false, err
}

// DataLength implements sql.StatisticsTable, estimated from the column types.
func (t *Table) DataLength(ctx *sql.Context) (uint64, error) {
	n, _, err := t.RowCount(ctx)
	if err != nil {
		return 0, err
	}
	return n * rowWidth(t.now().schema), nil
}

// rowWidth is a rough number of bytes per row.
func rowWidth(schema sql.Schema) uint64 {
	var width uint64
	for _, c := range schema {
		if s, ok := c.Type.(sql.StringType); ok {
			width += uint64(min(s.MaxByteLength(), 64))
			continue
		}
		width += 8
	}
	return width
}

// AutoIncrement

// PeekNextAutoIncrementValue implements sql.AutoIncrementGetter.
func (t *Table) PeekNextAutoIncrementValue(ctx *sql.Context) (uint64, error) {
	return t.session.autoPeek(ctx, t.now())
}

// GetNextAutoIncrementValue implements sql.AutoIncrementTable: nil takes the
// next value, a given value moves the counter past itself.
func (t *Table) GetNextAutoIncrementValue(ctx *sql.Context, given any) (uint64, error) {
	return t.session.autoNext(ctx, t.now(), given)
}

// AutoIncrementSetter implements sql.AutoIncrementTable.
func (t *Table) AutoIncrementSetter(*sql.Context) sql.AutoIncrementSetter { return &autoSetter{t} }

// Editors

// Inserter implements sql.InsertableTable.
func (t *Table) Inserter(*sql.Context) sql.RowInserter {
	e := newEditor(t)
	if t.file != nil {
		e.load.plain, t.file.editor = t.file, e
	}
	return e
}

// Updater implements sql.UpdatableTable.
func (t *Table) Updater(*sql.Context) sql.RowUpdater { return newEditor(t) }

// Deleter implements sql.DeletableTable.
func (t *Table) Deleter(*sql.Context) sql.RowDeleter {
	e := newEditor(t)
	e.again = true
	return e
}

// Replacer implements sql.ReplaceableTable.
func (t *Table) Replacer(*sql.Context) sql.RowReplacer { return newEditor(t) }

// GetForeignKeyEditor implements sql.ForeignKeyTable.
func (t *Table) GetForeignKeyEditor(*sql.Context) sql.ForeignKeyEditor { return newEditor(t) }

// locking is the same table read with a lock.
func (t *Table) locking(mode readMode) *Table {
	next := *t
	next.read = mode
	return &next
}

// isTable tells whether a constraint's end is this table.
func (t *tableInfo) isTable(database, table string) bool {
	return strings.EqualFold(t.desc.Name, table) && strings.EqualFold(t.database, database)
}

// columnIDs translates index columns by name to ids.
func columnIDs(desc *catalog.Table, columns []sql.IndexColumn) ([]catalog.IndexColumn, error) {
	var out []catalog.IndexColumn
	for _, c := range columns {
		i := desc.Column(c.Name)
		if i < 0 {
			return nil, sql.ErrKeyColumnDoesNotExist.New(c.Name)
		}
		out = append(out, catalog.IndexColumn{Column: desc.Columns[i].ID, Prefix: uint16(c.Length)})
	}
	return out, nil
}
