package logstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/plugin/tan"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	lnivfs "github.com/lni/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
)

// model is one replica as Raft sees it; it makes updates that Raft could make.
type model struct {
	r        replica
	state    pb.State
	first    uint64 // first index that is left
	terms    []uint64
	snapshot uint64
	boot     bool
}

func (m *model) last() uint64 { return m.first + uint64(len(m.terms)) - 1 }

func entryAt(r replica, index, term uint64, size int) pb.Entry {
	cmd := make([]byte, size)
	for i := range cmd {
		cmd[i] = byte(index + term + uint64(i))
	}
	return pb.Entry{
		Index: index, Term: term, Type: pb.EncodedEntry,
		Key: index*31 + term, ClientID: r.group*7 + r.id, Cmd: cmd,
	}
}

// next returns a random update: more entries, an overwritten suffix, a commit
// move, a vote, a snapshot from another replica, or several of them.
func (m *model) next(rng *rand.Rand) pb.Update {
	u := pb.Update{ShardID: m.r.group, ReplicaID: m.r.id}
	before := m.state
	if m.state.Term == 0 || rng.IntN(8) == 0 {
		m.state.Term += uint64(1 + rng.IntN(3))
		m.state.Vote = uint64(rng.IntN(4))
	}
	if rng.IntN(20) == 0 {
		m.receive(rng, &u)
	} else if rng.IntN(4) > 0 {
		m.append(rng, &u)
	}
	if m.state.Commit < m.last() && rng.IntN(2) == 0 {
		m.state.Commit += 1 + rng.Uint64N(m.last()-m.state.Commit)
	}
	if m.state != before || rng.IntN(5) == 0 { // an empty State means unchanged
		u.State = m.state
	}
	return u
}

func (m *model) append(rng *rand.Rand, u *pb.Update) {
	from := m.last() + 1
	if low := max(m.state.Commit, m.first-1) + 1; rng.IntN(5) == 0 && low < from {
		from = low + rng.Uint64N(from-low)
		m.terms = m.terms[:from-m.first]
		m.state.Term++
	}
	for i := range uint64(1 + rng.IntN(6)) {
		u.EntriesToSave = append(u.EntriesToSave, entryAt(m.r, from+i, m.state.Term, rng.IntN(300)))
		m.terms = append(m.terms, m.state.Term)
	}
}

// receive replaces the log by a snapshot further on.
func (m *model) receive(rng *rand.Rand, u *pb.Update) {
	index := m.last() + uint64(1+rng.IntN(5))
	u.Snapshot = pb.Snapshot{Index: index, Term: m.state.Term, ShardID: m.r.group, Type: pb.OnDiskStateMachine,
		Membership: pb.Membership{ConfigChangeId: 1, Addresses: map[uint64]string{m.r.id: "a"}}}
	m.snapshot, m.first, m.terms = index, index+1, nil
	m.state.Commit = max(m.state.Commit, index)
}

// save is a snapshot that the replica made itself, with the log cut behind.
func (m *model) save(rng *rand.Rand) (pb.Snapshot, uint64) {
	index := max(m.snapshot+1, m.first)
	if index > m.state.Commit || index > m.last() {
		return pb.Snapshot{}, 0
	}
	index += rng.Uint64N(min(m.state.Commit, m.last()) - index + 1)
	ss := pb.Snapshot{Index: index, Term: m.terms[index-m.first], ShardID: m.r.group, OnDiskIndex: index,
		Type: pb.OnDiskStateMachine, Dummy: true,
		Membership: pb.Membership{ConfigChangeId: 1, Addresses: map[uint64]string{m.r.id: "a"}}}
	m.snapshot = index
	cut := m.first - 1
	if index > m.first {
		cut = m.first + rng.Uint64N(index-m.first)
	}
	return ss, cut
}

func (m *model) cut(index uint64) {
	if index < m.first {
		return
	}
	m.terms = slices.Clone(m.terms[index-m.first+1:])
	m.first = index + 1
}

func openStock(t *testing.T) raftio.ILogDB {
	c := config.NodeHostConfig{Expert: config.ExpertConfig{FS: lnivfs.NewMem(), LogDB: config.GetTinyMemLogDBConfig()}}
	c.Expert.LogDB.Shards = 1
	c.Expert.LogDB.KVWriteBufferSize = 64 << 10
	require.NoError(t, c.Expert.FS.MkdirAll("/stock", 0o755))
	db, err := tan.Factory.Create(c, func(config.LogDBInfo) {}, []string{"/stock"}, []string{"/stock"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// TestAgainstStock gives the same updates to this store and to Dragonboat's
// own and compares every answer.
func TestAgainstStock(t *testing.T) {
	first := explore.Seed(t)
	for seed := first; seed < first+6; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { againstStock(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func againstStock(t *testing.T, rng *rand.Rand) {
	fs := vfs.NewMem()
	ours, err := Open(Options{Dir: "log", FS: fs, MemTableBytes: 64 << 10})
	require.NoError(t, err)
	defer func() { require.NoError(t, ours.Close()) }()
	stock := openStock(t)
	var models []*model
	for i := range uint64(3) {
		models = append(models, &model{r: replica{i + 1, i + 10}, first: 1})
	}
	for _, m := range models {
		compareEmpty(t, m.r, ours, stock)
		info := pb.Bootstrap{Addresses: map[uint64]string{1: "x", m.r.id: "y"}, Type: pb.OnDiskStateMachine}
		for _, db := range []raftio.ILogDB{ours, stock} {
			require.NoError(t, db.SaveBootstrapInfo(m.r.group, m.r.id, info))
		}
	}
	for step := range 300 {
		var us []pb.Update
		for _, m := range models {
			if rng.IntN(2) == 0 {
				us = append(us, m.next(rng))
			}
		}
		require.NoError(t, ours.SaveRaftState(us, 1))
		require.NoError(t, stock.SaveRaftState(us, 1))
		if rng.IntN(10) == 0 {
			m := models[rng.IntN(len(models))]
			if ss, cut := m.save(rng); ss.Index > 0 {
				u := []pb.Update{{ShardID: m.r.group, ReplicaID: m.r.id, Snapshot: ss}}
				for _, db := range []raftio.ILogDB{ours, stock} {
					require.NoError(t, db.SaveSnapshots(u))
					require.NoError(t, db.RemoveEntriesTo(m.r.group, m.r.id, cut))
				}
				m.cut(cut)
			}
		}
		if rng.IntN(60) == 0 { // a restart forgets the caches
			require.NoError(t, ours.Close())
			ours, err = Open(Options{Dir: "log", FS: fs, MemTableBytes: 64 << 10})
			require.NoError(t, err)
		}
		compare(t, rng, step, models, ours, stock)
	}
	require.NoError(t, ours.RemoveNodeData(models[0].r.group, models[0].r.id))
	compareEmptyOne(t, models[0].r, ours)
	compare(t, rng, -1, models[1:], ours, stock)
}

func compareEmpty(t *testing.T, r replica, dbs ...raftio.ILogDB) {
	t.Helper()
	for _, db := range dbs {
		compareEmptyOne(t, r, db)
	}
}

func compareEmptyOne(t *testing.T, r replica, db raftio.ILogDB) {
	t.Helper()
	_, err := db.GetBootstrapInfo(r.group, r.id)
	require.ErrorIs(t, err, raftio.ErrNoBootstrapInfo)
	_, err = db.ReadRaftState(r.group, r.id, 0)
	require.ErrorIs(t, err, raftio.ErrNoSavedLog)
	ss, err := db.GetSnapshot(r.group, r.id)
	require.NoError(t, err)
	require.True(t, pb.IsEmptySnapshot(ss))
	infos, err := db.ListNodeInfo()
	require.NoError(t, err)
	require.NotContains(t, infos, raftio.GetNodeInfo(r.group, r.id))
}

// compare checks both stores against each other and against the model.
func compare(t *testing.T, rng *rand.Rand, step int, models []*model, dbs ...raftio.ILogDB) {
	t.Helper()
	for _, m := range models {
		if m.state.Term == 0 {
			continue
		}
		var snaps []pb.Snapshot
		for _, db := range dbs {
			ss, err := db.GetSnapshot(m.r.group, m.r.id)
			require.NoError(t, err)
			require.Equal(t, m.snapshot, ss.Index, "step %d, %s", step, db.Name())
			snaps = append(snaps, ss)
			info, err := db.GetBootstrapInfo(m.r.group, m.r.id)
			require.NoError(t, err)
			require.Len(t, info.Addresses, 2)
		}
		require.Equal(t, snaps[0].Term, snaps[1].Term)
		low := m.first
		high := m.last() + 1
		if low < high {
			low += rng.Uint64N(high - low)
			high = low + 1 + rng.Uint64N(high-low)
		}
		limit := uint64(1 << 30)
		if rng.IntN(3) == 0 {
			limit = uint64(1 + rng.IntN(1500)) // for zero the two stock stores disagree
		}
		var answers [][]pb.Entry
		for _, db := range dbs {
			es, size, err := db.IterateEntries(nil, 0, m.r.group, m.r.id, low, high, limit)
			require.NoError(t, err)
			sum := uint64(0)
			for i, e := range es {
				require.Equal(t, low+uint64(i), e.Index)
				require.Equal(t, m.terms[e.Index-m.first], e.Term, "step %d, %s, index %d", step, db.Name(), e.Index)
				sum += uint64(e.SizeUpperLimit())
			}
			require.Equal(t, sum, size)
			answers = append(answers, es)
		}
		require.Equal(t, len(answers[0]), len(answers[1]), "step %d: [%d, %d) up to %d bytes", step, low, high, limit)
		for i := range answers[0] {
			require.Equal(t, answers[1][i].Cmd, answers[0][i].Cmd)
			require.Equal(t, answers[1][i].Key, answers[0][i].Key)
			require.Equal(t, answers[1][i].Type, answers[0][i].Type)
		}
		compareState(t, step, m, dbs)
	}
}

// compareState checks what a restart would read. Where entries before the
// snapshot are left the stores may begin at different places, which Dragonboat
// cuts off; the end must be the same.
func compareState(t *testing.T, step int, m *model, dbs []raftio.ILogDB) {
	t.Helper()
	for _, db := range dbs {
		rs, err := db.ReadRaftState(m.r.group, m.r.id, m.snapshot)
		require.NoError(t, err, "step %d, %s", step, db.Name())
		require.Equal(t, m.state.Term, rs.State.Term, "step %d, %s", step, db.Name())
		require.Equal(t, m.state.Vote, rs.State.Vote)
		end := m.snapshot
		if rs.EntryCount > 0 {
			end = rs.FirstIndex + rs.EntryCount - 1
		}
		require.Equal(t, max(m.last(), m.snapshot), end, "step %d, %s", step, db.Name())
	}
}

func TestImportSnapshot(t *testing.T) {
	s := openMem(t, vfs.NewMem())
	m := &model{r: replica{4, 2}, first: 1}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		require.NoError(t, s.SaveRaftState([]pb.Update{m.next(rng)}, 1))
	}
	ss := pb.Snapshot{ShardID: 4, Index: 7, Term: 2, Imported: true, Type: pb.OnDiskStateMachine}
	require.NoError(t, s.ImportSnapshot(ss, 2))
	got, err := s.GetSnapshot(4, 2)
	require.NoError(t, err)
	require.Equal(t, uint64(7), got.Index)
	require.True(t, got.Imported)
	rs, err := s.ReadRaftState(4, 2, 7)
	require.NoError(t, err)
	require.Equal(t, raftio.RaftState{State: pb.State{Term: 2, Commit: 7}, FirstIndex: 7}, rs)
	boot, err := s.GetBootstrapInfo(4, 2)
	require.NoError(t, err)
	require.True(t, boot.Join)
	require.Error(t, s.ImportSnapshot(pb.Snapshot{ShardID: 4, Index: 7}, 2), "of no type")
	es, _, err := s.IterateEntries(nil, 0, 4, 2, 1, 1000, 1<<30)
	require.NoError(t, err)
	require.Empty(t, es)
}

func openMem(t *testing.T, fs vfs.FS) *Store {
	s, err := Open(Options{Dir: "log", FS: fs, MemTableBytes: 64 << 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}
