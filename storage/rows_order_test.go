package storage

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// logFS does something when the store opens a file for its log: in the middle of a
// commit whose batch does not fit into the memtable.
type logFS struct {
	vfs.FS
	do func()
}

func (f *logFS) opened(name string) {
	if f.do != nil && strings.HasSuffix(name, ".log") {
		do := f.do
		f.do = nil
		do()
	}
}

func (f *logFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.opened(name)
	return f.FS.Create(name, c)
}

func (f *logFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f.opened(to)
	return f.FS.ReuseForWrite(from, to, c)
}

// orderCase is a space whose commits can be looked at when they are halfway.
type orderCase struct {
	t  *testing.T
	fs *logFS
	s  *Space
}

func newOrderCase(t *testing.T) *orderCase {
	o := &orderCase{t: t, fs: &logFS{FS: vfs.NewMem()}}
	e, err := Open(Options{Dir: "order", FS: o.fs, MemTableBytes: 256 << 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	o.s = e.Space(1)
	return o
}

// halfway commits k with a value, and calls do before the store has taken the batch.
func (o *orderCase) halfway(at Timestamp, v string, do func()) {
	o.t.Helper()
	called := false
	o.fs.do = func() { called = true; do() }
	commit(o.t, o.s, func(b *Batch) {
		put1("k", at, v)(b)
		for i := range 500 {
			put1(fmt.Sprint("filler", i), at, string(make([]byte, 1000)))(b)
		}
	})
	require.True(o.t, called)
}

// read reads k in a snapshot. It does not end the test, nor does cached: the store may be
// in the middle of a commit.
func (o *orderCase) read(snap *Snapshot, want Timestamp) {
	o.t.Helper()
	read, err := snap.GetVersion(Key("k"), MaxTimestamp)
	assert.NoError(o.t, err)
	assert.Equal(o.t, want, read.Commit)
}

// cached wants a version of k from the cache; 0: nothing is known of it.
func (o *orderCase) cached(want Timestamp) {
	o.t.Helper()
	read, ok := o.s.Cached(Key("k"), MaxTimestamp)
	assert.Equal(o.t, want != 0, ok)
	assert.Equal(o.t, want, read.Commit)
}

// TestRowsAreMarkedBeforeTheStore: nothing is read from the cache when the store may
// have the batch, nor put into it.
func TestRowsAreMarkedBeforeTheStore(t *testing.T) {
	o := newOrderCase(t)
	o.cached(0)
	commit(t, o.s, put1("k", 5, ""))
	now := o.s.Snapshot()
	o.read(now, 5)
	now.Close()
	o.cached(5)
	var old *Snapshot
	o.halfway(6, "", func() {
		o.cached(0)
		old = o.s.Snapshot()
		o.read(old, 5)
		o.cached(0)
	})
	o.cached(6)
	o.read(old, 5)
	old.Close()
	o.cached(6)
}

// TestRowsOfOldSnapshots: a snapshot that was opened before a commit fills in nothing
// after it.
func TestRowsOfOldSnapshots(t *testing.T) {
	o := newOrderCase(t)
	o.cached(0)
	commit(t, o.s, put1("k", 5, ""))
	old := o.s.Snapshot()
	defer old.Close()
	moment, err := MomentOf([]*Space{o.s.e.Space(2), o.s})
	require.NoError(t, err)
	defer moment.Close()
	commit(t, o.s, put1("k", 6, ""))
	o.read(old, 5)
	o.cached(0)
	o.read(moment.Snapshot(o.s), 5)
	o.cached(0)
	now := o.s.Snapshot()
	o.read(now, 6)
	now.Close()
	o.cached(6)
	passed := o.s.Snapshot()
	defer passed.Close()
	_, err = passed.PassVersion(Key("none"), MaxTimestamp)
	require.NoError(t, err)
	_, ok := o.s.Cached(Key("none"), MaxTimestamp)
	require.False(t, ok)
}

// TestRowsThatNobodyAsksFor: commits tell the cache nothing until somebody has asked it
// for a key of the space; from then on nothing is filled in that was read beside a
// commit which told nothing.
func TestRowsThatNobodyAsksFor(t *testing.T) {
	o := newOrderCase(t)
	var before, beside *Snapshot
	var moment *Moment
	before = o.s.Snapshot()
	defer before.Close()
	o.read(before, 0)
	o.halfway(5, "", func() {
		o.cached(0)
		beside = o.s.Snapshot()
		var err error
		moment, err = MomentOf([]*Space{o.s})
		assert.NoError(t, err)
	})
	require.Zero(t, o.s.e.rows.ticket(), "the commit told something")
	for _, snap := range []*Snapshot{before, beside, moment.Snapshot(o.s)} {
		o.read(snap, 0)
		o.cached(0)
	}
	beside.Close()
	moment.Close()
	now := o.s.Snapshot()
	o.read(now, 5)
	now.Close()
	o.cached(5)
	commit(t, o.s, put1("k", 6, ""))
	o.cached(6)
}

// TestRowsFollowedFromTheMiddle: a reader that begins to ask beside commits never finds
// less than it found before, and in the end the last commit or nothing.
func TestRowsFollowedFromTheMiddle(t *testing.T) {
	e := busySpace(t).e
	const last = 20
	for id := range uint64(50) {
		s := e.Space(10 + id)
		var both sync.WaitGroup
		both.Go(func() {
			for at := Timestamp(1); at <= last; at++ {
				commit(t, s, put1("k", at, ""))
			}
		})
		both.Go(func() {
			for seen := Timestamp(0); seen < last; {
				read, ok := s.Cached(Key("k"), MaxTimestamp)
				if !ok {
					snap := s.Snapshot()
					var err error
					if read, err = snap.GetVersion(Key("k"), MaxTimestamp); err != nil {
						t.Error(err)
					}
					snap.Close()
				}
				if read.Commit < seen {
					t.Errorf("space %d: %d after %d", s.ID(), read.Commit, seen)
					return
				}
				seen = read.Commit
			}
		})
		both.Wait()
		if read, ok := s.Cached(Key("k"), MaxTimestamp); ok {
			require.Equal(t, Timestamp(last), read.Commit)
		}
	}
}
