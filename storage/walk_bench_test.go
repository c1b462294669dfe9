package storage_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// BenchmarkWalk goes over rows as a table with an integer key has them, beside the
// scan that knows of intents: in memory and in tables.
func BenchmarkWalk(b *testing.B) {
	const rows = 200_000
	e, err := storage.Open(storage.Options{Dir: b.TempDir(), Logger: quiet, CacheBytes: 256 << 20})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	s := e.Space(1)
	value := make([]byte, 50)
	for i := 0; i < rows; i += 1000 {
		write(b, s, func(batch *storage.Batch) {
			for j := i; j < i+1000; j++ {
				k := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0, 0, 0, 1, 7, 0x84}, uint32(j)*7)
				batch.PutVersion(k, storage.MakeTimestamp(uint64(1000+i), 0), 1, value)
			}
		})
	}
	run := func(name string, visit func(*storage.Snapshot) int) {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				snap := s.Snapshot()
				n += visit(snap)
				snap.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
		})
	}
	for _, place := range []string{"memory", "tables"} {
		if place == "tables" {
			restored(b, s)
		}
		run(fmt.Sprintf("%s/scan", place), func(snap *storage.Snapshot) (n int) {
			it := snap.Scan(storage.ScanOptions{At: storage.MaxTimestamp, NoIntents: true})
			for it.Next() {
				n++
			}
			require.NoError(b, it.Close())
			return n
		})
		run(fmt.Sprintf("%s/walk", place), func(snap *storage.Snapshot) (n int) {
			w := snap.Walk(nil, nil, storage.MaxTimestamp)
			for w.Next() {
				n++
			}
			require.NoError(b, w.Close())
			return n
		})
		run(fmt.Sprintf("%s/pass", place), func(snap *storage.Snapshot) int {
			w := snap.Walk(nil, nil, storage.MaxTimestamp)
			n := w.Pass(rows + 1)
			require.NoError(b, w.Close())
			return n
		})
	}
}
