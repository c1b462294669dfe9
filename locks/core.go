package locks

import (
	"maps"
	"slices"

	"github.com/tidwall/btree"
)

// core is the lock table as a state machine: every method is a function of the state and its
// arguments, without clock, goroutine or lock. Requests are granted, queued or refused; releases
// make waits end. What happened to waits is collected in over and moved for the shell to pass on.
type core struct {
	records map[string]*record
	txns    map[Owner]*txn
	held    intervals
	waiting intervals
	// index holds the keys of records in order, for intervals to find what is inside them. It
	// exists only while intervals are in use; idle counts the insertions nobody needed.
	index *btree.Map[string, *record]
	idle  int

	seq    uint64 // arrivals, intervals
	serial uint64 // lives of owners
	mark   uint64 // evaluations
	passed bool   // the last evaluation passed by a request that waits for its own owner

	over  []*wait // ended since the shell last looked
	moved []*wait // began to wait, or wait for others than before

	freeRecords []*record
	freeTxns    []*txn
}

// Recycled structs are kept up to this number, and only when they have not grown large.
const (
	keepFree = 4096
	keepCap  = 64
)

func newCore() *core {
	return &core{records: map[string]*record{}, txns: map[Owner]*txn{}}
}

// outcome is the answer to a request.
type outcome uint8

const (
	isGranted outcome = iota
	isQueued
	isRefused
)

// txn returns the state of an owner, a new one if need be. Callers end with retire.
func (c *core) txn(id Owner) *txn {
	t := c.txns[id]
	if t != nil {
		return t
	}
	if n := len(c.freeTxns); n > 0 {
		t, c.freeTxns = c.freeTxns[n-1], c.freeTxns[:n-1]
	} else {
		t = &txn{}
	}
	c.serial++
	t.id, t.serial = id, c.serial
	c.txns[id] = t
	return t
}

// retire forgets an owner that neither holds nor awaits anything.
func (c *core) retire(t *txn) {
	if !t.idle() || c.txns[t.id] != t {
		return
	}
	if len(t.blocks) != 0 {
		panic("locks: an idle owner blocks " + t.id.String())
	}
	delete(c.txns, t.id)
	if len(c.freeTxns) < keepFree && cap(t.points) <= keepCap && cap(t.ranges) <= keepCap {
		*t = txn{points: t.points[:0], ranges: t.ranges[:0], waits: t.waits[:0], blocks: t.blocks}
		c.freeTxns = append(c.freeTxns, t)
	}
}

// acquire asks for one mode on one span. A queued request is described by the wait returned.
func (c *core) acquire(t *txn, m Mode, s Span, how Wait) (*wait, outcome) {
	if s.empty() {
		return nil, isGranted
	}
	if len(s.Hi) == 0 && c.acquireFree(t, m, s.Lo) {
		return nil, isGranted
	}
	w := &wait{mode: m, span: s.intern(), owner: t.id, serial: t.serial, txn: t}
	own := c.ownModes(t, w.span)
	if m.coveredBy(own) {
		return nil, isGranted
	}
	c.seq++
	w.seq, w.upgrade, w.impatient = c.seq, own != 0 && !mutated("2.2.upgrade-waits-in-line"), how != WaitBlock
	edges := c.evaluate(w, false)
	switch {
	case len(edges) == 0:
		w.state = granted
		overtakes := w.upgrade || c.passed
		c.grant(t, m, w.span)
		if overtakes {
			c.reconsiderOverlaps(w)
		}
		if len(t.waits) > 0 {
			c.settle(t)
		}
		return nil, isGranted
	case w.impatient && !resolving(edges):
		return nil, isRefused
	}
	w.passes = c.passed
	c.enqueue(w, edges)
	if w.upgrade {
		c.reconsiderOverlaps(w)
	}
	return w, isQueued
}

// acquireFree is the common case: a key that nobody waits for or holds against the request, in a
// table without intervals. It allocates nothing but the key.
func (c *core) acquireFree(t *txn, m Mode, key []byte) bool {
	if c.held.len+c.waiting.len > 0 {
		return false
	}
	r := c.records[string(key)]
	if r == nil {
		c.hold(t, m, c.newRecord(string(key)))
		return true
	}
	if r.head != nil {
		return false
	}
	for i := range r.holders {
		if h := &r.holders[i]; h.txn != t && m.conflictsWith(h.modes) {
			return false
		}
	}
	c.hold(t, m, r)
	return true
}

// ownModes returns what an owner holds on all of a span already: on the key itself, and by
// intervals that contain the span.
func (c *core) ownModes(t *txn, s span) (own modeSet) {
	if s.point() {
		if r := c.records[s.lo]; r != nil {
			own = r.modesOf(t)
		}
	}
	collect := func(n *interval) {
		if n.txn == t && n.contains(s) {
			own |= n.modes
		}
	}
	if len(t.ranges) > 16 {
		c.held.overlapping(s, collect)
		return own
	}
	for _, n := range t.ranges {
		collect(n)
	}
	return own
}

// resolving reports whether a request waits for nothing but locks of transactions that have voted:
// these are about to go (rule H15).
func resolving(edges []edge) bool {
	if mutated("H15.voted-are-skipped") {
		return false
	}
	for _, e := range edges {
		if !e.txn.pinned || e.ahead {
			return false
		}
	}
	return true
}

// grant records a lock.
func (c *core) grant(t *txn, m Mode, s span) {
	if s.point() {
		r := c.records[s.lo]
		if r == nil {
			r = c.newRecord(s.lo)
		}
		c.hold(t, m, r)
		return
	}
	for _, n := range t.ranges {
		if n.span == s {
			n.modes = n.modes.with(m)
			return
		}
	}
	c.needIndex()
	c.seq++
	n := &interval{span: s, txn: t, modes: 1 << m, seq: c.seq}
	t.ranges = append(t.ranges, n)
	c.held.insert(n)
}

// hold records a lock on a key.
func (c *core) hold(t *txn, m Mode, r *record) {
	if i := r.find(t); i >= 0 {
		r.holders[i].modes = r.holders[i].modes.with(m)
		return
	}
	r.holders = append(r.holders, holder{txn: t, modes: 1 << m, pos: len(t.points)})
	t.points = append(t.points, r)
}

// enqueue makes a request wait.
func (c *core) enqueue(w *wait, edges []edge) {
	if w.span.point() {
		r := c.records[w.span.lo]
		if r == nil { // blocked by an interval only
			r = c.newRecord(w.span.lo)
		}
		r.link(w)
	} else {
		c.needIndex()
		w.interval = &interval{span: w.span, txn: w.txn, wait: w, seq: w.seq}
		c.waiting.insert(w.interval)
	}
	w.txn.waits = append(w.txn.waits, w)
	c.setEdges(w, edges)
}

// setEdges replaces whom a wait waits for, on both sides.
func (c *core) setEdges(w *wait, edges []edge) {
	for _, e := range w.edges {
		delete(e.txn.blocks, w)
	}
	w.edges = edges
	for _, e := range edges {
		if e.txn.blocks == nil {
			e.txn.blocks = map[*wait]struct{}{}
		}
		e.txn.blocks[w] = struct{}{}
	}
	if len(edges) > 0 {
		c.moved = append(c.moved, w)
	}
}

// finish takes a wait out of the queues. Those who waited behind it are not looked at yet: settle.
func (c *core) finish(w *wait, s waitState) {
	if r := w.record; r != nil {
		r.unlink(w)
		c.recycle(r)
	} else {
		c.waiting.remove(w.interval)
		w.interval = nil
	}
	c.setEdges(w, nil)
	i := slices.Index(w.txn.waits, w)
	w.txn.waits = slices.Delete(w.txn.waits, i, i+1)
	w.state = s
	c.over = append(c.over, w)
}

// cancel ends a wait that its owner gave up.
func (c *core) cancel(w *wait, s waitState) {
	c.finish(w, s)
	c.settle(w.txn)
}

// settle looks again at everyone who waits for t, after t gave up a lock or a place in a queue, in
// the order of service. Waits that are refused make room in turn, so it repeats until quiet. Owners
// that are left without locks and waits are forgotten.
func (c *core) settle(t *txn) {
	for work := []*txn{t}; len(work) > 0; work = work[1:] {
		t := work[0]
		// The owner's own requests too: they may have passed by a wait that it blocked until now.
		again := slices.AppendSeq(slices.Clone(t.waits), maps.Keys(t.blocks))
		slices.SortFunc(again, compareWaits)
		for _, w := range again {
			if w.state != waiting {
				continue
			}
			// A refusal makes room in the queue; a grant changes what the owner's other requests
			// may pass by.
			if c.reconsider(w) == isRefused || w.state == granted && len(w.txn.waits) > 0 {
				work = append(work, w.txn)
			}
		}
		c.retire(t)
	}
}

// reconsider decides about a wait anew.
func (c *core) reconsider(w *wait) outcome {
	edges, passed := c.evaluate(w, false), c.passed
	switch {
	case len(edges) == 0:
		// The lock is recorded first: the record must not be recycled in between.
		c.grant(w.txn, w.mode, w.span)
		c.finish(w, granted)
		if passed {
			c.reconsiderOverlaps(w)
		}
		return isGranted
	case w.impatient && !resolving(edges):
		c.finish(w, refused)
		return isRefused
	case !slices.Equal(edges, w.edges):
		c.setEdges(w, edges)
	}
	if passed && !w.passes {
		// Those behind relied on this wait to stand for the ones it passes by now.
		w.passes = true
		c.reconsiderOverlaps(w)
	}
	return isQueued
}

// reconsiderOverlaps looks at the requests that an upgrade, or a grant beside earlier requests,
// overtook: they wait for it now, or for those it passed by.
func (c *core) reconsiderOverlaps(up *wait) {
	var found []*wait
	add := func(w *wait) {
		overtaken := up.state == granted || up.before(w)
		if overtaken && w.txn != up.txn && w.mode.conflictsWith(1<<up.mode) {
			found = append(found, w)
		}
	}
	queue := func(r *record) {
		for w := r.head; w != nil; w = w.next {
			add(w)
		}
	}
	if !up.span.point() {
		c.recordsIn(up.span, queue)
	} else if r := c.records[up.span.lo]; r != nil {
		queue(r)
	}
	c.waiting.overlapping(up.span, func(n *interval) { add(n.wait) })
	slices.SortFunc(found, compareWaits)
	for _, w := range found {
		if w.state == waiting && c.reconsider(w) != isQueued {
			c.settle(w.txn)
		}
	}
}
