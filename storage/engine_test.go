package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rowlockdb/rowlock/storage"
)

// diskOptions are those of an engine on the disk.
func diskOptions(dir string) storage.Options { return storage.Options{Dir: dir, Logger: quiet} }

func TestOpenOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	e, err := storage.Open(diskOptions(dir))
	require.NoError(t, err)
	write(t, e.Space(1), func(b *storage.Batch) { b.PutVersion(storage.Key("k"), 5, 4, []byte("v")) })
	require.NoError(t, e.Sync())
	require.NoError(t, e.Close())

	o := diskOptions(dir)
	o.ReadOnly = true
	e, err = storage.Open(o)
	require.NoError(t, err)
	require.Equal(t, "v", string(get(t, e.Space(1), "k", 5).Value))
	b := e.Space(1).NewBatch()
	b.PutMeta("m", nil)
	require.Error(t, b.Commit())
	b.Close()
	require.Error(t, e.Space(1).Destroy())
	require.NoError(t, e.Sync())
	require.NoError(t, e.Close())
}

func TestOpenReadOnlyNeedsData(t *testing.T) {
	o := diskOptions(t.TempDir())
	o.ReadOnly = true
	_, err := storage.Open(o)
	require.ErrorIs(t, err, storage.ErrFormat)
	o.Dir = filepath.Join(o.Dir, "missing")
	_, err = storage.Open(o)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, storage.ErrLocked)
}

func TestOpenTwice(t *testing.T) {
	for name, o := range map[string]storage.Options{"disk": diskOptions(t.TempDir()), "memory": options(vfs.NewMem())} {
		t.Run(name, func(t *testing.T) {
			e, err := storage.Open(o)
			require.NoError(t, err)
			_, err = storage.Open(o)
			require.ErrorIs(t, err, storage.ErrLocked)
			require.Contains(t, err.Error(), o.Dir)
			require.NoError(t, e.Close())
			e, err = storage.Open(o)
			require.NoError(t, err)
			require.NoError(t, e.Close())
		})
	}
}

// TestOpenForeign: whatever a directory of another format looks like, it is
// refused with a sentence that says so, is left as it was, and is not locked.
func TestOpenForeign(t *testing.T) {
	const name = "ROWLOCK-STORAGE"
	replace := func(old, new string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			changed := strings.Replace(string(content), old, new, 1)
			require.NotEqual(t, string(content), changed)
			require.NoError(t, os.WriteFile(path, []byte(changed), 0o644))
		}
	}
	foreign := func(marked bool, c *pebble.Comparer) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			mark, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.NoError(t, os.RemoveAll(dir))
			db, err := pebble.Open(dir, &pebble.Options{Logger: discard{}, Comparer: c})
			require.NoError(t, err)
			require.NoError(t, db.Close())
			if marked {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), mark, 0o644))
			}
		}
	}
	comparerOf := func(name string) *pebble.Comparer {
		c := *pebble.DefaultComparer
		c.Name = name
		return &c
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   error
		text   string
	}{
		{"newer version", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), storage.EncodeFormat(storage.FormatVersion+1), 0o644))
		}, storage.ErrFormat, fmt.Sprintf("storage format %d, this program reads and writes format %d",
			storage.FormatVersion+1, storage.FormatVersion)},
		{"bad checksum", replace("xxh64 ", "xxh64 0"), storage.ErrCorrupt, "checksum"},
		{"changed version", replace("storage format ", "storage format 9"), storage.ErrCorrupt, "checksum"},
		{"not a format file", replace("rowlock", "warlock"), storage.ErrCorrupt, "not readable"},
		{"another program's store", foreign(false, comparerOf("leveldb")), storage.ErrFormat, "not Rowlock's"},
		{"another comparer", foreign(true, comparerOf("somebody.else")), storage.ErrFormat, "somebody.else"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e, err := storage.Open(diskOptions(dir))
			require.NoError(t, err)
			require.NoError(t, e.Close())
			c.damage(t, dir)
			for range 2 { // the second time shows that the lock was given back
				_, err = storage.Open(diskOptions(dir))
				require.ErrorIs(t, err, c.want)
				require.NotErrorIs(t, err, storage.ErrLocked)
				require.Contains(t, err.Error(), c.text)
			}
		})
	}
}

// discard is a pebble.Logger.
type discard struct{}

func (discard) Infof(string, ...any)  {}
func (discard) Errorf(string, ...any) {}
func (discard) Fatalf(string, ...any) { panic("fatal") }

// TestCorruptTable flips a byte in every table; a read says ErrCorrupt.
func TestCorruptTable(t *testing.T) {
	dir := t.TempDir()
	e, err := storage.Open(diskOptions(dir))
	require.NoError(t, err)
	s := e.Space(1)
	write(t, s, func(b *storage.Batch) {
		b.PutVersion(storage.Key("k"), 5, 4, bytes.Repeat([]byte("value"), 100))
	})
	transfer(t, s, s)
	require.NoError(t, e.Close())
	e, err = storage.Open(diskOptions(dir)) // takes what is pending into tables
	require.NoError(t, err)
	require.NoError(t, e.Close())
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	for _, path := range tables {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		content[20] ^= 0xff
		require.NoError(t, os.WriteFile(path, content, 0o644))
	}
	e, err = storage.Open(diskOptions(dir))
	require.NoError(t, err)
	defer e.Close()
	snap := e.Space(1).Snapshot()
	defer snap.Close()
	_, err = snap.Get(storage.Key("k"), 5)
	require.ErrorIs(t, err, storage.ErrCorrupt)
	it := snap.Scan(storage.ScanOptions{At: 5})
	require.False(t, it.Next())
	require.ErrorIs(t, it.Err(), storage.ErrCorrupt)
	require.ErrorIs(t, it.Close(), storage.ErrCorrupt)
}

// TestStreamIsComplete: a stream cut short or changed anywhere is refused, and
// the space keeps what it had.
func TestStreamIsComplete(t *testing.T) {
	e := open(t, vfs.NewMem())
	source, target := e.Space(1), e.Space(2)
	write(t, source, func(b *storage.Batch) {
		for _, k := range modelKeys {
			b.PutVersion(storage.Key(k), 5, 4, []byte("v"))
		}
		b.SetApplied(storage.Applied{Replica: 1, Index: 7})
	})
	write(t, target, func(b *storage.Batch) { b.SetApplied(storage.Applied{Replica: 2, Index: 8}) })
	good, before := stream(t, source), stream(t, target)
	for n := range good {
		err := target.Restore(bytes.NewReader(good[:n]))
		require.ErrorIs(t, err, storage.ErrCorrupt, "%d bytes", n)
		bad := bytes.Clone(good)
		bad[n] ^= 0x40
		err = target.Restore(bytes.NewReader(bad))
		require.True(t, errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrFormat), "byte %d: %v", n, err)
	}
	require.Equal(t, before, stream(t, target))
	failed := errors.New("connection lost")
	require.ErrorIs(t, target.Restore(io.MultiReader(bytes.NewReader(good[:50]), failingReader{failed})), failed)
	require.Equal(t, before, stream(t, target))
	require.NoError(t, target.Restore(bytes.NewReader(good)))
	require.Equal(t, good, stream(t, target))
}

// failingReader fails every read.
type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestStreamVersion: a stream of another version is refused by name.
func TestStreamVersion(t *testing.T) {
	s := open(t, vfs.NewMem()).Space(1)
	newer := stream(t, s)
	newer[8]++
	err := s.Restore(bytes.NewReader(newer))
	require.ErrorIs(t, err, storage.ErrFormat)
	require.Contains(t, err.Error(), fmt.Sprint("version ", newer[8]))
}

// TestStreamStops at the channel, and hands on the writer's error.
func TestStreamStops(t *testing.T) {
	s := open(t, vfs.NewMem()).Space(1)
	write(t, s, func(b *storage.Batch) { b.PutMeta("m", make([]byte, 1<<20)) })
	st := s.StreamSnapshot()
	defer func() { require.NoError(t, st.Close()) }()
	stop := make(chan struct{})
	close(stop)
	require.ErrorIs(t, st.WriteTo(io.Discard, stop), storage.ErrStopped)
	r, w := io.Pipe()
	require.NoError(t, r.CloseWithError(os.ErrDeadlineExceeded))
	require.ErrorIs(t, st.WriteTo(w, nil), os.ErrDeadlineExceeded)
	require.NoError(t, st.WriteTo(io.Discard, nil))
}

// TestStreamSpansTables restores a space larger than one table.
func TestStreamSpansTables(t *testing.T) {
	e := open(t, vfs.NewMem())
	value := make([]byte, 20<<20)
	for i := range 5 {
		write(t, e.Space(1), func(b *storage.Batch) {
			value[0] = byte(i)
			b.PutVersion(storage.Key{byte(i)}, 5, 4, value)
		})
	}
	transfer(t, e.Space(1), e.Space(2))
	require.Equal(t, stream(t, e.Space(1)), stream(t, e.Space(2)))
	for i := range 5 {
		require.Equal(t, byte(i), get(t, e.Space(2), string([]byte{byte(i)}), 5).Value[0])
	}
	size, err := e.Space(2).Size()
	require.NoError(t, err)
	require.NotZero(t, size)
	require.NotZero(t, e.Metrics().DiskBytes)
}

// TestReadsDuringRestore: beside a restore, every snapshot shows the old content
// or the new, never both.
func TestReadsDuringRestore(t *testing.T) {
	e := open(t, vfs.NewMem())
	fill := func(s *storage.Space, value string, index uint64) {
		write(t, s, func(b *storage.Batch) {
			for _, k := range modelKeys {
				b.PutVersion(storage.Key(k), 5, 4, []byte(value))
			}
			b.SetApplied(storage.Applied{Replica: 1, Index: index})
		})
	}
	s := e.Space(1)
	fill(e.Space(2), "a", 1)
	fill(e.Space(3), "b", 2)
	a, b := stream(t, e.Space(2)), stream(t, e.Space(3))
	require.NoError(t, s.Restore(bytes.NewReader(a)))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					checkUniform(t, s)
				}
			}
		})
	}
	for range 20 {
		require.NoError(t, s.Restore(bytes.NewReader(b)))
		require.NoError(t, s.Restore(bytes.NewReader(a)))
	}
	close(done)
	readers.Wait()
}

// checkUniform expects one value under all keys, and the applied index to agree.
func checkUniform(t *testing.T, s *storage.Space) {
	snap := s.Snapshot()
	defer snap.Close()
	applied, _, err := snap.Applied()
	if err != nil {
		t.Error(err)
	}
	want, n := map[uint64]string{1: "a", 2: "b"}[applied.Index], 0
	it := snap.Scan(storage.ScanOptions{At: 5})
	for ; it.Next(); n++ {
		if string(it.Read().Value) != want {
			t.Errorf("%q under applied index %d", it.Read().Value, applied.Index)
		}
	}
	if err := it.Close(); err != nil || n != len(modelKeys) {
		t.Errorf("%d keys, %v", n, err)
	}
}

// TestCloseLeavesNothing: no goroutine outlives the engine.
func TestCloseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	e, err := storage.Open(options(vfs.NewMem()))
	require.NoError(t, err)
	write(t, e.Space(1), func(b *storage.Batch) { b.PutMeta("m", []byte("v")) })
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if err := e.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	require.LessOrEqual(t, e.Metrics().Syncs, uint64(20))
	require.NoError(t, e.Close())
}

// TestBugsPanic: nonsense timestamps are caught before they are stored.
func TestBugsPanic(t *testing.T) {
	b := open(t, vfs.NewMem()).Space(1).NewBatch()
	defer b.Close()
	require.Panics(t, func() { b.PutVersion(nil, 0, 1, nil) })
	require.Panics(t, func() { b.PutTombstone(nil, storage.MaxTimestamp+1, 1) })
	require.Panics(t, func() { storage.MakeTimestamp(1, 1<<18) })
	require.Panics(t, func() { storage.MakeTimestamp(1<<45, 0) })
	require.True(t, b.Empty())
}
