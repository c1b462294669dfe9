package sqlfront

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// While a unique index is built, a statement of somebody else may write what it will
// forbid: the index is not there yet, and may never be. The statement goes on, and its
// transaction leaves a record of it. If such a record is committed, the index is given
// up, and its missing entries with it. Before the index can become public there is a
// state in which duplicates are refused, so that none is missed.

// doublesOf is the prefix of an index's records. Each has a number of its own: nobody
// waits for anybody else's.
func doublesOf(index catalog.ID) string { return string(idKey(keyDoubles, index).Bytes()) + "/" }

// noteDouble notes that another row has the key of w, once for a statement.
func (e *editor) noteDouble(ctx *sql.Context, tx *txn.Txn, w write, row sql.Row) error {
	if e.doubled[w.index.id] || mutated("H11.doubles-unnoted") {
		return nil
	}
	key := txn.InSystem(storage.Key(fmt.Sprintf("%s%016x", doublesOf(w.index.id), rand.Uint64())))
	if err := putRecord(ctx, tx, key, keyText(w.index, row)); err != nil {
		return e.failure(err)
	}
	if e.doubled == nil {
		e.doubled = map[catalog.ID]bool{}
	}
	e.doubled[w.index.id] = true
	return nil
}

// doubles fails if somebody has written what the index forbids.
func (j *indexJob) doubles(ctx context.Context, index catalog.ID) error {
	tx := j.catalog.reader("index")
	defer tx.Rollback(ctx)
	return eachRecord(ctx, tx, doublesOf(index), func(_ string, data []byte) error {
		var text string
		if err := catalog.DecodeRecord(data, &text); err != nil {
			return err
		}
		return errDuplicateRow{text}
	})
}

// forgetDoubles removes the records of an index that is not written any more.
func (c *Catalog) forgetDoubles(ctx context.Context, index catalog.ID) error {
	return c.update(ctx, "job", func(tx *txn.Txn) error {
		var keys []txn.Key
		err := eachRecord(ctx, tx, doublesOf(index), func(name string, _ []byte) error {
			keys = append(keys, txn.InSystem(storage.Key(doublesOf(index)+name)))
			return nil
		})
		for _, key := range keys {
			if err == nil {
				err = deleteRecord(ctx, tx, key)
			}
		}
		return err
	})
}
