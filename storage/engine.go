package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// restoreDir holds the tables of restores that are under way. Pebble links them
// into its own directory; whatever an interrupted restore leaves is removed when
// the engine opens.
const restoreDir = "restore"

// Engine is a node's store. Its methods may be called concurrently.
type Engine struct {
	opts    Options
	pebble  *pebble.Options
	db      *pebble.DB
	lock    *pebble.Lock
	flusher syncer
	failure failure
	churn   churn
	rows    *rows
	stalls  atomic.Uint64
	// restores numbers the restores of this life, for their directories.
	restores atomic.Uint64
	mu       struct {
		sync.Mutex
		swaps map[uint64]*swap // of the spaces asked for so far
	}
}

// Open opens the store in o.Dir and makes it if there is none. It fails with
// ErrLocked if the directory is in use, ErrFormat if it was written in an
// unknown format, ErrCorrupt if its files are damaged.
func Open(o Options) (*Engine, error) {
	o = o.withDefaults()
	e := &Engine{opts: o, failure: failure{report: o.Failed, done: make(chan struct{})}}
	disk := NewStopFS(o.FS, func(err error) { e.failure.hear(wrap(err, "data store")) })
	if o.Failed != nil {
		e.opts.FS = disk
	}
	if err := e.open(); err != nil {
		return nil, wrap(err, "open data directory %s", o.Dir)
	}
	disk.Arm()
	return e, nil
}

// open takes the directory lock first, so that everything after it happens to a
// directory that no one else touches.
func (e *Engine) open() (err error) {
	if !e.opts.ReadOnly {
		if err := makeDir(e.opts.FS, e.opts.Dir); err != nil {
			return err
		}
	}
	if e.lock, err = lockDir(e.opts.FS, e.opts.Dir); err != nil {
		return err
	}
	if err := e.openLocked(); err != nil {
		return errors.Join(err, e.lock.Close())
	}
	return nil
}

// openLocked opens the store in a directory whose lock is held.
func (e *Engine) openLocked() error {
	if err := checkFormat(e.opts.FS, e.opts.Dir, e.opts.ReadOnly); err != nil {
		return formatError(err)
	}
	if !e.opts.ReadOnly {
		if err := e.opts.FS.RemoveAll(e.restorePath()); err != nil {
			return err
		}
	}
	rowBytes := e.opts.rowBytes()
	e.rows = newRows(rowBytes)
	cache := pebble.NewCache(e.opts.CacheBytes - rowBytes)
	defer cache.Unref() // the store holds its own reference
	e.pebble = e.opts.pebbleOptions(cache, &e.failure)
	e.pebble.Lock = e.lock
	begin := e.pebble.EventListener.WriteStallBegin
	e.pebble.EventListener.WriteStallBegin = func(info pebble.WriteStallBeginInfo) {
		e.stalls.Add(1)
		begin(info)
	}
	e.pebble.EventListener.FlushEnd = func(info pebble.FlushInfo) {
		if info.Err == nil {
			e.churn.flushed()
		}
	}
	db, err := pebble.Open(e.opts.Dir, e.pebble)
	if err != nil {
		return formatError(err)
	}
	e.db = db
	e.flusher.flush = func() error { return db.LogData(nil, pebble.Sync) }
	return nil
}

// restorePath is where restores keep their tables.
func (e *Engine) restorePath() string { return e.opts.FS.PathJoin(e.opts.Dir, restoreDir) }

// makeDir makes the data directory and makes its name durable.
func makeDir(fs vfs.FS, dir string) error {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(dir))
}

// lockDir takes the directory's lock. A path error means that the lock file
// could not be made; anything else that someone holds it.
func lockDir(dirFS vfs.FS, dir string) (*pebble.Lock, error) {
	l, err := pebble.LockDirectory(dir, dirFS)
	if err == nil {
		return l, nil
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrLocked, err)
}

// formatError marks the errors by which Pebble says that a store was written by
// a newer release or with another comparer. It has no types for them, hence the
// look at the text.
func formatError(err error) error {
	text := err.Error()
	if strings.Contains(text, "format major version") || strings.Contains(text, "comparer name") {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}

// Space returns the part of the store that belongs to one shard replica; id is
// the replica's shard. It may be empty.
func (e *Engine) Space(id uint64) *Space { return newSpace(e, id) }

// swapOf returns what keeps readers and restores of a space apart.
func (e *Engine) swapOf(id uint64) *swap {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.swaps == nil {
		e.mu.swaps = map[uint64]*swap{}
	}
	w := e.mu.swaps[id]
	if w == nil {
		w = &swap{}
		e.mu.swaps[id] = w
	}
	return w
}

// Spaces lists the ids of the spaces that hold anything, in ascending order.
func (e *Engine) Spaces() ([]uint64, error) {
	it, err := e.db.NewIter(nil)
	if err != nil {
		return nil, wrap(err, "list spaces")
	}
	var ids []uint64
	for ok := it.First(); ok; {
		if len(it.Key()) < headerSize {
			return nil, errors.Join(corruptf("key %x outside of every space", it.Key()), it.Close())
		}
		id := binary.BigEndian.Uint64(it.Key())
		ids = append(ids, id)
		ok = it.SeekGE(spaceEnd(id))
	}
	return ids, wrap(it.Close(), "list spaces")
}

// Sync returns once everything committed before the call survives a power cut.
// Concurrent calls share one write to the disk.
func (e *Engine) Sync() error {
	if e.opts.ReadOnly {
		return nil
	}
	return wrap(e.flusher.wait(), "sync write-ahead log")
}

// Stopped is closed when the store cannot go on, before Options.Failed is called: what
// waits for the disk then waits for ever. Without Options.Failed it never is.
func (e *Engine) Stopped() <-chan struct{} { return e.failure.done }

// Close closes the store. No snapshot, stream, iterator or batch may be in use.
// It does not sync: what was not synced may be lost in a power cut after it.
func (e *Engine) Close() error {
	e.failure.closed.Store(true)
	return wrap(errors.Join(e.db.Close(), e.lock.Close()), "close data directory %s", e.opts.Dir)
}
