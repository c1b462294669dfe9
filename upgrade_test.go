package rowlock_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock"
)

// What a client that inserts a row with an id of its own may get while a node is
// replaced, beside what RunTx repeats: nothing was done, or nobody knows.
const (
	lockWait    = 1205
	unavailable = 1030
	unknown     = 1180
	duplicate   = 1062
)

// inserts is a load of clients that each insert one row after the other, by way of
// whichever node takes clients, and stop at the first error that is not to be repeated.
type inserts struct {
	c    *cluster
	open []sync.RWMutex // of each node: written by who replaces it
	stop context.Context
	work sync.WaitGroup

	mu     sync.Mutex
	acked  []int64
	failed error
}

// run is one client.
func (l *inserts) run(client int) {
	for i := 0; l.stop.Err() == nil; i++ {
		id := int64(client)*1_000_000 + int64(i)
		err := l.insert(id)
		l.mu.Lock()
		if err == nil {
			l.acked = append(l.acked, id)
		} else if l.stop.Err() == nil && l.failed == nil {
			l.failed = fmt.Errorf("insert %d: %w", id, err)
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
		time.Sleep(time.Millisecond) // the nodes and their replacement share this machine
	}
}

// insert tries until the row is there.
func (l *inserts) insert(id int64) error {
	for at := int(id); ; at++ {
		node := at % len(l.open)
		if !l.open[node].TryRLock() {
			continue // it takes no clients
		}
		_, err := l.c.nodes[node].db.ExecContext(l.stop, "INSERT INTO d.t VALUES (?)", id)
		l.open[node].RUnlock()
		var e *mysql.MySQLError
		switch {
		case err == nil:
			return nil
		case l.stop.Err() != nil:
			return err
		case rowlock.Retryable(err):
		case !errors.As(err, &e):
			return err
		case e.Number == duplicate:
			return nil // an attempt of which nobody knew
		case e.Number != lockWait && e.Number != unavailable && e.Number != unknown:
			return err
		}
	}
}

// acknowledged is how many rows there must be.
func (l *inserts) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// replace stops a drained node and starts it with another release.
func (l *inserts) replace(node int, oldest, newest uint64) {
	t, other := l.c.t, (node+1)%len(l.open)
	l.c.exec(other, fmt.Sprintf("CALL rowlock.drain_node(%d)", node+1))
	require.Eventually(t, func() bool {
		return l.c.one(other, fmt.Sprintf("SELECT COUNT(*) FROM rowlock.shards WHERE owner = %d", node+1)) == 0
	}, 2*time.Minute, 50*time.Millisecond)
	l.open[node].Lock() // its clients go to the others
	defer l.open[node].Unlock()
	n := l.c.nodes[node]
	n.stop()
	n.options.Speak(oldest, newest)
	require.NoError(t, n.start())
}

// A rolling upgrade under load: three nodes are replaced, one by one, with a release that
// speaks a newer version; no statement fails for good. The operator has preserved the
// version; after finalize_version no node goes back.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	c := newClusterOf(t, 3, func(o *rowlock.Options) { o.Speak(1, 1) })
	c.replicated()
	c.exec(0, "CREATE DATABASE d")
	c.exec(0, "CREATE TABLE d.t (id BIGINT PRIMARY KEY)")
	c.exec(1, "CALL rowlock.preserve_version()")
	ctx, stop := context.WithCancel(context.Background())
	l := &inserts{c: c, open: make([]sync.RWMutex, 3), stop: ctx}
	for i := range 3 {
		l.work.Go(func() { l.run(i) })
	}
	defer l.work.Wait()
	defer stop()
	for node := range 3 {
		before := l.acknowledged()
		l.replace(node, 1, 2)
		c.replicated()
		require.Eventually(t, func() bool { return l.acknowledged() > before }, time.Minute, 10*time.Millisecond)
	}
	c.shows(0, 3, "SELECT COUNT(*) FROM rowlock.nodes WHERE oldest_version = 1 AND newest_version = 2")
	for _, n := range c.nodes {
		require.False(t, n.node.Active(2))
	}
	c.shows(0, 3, "SELECT COUNT(*) FROM rowlock.metrics WHERE name = 'cluster_version' AND value = 1")
	c.shows(1, 3, "SELECT COUNT(*) FROM rowlock.metrics WHERE name = 'cluster_version_preserved' AND value = 1")

	c.exec(2, "CALL rowlock.finalize_version()")
	for _, n := range c.nodes {
		require.Eventually(t, func() bool { return n.node.Active(2) }, time.Minute, 10*time.Millisecond)
	}
	c.shows(0, 3, "SELECT COUNT(*) FROM rowlock.metrics WHERE name = 'cluster_version' AND value = 2")
	before := l.acknowledged()
	require.Eventually(t, func() bool { return l.acknowledged() > before }, time.Minute, 10*time.Millisecond)
	stop()
	l.work.Wait()
	require.NoError(t, l.failed)
	require.GreaterOrEqual(t, c.one(1, "SELECT COUNT(*) FROM d.t"), l.acknowledged())

	n := c.nodes[2]
	n.stop()
	n.options.Speak(1, 1)
	err := n.start()
	require.ErrorIs(t, err, rowlock.ErrFormat)
	require.ErrorContains(t, err, "it speaks version 1 between nodes, and the cluster is at version 2 already")
	n.options.Speak(1, 2)
	require.NoError(t, n.start())
	joining := c.add()
	joining.options.Speak(1, 1)
	err = joining.start()
	require.ErrorIs(t, err, rowlock.ErrRefused)
	require.ErrorContains(t, err, "it speaks version 1 between nodes, and the cluster is at version 2 already")
	joining.stop()
	joining.options.Dir = filepath.Join(t.TempDir(), "node")
	joining.options.Speak(3, 4) // not even a hello
	err = joining.start()
	require.ErrorIs(t, err, rowlock.ErrRefused)
	require.ErrorContains(t, err, "the other side speaks 1 to 2, this one 3 to 4")
}

// A node that is alone finds in its own directory that its release is too old, and
// changes nothing there.
func TestOlderReleaseOnNewerData(t *testing.T) {
	t.Parallel()
	c := &cluster{t: t}
	n := c.add()
	n.options.Cluster = ""
	n.options.Speak(1, 1)
	require.NoError(t, n.start())
	require.False(t, n.node.Active(2))
	n.stop()
	n.options.Speak(1, 2)
	require.NoError(t, n.start())
	require.Eventually(t, func() bool { return n.node.Active(2) }, time.Minute, 10*time.Millisecond)
	n.stop()

	files := func() map[string]time.Time {
		all := map[string]time.Time{}
		require.NoError(t, filepath.Walk(n.options.Dir, func(path string, f os.FileInfo, err error) error {
			all[path] = f.ModTime()
			return err
		}))
		return all
	}
	before := files()
	n.options.Speak(1, 1)
	err := n.start()
	require.ErrorIs(t, err, rowlock.ErrFormat)
	require.ErrorContains(t, err, "it speaks version 1 between nodes, and the cluster is at version 2 already: start a newer release")
	require.Equal(t, before, files())
	require.NoError(t, os.Remove(filepath.Join(n.options.Dir, "CLUSTER"))) // what it has stored says so too
	err = n.start()
	require.ErrorIs(t, err, rowlock.ErrRefused)
	require.ErrorContains(t, err, "it speaks version 1")
	n.options.Speak(2, 3)
	require.NoError(t, n.start())
	n.stop()
}
