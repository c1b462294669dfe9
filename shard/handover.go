package shard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// A planned change of the owner (H3). The old owner freezes: it goes on applying
// and answers nothing any more, so that what it writes down stays what it holds.
// It waits for the votes under way, writes its lock table down and asks the
// successor to begin the next epoch in the name of that flush. The successor
// gives out the same tokens: open transactions go on without noticing. Whatever
// goes wrong, the old owner begins an epoch of its own, from its memory, and
// that refuses or deletes everything the attempt left.

// flushPart bounds the locks of one record of a flush, flushBytes what one
// command carries.
const (
	flushPart  = 256 << 10
	flushBytes = 4 << 20
)

// handOverPatience bounds each step that must come to an end whatever became of
// the caller.
const handOverPatience = 10 * time.Second

// Nobody is served while a shard is frozen: handOverFreeze bounds that, and leadPatience
// the wait of the successor for the leadership of the group. Hand-overs that take
// longer than that will not come to a good end.
const (
	handOverFreeze = 4 * time.Second
	leadPatience   = 2 * time.Second
)

// heritage is what a new tenure takes over, beside the votes and the durable locks.
type heritage struct {
	// prev, if not 0, is the only epoch that may be followed.
	prev uint64
	// flush names the flush of another owner; 0 for none.
	flush uint64
	// own is this process's own memory of epoch prev.
	own *handedTable
	// shared: reads need a proof in the new epoch, however few the voters are.
	shared bool
}

// handedTable is the memory of an owner that stops.
type handedTable struct {
	header flushHeader
	txns   []*keptLocks // by transaction
}

// HandOver gives the shard to another owner with its locks, by way of take, which
// has to bring the request to the successor and to return nil only after that
// serves. If the successor does not take over, this replica serves on and the
// error says why.
func (r *Replica) HandOver(ctx context.Context, take func(context.Context, *TakeOverRequest) error) error {
	r.takeover.Lock()
	defer r.takeover.Unlock()
	t, err := r.freeze()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, handOverFreeze)
	defer cancel()
	own, err := r.flush(ctx, t)
	if err == nil {
		err = take(ctx, &TakeOverRequest{Epoch: t.epoch, Flush: own.header.Flush})
	}
	if err != nil && mutated("H3.cancel-in-the-same-epoch") {
		r.thaw(t)
		return err
	}
	r.bury(t)
	if err == nil {
		return nil
	}
	return r.takeBack(t, own, err)
}

// takeBack ends a hand-over that failed: with an epoch of this replica's own,
// unless the successor has begun one after all.
func (r *Replica) takeBack(t *tenure, own *handedTable, why error) error {
	ctx, cancel := context.WithTimeout(r.life, handOverPatience)
	defer cancel()
	err := r.takeOver(ctx, heritage{prev: t.epoch, own: own})
	if err == nil {
		return fmt.Errorf("hand shard %d over: %w", r.c.Shard, why)
	}
	if epoch, _, process, _ := r.c.Machine.Owner(); CodeOf(err) == NotOwner && epoch > t.epoch && process != r.c.Process {
		return nil
	}
	return fmt.Errorf("hand shard %d over: %w; take it back: %w", r.c.Shard, why, err)
}

// freeze ends the service of the tenure and keeps its memory. From here on
// nothing is granted, released, read or voted in this epoch.
func (r *Replica) freeze() (*tenure, error) {
	t := r.serving.Load()
	if t == nil {
		return nil, r.notOwner()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !r.serving.CompareAndSwap(t, nil) {
		return nil, r.notOwner()
	}
	t.mu.frozen = true
	if r.oracle != nil {
		r.oracle.stop()
	}
	return t, nil
}

// thaw would serve on in the frozen epoch, where a flush may still apply. The
// protocol never does (H3); the mutation that shows why needs it.
func (r *Replica) thaw(t *tenure) {
	t.mu.Lock()
	t.mu.frozen = false
	t.mu.Unlock()
	r.serving.Store(t)
}

// bury forgets a tenure that does not serve any more and lets everybody go who
// waits in it.
func (r *Replica) bury(t *tenure) {
	t.mu.Lock()
	t.mu.frozen = false
	t.mu.Unlock()
	t.table.Clear()
	t.advisories.end()
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, v := range t.mu.voted {
		t.mu.inflight.resolved(id)
		close(v.done)
	}
}

// flush waits for the votes under way and writes the lock table down. The table
// it returns is that of the frozen tenure, whatever the error.
func (r *Replica) flush(ctx context.Context, t *tenure) (*handedTable, error) {
	err := r.settleProposals(ctx, t)
	r.drainResolves()
	own := t.handed(r.flushName())
	if err != nil {
		return own, fmt.Errorf("wait for the votes under way: %w", err)
	}
	for _, c := range own.commands(t.epoch) {
		result, err := r.proposeUntilKnown(ctx, c)
		switch {
		case err != nil:
			return own, fmt.Errorf("write the lock table down: %w", err)
		case result.Verdict != VerdictDone:
			return own, r.notOwner()
		}
	}
	return own, nil
}

// flushName draws a name that no other flush has.
func (r *Replica) flushName() uint64 { return max(1, randomID()) }

// settleProposals waits until no vote is under way.
func (r *Replica) settleProposals(ctx context.Context, t *tenure) error {
	for {
		t.mu.Lock()
		var p *proposal
		for _, p = range t.mu.proposals {
			break
		}
		t.mu.Unlock()
		if p == nil {
			return nil
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.life.Done():
			return r.notOwner()
		}
		if CodeOf(p.err) == Unknown { // given up; it stays
			return p.err
		}
	}
}

// handed copies the memory that a successor needs.
func (t *tenure) handed(flush uint64) *handedTable {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &handedTable{header: flushHeader{Flush: flush, Heir: t.epoch + 1, TokenEpoch: t.tokenEpoch}}
	for id, g := range t.mu.gateways {
		h.header.Gateways = append(h.header.Gateways, handedGateway{Gateway: id, Generation: g.generation})
	}
	if t.mu.forgotten > 0 {
		h.header.Gateways = append(h.header.Gateways, handedGateway{Generation: t.mu.forgotten})
	}
	slices.SortFunc(h.header.Gateways, func(a, b handedGateway) int { return cmp.Compare(a.Gateway, b.Gateway) })
	var last *keptLocks
	for _, l := range t.table.All() { // ordered by owner
		id := txnOf(l.Owner)
		if last == nil || last.txn != id {
			last = &keptLocks{txn: id}
			h.txns = append(h.txns, last)
		}
		last.locks = append(last.locks, LockRef{Mode: l.Mode, Lo: l.Span.Lo, Hi: nilIfEmpty(l.Span.Hi)})
	}
	return h
}

// commands are the flush as log entries; the last completes it.
func (h *handedTable) commands(epoch uint64) []*Command {
	var all []*Command
	next := func() *Command {
		c := &Command{Kind: KindFlushLocks, Epoch: epoch, Flush: h.header.Flush, TokenEpoch: h.header.TokenEpoch}
		all = append(all, c)
		return c
	}
	c, size := next(), 0
	for _, k := range h.txns {
		for n, part := range k.parts() {
			if size > flushBytes {
				c, size = next(), 0
			}
			set := encodeLockSet(part)
			c.Handed = append(c.Handed, handedLocks{Txn: k.txn, Number: uint64(n + 1), Locks: set})
			size += len(set) + 32
		}
	}
	c.Last, c.Gateways = true, h.header.Gateways
	return all
}

// parts cuts a lock set into pieces of bounded size.
func (k *keptLocks) parts() [][]LockRef {
	var parts [][]LockRef
	begin, size := 0, 0
	for i, l := range k.locks {
		if size += len(l.Lo) + len(l.Hi) + 8; size > flushPart {
			parts = append(parts, k.locks[begin:i+1])
			begin, size = i+1, 0
		}
	}
	if begin < len(k.locks) {
		parts = append(parts, k.locks[begin:])
	}
	return parts
}

// TakeOver makes this replica the owner after the one that asks. It leads its
// group first: whoever leads and serves nothing takes the shard over by itself
// (Reclaim), and that would cost the locks.
func (r *Replica) TakeOver(ctx context.Context, q *TakeOverRequest) error {
	if q.Epoch == 0 || q.Flush == 0 {
		return r.bad("a hand-over without an epoch or a flush")
	}
	if !r.takeover.TryLock() {
		return r.bad("this replica is taking over or handing over already")
	}
	defer r.takeover.Unlock()
	if r.serving.Load() != nil {
		return r.bad("this replica owns the shard already")
	}
	if err := r.lead(ctx); err != nil {
		return fmt.Errorf("lead the group of shard %d: %w", r.c.Shard, err)
	}
	return r.takeOver(ctx, heritage{prev: q.Epoch, flush: q.Flush})
}

// lead asks for the group's leadership until this replica believes to have it.
func (r *Replica) lead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leadPatience)
	defer cancel()
	for wait := time.Millisecond; !r.leads(); wait = min(2*wait, 100*time.Millisecond) {
		err := r.c.Group.TransferLeadership(r.c.Group.Replica())
		if errors.Is(err, paxos.ErrClosed) {
			return err
		}
		if late := pause(ctx, r.life, wait); late != nil {
			return errors.Join(late, err)
		}
	}
	return nil
}

func (r *Replica) leads() bool {
	leader, _, ok := r.c.Group.Leader()
	return ok && leader == r.c.Group.Replica()
}

// Reclaim takes the shard over if this replica serves nothing though its group
// says that it leads: it was deposed and leads again, or an epoch of its own
// came to nothing. It looks again once it holds the takeover: a hand-over may have ended
// since, and the successor leads then.
func (r *Replica) Reclaim(ctx context.Context) error {
	if r.serving.Load() != nil || r.life.Err() != nil || !r.leads() {
		return nil
	}
	r.at(ctx, "reclaim")
	if !r.takeover.TryLock() {
		return nil
	}
	defer r.takeover.Unlock()
	if r.serving.Load() != nil || !r.leads() && !mutated("0097.led-before") {
		return nil
	}
	return r.takeOver(ctx, heritage{})
}

// inherit fills a new tenure with what outlives the old one: durable locks
// always, those of a flush if this epoch inherits it by name, those of the
// process's own memory if its own epoch came directly before (H1).
func (r *Replica) inherit(t *tenure, h heritage, m storage.Timestamp) error {
	header := r.c.Machine.flushed.Load()
	switch {
	case h.own != nil:
		header = &h.own.header
	case header != nil && !(header.Flush == h.flush && header.Heir == t.epoch) && !mutated("H3.any-epoch-inherits"):
		header = nil
	}
	stored, err := r.c.Machine.lockRecords()
	if err != nil {
		return fmt.Errorf("read lock records: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if header != nil {
		t.tokenEpoch = header.TokenEpoch
		for _, g := range header.Gateways {
			if g.Gateway == 0 {
				t.mu.forgotten = g.Generation
				continue
			}
			t.mu.gateway(g.Gateway, r.c.Clock).generation = g.Generation
		}
	}
	for _, k := range stored {
		r.installLocked(t, k, m)
	}
	if h.own == nil {
		return nil
	}
	snap := r.c.Space.Snapshot()
	defer snap.Close()
	for _, k := range h.own.txns {
		_, voted, err := snap.Vote(k.txn)
		if err != nil {
			return fmt.Errorf("read the vote of transaction %s: %w", k.txn, err)
		}
		if !voted { // else the vote says what it holds
			r.installLocked(t, k, m)
		}
	}
	return nil
}

// installLocked gives a transaction its locks back. Everything it has met lies
// below m, which is drawn after the epoch began (H6).
func (r *Replica) installLocked(t *tenure, k *keptLocks, m storage.Timestamp) {
	t.table.Install(ownerOf(k.txn), heldLocks(k.locks))
	// A gateway that stays silent from here on lapses like any other.
	t.mu.gateway(k.txn.Gateway, r.c.Clock)
	h := t.mu.txns[k.txn]
	if h == nil {
		h = &holder{}
		t.mu.txns[k.txn] = h
	}
	h.seen = max(h.seen, m)
	if k.durable {
		h.durable.on, h.durable.whole, h.durable.token = true, true, k.token
		h.durable.add(k.kept)
	}
	h.points, h.ranges = 0, 0
	for _, l := range t.table.Held(ownerOf(k.txn)) {
		if len(l.Span.Hi) == 0 {
			h.points++
		} else {
			h.ranges++
		}
	}
}

// HandOver gives a shard that this node owns to another node, with its locks:
// open transactions do not notice. After an error the shard is served here
// still, or by whoever the error names. Shards that share its group go along, if
// this node owns them.
func (n *Node) HandOver(ctx context.Context, s ID, to NodeAddr) error {
	r := n.replica(s)
	if r == nil || to == n.addr() {
		return fmt.Errorf("hand shard %d over to node %s: not from this node to another", s, to)
	}
	if len(r.company()) > 1 {
		return n.handOverTogether(ctx, r, to)
	}
	return r.HandOver(ctx, func(ctx context.Context, q *TakeOverRequest) error {
		return n.router.callNode(ctx, to, s, methodTakeOver, q, &Done{})
	})
}
