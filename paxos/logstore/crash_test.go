package logstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
)

// promise is what a store has acknowledged with an fsync for one replica, and
// what it may in addition show after a power cut.
type promise struct {
	term, vote uint64
	commit     uint64 // of the last synced update
	written    uint64 // commit index of the last update, synced or not
	snapshot   uint64
	first      uint64
	terms      []uint64
}

// cutter takes the file system as a power cut leaves it, in the middle of
// something: just before the file operation that is n operations away.
type cutter struct {
	mem   *vfs.MemFS
	cfg   vfs.CrashCloneCfg
	mu    sync.Mutex
	armed bool
	n     int
	after *vfs.MemFS
}

func newCutter(mem *vfs.MemFS, rng *rand.Rand) *cutter {
	return &cutter{mem: mem, cfg: vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}}
}

func (c *cutter) fs() vfs.FS {
	return errorfs.Wrap(c.mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
		if o.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			c.operation()
		}
		return nil
	}))
}

func (c *cutter) operation() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed || c.after != nil {
		return
	}
	if c.n == 0 {
		c.after = c.mem.CrashClone(c.cfg)
	}
	c.n--
}

func (c *cutter) arm(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.n = true, n
}

// cut returns what is left, cutting now if the moment has not come yet.
func (c *cutter) cut() *vfs.MemFS {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.after == nil {
		c.after = c.mem.CrashClone(c.cfg)
	}
	return c.after
}

// TestPowerCuts cuts the power at random moments, hundreds of times, each with
// a random part of what was not synced, and checks the store that opens after.
func TestPowerCuts(t *testing.T) {
	seed := explore.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	const lives = 300
	fs := vfs.NewCrashableMem()
	models := map[replica]*model{}
	promises := map[replica]*promise{}
	for _, r := range []replica{{1, 1}, {2, 1}, {3, 2}} {
		models[r], promises[r] = &model{r: r, first: 1}, &promise{first: 1}
	}
	for life := range lives {
		c := newCutter(fs, rng)
		s, err := Open(Options{Dir: "log", FS: c.fs(), MemTableBytes: 64 << 10})
		require.NoError(t, err, "life %d", life)
		for r, p := range promises {
			checkPromise(t, life, s, r, p)
			models[r] = recoverModel(t, s, r)
			*p = promiseOf(models[r])
		}
		// The power goes while an update list is written, or between two.
		cutAt := rng.IntN(12)
		var after *vfs.MemFS
		for step := 0; after == nil; step++ {
			us := make([]pb.Update, 0, 3)
			for _, m := range models {
				if rng.IntN(3) > 0 {
					us = append(us, m.next(rng))
				}
			}
			if step == cutAt {
				// The list that is under way may be there afterwards or not;
				// what was promised before it still holds.
				c.arm(rng.IntN(5))
				require.NoError(t, s.SaveRaftState(us, 1))
				after = c.cut()
				break
			}
			require.NoError(t, s.SaveRaftState(us, 1))
			for _, u := range us {
				keep(promises[replica{u.ShardID, u.ReplicaID}], models[replica{u.ShardID, u.ReplicaID}], u)
			}
		}
		require.NoError(t, s.Close())
		fs = after
	}
}

// keep notes what an acknowledged update promises.
func keep(p *promise, m *model, u pb.Update) {
	sync := len(u.EntriesToSave) > 0 || u.Snapshot.Index > 0 ||
		!pb.IsEmptyState(u.State) && (u.State.Term != p.term || u.State.Vote != p.vote)
	if !pb.IsEmptyState(u.State) {
		p.written = u.State.Commit
	}
	if !sync {
		return
	}
	// One write-ahead log: an fsync makes everything before it durable.
	if !pb.IsEmptyState(u.State) {
		p.term, p.vote = u.State.Term, u.State.Vote
	}
	p.commit = p.written
	p.snapshot, p.first, p.terms = m.snapshot, m.first, append([]uint64(nil), m.terms...)
}

// checkPromise compares a reopened store with what was acknowledged. A list
// that was under way may have added to it, but only whole updates.
func checkPromise(t *testing.T, life int, s *Store, r replica, p *promise) {
	t.Helper()
	rs, err := s.ReadRaftState(r.group, r.id, 0)
	if errors.Is(err, raftio.ErrNoSavedLog) {
		require.Zero(t, p.term, "life %d: the state of %v is gone", life, r)
		return
	}
	require.NoError(t, err)
	require.GreaterOrEqual(t, rs.State.Term, p.term, "life %d: term of %v", life, r)
	if rs.State.Term == p.term && p.term > 0 {
		require.Equal(t, p.vote, rs.State.Vote, "life %d: forgotten vote of %v", life, r)
	}
	require.GreaterOrEqual(t, rs.State.Commit, p.commit, "life %d: commit index of %v", life, r)
	ss, err := s.GetSnapshot(r.group, r.id)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ss.Index, p.snapshot, "life %d: snapshot of %v", life, r)
	m := recoverModel(t, s, r)
	for i, term := range p.terms {
		index := p.first + uint64(i)
		if index < m.first { // behind a newer snapshot
			require.GreaterOrEqual(t, ss.Index, index, "life %d: entry %d of %v is gone", life, index, r)
			continue
		}
		if index <= m.last() && m.terms[index-m.first] == term {
			continue
		}
		// Only a leader of a later term, in the list that was under way, can
		// have overwritten it, and only if it was not committed.
		require.True(t, index > p.commit && rs.State.Term > p.term, "life %d: entry %d of %v is gone", life, index, r)
	}
	// Committed means that the entries or a snapshot are there (S3).
	require.LessOrEqual(t, rs.State.Commit, max(m.last(), ss.Index), "life %d: commit index of %v without its entries", life, r)
}

// recoverModel reads a replica back as Raft does at a start.
func recoverModel(t *testing.T, s *Store, r replica) *model {
	t.Helper()
	m := &model{r: r, first: 1}
	ss, err := s.GetSnapshot(r.group, r.id)
	require.NoError(t, err)
	m.snapshot = ss.Index
	rs, err := s.ReadRaftState(r.group, r.id, ss.Index)
	if errors.Is(err, raftio.ErrNoSavedLog) {
		return m
	}
	require.NoError(t, err)
	m.state = rs.State
	m.first = ss.Index + 1
	es, _, err := s.IterateEntries(nil, 0, r.group, r.id, m.first, 1<<60, 1<<60)
	require.NoError(t, err)
	for i, e := range es {
		want := entryAt(r, e.Index, e.Term, len(e.Cmd))
		require.Equal(t, m.first+uint64(i), e.Index)
		require.Equal(t, string(want.Cmd), string(e.Cmd), "an entry is whole or not there")
		m.terms = append(m.terms, e.Term)
	}
	return m
}

func promiseOf(m *model) promise {
	return promise{
		term: m.state.Term, vote: m.state.Vote, commit: m.state.Commit, written: m.state.Commit,
		snapshot: m.snapshot, first: m.first, terms: append([]uint64(nil), m.terms...),
	}
}

// TestListIsAtomic cuts the power in the middle of lists whose updates belong
// together: after the cut all groups have the list, or none.
func TestListIsAtomic(t *testing.T) {
	seed := explore.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 4))
	both, none := 0, 0
	for round := range 60 {
		c := newCutter(vfs.NewCrashableMem(), rng)
		s, err := Open(Options{Dir: "log", FS: c.fs(), MemTableBytes: 1 << 20})
		require.NoError(t, err)
		list := func(i uint64) []pb.Update {
			var us []pb.Update
			for g := uint64(1); g <= 3; g++ {
				us = append(us, pb.Update{ShardID: g, ReplicaID: 1, State: pb.State{Term: 1, Vote: 1, Commit: i - 1},
					EntriesToSave: []pb.Entry{entryAt(replica{g, 1}, i, 1, 30_000)}})
			}
			return us
		}
		acked := uint64(rng.IntN(10))
		for i := range acked {
			require.NoError(t, s.SaveRaftState(list(i+1), 1))
		}
		c.arm(rng.IntN(6))
		require.NoError(t, s.SaveRaftState(list(acked+1), 1))
		after := c.cut()
		require.NoError(t, s.Close())
		s = openMem(t, after)
		last := uint64(0)
		for g := uint64(1); g <= 3; g++ {
			n, err := s.lastEntry(replica{g, 1})
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, acked, "round %d", round)
			if g > 1 {
				require.Equal(t, last, n, "round %d: group %d has another end than group %d", round, g, g-1)
			}
			last = n
		}
		if last > acked {
			both++
		} else {
			none++
		}
	}
	require.Positive(t, both, "the list under way was never there: the test cuts too early")
	require.Positive(t, none, "the list under way was always there: the test cuts too late")
}

// TestFailStop: after an fsync that failed nothing is acknowledged any more.
func TestFailStop(t *testing.T) {
	for _, op := range []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileWrite} {
		var fail atomic.Bool
		mem := vfs.NewMem()
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
			sync := o.Kind == errorfs.OpFileSync || o.Kind == errorfs.OpFileSyncData
			hit := op == errorfs.OpFileWrite && o.Kind == errorfs.OpFileWrite || op == errorfs.OpFileSync && sync
			if fail.Load() && hit && filepath.Ext(o.Path) == ".log" {
				return errors.New("injected")
			}
			return nil
		}))
		s, err := Open(Options{Dir: "log", FS: fs, MemTableBytes: 64 << 10})
		require.NoError(t, err)
		m := &model{r: replica{1, 1}, first: 1}
		update := func() []pb.Update {
			u := pb.Update{ShardID: 1, ReplicaID: 1, EntriesToSave: []pb.Entry{entryAt(m.r, m.last()+1, 1, 10)}}
			m.terms = append(m.terms, 1)
			return []pb.Update{u}
		}
		require.NoError(t, s.SaveRaftState(update(), 1))
		fail.Store(true)
		err = s.SaveRaftState(update(), 1)
		require.Error(t, err, "operation %v", op)
		fail.Store(false)
		// The disk is well again; the store is not.
		require.Error(t, s.SaveRaftState(update(), 1))
		require.Error(t, s.SaveSnapshots([]pb.Update{{ShardID: 1, ReplicaID: 1, Snapshot: pb.Snapshot{Index: 1}}}))
		require.Error(t, s.SaveBootstrapInfo(2, 1, pb.Bootstrap{}))
		require.Error(t, s.RemoveEntriesTo(1, 1, 1))
		require.Error(t, s.RemoveNodeData(1, 1))
		require.NoError(t, s.Close())
	}
}

// TestSyncsOnlyWhatMatters counts fsyncs of the write-ahead log.
func TestSyncsOnlyWhatMatters(t *testing.T) {
	var syncs atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if (o.Kind == errorfs.OpFileSync || o.Kind == errorfs.OpFileSyncData) && filepath.Ext(o.Path) == ".log" {
			syncs.Add(1)
		}
		return nil
	}))
	s, err := Open(Options{Dir: "log", FS: fs})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	r := replica{1, 1}
	for _, c := range []struct {
		what  string
		u     pb.Update
		syncs int64
	}{
		{"entries", pb.Update{State: pb.State{Term: 1, Vote: 1}, EntriesToSave: []pb.Entry{entryAt(r, 1, 1, 9), entryAt(r, 2, 1, 9)}}, 1},
		{"commit", pb.Update{State: pb.State{Term: 1, Vote: 1, Commit: 1}}, 0},
		{"nothing new", pb.Update{State: pb.State{Term: 1, Vote: 1, Commit: 1}}, 0},
		{"nothing", pb.Update{}, 0},
		{"vote", pb.Update{State: pb.State{Term: 1, Vote: 2, Commit: 1}}, 1},
		{"term", pb.Update{State: pb.State{Term: 2, Commit: 1}}, 1},
		{"commit again", pb.Update{State: pb.State{Term: 2, Commit: 2}}, 0},
		{"snapshot", pb.Update{Snapshot: pb.Snapshot{Index: 5, Term: 2}}, 1},
		{"an old snapshot", pb.Update{Snapshot: pb.Snapshot{Index: 4, Term: 2}}, 0},
	} {
		before := syncs.Load()
		c.u.ShardID, c.u.ReplicaID = 1, 1
		require.NoError(t, s.SaveRaftState([]pb.Update{c.u}, 1))
		require.Equal(t, c.syncs, syncs.Load()-before, c.what)
	}
	rs, err := s.ReadRaftState(1, 1, 5)
	require.NoError(t, err)
	require.Equal(t, pb.State{Term: 2, Commit: 2}, rs.State, "a commit that was not synced is written")
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir})
	require.NoError(t, err)
	_, err = Open(Options{Dir: dir})
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, s.db.Set(formatKey, []byte{9}, pebble.Sync))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.SaveBootstrapInfo(1, 1, pb.Bootstrap{}), errClosed)
	_, err = Open(Options{Dir: dir})
	require.ErrorIs(t, err, ErrFormat)

	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.MkdirAll(other, 0o755))
	db, err := pebble.Open(other, &pebble.Options{Logger: &pebbleLogger{}})
	require.NoError(t, err)
	require.NoError(t, db.Set([]byte("k"), []byte("v"), pebble.Sync))
	require.NoError(t, db.Close())
	_, err = Open(Options{Dir: other})
	require.ErrorIs(t, err, ErrForeign)
}

// BenchmarkSave measures one update list with one entry for each group, on
// disk.
func BenchmarkSave(b *testing.B) {
	for _, groups := range []int{1, 8} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			s, err := Open(Options{Dir: b.TempDir()})
			require.NoError(b, err)
			defer s.Close()
			us := make([]pb.Update, groups)
			for i := uint64(1); b.Loop(); i++ {
				for g := range us {
					r := replica{uint64(g + 1), 1}
					us[g] = pb.Update{ShardID: r.group, ReplicaID: 1, State: pb.State{Term: 1, Commit: i - 1}, EntriesToSave: []pb.Entry{entryAt(r, i, 1, 128)}}
				}
				require.NoError(b, s.SaveRaftState(us, 1))
			}
		})
	}
}
