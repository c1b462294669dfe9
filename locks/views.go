package locks

import (
	"cmp"
	"fmt"
	"slices"
)

// String returns the span for messages and transcripts: a key, or [lo,hi).
func (s Span) String() string {
	if len(s.Hi) == 0 {
		return fmt.Sprintf("%q", s.Lo)
	}
	return fmt.Sprintf("[%q,%q)", s.Lo, s.Hi)
}

func compareOwners(a, b Owner) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.Seq, b.Seq))
}

func ownersOf(edges []edge) []Owner {
	owners := make([]Owner, len(edges))
	for i, e := range edges {
		owners[i] = e.txn.id
	}
	slices.SortFunc(owners, compareOwners)
	return owners
}

// info describes a wait, without its blockers.
func (w *wait) info() WaitInfo {
	return WaitInfo{
		ID: w.seq, Table: w.table, Owner: w.owner, Mode: w.mode, Span: w.span.export(),
		Statement: w.statement, Weight: w.weight, Since: w.since, Upgrade: w.upgrade, Connection: w.connection,
	}
}

// locksOf lists what an owner holds, by span.
func (c *core) locksOf(t *txn, table string) (out []Lock) {
	add := func(s span, held modeSet) {
		held.each(func(m Mode) {
			out = append(out, Lock{Table: table, Owner: t.id, Mode: m, Span: s.export(), Pinned: t.pinned, Connection: t.connection})
		})
	}
	for _, r := range t.points {
		add(span{lo: r.key}, r.modesOf(t))
	}
	for _, n := range t.ranges {
		add(n.span, n.modes)
	}
	slices.SortFunc(out, func(a, b Lock) int {
		return cmp.Or(slices.Compare(a.Span.Lo, b.Span.Lo), slices.Compare(a.Span.Hi, b.Span.Hi),
			cmp.Compare(a.Mode, b.Mode))
	})
	return out
}

// sortedTxns returns the owners in order.
func (c *core) sortedTxns() []*txn {
	out := make([]*txn, 0, len(c.txns))
	for _, t := range c.txns {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *txn) int { return compareOwners(a.id, b.id) })
	return out
}

func (c *core) findWait(id uint64) *wait {
	for _, t := range c.txns {
		for _, w := range t.waits {
			if w.seq == id {
				return w
			}
		}
	}
	return nil
}

// holds reports whether the modes an owner has on all of a span cover m.
func (c *core) holds(o Owner, m Mode, s Span) bool {
	if s.empty() {
		return true
	}
	t := c.txns[o]
	return t != nil && m.coveredBy(c.ownModes(t, s.intern()))
}

// install grants a lock unless another holder is in the way.
func (c *core) install(t *txn, m Mode, s Span) bool {
	if s.empty() {
		return true
	}
	w := &wait{mode: m, span: s.intern(), owner: t.id, txn: t, upgrade: true} // ahead of all waits
	if slices.ContainsFunc(c.evaluate(w, true), func(e edge) bool { return e.held != 0 }) {
		return false
	}
	if !m.coveredBy(c.ownModes(t, w.span)) {
		c.grant(t, m, w.span)
	}
	return true
}

// Holds reports whether an owner holds a mode, or a stronger one, on all of a span by one lock on
// the key itself or on an interval that contains the span.
func (t *Table) Holds(o Owner, m Mode, s Span) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.core.holds(o, m, s)
}

// Held returns the locks of an owner, ordered by span.
func (t *Table) Held(o Owner) []Lock {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tx := t.mu.core.txns[o]; tx != nil {
		return t.mu.core.locksOf(tx, t.name)
	}
	return nil
}

// All returns all locks, ordered by owner and span.
func (t *Table) All() (out []Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tx := range t.mu.core.sortedTxns() {
		out = append(out, t.mu.core.locksOf(tx, t.name)...)
	}
	return out
}

// Waits returns the requests that wait, longest first.
func (t *Table) Waits() (out []WaitInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.mu.core
	for _, tx := range c.txns {
		for _, w := range tx.waits {
			info := w.info()
			info.Blockers = ownersOf(c.evaluate(w, true))
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b WaitInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Owners returns everyone who holds or awaits a lock, in order.
func (t *Table) Owners() (out []Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tx := range t.mu.core.sortedTxns() {
		out = append(out, tx.id)
	}
	return out
}
