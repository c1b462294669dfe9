package storage_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// benchRows is how many rows of 200 bytes the read benchmarks have.
const benchRows = 200_000

// benchKey spreads the rows like encoded integer keys of two tables.
func benchKey(i int) storage.Key {
	return binary.BigEndian.AppendUint64(fmt.Appendf(nil, "table%02d/", i%2), uint64(i)*0x9e3779b97f4a7c15)
}

// benchSpace fills a space on the disk. Versions past the first of each row come
// last, so that they lie in other tables or in memory.
func benchSpace(b *testing.B, rows, versions int) *storage.Space {
	b.Helper()
	e, err := storage.Open(storage.Options{Dir: b.TempDir(), Logger: quiet, CacheBytes: 256 << 20})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	s := e.Space(1)
	value := make([]byte, 200)
	for v := range versions {
		for i := 0; i < rows; i += 1000 {
			write(b, s, func(batch *storage.Batch) {
				for j := i; j < min(i+1000, rows); j++ {
					binary.BigEndian.PutUint64(value, uint64(j))
					at := storage.MakeTimestamp(uint64(1000+v), 0)
					batch.PutVersion(benchKey(j), at, at-1, value)
				}
			})
		}
	}
	return s
}

// restored copies the space into itself, so that all of it is in tables.
func restored(b *testing.B, s *storage.Space) {
	b.Helper()
	transfer(b, s, s)
}

func BenchmarkGet(b *testing.B) {
	s := benchSpace(b, benchRows, 1)
	run := func(name string, key func(i int) storage.Key) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				snap := s.Snapshot()
				if _, err := snap.Get(key(rand.IntN(benchRows)), storage.MaxTimestamp); err != nil {
					b.Fatal(err)
				}
				snap.Close()
			}
		})
	}
	absent := func(i int) storage.Key { return append(benchKey(i), 1) }
	run("mixed", benchKey)
	restored(b, s)
	run("tables", benchKey)
	run("absent", absent)
	b.Run("same-snapshot", func(b *testing.B) {
		b.ReportAllocs()
		snap := s.Snapshot()
		defer snap.Close()
		for b.Loop() {
			if _, err := snap.Get(benchKey(rand.IntN(benchRows)), storage.MaxTimestamp); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSnapshot(b *testing.B) {
	s := benchSpace(b, 10_000, 1)
	b.ReportAllocs()
	for b.Loop() {
		s.Snapshot().Close()
	}
}

func BenchmarkScan(b *testing.B) {
	for _, versions := range []int{1, 10} {
		s := benchSpace(b, benchRows/versions, versions)
		restored(b, s)
		for _, reverse := range []bool{false, true} {
			b.Run(fmt.Sprintf("versions=%d/reverse=%t", versions, reverse), func(b *testing.B) {
				rows := 0
				for b.Loop() {
					snap := s.Snapshot()
					it := snap.Scan(storage.ScanOptions{At: storage.MaxTimestamp, Reverse: reverse})
					for it.Next() {
						rows++
					}
					require.NoError(b, it.Close())
					snap.Close()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
			})
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, rows := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			s := benchSpace(b, 0, 0)
			value := make([]byte, 200)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				batch := s.NewBatch()
				for range rows {
					i++
					batch.PutVersion(benchKey(i), storage.Timestamp(i), storage.Timestamp(i), value)
				}
				batch.SetApplied(storage.Applied{Replica: 1, Index: uint64(i)})
				if err := batch.Commit(); err != nil {
					b.Fatal(err)
				}
				batch.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i), "ns/row")
		})
	}
}

func BenchmarkSync(b *testing.B) {
	s := benchSpace(b, 0, 0)
	e := s.Engine()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := e.Sync(); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkVersion reads without looking for intents, in memory and in tables.
func BenchmarkVersion(b *testing.B) {
	s := benchSpace(b, 10_000, 1)
	run := func(name string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				snap := s.Snapshot()
				if _, err := snap.GetVersion(benchKey(rand.IntN(10_000)), storage.MaxTimestamp); err != nil {
					b.Fatal(err)
				}
				snap.Close()
			}
		})
	}
	run("memory")
	restored(b, s)
	run("tables")
}

// BenchmarkHot reads one key in a memtable in which 5,000 commits have updated
// it: in one step each, or by putting and resolving intents.
func BenchmarkHot(b *testing.B) {
	const rounds = 5000
	for _, intents := range []bool{false, true} {
		s := benchSpace(b, 1000, 1)
		key, value := benchKey(500), make([]byte, 200)
		after := append(slices.Clone(key), 0)
		for i := range rounds {
			at := storage.MakeTimestamp(uint64(2000+i), 0)
			if intents {
				write(b, s, func(batch *storage.Batch) {
					batch.PutIntent(key, storage.Intent{Txn: storage.TxnID{Start: at}, Prepare: at, Value: value})
				})
			}
			write(b, s, func(batch *storage.Batch) {
				if intents {
					batch.DeleteIntent(key)
				}
				batch.PutVersion(key, at, at-1, value)
			})
		}
		run := func(name string, read func(*storage.Snapshot) error) {
			b.Run(fmt.Sprintf("intents=%t/%s", intents, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					snap := s.Snapshot()
					if err := read(snap); err != nil {
						b.Fatal(err)
					}
					snap.Close()
				}
			})
		}
		run("get", func(snap *storage.Snapshot) error {
			_, err := snap.Get(key, storage.MaxTimestamp)
			return err
		})
		run("version", func(snap *storage.Snapshot) error {
			_, err := snap.GetVersion(key, storage.MaxTimestamp)
			return err
		})
		for _, reverse := range []bool{false, true} {
			run(fmt.Sprintf("scan/reverse=%t", reverse), func(snap *storage.Snapshot) error {
				it := snap.Scan(storage.ScanOptions{Lower: key, Upper: after, At: storage.MaxTimestamp, Reverse: reverse})
				for it.Next() {
				}
				return it.Close()
			})
		}
	}
}

// BenchmarkPieces reads a hundred neighbouring rows, each of which lies in one of 16
// spaces: with a snapshot of each space, or with a moment of all.
func BenchmarkPieces(b *testing.B) {
	const pieces, rows, length = 16, 100_000, 100
	e, err := storage.Open(storage.Options{Dir: b.TempDir(), Logger: quiet, CacheBytes: 256 << 20})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	spaces := make([]*storage.Space, pieces)
	for i := range spaces {
		spaces[i] = e.Space(uint64(i + 1))
	}
	value := make([]byte, 200)
	for s := range spaces {
		write(b, spaces[s], func(batch *storage.Batch) {
			for i := range rows {
				if int(uint64(i)*0x9e3779b97f4a7c15>>60) == s {
					at := storage.MakeTimestamp(1000, 0)
					batch.PutVersion(fmt.Appendf(nil, "row%08d", i), at, at-1, value)
				}
			}
		})
	}
	require.NoError(b, e.Sync())
	read := func(b *testing.B, snap *storage.Snapshot, from int, alone bool) (n int) {
		it := snap.Scan(storage.ScanOptions{Lower: fmt.Appendf(nil, "row%08d", from), Upper: fmt.Appendf(nil, "row%08d", from+length),
			At: storage.MaxTimestamp, NoIntents: true, Alone: alone})
		for it.Next() {
			n++
		}
		require.NoError(b, it.Close())
		return n
	}
	run := func(name string, piecesOf func(b *testing.B, from int) int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.Equal(b, length, piecesOf(b, rand.IntN(rows-length)))
			}
		})
	}
	apart := func(alone bool) func(*testing.B, int) int {
		return func(b *testing.B, from int) (n int) {
			for _, s := range spaces {
				snap := s.Snapshot()
				n += read(b, snap, from, alone)
				snap.Close()
			}
			return n
		}
	}
	run("apart", apart(false))
	run("alone", apart(true))
	run("moment", func(b *testing.B, from int) (n int) {
		m, err := storage.MomentOf(spaces)
		require.NoError(b, err)
		for _, s := range spaces {
			n += read(b, m.Snapshot(s), from, true)
		}
		m.Close()
		return n
	})
}
