package logstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
)

// smallLogs is a memtable, and so a log, that a few dozen updates fill.
const smallLogs = 64 << 10

// save appends one entry of some kilobytes to a replica's log.
func save(t *testing.T, s *Store, r replica, index uint64) {
	require.NoError(t, s.SaveRaftState([]pb.Update{{ShardID: r.group, ReplicaID: r.id, State: pb.State{Term: 1, Vote: 1, Commit: index - 1},
		EntriesToSave: []pb.Entry{entryAt(r, index, 1, 4000)}}}, 1))
}

// holds checks the entries 1 to last of a replica.
func holds(t *testing.T, s *Store, r replica, last uint64) {
	t.Helper()
	entries, _, err := s.IterateEntries(nil, 0, r.group, r.id, 1, last+1, 1<<60)
	require.NoError(t, err)
	require.Len(t, entries, int(last))
	for i, e := range entries {
		require.Equal(t, entryAt(r, uint64(i+1), 1, 4000).Cmd, e.Cmd)
	}
}

func (s *spareFS) isReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.ready
}

func awaitSpare(t *testing.T, s *Store) {
	require.Eventually(t, s.spares.isReady, time.Minute, time.Millisecond)
}

// A new log and one that is too short give way to a spare; old logs of full size
// do not.
func TestSparesBecomeLogs(t *testing.T) {
	mem := vfs.NewMem()
	r, last := replica{1, 1}, uint64(0)
	for life := range 3 {
		s, err := Open(Options{Dir: "log", FS: mem, MemTableBytes: smallLogs})
		require.NoError(t, err)
		holds(t, s, r, last)
		require.False(t, s.spares.isReady(), "made before it is needed")
		// The first two logs of each life are short; where flushes keep up no others
		// are begun than those two and the full ones in their places.
		for s.spares.used.Load() < 2 {
			last++
			save(t, s, r, last)
			if s.spares.logs() > 1 {
				awaitSpare(t, s)
			}
		}
		require.NoError(t, s.Close())
		names, err := mem.List("log")
		require.NoError(t, err)
		require.NotContains(t, names, spareName, "life %d", life)
		require.NotContains(t, names, spareTemporary, "life %d", life)
	}
}

func (s *spareFS) logs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.logs
}

func TestOldLogsOfFullSizeStay(t *testing.T) {
	mem := vfs.NewMem()
	s := newSpareFS(mem, "", 4096)
	write := func(name string, size int) {
		f, err := s.Create(name, vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = f.Write(make([]byte, size))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	write("000001.log", 4096)
	write("000002.log", 100)
	require.Eventually(t, s.isReady, time.Minute, time.Millisecond)
	reuse := func(old, name string) int64 {
		f, err := s.ReuseForWrite(old, name, vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		info, err := f.Stat()
		require.NoError(t, err)
		require.NoError(t, f.Close())
		return info.Size()
	}
	require.Equal(t, int64(4096), reuse("000001.log", "000003.log"))
	require.Zero(t, s.used.Load(), "it was long enough")
	require.Equal(t, int64(4096), reuse("000002.log", "000004.log"))
	require.Equal(t, int64(1), s.used.Load())
	s.close()
	names, err := mem.List("")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"000003.log", "000004.log"}, names)
}

// A spare is worth less than the node, which ends when a write finds no room.
func TestNoSparesWhereThereIsNoRoom(t *testing.T) {
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if path.Base(o.Path) == spareTemporary && o.Kind != errorfs.OpRemove {
			t.Errorf("%v", o)
		}
		return nil
	}))
	s := newSpareFS(nearlyFull{fs}, "", smallLogs)
	require.ErrorIs(t, s.make(), errNoRoom)
	for i := range 5 {
		f, err := s.Create(fmt.Sprintf("%06d.log", i), vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	s.close()
	require.Zero(t, s.used.Load())
}

// nearlyFull is a disk with less room than spares want.
type nearlyFull struct{ vfs.FS }

func (nearlyFull) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: spareRoom*smallLogs - 1}, nil
}

// A log that is begun when the spare is gone is made anew: after a close, and when
// somebody has tidied up.
func TestSparesThatAreGone(t *testing.T) {
	for name, lose := range map[string]func(s *spareFS){
		"closed":  func(s *spareFS) { s.close() },
		"removed": func(s *spareFS) { require.NoError(t, s.FS.Remove(spareName)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpareFS(vfs.NewMem(), "", 4096)
			begin := func(f vfs.File, err error) {
				require.NoError(t, err)
				require.NoError(t, f.Close())
			}
			begin(s.Create("000001.log", vfs.WriteCategoryUnspecified))
			begin(s.Create("000002.log", vfs.WriteCategoryUnspecified))
			require.Eventually(t, s.isReady, time.Minute, time.Millisecond)
			lose(s)
			begin(s.Create("000003.log", vfs.WriteCategoryUnspecified))
			begin(s.ReuseForWrite("000001.log", "000004.log", vfs.WriteCategoryUnspecified))
			s.close()
		})
	}
}

// A store that closes may remove a spare that a log has just taken.
func TestSparesThatGoWhenTheyAreTaken(t *testing.T) {
	fs := &losing{FS: vfs.NewMem()}
	s := newSpareFS(fs, "", 4096)
	begin := func(f vfs.File, err error) {
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	begin(s.Create("000001.log", vfs.WriteCategoryUnspecified))
	begin(s.Create("000002.log", vfs.WriteCategoryUnspecified))
	require.Eventually(t, s.isReady, time.Minute, time.Millisecond)
	begin(s.Create("000003.log", vfs.WriteCategoryUnspecified))
	require.Eventually(t, s.isReady, time.Minute, time.Millisecond)
	begin(s.ReuseForWrite("000001.log", "000004.log", vfs.WriteCategoryUnspecified))
	require.Equal(t, 2, fs.lost)
	s.close()
}

// losing is a file system whose spares go just before they are renamed.
type losing struct {
	vfs.FS
	lost int
}

func (l *losing) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if old == spareName {
		l.lost++
		if err := l.FS.Remove(spareName); err != nil {
			return nil, err
		}
	}
	return l.FS.ReuseForWrite(old, name, c)
}

// A store does not need spares.
func TestSparesThatFail(t *testing.T) {
	var failed atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if o.Kind.ReadOrWrite() == errorfs.OpIsWrite && o.Kind != errorfs.OpRemove && path.Base(o.Path) == spareTemporary {
			failed.Add(1)
			return errors.New("injected")
		}
		return nil
	}))
	s, err := Open(Options{Dir: "log", FS: fs, MemTableBytes: smallLogs})
	require.NoError(t, err)
	last := uint64(0)
	for failed.Load() < 3 {
		last++
		save(t, s, replica{1, 1}, last)
	}
	holds(t, s, replica{1, 1}, last)
	require.Zero(t, s.spares.used.Load())
	require.NoError(t, s.Close())
}

// TestPowerCutsAcrossLogs cuts the power while logs fill, spares are made and
// take their places. What was acknowledged is there afterwards.
func TestPowerCutsAcrossLogs(t *testing.T) {
	rng := rand.New(rand.NewPCG(explore.Seed(t), 6))
	fs := vfs.NewCrashableMem()
	used := int64(0)
	var before replica
	saved := uint64(0)
	for life := range uint64(60) {
		c := newCutter(fs, rng)
		s, err := Open(Options{Dir: "log", FS: c.fs(), MemTableBytes: smallLogs})
		require.NoError(t, err, "life %d", life)
		if before.group > 0 {
			last, err := s.lastEntry(before)
			require.NoError(t, err)
			require.GreaterOrEqual(t, last, saved, "life %d: an acknowledged entry is gone", life)
			holds(t, s, before, last)
			require.NoError(t, s.RemoveNodeData(before.group, before.id))
		}
		r := replica{life + 1, 1}
		before, saved = r, 0
		steps := uint64(1 + rng.IntN(80))
		for saved < steps {
			save(t, s, r, saved+1)
			saved++
			if s.spares.logs() > 1 && rng.IntN(4) == 0 {
				awaitSpare(t, s)
			}
		}
		c.arm(rng.IntN(40))
		for i := saved + 1; c.pending(); i++ {
			save(t, s, r, i)
			if c.pending() {
				saved = i
			}
		}
		fs = c.cut()
		used += s.spares.used.Load()
		require.NoError(t, s.Close())
	}
	require.Positive(t, used, "no spare became a log")
}

// pending reports that the cut has not come yet.
func (c *cutter) pending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.after == nil
}

// A spare is written in pages: pieces that are larger stay together in the memory of
// some file systems, and each small write into one costs as much as the piece.
func TestSparesAreWrittenInPages(t *testing.T) {
	const size = 2*spareStep + 100
	var sizes []int
	fs := vfs.NewMem()
	s := newSpareFS(&measuring{FS: fs, sizes: &sizes}, "", size)
	require.NoError(t, s.make())
	info, err := fs.Stat(spareName)
	require.NoError(t, err)
	require.EqualValues(t, size, info.Size())
	require.Equal(t, spareWrite, slices.Max(sizes))
}

// measuring notes how much each write of a new file holds.
type measuring struct {
	vfs.FS
	sizes *[]int
}

func (m *measuring) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := m.FS.Create(name, c)
	return &measuredFile{File: f, sizes: m.sizes}, err
}

type measuredFile struct {
	vfs.File
	sizes *[]int
}

func (f *measuredFile) Write(p []byte) (int, error) {
	*f.sizes = append(*f.sizes, len(p))
	return f.File.Write(p)
}
