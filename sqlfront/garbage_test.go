package sqlfront

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/txn"
)

// deadWatch sees what is asked under the id of a table.
type deadWatch struct {
	txn.Router
	prefix  atomic.Pointer[[]byte]
	fronts  atomic.Int64 // reads that begin at the front
	votes   atomic.Int64 // of transactions over several shards
	deleted atomic.Bool
	behind  func() // called after the first rows were deleted
}

func (w *deadWatch) front(r *shard.ReadRequest) {
	if p := w.prefix.Load(); p != nil && r.Span != nil && bytes.Equal(r.Span.Lo, *p) {
		w.fronts.Add(1)
	}
}

func (w *deadWatch) under(writes []shard.Write) bool {
	p := w.prefix.Load()
	return p != nil && len(writes) > 0 && bytes.HasPrefix(writes[0].Key, *p)
}

func (w *deadWatch) Read(ctx context.Context, s shard.ID, r *shard.ReadRequest) (*shard.ReadResponse, error) {
	w.front(r)
	return w.Router.Read(ctx, s, r)
}

func (w *deadWatch) ReadMany(ctx context.Context, reads []shard.ShardRead) {
	for _, r := range reads {
		w.front(r.Request)
	}
	w.Router.ReadMany(ctx, reads)
}

func (w *deadWatch) Prepare(ctx context.Context, s shard.ID, r *shard.PrepareRequest) (*shard.VoteResponse, error) {
	if w.under(r.Writes) {
		w.votes.Add(1)
	}
	return w.Router.Prepare(ctx, s, r)
}

func (w *deadWatch) OnePC(ctx context.Context, s shard.ID, r *shard.OnePCRequest) (*shard.VoteResponse, error) {
	response, err := w.Router.OnePC(ctx, s, r)
	if w.under(r.Writes) && err == nil && w.deleted.CompareAndSwap(false, true) {
		w.behind()
	}
	return response, err
}

// What a dropped table leaves is removed shard by shard, without walking over what is
// removed already again and again, and all of it: also a row that comes back behind
// the place where the removal is.
func TestDroppedTablesAreRemovedInOnePass(t *testing.T) {
	w := &deadWatch{behind: func() {}}
	s := newStackWith(t, Config{}, func(r txn.Router) txn.Router { w.Router = r; return w }, 0)
	db := s.db("", "")
	run(t, db, "CREATE DATABASE app", "USE app", "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(5*garbageBatch))
	ctx := context.Background()
	info, err := compileTable("app", s.table("app", "t"))
	require.NoError(t, err)
	var first gms.Row // of the shard that is removed first
	var at location
	for i := int32(0); first == nil || s.coordinator.PartOf(at.txn()) != 0; i++ {
		first = gms.Row{i, i % 10, fmt.Sprintf("row %d", i)}
		at, err = info.rowLocation(ctx, first)
		require.NoError(t, err)
	}
	value, err := info.encodeRow(ctx, first)
	require.NoError(t, err)
	w.behind = func() {
		require.NoError(t, s.server.catalog.update(ctx, "test", func(tx *txn.Txn) error {
			if _, err := tx.GetMany(ctx, []txn.Key{at.txn()}, txn.ReadOptions{Lock: txn.LockExclusive}); err != nil {
				return err
			}
			return tx.Put(at.txn(), value)
		}))
	}
	prefix := dataPrefix(info.primary.id)
	require.Equal(t, 5*garbageBatch, s.keysUnder(t, info.primary.id))
	w.prefix.Store(&prefix)

	run(t, db, "DROP TABLE t")
	s.collected(t)
	w.prefix.Store(nil)
	require.Zero(t, s.keysUnder(t, info.primary.id))
	require.Zero(t, w.votes.Load(), "each transaction is of one shard")
	parts := int64(s.coordinator.Parts())
	require.LessOrEqual(t, w.fronts.Load(), 3*parts, fmt.Sprintf("%d shards", parts))
	require.GreaterOrEqual(t, w.fronts.Load(), 2*parts)
}

// Several nodes may remove what one table left: what one of them has deleted the others
// do not delete again, each time with a version and an entry of the log more.
func TestDeletedKeysAreNotDeletedAgain(t *testing.T) {
	s := newStackWith(t, Config{}, nil, 0)
	db := s.db("", "")
	run(t, db, "CREATE DATABASE app", "USE app", "CREATE TABLE t (id INT PRIMARY KEY, v INT, s VARCHAR(20))", fillRows(40))
	ctx := context.Background()
	info, err := compileTable("app", s.table("app", "t"))
	require.NoError(t, err)
	var keys []txn.Key
	for i := range int32(50) { // ten of them were never there
		at, err := info.rowLocation(ctx, gms.Row{i, i, "x"})
		require.NoError(t, err)
		keys = append(keys, at.txn())
	}
	there := s.keysUnder(t, info.primary.id)
	for _, want := range []int{there, 0} {
		require.NoError(t, s.server.catalog.update(ctx, "test", func(tx *txn.Txn) error {
			deleted, err := deleteKeys(ctx, tx, keys)
			require.Equal(t, want, deleted)
			return err
		}))
		require.Zero(t, s.keysUnder(t, info.primary.id))
	}
}
