package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// kind returns the keys that a transaction locks, reads and writes.
type kind func(n *node, client, i int) []txn.Key

var kinds = map[string]kind{
	// One row, on one shard.
	"update": func(n *node, _, _ int) []txn.Key { return []txn.Key{rowKey(rand.IntN(n.rows))} },
	// A row and an index entry that were not there.
	"insert": func(n *node, _, _ int) []txn.Key {
		i := n.rows + int(n.fresh.Add(1))
		return []txn.Key{rowKey(i), indexKey(i, 0)}
	},
	// A row, the index entry it loses and the one it gets.
	"index": func(n *node, _, _ int) []txn.Key {
		i, v := rand.IntN(n.rows), int(n.fresh.Add(1))
		return []txn.Key{rowKey(i), indexKey(i, v-1), indexKey(i, v)}
	},
	// Two of eight rows: most transactions wait for another.
	"hot": func(n *node, _, _ int) []txn.Key {
		i := rand.IntN(8)
		return []txn.Key{rowKey(min(i, (i+1)%8)), rowKey(max(i, (i+1)%8))}
	},
}

func kindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

func key(table byte, a, b int) txn.Key {
	k := binary.BigEndian.AppendUint64([]byte{'t', table}, uint64(a))
	k = binary.BigEndian.AppendUint64(k, uint64(b))
	return txn.At(ring.TokenOf(k), storage.Key(k))
}

func rowKey(i int) txn.Key            { return key(1, i, 0) }
func indexKey(row, value int) txn.Key { return key(2, value, row) }

// value is about a row of sysbench.
var value = make([]byte, 200)

// commit carries one transaction out; a victim of a deadlock begins again.
func (n *node) commit(k kind, client, i int) error {
	keys := k(n, client, i)
	for {
		err := n.write(keys)
		var refused *txn.Error
		if !errors.As(err, &refused) || refused.Code != txn.Deadlock {
			return err
		}
	}
}

func (n *node) write(keys []txn.Key) error {
	ctx := context.Background()
	t := n.txns.Begin(txn.Options{Isolation: txn.RepeatableRead, Autocommit: true})
	if _, err := t.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive}); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	for _, k := range keys {
		if err := t.Put(k, value); err != nil {
			return err
		}
	}
	return t.Commit(ctx)
}

func (n *node) load(rows int) error {
	for i := 0; i < rows; i += 500 {
		var keys []txn.Key
		for j := i; j < min(rows, i+500); j++ {
			keys = append(keys, rowKey(j))
		}
		if err := n.write(keys); err != nil {
			return err
		}
	}
	return nil
}
