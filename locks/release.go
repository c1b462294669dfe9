package locks

import (
	"slices"

	"github.com/tidwall/btree"
)

// release gives up everything an owner holds and awaits.
func (c *core) release(t *txn) {
	for len(t.waits) > 0 {
		c.finish(t.waits[0], dropped)
	}
	for _, r := range t.points {
		i := r.find(t)
		r.holders = slices.Delete(r.holders, i, i+1)
		c.recycle(r)
	}
	clear(t.points)
	t.points = t.points[:0]
	for _, n := range t.ranges {
		c.held.remove(n)
	}
	clear(t.ranges)
	t.ranges = t.ranges[:0]
	t.pinned = false
	c.settle(t)
}

// releaseSpan gives up what an owner holds on exactly this span. settle is left to the caller.
func (c *core) releaseSpan(t *txn, s span) {
	if s.point() {
		if r := c.records[s.lo]; r != nil && r.find(t) >= 0 {
			c.unhold(t, r)
		}
		return
	}
	i := slices.IndexFunc(t.ranges, func(n *interval) bool { return n.span == s })
	if i < 0 {
		return
	}
	c.held.remove(t.ranges[i])
	last := len(t.ranges) - 1
	t.ranges[i] = t.ranges[last]
	t.ranges[last] = nil
	t.ranges = t.ranges[:last]
}

// unhold removes an owner's lock on a key; the owner's last key takes the place of this one.
func (c *core) unhold(t *txn, r *record) {
	i := r.find(t)
	pos, last := r.holders[i].pos, len(t.points)-1
	r.holders = slices.Delete(r.holders, i, i+1)
	if pos != last {
		other := t.points[last]
		t.points[pos] = other
		other.holders[other.find(t)].pos = pos
	}
	t.points[last] = nil
	t.points = t.points[:last]
	c.recycle(r)
}

// newRecord adds a key to the table.
func (c *core) newRecord(key string) *record {
	var r *record
	if n := len(c.freeRecords); n > 0 {
		r, c.freeRecords = c.freeRecords[n-1], c.freeRecords[:n-1]
	} else {
		r = &record{}
	}
	r.key = key
	c.records[key] = r
	if c.index != nil {
		c.indexRecord(r)
	}
	return r
}

// recycle removes a key that nobody holds or awaits.
func (c *core) recycle(r *record) {
	if len(r.holders) > 0 || r.head != nil {
		return
	}
	delete(c.records, r.key)
	if c.index != nil {
		c.index.Delete(r.key)
	}
	r.key = ""
	if len(c.freeRecords) < keepFree && cap(r.holders) <= keepCap {
		c.freeRecords = append(c.freeRecords, r)
	}
}

// indexRecord adds a key to the ordered index, or gives the index up when it has been maintained
// without use for about as many insertions as building it again will cost.
func (c *core) indexRecord(r *record) {
	if c.held.len+c.waiting.len > 0 {
		c.idle = 0
	} else if c.idle++; c.idle > 1024+2*len(c.records) {
		c.index, c.idle = nil, 0
		return
	}
	c.index.Set(r.key, r)
}

// needIndex builds the ordered index for the first interval.
func (c *core) needIndex() {
	c.idle = 0
	if c.index != nil {
		return
	}
	c.index = &btree.Map[string, *record]{}
	for key, r := range c.records {
		c.index.Set(key, r)
	}
}

// recordsIn calls f for the records with a key in s, in key order.
func (c *core) recordsIn(s span, f func(*record)) {
	c.needIndex()
	c.index.Ascend(s.lo, func(key string, r *record) bool {
		if !s.reaches(key) {
			return false
		}
		f(r)
		return true
	})
}
