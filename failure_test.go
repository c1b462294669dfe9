package rowlock

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	lnivfs "github.com/lni/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// TestDiskFailure lets one operation of a store fail, once, under load. The node
// must say so, hang up, and acknowledge nothing more, although the disk is well
// again; a new node on what was synced by then has all that was acknowledged.
func TestDiskFailure(t *testing.T) {
	isSync := func(o errorfs.Op) bool {
		return o.Kind == errorfs.OpFileSync || o.Kind == errorfs.OpFileSyncData
	}
	isWrite := func(o errorfs.Op) bool { return o.Kind == errorfs.OpFileWrite }
	for _, c := range []struct {
		what, folder string
		hit          func(errorfs.Op) bool
		fault        error
		as           error
	}{
		{"fsync of the log", "log", isSync, syscall.EIO, ErrDisk},
		{"write of the log", "log", isWrite, syscall.EIO, ErrDisk},
		{"log on a full disk", "log", isWrite, syscall.ENOSPC, ErrDiskFull},
		{"write of the data", "data", isWrite, syscall.EIO, ErrDisk},
		{"fsync of the data", "data", isSync, syscall.EIO, ErrDisk},
		{"data on a full disk", "data", isWrite, syscall.ENOSPC, ErrDiskFull},
	} {
		t.Run(c.what, func(t *testing.T) {
			var armed atomic.Bool
			d := &disks{t: t, dir: t.TempDir(), data: vfs.NewCrashableMem(), host: lnivfs.NewStrictMem()}
			d.inject = func(o errorfs.Op) error {
				if strings.Contains(o.Path, string(filepath.Separator)+c.folder) && c.hit(o) && armed.CompareAndSwap(true, false) {
					return &os.PathError{Op: "injected", Path: o.Path, Err: c.fault}
				}
				return nil
			}
			d.mount()
			node := d.open()
			db := sql.OpenDB(node.Connector("")) // closed when nobody uses it: Close would hang on a node that does not hang up
			exec(t, db, "CREATE DATABASE p", "CREATE TABLE p.t (id BIGINT PRIMARY KEY, twin BIGINT NOT NULL)")
			require.NoError(t, node.Err())

			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a := &acks{reached: make(chan struct{})}
			a.mu.target = 20
			var running sync.WaitGroup
			for i := range int64(writers) {
				running.Go(func() { write(ctx, db, i*1_000_000, a) })
			}
			<-a.reached
			armed.Store(true)
			select {
			case <-node.Failed():
			case <-ctx.Done():
				t.Fatal("the fault was not noticed")
			}
			require.ErrorIs(t, node.Err(), c.as)
			require.ErrorIs(t, node.Err(), c.fault)
			over := make(chan struct{}) // every writer has lost its connection
			go func() {
				running.Wait()
				close(over)
			}()
			select {
			case <-over:
			case <-ctx.Done():
				t.Fatal("clients hang on a node that has failed")
			}
			require.NoError(t, ctx.Err())
			require.NoError(t, db.Close())
			require.ErrorIs(t, node.Close(context.Background()), c.as)
			d.after(node)

			next := d.open()
			checked := sql.OpenDB(next.Connector(""))
			defer checked.Close()
			acked := map[int64]bool{}
			for _, id := range a.soFar() {
				acked[id] = true
			}
			m := &machine{t: t, db: checked, acked: acked}
			m.verify()
			m.spread()
			require.NoError(t, next.Close(context.Background()))
		})
	}
}

// disks are those of a node that fails.
type disks struct {
	t      *testing.T
	dir    string
	data   *vfs.MemFS
	host   *lnivfs.MemFS
	inject func(errorfs.Op) error
}

func (d *disks) mount() { (&machine{t: d.t, dir: d.dir, data: d.data, host: d.host}).mount() }

func (d *disks) open() *Node {
	d.t.Helper()
	fs := errorfs.Wrap(d.data, errorfs.InjectorFunc(d.inject))
	node, err := Open(d.t.Context(), Options{
		Dir: d.dir, Shards: 3,
		adjustStorage: func(o *storage.Options) { o.FS = fs },
		adjustLog:     func(o *dragon.Options) { o.FS, o.LogFS = d.host, fs },
	})
	require.NoError(d.t, err)
	return node
}

// after is the moment after the end of the failed node's process, and of its
// machine's power too: what was not synced is gone.
func (d *disks) after(failed *Node) {
	d.data = d.data.CrashClone(vfs.CrashCloneCfg{})
	d.host.SetIgnoreSyncs(true)
	d.host.ResetToSyncedState()
	d.host.SetIgnoreSyncs(false)
	require.Equal(d.t, "lock", failed.closers[0].what)
	require.NoError(d.t, failed.closers[0].do(context.Background()))
}

// The view of checksums has each replica of the node, and follows what is stored.
func TestChecksumView(t *testing.T) {
	db := testNode(t)
	sums := func() (n int, sum string) {
		require.NoError(t, db.QueryRow("SELECT COUNT(*), GROUP_CONCAT(checksum ORDER BY shard) FROM rowlock.checksums WHERE applied > 0").Scan(&n, &sum))
		return n, sum
	}
	exec(t, db, "CREATE DATABASE c", "CREATE TABLE c.t (id INT PRIMARY KEY)")
	n, before := sums()
	require.Greater(t, n, 1)
	exec(t, db, "INSERT INTO c.t VALUES (1)")
	_, after := sums()
	require.NotEqual(t, before, after)
}

// What ended a node is told by the error that Err returns.
func TestKindsOfFailure(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{fmt.Errorf("apply to group 2: %w", shard.ErrNewer), ErrFormat},
		{fmt.Errorf("write: %w", syscall.ENOSPC), ErrDiskFull},
		{fmt.Errorf("read: %w", ErrCorrupt), ErrCorrupt},
		{syscall.EIO, ErrDisk},
	} {
		require.Equal(t, c.want, kindOfFailure(c.err))
	}
}
