package shard

import (
	"context"
	"errors"
	"slices"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// A durable grant is answered after its locks are in the log. From before the
// proposal on, the transaction's locks here end through its vote register alone
// (H3): whatever would drop them writes ABORTED first, and the apply of that
// deletes what was written down. So no record outlives the lock that it records.

// durability is what an owner knows about the locks of one transaction that are
// written down.
type durability struct {
	on bool
	// token goes on being the transaction's, whatever the gateway's generation:
	// its locks were not dropped.
	token LockToken
	kept  map[lockName]modeBits
	// whole: some record is in the log. The first one tells of everything that the
	// transaction holds, so until it is there each attempt must.
	whole bool
	// ending says that CloseVote is under way because the transaction is over.
	ending bool
}

// lockName is a lock's span; hi is empty for a key.
type lockName struct{ lo, hi string }

type modeBits uint8

func nameOf(l LockRef) lockName { return lockName{string(l.Lo), string(l.Hi)} }

// covers reports that a lock is written down already, or a stronger one.
func (d *durability) covers(l LockRef) bool {
	return d.kept[nameOf(l)]&(1<<l.Mode|1<<LockExclusive) != 0
}

func (d *durability) add(refs []LockRef) {
	if d.kept == nil {
		d.kept = make(map[lockName]modeBits, len(refs))
	}
	for _, l := range refs {
		d.kept[nameOf(l)] |= 1 << l.Mode
	}
}

// tokenLocked is the token of the transaction's grants in this tenure.
func (t *tenure) tokenLocked(id storage.TxnID, g *gateway) LockToken {
	if h := t.mu.txns[id]; h != nil && h.durable.on {
		return h.durable.token
	}
	return LockToken{Epoch: t.tokenEpoch, Generation: g.generation}
}

func (t *tenure) durableLocked(id storage.TxnID) bool {
	h := t.mu.txns[id]
	return h != nil && h.durable.on && !mutated("H3.release-without-vote")
}

// votingLocked reports that nothing but an outcome may take the transaction's
// locks (H4).
func (t *tenure) votingLocked(id storage.TxnID) bool {
	return t.mu.proposals[id] != nil || t.mu.voted[id] != nil
}

// markLocked makes the transaction durable, if the request asks for it, and
// notes what has to be written down: what was granted, and at first everything
// else that it holds. It reports whether it holds what it was granted; it does
// not if it was released meanwhile.
func (g *grant) markLocked(h *holder, mode LockMode, spans []locks.Span, skipped []int) bool {
	if !g.q.Durable && !h.durable.on {
		return true
	}
	owner := ownerOf(g.q.Txn)
	for i, s := range spans {
		if slices.Contains(skipped, i) {
			continue
		}
		if !g.t.table.Holds(owner, mode, s) {
			return false
		}
		g.unkept = append(g.unkept, LockRef{Mode: mode, Lo: s.Lo, Hi: nilIfEmpty(s.Hi)})
	}
	if h.durable.whole {
		return true
	}
	if !h.durable.on {
		h.durable = durability{on: true, token: g.response.Token}
	}
	for _, l := range g.t.table.Held(owner) {
		g.unkept = append(g.unkept, LockRef{Mode: l.Mode, Lo: l.Span.Lo, Hi: nilIfEmpty(l.Span.Hi)})
	}
	return true
}

// keep writes the locks down that a durable request was granted: one round for
// all of them, none if they are written down already.
func (g *grant) keep(ctx context.Context) error {
	r, t, id := g.r, g.t, g.q.Txn
	refs := g.missing()
	if len(refs) == 0 || mutated("H3.grant-before-record") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*proposeTimeout)
	defer cancel()
	c := Command{Kind: KindPutLocks, Epoch: t.epoch, Txn: id, Token: g.response.Token, Locks: encodeLockSet(refs)}
	result, err := r.proposeUntilKnown(ctx, &c)
	switch {
	case errors.Is(err, paxos.ErrTooLarge):
		return &Error{Code: TooLarge, Shard: r.c.Shard, Detail: "locks of one statement that outlive the owner"}
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case err != nil:
		return &Error{Code: Unavailable, Shard: r.c.Shard, Detail: err.Error()}
	}
	switch result.Verdict {
	case VerdictDone:
	case VerdictNotOwner:
		r.stepDown(t)
		return r.notOwner()
	default: // the register was faster: nothing of it is written down any more
		r.dropEnded(t, id)
		return r.lost(id, "the transaction has ended")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.serving.Load() != t {
		return r.notOwner()
	}
	if h := t.mu.txns[id]; h != nil && h.durable.on {
		h.durable.add(refs)
		h.durable.whole = true
		return nil
	}
	return r.lost(id, "the transaction has ended")
}

// missing lists what was granted and is not written down yet, each lock once.
func (g *grant) missing() []LockRef {
	if len(g.unkept) == 0 {
		return nil
	}
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	h := g.t.mu.txns[g.q.Txn]
	if h == nil {
		return g.unkept // its end is under way, and will be noticed
	}
	var fresh durability
	refs := make([]LockRef, 0, len(g.unkept))
	for _, l := range g.unkept {
		if one := []LockRef{l}; !h.durable.covers(l) && !fresh.covers(l) {
			fresh.add(one)
			refs = append(refs, l)
		}
	}
	return refs
}

// release gives up all locks of a transaction that has not voted: those of one
// with durable locks through its register, those of any other at once.
func (r *Replica) release(t *tenure, id storage.TxnID) error {
	durable, err := r.dropUnvoted(t, id)
	if err != nil || !durable {
		return err
	}
	_, err = r.closeVote(t, id)
	return err
}

// dropUnvoted releases the locks of a transaction, unless a vote holds them. It
// does nothing and says so if they are durable.
func (r *Replica) dropUnvoted(t *tenure, id storage.TxnID) (durable bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.frozen && !mutated("H3.release-while-frozen") {
		return false, r.notOwner()
	}
	if t.votingLocked(id) {
		return false, nil
	}
	if t.durableLocked(id) {
		return true, nil
	}
	r.forgetLocked(t, id)
	t.table.Release(ownerOf(id))
	return false, nil
}

// dropEnded releases the locks of a transaction whose register says that it has
// ended here, or that never can have one.
func (r *Replica) dropEnded(t *tenure, id storage.TxnID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.votingLocked(id) {
		return
	}
	r.forgetLocked(t, id)
	t.table.Release(ownerOf(id))
}

// dropLocked drops the unvoted locks of all transactions that match. Those with
// durable locks end through their registers, in the background.
func (r *Replica) dropLocked(t *tenure, match func(storage.TxnID) bool) {
	for _, o := range t.table.DropUnpinned(func(o locks.Owner) bool {
		id := txnOf(o)
		return match(id) && !t.durableLocked(id)
	}) {
		r.forgetLocked(t, txnOf(o))
	}
	var over []storage.TxnID
	for id, h := range t.mu.txns {
		if match(id) && t.durableLocked(id) && !h.durable.ending && !t.votingLocked(id) {
			h.durable.ending = true
			over = append(over, id)
		}
	}
	if len(over) > 0 {
		r.background(func() { r.closeAll(t, over) })
	}
}

// closeAll ends transactions with durable locks. Whom it cannot end the next
// renewal or lapse names again.
func (r *Replica) closeAll(t *tenure, ids []storage.TxnID) {
	for _, id := range ids {
		if _, err := r.closeVote(t, id); err != nil {
			r.c.Logger.Debug("end a transaction with durable locks", "txn", id, "shard", uint64(r.c.Shard), "error", err)
		}
		t.mu.Lock()
		if h := t.mu.txns[id]; h != nil {
			h.durable.ending = false
		}
		t.mu.Unlock()
	}
}
