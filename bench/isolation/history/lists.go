package history

import (
	"fmt"
	"slices"
)

// keyValue names a version: a value of a key.
type keyValue struct{ key, value int32 }

// writer is who wrote a version.
type writer struct {
	txn   int32
	final bool // no later write of the same transaction to the key
}

// list is what is known of one list.
type list struct {
	order   []int32 // the longest read
	by      int32   // who read it
	reads   []listRead
	appends []keyValue // of transactions that count, {txn, value}
	// end[n] is the number of elements that transactions rolled back put among the
	// first n; nil when there are none.
	rolledBack []int32
}

type listRead struct {
	txn  int32
	op   int32
	own  bool // the transaction had appended before
	from int  // length without the transaction's own elements at the end
}

// listIndex is all lists of a history.
type listIndex struct {
	*checker
	lists   map[int32]*list
	writers map[keyValue]writer
}

func indexLists(c *checker) *listIndex {
	x := &listIndex{checker: c, lists: map[int32]*list{}, writers: map[keyValue]writer{}}
	for t := range c.txns {
		x.writes(int32(t))
	}
	return x
}

func (x *listIndex) list(key int32) *list {
	l := x.lists[key]
	if l == nil {
		l = &list{by: -1}
		x.lists[key] = l
	}
	return l
}

func (x *listIndex) writes(t int32) {
	ops := x.txns[t].Ops
	for i, op := range ops {
		if op.Kind != Append {
			continue
		}
		v := keyValue{op.Key, op.Value}
		if before, ok := x.writers[v]; ok {
			x.report.found(DuplicateWrite, op.Key, fmt.Sprintf("both append %d to %d", op.Value, op.Key), before.txn, t)
			continue
		}
		later := slices.ContainsFunc(ops[i+1:], func(o Op) bool { return o.Kind == Append && o.Key == op.Key })
		x.writers[v] = writer{t, !later}
		x.list(op.Key)
	}
}

// observe finds out which transactions of unknown outcome happened.
func (x *listIndex) observe() {
	for t := range x.txns {
		if x.txns[t].Outcome == Committed {
			x.longest(int32(t))
		}
	}
	for key, l := range x.lists {
		for _, value := range l.order {
			if w, ok := x.writers[keyValue{key, value}]; ok && x.txns[w.txn].Outcome == Unknown {
				x.counts[w.txn] = true
			}
		}
	}
}

func (x *listIndex) longest(t int32) {
	for _, op := range x.txns[t].Ops {
		if op.Kind != ReadList {
			continue
		}
		if l := x.list(op.Key); l.by < 0 || len(op.List) > len(l.order) {
			l.order, l.by = op.List, t
		}
	}
}

// judge reports what single reads show, and derives the dependencies.
func (x *listIndex) judge() {
	for t := range x.txns {
		if x.counts[t] {
			x.longest(int32(t))
		}
	}
	for t := range x.txns {
		if x.counts[t] {
			x.within(int32(t))
		}
	}
	updates := map[[3]int32]int32{}
	for t := range x.txns {
		if x.counts[t] {
			x.lostUpdates(int32(t), updates)
		}
	}
	for _, key := range sortedKeys(x.lists) {
		x.key(key, x.lists[key])
	}
}

// view is what a transaction must see of a list: nil, or what it read, and what
// it appended since.
type view struct {
	known bool
	list  []int32
	own   []int32
}

// within compares the reads of a transaction with each other and its own
// appends, and enters them with their lists.
func (x *listIndex) within(t int32) {
	views := map[int32]*view{}
	for i, op := range x.txns[t].Ops {
		if op.Kind != Append && op.Kind != ReadList {
			continue
		}
		v := views[op.Key]
		if v == nil {
			v = &view{}
			views[op.Key] = v
		}
		l := x.list(op.Key)
		if op.Kind == Append {
			v.own = append(v.own, op.Value)
			l.appends = append(l.appends, keyValue{t, op.Value})
			continue
		}
		x.compare(t, op, v)
		rest := len(op.List)
		for n := len(v.own); n > 0 && rest > 0 && op.List[rest-1] == v.own[n-1]; n-- {
			rest--
		}
		v.known, v.list = true, op.List[:rest]
		l.reads = append(l.reads, listRead{txn: t, op: int32(i), own: len(v.own) > 0, from: rest})
	}
}

func (x *listIndex) compare(t int32, op Op, v *view) {
	before, sees := cutSuffix(op.List, v.own)
	switch {
	case !sees:
		x.report.found(OwnWriteMissed, op.Key, fmt.Sprintf("it had appended %v to list %d, and then read %s", v.own, op.Key, shortList(op.List)), t)
	case v.known && !slices.Equal(before, v.list):
		x.report.found(Internal, op.Key, fmt.Sprintf("it had read list %d as %s, appended %v, and then read %s", op.Key, shortList(v.list), v.own, shortList(op.List)), t)
	}
	for _, value := range before {
		if w, ok := x.writers[keyValue{op.Key, value}]; ok && w.txn == t && !slices.Contains(v.own, value) {
			x.report.found(FutureRead, op.Key, fmt.Sprintf("it read %d in list %d before it appended it", value, op.Key), t)
		}
	}
}

func cutSuffix(list, suffix []int32) ([]int32, bool) {
	if len(list) < len(suffix) || !slices.Equal(list[len(list)-len(suffix):], suffix) {
		return list, false
	}
	return list[:len(list)-len(suffix)], true
}

// lostUpdates finds pairs that read one version of a list and then appended to
// it. Versions are told apart by length and last element.
func (x *listIndex) lostUpdates(t int32, updates map[[3]int32]int32) {
	ops := x.txns[t].Ops
	for i, op := range ops {
		same := func(o Op) bool { return o.Key == op.Key && (o.Kind == Append || o.Kind == ReadList) }
		if op.Kind != ReadList || slices.ContainsFunc(ops[:i], same) {
			continue
		}
		if !slices.ContainsFunc(ops[i+1:], func(o Op) bool { return o.Kind == Append && o.Key == op.Key }) {
			continue
		}
		version := [3]int32{op.Key, int32(len(op.List)), lastOf(op.List)}
		if other, ok := updates[version]; ok {
			x.report.found(LostUpdate, op.Key, fmt.Sprintf("both read list %d as %s and then appended to it", op.Key, shortList(op.List)), other, t)
			continue
		}
		updates[version] = t
	}
}

func lastOf(list []int32) int32 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1]
}

// key judges one list.
func (x *listIndex) key(key int32, l *list) {
	x.elements(key, l)
	versions := x.versions(key, l)
	unread := x.unread(l)
	for _, r := range l.reads {
		read := x.txns[r.txn].Ops[r.op].List
		x.values(key, l, r, read)
		if r.own {
			continue // its append stands between it and others
		}
		x.writeRead(key, r, read)
		if len(read) > len(l.order) || !slices.Equal(l.order[:len(read)], read) {
			continue
		}
		x.readWrite(key, r, lastOf(read), versions.from(len(read)), unread)
	}
	for i := 1; i < len(versions); i++ {
		a, b := versions[i-1], versions[i]
		x.depend(edge{from: a.txn, to: b.txn, key: key, before: a.value, after: b.value, kind: wwEdge})
	}
	if n := len(versions); n > 0 {
		for _, u := range unread {
			x.depend(edge{from: versions[n-1].txn, to: u.key, key: key, before: versions[n-1].value, after: u.value, kind: wwEdge})
		}
	}
}

// elements looks at the longest read by itself.
func (x *listIndex) elements(key int32, l *list) {
	x.duplicates(key, l.by, l.order)
	var bad int32
	l.rolledBack = make([]int32, len(l.order)+1)
	var dirty writer
	for i, value := range l.order {
		w, ok := x.writers[keyValue{key, value}]
		if ok && x.txns[w.txn].Outcome == Aborted {
			bad++
			dirty = w
		} else if bad > 0 && ok && dirty.txn >= 0 {
			x.report.found(DirtyUpdate, key, fmt.Sprintf("%d stands in list %d upon a value of a transaction that was rolled back", value, key), dirty.txn, w.txn)
			dirty.txn = -1
		}
		l.rolledBack[i+1] = bad
	}
	if bad == 0 {
		l.rolledBack = nil
	}
}

func (x *listIndex) duplicates(key, t int32, list []int32) {
	seen := make(map[int32]bool, len(list))
	for _, value := range list {
		if seen[value] {
			x.report.found(DuplicateElements, key, fmt.Sprintf("%d is in list %d twice", value, key), t)
			return
		}
		seen[value] = true
	}
}

// version is an element of the version order.
type version struct {
	position   int // in the longest read
	value, txn int32
}

type versions []version

// from is the first version at or behind a position, and whether there is one.
func (vs versions) from(position int) *version {
	i, _ := slices.BinarySearchFunc(vs, position, func(v version, p int) int { return v.position - p })
	if i == len(vs) {
		return nil
	}
	return &vs[i]
}

// versions is the longest read without what does not count.
func (x *listIndex) versions(key int32, l *list) versions {
	var all versions
	for i, value := range l.order {
		if w, ok := x.writers[keyValue{key, value}]; ok && x.counts[w.txn] {
			all = append(all, version{i, value, w.txn})
		}
	}
	return all
}

// unread lists appends that nobody saw: they come after everything that was.
func (x *listIndex) unread(l *list) []keyValue {
	seen := make(map[int32]bool, len(l.order))
	for _, value := range l.order {
		seen[value] = true
	}
	return slices.DeleteFunc(slices.Clone(l.appends), func(a keyValue) bool { return seen[a.value] })
}

// values reports what a read shows by itself.
func (x *listIndex) values(key int32, l *list, r listRead, read []int32) {
	prefix := len(read) <= len(l.order) && slices.Equal(l.order[:len(read)], read)
	if !prefix {
		x.report.found(IncompatibleOrder, key, fmt.Sprintf("list %d was read as %s and as %s", key, shortList(l.order), shortList(read)), l.by, r.txn)
		x.duplicates(key, r.txn, read)
	}
	if !prefix || l.rolledBack != nil && l.rolledBack[len(read)] > 0 {
		for _, value := range read {
			if w, ok := x.writers[keyValue{key, value}]; ok && x.txns[w.txn].Outcome == Aborted {
				x.report.found(AbortedRead, key, fmt.Sprintf("%d in list %d belongs to a transaction that was rolled back", value, key), w.txn, r.txn)
				break
			}
		}
	}
	if !prefix || r.txn == l.by {
		for _, value := range read {
			if _, ok := x.writers[keyValue{key, value}]; !ok {
				x.report.found(UnwrittenRead, key, fmt.Sprintf("nobody appended %d to list %d", value, key), r.txn)
				break
			}
		}
	}
	if len(read) > 0 {
		if w, ok := x.writers[keyValue{key, lastOf(read)}]; ok && w.txn != r.txn && !w.final {
			x.report.found(IntermediateRead, key, fmt.Sprintf("list %d was read as %s; who appended %d appended more", key, shortList(read), lastOf(read)), w.txn, r.txn)
		}
	}
}

func (x *listIndex) writeRead(key int32, r listRead, read []int32) {
	for _, value := range slices.Backward(read) {
		w, ok := x.writers[keyValue{key, value}]
		if ok && x.counts[w.txn] {
			x.depend(edge{from: w.txn, to: r.txn, key: key, before: value, kind: wrEdge})
			return
		}
	}
}

func (x *listIndex) readWrite(key int32, r listRead, last int32, next *version, unread []keyValue) {
	if next != nil {
		x.depend(edge{from: r.txn, to: next.txn, key: key, before: last, after: next.value, kind: rwEdge})
		return
	}
	for _, u := range unread {
		x.depend(edge{from: r.txn, to: u.key, key: key, before: last, after: u.value, kind: rwEdge})
	}
}

// depend enters a dependency of two transactions.
func (c *checker) depend(e edge) {
	if e.from != e.to {
		c.edges = append(c.edges, e)
	}
}
