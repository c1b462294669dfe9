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
	x := s.extent()
	return x.restore(r, &x)
}

// restore replaces all of the extent by a stream of sent, which lies in it.
func (x *extent) restore(r io.Reader, sent *extent) error {
	t := &tableBuilder{e: x.e, of: sent}
	t.dir = x.e.opts.FS.PathJoin(x.e.restorePath(), fmt.Sprint(x.e.restores.Add(1)))
	err := x.swapIn(r, t)
	err = errors.Join(err, t.discard())
	return wrap(err, "restore %s", x)
}

// swapIn turns the stream into tables and swaps them in.
func (x *extent) swapIn(r io.Reader, t *tableBuilder) error {
	if err := x.e.opts.FS.MkdirAll(t.dir, 0o755); err != nil {
		return err
	}
	if err := t.readAll(r); err != nil {
		return err
	}
	if err := x.take(t.paths); err != nil {
		return err
	}
	return x.e.Sync()
}

// take swaps the tables in. Readers that open meanwhile wait.
func (x *extent) take(paths []string) error {
	for i, w := range x.swaps {
		if i == 0 || !mutated("0097.readers-of-one-space-wait") {
			w.begin()
			defer w.end()
		}
	}
	ctx := context.Background()
	if mutated("0097.old-spaces-go-first") {
		if err := x.e.db.Excise(ctx, x.keyRange()); err != nil {
			return err
		}
	}
	if len(paths) == 0 {
		return x.e.db.Excise(ctx, x.keyRange())
	}
	_, err := x.e.db.IngestAndExcise(ctx, paths, nil, nil, x.keyRange())
	return err
}

// tableBuilder writes the pairs of a stream into sorted tables of the store's
// own format. The tables are synced as they are closed.
type tableBuilder struct {
	e     *Engine
	of    *extent // that the stream carries
	dir   string
	paths []string

	w    *sstable.Writer // the table being written; nil: none
	size int             // bytes of pairs in it
	key  []byte          // physical
	last []byte          // key of the previous pair, physical
}

// readAll reads the stream to its end.
func (t *tableBuilder) readAll(r io.Reader) error {
	f, err := newFrameReader(r, t.of.header())
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

// add writes one pair after checking that it may stand here.
func (t *tableBuilder) add(k, v []byte) (err error) {
	if t.key, err = t.of.physical(t.key[:0], k); err != nil {
		return err
	}
	if kind(t.key[spaceSize]) == kindIntent && blank(v) {
		return corruptf("snapshot stream has an empty intent at key %x", k)
	}
	if t.last != nil && compareKeys(t.last, t.key) >= 0 {
		return corruptf("snapshot stream is out of order at key %x", k)
	}
	t.last = append(t.last[:0], t.key...)
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
