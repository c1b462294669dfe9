package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// register is what is known of one register.
type register struct {
	readers map[int32][]int32 // by value read; 0 is the initial one
	values  map[int32]bool    // written by transactions that count, or read
	later   map[int32][]int32 // versions known to come later
	touches []touch
}

// touch is a transaction's use of a register: the version that it met first and
// the one that it left.
type touch struct {
	txn         int32
	first, last int32
}

// registerIndex is all registers of a history.
type registerIndex struct {
	*checker
	registers map[int32]*register
	writers   map[keyValue]writer
}

func indexRegisters(c *checker) *registerIndex {
	x := &registerIndex{checker: c, registers: map[int32]*register{}, writers: map[keyValue]writer{}}
	for t := range c.txns {
		x.writes(int32(t))
	}
	return x
}

func (x *registerIndex) writes(t int32) {
	ops := x.txns[t].Ops
	for i, op := range ops {
		if op.Kind != Write {
			continue
		}
		v := keyValue{op.Key, op.Value}
		if before, ok := x.writers[v]; ok {
			x.report.found(DuplicateWrite, op.Key, fmt.Sprintf("both write %d to %d", op.Value, op.Key), before.txn, t)
			continue
		}
		later := slices.ContainsFunc(ops[i+1:], func(o Op) bool { return o.Kind == Write && o.Key == op.Key })
		x.writers[v] = writer{t, !later}
	}
}

// observe finds out which transactions of unknown outcome happened.
func (x *registerIndex) observe() {
	for t := range x.txns {
		if x.txns[t].Outcome != Committed {
			continue
		}
		for _, op := range x.txns[t].Ops {
			if w, ok := x.writers[keyValue{op.Key, op.Value}]; ok && op.Kind == Read && x.txns[w.txn].Outcome == Unknown {
				x.counts[w.txn] = true
			}
		}
	}
}

func (x *registerIndex) register(key int32) *register {
	r := x.registers[key]
	if r == nil {
		r = &register{readers: map[int32][]int32{}, values: map[int32]bool{}, later: map[int32][]int32{}}
		x.registers[key] = r
	}
	return r
}

// judge reports what single reads show, and derives the dependencies.
func (x *registerIndex) judge() {
	updates := map[keyValue]int32{}
	for t := range x.txns {
		if x.counts[t] {
			x.within(int32(t), updates)
		}
	}
	for _, key := range sortedKeys(x.registers) {
		x.key(key, x.registers[key])
	}
}

func sortedKeys[V any](m map[int32]V) []int32 { return slices.Sorted(maps.Keys(m)) }

// use is what a transaction did with one register so far.
type use struct {
	touch
	read, wrote bool // first was read; something was written
}

func (x *registerIndex) within(t int32, updates map[keyValue]int32) {
	uses := map[int32]*use{}
	for _, op := range x.txns[t].Ops {
		if op.Kind != Read && op.Kind != Write {
			continue
		}
		u := uses[op.Key]
		if op.Kind == Read {
			x.read(t, op, u)
		}
		switch {
		case u == nil:
			uses[op.Key] = &use{touch{t, op.Value, op.Value}, op.Kind == Read, op.Kind == Write}
		case op.Kind == Write:
			u.last, u.wrote = op.Value, true
		case !u.wrote:
			u.last = op.Value
		}
	}
	for _, key := range sortedKeys(uses) {
		u, r := uses[key], x.register(key)
		r.touches = append(r.touches, u.touch)
		r.values[u.first], r.values[u.last] = true, true
		if !u.read || !u.wrote {
			continue
		}
		r.follows(u.first, u.last)
		if other, ok := updates[keyValue{key, u.first}]; ok {
			x.report.found(LostUpdate, key, fmt.Sprintf("both read %d in register %d and then overwrote it", u.first, key), other, t)
			continue
		}
		updates[keyValue{key, u.first}] = t
	}
}

// read judges one read; u is what the transaction did with the register before.
func (x *registerIndex) read(t int32, op Op, u *use) {
	if u != nil && u.last != op.Value {
		name := Internal
		if u.wrote {
			name = OwnWriteMissed
		}
		x.report.found(name, op.Key, fmt.Sprintf("register %d was %d to it, and then it read %d", op.Key, u.last, op.Value), t)
	}
	w, written := x.writers[keyValue{op.Key, op.Value}]
	switch {
	case op.Value == 0:
	case !written:
		x.report.found(UnwrittenRead, op.Key, fmt.Sprintf("nobody wrote %d to register %d", op.Value, op.Key), t)
	case w.txn == t && (u == nil || !u.wrote):
		x.report.found(FutureRead, op.Key, fmt.Sprintf("it read %d in register %d before it wrote it", op.Value, op.Key), t)
	case x.txns[w.txn].Outcome == Aborted:
		x.report.found(AbortedRead, op.Key, fmt.Sprintf("%d in register %d belongs to a transaction that was rolled back", op.Value, op.Key), w.txn, t)
	case w.txn != t && !w.final:
		x.report.found(IntermediateRead, op.Key, fmt.Sprintf("%d in register %d was overwritten by the transaction that wrote it", op.Value, op.Key), w.txn, t)
	}
	if u != nil && u.wrote {
		return
	}
	r := x.register(op.Key)
	r.values[op.Value] = true
	r.readers[op.Value] = append(r.readers[op.Value], t)
	if written && x.counts[w.txn] {
		x.depend(edge{from: w.txn, to: t, key: op.Key, before: op.Value, kind: wrEdge})
	}
}

func (r *register) follows(a, b int32) {
	if a != b && !slices.Contains(r.later[a], b) {
		r.later[a] = append(r.later[a], b)
	}
}

// key orders the versions of one register as far as it can be known.
func (x *registerIndex) key(key int32, r *register) {
	if x.options.SequentialKeys {
		x.sequential(r)
	}
	if x.options.LinearizableKeys {
		x.linearizable(r)
	}
	ordered := map[int32]bool{}
	for _, later := range r.later {
		for _, value := range later {
			ordered[value] = true
		}
	}
	// The initial version comes first; an edge to versions with an earlier one
	// would say nothing new.
	for _, value := range sortedKeys(r.values) {
		if value != 0 && !ordered[value] {
			r.follows(0, value)
		}
	}
	if loop := r.cycle(); loop != nil {
		x.report.found(CyclicVersions, key, fmt.Sprintf("of register %d the versions %v follow each other in a circle", key, loop), x.writersOf(key, loop)...)
		return
	}
	for _, before := range sortedKeys(r.later) {
		for _, after := range r.later[before] {
			x.versionEdges(key, r, before, after)
		}
	}
}

func (x *registerIndex) writersOf(key int32, values []int32) []int32 {
	var txns []int32
	for _, value := range values {
		if w, ok := x.writers[keyValue{key, value}]; ok {
			txns = append(txns, w.txn)
		}
	}
	return txns
}

func (x *registerIndex) versionEdges(key int32, r *register, before, after int32) {
	next, ok := x.writers[keyValue{key, after}]
	if !ok || !x.counts[next.txn] {
		return
	}
	if w, ok := x.writers[keyValue{key, before}]; ok && x.counts[w.txn] {
		x.depend(edge{from: w.txn, to: next.txn, key: key, before: before, after: after, kind: wwEdge})
	}
	for _, reader := range r.readers[before] {
		x.depend(edge{from: reader, to: next.txn, key: key, before: before, after: after, kind: rwEdge})
	}
}

// sequential orders versions by the order of each session.
func (x *registerIndex) sequential(r *register) {
	touches := slices.Clone(r.touches)
	slices.SortFunc(touches, func(a, b touch) int { return cmp.Compare(x.txns[a.txn].Begin, x.txns[b.txn].Begin) })
	last := map[int]int32{}
	for _, u := range touches {
		t := x.txns[u.txn]
		if before, ok := last[t.Process]; ok {
			r.follows(before, u.first)
		}
		if t.Outcome == Committed {
			last[t.Process] = u.last
		}
	}
}

// linearizable orders versions by time, as realtimeEdges does transactions.
func (x *registerIndex) linearizable(r *register) {
	starts := slices.Clone(r.touches)
	slices.SortFunc(starts, func(a, b touch) int { return cmp.Compare(x.txns[a.txn].Begin, x.txns[b.txn].Begin) })
	ends := slices.DeleteFunc(slices.Clone(starts), func(u touch) bool { return x.txns[u.txn].Outcome != Committed })
	slices.SortFunc(ends, func(a, b touch) int { return cmp.Compare(x.txns[a.txn].End, x.txns[b.txn].End) })
	var frontier []touch
	for _, u := range starts {
		for len(ends) > 0 && x.txns[ends[0].txn].End < x.txns[u.txn].Begin {
			ended := ends[0]
			ends = ends[1:]
			frontier = slices.DeleteFunc(frontier, func(f touch) bool { return x.txns[f.txn].End < x.txns[ended.txn].Begin })
			frontier = append(frontier, ended)
		}
		for _, f := range frontier {
			r.follows(f.last, u.first)
		}
	}
}

// cycle finds versions that are each later than the other.
func (r *register) cycle() []int32 {
	const open, done = 1, 2
	state := map[int32]int{}
	for _, start := range sortedKeys(r.later) {
		if state[start] != 0 {
			continue
		}
		path := []int32{start}
		next := []int{0}
		state[start] = open
		for len(path) > 0 {
			top := path[len(path)-1]
			i := next[len(next)-1]
			if i == len(r.later[top]) {
				state[top] = done
				path, next = path[:len(path)-1], next[:len(next)-1]
				continue
			}
			next[len(next)-1]++
			value := r.later[top][i]
			switch state[value] {
			case open:
				return slices.Clone(path[slices.Index(path, value):])
			case done:
			default:
				state[value] = open
				path, next = append(path, value), append(next, 0)
			}
		}
	}
	return nil
}
