package shard_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// fixture is a node over in-memory groups and an in-memory disk.
type fixture struct {
	t       testing.TB
	fs      *vfs.MemFS
	network *memory.Network
	engine  *storage.Engine
	host    paxos.Host
	node    *shard.Node
	config  shard.Config
	seq     uint64
}

func newFixture(t testing.TB, change func(*shard.Config)) *fixture {
	f := &fixture{t: t, fs: vfs.NewCrashableMem(), network: memory.NewNetwork(1)}
	f.config = shard.Config{NodeID: 1, Shards: 4, AlwaysEncode: true, GarbageInterval: -1}
	if change != nil {
		change(&f.config)
	}
	f.open()
	t.Cleanup(f.close)
	return f
}

func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	f.t.Cleanup(cancel)
	return ctx
}

func (f *fixture) open() {
	engine, err := storage.Open(storage.Options{Dir: "data", FS: f.fs})
	require.NoError(f.t, err)
	f.engine, f.host = engine, f.network.Host("n1")
	c := f.config
	c.Engine, c.Host = f.engine, f.host
	f.node, err = shard.Open(f.ctx(), c)
	require.NoError(f.t, err)
}

func (f *fixture) close() {
	if f.node == nil {
		return
	}
	require.NoError(f.t, f.node.Close(f.ctx()))
	require.NoError(f.t, f.host.Close())
	require.NoError(f.t, f.engine.Close())
	f.node = nil
}

func (f *fixture) now() storage.Timestamp {
	ts, err := f.node.Router().Timestamp(f.ctx())
	require.NoError(f.t, err)
	return ts
}

func (f *fixture) begin() storage.TxnID {
	f.seq++
	return storage.TxnID{Start: f.now(), Gateway: f.node.Gateway(), Seq: f.seq}
}

func keys(ks ...string) (out []storage.Key) {
	for _, k := range ks {
		out = append(out, storage.Key(k))
	}
	return out
}

func (f *fixture) lock(s shard.ID, id storage.TxnID, ks ...string) *shard.LockResponse {
	response, err := f.node.Router().Lock(f.ctx(), s, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: keys(ks...), Read: true})
	require.NoError(f.t, err)
	return response
}

func put(kvs ...string) (ws []shard.Write) {
	for i := 0; i < len(kvs); i += 2 {
		ws = append(ws, shard.Write{Key: storage.Key(kvs[i]), Value: []byte(kvs[i+1])})
	}
	return ws
}

func (f *fixture) get(s shard.ID, at storage.Timestamp, k string) string {
	response, err := f.node.Router().Read(f.ctx(), s, &shard.ReadRequest{At: at, Keys: keys(k)})
	require.NoError(f.t, err)
	require.Len(f.t, response.Rows, 1)
	if !response.Rows[0].Found {
		return "-"
	}
	return string(response.Rows[0].Value)
}

func TestOnePCIsReadBack(t *testing.T) {
	f := newFixture(t, nil)
	id := f.begin()
	granted := f.lock(1, id, "a")
	require.False(t, granted.Rows[0].Found)
	before := f.now()
	vote, err := f.node.Router().OnePC(f.ctx(), 1, &shard.OnePCRequest{Txn: id, Floor: f.now(), Token: granted.Token, Writes: put("a", "1")})
	require.NoError(t, err)
	require.Equal(t, storage.VoteCommitted, vote.State)
	require.Equal(t, "1", f.get(1, f.now(), "a"))
	require.Equal(t, "-", f.get(1, before, "a"))
}

func TestCommitOverTwoShards(t *testing.T) {
	f := newFixture(t, nil)
	r, id := f.node.Router(), f.begin()
	tokens := map[shard.ID]shard.LockToken{}
	for _, s := range []shard.ID{1, 2} {
		tokens[s] = f.lock(s, id, "a").Token
	}
	floor, commit := f.now(), storage.Timestamp(0)
	before := r.Rounds()
	for s, token := range tokens {
		vote, err := r.Prepare(f.ctx(), s, &shard.PrepareRequest{Participants: []shard.ID{1, 2},
			OnePCRequest: shard.OnePCRequest{Txn: id, Floor: floor, Token: token, Writes: put("a", "1")}})
		require.NoError(t, err)
		require.Equal(t, storage.VotePrepared, vote.State)
		commit = max(commit, vote.Prepare)
	}
	require.Equal(t, uint64(2), r.Rounds()-before)
	require.NoError(t, r.Resolve(f.ctx(), 1, &shard.ResolveRequest{Txn: id, Commit: commit}))
	require.NoError(t, r.Resolve(f.ctx(), 2, &shard.ResolveRequest{Txn: id, Commit: commit}))
	at := f.now()
	require.Equal(t, "1", f.get(1, at, "a"))
	require.Equal(t, "1", f.get(2, at, "a"))
}

func TestRestartKeepsWhatWasAcknowledged(t *testing.T) {
	f := newFixture(t, nil)
	id := f.begin()
	granted := f.lock(1, id, "a")
	_, err := f.node.Router().OnePC(f.ctx(), 1, &shard.OnePCRequest{Txn: id, Floor: f.now(), Token: granted.Token, Writes: put("a", "1")})
	require.NoError(t, err)
	before, gateway := f.now(), f.node.Gateway()
	f.close()
	f.open()
	require.Greater(t, f.now(), before)
	require.NotEqual(t, gateway, f.node.Gateway())
	require.Equal(t, "1", f.get(1, f.now(), "a"))
}

// commit locks and writes in one transaction of one shard.
func (f *fixture) commit(s shard.ID, writes []shard.Write) storage.Timestamp {
	f.t.Helper()
	id := f.begin()
	var ks []string
	for _, w := range writes {
		ks = append(ks, string(w.Key))
	}
	granted := f.lock(s, id, ks...)
	vote, err := f.node.Router().OnePC(f.ctx(), s, &shard.OnePCRequest{Txn: id, Floor: f.now(), Token: granted.Token, Writes: writes})
	require.NoError(f.t, err)
	require.Equal(f.t, storage.VoteCommitted, vote.State)
	return vote.Commit
}

// crash cuts the power: what the disk was not told to keep is gone, the log
// (which is durable by contract) is not. Then the node is opened again.
func (f *fixture) crash() {
	f.t.Helper()
	f.network.Crash("n1")
	disk := f.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, f.seq))})
	_ = f.node.Close(f.ctx()) // the dead process; its groups are gone already
	_ = f.engine.Close()
	f.fs = disk
	f.open()
}
