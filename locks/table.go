package locks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// voteWait bounds how long NOWAIT and SKIP LOCKED wait for transactions that have voted (rule
// H15). A vote is resolved within milliseconds; after about this time others begin to suspect the
// coordinator, and then the lock counts as held.
const voteWait = 2 * time.Second

// Table is the lock table of one shard owner: the shell around core that blocks, wakes and knows
// the time. It is safe for concurrent use. Its mutex is held for a decision, never for a wait.
type Table struct {
	name  string
	graph *WaitGraph
	mu    struct {
		sync.Mutex // before WaitGraph.mu
		core       *core
	}
}

// NewTable returns an empty table; its name appears in views. Tables whose owners may wait for
// each other share a graph, and then their names differ.
func NewTable(name string, graph *WaitGraph) *Table {
	t := &Table{name: name, graph: graph}
	t.mu.core = newCore()
	return t
}

// Error says why Acquire failed. errors.Is finds the reason (ErrDeadlock, ErrWouldBlock,
// ErrTimeout, ErrDropped or the context's error) in it.
type Error struct {
	Reason error
	Table  string
	Index  int     // which of the request's spans
	Span   Span    // that span
	Others []Owner // whom the request waited for, if known
	// Deadlock is the cycle that this request was to give way in (ErrDeadlock).
	Deadlock *Deadlock
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("lock %s in %s: %v", e.Span, e.Table, e.Reason)
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Reason }

// Acquire takes a mode on all spans in their order. With WaitSkip it returns the indexes of the
// spans left out. With an error the spans before the failing one stay locked, as MySQL keeps the
// locks of a failed statement; a victim's caller rolls the transaction back, which releases them.
//
// A span that the owner holds in this or a stronger mode is granted at once. The context ends the
// wait: its deadline with ErrTimeout, its cancellation with its cause. NOWAIT and SKIP LOCKED wait,
// for at most two seconds, where all holders are pinned; then the lock counts as held.
func (t *Table) Acquire(ctx context.Context, r Request, how Wait) (skipped []int, err error) {
	if r.Mode >= modes {
		panic(fmt.Sprintf("locks: mode %d", r.Mode))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, s := range r.Spans {
		e := t.acquireLocked(ctx, &r, s, how)
		if e == nil {
			continue
		}
		if how == WaitSkip && errors.Is(e.Reason, ErrWouldBlock) {
			skipped = append(skipped, i)
			continue
		}
		e.Table, e.Index, e.Span = t.name, i, s
		return skipped, e
	}
	return skipped, nil
}

// acquireLocked takes one span; it gives the mutex up while it waits. Nil is a
// grant; an error has a reason and what is known of the others.
func (t *Table) acquireLocked(ctx context.Context, r *Request, s Span, how Wait) *Error {
	c := t.mu.core
	tx := c.txn(r.Owner)
	tx.connection = r.Connection
	w, answer := c.acquire(tx, r.Mode, s, how)
	if w != nil {
		w.table, w.statement, w.weight, w.connection = t.name, r.Statement, r.Weight, r.Connection
		w.since, w.wake = time.Now(), make(chan struct{}, 1)
	} else {
		c.retire(tx) // an empty interval or a refusal may leave nothing
	}
	t.publishLocked()
	switch answer {
	case isGranted:
		return nil
	case isRefused:
		return &Error{Reason: ErrWouldBlock}
	}
	return t.awaitLocked(ctx, w)
}

// awaitLocked blocks until the wait is over.
func (t *Table) awaitLocked(ctx context.Context, w *wait) *Error {
	var bound <-chan time.Time
	if w.impatient {
		timer := time.NewTimer(voteWait)
		defer timer.Stop()
		bound = timer.C
	}
	for {
		var reason error
		t.mu.Unlock()
		select {
		case <-w.wake:
		case <-bound:
			reason = ErrWouldBlock
		case <-ctx.Done():
			reason = ended(ctx)
		}
		t.mu.Lock()
		verdict := w.verdict.Load()
		if mutated("H4.verdict-on-a-finished-wait") && verdict != nil {
			return &Error{Reason: ErrDeadlock, Deadlock: verdict}
		}
		if w.state != waiting {
			if reason := t.resultLocked(w); reason != nil {
				return &Error{Reason: reason}
			}
			return nil
		}
		if verdict != nil {
			reason = ErrDeadlock
		}
		if reason != nil {
			e := &Error{Reason: reason, Others: ownersOf(t.mu.core.evaluate(w, true)), Deadlock: verdict}
			t.mu.core.cancel(w, abandoned)
			t.publishLocked()
			return e
		}
	}
}

// ended translates the end of a context.
func ended(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return context.Cause(ctx)
}

// resultLocked reads what became of a wait that others ended. A grant counts only if the owner was
// not dropped between the grant and now.
func (t *Table) resultLocked(w *wait) error {
	switch w.state {
	case granted:
		if tx := t.mu.core.txns[w.owner]; tx != nil && tx.serial == w.serial {
			return nil
		}
		return ErrDropped
	case refused:
		return ErrWouldBlock
	case dropped:
		return ErrDropped
	}
	panic(fmt.Sprintf("locks: wait ended in state %d", w.state))
}

// publishLocked tells the graph and the waiting goroutines what the core decided.
func (t *Table) publishLocked() {
	c := t.mu.core
	if len(c.over) == 0 && len(c.moved) == 0 {
		return
	}
	t.graph.apply(c.over, c.moved)
	for _, w := range c.over {
		w.signal()
	}
	clear(c.over)
	clear(c.moved)
	c.over, c.moved = c.over[:0], c.moved[:0]
}

// Release gives up all locks and waits of an owner, its waits ending with ErrDropped. A pinned
// owner is left alone and false returned: only ForceRelease, or Unpin first, releases it.
func (t *Table) Release(o Owner) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	tx := t.mu.core.txns[o]
	if tx == nil {
		return true
	}
	if tx.pinned && !mutated("H4.pinned-release") {
		return false
	}
	t.mu.core.release(tx)
	t.publishLocked()
	return true
}

// ForceRelease gives up all locks and waits of an owner, pinned or not: the transaction is
// resolved.
func (t *Table) ForceRelease(o Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tx := t.mu.core.txns[o]; tx != nil {
		t.mu.core.release(tx)
		t.publishLocked()
	}
}

// ReleaseSpans gives up an owner's locks, in all modes, on exactly these spans; others, even
// inside them, stay. A pinned owner is left alone.
//
// It does not know which statement took a lock. A caller that wants to undo only what it locked
// itself asks Holds first.
func (t *Table) ReleaseSpans(o Owner, spans []Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.mu.core
	tx := c.txns[o]
	if tx == nil || tx.pinned {
		return
	}
	for _, s := range spans {
		c.releaseSpan(tx, s.intern())
	}
	c.settle(tx)
	t.publishLocked()
}

// Pin keeps the locks of an owner from being dropped or released, from the lock check of a Prepare
// until its outcome (rule H4). It is a mark, not a count: pinning twice is pinning. It returns
// false, and does nothing, if the owner holds no lock here.
func (t *Table) Pin(o Owner) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	tx := t.mu.core.txns[o]
	if tx == nil || tx.holdsNothing() {
		return false
	}
	tx.pinned = true
	return true
}

// Unpin ends Pin. NOWAIT and SKIP LOCKED requests that wait for the owner go on waiting until it
// releases or their bound is reached: an owner is unpinned when it is about to release.
func (t *Table) Unpin(o Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tx := t.mu.core.txns[o]; tx != nil {
		tx.pinned = false
	}
}

// DropUnpinned drops the locks and waits of all owners that match and are not pinned, and returns
// them in ascending order. match must not call the table.
func (t *Table) DropUnpinned(match func(Owner) bool) []Owner {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.mu.core
	var out []Owner
	for o, tx := range c.txns {
		if (!tx.pinned || mutated("H4.pinned-drop")) && match(o) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, compareOwners)
	for _, o := range out {
		// Dropping one owner can end another's last wait (NOWAIT) and with it the owner.
		if tx := c.txns[o]; tx != nil {
			c.release(tx)
		}
	}
	t.publishLocked()
	return out
}

// Awaited reports whether somebody waits for a lock of the owner.
func (t *Table) Awaited(o Owner) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	tx := t.mu.core.txns[o]
	return tx != nil && len(tx.blocks) > 0
}

// Clear drops everything, pinned or not, and ends all waits with ErrDropped: this node no longer
// owns the shard.
func (t *Table) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.mu.core
	for _, tx := range old.txns {
		for _, w := range tx.waits {
			w.state = dropped
			old.over = append(old.over, w)
		}
	}
	t.publishLocked()
	t.mu.core = newCore()
	// Names of waits and lives of owners go on: a goroutine that was granted a lock and has not
	// looked yet must not take a later life for its own.
	t.mu.core.seq, t.mu.core.serial = old.seq, old.serial
}

// Break ends one wait, named by WaitInfo.ID, with ErrDeadlock: the verdict of a detector that sees
// more than this node. It returns false if that wait is over or has a verdict already.
func (t *Table) Break(id uint64, d Deadlock) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.mu.core.findWait(id)
	if w == nil || w.doomed() {
		return false
	}
	w.doom(t.graph.Remember(d))
	return true
}

// Install gives an owner locks without waiting, when a new owner of the shard rebuilds its table
// before it serves. Mode and Span of each lock count; the owner is pinned if one of them is marked
// so. Locks that conflict with another owner's were never granted by the protocol: it panics.
func (t *Table) Install(o Owner, locks []Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.mu.core
	tx := c.txn(o)
	for _, l := range locks {
		if l.Mode >= modes || !c.install(tx, l.Mode, l.Span) {
			panic(fmt.Sprintf("locks: installing %s %s for %s in %s: held by another", l.Mode, l.Span, o, t.name))
		}
		tx.pinned = tx.pinned || l.Pinned
	}
	if tx.holdsNothing() {
		tx.pinned = false
	}
	c.retire(tx)
	t.publishLocked()
}
