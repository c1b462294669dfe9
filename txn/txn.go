package txn

import (
	"context"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// Txn is one transaction. Its methods are for one goroutine at a time.
type Txn struct{}

// Savepoint is a place in the transaction's sequence of writes.
type Savepoint struct{ sequence uint64 }

// Get reads one row: from the snapshot, or the latest version under a lock. Own
// writes are seen.
func (t *Txn) Get(ctx context.Context, k Key, o ReadOptions) (Row, error) { return Row{}, nil }

// GetMany reads many rows with one request per shard, in parallel, and answers
// in the order asked.
func (t *Txn) GetMany(ctx context.Context, keys []Key, o ReadOptions) ([]Row, error) { return nil, nil }

// Scan opens a cursor. It shows own writes as of this call.
func (t *Txn) Scan(ctx context.Context, s Scan) (*Cursor, error) { return nil, nil }

// Put buffers a write. The key must be locked exclusively already.
func (t *Txn) Put(k Key, value []byte) error { return nil }

// Delete buffers a deletion. The key must be locked exclusively already.
func (t *Txn) Delete(k Key) error { return nil }

// BeginStatement starts a statement: a new snapshot under READ COMMITTED.
func (t *Txn) BeginStatement(ctx context.Context, sql string) {}

// Savepoint marks the present place.
func (t *Txn) Savepoint() Savepoint { return Savepoint{} }

// RollbackTo drops the writes made after s. Locks stay.
func (t *Txn) RollbackTo(s Savepoint) {}

// Commit makes the writes durable and visible, or fails.
func (t *Txn) Commit(ctx context.Context) error { return nil }

// Rollback drops the writes and the locks.
func (t *Txn) Rollback(ctx context.Context) error { return nil }

// ID is zero before the first read or lock.
func (t *Txn) ID() storage.TxnID { return storage.TxnID{} }

// Snapshot fixes and returns the snapshot that plain reads use.
func (t *Txn) Snapshot(ctx context.Context) (storage.Timestamp, error) { return 0, nil }

// Writes is the number of keys in the write buffer.
func (t *Txn) Writes() int { return 0 }

// Aborted says why the transaction was rolled back on its own; nil if it was not.
func (t *Txn) Aborted() error { return nil }

// SetLockWait changes the lock wait timeout; 0 restores the default.
func (t *Txn) SetLockWait(d time.Duration) {}

// Cursor yields the rows of a Scan in key order.
type Cursor struct{}

// Next returns the next row; false at the end.
func (c *Cursor) Next(ctx context.Context) (Row, bool, error) { return Row{}, false, nil }

// Close frees what the cursor holds. It may be called again.
func (c *Cursor) Close() {}
