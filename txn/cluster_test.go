package txn_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

const testShards = 3

// cluster is one node with real shards, on an in-memory log and an in-memory
// file system, whose messages are always encoded and decoded.
type cluster struct {
	t       testing.TB
	network *memory.Network
	fs      *vfs.MemFS
	logger  *slog.Logger
	direct  bool // local calls are not encoded
	shards  int  // 0: testShards

	engine *storage.Engine
	host   paxos.Host
	node   *shard.Node
	tokens map[shard.ID]ring.Token
}

func newCluster(t testing.TB) *cluster {
	c := &cluster{t: t, network: memory.NewNetwork(1), fs: vfs.NewMem(), logger: slog.New(slog.DiscardHandler)}
	if os.Getenv("ROWLOCK_TEST_LOG") != "" {
		c.logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c.start()
	t.Cleanup(c.stop)
	return c
}

// start opens the node; after stop it finds what was there before.
func (c *cluster) start() {
	var err error
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	c.engine, err = storage.Open(storage.Options{Dir: "data", FS: c.fs, Logger: c.logger})
	require.NoError(c.t, err)
	c.host = c.network.Host("n1")
	// Where proposals get lost there is a log: the network's faults are on their way to it.
	versions := shard.Versions{Oldest: shard.OldestVersion, Newest: shard.VersionTrunk}
	c.node, err = shard.Open(context.Background(), shard.Config{
		NodeID: 1, Engine: c.engine, Host: c.host, Shards: cmp.Or(c.shards, testShards), Logger: c.logger, AlwaysEncode: !c.direct, Versions: versions})
	require.NoError(c.t, err)
	c.tokens = make(map[shard.ID]ring.Token)
	for i := 0; len(c.tokens) < cmp.Or(c.shards, testShards); i++ {
		token := ring.TokenOf(fmt.Appendf(nil, "placement %d", i))
		if s := c.node.Router().Shard(token); c.tokens[s] == 0 {
			c.tokens[s] = token
		}
	}
}

func (c *cluster) stop() {
	if c.node == nil {
		return
	}
	require.NoError(c.t, c.node.Close(context.Background()))
	require.NoError(c.t, c.host.Close())
	require.NoError(c.t, c.engine.Close())
	c.node = nil
}

// coordinator starts a coordinator over the cluster, through wrap if not nil.
func (c *cluster) coordinator(wrap txn.Router) *txn.Coordinator {
	if wrap == nil {
		wrap = c.node.Router()
	}
	return c.gateway(wrap, c.node.Gateway())
}

func (c *cluster) gateway(router txn.Router, gateway uint64) *txn.Coordinator {
	co := txn.New(txn.Config{Router: router, Gateway: gateway, Logger: c.logger})
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = co.Close(ctx) // what it could not hand out is another test's subject
	})
	return co
}

// key is the row k on shard s.
func (c *cluster) key(s shard.ID, k string) txn.Key {
	if s == shard.System {
		return txn.InSystem(storage.Key(k))
	}
	return txn.At(c.tokens[s], storage.Key(k))
}

// put commits rows in one transaction.
func (c *cluster) put(co *txn.Coordinator, value string, keys ...txn.Key) {
	ctx := context.Background()
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead})
	_, err := tx.GetMany(ctx, keys, txn.ReadOptions{Lock: txn.LockExclusive})
	require.NoError(c.t, err)
	for _, k := range keys {
		require.NoError(c.t, tx.Put(k, []byte(value)))
	}
	require.NoError(c.t, tx.Commit(ctx))
}

// read returns the rows' values at one snapshot, "" for a missing row.
func (c *cluster) read(co *txn.Coordinator, keys ...txn.Key) []string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tx := co.Begin(txn.Options{Isolation: txn.RepeatableRead, ReadOnly: true})
	rows, err := tx.GetMany(ctx, keys, txn.ReadOptions{})
	require.NoError(c.t, err)
	require.NoError(c.t, tx.Commit(ctx))
	values := make([]string, len(rows))
	for i, r := range rows {
		values[i] = string(r.Value)
	}
	return values
}

// message is one call of a Router as an interceptor sees it.
type message struct {
	kind  string // "read", "lock", "onepc", "prepare", "stage", "resolve", "close", "release", "timestamp"
	shard shard.ID
	txn   storage.TxnID
}

// intercepted is a Router that asks before it sends and before it answers. An
// error from before keeps the message from being sent; one from after loses the
// answer.
type intercepted struct {
	txn.Router
	mu     sync.Mutex
	before func(message) error
	after  func(message) error
}

func (r *intercepted) set(before, after func(message) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.after = before, after
}

func (r *intercepted) hook(f func(message) error, m message) error {
	if f == nil {
		return nil
	}
	return f(m)
}

func call[T any](r *intercepted, m message, send func() (T, error)) (T, error) {
	r.mu.Lock()
	before, after := r.before, r.after
	r.mu.Unlock()
	var zero T
	if err := r.hook(before, m); err != nil {
		return zero, err
	}
	answer, err := send()
	if lost := r.hook(after, m); lost != nil {
		return zero, lost
	}
	return answer, err
}

func (r *intercepted) Timestamp(ctx context.Context) (storage.Timestamp, error) {
	return call(r, message{kind: "timestamp"}, func() (storage.Timestamp, error) { return r.Router.Timestamp(ctx) })
}

func (r *intercepted) ReadMany(ctx context.Context, reads []shard.ShardRead) {
	txn.ReadEach(ctx, r, reads)
}

func (r *intercepted) Read(ctx context.Context, s shard.ID, q *shard.ReadRequest) (*shard.ReadResponse, error) {
	return call(r, message{kind: "read", shard: s}, func() (*shard.ReadResponse, error) { return r.Router.Read(ctx, s, q) })
}

func (r *intercepted) Lock(ctx context.Context, s shard.ID, q *shard.LockRequest) (*shard.LockResponse, error) {
	return call(r, message{"lock", s, q.Txn}, func() (*shard.LockResponse, error) { return r.Router.Lock(ctx, s, q) })
}

func (r *intercepted) OnePC(ctx context.Context, s shard.ID, q *shard.OnePCRequest) (*shard.VoteResponse, error) {
	return call(r, message{"onepc", s, q.Txn}, func() (*shard.VoteResponse, error) { return r.Router.OnePC(ctx, s, q) })
}

func (r *intercepted) Prepare(ctx context.Context, s shard.ID, q *shard.PrepareRequest) (*shard.VoteResponse, error) {
	return call(r, message{"prepare", s, q.Txn}, func() (*shard.VoteResponse, error) { return r.Router.Prepare(ctx, s, q) })
}

func (r *intercepted) CloseVote(ctx context.Context, s shard.ID, q *shard.CloseVoteRequest) (*shard.VoteResponse, error) {
	return call(r, message{"close", s, q.Txn}, func() (*shard.VoteResponse, error) { return r.Router.CloseVote(ctx, s, q) })
}

func (r *intercepted) Resolve(ctx context.Context, s shard.ID, q *shard.ResolveRequest) error {
	_, err := call(r, message{"resolve", s, q.Txn}, func() (struct{}, error) { return struct{}{}, r.Router.Resolve(ctx, s, q) })
	return err
}

func (r *intercepted) Stage(ctx context.Context, s shard.ID, q *shard.StageRequest) error {
	_, err := call(r, message{"stage", s, q.Txn}, func() (struct{}, error) { return struct{}{}, r.Router.Stage(ctx, s, q) })
	return err
}

func (r *intercepted) Release(ctx context.Context, s shard.ID, q *shard.ReleaseRequest) error {
	_, err := call(r, message{"release", s, q.Txn}, func() (struct{}, error) { return struct{}{}, r.Router.Release(ctx, s, q) })
	return err
}

// What the log does to proposals in the tests of a faulty one.
var (
	faults   = memory.Faults{NotSent: 0.01, UnknownApplied: 0.02, UnknownLost: 0.02, UnknownLate: 0.02, Duplicate: 0.03}
	noFaults = memory.Faults{}
)

// groupOf is the consensus group of a shard.
func groupOf(s shard.ID) paxos.GroupID { return paxos.GroupID(s + 1) }
