package rowlock_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock"
	"github.com/rowlockdb/rowlock/shard/transport/transporttest"
)

// cluster is nodes of one process that talk over TCP.
type cluster struct {
	t     *testing.T
	nodes []*clusterNode
}

type clusterNode struct {
	options rowlock.Options
	node    *rowlock.Node
	db      *sql.DB
}

func newCluster(t *testing.T, nodes int) *cluster {
	return newClusterOf(t, nodes, func(*rowlock.Options) {})
}

// newClusterOf opens a cluster whose nodes have further options.
func newClusterOf(t *testing.T, nodes int, further func(*rowlock.Options)) *cluster {
	t.TempDir() // what is cleaned up first is what was asked for last: the nodes, then their directories
	c := &cluster{t: t}
	t.Cleanup(func() {
		var all sync.WaitGroup // one after the other, the last would wait for the rest
		for _, n := range c.nodes {
			all.Go(n.stop)
		}
		all.Wait()
	})
	for range nodes {
		n := c.add()
		further(&n.options)
		require.NoError(t, n.start())
	}
	return c
}

// add prepares a node that joins by way of the first one.
func (c *cluster) add() *clusterNode {
	n := &clusterNode{options: rowlock.Options{Dir: filepath.Join(c.t.TempDir(), "node"), Shards: 4, CacheBytes: 8 << 20,
		Cluster: freeAddress(c.t), Name: fmt.Sprintf("n%d", len(c.nodes)+1)}}
	if len(c.nodes) > 0 {
		n.options.Join = []string{c.nodes[0].options.Cluster}
	}
	c.nodes = append(c.nodes, n)
	return n
}

func freeAddress(t *testing.T) string {
	address, err := transporttest.FreeAddress()
	require.NoError(t, err)
	return address
}

func (n *clusterNode) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if n.node, err = rowlock.Open(ctx, n.options); err != nil {
		return err
	}
	n.db = sql.OpenDB(n.node.Connector(""))
	return nil
}

func (n *clusterNode) stop() {
	if n.node == nil {
		return
	}
	n.db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n.node.Close(ctx)
	n.node = nil
}

func (c *cluster) replicated() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, n := range c.nodes {
		require.NoError(c.t, n.node.AwaitReplicas(ctx))
	}
}

func (c *cluster) exec(at int, statement string) {
	c.t.Helper()
	c.patiently(statement, func() error {
		_, err := c.nodes[at].db.Exec(statement)
		return err
	})
}

func (c *cluster) one(at int, query string) (v int) {
	c.t.Helper()
	c.patiently(query, func() error { return c.nodes[at].db.QueryRow(query).Scan(&v) })
	return v
}

// shows waits until a node tells something of its cluster: who is up, and what the others
// say of themselves, it hears from them, and a busy one may be late.
func (c *cluster) shows(at, want int, query string) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return c.one(at, query) == want }, time.Minute, 50*time.Millisecond, query)
}

// patiently tries again what did not find the owner of a shard for ten seconds (1030), or
// lost its locks with him: nothing was committed then. Owners change while a test runs, and
// the machine may be busy.
func (c *cluster) patiently(statement string, do func() error) {
	c.t.Helper()
	err := do()
	for began := time.Now(); (number(err) == 1030 || rowlock.Retryable(err)) && time.Since(began) < time.Minute; {
		err = do()
	}
	require.NoError(c.t, err, statement)
}

func number(err error) uint16 {
	var refused *mysql.MySQLError
	if errors.As(err, &refused) {
		return refused.Number
	}
	return 0
}

// Three nodes over real sockets and disks: any of them takes any client, one of
// them stops and nobody loses anything, all of them stop and come back.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.replicated()
	c.exec(0, "CREATE DATABASE d")
	c.exec(1, "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT, KEY (v))")
	for i := range 30 {
		c.exec(i%3, "INSERT INTO d.t (v) VALUES (1)")
	}
	for at := range 3 {
		require.Equal(t, 30, c.one(at, "SELECT SUM(v) FROM d.t"))
		c.shows(at, 3, "SELECT COUNT(*) FROM rowlock.nodes WHERE state = 'up'")
		c.shows(at, 15, "SELECT COUNT(*) FROM rowlock.replicas")
	}
	c.nodes[1].stop()
	c.exec(0, "UPDATE d.t SET v = v + 1")
	require.Equal(t, 60, c.one(2, "SELECT SUM(v) FROM d.t"))
	require.NoError(t, c.nodes[1].start())
	require.Equal(t, 60, c.one(1, "SELECT SUM(v) FROM d.t"))
	c.replicated()
	c.sameEverywhere()

	for _, n := range c.nodes {
		n.stop()
	}
	var all sync.WaitGroup
	for _, n := range c.nodes {
		all.Go(func() { require.NoError(t, n.start()) })
	}
	all.Wait()
	for at := range 3 {
		require.Equal(t, 60, c.one(at, "SELECT SUM(v) FROM d.t"))
	}
	c.exec(1, "CALL rowlock.drain_node(1)")
	require.Eventually(t, func() bool {
		return c.one(1, "SELECT COUNT(*) FROM rowlock.shards WHERE owner = 1") == 0
	}, time.Minute, 50*time.Millisecond)
	require.Equal(t, 60, c.one(0, "SELECT SUM(v) FROM d.t"))
	_, err := c.nodes[0].db.Exec("CALL rowlock.remove_node(1)")
	require.ErrorContains(t, err, "still has a replica")
}

// sameEverywhere compares the replicas of every shard that have applied the same.
func (c *cluster) sameEverywhere() {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		return c.one(0, "SELECT COUNT(*) FROM (SELECT shard FROM rowlock.checksums GROUP BY shard HAVING COUNT(*) = 3 AND COUNT(DISTINCT applied) = 1) x") == 5
	}, time.Minute, 100*time.Millisecond, "the replicas stand at one index")
	require.Zero(c.t, c.one(0, "SELECT COUNT(*) FROM (SELECT shard, applied FROM rowlock.checksums GROUP BY shard, applied HAVING COUNT(DISTINCT checksum) > 1) x"))
}

// A member that has lost what it knows of its peers, or may not talk to them, does not
// become a cluster of its own.
func TestMemberAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n := c.nodes[1]
	n.stop()
	address := n.options.Cluster
	n.options.Cluster, n.options.Join = "", nil
	require.ErrorContains(t, n.start(), "--cluster")
	n.stop()
	n.options.Cluster = address
	require.NoError(t, os.Remove(filepath.Join(n.options.Dir, "CLUSTER")))
	err := n.start()
	require.ErrorIs(t, err, rowlock.ErrCorrupt)
	require.ErrorContains(t, err, "CLUSTER is missing")
	n.stop()

	n.options.Dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(n.options.Dir, "JOINING"), nil, 0o600))
	require.ErrorContains(t, n.start(), "--join")
	n.stop()
}

// The number of replicas is a variable, too, the same on every node.
func TestReplicationFactorVariable(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	shown := func(at, want int) {
		t.Helper()
		require.Eventually(t, func() bool { return c.one(at, "SELECT @@rowlock_replication_factor") == want }, time.Minute, 20*time.Millisecond)
	}
	shown(0, 0)
	c.exec(1, "SET GLOBAL rowlock_replication_factor = 2")
	shown(1, 2)
	shown(0, 2)
	require.Eventually(t, func() bool {
		return c.one(0, "SELECT COUNT(*) FROM (SELECT shard FROM rowlock.replicas WHERE role <> 'learner' GROUP BY shard HAVING COUNT(*) = 2) x") > 0
	}, time.Minute, 50*time.Millisecond, "it does what the procedure does")
	_, err := c.nodes[0].db.Exec("SET GLOBAL rowlock_replication_factor = 9")
	require.Error(t, err)
	c.exec(0, "CALL rowlock.set_replication_factor(0)")
	shown(0, 0)
	shown(1, 0)
}

// A founder makes lost notes anew while it has no peers; with peers it says that they
// are missing.
func TestLostNotesOfTheFounder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	c.exec(0, "CREATE DATABASE kept")
	lose := func() {
		n.stop()
		require.NoError(t, os.Remove(filepath.Join(n.options.Dir, "CLUSTER")))
	}
	lose()
	require.NoError(t, n.start())
	require.Equal(t, 1, c.one(0, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'kept'"))
	require.NoError(t, c.add().start())
	lose()
	err := n.start()
	require.ErrorIs(t, err, rowlock.ErrCorrupt)
	require.ErrorContains(t, err, "notes of the cluster are missing")
}

// Who removes a node by way of that node hears that it was done.
func TestRemovedByWayOfItself(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.exec(0, "CALL rowlock.leave_node(2)")
	conn, err := c.nodes[1].db.Conn(context.Background())
	require.NoError(t, err)
	defer conn.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = conn.ExecContext(context.Background(), "CALL rowlock.remove_node(2)"); err == nil {
			break
		}
		require.NotZero(t, number(err), "%v", err) // refused while it has replicas
		require.True(t, time.Now().Before(deadline), "%v", err)
	}
	select {
	case <-c.nodes[1].node.Failed():
	case <-time.After(time.Minute):
		t.Fatal("the node goes on")
	}
}

// A node that was removed stops serving and cannot come back.
func TestRemovedNodeStops(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n := c.nodes[1]
	c.exec(0, "CALL rowlock.leave_node(2)")
	require.Eventually(t, func() bool {
		_, err := c.nodes[0].db.Exec("CALL rowlock.remove_node(2)")
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	select {
	case <-n.node.Failed():
	case <-time.After(time.Minute):
		t.Fatal("the node goes on")
	}
	require.ErrorIs(t, n.node.Err(), rowlock.ErrRemoved)
	require.Eventually(t, func() bool { return n.db.Ping() != nil }, time.Minute, 10*time.Millisecond)
	n.stop()
	require.ErrorIs(t, n.start(), rowlock.ErrRemoved, "its notes know it")
	c.exec(0, "CREATE DATABASE d")
}

// What may not come in is told why.
func TestClusterRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	joining := func(change func(*rowlock.Options)) error {
		n := c.add()
		defer func() { c.nodes = c.nodes[:len(c.nodes)-1] }()
		change(&n.options)
		err := n.start()
		n.stop()
		return err
	}
	require.ErrorContains(t, joining(func(o *rowlock.Options) { o.Name = "N1" }), "has the name")
	require.ErrorIs(t, joining(func(o *rowlock.Options) { o.Name = "N1" }), rowlock.ErrRefused)
	require.ErrorContains(t, joining(func(o *rowlock.Options) { o.Cluster = "0.0.0.0:0" }), "loopback")
	require.Error(t, joining(func(o *rowlock.Options) { o.Cluster = "" }))

	n := c.add()
	require.NoError(t, n.start())
	n.stop()
	copied := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(copied, os.DirFS(n.options.Dir)))
	require.NoError(t, n.start())
	original := n.options.Dir
	n.options.Dir = copied
	running := n.node
	n.options.Cluster = freeAddress(t)
	err := n.start()
	require.ErrorIs(t, err, rowlock.ErrRefused, "a copy beside the original")
	n.node = running
	n.stop()
	require.Eventually(t, func() bool { // the original was heard of a moment ago
		err := n.start()
		require.ErrorIs(t, err, rowlock.ErrRefused, "an older copy")
		return strings.Contains(err.Error(), "older copy")
	}, time.Minute, 500*time.Millisecond)
	n.options.Dir, n.options.Cluster = original, freeAddress(t) // a node may get another address
	require.Eventually(t, func() bool {
		err := n.start()
		if err != nil { // at its former one it was heard of a moment ago
			require.ErrorContains(t, err, "runs already")
		}
		return err == nil
	}, time.Minute, 500*time.Millisecond)
}

// A statement whose time is over ends with 3024 wherever the owner of the row is that it
// waits for.
func TestTimeLimitElsewhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.replicated()
	c.exec(0, "CREATE DATABASE d")
	c.exec(0, "CREATE TABLE d.t (id BIGINT PRIMARY KEY, v INT)")
	c.exec(0, "INSERT INTO d.t VALUES (1000, 0), (2000, 0), (3000, 0), (4000, 0), (5000, 0), (6000, 0), (7000, 0), (8000, 0)")
	holder, err := c.nodes[0].db.Begin()
	require.NoError(t, err)
	defer holder.Rollback()
	_, err = holder.Exec("UPDATE d.t SET v = 1")
	require.NoError(t, err)
	for at := range 3 {
		conn, err := c.nodes[at].db.Conn(context.Background())
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.ExecContext(context.Background(), "SET max_execution_time = 30")
		require.NoError(t, err)
		for i := range 40 {
			var v int
			err := conn.QueryRowContext(context.Background(), fmt.Sprintf("SELECT v FROM d.t WHERE id = %d FOR UPDATE", 1000*(1+i%8))).Scan(&v)
			require.EqualValues(t, 3024, number(err), "node %d: %v", at+1, err)
		}
	}
}
