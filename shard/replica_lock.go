package shard

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/storage"
)

// lockPage bounds the rows of one page of a locking scan.
const lockPage = 4096

// openEnd stands for the end of an interval without one: lock intervals have
// two ends. No key of the layers above begins like it.
var openEnd = bytes.Repeat([]byte{0xff}, 256)

// Lock takes locks and, if asked, reads the latest committed versions under
// them. Before a grant is answered it is checked that the transaction's locks
// were not dropped meanwhile (H2) and that the shard is still owned.
func (r *Replica) Lock(ctx context.Context, q *LockRequest) (*LockResponse, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	if q.Mode > locks.Insert || q.Wait > locks.WaitSkip {
		return nil, r.bad("unknown lock mode or wait")
	}
	if q.Mode != locks.Shared {
		if err := r.space(); err != nil {
			return nil, err
		}
	}
	token, err := r.admit(t, q)
	if err != nil {
		return nil, err
	}
	g := grant{r: r, t: t, q: q, response: &LockResponse{Token: token}}
	if q.Span != nil {
		err = g.span(ctx)
	} else if q.Wait == locks.WaitSkip && q.Limit > 0 && q.Read {
		err = g.someKeys(ctx)
	} else {
		err = g.keys(ctx)
	}
	if err != nil {
		g.unread = true // some of them, perhaps
		g.see()
		return nil, err
	}
	g.see()
	if err := g.keep(ctx); err != nil {
		return nil, err
	}
	return g.response, nil
}

// admit refuses transactions that are over and those whose earlier locks were
// dropped, and returns the token that a grant will carry.
func (r *Replica) admit(t *tenure, q *LockRequest) (LockToken, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.mu.gateway(q.Txn.Gateway, r.c.Clock)
	token := t.tokenLocked(q.Txn, g)
	if g.over(q.Txn) {
		return token, r.lost(q.Txn, "the transaction has ended")
	}
	if !q.Token.IsZero() && q.Token != token && !mutated("H2.token-unchecked") {
		return token, r.lost(q.Txn, "the owner of its locks has changed or has dropped them")
	}
	return token, nil
}

func (r *Replica) lost(id storage.TxnID, why string) error {
	return &Error{Code: LockLost, Shard: r.c.Shard, Other: id, Detail: why}
}

// grant is one Lock request on its way.
type grant struct {
	r        *Replica
	t        *tenure
	q        *LockRequest
	response *LockResponse
	unread   bool      // versions were locked without being looked at
	unkept   []LockRef // granted, to be written down
	wait     boundedWait
	snap     *storage.Snapshot // of latest, opened after the locks were granted; nil: none
}

// acquire takes a mode on spans and then makes sure that the transaction still
// has everything it had.
func (g *grant) acquire(ctx context.Context, mode LockMode, spans []locks.Span) ([]int, error) {
	request := locks.Request{Owner: ownerOf(g.q.Txn), Mode: mode, Spans: spans, Statement: g.q.Statement, Weight: g.q.Weight,
		Connection: g.q.Connection}
	// The request queues once and as what it is: asked with NOWAIT first, it
	// would wait for a voted holder beyond its timeout (H15), and then begin at
	// the end of the queue.
	g.wait = boundedWait{Context: ctx, timeout: g.q.Timeout, begun: g.r.hurryResolves}
	defer g.wait.stop()
	skipped, err := g.t.table.Acquire(&g.wait, request, g.q.Wait)
	if g.wait.waited {
		g.r.counters.lockWaits.Add(1)
	}
	if err != nil {
		return nil, g.translate(ctx, err)
	}
	return skipped, g.confirm(mode, spans, skipped)
}

func (g *grant) translate(ctx context.Context, err error) error {
	e := &Error{Shard: g.r.c.Shard}
	g.describe(e, err)
	switch {
	case g.r.serving.Load() != g.t:
		return g.r.notOwner()
	case errors.Is(err, locks.ErrDeadlock):
		e.Code = Deadlock
		g.r.c.Logger.Debug("deadlock", "shard", uint64(g.r.c.Shard), "victim", g.q.Txn.String(), "cycle", e.Detail)
	case errors.Is(err, locks.ErrWouldBlock):
		e.Code = WouldBlock
	case errors.Is(err, locks.ErrDropped):
		return g.r.lost(g.q.Txn, "dropped while waiting")
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ctx.Err()
	case errors.Is(err, locks.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		e.Code = LockTimeout
		if g.q.Wait == locks.WaitNone { // it waited for a vote to be resolved (H15)
			e.Code = WouldBlock
		}
	default:
		return err
	}
	return e
}

// confirm checks, after the grant, that the gateway's locks were not dropped
// since the request was admitted, and counts the grant.
func (g *grant) confirm(mode LockMode, spans []locks.Span, skipped []int) error {
	t, q := g.t, g.q
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.r.serving.Load() != t {
		if !t.mu.frozen { // else its locks are about to be handed over
			t.table.Release(ownerOf(q.Txn)) // the dead tenure's table; nobody will ask it again
		}
		return g.r.notOwner()
	}
	gw := t.mu.gateway(q.Txn.Gateway, g.r.c.Clock)
	if t.tokenLocked(q.Txn, gw) != g.response.Token || gw.over(q.Txn) {
		if !t.votingLocked(q.Txn) && !t.durableLocked(q.Txn) {
			t.table.Release(ownerOf(q.Txn))
			g.r.forgetLocked(t, q.Txn)
		}
		return g.r.lost(q.Txn, "dropped while the request was under way")
	}
	h := t.mu.txns[q.Txn]
	if h == nil {
		h = &holder{}
		t.mu.txns[q.Txn] = h
	}
	if !g.markLocked(h, mode, spans, skipped) {
		return g.r.lost(q.Txn, "released while the request was under way")
	}
	for _, s := range spans {
		if len(s.Hi) == 0 {
			h.points++
		} else {
			h.ranges++
		}
	}
	return nil
}

// see records what the transaction has met (H6). Where it locked without
// looking, that is at most everything committed so far.
func (g *grant) see() {
	seen, unread := g.response.MaxCommit, storage.Timestamp(0)
	if g.unread && !mutated("0094.unread-unmet") {
		unread = storage.Timestamp(g.r.c.Machine.lastCommit.Load())
	}
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	if h := g.t.mu.txns[g.q.Txn]; h != nil {
		h.seen, h.unread = max(h.seen, seen), max(h.unread, unread)
	}
}

// What a grant reads is proved when it has been read: who owns the shard then owned
// it at every grant and read of this tenure, with everything that was acknowledged.

// keys locks single keys and reads them.
func (g *grant) keys(ctx context.Context) error {
	spans := make([]locks.Span, len(g.q.Keys))
	for i, k := range g.q.Keys {
		spans[i] = locks.Span{Lo: k}
	}
	skipped, err := g.acquire(ctx, g.q.Mode, spans)
	if err != nil {
		return err
	}
	g.response.Skipped = skipped
	if !g.q.Read && g.q.Snapshot == 0 {
		g.unread = true
		return g.r.prove(ctx, g.t)
	}
	rows, err := g.readKeys(g.q.Keys, skipped)
	if err != nil {
		return err
	}
	if g.q.Read {
		g.response.Rows = rows
	}
	return g.r.prove(ctx, g.t)
}

// someKeys locks and reads keys until as many as wanted are found: a consumer
// of a queue must not lock what it leaves to others.
func (g *grant) someKeys(ctx context.Context) error {
	found := 0
	for tried := 0; tried < len(g.q.Keys) && found < g.q.Limit; tried = len(g.response.Rows) {
		keys := g.q.Keys[tried:min(len(g.q.Keys), tried+g.q.Limit-found)]
		spans := make([]locks.Span, len(keys))
		for i, k := range keys {
			spans[i] = locks.Span{Lo: k}
		}
		skipped, err := g.acquire(ctx, g.q.Mode, spans)
		if err != nil {
			return err
		}
		rows, err := g.readKeys(keys, skipped)
		if err != nil {
			return err
		}
		for _, i := range skipped {
			g.response.Skipped = append(g.response.Skipped, tried+i)
		}
		for i := range rows {
			if rows[i].Found {
				found++
			}
		}
		g.response.Rows = append(g.response.Rows, rows...)
	}
	return g.r.prove(ctx, g.t)
}

// readKeys reads the latest versions of locked keys.
func (g *grant) readKeys(keys []storage.Key, skipped []int) ([]Row, error) {
	defer g.closeSnapshot()
	rows := make([]Row, len(keys))
	for i, k := range keys {
		rows[i] = Row{Key: k}
		if len(skipped) > 0 && slices.Contains(skipped, i) {
			continue
		}
		read, err := g.latest(k)
		if err != nil {
			return nil, err
		}
		if g.q.Snapshot != 0 && read.Newest > g.q.Snapshot {
			return nil, g.conflict(k, read.Newest, read.Start)
		}
		g.response.MaxCommit = max(g.response.MaxCommit, read.Newest)
		rows[i] = rowOf(k, &read)
	}
	return rows, nil
}

// latest reads a locked key. It needs no look at intents: who has voted to write
// the key holds it exclusively, which no mode stands beside, until the resolution
// is applied; a snapshot opened after the grant shows the outcome. So does the cache
// of rows, and what it says of a key it says as long as the lock is held: keys may be
// read in moments of their own. That the lock is this tenure's is looked at afterwards.
func (g *grant) latest(k storage.Key) (storage.Read, error) {
	if read, ok := g.r.c.Space.Cached(k, storage.MaxTimestamp); ok {
		return read, g.r.keptUp(g.t, storage.MaxTimestamp)
	}
	if g.snap == nil {
		snap, err := g.r.openOwn(g.t, storage.MaxTimestamp)
		if err != nil {
			return storage.Read{}, err
		}
		g.snap = snap
	}
	read, err := g.snap.GetVersion(k, storage.MaxTimestamp)
	if err != nil {
		err = g.r.failed(err)
	}
	return read, err
}

// closeSnapshot ends what latest has opened. Who takes further locks reads them in a
// later snapshot.
func (g *grant) closeSnapshot() {
	if g.snap != nil {
		g.snap.Close()
		g.snap = nil
	}
}

// conflict names the writer by its start, which is what a version says of it.
func (g *grant) conflict(k storage.Key, newest, writer storage.Timestamp) error {
	return &Error{Code: Conflict, Shard: g.r.c.Shard, Key: slices.Clone(k), Other: storage.TxnID{Start: writer},
		Detail: "changed at " + newest.String() + ", after the snapshot at " + g.q.Snapshot.String()}
}

// span locks and reads an interval. Where the interval ends is only known after
// a look without locks, if a limit cuts it; what that look saw is read again
// under the lock.
func (g *grant) span(ctx context.Context) error {
	page := scan{span: *g.q.Span, reverse: g.q.Reverse, limit: g.limit(), at: storage.MaxTimestamp, noIntents: true}
	if err := g.r.runScan(ctx, g.t, &page); err != nil {
		return err
	}
	g.response.More, g.response.Resume = page.more, page.resume
	locked := *g.q.Span
	if page.more {
		if g.q.Reverse {
			locked.Lo = page.resume
		} else {
			locked.Hi = page.resume
		}
	}
	if g.q.RowsOnly || g.q.Wait == locks.WaitSkip {
		// No lock is waited for on a row that was not found.
		if err := g.r.lasting(ctx); err != nil {
			return g.r.failed(err)
		}
		return g.rows(ctx, locked, page.rows)
	}
	if _, err := g.acquire(ctx, g.q.Mode, []locks.Span{{Lo: locked.Lo, Hi: end(locked.Hi)}}); err != nil {
		return err
	}
	again, err := g.scanLatest(ctx, locked, true)
	if err != nil {
		return err
	}
	g.response.Rows = again.rows
	if again.more { // more rows than before the lock: the page ends earlier than the lock
		g.response.More, g.response.Resume = true, again.resume
		g.unread = true
	}
	return g.r.prove(ctx, g.t)
}

func (g *grant) limit() int {
	if g.q.Limit > 0 {
		return min(g.q.Limit, lockPage)
	}
	return lockPage
}

func end(hi storage.Key) []byte {
	if hi == nil {
		return openEnd
	}
	return hi
}

// scanLatest reads the latest rows of a span and checks every version in it,
// tombstones too, before any predicate is evaluated (H13). If the span is locked
// it holds no intent that matters, see latest.
func (g *grant) scanLatest(ctx context.Context, s Span, locked bool) (*scan, error) {
	page := &scan{span: s, reverse: g.q.Reverse, limit: g.limit(), at: storage.MaxTimestamp,
		since: g.q.Snapshot, tombstones: !mutated("H13.tombstones-unchecked"), noIntents: locked}
	if err := g.r.runScan(ctx, g.t, page); err != nil {
		return nil, err
	}
	if page.conflict != nil {
		return nil, g.conflict(page.conflict, page.newest, page.writer)
	}
	g.response.MaxCommit = max(g.response.MaxCommit, page.newest)
	return page, nil
}

// rows locks the rows found, without the interval, and returns those that are
// still there afterwards.
func (g *grant) rows(ctx context.Context, s Span, found []Row) error {
	if g.q.Snapshot != 0 {
		if _, err := g.scanLatest(ctx, s, false); err != nil {
			return err
		}
	}
	spans := make([]locks.Span, len(found))
	for i := range found {
		spans[i] = locks.Span{Lo: found[i].Key}
	}
	if len(spans) == 0 {
		return g.r.prove(ctx, g.t)
	}
	skipped, err := g.acquire(ctx, g.q.Mode, spans)
	if err != nil {
		return err
	}
	defer g.closeSnapshot()
	for i := range found {
		if len(skipped) > 0 && slices.Contains(skipped, i) {
			continue
		}
		if err := g.row(found[i].Key); err != nil {
			return err
		}
	}
	return g.r.prove(ctx, g.t)
}

func (g *grant) row(k storage.Key) error {
	read, err := g.latest(k)
	if err != nil {
		return err
	}
	if g.q.Snapshot != 0 && read.Newest > g.q.Snapshot {
		return g.conflict(k, read.Newest, read.Start)
	}
	g.response.MaxCommit = max(g.response.MaxCommit, read.Newest)
	if row := rowOf(k, &read); row.Found {
		g.response.Rows = append(g.response.Rows, row)
	}
	return nil
}

// Release gives up locks that have not voted.
func (r *Replica) Release(q *ReleaseRequest) error {
	t, err := r.current()
	if err != nil {
		return err
	}
	if q.Keys == nil && q.Spans == nil {
		return r.release(t, q.Txn)
	}
	spans := make([]locks.Span, 0, len(q.Keys)+len(q.Spans))
	for _, k := range q.Keys {
		spans = append(spans, locks.Span{Lo: k})
	}
	for _, s := range q.Spans {
		spans = append(spans, locks.Span{Lo: s.Lo, Hi: s.Hi})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.frozen && !mutated("H3.release-while-frozen") {
		return r.notOwner()
	}
	// Durable locks end together, with the transaction.
	if !t.votingLocked(q.Txn) && !t.durableLocked(q.Txn) {
		t.table.ReleaseSpans(ownerOf(q.Txn), spans)
	}
	return nil
}

// Renew takes a gateway's renewal in and drops the locks of its transactions
// that are over (H16).
func (r *Replica) Renew(q *RenewRequest) error {
	t, err := r.current()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.frozen {
		return r.notOwner()
	}
	t.mu.renew(q, r.c.Clock)
	g := t.mu.gateways[q.Gateway]
	if g.cut == 0 {
		return nil
	}
	r.dropLocked(t, func(id storage.TxnID) bool { return id.Gateway == q.Gateway && g.over(id) })
	return nil
}

// DropLapsed drops the unvoted locks of gateways that have been silent for
// longer than their lease. The generation rises under the same hold of the
// mutex as the locks go: no grant falls in between (H2).
func (r *Replica) DropLapsed(own uint64) {
	if t := r.serving.Load(); t != nil {
		r.closeAbandoned(t, r.dropLapsed(t, own))
	}
}

func (r *Replica) dropLapsed(t *tenure, own uint64) []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.frozen {
		return nil
	}
	lapsed := t.mu.lapsed(r.c.Clock(), own)
	if len(lapsed) == 0 {
		return nil
	}
	r.dropLocked(t, func(id storage.TxnID) bool { return slices.Contains(lapsed, id.Gateway) })
	var fresh []uint64
	for _, id := range lapsed {
		if g := t.mu.gateways[id]; !g.said {
			g.said = true
			fresh = append(fresh, id)
		}
	}
	if len(fresh) > 0 {
		r.c.Logger.Warn("gateway leases lapsed, their locks are dropped", "shard", uint64(r.c.Shard), "gateways", fresh)
	}
	t.forgetLocked(lapsed, r.c.Machine.advisoryGateways(), r.c.Clock())
	return lapsed
}

// Locks lists the locks held and waited for.
func (r *Replica) Locks() ([]LockInfo, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	r.drainResolves()
	var infos []LockInfo
	for _, l := range t.table.All() {
		infos = append(infos, LockInfo{Shard: r.c.Shard, Txn: txnOf(l.Owner), Mode: l.Mode,
			Lo: l.Span.Lo, Hi: nilIfEmpty(l.Span.Hi), Voted: l.Pinned, Connection: l.Connection})
	}
	now := time.Now()
	for _, w := range t.table.Waits() {
		info := waitInfo(r.c.Shard, w)
		info.Since = max(now.Sub(w.Since), 0)
		infos = append(infos, info)
	}
	return infos, nil
}

func nilIfEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
