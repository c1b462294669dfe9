package locks

// record is one key that somebody locks or waits for.
type record struct {
	key     string
	holders []holder
	// The queue of requests for this key alone: upgrades first, then the others, each first come
	// first served.
	head, tail *wait
}

// holder is one owner's lock on a record. pos is the record's index in txn.points: with it a lock
// is taken off the owner's list without a search.
type holder struct {
	txn   *txn
	modes modeSet
	pos   int
}

// find returns the index of an owner's lock, or -1. Records have few holders; only a shared parent
// row has many.
func (r *record) find(t *txn) int {
	for i := range r.holders {
		if r.holders[i].txn == t {
			return i
		}
	}
	return -1
}

// modesOf returns what an owner holds on the record itself.
func (r *record) modesOf(t *txn) modeSet {
	if i := r.find(t); i >= 0 {
		return r.holders[i].modes
	}
	return 0
}

// link puts a wait into the queue: an upgrade behind the other upgrades, anything else at the end.
func (r *record) link(w *wait) {
	w.record, w.prev = r, r.lastBefore(w)
	if w.prev == nil {
		w.next, r.head = r.head, w
	} else {
		w.next, w.prev.next = w.prev.next, w
	}
	if w.next == nil {
		r.tail = w
	} else {
		w.next.prev = w
	}
}

// lastBefore returns the last wait that comes before w, which need not be in the queue.
func (r *record) lastBefore(w *wait) *wait {
	if w.record == r {
		return w.prev
	}
	last := r.tail
	for last != nil && !last.before(w) {
		last = last.prev
	}
	return last
}

func (r *record) unlink(w *wait) {
	if w.prev == nil {
		r.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		r.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.record, w.prev, w.next = nil, nil, nil
}

// txn is what the table knows of one owner. It exists while the owner holds or awaits something.
type txn struct {
	id         Owner
	serial     uint64 // tells two lives of the same owner or of a recycled struct apart
	points     []*record
	ranges     []*interval
	waits      []*wait
	blocks     map[*wait]struct{} // the waits that have this owner among their blockers
	pinned     bool
	connection uint64 // of the latest request

	// Scratch of one evaluation: the owner's place in the list being built, valid if mark is the
	// evaluation's number.
	mark   uint64
	markAt int
}

func (t *txn) holdsNothing() bool { return len(t.points) == 0 && len(t.ranges) == 0 }

func (t *txn) idle() bool { return t.holdsNothing() && len(t.waits) == 0 }
