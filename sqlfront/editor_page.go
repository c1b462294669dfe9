package sqlfront

import (
	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// The rows of a statement are locked by the page: one request to each shard for
// many rows. A page ends at so many rows, or so many bytes to write.
const (
	pageRows  = 2048
	pageBytes = 2 << 20
)

// change is an UPDATE or DELETE of one row: the keys that it leaves and those
// that it takes, the row itself first in both. A DELETE takes none.
type change struct {
	before, after []write
	next          sql.Row
}

func (c *change) size() int {
	n := 0
	for _, ws := range [...][]write{c.before, c.after} {
		for i := range ws {
			n += len(ws[i].at.key) + len(ws[i].value) + 64
		}
	}
	return n
}

// page is what its keys hold, locked: as it was found, and then as the page's
// earlier rows have left it.
type page struct {
	tx   *txn.Txn
	rows map[string]txn.Row
}

// change applies a change at once, or with its page where nobody looks at the
// table before the statement ends.
func (e *editor) change(ctx *sql.Context, c change) error {
	if !e.table.buffered {
		return e.apply(ctx, []change{c})
	}
	e.changes = append(e.changes, c)
	e.held += c.size()
	if len(e.changes) < pageRows && e.held < pageBytes {
		return nil
	}
	return e.flush(ctx)
}

// flushChanges applies the changes that were held back.
func (e *editor) flushChanges(ctx *sql.Context) error {
	changes := e.changes
	e.changes, e.held = nil, 0
	if len(changes) == 0 {
		return nil
	}
	return e.apply(ctx, changes)
}

// apply locks all keys of the changes and makes one after the other, each as if
// it were alone: what follows sees what came before.
func (e *editor) apply(ctx *sql.Context, changes []change) error {
	tx, err := e.writer(ctx)
	if err != nil {
		return err
	}
	p, err := e.lockPage(ctx, tx, changes)
	if err != nil {
		return e.failure(err)
	}
	for i := range changes {
		if err := e.applyOne(ctx, p, &changes[i]); err != nil {
			return err
		}
	}
	return nil
}

// lockPage locks and reads the keys of a page. A row that the statement has found
// under an exclusive lock is still there, unless the transaction has removed it
// itself: nothing needs to be asked. Its entries are there, too, and go with its
// change; a change that comes before, and would meet one, has asked for it to be read.
func (e *editor) lockPage(ctx *sql.Context, tx *txn.Txn, changes []change) (*page, error) {
	p := &page{tx: tx, rows: make(map[string]txn.Row, 2*len(changes))}
	var asked []write
	ask := func(w write) {
		if _, known := p.rows[string(w.at.key)]; !known {
			p.rows[string(w.at.key)] = txn.Row{}
			asked = append(asked, w)
		}
	}
	for i := range changes {
		c := &changes[i]
		home := c.before[0]
		row, held := tx.Held(home.at.txn())
		if held {
			p.rows[string(home.at.key)] = row
		} else {
			ask(home)
		}
		for _, w := range c.before[1:] {
			w.unread = held && row.Found && w.index.state == catalog.IndexPublic
			ask(w)
		}
		for _, w := range c.after {
			ask(w)
		}
	}
	rows, err := lockWrites(ctx, tx, asked)
	if err != nil {
		return nil, err
	}
	for i, w := range asked {
		p.rows[string(w.at.key)] = rows[i]
	}
	return p, nil
}

func (e *editor) applyOne(ctx *sql.Context, p *page, c *change) error {
	if !p.rows[string(c.before[0].at.key)].Found {
		if c.after == nil && e.again {
			return nil
		}
		return sql.ErrDeleteRowNotFound.New()
	}
	leaves := make(map[string]bool, len(c.before))
	for i, w := range c.before {
		if i == 0 || w.index.leaves(w.home, p.rows[string(w.at.key)]) {
			leaves[string(w.at.key)] = true
		}
	}
	for i, w := range c.after {
		found := p.rows[string(w.at.key)]
		if w.conflict && found.Found && !leaves[string(w.at.key)] {
			if w.index.state != catalog.IndexTolerant {
				return e.duplicate(ctx, p.tx, w, found.Value, c.next)
			}
			c.after[i].let = true
			continue
		}
		delete(leaves, string(w.at.key)) // overwritten below
	}
	for _, w := range c.before {
		if leaves[string(w.at.key)] {
			if err := p.tx.Delete(w.at.txn()); err != nil {
				return e.failure(err)
			}
			p.rows[string(w.at.key)] = txn.Row{}
		}
	}
	for _, w := range c.after {
		if w.let {
			if err := e.noteDouble(ctx, p.tx, w, c.next); err != nil {
				return err
			}
			continue
		}
		if err := p.tx.Put(w.at.txn(), w.value); err != nil {
			return e.failure(err)
		}
		p.rows[string(w.at.key)] = txn.Row{Value: w.value, Found: true}
	}
	if c.after == nil {
		e.delta--
	}
	return nil
}
