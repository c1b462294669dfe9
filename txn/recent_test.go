package txn

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// The last commits with writes are known by their start, each with a bounded
// piece of its statement.
func TestRecentCommits(t *testing.T) {
	c := &Coordinator{}
	commit := func(start int) {
		tx := &Txn{c: c, id: storage.TxnID{Start: storage.Timestamp(start)}}
		tx.mu.id, tx.mu.statement = tx.id, strings.Repeat("ä", 1<<20)
		tx.buffer.Put(shard.ID(1), storage.Key("k"), nil, false)
		c.remember(tx)
	}
	for start := 1; start <= recentCommits+10; start++ {
		commit(start)
	}
	_, known := c.Recent(10)
	require.False(t, known)
	info, known := c.Recent(11)
	require.True(t, known)
	require.Less(t, len(info.Statement), 2*recentText)
	require.Len(t, c.mu.recent.byStart, recentCommits)
}
