package storage

import (
	"io"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Key is a user's key inside one shard: any bytes, compared bytewise.
type Key []byte

// Options configure an Engine.
type Options struct {
	Dir           string
	FS            vfs.FS // nil: the disk
	CacheBytes    int64  // block cache; 0: 64 MiB
	MemTableBytes int64  // 0: 64 MiB
	Logger        *slog.Logger
	ReadOnly      bool
}

// Engine is a node's store.
type Engine struct{}

// Metrics are an engine's figures.
type Metrics struct{}

func Open(Options) (*Engine, error)         { panic("unfinished") }
func (e *Engine) Space(id uint64) *Space    { panic("unfinished") }
func (e *Engine) Spaces() ([]uint64, error) { panic("unfinished") }
func (e *Engine) Sync() error               { panic("unfinished") }
func (e *Engine) Close() error              { panic("unfinished") }
func (e *Engine) Metrics() Metrics          { panic("unfinished") }

// Space is one shard replica's part of an Engine.
type Space struct{}

func (s *Space) ID() uint64                      { panic("unfinished") }
func (s *Space) NewBatch() *Batch                { panic("unfinished") }
func (s *Space) Snapshot() *Snapshot             { panic("unfinished") }
func (s *Space) StreamSnapshot() *Stream         { panic("unfinished") }
func (s *Space) Restore(r io.Reader) error       { panic("unfinished") }
func (s *Space) Destroy() error                  { panic("unfinished") }
func (s *Space) Checksum() (uint64, error)       { panic("unfinished") }
func (s *Space) Size() (uint64, error)           { panic("unfinished") }
func (s *Space) Applied() (Applied, bool, error) { panic("unfinished") }

// Stream is a point in time of a space for sending it elsewhere.
type Stream struct{}

func (st *Stream) WriteTo(w io.Writer, stop <-chan struct{}) error { panic("unfinished") }
func (st *Stream) Close() error                                    { panic("unfinished") }

// Batch is a set of changes to one space.
type Batch struct{}

func (b *Batch) PutVersion(k Key, commit, start Timestamp, value []byte) { panic("unfinished") }
func (b *Batch) PutTombstone(k Key, commit, start Timestamp)             { panic("unfinished") }
func (b *Batch) PutIntent(k Key, in Intent)                              { panic("unfinished") }
func (b *Batch) DeleteIntent(k Key)                                      { panic("unfinished") }
func (b *Batch) PutVote(id TxnID, v Vote)                                { panic("unfinished") }
func (b *Batch) DeleteVote(id TxnID)                                     { panic("unfinished") }
func (b *Batch) PutMeta(name string, v []byte)                           { panic("unfinished") }
func (b *Batch) DeleteMeta(name string)                                  { panic("unfinished") }
func (b *Batch) SetApplied(a Applied)                                    { panic("unfinished") }
func (b *Batch) CollectGarbage(lo, hi Key, below Timestamp, limit int) (next Key, removed int, err error) {
	panic("unfinished")
}
func (b *Batch) Commit() error { panic("unfinished") }
func (b *Batch) Close()        { panic("unfinished") }

// Read is what a snapshot holds for one key at one timestamp.
type Read struct {
	Value     []byte
	Commit    Timestamp // of the visible version; 0: no version at or below the timestamp
	Start     Timestamp // start timestamp of the visible version's writer
	Tombstone bool      // the visible version says "deleted"
	Newest    Timestamp // newest commit of the key at all, tombstones too; 0: none
	Intent    *Intent   // on this key, whatever its timestamp; nil: none
}

// Snapshot is a point in time of a space.
type Snapshot struct{}

func (s *Snapshot) Get(k Key, at Timestamp) (Read, error)  { panic("unfinished") }
func (s *Snapshot) Scan(o ScanOptions) *Iterator           { panic("unfinished") }
func (s *Snapshot) Vote(id TxnID) (Vote, bool, error)      { panic("unfinished") }
func (s *Snapshot) Votes(fn func(TxnID, Vote) error) error { panic("unfinished") }
func (s *Snapshot) Meta(name string) ([]byte, bool, error) { panic("unfinished") }
func (s *Snapshot) Applied() (Applied, bool, error)        { panic("unfinished") }
func (s *Snapshot) Close()                                 { panic("unfinished") }

// ScanOptions choose the keys of a scan.
type ScanOptions struct {
	Lower, Upper Key // half open; nil: open end
	At           Timestamp
	Reverse      bool
	Tombstones   bool
}

// Iterator walks over keys.
type Iterator struct{}

func (it *Iterator) Next() bool   { panic("unfinished") }
func (it *Iterator) Key() Key     { panic("unfinished") }
func (it *Iterator) Read() Read   { panic("unfinished") }
func (it *Iterator) Err() error   { panic("unfinished") }
func (it *Iterator) Close() error { panic("unfinished") }
