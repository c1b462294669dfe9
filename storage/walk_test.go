package storage_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// TestWalkVisitsWhatAScanVisits: at any timestamp and over any range, whatever the
// number of versions of a key that do not count, in memory and in tables.
func TestWalkVisitsWhatAScanVisits(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for round := range 6 {
		s := open(t, vfs.NewMem()).Space(1)
		commit := storage.Timestamp(10)
		for range 40 {
			write(t, s, func(b *storage.Batch) {
				for range 12 {
					commit++
					b.PutVersion(walkKey(r), commit, commit-1, []byte(fmt.Sprint(commit)))
					if r.IntN(3) == 0 {
						commit++
						b.PutTombstone(walkKey(r), commit, commit-1)
					}
				}
			})
		}
		for version := range 30 { // one key with very many
			write(t, s, func(b *storage.Batch) {
				commit++
				b.PutVersion(storage.Key("k05"), commit, commit-1, []byte(fmt.Sprint(version)))
			})
		}
		if round%2 == 0 {
			transfer(t, s, s)
		}
		snap := s.Snapshot()
		for range 200 {
			at := storage.Timestamp(r.IntN(int(commit) + 20))
			lo, hi := walkKey(r), walkKey(r)
			if r.IntN(4) == 0 {
				lo = nil
			}
			if r.IntN(4) == 0 {
				hi = nil
			}
			want := scanned(t, snap, lo, hi, at)
			require.Equal(t, want, walked(t, snap, lo, hi, at), "from %s to %s at %d", lo, hi, at)
			passed(t, r, snap, lo, hi, at, want)
		}
		snap.Close()
	}
}

func walkKey(r *rand.Rand) storage.Key {
	k := fmt.Sprintf("k%02d", r.IntN(40))
	if r.IntN(5) == 0 {
		k += "\x00" // sorts right behind, between the versions if one is careless
	}
	return storage.Key(k)
}

func scanned(t *testing.T, snap *storage.Snapshot, lo, hi storage.Key, at storage.Timestamp) (rows []string) {
	it := snap.Scan(storage.ScanOptions{Lower: lo, Upper: hi, At: at, NoIntents: true})
	for it.Next() {
		rows = append(rows, fmt.Sprintf("%q=%s", it.Key(), it.Read().Value))
	}
	require.NoError(t, it.Close())
	return rows
}

func walked(t *testing.T, snap *storage.Snapshot, lo, hi storage.Key, at storage.Timestamp) (rows []string) {
	w := snap.Walk(lo, hi, at)
	for w.Next() {
		rows = append(rows, fmt.Sprintf("%q=%s", w.Key(), w.Value()))
	}
	require.False(t, w.Next())
	require.NoError(t, w.Close())
	return rows
}

// passed goes over keys without looking at them, and looks where it has come.
func passed(t *testing.T, r *rand.Rand, snap *storage.Snapshot, lo, hi storage.Key, at storage.Timestamp, want []string) {
	w := snap.Walk(lo, hi, at)
	for {
		most := 1 + r.IntN(8)
		n := w.Pass(most)
		require.Equal(t, min(most, len(want)), n, "from %s to %s at %d", lo, hi, at)
		if n == most {
			key, _, _ := strings.Cut(want[n-1], "=")
			require.Equal(t, key, fmt.Sprintf("%q", w.Key()))
		}
		if want = want[n:]; n < most {
			break
		}
	}
	require.Zero(t, w.Pass(1))
	require.NoError(t, w.Close())
}
