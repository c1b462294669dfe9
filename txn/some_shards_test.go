package txn_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// A scan of some shards has their rows, stored or own, once each and in order, and locks
// nothing elsewhere.
func TestScanOfSomeShards(t *testing.T) {
	c := newCluster(t)
	co := c.coordinator(nil)
	at := map[string]shard.ID{}
	var keys []txn.Key
	for i := range 60 {
		k, s := fmt.Sprintf("r%02d", i), shard.ID(i%testShards+1)
		at[k] = s
		keys = append(keys, c.key(s, k))
	}
	c.put(co, "v", keys...)
	own := c.key(2, "r19x")
	for _, shards := range [][]shard.ID{{1}, {2}, {3}, {1, 2}, {3, 1}, {2, 3, 2, 2}, {3, 2, 1}} {
		var tokens []ring.Token
		wanted := map[shard.ID]bool{}
		for _, s := range shards {
			tokens, wanted[s] = append(tokens, c.tokens[s]), true
		}
		for _, reverse := range []bool{false, true} {
			for _, lock := range []txn.Lock{txn.LockNone, txn.LockShared, txn.LockExclusive} {
				tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
				_, err := tx.Get(t.Context(), own, txn.ReadOptions{Lock: txn.LockExclusive})
				require.NoError(t, err)
				require.NoError(t, tx.Put(own, []byte("own")))
				rows, err := drain(t.Context(), tx, txn.Scan{Lo: storage.Key("r10"), Hi: storage.Key("r30"), Where: txn.SomeShards(tokens), Reverse: reverse, Lock: lock})
				require.NoError(t, err)
				var got, want []string
				for _, r := range rows {
					got = append(got, string(r.Key))
				}
				for i := 10; i < 30; i++ {
					if k := fmt.Sprintf("r%02d", i); wanted[at[k]] {
						want = append(want, k)
					}
					if i == 19 && wanted[2] {
						want = append(want, "r19x")
					}
				}
				if reverse {
					for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
						want[i], want[j] = want[j], want[i]
					}
				}
				require.Equal(t, want, got, "shards %v", shards)
				for s := shard.ID(1); s <= testShards; s++ {
					locks, err := c.node.Router().Locks(t.Context(), s)
					require.NoError(t, err)
					held := false
					for _, l := range locks {
						held = held || l.Hi != nil
					}
					require.Equal(t, lock != txn.LockNone && wanted[s], held, "interval on shard %d", s)
				}
				require.NoError(t, tx.Rollback(t.Context()))
			}
		}
	}
	require.True(t, txn.SomeShards([]ring.Token{5}).One())
	require.False(t, txn.SomeShards([]ring.Token{5, 6}).One())
	require.False(t, txn.AllShards.One())
	require.True(t, txn.OnePart(1).One())
}
