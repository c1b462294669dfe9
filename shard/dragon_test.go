package shard_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// openOnDisk opens a node over Dragonboat and files in dir.
func openOnDisk(t testing.TB, dir string, shards int) (*shard.Node, func()) {
	engine, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "data")})
	require.NoError(t, err)
	var host paxos.Host
	host, err = dragon.Open(dragon.Options{Dir: filepath.Join(dir, "log")})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	node, err := shard.Open(ctx, shard.Config{NodeID: 1, Engine: engine, Host: host, Shards: shards})
	require.NoError(t, err)
	return node, func() {
		require.NoError(t, node.Close(context.Background()))
		require.NoError(t, host.Close())
		require.NoError(t, engine.Close())
	}
}

func TestNodeOnDragonboat(t *testing.T) {
	dir := t.TempDir()
	var last storage.Timestamp
	for life := range 3 {
		began := time.Now()
		node, stop := openOnDisk(t, dir, 4)
		t.Logf("life %d: open in %s", life, time.Since(began))
		f := &fixture{t: t, node: node}
		require.Greater(t, f.now(), last)
		for i := range life {
			require.Equal(t, fmt.Sprint(i), f.get(1, f.now(), fmt.Sprintf("life %d", i)))
			require.Equal(t, fmt.Sprint(i), f.get(2, f.now(), fmt.Sprintf("life %d", i)))
		}
		k := fmt.Sprintf("life %d", life)
		f.commit(1, put(k, fmt.Sprint(life)))
		f.commitOver(put(k, fmt.Sprint(life)), 2, 3)
		last = f.now()
		stop()
	}
}

// commitOver writes the same on several shards in one transaction.
func (f *fixture) commitOver(writes []shard.Write, shards ...shard.ID) {
	id, r := f.begin(), f.node.Router()
	tokens := map[shard.ID]shard.LockToken{}
	for _, s := range shards {
		tokens[s] = f.lock(s, id, string(writes[0].Key)).Token
	}
	floor, commit := f.now(), storage.Timestamp(0)
	for _, s := range shards {
		vote, err := r.Prepare(f.ctx(), s, &shard.PrepareRequest{Participants: shards,
			OnePCRequest: shard.OnePCRequest{Txn: id, Token: tokens[s], Floor: floor, Writes: writes}})
		require.NoError(f.t, err)
		require.Equal(f.t, storage.VotePrepared, vote.State)
		commit = max(commit, vote.Prepare)
	}
	for _, s := range shards {
		require.NoError(f.t, r.Resolve(f.ctx(), s, &shard.ResolveRequest{Txn: id, Commit: commit}))
	}
}

// BenchmarkOnePCOnDisk is BenchmarkOnePC with a durable log.
func BenchmarkOnePCOnDisk(b *testing.B) {
	node, stop := openOnDisk(b, b.TempDir(), 4)
	defer stop()
	benchmarkOnePC(b, node)
}
