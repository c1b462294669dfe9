package txn

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// A page without rows that is not the last one keeps its place in the order: own writes
// of its shard and rows of others come before it, what it hides comes behind.
func TestEmptyPagesKeepTheirPlace(t *testing.T) {
	router := &stored{page: 1, shards: map[shard.ID]map[string]string{
		1: {"b": "left out", "bb": "left out", "c": "stored"}, 2: {"ab": "stored", "ba": "left out", "d": "stored"}}}
	c := &Coordinator{router: router, cfg: Config{MaxBytes: 1 << 20}}
	c.mu.open = map[uint64]*Txn{}
	tx := c.Begin(Options{Isolation: RepeatableRead})
	for _, k := range []string{"aa", "bc"} {
		tx.buffer.Put(1, storage.Key(k), []byte("own"), false)
	}
	tx.buffer.Put(2, storage.Key("d"), nil, true)
	for _, limit := range []int{0, 1} {
		cursor, err := tx.Scan(context.Background(), Scan{Filter: []byte("no b"), Limit: limit})
		require.NoError(t, err)
		var got []string
		for {
			row, ok, err := cursor.Next(context.Background())
			require.NoError(t, err)
			if !ok {
				break
			}
			got = append(got, fmt.Sprintf("%s=%s", row.Key, row.Value))
		}
		cursor.Close()
		require.Equal(t, []string{"aa=own", "ab=stored", "bc=own", "c=stored"}, got)
	}
}
