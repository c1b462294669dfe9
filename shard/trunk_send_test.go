package shard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// openShared opens a trunk with members. It carries shards 1, 2 and so on, in the spaces
// behind one, and its own is the next.
func openShared(e *storage.Engine, behind uint64, shards int) (*testTrunk, error) {
	t := &testTrunk{Trunk: NewTrunk(e.Space(behind+uint64(shards)+1), e.Sync, 1)}
	t.WithMembers()
	for i := range shards {
		m := NewMachine(e.Space(behind+uint64(i)+1), e.Sync, 1)
		t.Carry(ID(i+1), m)
		t.machines = append(t.machines, m)
	}
	var err error
	t.index, err = t.Open()
	return t, err
}

// sent is what a trunk sends to another now.
func sent(t require.TestingT, b *testTrunk) []byte {
	snap, err := b.Snapshot()
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, snap.Write(&out, nil))
	require.NoError(t, snap.Close())
	return out.Bytes()
}

// take restores what was sent.
func take(t require.TestingT, b *testTrunk, from []byte) {
	require.NoError(t, b.Restore(bytes.NewReader(from), nil))
	b.index = b.last
}

// sameTrunks compares all that two trunks hold, on the disk and in memory.
func sameTrunks(t require.TestingT, a, b *testTrunk) {
	require.Equal(t, a.sums(t), b.sums(t))
	require.Equal(t, [2]any{a.last, a.Left()}, [2]any{b.last, b.Left()})
	for i, m := range a.machines {
		o := b.machines[i]
		require.Equal(t, preparedOf(m), preparedOf(o), "shard %d", i+1)
		require.Equal(t, []any{m.owner.Load(), m.Fence(), m.Closed(), m.Window(), m.closing, m.schemas, m.flushed.Load(), m.Abandonable()},
			[]any{o.owner.Load(), o.Fence(), o.Closed(), o.Window(), o.closing, o.schemas, o.flushed.Load(), o.Abandonable()}, "shard %d", i+1)
		require.GreaterOrEqual(t, o.lastCommit.Load(), m.lastCommit.Load())
	}
}

// TestTrunkIsSent: what a trunk sends in the middle of any log is its state then, whatever
// it applies meanwhile. Who takes it, whatever he had before, goes on with the rest of the
// log as the sender does: the same results, the same content, also after a restart.
func TestTrunkIsSent(t *testing.T) {
	const shards = 3
	from, to := newTestEngine(t), newTestEngine(t)
	behind := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		behind += 8
		a, err := openShared(from, behind, shards)
		require.NoError(rt, err)
		b, err := openShared(to, behind, shards)
		require.NoError(rt, err)
		applyLog(rt, b, drawTrunkLog(rt, shards, 20))
		log := drawTrunkLog(rt, shards, 60)
		at := rapid.IntRange(0, len(log)).Draw(rt, "sent at")
		applyLog(rt, a, log[:at])
		snap, err := a.Snapshot()
		require.NoError(rt, err)
		rest := a.entries(log[at:])
		later := rapid.IntRange(0, len(rest)).Draw(rt, "meanwhile")
		require.NoError(rt, a.Apply(rest[:later]))
		var out bytes.Buffer
		require.NoError(rt, snap.Write(&out, nil))
		require.NoError(rt, snap.Close())
		take(rt, b, out.Bytes())
		require.Equal(rt, paxos.Index(at), b.last)
		if rapid.Bool().Draw(rt, "restart") {
			b, err = openShared(to, behind, shards)
			require.NoError(rt, err)
			require.Equal(rt, paxos.Index(at), b.index)
		}
		require.NoError(rt, a.Apply(rest[later:]))
		mine := b.entries(log[at:])
		require.NoError(rt, b.Apply(mine))
		require.Equal(rt, rest, mine, "indexes and results")
		sameTrunks(rt, a, b)
	})
}

// TestTrunkIsTakenWhole: the power goes at any write of a Restore. All shards have what
// they had, or all what was sent, and the same log then leads to the same end.
func TestTrunkIsTakenWhole(t *testing.T) {
	const shards = 2
	rng := rand.New(rand.NewPCG(explore.Seed(t), 97))
	seen := map[bool]int{}
	for range 4 {
		log := someVotes(rng, 20)
		a, err := openShared(newTestEngine(t), 0, shards)
		require.NoError(t, err)
		applyLog(t, a, log[:len(log)-5])
		w := &writeCuts{fs: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), most: 100}
		e := w.open(t)
		b, err := openShared(e, 0, shards)
		require.NoError(t, err)
		applyLog(t, b, log[:5])
		require.NoError(t, b.Sync())
		old, new := b.sums(t), a.sums(t)
		w.set(1, 5)
		take(t, b, sent(t, a))
		w.set(1, int(a.index))
		require.NoError(t, b.Sync())
		w.set(0, 0)
		require.NoError(t, e.Close())
		applyLog(t, a, log[len(log)-5:])
		for _, c := range w.cuts {
			e, err := storage.Open(storage.Options{Dir: "data", FS: c.fs})
			require.NoError(t, err, c.op)
			b, err := openShared(e, 0, shards)
			require.NoError(t, err, c.op)
			require.GreaterOrEqual(t, int(b.index), c.durable, c.op)
			want := map[paxos.Index][]uint64{5: old, paxos.Index(len(log) - 5): new}
			require.Equal(t, want[b.index], b.sums(t), "cut at %s, index %d", c.op, b.index)
			seen[b.index == 5]++
			applyLog(t, b, log[b.index:])
			sameTrunks(t, a, b)
			require.NoError(t, e.Close())
		}
	}
	require.Len(t, seen, 2, "cuts that left the old state, and the new: %v", seen)
}

// someVotes is a log of two shards: votes of both in one entry, some of which stay open,
// and commits of one.
func someVotes(rng *rand.Rand, n int) (log []*trunkEntry) {
	for s := range ID(2) {
		log = append(log, &trunkEntry{[]ID{s + 1}, []Command{{Kind: KindBeginEpoch, Node: 1, Process: 1}}})
	}
	for i := range n {
		at := storage.Timestamp(100 + i)
		c := Command{Kind: KindPrepare, Epoch: 1, Txn: storage.TxnID{Start: at - 50, Gateway: 1}, At: at, Participants: []ID{1, 2},
			Writes: []Write{{Key: storage.Key(fmt.Sprint("k", rng.IntN(5), i)), Value: make([]byte, 100+rng.IntN(2000))}}}
		switch rng.IntN(3) {
		case 0:
			log = append(log, &trunkEntry{[]ID{1, 2}, []Command{c, c}})
		case 1:
			log = append(log, &trunkEntry{[]ID{ID(1 + i%2)}, []Command{c}})
		default:
			c.Kind, c.Participants = KindOnePC, nil
			log = append(log, &trunkEntry{[]ID{ID(1 + i%2)}, []Command{c}})
		}
	}
	return log
}

// TestTrunkRefusesWhatIsNotSent: what is cut short, changed, or not for this trunk changes
// nothing, and the trunk goes on.
func TestTrunkRefusesWhatIsNotSent(t *testing.T) {
	rng := rand.New(rand.NewPCG(explore.Seed(t), 98))
	log := someVotes(rng, 10)
	open := func(shards int) *testTrunk {
		b, err := openShared(newTestEngine(t), 0, shards)
		require.NoError(t, err)
		return b
	}
	a, b, same, wider := open(2), open(2), open(2), open(3)
	applyLog(t, a, log)
	applyLog(t, wider, log)
	applyLog(t, b, log[:4])
	applyLog(t, same, log[:4])
	good := sent(t, a)
	refused := func(r io.Reader, stop <-chan struct{}) error {
		err := b.Restore(r, stop)
		require.Error(t, err)
		sameTrunks(t, same, b)
		return err
	}
	for n := range good {
		if n < 60 || n > len(good)-60 || rng.IntN(20) == 0 {
			refused(bytes.NewReader(good[:n]), nil)
			bad := bytes.Clone(good)
			bad[n] ^= 1 << rng.IntN(8)
			refused(bytes.NewReader(bad), nil)
		}
	}
	refused(bytes.NewReader(sent(t, wider)), nil)
	require.ErrorIs(t, refused(bytes.NewReader([]byte{formatVersion, 9}), nil), ErrNewer)
	lost := errors.New("connection lost")
	require.ErrorIs(t, refused(io.MultiReader(bytes.NewReader(good[:100]), failingReader{lost}), nil), lost)
	stop := make(chan struct{})
	close(stop)
	require.ErrorIs(t, refused(bytes.NewReader(good), stop), storage.ErrStopped)

	applyLog(t, b, log[4:])
	sameTrunks(t, a, b)
	take(t, b, good)
	sameTrunks(t, a, b)
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestRestoreHidesAllShards: while a state is taken nobody reads what is half of each, in
// no shard.
func TestRestoreHidesAllShards(t *testing.T) {
	const shards, chunks = 3, 32
	a, err := openShared(newTestEngine(t), 0, shards)
	require.NoError(t, err)
	id := storage.TxnID{Start: 100, Gateway: 1, Seq: 1}
	for s := ID(1); s <= shards; s++ {
		do := func(c Command) { applyLog(t, a, []*trunkEntry{{[]ID{s}, []Command{c}}}) }
		do(Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
		var sum uint64
		for i := range uint32(chunks) {
			w := []Write{{Key: storage.Key(fmt.Sprintf("k%03d", i)), Value: bytes.Repeat([]byte("v"), 64<<10)}}
			sum += ChunkHash(id, i, w)
			do(Command{Kind: KindStage, Epoch: 1, Txn: id, Chunk: i, Writes: w})
		}
		do(Command{Kind: KindPrepare, Epoch: 1, Txn: id, At: 110, Participants: []ID{1, 2, 3}, Chunks: chunks, Staged: sum})
		do(Command{Kind: KindClose, Epoch: 1, Below: 200})
	}
	state := sent(t, a)
	e := newTestEngine(t)
	b, err := openShared(e, 0, shards)
	require.NoError(t, err)
	question := &ReadRequest{At: 150, Keys: []storage.Key{storage.Key("k000")}}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wrong := make([]int, shards)
	var replicas []*Replica
	for i, m := range b.machines {
		r := &Replica{c: ReplicaConfig{Shard: ID(i + 1), Machine: m, Space: m.space}}
		replicas = append(replicas, r)
		// A state of before, in which the timestamp was closed, and nothing was open.
		applyLog(t, b, []*trunkEntry{{[]ID{ID(i + 1)}, []Command{{Kind: KindBeginEpoch, Node: 1, Process: 1}}}})
		applyLog(t, b, []*trunkEntry{{[]ID{ID(i + 1)}, []Command{{Kind: KindClose, Epoch: 1, Below: 200}}}})
	}
	taken := make(chan struct{})
	for i, r := range replicas {
		wg.Go(func() {
			<-taken
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := r.ReadClosed(t.Context(), question); err == nil {
						wrong[i]++
					}
				}
			}
		})
	}
	// The readers begin when the fences are up: what they read before was right.
	require.NoError(t, b.Restore(&atEnd{r: bytes.NewReader(state), then: func() { close(taken) }}, nil))
	close(stop)
	wg.Wait()
	for _, r := range replicas {
		_, err = r.ReadClosed(t.Context(), question)
		require.ErrorIs(t, err, errNotClosed)
	}
	require.Equal(t, make([]int, shards), wrong, "reads at 150 passed over votes PREPARED at 110 with staged chunks")
}

// atEnd calls a function before its first read.
type atEnd struct {
	r    io.Reader
	then func()
	once sync.Once
}

func (a *atEnd) Read(p []byte) (int, error) {
	a.once.Do(a.then)
	return a.r.Read(p)
}

// TestTrunkIsSentInTheMiddleOfAnEntry: a crash cut a large outcome, and before the log has
// brought its entry again the state is sent. The entry ends it here and there.
func TestTrunkIsSentInTheMiddleOfAnEntry(t *testing.T) {
	rng := rand.New(rand.NewPCG(explore.Seed(t), 99))
	log := largeOutcome(rng)
	at := 0
	for log[at].commands[0].Kind != KindResolve {
		at++
	}
	e := newTestEngine(t)
	a, err := openShared(e, 0, 2)
	require.NoError(t, err)
	applyLog(t, a, log[:at])
	before := a.sums(t)
	// Without its last chunk the entry stops in the middle, as in a crash.
	space, id := a.machines[0].space, storage.TxnID{Start: 11, Gateway: 1, Seq: 1}
	snap := space.Snapshot()
	chunk, _, err := snap.Staged(id, 3)
	require.NoError(t, err)
	lost := bytes.Clone(chunk)
	snap.Close()
	change(t, space, func(b *storage.Batch) { b.DeleteStaged(id, 3) })
	log[at].commands[0].Resolutions[1].Commit = 100
	require.ErrorContains(t, a.Apply(a.entries(log[at:at+1])), "chunk 3 is missing")
	change(t, space, func(b *storage.Batch) { b.PutStaged(id, 3, lost) })

	a, err = openShared(e, 0, 2)
	require.NoError(t, err)
	require.Equal(t, paxos.Index(at), a.index)
	require.NotEqual(t, before, a.sums(t), "in the middle of the entry")
	b, err := openShared(newTestEngine(t), 0, 2)
	require.NoError(t, err)
	take(t, b, sent(t, a))
	sameTrunks(t, a, b)
	applyLog(t, a, log[at:])
	applyLog(t, b, log[at:])
	sameTrunks(t, a, b)
	whole, err := openShared(newTestEngine(t), 0, 2)
	require.NoError(t, err)
	applyLog(t, whole, log)
	sameTrunks(t, whole, b)
}

// TestTrunkThatWasLeftIsSent: once the shards have left, what their own groups write is
// not sent. Who has not applied that entry learns that they have left, has nothing
// of them, and founds nothing, also after a restart. Who has applied it keeps what its own
// groups have made of them.
func TestTrunkThatWasLeftIsSent(t *testing.T) {
	const shards = 2
	log := someVotes(rand.New(rand.NewPCG(explore.Seed(t), 100)), 10)
	engines := []*storage.Engine{newTestEngine(t), newTestEngine(t), newTestEngine(t)}
	var trunks []*testTrunk
	for _, e := range engines {
		b, err := openShared(e, 0, shards)
		require.NoError(t, err)
		applyLog(t, b, log[:6])
		trunks = append(trunks, b)
	}
	a, late, other := trunks[0], trunks[1], trunks[2]
	founds := func(b *testTrunk, want bool) {
		for s := range ID(shards) {
			got, err := b.Founds(s + 1)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
	founds(a, false)
	early, err := a.Snapshot()
	require.NoError(t, err)
	for _, b := range []*testTrunk{a, other} {
		applyLog(t, b, log[6:])
		_, err := b.do(encodeEnd(trunkEnd{kind: trunkLeave}), 1)
		require.NoError(t, err)
		founds(b, true)
	}
	own := func(b *testTrunk) {
		for _, m := range b.machines {
			c := put(12, 222, "own")
			require.NoError(t, m.Apply([]paxos.Entry{{Index: 3, Command: c.AppendBinary(nil)}}))
		}
	}
	own(a)
	own(other)
	for range 3 { // the trunk's log goes on: nobody has to know yet
		for _, b := range []*testTrunk{a, other} {
			_, err := b.do(encodeEnd(trunkEnd{kind: trunkLeave}), 1)
			require.NoError(t, err)
		}
	}
	after := sent(t, a)

	// A shard's space that its own group has removed is not sent, and nothing fails by it.
	require.NoError(t, a.machines[0].space.Destroy())
	var out bytes.Buffer
	if err := early.Write(&out, nil); err != nil {
		require.ErrorIs(t, err, paxos.ErrSnapshotGone)
	}
	require.NoError(t, early.Close())
	_ = sent(t, a)

	take(t, late, after)
	for range 2 {
		require.True(t, late.Left())
		require.Equal(t, a.last, late.last)
		founds(late, false)
		empty := newTestEngine(t).Space(1)
		for i, m := range late.machines {
			require.Equal(t, dump(t, empty), dump(t, m.space), "shard %d", i+1)
			epoch, _, _, _ := m.Owner()
			require.Zero(t, epoch)
		}
		late, err = openShared(engines[1], 0, shards)
		require.NoError(t, err)
	}

	sums := other.sums(t)
	other.last = 0
	take(t, other, after)
	require.Equal(t, a.last, other.last)
	require.Equal(t, sums, other.sums(t))
	founds(other, true)
	for _, m := range other.machines {
		applied, _, err := m.space.Applied()
		require.NoError(t, err)
		require.EqualValues(t, 3, applied.Index)
		require.NotZero(t, m.owner.Load().Epoch)
	}
	whole, err := openShared(newTestEngine(t), 0, shards)
	require.NoError(t, err)
	applyLog(t, whole, log)
	require.ErrorContains(t, other.Restore(bytes.NewReader(sent(t, whole)), nil), "shards that have left")
	require.Equal(t, sums, other.sums(t))
}

// TestSharedTrunkHasNeighbours: a trunk whose spaces are not one range is not opened.
func TestSharedTrunkHasNeighbours(t *testing.T) {
	e := newTestEngine(t)
	for name, spaces := range map[string][]uint64{ // the trunk's first
		"a gap":             {5, 1, 2, 3},
		"not the last":      {1, 2, 3},
		"in the middle":     {2, 1, 3},
		"a space twice":     {4, 2, 3, 3},
		"its own is shared": {3, 2, 3},
	} {
		b := NewTrunk(e.Space(spaces[0]), e.Sync, 1)
		b.WithMembers()
		for i, s := range spaces[1:] {
			b.Carry(ID(i+1), NewMachine(e.Space(s), e.Sync, 1))
		}
		_, err := b.Open()
		require.ErrorContains(t, err, "no neighbours", name)
	}
}

// TestTrunkThatFailedIsNotSent: it may be in the middle of an entry.
func TestTrunkThatFailedIsNotSent(t *testing.T) {
	b, err := openShared(newTestEngine(t), 0, 2)
	require.NoError(t, err)
	_, err = b.do([]byte{formatVersion, 77}, 1)
	require.Error(t, err)
	_, err = b.Snapshot()
	require.Error(t, err)
	require.Error(t, b.Restore(bytes.NewReader(nil), nil))
}
