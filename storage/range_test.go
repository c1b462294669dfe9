package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// rangeStream reads all of a range.
func rangeStream(t testing.TB, r *storage.Range) []byte {
	t.Helper()
	st := r.StreamSnapshot()
	defer func() { require.NoError(t, st.Close()) }()
	var buf bytes.Buffer
	require.NoError(t, st.WriteTo(&buf, nil))
	return buf.Bytes()
}

// fillRange writes one value under all keys of the spaces from 1 to 4, at the same index,
// in one batch.
func fillRange(t testing.TB, e *storage.Engine, value string, index uint64) {
	t.Helper()
	b := e.NewSharedBatch()
	defer b.Close()
	for id := uint64(1); id <= 4; id++ {
		part := b.Of(e.Space(id))
		for _, k := range modelKeys {
			part.PutVersion(storage.Key(k), 5, 4, []byte(value))
		}
		part.SetApplied(storage.Applied{Replica: 1, Index: index})
	}
	require.NoError(t, b.Commit())
}

// TestRangeIsItsSpaces: what a stream of several spaces carries is what a stream of each
// carries, and a restore replaces those, also by nothing, and no other.
func TestRangeIsItsSpaces(t *testing.T) {
	from, to := open(t, vfs.NewMem()), open(t, vfs.NewMem())
	fillRange(t, from, "new", 7)
	require.NoError(t, from.Space(3).Destroy())
	for id := range uint64(7) {
		write(t, to.Space(id), func(b *storage.Batch) { b.PutMeta("old", []byte{byte(id)}) })
	}
	first, last := stream(t, to.Space(0)), stream(t, to.Space(6))
	sent := rangeStream(t, from.Range(1, 5))
	require.NoError(t, to.Range(1, 5).Restore(bytes.NewReader(sent)))
	for id := uint64(1); id <= 5; id++ {
		require.Equal(t, stream(t, from.Space(id)), stream(t, to.Space(id)), "space %d", id)
	}
	require.Equal(t, sent, rangeStream(t, to.Range(1, 5)))
	require.Equal(t, first, stream(t, to.Space(0)))
	require.Equal(t, last, stream(t, to.Space(6)))

	// A part of the range leaves the rest of it empty.
	require.NoError(t, to.Range(1, 5).RestorePart(bytes.NewReader(rangeStream(t, from.Range(4, 5))), to.Range(4, 5)))
	require.Equal(t, stream(t, from.Space(4)), stream(t, to.Space(4)))
	spaces, err := to.Spaces()
	require.NoError(t, err)
	require.Equal(t, []uint64{0, 4, 6}, spaces)

	require.NoError(t, to.Range(1, 5).Restore(bytes.NewReader(rangeStream(t, open(t, vfs.NewMem()).Range(1, 5)))))
	spaces, err = to.Spaces()
	require.NoError(t, err)
	require.Equal(t, []uint64{0, 6}, spaces)
}

// TestRangeStreamIsComplete: a stream that is cut short, changed, or of other spaces is
// refused, and all spaces keep what they had.
func TestRangeStreamIsComplete(t *testing.T) {
	from, e := open(t, vfs.NewMem()), open(t, vfs.NewMem())
	fillRange(t, from, "new", 7)
	fillRange(t, e, "old", 3)
	r := e.Range(1, 4)
	before, good := rangeStream(t, r), rangeStream(t, from.Range(1, 4))
	for n := range good {
		require.Error(t, r.Restore(bytes.NewReader(good[:n])), "%d bytes", n)
		bad := bytes.Clone(good)
		bad[n] ^= 0x40
		err := r.Restore(bytes.NewReader(bad))
		require.True(t, errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrFormat), "byte %d: %v", n, err)
	}
	for name, other := range map[string][]byte{
		"fewer spaces": rangeStream(t, from.Range(1, 3)),
		"more spaces":  rangeStream(t, from.Range(1, 5)),
		"other spaces": rangeStream(t, from.Range(2, 5)),
		"one space":    stream(t, from.Space(1)),
	} {
		require.ErrorIs(t, r.Restore(bytes.NewReader(other)), storage.ErrFormat, name)
	}
	require.ErrorIs(t, e.Space(1).Restore(bytes.NewReader(good)), storage.ErrFormat)
	write(t, from.Space(5), func(b *storage.Batch) { b.PutMeta("m", nil) })
	write(t, from.Space(0), func(b *storage.Batch) { b.PutMeta("m", nil) })
	for _, wider := range []*storage.Range{from.Range(1, 5), from.Range(0, 4)} {
		lies := append(bytes.Clone(good[:25]), rangeStream(t, wider)[25:]...) // the header is another's
		require.ErrorIs(t, r.Restore(bytes.NewReader(lies)), storage.ErrCorrupt)
	}
	failed := errors.New("connection lost")
	require.ErrorIs(t, r.Restore(io.MultiReader(bytes.NewReader(good[:50]), failingReader{failed})), failed)
	require.Equal(t, before, rangeStream(t, r))
	require.NoError(t, r.Restore(bytes.NewReader(good)))
	require.Equal(t, good, rangeStream(t, r))
}

// TestRangeStreamIsOneMoment: a stream has of all spaces what was committed before it was
// opened, and nothing later; it stops at the channel; and where one of its spaces is
// removed meanwhile it shows the old content or fails.
func TestRangeStreamIsOneMoment(t *testing.T) {
	e := open(t, vfs.NewMem())
	fillRange(t, e, "a", 1)
	r := e.Range(1, 4)
	want := rangeStream(t, r)
	st := r.StreamSnapshot()
	defer func() { require.NoError(t, st.Close()) }()
	fillRange(t, e, "b", 2)
	var got bytes.Buffer
	require.NoError(t, st.WriteTo(&got, nil))
	require.Equal(t, want, got.Bytes())
	stop := make(chan struct{})
	close(stop)
	require.ErrorIs(t, st.WriteTo(io.Discard, stop), storage.ErrStopped)
	for id := uint64(1); id <= 4; id++ {
		old := rangeStream(t, r)
		st := r.StreamSnapshot()
		require.NoError(t, e.Space(id).Destroy())
		var got bytes.Buffer
		if err := st.WriteTo(&got, nil); err == nil {
			require.Equal(t, old, got.Bytes(), "space %d", id)
		}
		require.NoError(t, st.Close())
	}
}

// TestReadsDuringRangeRestore: beside a restore every snapshot of a space, what is
// remembered of its rows, and every moment of several spaces show the old content or the
// new.
func TestReadsDuringRangeRestore(t *testing.T) {
	e := open(t, vfs.NewMem())
	r := e.Range(1, 4)
	fillRange(t, e, "a", 1)
	a := rangeStream(t, r)
	fillRange(t, e, "b", 2)
	b := rangeStream(t, r)
	done := make(chan struct{})
	var readers sync.WaitGroup
	until := func(check func()) {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					check()
				}
			}
		})
	}
	until(func() { checkUniform(t, e.Space(2)) })
	until(func() { checkUniform(t, e.Space(4)) })
	until(func() { checkMoment(t, e) })
	for range 20 {
		for value, content := range map[string][]byte{"a": a, "b": b} {
			require.NoError(t, r.Restore(bytes.NewReader(content)))
			for id := uint64(1); id <= 4; id++ {
				for range 2 { // from the store, and as it is remembered
					read, ok := e.Space(id).Cached(storage.Key(modelKeys[0]), 5)
					if !ok {
						snap := e.Space(id).Snapshot()
						var err error
						read, err = snap.GetVersion(storage.Key(modelKeys[0]), 5)
						snap.Close()
						require.NoError(t, err)
					}
					require.Equal(t, value, string(read.Value), "space %d", id)
				}
			}
		}
	}
	close(done)
	readers.Wait()
}

// checkMoment expects the same value in the first and the last space.
func checkMoment(t *testing.T, e *storage.Engine) {
	spaces := []*storage.Space{e.Space(1), e.Space(4)}
	m, err := storage.MomentOf(spaces)
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Close()
	var values []string
	for _, s := range spaces {
		read, err := m.Snapshot(s).GetVersion(storage.Key(modelKeys[0]), 5)
		if err != nil {
			t.Error(err)
		}
		values = append(values, string(read.Value))
	}
	if values[0] == "" || values[0] != values[1] {
		t.Errorf("a moment of two spaces shows %q", values)
	}
}

// TestPowerCutDuringRangeRestore cuts the power in front of every write of a restore of
// four spaces: all have the old content, or all the new; once Restore has returned, the
// new.
func TestPowerCutDuringRangeRestore(t *testing.T) {
	const last = 4
	content := func(seed, index uint64) []byte {
		e := open(t, vfs.NewMem())
		rng := rand.New(rand.NewPCG(seed, 97))
		for id := uint64(1); id <= last; id++ {
			write(t, e.Space(id), func(b *storage.Batch) {
				for i := range 20 {
					value := make([]byte, 8<<10)
					for j := range value {
						value[j] = byte(rng.Uint32())
					}
					b.PutVersion(storage.Key(fmt.Sprint("key", seed, i)), 5, 4, value)
				}
				b.SetApplied(storage.Applied{Replica: 9, Index: index})
			})
		}
		return rangeStream(t, e.Range(1, last))
	}
	before, after := content(1, 10), content(2, 20)
	for seed := range uint64(4) {
		p := newPowerCuts(seed, 0)
		e, err := storage.Open(options(p.FS()))
		require.NoError(t, err)
		require.NoError(t, e.Range(1, last).Restore(bytes.NewReader(before)))
		p.setEvery(1)
		require.NoError(t, e.Range(1, last).Restore(bytes.NewReader(after)))
		p.setSynced(1, 1)
		write(t, e.Space(7), func(b *storage.Batch) { b.PutMeta("m", nil) })
		require.NoError(t, e.Sync())
		p.setEvery(0)
		require.NoError(t, e.Close())
		require.Greater(t, len(p.mu.cuts), 10)
		seen := [2]int{}
		for _, c := range p.mu.cuts {
			e, err := storage.Open(options(c.fs))
			require.NoError(t, err, "cut at %s", c.op)
			is := 0
			if got := rangeStream(t, e.Range(1, last)); !bytes.Equal(got, before) {
				require.Equal(t, after, got, "cut at %s", c.op)
				is = 1
			}
			require.GreaterOrEqual(t, is, c.synced[1], "cut at %s", c.op)
			seen[is]++
			require.NoError(t, e.Close())
		}
		require.NotContains(t, seen, 0, "cuts that left the old content, and the new")
	}
}
