package storage

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// pebbleFormat is the format major version of new stores, the newest one of the
// pinned Pebble release that is not about separated values; it includes excise,
// columnar blocks and checksummed footers.
const pebbleFormat = pebble.FormatTableFormatV6

// Sizes in bytes that an Options leaves at zero.
const (
	DefaultCacheBytes    = 64 << 20
	DefaultMemTableBytes = 64 << 20
)

// Options configure an [Engine].
type Options struct {
	// Dir is the data directory; it is made if missing.
	Dir string
	// FS is the file system; nil is the disk. Tests pass Pebble's in-memory ones.
	FS vfs.FS
	// CacheBytes bounds the caches of blocks and of rows; 0 is DefaultCacheBytes.
	CacheBytes int64
	// RowCacheBytes is the part of CacheBytes that is for rows; 0 is a quarter. Below
	// zero no rows are cached.
	RowCacheBytes int64
	// MemTableBytes bounds one in-memory table; 0 is DefaultMemTableBytes.
	MemTableBytes int64
	// Logger receives Pebble's messages; nil is slog.Default.
	Logger *slog.Logger
	// ReadOnly opens without writing anything; the directory must exist.
	ReadOnly bool
	// Failed is called, once and on any goroutine, when the store cannot go on: a
	// write or an fsync failed, or a block is damaged. It must not block. Writes
	// that meet the failure then never return; nothing is retried, and the engine
	// must not be closed. nil panics where Pebble gives up.
	Failed func(error)
}

// withDefaults fills in what was left zero.
func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = DefaultMemTableBytes
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// rowBytes is the size of the cache of rows.
func (o Options) rowBytes() int64 {
	if o.RowCacheBytes == 0 {
		return o.CacheBytes / 4
	}
	return min(max(o.RowCacheBytes, 0), o.CacheBytes)
}

// readSampling makes Pebble look at one read in 16 MiB on average, where it looks at one in 1 MiB. What
// it then finds in several levels too often it compacts. Its numbers are those of a
// disk that seeks: of data in memory a few scans of a table made it write all of it anew,
// which pays for itself after some thirty (decision 0091).
const readSampling = 16 << 4

// pebbleOptions are the settings of the one store of a node. Its many small
// synced-by-the-log commits want a large memtable and no stalls; its point reads
// want bloom filters on every level and moderate blocks.
func (o Options) pebbleOptions(cache *pebble.Cache, f *failure) *pebble.Options {
	p := &pebble.Options{
		FS:                          o.FS,
		Cache:                       cache,
		Comparer:                    comparer,
		FormatMajorVersion:          pebbleFormat,
		ReadOnly:                    o.ReadOnly,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		BytesPerSync:                512 << 10,
		WALBytesPerSync:             512 << 10,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                4096,
		BlockPropertyCollectors:     []func() pebble.BlockPropertyCollector{newCommitTimes},
		Logger:                      pebbleLogger{o.Logger, f},
		EventListener:               eventListener(o.Logger, f),
	}
	p.CompactionConcurrencyRange = func() (int, int) { return 1, 2 }
	p.Experimental.CompactionScheduler = newCompactions()
	p.Experimental.ReadSamplingMultiplier = readSampling
	for i := range p.Levels {
		l := &p.Levels[i]
		l.BlockSize = 16 << 10
		l.IndexBlockSize = 128 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.FilterType = pebble.TableFilter
	}
	// What is written several times is compressed several times: the cheapest algorithm
	// that the release of Pebble has for this processor (decision 0093).
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	p.EnsureDefaults()
	return p
}
