package txn

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Txn is one transaction. Its methods are for one goroutine at a time; Info and
// Aborted may be called from any.
type Txn struct {
	c        *Coordinator
	o        Options
	begun    time.Time
	lockWait time.Duration

	id         storage.TxnID
	snapshot   storage.Timestamp // 0: not fixed yet
	present    atomic.Bool       // the snapshot is not to be stale, see Present
	looked     atomic.Bool       // a row was asked for
	draws      int               // timestamps drawn so far
	buffer     WriteBuffer
	parts      []*participant // shards that a lock request was sent to
	staged     []shard.ID     // shards that chunks of writes were sent to
	load       *load          // nil if rows are not sent ahead
	statement  string
	statements int
	newest     storage.Timestamp // largest commit timestamp met under a lock
	ended      bool
	schemas    []shard.SchemaRef

	// mu guards what Info, Aborted and the lease renewal read from outside.
	mu struct {
		sync.Mutex
		id        storage.TxnID
		state     State
		readOnly  bool
		oldest    storage.Timestamp // no read of it lies below
		touched   []shard.ID
		statement string
		writes    int
		bytes     int64
		locks     int
		aborted   *Error
	}
}

// Savepoint is a place in the transaction's sequence of writes.
type Savepoint struct {
	sequence uint64
	ahead    int // writes sent ahead
}

// ID is zero before the first read or lock.
func (t *Txn) ID() storage.TxnID { return t.id }

// Writes is the number of keys that were written.
func (t *Txn) Writes() int {
	if t.load != nil {
		return t.buffer.Len() + t.load.n
	}
	return t.buffer.Len()
}

// Aborted says why the transaction was rolled back on its own; nil if it was
// not.
func (t *Txn) Aborted() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.aborted == nil {
		return nil
	}
	return t.mu.aborted
}

// SetLockWait changes the lock wait timeout; 0 restores the default.
func (t *Txn) SetLockWait(d time.Duration) { t.lockWait = cmp.Or(d, t.c.cfg.LockWait) }

// SetReadOnly declares that the transaction will neither lock nor write, as a
// plain autocommit SELECT: its reads then stay snapshot reads at every
// isolation level. It is a Bug once a lock was asked for.
func (t *Txn) SetReadOnly() error {
	if len(t.parts) > 0 {
		return t.bug(Key{}, "made read only after a lock")
	}
	t.o.ReadOnly = true
	t.mu.Lock()
	t.mu.readOnly = true
	t.mu.Unlock()
	return nil
}

// BeginStatement starts a statement: a new snapshot under READ COMMITTED. The
// text is what lock views show.
func (t *Txn) BeginStatement(_ context.Context, sql string) {
	t.statement = sql
	t.statements++
	if t.o.Isolation == ReadCommitted && t.o.At == 0 {
		t.snapshot = 0
		t.present.Store(false)
		t.looked.Store(false)
	}
	t.mu.Lock()
	t.mu.statement = sql
	if t.o.Isolation == ReadCommitted && t.o.At == 0 {
		t.mu.oldest = 0
	}
	t.mu.Unlock()
}

// Snapshot fixes and returns the snapshot that plain reads use, as START
// TRANSACTION WITH CONSISTENT SNAPSHOT asks for.
func (t *Txn) Snapshot(ctx context.Context) (storage.Timestamp, error) {
	if err := t.usable(); err != nil {
		return 0, err
	}
	if err := t.adopt(); err != nil {
		return 0, err
	}
	if t.snapshot != 0 {
		return t.snapshot, nil
	}
	ts, err := t.chooseSnapshot(ctx)
	if err != nil {
		return 0, err
	}
	t.snapshot = ts
	t.mu.Lock()
	t.mu.oldest = ts
	t.mu.Unlock()
	return ts, nil
}

// adopt begins a transaction at the snapshot of another one. It draws nothing, so
// that its commit does not go without a floor (H6).
func (t *Txn) adopt() (err error) {
	if t.o.Snapshot == 0 || !t.id.IsZero() {
		return nil
	}
	if t.id, err = t.c.register(t, t.o.Snapshot); err != nil {
		return err
	}
	t.snapshot = t.o.Snapshot
	t.mu.Lock()
	t.mu.oldest = t.snapshot
	t.mu.Unlock()
	return nil
}

// start gives the transaction its id if it has none.
func (t *Txn) start(ctx context.Context) error {
	if err := t.adopt(); err != nil {
		return err
	}
	if !t.id.IsZero() {
		return nil
	}
	_, err := t.draw(ctx)
	return err
}

// draw takes a fresh timestamp; the first one becomes start_ts. It always comes
// after the statement arrived, never from a stock (R5).
func (t *Txn) draw(ctx context.Context) (storage.Timestamp, error) {
	ts, err := t.c.router.Timestamp(ctx)
	if err != nil {
		return 0, convert(ctx, err, t.id, shard.System)
	}
	t.draws++
	if t.id.IsZero() {
		if t.id, err = t.c.register(t, ts); err != nil {
			return 0, err
		}
	}
	return ts, nil
}

// usable refuses work on a transaction that ended or was rolled back.
func (t *Txn) usable() error {
	if !t.ended {
		return nil
	}
	if err := t.Aborted(); err != nil {
		return err
	}
	return &Error{Code: Bug, Txn: t.id, Detail: "used after its end"}
}

// Put buffers a write of k. The key must be locked exclusively already, by Get,
// GetMany or a Scan with LockExclusive. The value is copied.
func (t *Txn) Put(k Key, value []byte) error { return t.write(k, value, false) }

// Delete buffers a deletion of k. The key must be locked exclusively already.
func (t *Txn) Delete(k Key) error { return t.write(k, nil, true) }

func (t *Txn) write(k Key, value []byte, tombstone bool) error {
	if err := t.usable(); err != nil {
		return err
	}
	if t.o.ReadOnly {
		return &Error{Code: ReadOnly, Txn: t.id, Key: k.key}
	}
	s := t.shardOf(k)
	if p := t.find(s); p == nil || !p.exclusive(k.key) {
		return t.bug(k, "write without an exclusive lock")
	}
	need := int64(len(k.key)+len(value)) + keyOverhead
	if limit := t.maxBytes(); t.buffer.Bytes()+need > limit {
		return &Error{Code: TooLarge, Txn: t.id, Shard: s,
			Detail: fmt.Sprintf("more than %d bytes of writes in one transaction", limit)}
	}
	t.buffer.Put(s, k.key, value, tombstone)
	t.publishWrites()
	return nil
}

// maxBytes bounds what the transaction keeps in memory.
func (t *Txn) maxBytes() int64 {
	if t.o.MaxBytes > 0 {
		return min(t.c.cfg.MaxBytes, t.o.MaxBytes)
	}
	return t.c.cfg.MaxBytes
}

// Savepoint marks the present place.
func (t *Txn) Savepoint() Savepoint {
	s := Savepoint{sequence: t.buffer.Mark()}
	if t.load != nil {
		s.ahead = t.load.n
	}
	return s
}

// RollbackTo drops the writes made after s. Locks stay, as in MySQL. What was sent
// ahead cannot be taken back: then the transaction is rolled back as a whole,
// which for its only statement is the same.
func (t *Txn) RollbackTo(s Savepoint) {
	if t.load != nil && t.load.n != s.ahead && !mutated("0074.half-a-statement") {
		t.abort(context.Background(), &Error{Code: Conflict, Txn: t.id, Detail: "rolled back with the statement that loaded rows"})
		return
	}
	t.buffer.RollbackTo(s.sequence)
	t.publishWrites()
}

func (t *Txn) publishWrites() {
	t.mu.Lock()
	t.mu.writes, t.mu.bytes = t.Writes(), t.buffer.Bytes()
	if t.load != nil {
		t.mu.bytes += t.load.bytes + int64(t.load.filled)
	}
	t.mu.Unlock()
}

// Rollback drops the writes and the locks. It works under an ended context too,
// and on a transaction that was rolled back already.
func (t *Txn) Rollback(ctx context.Context) error {
	if t.ended {
		return nil
	}
	t.unstage()
	t.dropLocks(ctx, t.parts)
	t.end()
	return nil
}

// abort rolls the transaction back because of err.
func (t *Txn) abort(ctx context.Context, err *Error) {
	if t.ended {
		return
	}
	t.mu.Lock()
	t.mu.aborted = err
	t.mu.Unlock()
	t.unstage()
	t.dropLocks(ctx, t.parts)
	t.end()
}

// fail converts the error of a read or lock on shard s and rolls the
// transaction back if that error is fatal.
func (t *Txn) fail(ctx context.Context, err error, s shard.ID) error {
	e := convert(ctx, err, t.id, s)
	switch {
	case e.Code.Fatal():
		t.abort(ctx, e)
	case ctx.Err() != nil && e.Code != Bug: // whatever it led to, this is why
		e = &Error{Code: Interrupted, Txn: t.id, Shard: s, Err: ctx.Err()}
	}
	return e
}

// end forgets everything; the transaction is of no use afterwards.
func (t *Txn) end() {
	t.ended = true
	t.c.unregister(t.id)
	t.load.end()
	t.load = nil
	t.buffer = WriteBuffer{}
	t.parts = nil
	t.mu.Lock()
	t.mu.state = StateEnded
	t.mu.touched, t.mu.writes, t.mu.bytes, t.mu.locks = nil, 0, 0, 0
	t.mu.Unlock()
}

func (t *Txn) shardOf(k Key) shard.ID {
	if k.system {
		return shard.System
	}
	return t.c.router.Shard(k.token)
}
