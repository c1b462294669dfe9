package sqlfront

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// editor writes the rows of one statement to one table. Every key that it puts
// or deletes, of rows and of index entries, is locked exclusively first, at the
// time of the statement (rule S1).
type editor struct {
	table   *Table
	session *Session
	// mark is where the engine began last: with the statement, or, if it ignores
	// errors, with the row. began is where it began first.
	mark, began txn.Savepoint
	tx          *txn.Txn // of the savepoints
	pending     []sql.Row
	changes     []change
	held        int   // bytes of pending or changes, about
	delta       int64 // rows added since the statement began
	// A build writes to a table that is not in the catalog yet, or to one index
	// only, in transactions of its own.
	fixed *tableInfo
	only  *indexInfo
	own   *txn.Txn
	// doubled are unique indexes that are being built and that a row of the statement
	// will not fit into.
	doubled map[catalog.ID]bool
	// admitted says that the table's metadata lock is one to write under.
	admitted bool
	// again says that a row may be asked to be deleted once more: a join of
	// DELETE names a row as often as it has partners, and the row is locked, so
	// nobody else can have taken it.
	again bool
	load  loadState
}

var (
	_ sql.TableEditor      = (*editor)(nil)
	_ sql.ForeignKeyEditor = (*editor)(nil)
)

func newEditor(t *Table) *editor { return &editor{table: t, session: t.session} }

// StatementBegin implements sql.EditOpenerCloser.
func (e *editor) StatementBegin(ctx *sql.Context) {
	tx, err := e.txn(ctx)
	if err != nil {
		return // the first operation meets the same error and can return it
	}
	mark := tx.Savepoint()
	if e.tx != tx || mutated("1.6.ignore-undoes-a-row") {
		e.began = mark
	}
	e.tx, e.mark, e.delta, e.doubled = tx, mark, 0, nil
}

// DiscardChanges implements sql.EditOpenerCloser. The engine calls it under IGNORE
// for each row that has an error: if it is one to ignore the row alone is undone,
// if not the statement ends, and all of it is.
func (e *editor) DiscardChanges(_ *sql.Context, err error) error {
	e.pending, e.changes, e.held = nil, nil, 0
	e.delta = 0
	e.session.rereads.changed()
	if e.tx == nil || e.tx.Aborted() != nil {
		return nil
	}
	to := e.began
	if errors.As(err, &sql.IgnorableError{}) {
		to = e.mark
	}
	e.tx.RollbackTo(to)
	return nil
}

// StatementComplete implements sql.EditOpenerCloser. The engine calls it also
// for a statement that was killed half way; what that statement did is undone.
func (e *editor) StatementComplete(ctx *sql.Context) error {
	if err := ctx.Err(); err != nil {
		e.DiscardChanges(ctx, err)
		return e.failure(err)
	}
	if err := e.flush(ctx); err != nil {
		e.DiscardChanges(ctx, err)
		return err
	}
	e.session.catalog.stats.add(e.info().desc.Rows, e.delta)
	e.delta = 0
	return nil
}

// Close implements sql.Closer. Under IGNORE the engine says of a statement that was
// killed between two rows only that it is over. A plan that is run again, as in a
// procedure, has the same editor.
func (e *editor) Close(ctx *sql.Context) error {
	defer func() { e.tx = nil }()
	if err := ctx.Err(); err != nil && e.tx != nil && !mutated("1.6.ignore-killed") {
		e.DiscardChanges(ctx, err)
		return e.failure(err)
	}
	return e.flush(ctx)
}

func (e *editor) info() *tableInfo {
	if e.fixed != nil {
		return e.fixed
	}
	return e.table.now()
}

// txn is the transaction to write in.
func (e *editor) txn(ctx *sql.Context) (*txn.Txn, error) {
	if e.own != nil {
		return e.own, nil
	}
	e.session.rereads.changed()
	if e.session.readOnly() && !e.table.info.temporary {
		return nil, sql.ErrReadOnlyTransaction.New()
	}
	tx, err := e.session.txn(ctx)
	if err == nil {
		e.session.uses(tx, e.info())
	}
	return tx, err
}

// writer is txn for an operation that writes: LOCK TABLES of others keeps it away.
func (e *editor) writer(ctx *sql.Context) (*txn.Txn, error) {
	tx, err := e.txn(ctx)
	if err != nil || e.own != nil || e.admitted {
		return tx, err
	}
	if err := e.table.lockToWrite(ctx); err != nil {
		return nil, err
	}
	e.admitted = true
	return tx, nil
}

// failure passes an error on; one that ended the session's transaction has
// consequences there.
func (e *editor) failure(err error) error {
	if e.own != nil {
		return err
	}
	return e.session.failed(err)
}

// Insert implements sql.RowInserter.
func (e *editor) Insert(ctx *sql.Context, row sql.Row) error {
	if e.table.loads {
		if whole, err := e.loading(ctx); err != nil {
			return err
		} else if whole {
			return e.loadRow(ctx, row)
		}
	}
	if !e.table.buffered {
		return e.insert(ctx, []sql.Row{row})
	}
	e.pending = append(e.pending, row.Copy())
	e.held += rowBytes(row)
	if len(e.pending) < pageRows && e.held < pageBytes {
		return nil
	}
	return e.flush(ctx)
}

// rowBytes is about what a row takes in memory.
func rowBytes(row sql.Row) int {
	n := 0
	for _, v := range row {
		n += 16
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}

// flush writes the rows that were held back.
func (e *editor) flush(ctx *sql.Context) error {
	rows := e.pending
	e.pending = nil
	if len(rows) == 0 {
		return e.flushChanges(ctx)
	}
	e.held = 0
	return e.insert(ctx, rows)
}

// write is one key that a row puts, with what a duplicate means.
type write struct {
	row      int
	at       location // of the key
	home     location // of the row
	index    *indexInfo
	conflict bool // another row at this key is a duplicate
	let      bool // it is one, and is let pass: nothing is written
	unread   bool // it is known, or does not matter, what the key holds
	value    []byte
}

// insert adds rows. One locking request covers all their keys.
func (e *editor) insert(ctx *sql.Context, rows []sql.Row) error {
	tx, err := e.writer(ctx)
	if err != nil {
		return err
	}
	var writes []write
	for i, row := range rows {
		if writes, err = e.writes(ctx, writes, i, row); err != nil {
			return err
		}
	}
	present, err := lockWrites(ctx, tx, writes)
	if err != nil {
		return e.failure(err)
	}
	batch := map[string]int{} // keys that earlier rows of the batch have put
	for first := 0; first < len(writes); {
		last := first // past the writes of one row
		for last < len(writes) && writes[last].row == writes[first].row {
			last++
		}
		if err := e.putRow(ctx, tx, rows, writes[first:last], present[first:last], batch); err != nil {
			return err
		}
		first = last
	}
	e.delta += int64(len(rows))
	return nil
}

// putRow puts one row and its entries, or nothing if any of them is a duplicate.
func (e *editor) putRow(ctx *sql.Context, tx *txn.Txn, rows []sql.Row, writes []write, present []txn.Row, batch map[string]int) error {
	for i, w := range writes {
		if !w.conflict {
			continue
		}
		earlier, ok := batch[string(w.at.key)]
		switch {
		case w.index.state == catalog.IndexTolerant:
			writes[i].let = ok || present[i].Found
		case present[i].Found:
			return e.duplicate(ctx, tx, w, present[i].Value, rows[w.row])
		case ok:
			return e.duplicateError(w, rows[w.row], rows[earlier])
		}
	}
	for _, w := range writes {
		if w.let {
			if err := e.noteDouble(ctx, tx, w, rows[w.row]); err != nil {
				return err
			}
			continue
		}
		batch[string(w.at.key)] = w.row
		if err := tx.Put(w.at.txn(), w.value); err != nil {
			return e.failure(err)
		}
	}
	return nil
}

// writes appends what a new row puts: itself first, then its entries.
func (e *editor) writes(ctx *sql.Context, out []write, i int, row sql.Row) ([]write, error) {
	info := e.info()
	if err := checkRow(info.schema, row); err != nil {
		return nil, err
	}
	row, err := info.withVirtual(ctx, row)
	if err != nil {
		return nil, err
	}
	if err := info.checkConstraints(ctx, row); err != nil {
		return nil, err
	}
	var home location
	if info.keyless() {
		if home, err = info.hashLocation(ctx, row); err == nil {
			home = home.freshRow()
		}
	} else {
		home, err = info.rowLocation(ctx, row)
	}
	if err != nil {
		return nil, err
	}
	if e.only == nil {
		value, err := info.encodeRow(ctx, row)
		if err != nil {
			return nil, err
		}
		out = append(out, write{row: i, at: home, home: home, index: info.primary, conflict: true, value: value, unread: mutated("0094.rows-unread")})
	}
	for _, x := range info.indexes {
		if e.only != nil && x.id != e.only.id || x.state == catalog.IndexDeleteOnly && !mutated("H11.delete-only-adds") {
			continue
		}
		at, conflict, err := x.entryLocation(ctx, row, home)
		if err != nil {
			return nil, err
		}
		value, err := x.encodeEntry(ctx, row, home)
		if err != nil {
			return nil, err
		}
		unread := (!conflict || mutated("0094.duplicates-unread")) && x.state == catalog.IndexPublic
		out = append(out, write{row: i, at: at, home: home, index: x, conflict: conflict, value: value, unread: unread})
	}
	return out, nil
}

// lockWrites locks keys that are to be written, and reads them. Whether an entry of an
// index that is being built has changed since the transaction's snapshot does not
// matter: nothing is read through it, and it comes when it is built.
//
// An entry of a complete index whose key has the row in it, or that goes with a row, is
// locked alone. Nobody but its row's writers write it, all of whom write and lock the
// row, except who filled the index: so the row, which is read, tells whether it has
// changed since the snapshot, and whether it is there.
func lockWrites(ctx *sql.Context, tx *txn.Txn, writes []write) ([]txn.Row, error) {
	keys, building := make([]txn.Key, 0, len(writes)), make([]txn.Key, 0)
	for _, w := range writes {
		switch {
		case w.unread:
			keys = append(keys, w.at.txn().LockOnly())
		case w.index.state == catalog.IndexPublic:
			keys = append(keys, w.at.txn())
		default:
			building = append(building, w.at.txn())
		}
	}
	rows, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive})
	if err != nil || len(building) == 0 {
		return rows, err
	}
	entries, err := tx.GetMany(ctx, building, txn.ReadOptions{Lock: txn.LockExclusive, AnyVersion: true})
	if err != nil {
		return nil, err
	}
	out := make([]txn.Row, len(writes))
	for i, w := range writes {
		from := &rows
		if w.index.state != catalog.IndexPublic {
			from = &entries
		}
		out[i], *from = (*from)[0], (*from)[1:]
	}
	return out, nil
}

// duplicate reads the row in the way, which ON DUPLICATE KEY and REPLACE need.
func (e *editor) duplicate(ctx *sql.Context, tx *txn.Txn, w write, found []byte, row sql.Row) error {
	info := e.info()
	if !w.index.primary {
		at, _, err := decodeEntry(info.desc.Rows, found)
		if err != nil {
			return err
		}
		other, err := tx.Get(ctx, at.txn(), txn.ReadOptions{Lock: txn.LockExclusive})
		if err != nil {
			return e.failure(err)
		}
		if !other.Found {
			return fmt.Errorf("index %s of %s points to a row that does not exist", w.index.name, info.desc.Name)
		}
		found = other.Value
	}
	existing, err := info.decodeRow(ctx, found)
	if err != nil {
		return err
	}
	return e.duplicateError(w, row, existing)
}

func (e *editor) duplicateError(w write, row, existing sql.Row) error {
	return sql.NewUniqueKeyErr(keyText(w.index, row), w.index.primary, existing)
}

// keyText shows a key as the engine's own tables do.
func keyText(x *indexInfo, row sql.Row) string {
	var parts []string
	for _, v := range x.values(row) {
		parts = append(parts, fmt.Sprint(v))
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// checkRow compares a row with the schema it is written under.
func checkRow(schema sql.Schema, row sql.Row) error {
	if len(row) != len(schema) {
		return sql.ErrUnexpectedRowLength.New(len(schema), len(row))
	}
	return nil
}

// GetIndexes implements sql.IndexAddressable.
func (e *editor) GetIndexes(ctx *sql.Context) ([]sql.Index, error) { return e.table.GetIndexes(ctx) }

// PreciseMatch implements sql.IndexAddressable.
func (e *editor) PreciseMatch() bool { return true }

// IndexedAccess implements sql.IndexAddressable. Foreign keys look rows up
// through it: children of a changed row to change them as well, or the parent
// that must stay (then SetReferenceCheck is called). Both read the latest
// version under a lock, so that what was checked still holds at commit.
func (e *editor) IndexedAccess(*sql.Context, sql.IndexLookup) sql.IndexedTable {
	locked := e.table.locking(readMode{lock: txn.LockExclusive, interval: !mutated("2.2.foreign-keys-by-row")})
	locked.columns, locked.schema, locked.names = nil, nil, nil
	return &editorTable{IndexedTable: IndexedTable{locked}, editor: e}
}

// editorTable is a table as its editor's statement sees it.
type editorTable struct {
	IndexedTable
	editor *editor
}

var _ sql.ReferenceChecker = (*editorTable)(nil)

// SetReferenceCheck implements sql.ReferenceChecker: existence is asked for,
// which a shared lock protects. Whether the parent changed since the snapshot
// does not matter, it is not what the transaction has read.
func (t *editorTable) SetReferenceCheck() error {
	t.read.lock, t.read.anyVersion = txn.LockShared, true
	return nil
}

// PartitionRows implements sql.Table. Rows that the statement holds back are
// written first.
func (t *editorTable) PartitionRows(ctx *sql.Context, p sql.Partition) (sql.RowIter, error) {
	if err := t.editor.flush(ctx); err != nil {
		return nil, err
	}
	return t.IndexedTable.PartitionRows(ctx, p)
}
