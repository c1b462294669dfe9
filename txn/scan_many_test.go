package txn_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// Many scans opened together find what each finds alone, own writes included, and ask
// once for all their first pages.
func TestScansOpenedTogether(t *testing.T) {
	c := &cluster{t: t, network: memory.NewNetwork(1), fs: vfs.NewMem()}
	c.start()
	t.Cleanup(c.stop)
	var keys []txn.Key
	for i := range 900 { // more than a page of each shard
		keys = append(keys, c.key(shard.ID(i%testShards+1), fmt.Sprintf("r%04d", i)))
	}
	c.put(c.coordinator(nil), "v", keys...)
	counted := &gathered{Router: c.node.Router()}
	co := c.gateway(counted, c.node.Gateway()+1)
	scans := []txn.Scan{
		{Lo: storage.Key("r"), Hi: storage.Key("s")},
		{Lo: storage.Key("r0100"), Hi: storage.Key("r0110"), Reverse: true},
		{Lo: storage.Key("r0500"), Hi: storage.Key("r0400")},
		{Lo: storage.Key("x"), Hi: storage.Key("y")},
		{Lo: storage.Key("r0000"), Hi: storage.Key("r0006"), Limit: 1},
	}
	for _, o := range []txn.Options{{Isolation: txn.RepeatableRead}, {Isolation: txn.ReadCommitted}, {Isolation: txn.Serializable}} {
		tx := co.Begin(o)
		_, err := tx.Get(t.Context(), keys[3], txn.ReadOptions{Lock: txn.LockExclusive})
		require.NoError(t, err)
		require.NoError(t, tx.Delete(keys[3]))
		_, err = tx.Get(t.Context(), c.key(1, "x1"), txn.ReadOptions{Lock: txn.LockExclusive})
		require.NoError(t, err)
		require.NoError(t, tx.Put(c.key(1, "x1"), []byte("own")))
		read := func(cursor *txn.Cursor, err error) (rows []string) {
			require.NoError(t, err)
			defer cursor.Close()
			for {
				row, ok, err := cursor.Next(t.Context())
				require.NoError(t, err)
				if !ok {
					return rows
				}
				rows = append(rows, fmt.Sprintf("%s=%s", row.Key, row.Value))
			}
		}
		counted.single.Store(0)
		counted.many.Store(0)
		together, err := tx.ScanMany(t.Context(), scans)
		require.NoError(t, err)
		if o.Isolation != txn.Serializable { // locks are asked for one by one
			require.EqualValues(t, 1, counted.many.Load())
		}
		for i, s := range scans {
			require.Equal(t, read(tx.Scan(t.Context(), s)), read(together[i], nil), "%v: scan %d", o.Isolation, i)
		}
		require.NoError(t, tx.Rollback(t.Context()))
		_, err = tx.ScanMany(t.Context(), scans)
		require.Error(t, err)
	}
}
