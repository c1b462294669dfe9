package shard

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// powerCut is what a cut leaves of a disk.
type powerCut struct {
	fs      *vfs.MemFS
	durable int // entries that were acknowledged before it
	op      string
}

// writeCuts clones a disk before one write of every, at random, as a cut there leaves it.
type writeCuts struct {
	fs   *vfs.MemFS
	link sync.Mutex // a clone does not see half of a Link
	rng  *rand.Rand

	mu      sync.Mutex
	every   int // 0: there are no cuts
	most    int
	durable int
	cuts    []powerCut
}

func (w *writeCuts) String() string { return "cuts at writes" }

// open opens the store of the disk.
func (w *writeCuts) open(t *testing.T) *storage.Engine {
	e, err := storage.Open(storage.Options{Dir: "data", FS: errorfs.Wrap(oneLink{w.fs, &w.link}, w)})
	require.NoError(t, err)
	return e
}

func (w *writeCuts) set(every, durable int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.every, w.durable = every, durable
}

// MaybeError implements errorfs.Injector. There are no errors.
func (w *writeCuts) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.every == 0 || len(w.cuts) >= w.most || w.rng.IntN(w.every) != 0 {
		return nil
	}
	w.link.Lock()
	defer w.link.Unlock()
	kept := []int{0, 30, 70, 100}[w.rng.IntN(4)]
	clone := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: w.rng})
	w.cuts = append(w.cuts, powerCut{clone, w.durable, fmt.Sprint(op.Kind, " ", op.Path)})
	return nil
}

// oneLink is a disk on which nothing is cloned during a Link.
type oneLink struct {
	vfs.FS
	mu *sync.Mutex
}

func (l oneLink) Unwrap() vfs.FS { return l.FS }

func (l oneLink) Link(a, b string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.FS.Link(a, b)
}

// largeOutcome is a log with outcomes of shard 1 that take several batches together, and
// small commits of both shards before and behind them.
func largeOutcome(rng *rand.Rand) (log []*trunkEntry) {
	one := func(s ID, c Command) { log = append(log, &trunkEntry{[]ID{s}, []Command{c}}) }
	commits := 0
	some := func() {
		for range 1 + rng.IntN(3) {
			commits++
			at := storage.Timestamp(5000 + commits)
			one(ID(1+commits%2), Command{Kind: KindOnePC, Epoch: 1, Txn: storage.TxnID{Start: at - 4000, Gateway: 1}, At: at, Hash: 1,
				Writes: []Write{{Key: storage.Key(fmt.Sprint("small", commits)), Value: make([]byte, 50)}}})
		}
	}
	one(1, Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
	one(2, Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
	var outcomes []Resolution
	for v := range 2 {
		id := storage.TxnID{Start: storage.Timestamp(10 + v), Gateway: 1, Seq: 1}
		vote := Command{Kind: KindPrepare, Epoch: 1, Txn: id, At: 20, Participants: []ID{1, 2}, Chunks: 4,
			Writes: []Write{{Key: storage.Key(fmt.Sprint("vote", v)), Value: make([]byte, cachedWrites+1)}}}
		for i := range vote.Chunks {
			chunk := []Write{{Key: storage.Key(fmt.Sprint("chunk", v, i)), Value: make([]byte, resolveFlush/2-100)}}
			one(1, Command{Kind: KindStage, Epoch: 1, Txn: id, Chunk: i, Writes: chunk})
			vote.Staged += ChunkHash(id, i, chunk)
		}
		one(1, vote)
		outcomes = append(outcomes, Resolution{Txn: id, Commit: 100})
	}
	if rng.IntN(2) == 0 {
		outcomes[1].Commit = 0 // it is undone
	}
	some()
	one(1, Command{Kind: KindResolve, Epoch: 1, Resolutions: outcomes})
	some()
	return log
}

// TestTrunkFinishesDespiteCuts: the power goes at writes of a large outcome, and again in
// the starts that finish them. What each start has is what the entries up to its index
// make, with all that was acknowledged, and the rest of the log leads to the same end.
func TestTrunkFinishesDespiteCuts(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(explore.Seed(t), 5))
	log := largeOutcome(rng)
	l := &cutLog{t: t, rng: rng, log: log, prefixes: prefixesOf(t, newTestEngine(t), log, 2)}
	for _, c := range l.run() {
		l.check(c, 0)
	}
	t.Log(l.unfinished, "starts had something to finish")
}

// cutLog is a log, what each of its prefixes makes, and what was found after cuts.
type cutLog struct {
	t          *testing.T
	rng        *rand.Rand
	log        []*trunkEntry
	prefixes   [][]uint64
	unfinished int
}

// source is one for the cuts of a disk, whose goroutines are not the test's.
func (l *cutLog) source() *rand.Rand { return rand.New(rand.NewPCG(l.rng.Uint64(), 6)) }

// run applies the log and returns cuts in its large outcome.
func (l *cutLog) run() []powerCut {
	w := &writeCuts{fs: vfs.NewCrashableMem(), rng: l.source(), most: 10}
	e := w.open(l.t)
	b, err := openLogless(e, 2)
	require.NoError(l.t, err)
	for at := 0; at < len(l.log); {
		batch, every := l.log[at:min(at+1+l.rng.IntN(5), len(l.log))], 0
		for i, x := range batch {
			if x.commands[0].Kind != KindResolve {
				continue
			}
			if batch, every = batch[:i], 0; i == 0 { // it begins a portion
				batch, every = l.log[at:min(at+1+l.rng.IntN(3), len(l.log))], 50
			}
			break
		}
		w.set(every, at)
		wait, err := b.ApplyDurably(b.entries(batch))
		require.NoError(l.t, err)
		require.NoError(l.t, wait())
		at += len(batch)
	}
	w.set(0, 0)
	require.NoError(l.t, e.Close())
	return w.cuts
}

// check opens what a cut has left, with cuts in that start as well.
func (l *cutLog) check(c powerCut, depth int) {
	w := &writeCuts{fs: c.fs, rng: l.source(), most: 1}
	e := w.open(l.t)
	snap := e.Space(1).Snapshot()
	unfinished, err := hasMeta(snap, metaUnfinished)
	snap.Close()
	require.NoError(l.t, err)
	if unfinished {
		l.unfinished++
		if depth < 2 {
			w.set(4, c.durable)
		}
	}
	b, err := openLogless(e, 2)
	require.NoError(l.t, err, c.op)
	w.set(0, 0)
	at := int(b.index)
	require.GreaterOrEqual(l.t, at, c.durable, c.op)
	require.Equal(l.t, l.prefixes[at], b.sums(l.t), "entry %d, cut at %s", at, c.op)
	for _, x := range l.log[at:] {
		require.NoError(l.t, b.Apply([]paxos.Entry{{Index: b.index + 1, Command: x.encode()}}))
		b.index++
	}
	require.Equal(l.t, l.prefixes[len(l.log)], b.sums(l.t))
	require.NoError(l.t, e.Close())
	for _, again := range w.cuts {
		l.check(again, depth+1)
	}
}
