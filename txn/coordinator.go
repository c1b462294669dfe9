package txn

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

const (
	// DefaultLockWait is MySQL's innodb_lock_wait_timeout.
	DefaultLockWait = 50 * time.Second
	// DefaultMaxBytes is the most that one transaction may buffer.
	DefaultMaxBytes = 1 << 30
	// maxShardBytes is the most that one write, or the locks that one shard has to
	// keep, may take, because each of them must fit one log entry.
	maxShardBytes = 64 << 20

	// renewEvery is the pace of lease renewals; owners let a lease lapse after
	// five times as long.
	renewEvery = time.Second
	// sweepAge is how old a PREPARED vote must be before a passer-by finishes it,
	// sweepEvery the pace at which coordinators look for such votes. Who waits
	// behind one in a lock queue waits for both, and for two rounds of consensus.
	sweepAge   = 2 * time.Second
	sweepEvery = 250 * time.Millisecond
	// commitPatience bounds how long a client waits for an outcome after its
	// commit messages were sent and not answered.
	commitPatience = 15 * time.Second
	// cleanupPatience bounds one attempt at dropping locks or handing out an outcome.
	cleanupPatience = 5 * time.Second
)

// Config is what a Coordinator needs. Only Router is required.
type Config struct {
	// Router is a *shard.Router.
	Router Router
	// Gateway is this process's incarnation, from shard.Node.Gateway.
	Gateway uint64
	// Predecessor tells whether a gateway was an earlier life of this very
	// node: its votes are finished at once, not after the sweep age. Nil: none was.
	Predecessor func(gateway uint64) bool
	// Local lists the shards whose undecided votes this coordinator sweeps: those
	// that this node owns. It is asked anew for each sweep. Nil: all.
	Local    func() []shard.ID
	Logger   *slog.Logger
	LockWait time.Duration // 0: DefaultLockWait
	MaxBytes int64         // 0: DefaultMaxBytes
	// Reached is called at every step of every commit, and may block; nil outside
	// of tests.
	Reached func(Step, storage.TxnID)
	// StageBytes is the size of one shard's writes from which on they are staged
	// before the vote, ChunkBytes that of one chunk; 0: DefaultStageBytes and
	// DefaultChunkBytes.
	StageBytes, ChunkBytes int
}

// Coordinator runs the transactions of one gateway process, keeps their lease,
// hands out outcomes and recovers what dead coordinators left.
type Coordinator struct {
	cfg    Config
	router Router
	log    *slog.Logger

	resolver  *resolver
	recoverer *recoverer
	crew      *crew

	advisorySeq atomic.Uint64 // sessions with advisory locks, and their steps

	// life ends when Close calls stop; work waits for the background loops.
	life context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	// mu comes before any Txn.mu.
	mu struct {
		sync.Mutex
		open   map[uint64]*Txn // by TxnID.Seq
		seq    uint64          // of the newest transaction that drew an id
		closed bool
		recent recent
	}
}

// New starts a coordinator with its lease renewal and recovery sweeps. Close
// stops them.
func New(cfg Config) *Coordinator {
	cfg.LockWait = cmp.Or(cfg.LockWait, DefaultLockWait)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, DefaultMaxBytes)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Coordinator{cfg: cfg, router: cfg.Router, log: cfg.Logger}
	c.life, c.stop = context.WithCancel(context.Background())
	c.crew = newCrew(c.life.Done())
	c.mu.open = make(map[uint64]*Txn)
	c.resolver = newResolver(c)
	c.recoverer = newRecoverer(c.life, c)
	c.work.Go(func() { c.renewLoop(c.life) })
	c.work.Go(func() { c.recoverer.sweepLoop(c.life) })
	return c
}

// Begin returns a transaction that has sent nothing yet and costs nothing
// until its first read or lock.
func (c *Coordinator) Begin(o Options) *Txn {
	if o.At != 0 || o.Staleness != 0 {
		o.ReadOnly = true
	}
	return &Txn{c: c, o: o, lockWait: cmp.Or(o.LockWait, c.cfg.LockWait), begun: time.Now()}
}

// Gateway is the incarnation that this coordinator's transactions belong to.
func (c *Coordinator) Gateway() uint64 { return c.cfg.Gateway }

// Now draws a timestamp from the oracle.
func (c *Coordinator) Now(ctx context.Context) (storage.Timestamp, error) {
	ts, err := c.router.Timestamp(ctx)
	if err != nil {
		return 0, convert(ctx, err, storage.TxnID{}, shard.System)
	}
	return ts, nil
}

// Active describes the transactions that have drawn a timestamp and not ended,
// oldest first.
func (c *Coordinator) Active() []Info {
	open, _ := c.openTxns()
	infos := make([]Info, 0, len(open))
	for _, t := range open {
		infos = append(infos, t.Info())
	}
	slices.SortFunc(infos, func(a, b Info) int { return a.ID.Compare(b.ID) })
	return infos
}

// Info describes one transaction of this coordinator that has not ended.
func (c *Coordinator) Info(id storage.TxnID) (Info, bool) {
	c.mu.Lock()
	t := c.mu.open[id.Seq]
	c.mu.Unlock()
	if t == nil || id.Gateway != c.cfg.Gateway {
		return Info{}, false
	}
	return t.Info(), true
}

// Close hands out the outcomes that are still queued, as long as ctx allows,
// then stops the background work and ends the wait of commits whose outcome is
// still open (Unknown). Transactions still open lose their lease.
func (c *Coordinator) Close(ctx context.Context) error {
	c.mu.Lock()
	c.mu.closed = true
	c.mu.Unlock()
	err := c.resolver.close(ctx)
	c.stop()
	c.recoverer.wait()
	c.work.Wait()
	return err
}

// Flush waits until every outcome decided so far has been handed to its shards, and
// until owners on this node have carried theirs out.
func (c *Coordinator) Flush(ctx context.Context) error {
	err := c.resolver.flush(ctx)
	if c.resolver.local != nil {
		c.resolver.local.DrainOutcomes()
	}
	return err
}

// register gives a transaction that drew start its id and makes it visible to
// the lease renewal. The id's sequence number is drawn under the mutex that
// also computes a renewal's cut, so that no renewal declares it ended (H16).
func (c *Coordinator) register(t *Txn, start storage.Timestamp) (storage.TxnID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return storage.TxnID{}, &Error{Code: Unavailable, Detail: "the coordinator is closed"}
	}
	c.mu.seq++
	id := storage.TxnID{Start: start, Gateway: c.cfg.Gateway, Seq: c.mu.seq}
	t.mu.Lock()
	t.mu.id, t.mu.state, t.mu.readOnly = id, StateIdle, t.o.ReadOnly
	t.mu.Unlock()
	c.mu.open[id.Seq] = t
	return id, nil
}

func (c *Coordinator) unregister(id storage.TxnID) {
	if id.IsZero() {
		return
	}
	c.mu.Lock()
	delete(c.mu.open, id.Seq)
	c.mu.Unlock()
}

// isOpen tells whether id is a transaction of this gateway that has not ended:
// its own coordinator will finish it.
func (c *Coordinator) isOpen(id storage.TxnID) bool {
	if id.Gateway != c.cfg.Gateway {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.open[id.Seq] != nil
}

// openTxns lists the open transactions and the number of the newest.
func (c *Coordinator) openTxns() (open []*Txn, newest uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open = make([]*Txn, 0, len(c.mu.open))
	for _, t := range c.mu.open {
		open = append(open, t)
	}
	return open, c.mu.seq
}

// shards lists every shard, the system shard first.
func (c *Coordinator) shards() []shard.ID {
	return append([]shard.ID{shard.System}, c.router.DataShards()...)
}
