package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
)

// R4: whoever writes a key commits above its latest version with a floor that
// the oracle issued after that version's. Otherwise the commit could be two
// above the oracle, and a reader who begins afterwards would miss it.
func TestFloorFromBeforeTheLatestVersion(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 4 {
		prepare, read := i%2 == 1, i < 2
		id := f.begin()
		floor := f.now()
		f.commit(1, put("x", "1"))
		locked, err := f.node.Router().Lock(f.ctx(), 1, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: keys("x"), Read: read})
		require.NoError(t, err)
		token := locked.Token
		q := shard.OnePCRequest{Txn: id, Token: token, Floor: floor, Writes: put("x", "2")}
		if prepare {
			_, err = f.node.Router().Prepare(f.ctx(), 1, &shard.PrepareRequest{OnePCRequest: q, Participants: []shard.ID{1, 2}})
		} else {
			_, err = f.node.Router().OnePC(f.ctx(), 1, &q)
		}
		requireCode(t, shard.NeedFloor, err)
		q.Floor = f.now()
		vote, err := f.node.Router().OnePC(f.ctx(), 1, &q)
		require.NoError(t, err)
		require.LessOrEqual(t, vote.Commit, f.now(), "whoever begins now sees it")
	}
}
