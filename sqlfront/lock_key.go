package sqlfront

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// lockedKey says in SQL's words what a key is the key of. Table and index are
// empty for keys that no table of the present schema has.
type lockedKey struct {
	database, table, index string
	data                   string // the values, as MySQL's data_locks.LOCK_DATA shows them
}

// String is for messages: "PRIMARY (7) of table app.t".
func (k lockedKey) String() string {
	if k.table == "" {
		return "key " + k.data
	}
	return fmt.Sprintf("%s (%s) of table %s.%s", k.index, k.data, k.database, k.table)
}

// keyNames finds the table and the index of a key, in one state of the schema.
type keyNames struct {
	catalog  *Catalog
	snapshot *catalog.Snapshot
	indexes  map[catalog.ID]keyName // nil: not made yet
}

type keyName struct {
	table *tableInfo
	index *indexInfo
}

func (c *Catalog) keyNames() *keyNames { return &keyNames{catalog: c, snapshot: c.snapshot.Load()} }

func (n *keyNames) find(id catalog.ID) (keyName, bool) {
	if n.indexes == nil {
		n.indexes = map[catalog.ID]keyName{}
		for _, schema := range n.snapshot.Schemas() {
			for _, desc := range schema.Tables {
				if info, err := n.catalog.info(schema, desc); err == nil {
					n.add(info)
				}
			}
		}
	}
	name, ok := n.indexes[id]
	return name, ok
}

func (n *keyNames) add(info *tableInfo) {
	for _, x := range append([]*indexInfo{info.primary}, info.indexes...) {
		n.indexes[x.id] = keyName{info, x}
	}
}

// describe names what is locked: one key, or an interval if hi is not nil. An
// interval within one index is shown as [from, to), open where it ends with the
// index.
func (n *keyNames) describe(lo, hi []byte) lockedKey {
	name, ok := keyName{}, false
	if len(lo) >= 8 {
		name, ok = n.find(catalog.ID(binary.BigEndian.Uint64(lo)))
	}
	if !ok {
		k := lockedKey{data: plainKey(lo)}
		if hi != nil {
			k.data = "[" + k.data + ", " + plainKey(hi) + ")"
		}
		return k
	}
	k := lockedKey{database: name.table.database, table: name.table.desc.Name, index: name.index.label(name.table)}
	k.data = name.values(lo[8:])
	if hi == nil {
		return k
	}
	from, to := k.data, "end"
	if len(lo) == 8 {
		from = "begin"
	}
	if len(hi) >= 8 && string(hi[:8]) == string(lo[:8]) {
		to = name.values(hi[8:])
	}
	k.data = "[" + from + ", " + to + ")"
	return k
}

// label is the index's name as MySQL gives it; rows without a primary key are in
// a hidden index.
func (x *indexInfo) label(t *tableInfo) string {
	switch {
	case x.primary && t.keyless():
		return "GEN_CLUST_INDEX"
	case x.primary:
		return "PRIMARY"
	}
	return x.name
}

// values shows the columns of a key as far as they can be read. Text is stored as
// the weights of its collation, which cannot be turned back: it is shown in
// hexadecimal.
func (k keyName) values(key []byte) string {
	var parts []string
	columns := k.index.columns
	if k.index.key == nil {
		columns = nil
	}
	for i, c := range columns {
		rest, err := k.index.key.Skip(key, i+1)
		if err != nil {
			break
		}
		before, _ := k.index.key.Skip(key, i)
		values := make([]any, i+1)
		if k.index.key.Decodable(i) {
			if _, err := k.index.key.Decode(key, values); err != nil {
				break
			}
			parts = append(parts, valueText(k.table.schema[c].Type, values[i]))
		} else {
			parts = append(parts, "0x"+hex.EncodeToString(before[:len(before)-len(rest)]))
		}
		if i == len(columns)-1 {
			key = rest
		}
	}
	if len(parts) < len(columns) { // cut off in the middle, as an interval's end may be
		if rest, err := k.index.key.Skip(key, len(parts)); err == nil && len(rest) > 0 {
			parts = append(parts, "0x"+hex.EncodeToString(rest))
		}
		return strings.Join(parts, ", ")
	}
	if len(key) > 0 { // of an entry: the key of its row
		parts = append(parts, k.suffix(key))
	}
	return strings.Join(parts, ", ")
}

// suffix shows what follows the columns: the row's key in an entry.
func (k keyName) suffix(key []byte) string {
	if k.index.primary || k.table.keyless() {
		return "0x" + hex.EncodeToString(key)
	}
	return keyName{k.table, k.table.primary}.values(key)
}

func valueText(typ sql.Type, v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return "'" + v + "'"
	case []byte:
		return "0x" + hex.EncodeToString(v)
	case time.Time:
		return "'" + v.UTC().Format("2006-01-02 15:04:05.999999") + "'"
	}
	return fmt.Sprint(v)
}

// plainKey shows a key of no table: as text where it is text.
func plainKey(key []byte) string {
	for _, b := range key {
		if b < ' ' || b > '~' {
			return "0x" + hex.EncodeToString(key)
		}
	}
	return string(key)
}
