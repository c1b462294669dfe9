package rowlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Room shrinks at once and grows with a margin. Free space of a reserve of 100.
func TestRoom(t *testing.T) {
	for _, c := range []struct {
		free []uint64
		want []room
	}{
		{[]uint64{1000, 200, 100, 99, 50, 49, 0}, []room{enough, enough, enough, scarce, scarce, none, none}},
		{[]uint64{99, 100, 199, 200, 100}, []room{scarce, scarce, scarce, enough, enough}},
		{[]uint64{49, 50, 99, 100, 199, 200}, []room{none, none, none, scarce, scarce, enough}},
		{[]uint64{0, 1000}, []room{none, enough}},
	} {
		r, got := enough, []room{}
		for _, free := range c.free {
			r = r.next(free, 100)
			got = append(got, r)
		}
		require.Equal(t, c.want, got, "%v", c.free)
	}
}

// smallDisk is a disk of 1,000 MiB, of which as many are free as is said.
type smallDisk struct {
	vfs.FS
	free *atomic.Uint64
}

func (d smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.free.Load(), TotalBytes: 1000 << 20}, nil
}

// watched is a node with a reserve of 10 MiB.
type watched struct {
	*Node
	free atomic.Uint64
}

func openWatched(t *testing.T, o Options, free uint64) *watched {
	t.Helper()
	w := &watched{}
	w.free.Store(free << 20)
	o.Dir, o.Shards, o.CacheBytes, o.Reserve = filepath.Join(t.TempDir(), "node"), 2, 8<<20, -1
	o.adjustStorage = func(s *storage.Options) { s.FS = smallDisk{vfs.Default, &w.free} }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	w.Node, err = Open(ctx, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close(context.Background())) })
	return w
}

// has lets so many MiB be free, and the node see it.
func (w *watched) has(free uint64) {
	w.free.Store(free << 20)
	w.reserve.look()
}

func errorNumber(err error) int {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return int(e.Number)
	}
	return 0
}

// A node alone: writes are refused while there is hardly any space, and nothing of
// them is there later; everything else goes on.
func TestWritesAreRefusedWithoutSpace(t *testing.T) {
	w := openWatched(t, Options{}, 500)
	ballast, err := os.Stat(filepath.Join(w.options.Dir, ballastFile))
	require.NoError(t, err)
	require.EqualValues(t, 10<<20, ballast.Size())
	db := sql.OpenDB(w.Connector(""))
	defer db.Close()
	exec(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v INT, KEY (v))", "INSERT INTO d.t VALUES (1, 1), (2, 2), (3, 3)")
	ctx := context.Background()
	open, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	defer open.Rollback()
	_, err = open.Exec("UPDATE d.t SET v = 100 WHERE id = 3")
	require.NoError(t, err)

	w.has(9) // scarce, and nobody there to hand anything to
	exec(t, db, "INSERT INTO d.t VALUES (4, 4)")
	w.has(4)
	for _, q := range []string{"INSERT INTO d.t VALUES (5, 5)", "UPDATE d.t SET v = 9 WHERE id = 1", "DELETE FROM d.t WHERE id < 9"} {
		_, err := db.Exec(q)
		require.Equal(t, 1021, errorNumber(err), "%s: %v", q, err)
	}
	var sum int
	require.NoError(t, db.QueryRow("SELECT SUM(v) FROM d.t").Scan(&sum))
	require.Equal(t, 10, sum)
	require.NoError(t, db.QueryRow("SELECT v FROM d.t WHERE id = 2 FOR SHARE").Scan(&sum))
	require.Equal(t, 1021, errorNumber(open.Commit()))

	w.has(9)
	_, err = db.Exec("INSERT INTO d.t VALUES (5, 5)")
	require.Equal(t, 1021, errorNumber(err), "not for a little space")
	w.has(11)
	exec(t, db, "INSERT INTO d.t VALUES (5, 5)", "UPDATE d.t SET v = 3 WHERE id = 3")
	w.has(500)
	require.NoError(t, db.QueryRow("SELECT SUM(v) FROM d.t").Scan(&sum))
	require.Equal(t, 15, sum)
}

// A node that is opened on a full disk, after its ballast was removed, serves what
// it has. When there is space again it makes its ballast again.
func TestOpeningOnAFullDisk(t *testing.T) {
	w := openWatched(t, Options{}, 3)
	path := filepath.Join(w.options.Dir, ballastFile)
	_, err := os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	db := sql.OpenDB(w.Connector(""))
	defer db.Close()
	exec(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)") // the system shard goes on
	_, err = db.Exec("INSERT INTO d.t VALUES (1)")
	require.Equal(t, 1021, errorNumber(err))
	w.has(29)
	exec(t, db, "INSERT INTO d.t VALUES (1)")
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist, "the ballast would make space scarce")
	w.has(30)
	_, err = os.Stat(path)
	require.NoError(t, err)
}

// openWatchedCluster opens nodes that form one database, with much space.
func openWatchedCluster(t *testing.T, count int) []*watched {
	var nodes []*watched
	for i := range count {
		o := Options{Cluster: "127.0.0.1:0", Name: fmt.Sprint("n", i+1)}
		if i > 0 {
			o.Join = []string{nodes[0].ClusterAddress()}
		}
		nodes = append(nodes, openWatched(t, o, 500))
	}
	return nodes
}

// In a cluster a node hands over what it owns before its disk is full, and may own
// again when there is space. No statement fails for it.
func TestOwnersLeaveAFullDisk(t *testing.T) {
	nodes := openWatchedCluster(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, n := range nodes {
		require.NoError(t, n.AwaitReplicas(ctx))
	}
	db := sql.OpenDB(nodes[1].Connector(""))
	defer db.Close()
	exec(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
	owned := func() (n int) {
		require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM rowlock.shards WHERE owner = 1").Scan(&n))
		return n
	}
	rows := 0
	until := func(what string, done func() bool) {
		for !done() {
			require.NoError(t, ctx.Err(), what)
			rows++
			exec(t, db, fmt.Sprintf("INSERT INTO d.t VALUES (%d)", rows))
		}
	}
	until("node 1 owns something", func() bool { return owned() > 0 })
	nodes[0].has(9)
	until("node 1 owns nothing", func() bool { return owned() == 0 })
	nodes[0].has(1)
	for range 20 {
		rows++
		exec(t, db, fmt.Sprintf("INSERT INTO d.t VALUES (%d)", rows))
	}
	nodes[0].has(500)
	require.Eventually(t, func() bool {
		var state string
		require.NoError(t, db.QueryRow("SELECT state FROM rowlock.nodes WHERE node = 1").Scan(&state))
		return !strings.Contains(state, "draining")
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, nodes[0].Drain(ctx, 2)) // who owns everything now
	until("node 1 owns something again", func() bool { return owned() > 0 })
	var n int
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM d.t").Scan(&n))
	require.Equal(t, rows, n)
}

// An operator who lets a full node leave is not contradicted when its replicas have
// gone and there is space again.
func TestLeaveIsNotTakenBack(t *testing.T) {
	nodes := openWatchedCluster(t, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	state := func() shard.MemberState {
		m, _ := nodes[1].shards.State().Member(nodes[1].ID())
		return m.State
	}
	nodes[1].has(9)
	require.Eventually(t, func() bool { return state() == shard.MemberDraining }, time.Minute, 50*time.Millisecond)
	require.NoError(t, nodes[0].Leave(ctx, nodes[1].ID()))
	require.Eventually(t, func() bool { return state() == shard.MemberLeaving }, time.Minute, 50*time.Millisecond)
	nodes[1].has(500)          // its replicas have gone
	time.Sleep(3 * lookAtDisk) // it looks and leaves things as they are
	require.Equal(t, shard.MemberLeaving, state(), "the operator's leave was taken back by the watch of the disk")
}
