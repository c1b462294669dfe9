package sqlfront

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/zeebo/xxh3"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// Keys and where they live.
//
//	row        id | primary key columns          (or id | hash of the row | random number)
//	entry      id | index columns                of a unique index without NULL
//	entry      id | index columns | row suffix   of any other
//
// id is the index's own number, so one scan never meets two indexes. The
// placement key, whose hash decides the shard, is
//
//	row           the whole key, id included, which spreads equal keys of different tables;
//	              where the primary key is one integer, of tables since version 6 of the
//	              cluster, the id and the integer without its low bits (rowBlocks), so that
//	              neighbours share a shard;
//	              with PARTITION BY KEY the named columns alone, without id, so that rows of
//	              different tables with equal placement columns share a shard;
//	              without a primary key, id and the hash
//	unique entry  id and all index columns: one shard decides about a duplicate
//	other entry   id and the first index column: equality on it is one shard
//
// The row suffix of an entry is its row's key without the id.

// location is a key with the token of its placement.
type location struct {
	key   storage.Key
	token ring.Token
}

func (l location) txn() txn.Key { return txn.At(l.token, l.key) }

// values picks the columns of an index from a full row.
func (x *indexInfo) values(row sql.Row) []any {
	out := make([]any, len(x.columns))
	for i, c := range x.columns {
		out[i] = row[c]
	}
	return out
}

// rowLocation is where a row with a primary key lives.
func (t *tableInfo) rowLocation(ctx context.Context, row sql.Row) (location, error) {
	key, err := t.primary.key.AppendKey(ctx, dataPrefix(t.primary.id), t.primary.values(row))
	if err != nil {
		return location{}, fmt.Errorf("key of %s: %w", t.desc.Name, err)
	}
	token, err := t.rowToken(ctx, row, key)
	return location{key, token}, err
}

// rowToken places a row; key is its full key, or for keyless tables id and hash.
func (t *tableInfo) rowToken(ctx context.Context, row sql.Row, key []byte) (ring.Token, error) {
	if t.place == nil {
		return t.primary.tokenOf(key), nil
	}
	values := make([]any, len(t.placement))
	for i, c := range t.placement {
		values[i] = row[c]
	}
	placement, err := t.place.AppendKey(ctx, nil, values)
	return placedBy(placement), err
}

// hashLocation is the common part of the keys of all rows equal to row in a
// table without a primary key.
func (t *tableInfo) hashLocation(ctx context.Context, row sql.Row) (location, error) {
	var values []byte
	for position, i := range t.stored {
		var err error
		if values, err = t.rows.AppendValue(ctx, values, position, row[i]); err != nil {
			return location{}, err
		}
	}
	key := binary.BigEndian.AppendUint64(dataPrefix(t.primary.id), xxh3.Hash(values))
	token, err := t.rowToken(ctx, row, key)
	return location{key, token}, err
}

// freshRow is a new place for a row without a primary key. The number only has
// to be unused; whoever writes it locks the key and looks.
func (l location) freshRow() location {
	l.key = binary.BigEndian.AppendUint64(l.key[:len(l.key):len(l.key)], rand.Uint64())
	return l
}

// suffix is the row's key without the id.
func (l location) suffix() []byte { return l.key[8:] }

// entryLocation is where the entry of a row stands in a secondary index.
// conflict tells whether another row's entry could have the same key, which
// then is a duplicate.
func (x *indexInfo) entryLocation(ctx context.Context, row sql.Row, at location) (l location, conflict bool, err error) {
	values := x.values(row)
	key, err := x.key.AppendKey(ctx, dataPrefix(x.id), values)
	if err != nil {
		return location{}, false, fmt.Errorf("key of index %s: %w", x.name, err)
	}
	token, err := x.token(ctx, values, key)
	if err != nil {
		return location{}, false, err
	}
	conflict = x.unique && !hasNull(values)
	if !conflict {
		key = append(key, at.suffix()...)
	}
	return location{key, token}, conflict, nil
}

// token places an entry. key is its full key without the row suffix.
func (x *indexInfo) token(ctx context.Context, values []any, key []byte) (ring.Token, error) {
	if x.unique {
		return x.tokenOf(key), nil
	}
	placement, err := x.key.AppendColumn(ctx, dataPrefix(x.id), 0, values[0])
	return x.tokenOf(placement), err
}

func hasNull(values []any) bool {
	for _, v := range values {
		if v == nil {
			return true
		}
	}
	return false
}

// entryVersion is the first byte of an entry's value.
const entryVersion = 1

// encodeEntry is the value of an entry: version, the row's token, the length of
// the row suffix, the suffix, the covered columns.
func (x *indexInfo) encodeEntry(ctx context.Context, row sql.Row, at location) ([]byte, error) {
	out := append(make([]byte, 0, 64), entryVersion)
	out = binary.BigEndian.AppendUint64(out, uint64(at.token))
	out = binary.AppendUvarint(out, uint64(len(at.suffix())))
	out = append(out, at.suffix()...)
	covered := make(sql.Row, len(x.cover))
	for i, c := range x.cover {
		covered[i] = row[c]
	}
	return x.entry.Append(ctx, out, covered)
}

// decodeEntry returns where the entry's row is, and the covered columns encoded.
func decodeEntry(rows catalog.ID, data []byte) (location, []byte, error) {
	if len(data) < 10 || data[0] != entryVersion {
		return location{}, nil, fmt.Errorf("index entry: %w", catalog.ErrCorrupt)
	}
	token := ring.Token(binary.BigEndian.Uint64(data[1:]))
	n, used := binary.Uvarint(data[9:])
	rest := data[9+max(used, 0):]
	if used <= 0 || n > uint64(len(rest)) {
		return location{}, nil, fmt.Errorf("index entry: %w", catalog.ErrCorrupt)
	}
	key := append(dataPrefix(rows), rest[:n]...)
	return location{key, token}, rest[n:], nil
}

// encodeRow is the value of a row.
func (t *tableInfo) encodeRow(ctx context.Context, row sql.Row) ([]byte, error) {
	if len(t.stored) == len(row) {
		return t.rows.Append(ctx, nil, row)
	}
	stored := make(sql.Row, len(t.stored))
	for i, c := range t.stored {
		stored[i] = row[c]
	}
	return t.rows.Append(ctx, nil, stored)
}

// decodeRow is the whole row with nil in place of virtual columns.
func (t *tableInfo) decodeRow(ctx context.Context, data []byte) (sql.Row, error) {
	stored := make(sql.Row, len(t.stored))
	if err := t.rows.Decode(ctx, data, stored); err != nil {
		return nil, fmt.Errorf("row of %s: %w", t.desc.Name, err)
	}
	if len(stored) == len(t.schema) {
		return stored, nil
	}
	row := make(sql.Row, len(t.schema))
	for i, c := range t.stored {
		row[c] = stored[i]
	}
	return row, nil
}
