package shard

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// A follower that restores a snapshot answers nothing by its closed timestamp before it
// knows the votes that are in the way.
func TestRestoreShowsTheClosedTimestampLast(t *testing.T) {
	a, err := openTestMachine(newTestEngine(t), 1)
	require.NoError(t, err)
	must := func(c *Command) {
		_, err := a.do(c)
		require.NoError(t, err)
	}
	must(&Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
	id := storage.TxnID{Start: 100, Gateway: 1, Seq: 1}
	var sum uint64
	const chunks = 64
	for i := range chunks {
		w := []Write{{Key: storage.Key(fmt.Sprintf("k%03d", i)), Value: bytes.Repeat([]byte("v"), 64<<10)}}
		sum += ChunkHash(id, uint32(i), w)
		must(&Command{Kind: KindStage, Epoch: 1, Txn: id, Chunk: uint32(i), Writes: w})
	}
	must(&Command{Kind: KindPrepare, Epoch: 1, Txn: id, At: 110, Participants: []ID{1, 2}, Chunks: chunks, Staged: sum})
	must(&Command{Kind: KindClose, Epoch: 1, Below: 200})
	snap, err := a.Snapshot()
	require.NoError(t, err)
	var stream bytes.Buffer
	require.NoError(t, snap.Write(&stream, nil))

	b, err := openTestMachine(newTestEngine(t), 1)
	require.NoError(t, err)
	r := &Replica{c: ReplicaConfig{Shard: 1, Machine: b.Machine, Space: b.engine.Space(1)}}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wrong := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if resp, err := r.ReadClosed(t.Context(), &ReadRequest{At: 150, Keys: []storage.Key{storage.Key("k000")}}); err == nil && !resp.Rows[0].Found {
				wrong++
			}
		}
	})
	require.NoError(t, b.Restore(&stream, nil))
	close(stop)
	wg.Wait()
	_, err = r.ReadClosed(t.Context(), &ReadRequest{At: 150, Keys: []storage.Key{storage.Key("k000")}})
	require.ErrorIs(t, err, errNotClosed)
	require.Zero(t, wrong, "reads at 150 passed over a vote PREPARED at 110 with staged chunks")
}
