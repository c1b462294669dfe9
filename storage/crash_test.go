package storage_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// powerCuts clones a file system in front of chosen write operations, as a power
// cut at that moment would leave it: what was synced is there, of the rest each
// block with some probability.
type powerCuts struct {
	fs   *vfs.MemFS
	link sync.Mutex // see linkFS

	mu struct {
		sync.Mutex
		rng    *rand.Rand
		every  int // cut in front of every so many operations on average
		synced map[uint64]int
		cuts   []powerCut
	}
}

// powerCut is one clone, and how far each space's history was synced before it.
type powerCut struct {
	fs     vfs.FS
	synced map[uint64]int
	op     string
}

func newPowerCuts(seed uint64, every int) *powerCuts {
	p := &powerCuts{fs: vfs.NewCrashableMem()}
	p.mu.rng = rand.New(rand.NewPCG(seed, 1))
	p.mu.every = every
	p.mu.synced = map[uint64]int{}
	return p
}

// FS returns the file system to run on.
func (p *powerCuts) FS() vfs.FS { return errorfs.Wrap(&linkFS{p.fs, &p.link}, p) }

// linkFS keeps Link and CrashClone of a MemFS apart: Link takes one and the same
// read lock twice, and hangs for ever if CrashClone asks for the write lock in
// between.
type linkFS struct {
	vfs.FS
	mu *sync.Mutex
}

// Link implements vfs.FS.
func (l *linkFS) Link(from, to string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.FS.Link(from, to)
}

// String is part of errorfs.Injector.
func (p *powerCuts) String() string { return "power cuts" }

// MaybeError is part of errorfs.Injector; it never injects an error.
func (p *powerCuts) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.every == 0 || p.mu.rng.IntN(p.mu.every) != 0 {
		return nil
	}
	cut := powerCut{synced: map[uint64]int{}, op: fmt.Sprint(op.Kind, " ", op.Path)}
	for id, n := range p.mu.synced {
		cut.synced[id] = n
	}
	percent := []int{0, 0, 30, 70, 100}[p.mu.rng.IntN(5)]
	p.link.Lock()
	cut.fs = p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: p.mu.rng})
	p.link.Unlock()
	p.mu.cuts = append(p.mu.cuts, cut)
	return nil
}

// setEvery changes how often cuts happen; 0 is never.
func (p *powerCuts) setEvery(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.every = n
}

// setSynced records that a space's history is durable up to a position.
func (p *powerCuts) setSynced(id uint64, position int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.synced[id] = max(p.mu.synced[id], position)
}

// history is what a space went through: its stream after every change.
// Position 0 is the empty space.
type history struct {
	space  *storage.Space
	states []string
	index  uint64
}

// find returns the position of a state, from the latest on; -1 if the space
// never was in it.
func (h *history) find(state string) int {
	for i := len(h.states) - 1; i >= 0; i-- {
		if h.states[i] == state {
			return i
		}
	}
	return -1
}

// step commits one random batch. A few are large, so that memtables fill up.
func (h *history) step(t *testing.T, rng *rand.Rand) {
	h.index++
	write(t, h.space, func(b *storage.Batch) {
		at := storage.Timestamp(h.index)
		for range 1 + rng.IntN(4) {
			k := storage.Key(fmt.Sprint("k", rng.IntN(20)))
			switch rng.IntN(5) {
			case 0:
				b.PutIntent(k, storage.Intent{Txn: storage.TxnID{Start: at}, Prepare: at, Value: []byte("i")})
			case 1:
				b.DeleteIntent(k)
			case 2:
				b.PutTombstone(k, at, at)
			default:
				value := make([]byte, []int{5, 100, 20_000}[rng.IntN(3)])
				for i := range value {
					value[i] = byte(rng.Uint32())
				}
				b.PutVersion(k, at, at, value)
			}
		}
		if rng.IntN(8) == 0 {
			_, _, err := b.CollectGarbage(nil, nil, at-min(at-1, 10), 100)
			require.NoError(t, err)
		}
		b.PutVote(storage.TxnID{Start: at}, storage.Vote{State: storage.VotePrepared, Prepare: at})
		b.SetApplied(storage.Applied{Replica: 1, Index: h.index})
	})
	h.states = append(h.states, string(stream(t, h.space)))
}

// TestPowerCut commits random histories to two spaces, with syncs, restores and
// removals in between, and cuts the power hundreds of times. After each cut both
// spaces must be in a state that they went through, no earlier than the last
// sync before the cut.
func TestPowerCut(t *testing.T) {
	cuts := 0
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			p := newPowerCuts(seed, 25)
			histories := cutHistory(t, p, rand.New(rand.NewPCG(seed, 2)))
			for _, c := range p.mu.cuts {
				checkCut(t, c, histories)
			}
			cuts += len(p.mu.cuts)
		})
	}
	t.Logf("%d power cuts", cuts)
	require.Greater(t, cuts, 400)
}

// cutHistory runs one random history and returns what the spaces went through.
func cutHistory(t *testing.T, p *powerCuts, rng *rand.Rand) map[uint64]*history {
	o := options(p.FS())
	o.MemTableBytes = 256 << 10
	e, err := storage.Open(o)
	require.NoError(t, err)
	histories := map[uint64]*history{}
	for _, id := range []uint64{1, 2} {
		h := &history{space: e.Space(id)}
		h.states = []string{string(stream(t, h.space))}
		histories[id] = h
	}
	for range 150 {
		id := 1 + rng.Uint64N(2)
		h := histories[id]
		switch rng.IntN(20) {
		case 0, 1:
			require.NoError(t, e.Sync())
			for id, h := range histories {
				p.setSynced(id, len(h.states)-1)
			}
		case 2: // back to an earlier state of the other space
			other := histories[3-id]
			saved := other.states[rng.IntN(len(other.states))]
			h.states = append(h.states, saved)
			require.NoError(t, h.space.Restore(bytes.NewReader([]byte(saved))))
			p.setSynced(id, len(h.states)-1)
			h.index = max(h.index, other.index)
		case 3:
			h.states = append(h.states, h.states[0])
			require.NoError(t, h.space.Destroy())
			p.setSynced(id, len(h.states)-1)
		default:
			h.step(t, rng)
		}
	}
	p.setEvery(0)
	require.NoError(t, e.Close())
	return histories
}

// checkCut opens the engine after a power cut.
func checkCut(t *testing.T, c powerCut, histories map[uint64]*history) {
	t.Helper()
	e, err := storage.Open(options(c.fs))
	require.NoError(t, err, "cut at %s", c.op)
	for id, h := range histories {
		position := h.find(string(stream(t, e.Space(id))))
		require.GreaterOrEqual(t, position, c.synced[id], "space %d, cut at %s", id, c.op)
		require.GreaterOrEqual(t, position, 0, "space %d, cut at %s", id, c.op)
	}
	require.NoError(t, e.Close())
}

// TestPowerCutDuringRestore cuts the power in front of every write of a restore
// over several tables. The old content or the new is there, as a whole; once
// Restore has returned, the new.
func TestPowerCutDuringRestore(t *testing.T) {
	source := open(t, vfs.NewMem()).Space(1)
	random := rand.New(rand.NewPCG(7, 7))
	for i := range 40 {
		write(t, source, func(b *storage.Batch) {
			value := make([]byte, 8<<10)
			for j := range value {
				value[j] = byte(random.Uint32())
			}
			b.PutVersion(storage.Key(fmt.Sprint("new", i)), 5, 4, value)
			b.SetApplied(storage.Applied{Replica: 9, Index: 1000})
		})
	}
	restored := stream(t, source)
	for seed := range uint64(4) {
		p := newPowerCuts(seed, 0)
		e, err := storage.Open(options(p.FS()))
		require.NoError(t, err)
		h := &history{space: e.Space(3)}
		h.states = []string{string(stream(t, h.space))}
		for range 20 {
			h.step(t, rand.New(rand.NewPCG(seed, 3)))
		}
		require.NoError(t, e.Sync())
		old := len(h.states) - 1
		p.setSynced(3, old)
		p.setEvery(1)
		require.NoError(t, h.space.Restore(bytes.NewReader(restored)))
		p.setSynced(3, old+1)
		write(t, h.space, func(b *storage.Batch) { b.SetApplied(storage.Applied{Replica: 9, Index: 1001}) })
		p.setEvery(0)
		h.states = append(h.states, string(restored), string(stream(t, h.space)))
		require.NoError(t, e.Close())
		require.Greater(t, len(p.mu.cuts), 10)
		for _, c := range p.mu.cuts {
			checkCut(t, c, map[uint64]*history{3: h})
		}
	}
}
