package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// A node hands over by message. What cannot be reached leaves it the owner, in
// an epoch of its own, and open transactions do not notice.
func TestNodeHandOverToNobody(t *testing.T) {
	f := newFixture(t, nil)
	for s := range shard.ID(3) {
		id := f.begin()
		token := f.lock(1, id, "x").Token
		before := f.node.Status()[s].Epoch
		requireCode(t, shard.NotOwner, f.node.HandOver(f.ctx(), s, "9"))
		require.Error(t, f.node.HandOver(f.ctx(), s, "1"), "to itself")
		require.Error(t, f.node.HandOver(f.ctx(), 99, "9"), "of a shard it does not have")
		status := f.node.Status()[s]
		require.True(t, status.Serving)
		require.Equal(t, before+1, status.Epoch)
		vote, err := f.onePC(1, id, token, f.now(), put("x", "1")...)
		require.NoError(t, err)
		require.Equal(t, storage.VoteCommitted, vote.State)
	}
}
