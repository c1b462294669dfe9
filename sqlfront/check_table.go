package sqlfront

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/storage/keycodec"
	"github.com/rowlockdb/rowlock/txn"
)

// checkLimit is how many differences of one index are listed; the rest is counted.
const checkLimit = 100

// tableCheck compares a table's indexes with its rows at one snapshot.
type tableCheck struct {
	tx   *txn.Txn
	info *tableInfo
	out  []sql.Row
}

// checkTable is CALL rowlock.check_table(database, table). Every row's entries are
// looked for, and every entry's row; whether they say the same is compared byte by
// byte. It returns a line for each index, with the number of entries, and one for
// each difference. Nothing is locked.
func (s *Server) checkTable(ctx *sql.Context, database, table string) (sql.RowIter, error) {
	session := sessionOf(ctx)
	if !s.isAdministrator(ctx) {
		return nil, sql.ErrPrivilegeCheckFailed.New(ctx.Client().User)
	}
	info, err := session.lookupTable(database, table)
	if err != nil {
		return nil, err
	}
	if info == nil {
		return nil, sql.ErrTableNotFound.New(table)
	}
	if err := session.lockTable(ctx, database, table); err != nil {
		return nil, err
	}
	if info, err = session.lookupTable(database, table); err != nil || info == nil {
		return nil, sql.ErrTableNotFound.New(table)
	}
	c := tableCheck{tx: s.catalog.reader("check table"), info: info}
	defer c.tx.Rollback(ctx)
	for _, x := range info.indexes {
		if x.state != catalog.IndexPublic {
			continue
		}
		if err := c.index(ctx, x); err != nil {
			return nil, err
		}
	}
	return sql.RowsToRowIter(c.out...), nil
}

// index looks up the entries of all rows by the page, and counts those that exist.
func (c *tableCheck) index(ctx *sql.Context, x *indexInfo) error {
	var want, have, problems uint64
	report := func(problem string, key []byte) {
		if problems++; problems <= checkLimit {
			c.out = append(c.out, sql.Row{x.name, problem, hex.EncodeToString(key), uint64(1)})
		}
	}
	err := c.scan(ctx, c.info.primary, func(page []txn.Row) error {
		want += uint64(len(page))
		keys, wanted := make([]txn.Key, len(page)), make([]write, len(page))
		for i, r := range page {
			w, err := c.entry(ctx, x, r)
			if err != nil {
				return err
			}
			keys[i], wanted[i] = w.at.txn(), w
		}
		found, err := c.tx.GetMany(ctx, keys, txn.ReadOptions{})
		if err != nil {
			return err
		}
		for i, w := range wanted {
			switch {
			case !found[i].Found:
				report("missing entry", w.home.suffix())
			case !bytes.Equal(found[i].Value, w.value) && !c.sameEntry(found[i].Value, w):
				report("wrong entry", w.home.suffix())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.scan(ctx, x, func(page []txn.Row) error {
		keys := make([]txn.Key, len(page))
		for i, r := range page {
			home, _, err := decodeEntry(c.info.desc.Rows, r.Value)
			if err != nil {
				return err
			}
			keys[i] = home.txn()
		}
		found, err := c.tx.GetMany(ctx, keys, txn.ReadOptions{})
		if err != nil {
			return err
		}
		for i, r := range page {
			have++
			if !found[i].Found {
				report("entry without a row", keys[i].Bytes()[8:])
				continue
			}
			w, err := c.entry(ctx, x, txn.Row{Key: keys[i].Bytes(), Value: found[i].Value})
			if err != nil {
				return err
			}
			if !bytes.Equal(w.at.key, r.Key) {
				report("entry of another value", keys[i].Bytes()[8:])
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	verdict := "none"
	if problems > 0 || want != have {
		verdict = "differences"
	}
	c.out = append(c.out, sql.Row{x.name, verdict, nil, have})
	return nil
}

// sameEntry tells whether an entry names the row that it should; what it carries
// beside may have been written by an older version of the table.
func (c *tableCheck) sameEntry(value []byte, w write) bool {
	home, _, err := decodeEntry(c.info.desc.Rows, value)
	return err == nil && bytes.Equal(home.key, w.home.key)
}

// entry is what index x should hold for a stored row.
func (c *tableCheck) entry(ctx *sql.Context, x *indexInfo, r txn.Row) (write, error) {
	home, err := c.info.rowLocationOf(ctx, slices.Clone(r.Key), r.Value)
	if err != nil {
		return write{}, err
	}
	row, err := c.info.decodeRow(ctx, r.Value)
	if err != nil {
		return write{}, err
	}
	if row, err = c.info.withVirtual(ctx, row); err != nil {
		return write{}, err
	}
	at, _, err := x.entryLocation(ctx, row, home)
	if err != nil {
		return write{}, err
	}
	value, err := x.encodeEntry(ctx, row, home)
	return write{at: at, home: home, value: value}, err
}

// scan visits everything stored under an index, by the page.
func (c *tableCheck) scan(ctx context.Context, x *indexInfo, visit func([]txn.Row) error) error {
	cursor, err := c.tx.Scan(ctx, txn.Scan{Lo: storage.Key(x.start), Hi: keycodec.PrefixEnd(x.start)})
	if err != nil {
		return err
	}
	defer cursor.Close()
	var page []txn.Row
	for {
		row, ok, err := cursor.Next(ctx)
		if err != nil {
			return err
		}
		if ok {
			row.Key, row.Value = slices.Clone(row.Key), slices.Clone(row.Value)
			page = append(page, row)
		}
		if len(page) == largePage || !ok && len(page) > 0 {
			if err := visit(page); err != nil {
				return err
			}
			page = page[:0]
		}
		if !ok {
			return nil
		}
	}
}
