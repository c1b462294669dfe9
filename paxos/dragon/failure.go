package dragon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/lni/vfs"
)

// failure is the end of a host whose disk or state machine failed. Dragonboat
// itself would take the process down, which is not a library's to do: here the
// goroutine that met the error stops for ever, so that nothing after it is
// acknowledged, sent or tried again, and whoever opened the host is told.
type failure struct {
	report func(error) // Options.Failed, may be nil
	armed  atomic.Bool // the host is open: errors are no longer handed through
	once   sync.Once
	done   chan struct{} // closed when err is set
	err    error
}

func newFailure(report func(error)) *failure {
	return &failure{report: report, done: make(chan struct{})}
}

// stop reports the first error and never returns. If nobody listens it panics.
func (f *failure) stop(err error) {
	if f.report == nil {
		panic(err)
	}
	f.once.Do(func() {
		f.err = err
		close(f.done)
		f.report(err)
	})
	select {}
}

// failed returns what ended the host, nil while it is well.
func (f *failure) failed() error {
	if !isClosed(f.done) {
		return nil
	}
	return f.err
}

// opened are the hosts of this process. A panic of Dragonboat does not say whose
// it is, so it ends all of them.
var opened struct {
	sync.Mutex
	hosts   map[*failure]struct{}
	opening int // in which panics are caught and become errors
}

func (f *failure) arm() {
	f.armed.Store(true)
	opened.Lock()
	defer opened.Unlock()
	if opened.hosts == nil {
		opened.hosts = map[*failure]struct{}{}
	}
	opened.hosts[f] = struct{}{}
}

func (f *failure) disarm() {
	f.armed.Store(false)
	opened.Lock()
	defer opened.Unlock()
	delete(opened.hosts, f)
}

// catching tells that panics become errors until the returned function is called.
func catching() func() {
	opened.Lock()
	defer opened.Unlock()
	opened.opening++
	return func() {
		opened.Lock()
		defer opened.Unlock()
		opened.opening--
	}
}

// panicked is told of each panic of Dragonboat before it happens. It returns
// only if nobody is there to stop for.
func panicked(err error) {
	opened.Lock()
	var hosts []*failure
	if opened.opening == 0 {
		for f := range opened.hosts {
			if f.report != nil {
				hosts = append(hosts, f)
			}
		}
	}
	opened.Unlock()
	for _, f := range hosts {
		go f.stop(err)
	}
	if len(hosts) > 0 {
		select {}
	}
}

// check returns err, or never. That something is there already, or is not
// there, is an answer and not a failure.
func (f *failure) check(doing, path string, err error) error {
	if err == nil || !f.armed.Load() || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) ||
		errors.Is(err, os.ErrClosed) {
		return err
	}
	f.stop(fmt.Errorf("%s %s: %w", doing, path, err))
	return err
}

// stopFS is a file system on which what fails to change the disk never returns,
// once the host is open.
type stopFS struct {
	vfs.FS
	failure *failure
}

func (s stopFS) file(doing, path string, file vfs.File, err error) (vfs.File, error) {
	if err := s.failure.check(doing, path, err); err != nil {
		return nil, err
	}
	return &stopFile{File: file, failure: s.failure, path: path}, nil
}

func (s stopFS) Create(name string) (vfs.File, error) {
	file, err := s.FS.Create(name)
	return s.file("create", name, file, err)
}

func (s stopFS) OpenForAppend(name string) (vfs.File, error) {
	file, err := s.FS.OpenForAppend(name)
	return s.file("open", name, file, err)
}

func (s stopFS) OpenDir(name string) (vfs.File, error) {
	file, err := s.FS.OpenDir(name)
	return s.file("open", name, file, err)
}

func (s stopFS) ReuseForWrite(old, name string) (vfs.File, error) {
	file, err := s.FS.ReuseForWrite(old, name)
	return s.file("reuse "+old+" for", name, file, err)
}

func (s stopFS) Link(old, name string) error {
	return s.failure.check("link", name, s.FS.Link(old, name))
}

func (s stopFS) Rename(old, name string) error {
	return s.failure.check("rename to", name, s.FS.Rename(old, name))
}

func (s stopFS) MkdirAll(dir string, perm os.FileMode) error {
	return s.failure.check("make", dir, s.FS.MkdirAll(dir, perm))
}

type stopFile struct {
	vfs.File
	failure *failure
	path    string
}

func (f *stopFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.failure.check("write", f.path, err)
}

func (f *stopFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	return n, f.failure.check("write", f.path, err)
}

func (f *stopFile) Sync() error { return f.failure.check("fsync", f.path, f.File.Sync()) }
