package shard_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// heldDisk is a disk whose write-ahead log is not synced while a test holds it.
type heldDisk struct {
	vfs.FS
	mu   sync.Mutex
	held chan struct{} // closed when it goes on; nil: it is not held
	err  error         // of every fsync from now on
}

func (d *heldDisk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *heldDisk) hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := make(chan struct{})
	d.held = held
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.held = nil
		close(held)
	})
}

func (d *heldDisk) sync(f func() error) error {
	d.mu.Lock()
	held, err := d.held, d.err
	d.mu.Unlock()
	if held != nil {
		<-held
	}
	if err != nil {
		return err
	}
	return f()
}

func (d *heldDisk) Unwrap() vfs.FS { return d.FS }

func (d *heldDisk) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return heldFile{f, d}, nil
}

func (d *heldDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.file(name, f, err)
}

func (d *heldDisk) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(old, name, c)
	return d.file(name, f, err)
}

type heldFile struct {
	vfs.File
	disk *heldDisk
}

func (f heldFile) Sync() error     { return f.disk.sync(f.File.Sync) }
func (f heldFile) SyncData() error { return f.disk.sync(f.File.SyncData) }
func (f heldFile) SyncTo(n int64) (full bool, err error) {
	err = f.disk.sync(func() error { full, err = f.File.SyncTo(n); return err })
	return full, err
}

// begin draws a transaction.
func (c *testCluster) begin() storage.TxnID {
	node := c.node(1).node
	ts, err := node.Router().Timestamp(c.ctx())
	require.NoError(c.t, err)
	return storage.TxnID{Start: ts, Gateway: node.Gateway(), Seq: uint64(ts)}
}

// deletion locks a row on each of some shards, and returns what commits its deletion.
func (c *testCluster) deletion(id storage.TxnID, shards ...shard.ID) func() error {
	r := c.node(1).node.Router()
	var votes []shard.ShardVote
	for _, s := range shards {
		lock, err := r.Lock(c.ctx(), s, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: keys("k"), Read: true})
		require.NoError(c.t, err)
		votes = append(votes, shard.ShardVote{Shard: s, Request: &shard.PrepareRequest{Participants: shards,
			OnePCRequest: shard.OnePCRequest{Txn: id, Token: lock.Token, Writes: []shard.Write{{Key: storage.Key("k"), Tombstone: true}}}}})
	}
	floor, err := r.Timestamp(c.ctx())
	require.NoError(c.t, err)
	for i := range votes {
		votes[i].Request.Floor = floor
	}
	return func() error {
		if len(shards) == 1 {
			_, err := r.OnePC(c.ctx(), shards[0], &votes[0].Request.OnePCRequest)
			return err
		}
		together := r.Together(votes)
		for i := range together.Jobs() {
			together.Do(c.ctx(), i)
		}
		return errors.Join(votes[0].Err, votes[1].Err)
	}
}

// Nobody is told anything that follows from a commit which a power cut can still take
// back, although it can be seen already: whoever asks waits for the disk. Afterwards all
// are answered, and what they hear is that the row is gone.
func TestNothingIsToldBeforeItIsDurable(t *testing.T) {
	t.Parallel()
	span := func(c *testCluster, q shard.LockRequest) func(context.Context) (bool, error) {
		q.Txn, q.Mode, q.Read, q.Span = c.begin(), shard.LockExclusive, true, &shard.Span{}
		return func(ctx context.Context) (bool, error) {
			response, err := c.node(1).node.Router().Lock(ctx, 1, &q)
			return err == nil && len(response.Rows) == 0, err
		}
	}
	for name, prepare := range map[string]func(c *testCluster, id storage.TxnID) func(context.Context) (bool, error){
		"a read": func(c *testCluster, _ storage.TxnID) func(context.Context) (bool, error) {
			return func(ctx context.Context) (bool, error) {
				value, err := c.look(ctx, 1, 1, "k")
				return value == "", err
			}
		},
		"a scan": func(c *testCluster, _ storage.TxnID) func(context.Context) (bool, error) {
			return func(ctx context.Context) (bool, error) {
				r := c.node(1).node.Router()
				at, err := r.Timestamp(ctx)
				if err != nil {
					return false, err
				}
				response, err := r.Read(ctx, 1, &shard.ReadRequest{At: at, Span: &shard.Span{}})
				return err == nil && len(response.Rows) == 0, err
			}
		},
		"the lock of the row": func(c *testCluster, _ storage.TxnID) func(context.Context) (bool, error) {
			q := shard.LockRequest{Txn: c.begin(), Mode: shard.LockExclusive, Keys: keys("k"), Read: true}
			return func(ctx context.Context) (bool, error) {
				response, err := c.node(1).node.Router().Lock(ctx, 1, &q)
				return err == nil && !response.Rows[0].Found, err
			}
		},
		"the lock of an interval": func(c *testCluster, _ storage.TxnID) func(context.Context) (bool, error) {
			return span(c, shard.LockRequest{})
		},
		"locks of the rows in it": func(c *testCluster, _ storage.TxnID) func(context.Context) (bool, error) {
			return span(c, shard.LockRequest{RowsOnly: true})
		},
		"locks of those that are free": func(c *testCluster, _ storage.TxnID) func(context.Context) (bool, error) {
			return span(c, shard.LockRequest{Wait: locks.WaitSkip})
		},
		"a look at the vote": func(c *testCluster, id storage.TxnID) func(context.Context) (bool, error) {
			return func(ctx context.Context) (bool, error) {
				response, err := c.node(1).node.Router().LookVote(ctx, 1, &shard.LookVoteRequest{Txn: id})
				return err == nil && response.State == storage.VoteCommitted, err
			}
		},
		"who closes the vote": func(c *testCluster, id storage.TxnID) func(context.Context) (bool, error) {
			return func(ctx context.Context) (bool, error) {
				response, err := c.node(1).node.Router().CloseVote(ctx, 1, &shard.CloseVoteRequest{Txn: id})
				return err == nil && response.State == storage.VoteCommitted, err
			}
		},
	} {
		for how, shards := range map[string][]shard.ID{"one shard": {1}, "two": {1, 2}} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1}
				t.Cleanup(c.close)
				n := &testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}}
				disk := &heldDisk{FS: n.fs}
				n.disk = disk
				c.start(n)
				for _, s := range shards {
					c.write(1, s, "k", "v")
				}
				id := c.begin()
				ask := prepare(c, id)
				commit := c.deletion(id, shards...)
				release := disk.hold()
				t.Cleanup(release)
				committed := make(chan error, 1)
				go func() { committed <- commit() }()
				require.Eventually(t, func() bool { return c.seen(1, id) }, time.Minute, time.Millisecond, "it can be seen")
				ctx, cancel := context.WithTimeout(c.ctx(), 100*time.Millisecond)
				gone, err := ask(ctx)
				cancel()
				require.Error(t, err, "told that the row is gone: %t", gone)
				require.Empty(t, committed)
				release()
				require.NoError(t, <-committed)
				gone, err = ask(c.ctx())
				require.NoError(t, err)
				require.True(t, gone)
			})
		}
	}
}

// seen reports whether the space of a shard shows a vote.
func (c *testCluster) seen(s shard.ID, id storage.TxnID) bool {
	snap := c.node(1).engine.Space(uint64(s)).Snapshot()
	defer snap.Close()
	v, ok, err := snap.Vote(id)
	require.NoError(c.t, err)
	return ok && v.State == storage.VoteCommitted
}

// The disk fails under a commit, whose outcome is unknown then. Who reads the row is told
// so, at once: there is nothing to wait for.
func TestReadersOfAFailedDisk(t *testing.T) {
	t.Parallel()
	c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1}
	failed := make(chan struct{})
	n := &testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}, failed: func(error) { close(failed) }}
	disk := &heldDisk{FS: n.fs}
	n.disk = disk
	c.start(n)
	c.write(1, 1, "k", "v")
	commit := c.deletion(c.begin(), 1)
	disk.fail(syscall.EIO)
	require.Equal(t, shard.Unknown, shard.CodeOf(commit()))
	happens(t, failed)
	for _, q := range []shard.ReadRequest{{Keys: keys("k")}, {Span: &shard.Span{}}} {
		at, err := n.node.Router().Timestamp(c.ctx())
		require.NoError(t, err)
		q.At = at
		_, err = n.node.Router().Read(c.ctx(), 1, &q)
		require.Equal(t, shard.Unavailable, shard.CodeOf(err), "%v", err)
		require.ErrorContains(t, err, "without an outcome")
	}
}
