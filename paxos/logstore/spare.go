package logstore

import (
	"errors"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// spareName is the file that the next write-ahead log will be. spareTemporary is
// one that is not whole yet.
const (
	spareName      = "spare"
	spareTemporary = "spare.tmp"
)

// spareStep is how much of a spare is written between two fsyncs: what commits
// meanwhile does not wait for more.
const spareStep = 1 << 20

// spareWrite is how much of a spare one write holds, a page of memory. File systems
// that keep files in memory in pieces as large as the writes they came in (ext4 since
// Linux 6.16) mark and walk a whole piece for each small write that overwrites a part
// of it: with 1 MiB they took note of 3 GiB a second for logs of 20 MiB.
const spareWrite = 4 << 10

// spareRoom is how many spares must fit for one to be made.
const spareRoom = 8

var errNoRoom = errors.New("no room for a spare")

// spareFS gives the write-ahead log files whose blocks are there already and
// hold zeros. To sync what overwrites such blocks is one write; where the file
// grows, or its blocks were only reserved, the file's inode is written as well,
// which takes more than twice as long.
//
// Pebble takes old logs again itself, but only once there are some, and of the
// size they happened to reach: after a start its logs are a quarter of a megabyte
// at first, and twice as long each time. So one spare of full size lies ready, and
// takes the place of a file that would be new or is too short. When all files have
// the full size the spare stays what it is.
//
// A spare gets its name when it is whole and synced, and becomes a log by a
// rename, as an old log does; Pebble syncs the folder after either. Zeros are no
// records: a log ends at the first of them. The first spare is made when the
// first log is full; most stores of tests never come there. None is made where
// little room is left: below this file system one that is full ends the node, and
// nothing needs a spare.
type spareFS struct {
	vfs.FS
	dir  string
	size int64
	used atomic.Int64 // spares that became logs

	mu struct {
		sync.Mutex
		logs   int  // that were begun since the start
		making bool // a goroutine makes one
		ready  bool
		closed bool
	}
	work sync.WaitGroup
}

func newSpareFS(base vfs.FS, dir string, size int64) *spareFS {
	if base == nil {
		base = vfs.Default
	}
	return &spareFS{FS: base, dir: dir, size: size}
}

// clear removes what an earlier process left. The folder need not exist.
func (s *spareFS) clear() {
	_ = s.FS.Remove(s.FS.PathJoin(s.dir, spareName))
	_ = s.FS.Remove(s.FS.PathJoin(s.dir, spareTemporary))
}

// Create is part of vfs.FS.
func (s *spareFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(name) {
		return s.FS.Create(name, c)
	}
	defer s.prepare()
	if s.take() {
		if f, err := s.FS.ReuseForWrite(s.FS.PathJoin(s.dir, spareName), name, c); !oserror.IsNotExist(err) {
			return f, err
		}
	}
	return s.FS.Create(name, c)
}

// ReuseForWrite is part of vfs.FS.
func (s *spareFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(name) {
		return s.FS.ReuseForWrite(old, name, c)
	}
	defer s.prepare()
	info, err := s.FS.Stat(old)
	if err != nil || info.Size() >= s.size || !s.take() {
		return s.FS.ReuseForWrite(old, name, c)
	}
	f, err := s.FS.ReuseForWrite(s.FS.PathJoin(s.dir, spareName), name, c)
	if oserror.IsNotExist(err) {
		return s.FS.ReuseForWrite(old, name, c)
	}
	if err == nil {
		_ = s.FS.Remove(old) // one that stays is removed by the next start
	}
	return f, err
}

// Unwrap is part of vfs.FS.
func (s *spareFS) Unwrap() vfs.FS { return s.FS }

// isLog tells whether a file is a write-ahead log of Pebble's.
func isLog(name string) bool { return strings.HasSuffix(path.Base(name), ".log") }

// take reports whether there is a spare, which is the caller's then, but for a store that
// closes: it removes the file.
func (s *spareFS) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.ready {
		return false
	}
	s.mu.ready = false
	if _, err := s.FS.Stat(s.FS.PathJoin(s.dir, spareName)); err != nil { // somebody has removed it
		return false
	}
	s.used.Add(1)
	return true
}

// prepare makes a spare if there is none. The log that a store begins with does
// not ask for one.
func (s *spareFS) prepare() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.logs++
	if s.mu.logs == 1 || s.mu.ready || s.mu.making || s.mu.closed {
		return
	}
	s.mu.making = true
	s.work.Go(func() {
		err := s.make()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.making, s.mu.ready = false, err == nil
	})
}

// make writes a spare. One that fails is no harm: the next log tries again.
func (s *spareFS) make() error {
	if u, err := s.FS.GetDiskUsage(s.dir); err == nil && u.AvailBytes < spareRoom*uint64(s.size) {
		return errNoRoom
	}
	temporary := s.FS.PathJoin(s.dir, spareTemporary)
	f, err := s.FS.Create(temporary, "pebble-wal")
	if err != nil {
		return err
	}
	for left := s.size; left > 0 && err == nil && !s.isClosed(); left -= spareStep {
		if err = writeZeros(f, min(left, spareStep)); err == nil {
			err = f.SyncData()
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return s.FS.Rename(temporary, s.FS.PathJoin(s.dir, spareName))
}

// writeZeros appends n zeros.
func writeZeros(f vfs.File, n int64) error {
	var zeros [spareWrite]byte
	for ; n > 0; n -= spareWrite {
		clear(zeros[:]) // a File may change what it is given
		if _, err := f.Write(zeros[:min(n, spareWrite)]); err != nil {
			return err
		}
	}
	return nil
}

func (s *spareFS) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.closed
}

// close waits until no spare is being made, and removes the one there is: the next
// start makes its own.
func (s *spareFS) close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.work.Wait()
	s.mu.Lock()
	s.mu.ready = false
	s.mu.Unlock()
	s.clear()
}
