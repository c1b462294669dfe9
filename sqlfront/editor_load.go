package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// LOAD DATA into an empty table locks the table's keys as a whole, on every shard.
// No row then needs a lock or a look at its shard: which keys are there is what the
// statement itself has written. If it is its own transaction its rows leave for
// their shards while the file is still being read (txn.WriteAhead). Where somebody
// is in the way, or anybody could ask what became of a row, rows are inserted one
// by one as by INSERT.

// loadAfter is the number of rows from which on a LOAD DATA tries for the table: a
// commit that has locked all shards has all of them vote.
const loadAfter = 256

// loadState is how far an editor has come with it.
type loadState struct {
	rows  int
	tried bool
	whole bool // the table's keys are locked and were found empty
	buf   []write
	plain *plainLoad // makes rows of lines; nil: the engine does
}

// rewriteLoad marks the table of a LOAD DATA whose rows nobody looks at before its
// end: no trigger, no foreign key, no expression that could read the table, no
// REPLACE, which removes rows.
func rewriteLoad(ctx *sql.Context, n *plan.InsertInto) (sql.Node, transform.TreeIdentity, error) {
	if !loads(ctx, n) || !sessionOf(ctx).flag(ctx, "rowlock_bulk_load") {
		return n, transform.SameTree, nil
	}
	destination, same, err := replaceTables(ctx, n.Destination, func(t *Table) *Table {
		if t.loads {
			return nil
		}
		next := *t
		next.loads, next.file = true, newPlainLoad(ctx, n, t)
		return &next
	})
	if err != nil || same == transform.SameTree {
		return n, transform.SameTree, err
	}
	next := *n
	next.Destination = destination
	return &next, transform.NewTree, nil
}

func loads(ctx *sql.Context, n *plan.InsertInto) bool {
	if n.IsReplace || n.HasAfterTrigger || n.OnDupExprs.HasUpdates() || len(n.Returning) > 0 || !loadStatement(ctx.Query()) {
		return false
	}
	found, alone := false, true
	look := func(_ *sql.Context, n sql.Node) bool {
		switch n := n.(type) {
		case *plan.LoadData:
			found = true
			alone = alone && n.SetExprs == nil
		case *plan.ForeignKeyHandler, *plan.TriggerExecutor:
			alone = false
		}
		return alone
	}
	transform.InspectWithOpaque(ctx, n.Source, look)
	transform.InspectWithOpaque(ctx, n.Destination, look)
	return found && alone
}

// loadStatement tells whether a text is a LOAD DATA and nothing around it, as CALL
// or a trigger would be.
func loadStatement(query string) bool {
	query = strings.TrimLeft(query, " \t\r\n(")
	return len(query) > 4 && strings.EqualFold(query[:4], "load")
}

// loading tells whether the next row goes in without a lock of its own. It tries
// for the table once.
func (e *editor) loading(ctx *sql.Context) (bool, error) {
	l := &e.load
	if l.tried {
		return l.whole, nil
	}
	if l.rows++; l.rows <= loadAfter {
		return false, nil
	}
	l.tried = true
	info := e.info()
	spans := make([]txn.Interval, 0, 1+len(info.indexes))
	for _, x := range append([]*indexInfo{info.primary}, info.indexes...) {
		if x.state != catalog.IndexPublic {
			return false, nil // its duplicates are not errors
		}
		lo := dataPrefix(x.id)
		spans = append(spans, txn.Interval{Lo: lo, Hi: keycodec.PrefixEnd(lo)})
	}
	if err := e.flush(ctx); err != nil {
		return false, err
	}
	tx, err := e.writer(ctx)
	if err != nil {
		return false, err
	}
	if l.whole, err = tx.LockEmpty(ctx, spans); err != nil {
		return false, e.failure(err)
	}
	if l.whole {
		tx.WriteAhead()
	}
	return l.whole, nil
}

// loadRow puts a row into a table that is locked as a whole, or nothing if any of
// its keys is there.
func (e *editor) loadRow(ctx *sql.Context, row sql.Row) error {
	tx, err := e.writer(ctx)
	if err != nil {
		return err
	}
	writes, err := e.writes(ctx, e.load.buf[:0], 0, row)
	if err != nil {
		return err
	}
	e.load.buf = writes
	for _, w := range writes {
		if w.conflict && tx.Written(w.at.txn()) {
			return sql.NewUniqueKeyErr(keyText(w.index, row), w.index.primary, nil)
		}
	}
	for _, w := range writes {
		if err := tx.PutNew(ctx, w.at.txn(), w.value, w.conflict); err != nil {
			return e.failure(err)
		}
	}
	e.delta++
	return nil
}
