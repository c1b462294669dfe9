package sqlfront

import (
	"bytes"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// Delete implements sql.RowDeleter.
func (e *editor) Delete(ctx *sql.Context, row sql.Row) error {
	if err := e.settleInserts(ctx); err != nil {
		return err
	}
	tx, err := e.writer(ctx)
	if err != nil {
		return err
	}
	before, err := e.removals(ctx, tx, row)
	if e.again && sql.ErrDeleteRowNotFound.Is(err) {
		return nil
	}
	if err != nil {
		return e.first(ctx, err)
	}
	return e.change(ctx, change{before: before})
}

// settleInserts writes inserted rows that were held back before anything else is
// done to the table.
func (e *editor) settleInserts(ctx *sql.Context) error {
	if len(e.pending) == 0 {
		return nil
	}
	return e.flush(ctx)
}

// first is the error of a statement that err ends: a row that was held back comes
// before the one that err is about.
func (e *editor) first(ctx *sql.Context, err error) error {
	if earlier := e.flush(ctx); earlier != nil {
		return earlier
	}
	return err
}

// removals are the keys of a row that exists: itself first, then its entries.
func (e *editor) removals(ctx *sql.Context, tx *txn.Txn, row sql.Row) ([]write, error) {
	info := e.info()
	if err := checkRow(info.schema, row); err != nil {
		return nil, err
	}
	row, err := info.withVirtual(ctx, row)
	if err != nil {
		return nil, err
	}
	home, err := e.locate(ctx, tx, row)
	if err != nil {
		return nil, err
	}
	out := []write{{at: home, home: home, index: info.primary}}
	for _, x := range info.indexes {
		at, _, err := x.entryLocation(ctx, row, home)
		if err != nil {
			return nil, err
		}
		value, err := x.encodeEntry(ctx, row, home)
		if err != nil {
			return nil, err
		}
		out = append(out, write{at: at, home: home, index: x, value: value})
	}
	return out, nil
}

// locate finds a row. Rows without a primary key are found by their hash; any
// of several equal ones will do.
func (e *editor) locate(ctx *sql.Context, tx *txn.Txn, row sql.Row) (location, error) {
	info := e.info()
	if !info.keyless() {
		return info.rowLocation(ctx, row)
	}
	hash, err := info.hashLocation(ctx, row)
	if err != nil {
		return location{}, err
	}
	cursor, err := tx.Scan(ctx, txn.Scan{
		Lo: hash.key, Hi: keycodec.PrefixEnd(hash.key), Where: txn.OneShard(hash.token), Limit: 1, Lock: txn.LockExclusive,
	})
	if err != nil {
		return location{}, e.failure(err)
	}
	defer cursor.Close()
	found, ok, err := cursor.Next(ctx)
	if err != nil {
		return location{}, e.failure(err)
	}
	if !ok {
		return location{}, sql.ErrDeleteRowNotFound.New()
	}
	return location{append([]byte{}, found.Key...), hash.token}, nil
}

// Update implements sql.RowUpdater.
func (e *editor) Update(ctx *sql.Context, old, next sql.Row) error {
	if err := e.settleInserts(ctx); err != nil {
		return err
	}
	tx, err := e.writer(ctx)
	if err != nil {
		return err
	}
	before, err := e.removals(ctx, tx, old)
	if err != nil {
		return e.first(ctx, err)
	}
	after, err := e.writes(ctx, nil, 0, next)
	if err != nil {
		return e.first(ctx, err)
	}
	// A row that is newer than the snapshot has entries that plain reads through an
	// index do not see; as writes of this transaction they do.
	if !tx.WritesAhead() {
		before, after = changedOnly(before, after)
	}
	return e.change(ctx, change{before: before, after: after, next: next.Copy()})
}

// changedOnly leaves out the index entries that stay as they are: they need
// neither a write nor a lock. The row itself, the first of both, stays in. An
// index that only removes has no entry in after.
func changedOnly(before, after []write) (was, is []write) {
	was, is = before[:1:1], after[:1:1]
	next := 1
	for _, old := range before[1:] {
		if next >= len(after) || after[next].index != old.index {
			was = append(was, old)
			continue
		}
		now := after[next]
		next++
		if !bytes.Equal(old.at.key, now.at.key) || !bytes.Equal(old.value, now.value) {
			was, is = append(was, old), append(is, now)
		}
	}
	return was, is
}
