package logstore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// Name is the name by which Dragonboat records the kind of store in a data
// directory.
const Name = "rowlock-logstore"

// formatVersion is the version of the layout that this package writes.
const formatVersion = 1

// pebbleFormat is fixed, so that a newer Pebble does not make a directory
// unreadable for the release before.
const pebbleFormat = pebble.FormatValueSeparation

// DefaultMemTableBytes is small on purpose: so long is a write-ahead log's file,
// and Pebble takes it again when the memtable has been flushed (see spareFS).
const DefaultMemTableBytes = 8 << 20

// What a caller of Open decides by.
var (
	// ErrLocked: another process has the store open.
	ErrLocked = errors.New("logstore: in use by another process")
	// ErrFormat: the store was written by an unknown version.
	ErrFormat = errors.New("logstore: unknown format version")
	// ErrForeign: the directory holds a Pebble store that is not a log store.
	ErrForeign = errors.New("logstore: not a log store")
)

// Options for Open.
type Options struct {
	// Dir is created when it does not exist.
	Dir string
	// FS is the file system; nil is the disk.
	FS vfs.FS
	// MemTableBytes is the size of a memtable, DefaultMemTableBytes when zero.
	MemTableBytes int64
	// CacheBytes is the size of the block cache, 8 MiB when zero. Only followers
	// that lag and restarts read the log.
	CacheBytes int64
	// Logger gets Pebble's complaints; nil drops them.
	Logger *slog.Logger
	// Fatal is called when Pebble cannot go on, on a goroutine of Pebble's own
	// as it may be; nil panics. It must not return.
	Fatal func(error)
}

// Store implements raftio.ILogDB.
type Store struct {
	db     *pebble.DB
	spares *spareFS

	mu struct {
		sync.Mutex
		replicas map[replica]*known
		failed   error // the first failed write
		closed   bool
	}
}

// known is what the store remembers of a replica so as not to read it back.
// Guarded by Store.mu.
type known struct {
	state    pb.State
	last     uint64 // no entry has a higher index
	hasLast  bool   // last has been read or written
	snapshot uint64 // index of the newest snapshot record
	hasSnap  bool   // snapshot has been read or written
}

var _ raftio.ILogDB = (*Store)(nil)

// Open opens a store, or makes one where there is none.
func Open(o Options) (*Store, error) {
	if o.MemTableBytes == 0 {
		o.MemTableBytes = DefaultMemTableBytes
	}
	// A log is about as long as what its memtable holds.
	s := &Store{spares: newSpareFS(o.FS, o.Dir, o.MemTableBytes)}
	s.mu.replicas = make(map[replica]*known)
	o.FS = s.spares
	db, err := pebble.Open(o.Dir, pebbleOptions(o))
	if err != nil {
		if isLocked(err) {
			return nil, fmt.Errorf("open %s: %w", o.Dir, ErrLocked)
		}
		return nil, fmt.Errorf("logstore: open %s: %w", o.Dir, err)
	}
	s.db = db
	s.spares.clear() // the folder is ours now
	if err := s.checkFormat(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", o.Dir, err), db.Close())
	}
	return s, nil
}

func pebbleOptions(o Options) *pebble.Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = 8 << 20
	}
	log := &pebbleLogger{log: o.Logger, fatal: o.Fatal}
	p := &pebble.Options{
		FS:                          o.FS,
		FormatMajorVersion:          pebbleFormat,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		CacheSize:                   o.CacheBytes,
		MaxOpenFiles:                256,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       1000,
		Logger:                      log,
		EventListener:               log.events(),
	}
	// One compaction at a time, as is Pebble's default: when it ends, the next one
	// begins. Pebble's own scheduler looks ten times a second for a second one.
	p.CompactionConcurrencyRange = func() (int, int) { return 1, 1 }
	p.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	// Most of the log is deleted before it is compacted, so it is not worth
	// compressing.
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		return pebble.UniformDBCompressionSettings(block.NoCompression)
	})
	return p
}

// checkFormat reads the format marker, or writes it into an empty store.
func (s *Store) checkFormat() error {
	v, ok, err := s.get(formatKey)
	switch {
	case err != nil:
		return err
	case ok && len(v) == 1 && v[0] == formatVersion:
		return nil
	case ok:
		return fmt.Errorf("%w %v, this release reads version %d", ErrFormat, v, formatVersion)
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	empty := !it.First()
	if err := it.Close(); err != nil {
		return err
	}
	if !empty {
		return ErrForeign
	}
	return s.db.Set(formatKey, []byte{formatVersion}, pebble.Sync)
}

// Name implements raftio.ILogDB.
func (s *Store) Name() string { return Name }

// BinaryFormat implements raftio.ILogDB.
func (s *Store) BinaryFormat() uint32 { return raftio.PlainLogDBBinVersion }

// Close implements raftio.ILogDB. A store whose write failed is left as it is:
// Pebble does not come back from that, and the directory's lock is given back
// with the process.
func (s *Store) Close() error {
	s.mu.Lock()
	done := s.mu.closed || s.mu.failed != nil
	s.mu.closed = true
	s.mu.Unlock()
	if done {
		return nil
	}
	s.spares.close()
	return s.db.Close()
}

// Metrics returns Pebble's own figures.
func (s *Store) Metrics() *pebble.Metrics { return s.db.Metrics() }

// get copies the value of a key.
func (s *Store) get(key []byte) ([]byte, bool, error) {
	v, c, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("logstore: read %q: %w", key, err)
	}
	out := append([]byte(nil), v...)
	return out, true, c.Close()
}

// knownLocked returns the record of a replica.
func (s *Store) knownLocked(r replica) *known {
	k := s.mu.replicas[r]
	if k == nil {
		k = &known{}
		s.mu.replicas[r] = k
	}
	return k
}
