package rowlock

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	lnivfs "github.com/lni/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/storage"
)

var powerCuts = flag.Int("power-cuts", 5, "power cuts of TestPowerCuts")

// TestPowerCuts loads a node whose two stores lie in memory, cuts the power at a
// random moment, keeps a random part of what was not synced, and opens the node
// on what is left. Nothing acknowledged may be missing and no transaction may be
// there in part, over many cuts of the same files.
func TestPowerCuts(t *testing.T) {
	seed := explore.Seed(t)
	m := &machine{
		t: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(seed, 0)),
		data: vfs.NewCrashableMem(), host: lnivfs.NewStrictMem(), acked: map[int64]bool{},
	}
	m.mount()
	m.powerOn()
	exec(t, m.db, "CREATE DATABASE p", "CREATE TABLE p.t (id BIGINT PRIMARY KEY, twin BIGINT NOT NULL)")
	for range *powerCuts {
		m.load()
		m.verify()
	}
	require.GreaterOrEqual(t, len(m.acked), *powerCuts, "too little was acknowledged for the test to mean anything")
	t.Logf("%d power cuts, %d transactions acknowledged, lost 0", *powerCuts, len(m.acked))
	m.spread()
	require.NoError(t, m.db.Close())
	require.NoError(t, m.node.Close(context.Background()))
}

// machine is a node and its disks.
type machine struct {
	t      *testing.T
	dir    string // holds the lock and the identity only
	random *rand.Rand
	data   *vfs.MemFS    // both Pebble stores, so that one moment cuts both
	host   *lnivfs.MemFS // the consensus library's own files
	gate   sync.RWMutex  // held for writing at the moment of the cut
	node   *Node
	db     *sql.DB
	next   int64
	acked  map[int64]bool // transactions by their first id
}

// gatedFS keeps the two file systems of a machine in step: the library renames a
// finished snapshot into place and then notes it in the log, and a cut must not
// fall inside the rename.
type gatedFS struct {
	lnivfs.FS
	gate *sync.RWMutex
}

func (g gatedFS) Rename(from, to string) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.FS.Rename(from, to)
}

// mount makes the folders of both stores, durably: on a real disk Open has done
// that before the stores open.
func (m *machine) mount() {
	for _, dir := range []string{filepath.Join(m.dir, "data"), filepath.Join(m.dir, "log")} {
		require.NoError(m.t, m.data.MkdirAll(dir, 0o755))
		require.NoError(m.t, m.host.MkdirAll(dir, 0o755))
		for ; ; dir = filepath.Dir(dir) {
			f, err := m.data.OpenDir(dir)
			require.NoError(m.t, err)
			require.NoError(m.t, errors.Join(f.Sync(), f.Close()))
			g, err := m.host.OpenDir(dir)
			require.NoError(m.t, err)
			require.NoError(m.t, errors.Join(g.Sync(), g.Close()))
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
}

func (m *machine) powerOn() {
	m.t.Helper()
	node, err := Open(m.t.Context(), Options{
		Dir: m.dir, Shards: 3,
		adjustStorage: func(o *storage.Options) { o.FS = m.data },
		adjustLog: func(o *dragon.Options) {
			o.FS, o.LogFS = gatedFS{m.host, &m.gate}, m.data
			// Snapshots and log cuts happen within a test's short life.
			o.SnapshotEntries, o.Overhead = 100, 20
		},
	})
	require.NoError(m.t, err)
	m.node, m.db = node, sql.OpenDB(node.Connector(""))
}

// writers is the number of connections that write at a time.
const writers = 4

// acks collects what the writers of one life of the machine were told.
type acks struct {
	reached chan struct{} // closed when there are as many as the cut waits for

	mu struct {
		sync.Mutex
		target int
		ids    []int64
	}
}

func (a *acks) add(id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.ids = append(a.mu.ids, id)
	if len(a.mu.ids) == a.mu.target {
		close(a.reached)
	}
}

func (a *acks) soFar() []int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.mu.ids)
}

// load runs writers, cuts the power in the midst of it, and powers on again.
func (m *machine) load() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a := &acks{reached: make(chan struct{})}
	a.mu.target = 1 + m.random.IntN(60)
	var running sync.WaitGroup
	for i := range int64(writers) {
		first := m.next + i*1_000_000
		running.Go(func() { write(ctx, m.db, first, a) })
	}
	m.next += writers * 1_000_000
	select {
	case <-a.reached:
	case <-time.After(time.Minute):
		m.t.Fatalf("only %d transactions in a minute", len(a.soFar()))
	}
	acked, after := m.cut(a)
	cancel()
	running.Wait()
	m.db.Close()
	m.node.Close(context.Background()) // on the old files, which nobody reads any more
	m.host.ResetToSyncedState()
	m.host.SetIgnoreSyncs(false)
	m.data = after
	for _, id := range acked {
		m.acked[id] = true
	}
	m.powerOn()
}

// cut returns what was acknowledged before the power went, and the disk after.
func (m *machine) cut(a *acks) ([]int64, *vfs.MemFS) {
	acked := a.soFar()
	m.gate.Lock()
	defer m.gate.Unlock()
	after := m.data.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: m.random.IntN(101), RNG: m.random})
	m.host.SetIgnoreSyncs(true)
	return acked, after
}

// write commits pairs of rows that name each other, until ctx or the node ends. Two rows
// of different sign are never in one block of rows, and the next pair is elsewhere: two of
// three pairs are on two shards.
func write(ctx context.Context, db *sql.DB, id int64, a *acks) {
	for ; ctx.Err() == nil; id += 128 {
		twin := -id - 1
		err := RunTx(ctx, db, nil, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "INSERT INTO p.t VALUES (?, ?)", id, twin); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO p.t VALUES (?, ?)", twin, id)
			return err
		})
		if err != nil {
			return
		}
		a.add(id)
	}
}

// verify reads everything and compares.
func (m *machine) verify() {
	m.t.Helper()
	rows, err := m.db.Query("SELECT id, twin FROM p.t")
	require.NoError(m.t, err)
	defer rows.Close()
	twins := map[int64]int64{}
	for rows.Next() {
		var id, twin int64
		require.NoError(m.t, rows.Scan(&id, &twin))
		twins[id] = twin
	}
	require.NoError(m.t, rows.Err())
	for id := range m.acked {
		if _, ok := twins[id]; !ok { // not Contains, which copies all keys
			require.Fail(m.t, "acknowledged before the cut and gone", "row %d", id)
		}
	}
	for id, twin := range twins {
		if twins[twin] != id {
			require.Fail(m.t, "half of a transaction", "row %d without row %d", id, twin)
		}
	}
}

// spread fails if no pair is on two shards: then nothing was a transaction of several.
func (m *machine) spread() {
	m.t.Helper()
	for id := range m.acked {
		shards := 0
		require.NoError(m.t, RunTx(m.t.Context(), m.db, nil, func(tx *sql.Tx) error {
			for _, row := range []int64{id, -id - 1} {
				if err := tx.QueryRow("SELECT id FROM p.t WHERE id = ? FOR UPDATE", row).Scan(&row); err != nil {
					return err
				}
			}
			return tx.QueryRow("SELECT COUNT(DISTINCT shard) FROM rowlock.locks WHERE granted AND shard > 0").Scan(&shards)
		}))
		if shards > 1 {
			return
		}
	}
	require.Fail(m.t, "every transaction was on one shard")
}
