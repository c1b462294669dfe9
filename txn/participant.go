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
	rows    rowLocks
	ranges  []shard.LockRef
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
func (c *Coordinator) read(ctx context.Context, s shard.ID, r *shard.ReadRequest, nearby bool) (*shard.ReadResponse, error) {
	ask := c.router.Read
	if nearby {
		ask = c.router.ReadNearby
	}
	for {
		resp, err := ask(ctx, s, r)
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
// Whoever asks for a lock that is there relies on it, too.
func (p *participant) holds(k storage.Key, mode Lock, statement int, loose bool) bool {
	l, known := p.rows.get(k)
	if !known {
		l.statement, l.loose = statement, loose
	}
	if l.mode < mode || known && !l.again {
		l.mode, l.again = max(l.mode, mode), known
		p.rows.set(k, l)
	}
	return !known
}

// exclusive tells whether a key may be written: it is locked itself, or inside
// an interval that is.
func (p *participant) exclusive(k storage.Key) bool {
	if l, _ := p.rows.get(k); l.mode == LockExclusive {
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
	t.c.crew.inParallel(len(parts), func(i int) {
		err := t.c.router.Release(ctx, parts[i].shard, &shard.ReleaseRequest{Txn: t.id})
		if err != nil {
			t.c.log.Debug("release locks", "txn", t.id, "shard", parts[i].shard, "error", err)
			t.c.resolver.release(t.id, parts[i].shard)
		}
	})
}

// Unlock drops the locks on keys that a scan visited and does not want, as
// InnoDB does under READ COMMITTED: rows that do not match the statement's
// condition, and rows beyond its LIMIT. Locks go only if this statement took
// them row by row (READ COMMITTED or SKIP LOCKED), nothing else has asked for
// them since, and the key is not written.
func (t *Txn) Unlock(ctx context.Context, keys []Key) error {
	rows := make([]Row, len(keys))
	for i, k := range keys {
		rows[i] = Row{Key: k.key, from: t.shardOf(k)}
	}
	return t.UnlockRows(ctx, rows)
}

// UnlockRows is Unlock for rows that a read has returned.
func (t *Txn) UnlockRows(ctx context.Context, rows []Row) error {
	if err := t.usable(); err != nil || t.o.DurableLocks || mutated("2.2.unlock-nothing") {
		return err // durable locks end together
	}
	byShard := make(map[shard.ID][]storage.Key)
	for _, r := range rows {
		p := t.find(r.from)
		if p == nil || !t.mayUnlock(p, r.Key) {
			continue
		}
		p.rows.remove(r.Key)
		t.addLocks(-1)
		byShard[r.from] = append(byShard[r.from], r.Key)
	}
	for s, keys := range byShard {
		if err := t.letGo(ctx, s, keys); err != nil {
			return err
		}
	}
	return nil
}

// letGo releases locks on keys before the end of the transaction. A release
// without an answer may arrive late, after the transaction has locked one of the
// keys again, and would take that lock away unnoticed: nothing is decided under
// its locks any more.
func (t *Txn) letGo(ctx context.Context, s shard.ID, keys []storage.Key) error {
	ctx, cancel := t.c.detached(ctx, cleanupPatience)
	defer cancel()
	err := t.c.router.Release(ctx, s, &shard.ReleaseRequest{Txn: t.id, Keys: keys})
	if err == nil {
		return nil
	}
	e := &Error{Code: LockLost, Txn: t.id, Shard: s, Err: err, Detail: "letting go of locks had no answer"}
	t.abort(ctx, e)
	return e
}

func (t *Txn) mayUnlock(p *participant, k storage.Key) bool {
	l, held := p.rows.get(k)
	if held && mutated("2.2.unlock-all") {
		return true
	}
	if !held || l.statement != t.statements || !l.loose || l.again {
		return false
	}
	_, _, written := t.buffer.Get(p.shard, k)
	return !written
}
