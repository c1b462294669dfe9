package shard

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

func TestBatchesOfResolvesAreBounded(t *testing.T) {
	queue := func(n, size int) (q []pendingResolve) {
		for range n {
			q = append(q, pendingResolve{size: size})
		}
		return q
	}
	for _, test := range []struct {
		name  string
		queue []pendingResolve
		want  int
	}{
		{"nothing", nil, 0},
		{"few small ones", queue(3, 100), 3},
		{"many small ones", queue(2*resolveBatch, 100), resolveBatch},
		{"one beyond the bound goes alone", queue(3, 2*resolveBytes), 1},
		{"as many as fit", queue(10, resolveBytes/4), 4},
		{"a large one waits for the next", append(queue(2, 10), queue(1, 2*resolveBytes)...), 2},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, batchLen(test.queue)) })
	}
}

// One Resolve of large votes is committed in parts. Whichever part was durable
// when the power went, applying the entry again gives the same.
func TestLargeResolveMayBeAppliedInParts(t *testing.T) {
	e := newTestEngine(t)
	txn := func(i int) storage.TxnID { return storage.TxnID{Start: storage.Timestamp(10 * i), Gateway: 1} }
	const votes = 4
	var sums []uint64
	for durable := range votes + 1 {
		m, err := openTestMachine(e, uint64(durable+1))
		require.NoError(t, err)
		_, err = m.do(&Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
		require.NoError(t, err)
		whole := Command{Kind: KindResolve, Epoch: 1}
		for i := 1; i <= votes; i++ {
			value := bytes.Repeat([]byte{byte(i)}, resolveFlush+1)
			_, err := m.do(&Command{Kind: KindPrepare, Epoch: 1, Txn: txn(i), At: txn(i).Start + 1, Participants: []ID{1, 2},
				Writes: []Write{{Key: storage.Key{byte(i)}, Value: value}}})
			require.NoError(t, err)
			r := Resolution{Txn: txn(i), Commit: txn(i).Start + 2}
			if i == 2 {
				r.Commit = 0
			}
			whole.Resolutions = append(whole.Resolutions, r)
		}
		if durable > 0 {
			part := whole
			part.Resolutions = part.Resolutions[:durable]
			_, err := m.do(&part)
			require.NoError(t, err)
			m, err = openTestMachine(e, uint64(durable+1))
			require.NoError(t, err)
		}
		result, err := m.do(&whole)
		require.NoError(t, err)
		require.Equal(t, VerdictDone, result.Verdict)
		left := 0
		m.Prepared(func(storage.TxnID, storage.Vote) { left++ })
		require.Zero(t, left)
		sum, err := m.space.Checksum()
		require.NoError(t, err)
		sums = append(sums, sum)
	}
	for _, sum := range sums {
		require.Equal(t, sums[0], sum)
	}
}
