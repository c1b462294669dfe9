package locks

import (
	"fmt"
	"slices"
)

// check verifies everything that must be true of a table between two calls.
func (c *core) check() error {
	if err := c.checkHolders(); err != nil {
		return err
	}
	if err := c.checkStructure(); err != nil {
		return err
	}
	for _, t := range c.txns {
		for _, w := range t.waits {
			if err := c.checkWait(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkHolders compares every lock with every other one.
func (c *core) checkHolders() error {
	type lock struct {
		t *txn
		s span
		m modeSet
	}
	var all []lock
	for _, t := range c.txns {
		for _, r := range t.points {
			all = append(all, lock{t, span{lo: r.key}, r.modesOf(t)})
		}
		for _, n := range t.ranges {
			all = append(all, lock{t, n.span, n.modes})
		}
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.t == b.t || !a.s.overlaps(b.s) {
				continue
			}
			for m := range modes {
				if a.m&(1<<m) != 0 && m.conflictsWith(b.m) {
					return fmt.Errorf("%v and %v hold conflicting locks on %v and %v", a.t.id, b.t.id, a.s, b.s)
				}
			}
		}
	}
	return nil
}

// checkWait verifies that a wait's edges are true (each of them is in its way now: else deadlocks are
// seen that are none, or nobody wakes it) and complete (everyone in its way is reached through the
// edges: else a deadlock goes unseen).
func (c *core) checkWait(w *wait) error {
	if len(w.edges) == 0 {
		return fmt.Errorf("%v waits for nobody on %v", w.owner, w.span)
	}
	truth := ownersOf(c.evaluate(w, true))
	for _, e := range w.edges {
		if c.txns[e.txn.id] != e.txn || !slices.Contains(truth, e.txn.id) {
			return fmt.Errorf("%v on %v waits for %v, which is not among %v", w.owner, w.span, e.txn.id, truth)
		}
		if _, ok := e.txn.blocks[w]; !ok {
			return fmt.Errorf("%v does not know that it blocks %v", e.txn.id, w.owner)
		}
	}
	reached := map[Owner]bool{}
	for queue := []*wait{w}; len(queue) > 0; queue = queue[1:] {
		for _, e := range queue[0].edges {
			if !reached[e.txn.id] {
				reached[e.txn.id] = true
				queue = append(queue, e.txn.waits...)
			}
		}
	}
	for _, o := range truth {
		if !reached[o] {
			return fmt.Errorf("%v on %v does not reach %v", w.owner, w.span, o)
		}
	}
	return nil
}

func (c *core) checkStructure() error {
	edges, blocks, points := 0, 0, 0
	for id, t := range c.txns {
		if t.idle() || t.id != id {
			return fmt.Errorf("owner %v (as %v) has nothing", t.id, id)
		}
		blocks += len(t.blocks)
		points += len(t.points)
		for pos, r := range t.points {
			if i := r.find(t); i < 0 || r.holders[i].pos != pos || c.records[r.key] != r {
				return fmt.Errorf("owner %v: key %q is misfiled", id, r.key)
			}
		}
		for _, w := range t.waits {
			edges += len(w.edges)
		}
	}
	if edges != blocks {
		return fmt.Errorf("%d edges, %d in reverse", edges, blocks)
	}
	for key, r := range c.records {
		points -= len(r.holders)
		if len(r.holders) == 0 && r.head == nil {
			return fmt.Errorf("key %q is neither held nor awaited", key)
		}
		for w := r.head; w != nil; w = w.next {
			if w.next != nil && !w.before(w.next) || w.record != r {
				return fmt.Errorf("key %q: queue out of order", key)
			}
		}
	}
	if points != 0 {
		return fmt.Errorf("%d keys on owners' lists that are not held", points)
	}
	if c.index != nil && c.index.Len() != len(c.records) {
		return fmt.Errorf("index has %d keys of %d", c.index.Len(), len(c.records))
	}
	return nil
}

// checkEmpty verifies that nothing is left.
func (c *core) checkEmpty() error {
	if n := len(c.records) + len(c.txns) + c.held.len + c.waiting.len; n != 0 {
		return fmt.Errorf("%d keys, %d owners, %d+%d intervals are left", len(c.records), len(c.txns), c.held.len, c.waiting.len)
	}
	return nil
}

func (t *Table) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.core.check()
}

func (t *Table) checkEmpty() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.core.checkEmpty()
}
