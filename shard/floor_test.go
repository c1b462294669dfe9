package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
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

// H6 where keys are locked without being read: other keys of the shard that were written
// since the transaction began make no difference if those that it locked are old and
// written, as entries of indexes are.
func TestFloorOfKeysThatWereNotRead(t *testing.T) {
	write := func(ks ...string) (ws []shard.Write) {
		for _, k := range ks {
			ws = append(ws, put(k, "2")...)
		}
		return ws
	}
	only := func(ks ...string) *shard.LockRequest { return &shard.LockRequest{Keys: keys(ks...)} }
	for _, one := range []struct {
		name   string
		others string // written by others after the start
		locks  []*shard.LockRequest
		writes []shard.Write
		want   shard.Code
	}{
		{name: "old and written", others: "c",
			locks: []*shard.LockRequest{only("a", "b")}, writes: write("a", "b")},
		{name: "a row that is read and its entries", others: "c",
			locks:  []*shard.LockRequest{{Keys: keys("a"), Read: true}, only("b", "new")},
			writes: write("a", "b", "new")},
		{name: "one is not written", others: "c",
			locks: []*shard.LockRequest{only("a", "b")}, writes: write("a"), want: shard.NeedFloor},
		{name: "one is written, a row was only read", others: "c",
			locks:  []*shard.LockRequest{{Keys: keys("a"), Read: true}, only("b")},
			writes: write("b"), want: shard.NeedFloor},
		{name: "an interval", others: "c",
			locks:  []*shard.LockRequest{{Span: &shard.Span{Lo: storage.Key("a"), Hi: storage.Key("a\x00")}}, only("b")},
			writes: write("a", "b"), want: shard.NeedFloor},
		{name: "one is newer", others: "b",
			locks: []*shard.LockRequest{only("a", "b")}, writes: write("a", "b"), want: shard.NeedFloor},
		{name: "a row that is read is newer", others: "a",
			locks:  []*shard.LockRequest{{Keys: keys("a"), Read: true}, only("b")},
			writes: write("a", "b"), want: shard.NeedFloor},
	} {
		t.Run(one.name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.commit(1, put("a", "1", "b", "1"))
			id := f.begin()
			f.commit(1, put(one.others, "other"))
			var token shard.LockToken
			for _, q := range one.locks {
				q.Txn, q.Mode = id, shard.LockExclusive
				locked, err := f.tryLock(1, q)
				require.NoError(t, err)
				token = locked.Token
			}
			vote, err := f.onePC(1, id, token, 0, one.writes...)
			requireCode(t, one.want, err)
			if one.want == shard.NeedFloor {
				vote, err = f.onePC(1, id, token, f.now(), one.writes...)
				require.NoError(t, err)
			}
			require.Equal(t, storage.VoteCommitted, vote.State)
			require.LessOrEqual(t, vote.Commit, f.now(), "whoever begins now sees it")
		})
	}
}
