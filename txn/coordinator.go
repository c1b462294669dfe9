package txn

import (
	"context"
	"log/slog"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Config is what a Coordinator needs. Only Router is required.
type Config struct {
	Router   *shard.Router
	Gateway  uint64 // this process's incarnation, from shard.Node.Gateway
	Logger   *slog.Logger
	LockWait time.Duration // default 50 s, as innodb_lock_wait_timeout
	MaxBytes int64         // most bytes one transaction may buffer; default 1 GiB
}

// Coordinator runs the transactions of one gateway process.
type Coordinator struct{}

// New starts a coordinator with its lease renewal and recovery sweeps. Close stops them.
func New(cfg Config) *Coordinator { return &Coordinator{} }

// Begin returns a transaction that has sent nothing yet.
func (c *Coordinator) Begin(o Options) *Txn { return &Txn{} }

// Active describes the open transactions, oldest first.
func (c *Coordinator) Active() []Info { return nil }

// Now draws a timestamp from the oracle.
func (c *Coordinator) Now(ctx context.Context) (storage.Timestamp, error) { return 0, nil }

// Close waits for the background work, then stops. Transactions still open lose their lease.
func (c *Coordinator) Close(ctx context.Context) error { return nil }

// Info is one row of the view rowlock.transactions.
type Info struct {
	ID        storage.TxnID // zero before the first read or lock
	Label     string
	Isolation Isolation
	State     string // "idle", "active", "committing", "recovering"
	Begun     time.Time
	Writes    int // keys in the write buffer
	Bytes     int64
	Locks     int
	Shards    []shard.ID // shards that hold locks of it
	Statement string
}
