package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// StopFS is a file system on which an operation that fails to change the disk
// never returns. The stores above it try failed work again, or give up in the
// middle of a critical section; below them no such thing can happen: what did
// not reach the disk is never followed by an acknowledgement, a second fsync or
// a file that takes the place of the first.
//
// Until Arm it hands errors through, for whoever opens a store can still be
// told. Reads are not its business.
type StopFS struct {
	vfs.FS
	failed func(error)
	armed  atomic.Bool
	syncs  atomic.Uint64
}

// NewStopFS puts a StopFS over a file system; nil is the disk. failed is called
// for each operation that fails once it is armed, and must not block.
func NewStopFS(base vfs.FS, failed func(error)) *StopFS {
	if base == nil {
		base = vfs.Default
	}
	return &StopFS{FS: base, failed: failed}
}

// Syncs returns how many fsyncs of files have returned.
func (s *StopFS) Syncs() uint64 { return s.syncs.Load() }

// Arm ends the time in which errors are handed through.
func (s *StopFS) Arm() { s.armed.Store(true) }

// check returns err, or never. That something is there already, or is not
// there, is an answer and not a failure.
func (s *StopFS) check(doing, path string, err error) error {
	if err == nil || !s.armed.Load() || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		return err
	}
	s.failed(fmt.Errorf("%s %s: %w", doing, path, err))
	if mutated("0051.goes-on") {
		return nil
	}
	select {}
}

func (s *StopFS) file(doing, path string, f vfs.File, err error) (vfs.File, error) {
	if err := s.check(doing, path, err); err != nil {
		return nil, err
	}
	return &stopFile{File: f, fs: s, path: path}, nil
}

// Create is part of vfs.FS.
func (s *StopFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return s.file("create", name, f, err)
}

// OpenReadWrite is part of vfs.FS.
func (s *StopFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.OpenReadWrite(name, c, o...)
	return s.file("open", name, f, err)
}

// ReuseForWrite is part of vfs.FS.
func (s *StopFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.ReuseForWrite(old, name, c)
	return s.file("reuse "+old+" for", name, f, err)
}

// OpenDir is part of vfs.FS: folders are opened in order to be synced.
func (s *StopFS) OpenDir(name string) (vfs.File, error) {
	f, err := s.FS.OpenDir(name)
	return s.file("open", name, f, err)
}

// Link is part of vfs.FS.
func (s *StopFS) Link(old, name string) error { return s.check("link", name, s.FS.Link(old, name)) }

// Rename is part of vfs.FS.
func (s *StopFS) Rename(old, name string) error {
	return s.check("rename to", name, s.FS.Rename(old, name))
}

// MkdirAll is part of vfs.FS.
func (s *StopFS) MkdirAll(dir string, perm os.FileMode) error {
	return s.check("make", dir, s.FS.MkdirAll(dir, perm))
}

// Unwrap is part of vfs.FS.
func (s *StopFS) Unwrap() vfs.FS { return s.FS }

// stopFile is a file that may be written.
type stopFile struct {
	vfs.File
	fs   *StopFS
	path string
}

func (f *stopFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.fs.check("write", f.path, err)
}

func (f *stopFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	return n, f.fs.check("write", f.path, err)
}

func (f *stopFile) Sync() error {
	err := f.fs.check("fsync", f.path, f.File.Sync())
	f.fs.syncs.Add(1)
	return err
}

func (f *stopFile) SyncData() error {
	err := f.fs.check("fsync", f.path, f.File.SyncData())
	f.fs.syncs.Add(1)
	return err
}

func (f *stopFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.fs.check("fsync", f.path, err)
}
