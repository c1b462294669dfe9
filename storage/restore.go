package storage

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// restoreTableBytes is about how many bytes of pairs go into one table.
const restoreTableBytes = 64 << 20

// Restore replaces the whole space by the content of a stream, applied record
// included. The stream is read to its end and checked before anything changes;
// then one edit of the store removes the old content and takes in the new. When
// it returns nil the new content is durable; after an error, or a crash on the
// way, the old content is there unchanged, or, if the crash came at the very
// end, the new one.
func (s *Space) Restore(r io.Reader) error {
	t := &tableBuilder{e: s.e, key: s.start[:spaceSize:spaceSize]}
	t.dir = s.e.opts.FS.PathJoin(s.e.restorePath(), fmt.Sprint(s.e.restores.Add(1)))
	err := s.restore(r, t)
	err = errors.Join(err, t.discard())
	return wrap(err, "restore space %d", s.id)
}

// restore turns the stream into tables and swaps them in.
func (s *Space) restore(r io.Reader, t *tableBuilder) error {
	if err := s.e.opts.FS.MkdirAll(t.dir, 0o755); err != nil {
		return err
	}
	if err := t.readAll(r); err != nil {
		return err
	}
	if err := s.take(t.paths); err != nil {
		return err
	}
	return s.e.Sync()
}

// take swaps the tables in. Readers that open meanwhile wait.
func (s *Space) take(paths []string) error {
	s.swap.begin()
	defer s.swap.end()
	if len(paths) == 0 {
		return s.e.db.Excise(context.Background(), s.keyRange())
	}
	_, err := s.e.db.IngestAndExcise(context.Background(), paths, nil, nil, s.keyRange())
	return err
}

// tableBuilder writes the pairs of a stream into sorted tables of the store's
// own format. The tables are synced as they are closed.
type tableBuilder struct {
	e     *Engine
	dir   string
	paths []string

	w    *sstable.Writer // the table being written; nil: none
	size int             // bytes of pairs in it
	key  []byte          // physical; the first bytes, the space, stay
	last []byte          // key of the previous pair, without space
}

// readAll reads the stream to its end.
func (t *tableBuilder) readAll(r io.Reader) error {
	f, err := newFrameReader(r)
	if err != nil {
		return err
	}
	for {
		k, v, err := f.next()
		if errors.Is(err, io.EOF) {
			return t.closeTable()
		}
		if err == nil {
			err = t.add(k, v)
		}
		if err != nil {
			return err
		}
	}
}

// add writes one pair after checking that it may stand in a space, here.
func (t *tableBuilder) add(k, v []byte) error {
	if err := validateKey(k); err != nil {
		return err
	}
	if kind(k[0]) == kindIntent && blank(v) {
		return corruptf("snapshot stream has an empty intent at key %x", k)
	}
	if t.last != nil && compareKeys(t.last, k) >= 0 {
		return corruptf("snapshot stream is out of order at key %x", k)
	}
	t.last = append(t.last[:0], k...)
	if t.w != nil && t.size >= restoreTableBytes {
		if err := t.closeTable(); err != nil {
			return err
		}
	}
	if t.w == nil {
		if err := t.openTable(); err != nil {
			return err
		}
	}
	t.key = append(t.key[:spaceSize], k...)
	t.size += len(t.key) + len(v)
	return t.w.Set(t.key, v)
}

// openTable starts the next table.
func (t *tableBuilder) openTable() error {
	fs := t.e.opts.FS
	path := fs.PathJoin(t.dir, fmt.Sprintf("%06d.sst", len(t.paths)))
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	lowest := len(t.e.pebble.Levels) - 1
	o := t.e.pebble.MakeWriterOptions(lowest, pebbleFormat.MaxTableFormat())
	t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), o)
	t.size = 0
	t.paths = append(t.paths, path)
	return nil
}

// closeTable ends and syncs the table that is being written, if there is one.
func (t *tableBuilder) closeTable() error {
	if t.w == nil {
		return nil
	}
	err := t.w.Close()
	t.w = nil
	return err
}

// discard removes the tables; the store has links of its own to those it took.
func (t *tableBuilder) discard() error {
	if t.w != nil {
		_ = t.w.Close() // the stream broke off; the table goes away with it
		t.w = nil
	}
	return t.e.opts.FS.RemoveAll(t.dir)
}
