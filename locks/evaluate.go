package locks

import "slices"

// evaluation builds the list of owners a request waits for.
type evaluation struct {
	c   *core
	w   *wait
	all bool
	out []edge
}

// evaluate returns whom a request has to wait for: others that hold a conflicting lock, and others
// whose conflicting request comes first. None means that it can be granted.
//
// Two rules keep queues from producing deadlocks of their own. An upgrade is ordered before plain
// requests (wait.before). And a request in front that waits for a lock of this owner is no
// obstacle: standing behind it would be waiting for oneself.
//
// A queue of n requests for X on one key would have n^2/2 edges. Unless all is set, the walk stops
// at the nearest obstacle in mode X on the same key, unless that one passes by others: whoever is
// further ahead, or holds the key, is waited for by that one, so grants and reachability in the wait graph stay the same, and a release
// touches one wait instead of n. An impatient request is told everything: it has to know whether
// they have all voted.
func (c *core) evaluate(w *wait, all bool) []edge {
	c.mark++
	c.passed = false
	e := evaluation{c: c, w: w, all: all || w.impatient}
	if w.span.point() {
		if r := c.records[w.span.lo]; r != nil {
			e.record(r)
		}
	} else if !mutated("H5.interval-ignores-keys") {
		c.recordsIn(w.span, e.record)
	}
	c.waiting.overlapping(w.span, func(n *interval) {
		if n.wait.before(w) {
			e.ahead(n.wait)
		}
	})
	if !mutated("H5.key-ignores-intervals") {
		c.held.overlapping(w.span, func(n *interval) { e.holder(n.txn, n.modes) })
	}
	return e.out
}

// record adds those who hold a key or come first in its queue.
func (e *evaluation) record(r *record) {
	for a := r.lastBefore(e.w); a != nil; a = a.prev {
		if a.before(e.w) && e.ahead(a) && a.mode == Exclusive && !a.passes && !e.all {
			return
		}
	}
	for i := range r.holders {
		e.holder(r.holders[i].txn, r.holders[i].modes)
	}
}

func (e *evaluation) holder(t *txn, held modeSet) {
	if t != e.w.txn && e.w.mode.conflictsWith(held) {
		e.add(edge{txn: t, held: held})
	}
}

// ahead adds an earlier request if it is an obstacle.
func (e *evaluation) ahead(a *wait) bool {
	if a.txn == e.w.txn || !e.w.mode.conflictsWith(1<<a.mode) || mutated("2.1.queue-is-overtaken") {
		return false
	}
	if e.c.holdsAgainst(e.w.txn, a) {
		e.c.passed = true
		return false
	}
	e.add(edge{txn: a.txn, ahead: true})
	return true
}

// add puts an owner on the list once.
func (e *evaluation) add(n edge) {
	t := n.txn
	if t.mark == e.c.mark {
		known := &e.out[t.markAt]
		known.held |= n.held
		known.ahead = known.ahead || n.ahead
		return
	}
	t.mark, t.markAt = e.c.mark, len(e.out)
	e.out = append(e.out, n)
}

// holdsAgainst reports whether t holds a lock that a waits for.
func (c *core) holdsAgainst(t *txn, a *wait) bool {
	if t.holdsNothing() {
		return false
	}
	for _, n := range t.ranges {
		if a.mode.conflictsWith(n.modes) && n.overlaps(a.span) {
			return true
		}
	}
	if a.span.point() {
		r := c.records[a.span.lo]
		return r != nil && a.mode.conflictsWith(r.modesOf(t))
	}
	return slices.ContainsFunc(t.points, func(r *record) bool {
		return a.span.contains(span{lo: r.key}) && a.mode.conflictsWith(r.modesOf(t))
	})
}
