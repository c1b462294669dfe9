//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
	"github.com/rowlockdb/rowlock/sqlfront"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// Node is one member of a cluster: stores, log, shards, transactions and SQL.
type Node struct {
	options     Options
	identity    atomic.Pointer[identity] // Node is 0 until the node has joined
	members     memberList
	transport   *transport.Transport // nil without a cluster
	log         *slog.Logger
	engine      *storage.Engine
	host        paxos.Host
	shards      *shard.Node
	coordinator *txn.Coordinator
	server      *sqlfront.Server
	served      atomic.Pointer[sqlfront.Server] // the same, for who comes before Open returns

	failure failure
	reserve reserve
	opened  chan struct{} // Open has returned

	noting sync.Mutex // held while the notes of the cluster are written

	// closers undo Open, the last one first.
	closers  []closer
	closing  sync.Once
	removal  sync.Once // see changed
	closed   chan struct{}
	closeErr error
}

// closer undoes one step of Open.
type closer struct {
	what string
	do   func(context.Context) error
}

// Open starts a node on its data directory, which it creates when it is new.
// It returns when every shard serves; ctx bounds the start only.
func Open(ctx context.Context, o Options) (*Node, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{options: o, log: o.Logger, closed: make(chan struct{}), opened: make(chan struct{})}
	n.failure.done = make(chan struct{})
	defer close(n.opened)
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"data directory", n.openDirectory},
		{"data store", n.openEngine},
		{"transport", n.openTransport},
		{"log", n.openHost},
		{"membership", n.openMembership},
		{"shards", n.openShards},
		{"reserve", n.openReserve},
		{"SQL server", n.openServer},
	} {
		if err := n.step(ctx, step.do); err != nil {
			err = fmt.Errorf("rowlock: open %s of %s: %w", step.what, o.Dir, err)
			return nil, errors.Join(err, n.Close(context.WithoutCancel(ctx)))
		}
	}
	return n, nil
}

func (n *Node) onClose(what string, do func(context.Context) error) {
	n.closers = append(n.closers, closer{what, do})
}

// openDirectory makes, locks and identifies the directory.
func (n *Node) openDirectory(context.Context) error {
	if err := makeDirectory(n.options.Dir); err != nil {
		return err
	}
	lock, err := lockDirectory(n.options.Dir)
	if errors.Is(err, errHeld) {
		return fmt.Errorf("%w by another process", ErrLocked)
	}
	if err != nil {
		return err
	}
	n.onClose("lock", func(context.Context) error { return lock.Close() })
	id, err := loadIdentity(n.options.Dir, len(n.options.Join) > 0)
	n.identity.Store(&id)
	n.members.Store(&[]shard.Member{})
	switch {
	case errors.Is(err, errIdentityFormat):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	case errors.Is(err, errIdentityCorrupt):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case err != nil:
		return err
	}
	if err := n.recall(); err != nil {
		return err
	}
	// The stores sync what is in their folders, not that the folders exist.
	return errors.Join(makeDirectory(n.DataDir()), makeDirectory(n.LogDir()))
}

// DataDir is the folder of rows, LogDir that of the replicated log.
func (n *Node) DataDir() string { return filepath.Join(n.options.Dir, "data") }

// LogDir is the folder of the replicated log.
func (n *Node) LogDir() string { return filepath.Join(n.options.Dir, "log") }

func (n *Node) openEngine(context.Context) error {
	o := storage.Options{Dir: n.DataDir(), CacheBytes: n.options.CacheBytes, MemTableBytes: n.options.MemTableBytes, Logger: n.log, Failed: n.fail}
	if n.options.adjustStorage != nil {
		n.options.adjustStorage(&o)
	}
	engine, err := storage.Open(o)
	if err != nil {
		return err
	}
	n.engine = engine
	n.onClose("data store", func(context.Context) error { return engine.Close() })
	return nil
}

func (n *Node) openHost(context.Context) error {
	o := dragon.Options{Dir: n.LogDir(), Logger: n.log, Failed: n.fail}
	if n.transport != nil {
		o.Wire, o.Resolve, o.RTT, o.Election = n.transport, n.nodeOf, clusterTick, clusterElection
	}
	o.SnapshotRate = n.options.MoveRate
	if n.options.adjustLog != nil {
		n.options.adjustLog(&o)
	}
	disk := storage.NewStopFS(o.LogFS, func(err error) { n.fail(fmt.Errorf("log: %w", err)) })
	o.LogFS = disk
	host, err := dragon.Open(o)
	switch {
	case errors.Is(err, paxos.ErrLocked):
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case errors.Is(err, paxos.ErrForeign), errors.Is(err, paxos.ErrFormat):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	case err != nil:
		return err
	}
	disk.Arm()
	n.host = host
	n.onClose("log", func(context.Context) error { return host.Close() })
	return nil
}

func (n *Node) openShards(ctx context.Context) error {
	c := shard.Config{
		NodeID: n.ID(), Engine: n.engine, Host: n.host,
		Shards: n.options.Shards, Retention: n.options.Retention, Logger: n.log, Failed: n.fail,
	}
	c.Reducer = func(program []byte) (shard.Reduction, error) { return sqlfront.Reduce(program) }
	c.Filters = func(program []byte) (shard.RowFilter, error) { return sqlfront.Filter(program) }
	n.clusterConfig(&c)
	shards, err := shard.Open(ctx, c)
	if shard.CodeOf(err) == shard.Refused {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if errors.Is(err, shard.ErrNewer) {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if errors.Is(err, paxos.ErrBehind) || errors.Is(err, shard.ErrNotes) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return err
	}
	n.shards = shards
	n.onClose("shards", shards.Close)
	n.coordinator = txn.New(txn.Config{
		Router: shards.Router(), Gateway: shards.Gateway(), Logger: n.log, LockWait: n.options.LockWait,
		Local:    shards.Router().Owned,
		MaxBytes: n.options.TxnBytes,
		// Node ids are never used twice, so an older incarnation is dead.
		Predecessor: func(gateway uint64) bool {
			return gateway>>48 == shards.Gateway()>>48 && gateway < shards.Gateway()
		},
		Reached: failpoint(),
	})
	n.onClose("coordinator", n.coordinator.Close)
	return nil
}

func (n *Node) openServer(context.Context) error {
	clientTLS, err := n.clientTLS()
	if err != nil {
		return err
	}
	id := n.identity.Load()
	server, err := sqlfront.New(sqlfront.Config{
		TLS: clientTLS, RequireTLS: n.options.RequireTLS, Secret: id.Cluster[:],
		Coordinator: n.coordinator, Logger: n.log, Node: n.ID(), Peers: peers{n.shards}, Admin: n, Announce: n.announce,
		MaxConnections: uint64(n.options.MaxConnections), Sources: n.sources(),
		Blocks: func() bool { return n.shards.Active(shard.VersionBlocks) },
	})
	if err != nil {
		return err
	}
	n.server = server
	n.served.Store(server)
	server.ShowReplication(n.shards.State().Replication)
	n.shards.Handle(pokeService, func(context.Context, uint64, []byte) ([]byte, error) {
		server.Poke()
		return nil, nil
	})
	n.onClose("SQL server", server.Close)
	return nil
}

// ListenMySQL serves MySQL clients at addr, "host:port", in the background, and
// returns the address with the port that was chosen for port 0. It may be
// called several times.
func (n *Node) ListenMySQL(addr string) (net.Addr, error) {
	select {
	case <-n.closed:
		return nil, ErrClosed
	default:
	}
	bound, err := n.server.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("rowlock: listen for MySQL clients: %w", err)
	}
	return bound, nil
}

// Status describes the node's shards, the system shard first.
func (n *Node) Status() []ShardStatus {
	var status []ShardStatus
	for _, s := range n.shards.Status() {
		status = append(status, ShardStatus{
			Shard: uint64(s.Shard), Owner: s.Owner, Epoch: s.Epoch, Share: s.TokenShare, Bytes: s.Bytes,
		})
	}
	return status
}

// Shards is the number of data shards of the cluster.
func (n *Node) Shards() int { return len(n.shards.Router().DataShards()) }

// ShardStatus is the state of one shard. Shard 0 holds the schema and users.
type ShardStatus struct {
	Shard uint64
	Owner uint64 // node that serves it; 0 = none is known
	Epoch uint64 // grows with every change of owner
	Share float64
	Bytes uint64 // estimate
}

// Close ends client connections, rolls back what was open, and closes the
// stores. Commits under way finish first, until ctx ends; the stores are closed
// in any case. Further calls wait for the first and return its error. Of a node
// whose disk has failed nothing is closed, and Err is returned.
func (n *Node) Close(ctx context.Context) error {
	n.closing.Do(func() {
		close(n.closed)
		if n.closeErr = n.diskFailed(); n.closeErr != nil {
			n.noting.Lock() // what is being written; nothing is from here on
			n.noting.Unlock()
			return
		}
		var errs []error
		for _, c := range slices.Backward(n.closers) {
			if err := c.do(ctx); err != nil {
				errs = append(errs, fmt.Errorf("rowlock: close %s: %w", c.what, err))
			}
		}
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}
