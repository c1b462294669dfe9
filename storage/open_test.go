package storage_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// quiet drops Pebble's messages.
var quiet = slog.New(slog.DiscardHandler)

// options are those of a small engine on fs.
func options(fs vfs.FS) storage.Options {
	return storage.Options{Dir: "data", FS: fs, MemTableBytes: 1 << 20, CacheBytes: 4 << 20, Logger: quiet}
}

// open opens an engine on fs and closes it when the test ends.
func open(t testing.TB, fs vfs.FS) *storage.Engine {
	t.Helper()
	e, err := storage.Open(options(fs))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// write commits one batch.
func write(t testing.TB, s *storage.Space, fill func(b *storage.Batch)) {
	t.Helper()
	b := s.NewBatch()
	defer b.Close()
	fill(b)
	require.NoError(t, b.Commit())
}

// get reads one key in a snapshot of its own.
func get(t testing.TB, s *storage.Space, k string, at storage.Timestamp) storage.Read {
	t.Helper()
	snap := s.Snapshot()
	defer snap.Close()
	r, err := snap.Get(storage.Key(k), at)
	require.NoError(t, err)
	return r
}

// stream returns the space's content in stream form.
func stream(t testing.TB, s *storage.Space) []byte {
	t.Helper()
	st := s.StreamSnapshot()
	var buf bytes.Buffer
	require.NoError(t, st.WriteTo(&buf, nil))
	require.NoError(t, st.Close())
	return buf.Bytes()
}

// transfer replaces one space by the content of another, through a stream.
func transfer(t testing.TB, from, to *storage.Space) {
	t.Helper()
	require.NoError(t, to.Restore(bytes.NewReader(stream(t, from))))
}
