package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// broken is an engine whose disk can be made to fail.
type broken struct {
	*storage.Engine
	failed chan error
	armed  atomic.Pointer[func(errorfs.Op) error]
}

func openBroken(t *testing.T, fs vfs.FS, dir string) *broken {
	t.Helper()
	b := &broken{failed: make(chan error, 10)}
	o := storage.Options{Dir: dir, Logger: quiet, MemTableBytes: 256 << 10}
	o.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f := b.armed.Load(); f != nil {
			return (*f)(op)
		}
		return nil
	}))
	o.Failed = func(err error) { b.failed <- err }
	e, err := storage.Open(o)
	require.NoError(t, err)
	b.Engine = e
	return b
}

func (b *broken) arm(f func(errorfs.Op) error) { b.armed.Store(&f) }

// TestFailStop: the first write or fsync that fails is told, once, with its
// reason; from then on no write and no sync returns, well as the disk may be.
func TestFailStop(t *testing.T) {
	isSync := func(o errorfs.Op) bool {
		return o.Kind == errorfs.OpFileSync || o.Kind == errorfs.OpFileSyncData || o.Kind == errorfs.OpFileSyncTo
	}
	of := func(o errorfs.Op, part string) bool { return strings.Contains(filepath.Base(o.Path), part) }
	for _, c := range []struct {
		what string
		hit  func(errorfs.Op) bool
		as   error
	}{
		{"fsync of the write-ahead log", func(o errorfs.Op) bool { return isSync(o) && of(o, ".log") }, syscall.EIO},
		{"write of the write-ahead log", func(o errorfs.Op) bool { return o.Kind == errorfs.OpFileWrite && of(o, ".log") }, syscall.EIO},
		{"full write-ahead log", func(o errorfs.Op) bool { return o.Kind == errorfs.OpFileWrite && of(o, ".log") }, syscall.ENOSPC},
		{"new write-ahead log", func(o errorfs.Op) bool { return o.Kind == errorfs.OpCreate && of(o, ".log") }, syscall.ENOSPC},
		{"fsync of a table", func(o errorfs.Op) bool { return isSync(o) && of(o, ".sst") }, syscall.EIO},
		{"write of a table", func(o errorfs.Op) bool { return o.Kind == errorfs.OpFileWrite && of(o, ".sst") }, syscall.ENOSPC},
		{"new table", func(o errorfs.Op) bool { return o.Kind == errorfs.OpCreate && of(o, ".sst") }, syscall.ENOSPC},
		{"fsync of the manifest", func(o errorfs.Op) bool { return isSync(o) && of(o, "MANIFEST") }, syscall.EIO},
		{"write of the manifest", func(o errorfs.Op) bool { return o.Kind == errorfs.OpFileWrite && of(o, "MANIFEST") }, syscall.ENOSPC},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := openBroken(t, vfs.NewMem(), "data")
			write(t, b.Space(1), func(w *storage.Batch) { w.PutVersion(storage.Key("k"), 5, 4, []byte("v")) })
			require.NoError(t, b.Sync())
			b.arm(func(o errorfs.Op) error {
				if c.hit(o) {
					return &os.PathError{Op: "injected", Path: o.Path, Err: c.as}
				}
				return nil
			})
			var synced atomic.Int64
			wrote := make(chan struct{})
			go func() {
				defer close(wrote)
				for i := storage.Timestamp(6); i < 20_000; i++ {
					w := b.Space(1).NewBatch()
					w.PutVersion(storage.Key("k"), i, i-1, make([]byte, 2000))
					if err := errors.Join(w.Commit(), b.Sync()); err != nil {
						return
					}
					w.Close()
					synced.Add(1)
				}
			}()
			require.ErrorIs(t, <-b.failed, c.as)
			before := synced.Load()
			b.armed.Store(nil)
			// The disk is well again; the store is not.
			select {
			case <-wrote:
				t.Fatal("the writes went through")
			case <-time.After(300 * time.Millisecond):
			}
			require.Empty(t, b.failed, "told twice")
			if strings.Contains(c.what, "write-ahead log") {
				require.Equal(t, before, synced.Load(), "acknowledged after the failure")
			}
		})
	}
}

// TestCorruptBlock: a block that fails its checksum is an error of the read,
// and told.
func TestCorruptBlock(t *testing.T) {
	fs, dir := vfs.Default, t.TempDir()
	b := openBroken(t, fs, dir)
	write(t, b.Space(1), func(w *storage.Batch) {
		for i := range 500 {
			w.PutVersion(storage.Key("k"), storage.Timestamp(i+5), 4, []byte(strings.Repeat("vu", 500)))
		}
	})
	require.NoError(t, b.Sync())
	require.NoError(t, b.Close())
	require.NoError(t, openBroken(t, fs, dir).Close()) // what was in the log is in a table now
	damageTable(t, dir)
	b = openBroken(t, fs, dir)
	snap := b.Space(1).Snapshot()
	_, err := snap.Get(storage.Key("k"), 300)
	require.ErrorIs(t, err, storage.ErrCorrupt)
	require.ErrorIs(t, <-b.failed, storage.ErrCorrupt)
	snap.Close()
	require.NoError(t, b.Close())
}

// damageTable flips bytes in the largest table of a directory.
func damageTable(t *testing.T, dir string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	largest, size := "", int64(0)
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.Size() > size {
			largest, size = p, info.Size()
		}
	}
	content, err := os.ReadFile(largest)
	require.NoError(t, errors.Join(err))
	for i := range len(content) / 2 {
		content[i] ^= 0x55
	}
	require.NoError(t, os.WriteFile(largest, content, 0o644))
}
