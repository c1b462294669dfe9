package shard

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// openLogless opens a trunk without a log that carries shards 1, 2 and so on.
func openLogless(e *storage.Engine, shards int) (*testTrunk, error) {
	t := &testTrunk{Trunk: NewTrunk(e.Space(1), e.Sync, 1)}
	t.WithoutLog()
	for i := range shards {
		m := NewMachine(e.Space(uint64(i)+2), e.Sync, 1)
		t.Carry(ID(i+1), m)
		t.machines = append(t.machines, m)
	}
	var err error
	t.index, err = t.Open()
	return t, err
}

// TestTrunkFinishesAnEntry: a large outcome takes several batches. Where no log brings it
// again after a cut in between, the start finishes it, once.
func TestTrunkFinishesAnEntry(t *testing.T) {
	e := newTestEngine(t)
	b, err := openLogless(e, 2)
	require.NoError(t, err)
	id := storage.TxnID{Start: 10, Gateway: 1, Seq: 1}
	vote := Command{Kind: KindPrepare, Epoch: 1, Txn: id, At: 20, Participants: []ID{1}, Chunks: 4}
	log := []*trunkEntry{{[]ID{1}, []Command{{Kind: KindBeginEpoch, Node: 1, Process: 1}}}}
	for i := range vote.Chunks {
		chunk := []Write{{Key: storage.Key{byte(i)}, Value: make([]byte, resolveFlush/2)}}
		log = append(log, &trunkEntry{[]ID{1}, []Command{{Kind: KindStage, Epoch: 1, Txn: id, Chunk: i, Writes: chunk}}})
		vote.Staged += ChunkHash(id, i, chunk)
	}
	applyLog(t, b, append(log, &trunkEntry{[]ID{1}, []Command{vote}}))
	before := b.index
	// Without its last chunk the entry stops in the middle, as in a power cut.
	space := b.machines[0].space
	snap := space.Snapshot()
	chunk, _, err := snap.Staged(id, 3)
	require.NoError(t, err)
	lost := bytes.Clone(chunk)
	snap.Close()
	change(t, space, func(b *storage.Batch) { b.DeleteStaged(id, 3) })
	resolve := &trunkEntry{[]ID{1}, []Command{{Kind: KindResolve, Epoch: 1, Resolutions: []Resolution{{Txn: id, Commit: 22}}}}}
	require.ErrorContains(t, b.Apply([]paxos.Entry{{Index: before + 1, Command: resolve.encode()}}), "chunk 3 is missing")
	change(t, space, func(b *storage.Batch) { b.PutStaged(id, 3, lost) })
	for range 2 {
		b, err = openLogless(e, 2)
		require.NoError(t, err)
		require.Equal(t, before+1, b.index)
		require.Empty(t, preparedOf(b.machines[0]))
		snap = space.Snapshot()
		for i := range vote.Chunks {
			read, err := snap.Get(storage.Key{byte(i)}, storage.MaxTimestamp)
			require.NoError(t, err)
			require.Equal(t, storage.Timestamp(22), read.Commit)
		}
		snap.Close()
		snap = b.space.Snapshot()
		unfinished, err := hasMeta(snap, metaUnfinished)
		snap.Close()
		require.NoError(t, err)
		require.False(t, unfinished)
	}
}

func change(t *testing.T, s *storage.Space, f func(*storage.Batch)) {
	b := s.NewBatch()
	defer b.Close()
	f(b)
	require.NoError(t, b.Commit())
}

// TestDurablyIsDurable: what ApplyDurably was awaited for survives any power cut, with all
// before it, and what was applied is what Apply does.
func TestDurablyIsDurable(t *testing.T) {
	const shards = 3
	seed := 0
	rapid.Check(t, func(rt *rapid.T) {
		seed++
		rng := rand.New(rand.NewPCG(uint64(seed), 92))
		log := drawTrunkLog(rt, shards, 30)
		prefixes := prefixesOf(rt, newTestEngine(t), log, shards)
		fs := vfs.NewCrashableMem()
		e, err := storage.Open(storage.Options{Dir: "data", FS: fs})
		require.NoError(rt, err)
		b, err := openTestTrunk(e, 1, shards, e.Sync)
		require.NoError(rt, err)
		for at, durable := 0, 0; at < len(log); {
			var waits []func() error
			for range rapid.IntRange(1, 2).Draw(rt, "on the way") {
				n := min(rapid.IntRange(1, 3).Draw(rt, "portion"), len(log)-at)
				if n > 0 {
					wait, err := b.ApplyDurably(b.entries(log[at : at+n]))
					require.NoError(rt, err)
					waits = append(waits, wait)
					at += n
				}
			}
			for _, wait := range waits {
				require.NoError(rt, wait())
			}
			durable = at
			cut := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			afterCut(rt, cut, log, prefixes, durable)
		}
		require.NoError(rt, e.Close())
	})
}
