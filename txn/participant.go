package txn

import (
	"context"
	"errors"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// participant is what a transaction knows of its locks on one shard.
type participant struct {
	shard   shard.ID
	token   shard.LockToken // of the first grant (H2); zero before it
	granted bool
	rows    map[string]rowLock
	ranges  []shard.LockRef
}

// rowLock is the lock on one row and the statement that took it first; the
// strength may have grown since.
type rowLock struct {
	mode      Lock
	statement int
	again     bool // it was asked for more than once
}

// find returns the participant of shard s, nil if nothing was locked there.
func (t *Txn) find(s shard.ID) *participant {
	for _, p := range t.parts {
		if p.shard == s {
			return p
		}
	}
	return nil
}

// touch returns the participant of shard s, making it if need be. It comes
// before the first message to the shard, so that whatever becomes of that
// message, the end of the transaction drops its locks there (H16).
func (t *Txn) touch(s shard.ID) *participant {
	if p := t.find(s); p != nil {
		return p
	}
	p := &participant{shard: s}
	t.parts = append(t.parts, p)
	t.mu.Lock()
	t.mu.touched = append(t.mu.touched, s)
	t.mu.Unlock()
	return p
}

// lockRequest makes the parts of a lock request that do not depend on what is
// to be locked.
func (t *Txn) lockRequest(p *participant, o ReadOptions) *shard.LockRequest {
	r := &shard.LockRequest{
		Txn: t.id, Token: p.token, Mode: shard.LockShared, Read: true,
		Statement: t.statement, Weight: t.buffer.Len(), Timeout: t.lockWait, Connection: t.o.Connection,
		Durable: t.o.DurableLocks && !(t.o.Autocommit && t.statements <= 1),
	}
	if o.Lock == LockExclusive {
		r.Mode = shard.LockExclusive
	}
	switch o.Wait {
	case NoWait:
		r.Wait = shard.WaitNone
	case SkipLocked:
		r.Wait = shard.WaitSkip
	default:
		r.Wait = shard.WaitBlock
	}
	if t.o.Isolation == RepeatableRead && t.o.SnapshotIsolation && !o.AnyVersion {
		r.Snapshot = t.snapshot
	}
	return r
}

// lock sends a lock request, finishing undecided transactions in its way. It
// changes nothing of the Txn, so that several may run at once.
func (c *Coordinator) lock(ctx context.Context, s shard.ID, r *shard.LockRequest) (*shard.LockResponse, error) {
	began := time.Now()
	total := r.Timeout
	for {
		resp, err := c.router.Lock(ctx, s, r)
		if err = c.clearWay(ctx, err); err != errRepeat {
			return resp, err
		}
		if r.Timeout = total - time.Since(began); r.Timeout <= 0 {
			return nil, &Error{Code: LockTimeout, Txn: r.Txn, Shard: s}
		}
	}
}

// read sends a snapshot read, finishing undecided transactions in its way.
func (c *Coordinator) read(ctx context.Context, s shard.ID, r *shard.ReadRequest) (*shard.ReadResponse, error) {
	for {
		resp, err := c.router.Read(ctx, s, r)
		if err = c.clearWay(ctx, err); err != errRepeat {
			return resp, err
		}
	}
}

// errRepeat says that a request is worth repeating.
var errRepeat = errors.New("repeat")

// clearWay passes on what a request ended with, except the refusal Undecided:
// it finishes the transaction in the way and returns errRepeat.
func (c *Coordinator) clearWay(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var refused *shard.Error
	if !errors.As(err, &refused) || refused.Code != shard.Undecided {
		return err
	}
	switch failed := c.recoverer.recover(ctx, refused.Other, refused.Participants); {
	case failed == nil:
		return errRepeat
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}

// granted records what a lock request got. A token other than that of the first
// grant means that locks were dropped in between (H2); the owner refuses such a
// request itself, this is the second line.
func (t *Txn) granted(p *participant, resp *shard.LockResponse) error {
	if p.granted && resp.Token != p.token {
		return &Error{Code: LockLost, Txn: t.id, Shard: p.shard, Detail: "granted under another token"}
	}
	p.granted, p.token = true, resp.Token
	t.newest = max(t.newest, resp.MaxCommit)
	return nil
}

// holds records a row lock; it reports whether the row was not locked before.
func (p *participant) holds(k storage.Key, mode Lock, statement int) bool {
	if p.rows == nil {
		p.rows = make(map[string]rowLock, 4)
	}
	l, known := p.rows[string(k)]
	if !known {
		l.statement = statement
	}
	if l.mode < mode || known && !l.again {
		l.mode, l.again = max(l.mode, mode), known
		p.rows[string(k)] = l
	}
	return !known
}

// exclusive tells whether a key may be written: it is locked itself, or inside
// an interval that is.
func (p *participant) exclusive(k storage.Key) bool {
	if p.rows[string(k)].mode == LockExclusive {
		return true
	}
	for i := len(p.ranges) - 1; i >= 0; i-- {
		r := &p.ranges[i]
		if r.Mode == shard.LockExclusive && (keySpan{lo: r.Lo, hi: r.Hi}).contains(k) {
			return true
		}
	}
	return false
}

func (t *Txn) addLocks(n int) {
	if n == 0 {
		return
	}
	t.mu.Lock()
	t.mu.locks += n
	t.mu.Unlock()
}

// dropLocks tells the owners of parts that the transaction's locks are free. It
// does not use ctx's cancellation: a killed statement must still let go. What
// does not arrive is sent again for a while, and then dropped by the owner,
// whoever that is by then, when a lease renewal does not name the transaction.
func (t *Txn) dropLocks(ctx context.Context, parts []*participant) {
	if len(parts) == 0 {
		return
	}
	ctx, cancel := t.c.detached(ctx, cleanupPatience)
	defer cancel()
	inParallel(len(parts), func(i int) {
		err := t.c.router.Release(ctx, parts[i].shard, &shard.ReleaseRequest{Txn: t.id})
		if err != nil {
			t.c.log.Debug("release locks", "txn", t.id, "shard", parts[i].shard, "error", err)
			t.c.resolver.release(t.id, parts[i].shard)
		}
	})
}

// Unlock drops the locks on keys, for READ COMMITTED: a row that a locking scan
// visited and that does not match the statement's condition is let go at once,
// as InnoDB does. Keys that the transaction has written stay locked, and so do
// those that an earlier statement locked, in whatever mode; at other isolation
// levels all do.
func (t *Txn) Unlock(ctx context.Context, keys []Key) error {
	if err := t.usable(); err != nil || t.o.Isolation != ReadCommitted || t.o.DurableLocks {
		return err // durable locks end together
	}
	byShard := make(map[shard.ID][]storage.Key)
	for _, k := range keys {
		s := t.shardOf(k)
		p := t.find(s)
		if p == nil {
			continue
		}
		if l, held := p.rows[string(k.key)]; !held || l.statement != t.statements {
			continue
		}
		if _, _, written := t.buffer.Get(s, k.key); written {
			continue
		}
		delete(p.rows, string(k.key))
		t.addLocks(-1)
		byShard[s] = append(byShard[s], k.key)
	}
	for s, keys := range byShard {
		if err := t.c.router.Release(ctx, s, &shard.ReleaseRequest{Txn: t.id, Keys: keys}); err != nil {
			return convert(err, t.id, s) // the owner may still hold them: harmless, until the end
		}
	}
	return nil
}
