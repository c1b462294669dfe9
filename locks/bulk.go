package locks

import "slices"

// blockKeys is how many keys are looked at under one hold of a table's mutex: a large transaction
// must not stop the others while it is checked.
const blockKeys = 1024

// HoldsKeys is Holds for many single keys of a pinned owner, whose locks cannot go in between. It
// also returns how many of the keys are held by a lock on the key itself.
func HoldsKeys[K ~[]byte](t *Table, o Owner, m Mode, keys []K) (all bool, points int) {
	for block := range slices.Chunk(keys, blockKeys) {
		held := true
		t.mu.Lock()
		tx := t.mu.core.txns[o]
		for _, k := range block {
			if tx == nil || !held {
				held = false
				break
			}
			if r := t.mu.core.records[string(k)]; r != nil && m.coveredBy(r.modesOf(tx)) {
				points++
				continue
			}
			held = t.mu.core.holds(o, m, Span{Lo: k})
		}
		t.mu.Unlock()
		if !held {
			return false, points
		}
	}
	return true, points
}

// Count returns how many keys and intervals an owner holds.
func (t *Table) Count(o Owner) (points, ranges int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tx := t.mu.core.txns[o]; tx != nil {
		return len(tx.points), len(tx.ranges)
	}
	return 0, 0
}

// HeldBeside is Held without the locks on single keys that skip names.
func (t *Table) HeldBeside(o Owner, skip func(key string) bool) (out []Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.mu.core
	tx := c.txns[o]
	if tx == nil {
		return nil
	}
	some := &txn{id: tx.id, ranges: tx.ranges, pinned: tx.pinned}
	for _, r := range tx.points {
		if skip(r.key) {
			continue
		}
		r.modesOf(tx).each(func(m Mode) {
			out = append(out, Lock{Table: t.name, Owner: o, Mode: m, Span: Span{Lo: []byte(r.key)}, Pinned: tx.pinned})
		})
	}
	return append(out, c.locksOf(some, t.name)...)
}
