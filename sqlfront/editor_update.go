package sqlfront

import (
	"bytes"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// Delete implements sql.RowDeleter.
func (e *editor) Delete(ctx *sql.Context, row sql.Row) error {
	if err := e.flush(ctx); err != nil {
		return err
	}
	tx, err := e.txn(ctx)
	if err != nil {
		return err
	}
	writes, err := e.removals(ctx, tx, row)
	if e.again && sql.ErrDeleteRowNotFound.Is(err) {
		return nil
	}
	if err != nil {
		return err
	}
	present, err := e.lock(ctx, tx, writes)
	if err != nil {
		return e.failure(err)
	}
	if !present[0].Found {
		if e.again {
			return nil
		}
		return sql.ErrDeleteRowNotFound.New()
	}
	for _, w := range writes {
		if err := tx.Delete(w.at.txn()); err != nil {
			return e.failure(err)
		}
	}
	e.delta--
	return nil
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
	if err := e.flush(ctx); err != nil {
		return err
	}
	tx, err := e.txn(ctx)
	if err != nil {
		return err
	}
	before, err := e.removals(ctx, tx, old)
	if err != nil {
		return err
	}
	after, err := e.writes(ctx, nil, 0, next)
	if err != nil {
		return err
	}
	// A row that is newer than the snapshot has entries that plain reads through an
	// index do not see; as writes of this transaction they do.
	if !tx.WritesAhead() {
		before, after = changedOnly(before, after)
	}
	return e.replace(ctx, tx, before, after, next)
}

// changedOnly leaves out the index entries that stay as they are: they need
// neither a write nor a lock. The row itself, the first of both, stays in.
func changedOnly(before, after []write) (was, is []write) {
	same := func(a, b write) bool {
		return bytes.Equal(a.at.key, b.at.key) && bytes.Equal(a.value, b.value)
	}
	was, is = before[:1:1], after[:1:1]
	for i := 1; i < len(before); i++ {
		if !same(before[i], after[i]) {
			was, is = append(was, before[i]), append(is, after[i])
		}
	}
	return was, is
}

// replace turns the keys of the old row into those of the new one.
func (e *editor) replace(ctx *sql.Context, tx *txn.Txn, before, after []write, next sql.Row) error {
	present, err := e.lock(ctx, tx, append(append([]write{}, before...), after...))
	if err != nil {
		return e.failure(err)
	}
	if !present[0].Found {
		return sql.ErrDeleteRowNotFound.New()
	}
	own := map[string]bool{}
	for _, w := range before {
		own[string(w.at.key)] = true
	}
	for i, w := range after {
		found := present[len(before)+i]
		if w.conflict && found.Found && !own[string(w.at.key)] {
			return e.duplicate(ctx, tx, w, found.Value, next)
		}
		delete(own, string(w.at.key))
	}
	for _, w := range before {
		if !own[string(w.at.key)] {
			continue // overwritten below
		}
		if err := tx.Delete(w.at.txn()); err != nil {
			return e.failure(err)
		}
	}
	for _, w := range after {
		if err := tx.Put(w.at.txn(), w.value); err != nil {
			return e.failure(err)
		}
	}
	return nil
}
