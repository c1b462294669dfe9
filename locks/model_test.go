package locks

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naive is the lock table as the package comment describes it, in lists and without a thought for
// speed: no index, no edges, no pruning. After every change it looks at every wait again.
type naive struct {
	held   []naiveLock
	queue  []*naiveWait
	pinned map[Owner]bool
}

type naiveLock struct {
	owner Owner
	mode  Mode
	span  span
}

type naiveWait struct {
	naiveLock
	number             int
	upgrade, impatient bool
	state              waitState
}

// own returns the modes an owner has on all of a span.
func (n *naive) own(o Owner, s span) (set modeSet) {
	for _, l := range n.held {
		if l.owner == o && l.span.contains(s) {
			set |= 1 << l.mode
		}
	}
	return set
}

// inTheWay lists the locks and earlier requests that a request waits for.
func (n *naive) inTheWay(w *naiveWait) (holders []Owner, ahead bool) {
	clash := func(a, b naiveLock) bool {
		return a.owner != b.owner && a.span.overlaps(b.span) && a.mode.conflictsWith(1<<b.mode)
	}
	for _, l := range n.held {
		if clash(l, w.naiveLock) {
			holders = append(holders, l.owner)
		}
	}
	for _, a := range n.queue {
		before := a.upgrade && !w.upgrade || a.upgrade == w.upgrade && a.number < w.number
		if a == w || !before || !clash(a.naiveLock, w.naiveLock) {
			continue
		}
		waitsForUs := slices.ContainsFunc(n.held, func(l naiveLock) bool {
			return l.owner == w.owner && clash(l, a.naiveLock)
		})
		ahead = ahead || !waitsForUs
	}
	return holders, ahead
}

// decide says what becomes of a request now.
func (n *naive) decide(w *naiveWait) waitState {
	holders, ahead := n.inTheWay(w)
	voted := func(o Owner) bool { return n.pinned[o] }
	switch {
	case len(holders) == 0 && !ahead:
		return granted
	case w.impatient && (ahead || slices.ContainsFunc(holders, func(o Owner) bool { return !voted(o) })):
		return refused
	}
	return waiting
}

// acquire answers a request.
func (n *naive) acquire(w *naiveWait) {
	own := n.own(w.owner, w.span)
	if w.mode.coveredBy(own) {
		w.state = granted
		return
	}
	w.upgrade = own != 0
	w.state = n.decide(w)
	switch w.state {
	case granted:
		n.hold(w.naiveLock)
	case waiting:
		n.queue = append(n.queue, w)
	}
	n.settle()
}

// hold adds a lock unless another on the same span covers it; what it covers there goes.
func (n *naive) hold(l naiveLock) {
	if slices.ContainsFunc(n.held, func(h naiveLock) bool {
		return h.owner == l.owner && h.span == l.span && l.mode.coveredBy(1<<h.mode)
	}) {
		return
	}
	n.held = slices.DeleteFunc(n.held, func(h naiveLock) bool {
		return h.owner == l.owner && h.span == l.span && h.mode.coveredBy(1<<l.mode)
	})
	n.held = append(n.held, l)
}

// settle decides about the waits, in order of service, until nothing changes.
func (n *naive) settle() {
	slices.SortFunc(n.queue, func(a, b *naiveWait) int {
		if a.upgrade != b.upgrade {
			return map[bool]int{true: -1, false: 1}[a.upgrade]
		}
		return cmp.Compare(a.number, b.number)
	})
	for i := 0; i < len(n.queue); {
		w := n.queue[i]
		if w.state = n.decide(w); w.state == waiting {
			i++
			continue
		}
		if w.state == granted {
			n.hold(w.naiveLock)
		}
		n.queue = slices.Delete(n.queue, i, i+1)
		i = 0
	}
}

func (n *naive) drop(o Owner) {
	n.held = slices.DeleteFunc(n.held, func(l naiveLock) bool { return l.owner == o })
	for _, w := range n.queue {
		if w.owner == o {
			w.state = dropped
		}
	}
	n.queue = slices.DeleteFunc(n.queue, func(w *naiveWait) bool { return w.owner == o })
	delete(n.pinned, o)
	n.settle()
}

// machine runs the core and the naive table side by side.
type machine struct {
	core  *core
	model *naive
	waits map[*naiveWait]*wait
	count int
}

func (m *machine) acquire(t *rapid.T) {
	o := drawOwner(t)
	s := drawSpan(t)
	mode := Mode(rapid.IntRange(0, int(modes)-1).Draw(t, "mode"))
	how := Wait(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "how"))
	m.count++
	want := &naiveWait{naiveLock: naiveLock{o, mode, s.intern()}, number: m.count, impatient: how != WaitBlock}
	m.model.acquire(want)

	tx := m.core.txn(o)
	got, answer := m.core.acquire(tx, mode, s, how)
	m.core.retire(tx)
	if expected := [...]outcome{waiting: isQueued, granted: isGranted, refused: isRefused}[want.state]; answer != expected {
		t.Fatalf("%v %v %v: %d, want %d", o.Start, mode, s, answer, expected)
	}
	if got != nil {
		m.waits[want] = got
	}
}

func (m *machine) release(t *rapid.T) {
	o := drawOwner(t)
	m.model.drop(o)
	if tx := m.core.txns[o]; tx != nil {
		m.core.release(tx)
	}
}

func (m *machine) releaseSpan(t *rapid.T) {
	o, s := drawOwner(t), drawSpan(t)
	if m.model.pinned[o] {
		t.Skip("pinned")
	}
	m.model.held = slices.DeleteFunc(m.model.held, func(l naiveLock) bool { return l.owner == o && l.span == s.intern() })
	m.model.settle()
	if tx := m.core.txns[o]; tx != nil {
		m.core.releaseSpan(tx, s.intern())
		m.core.settle(tx)
	}
}

// cancel ends a wait, as a timeout or a deadlock verdict does.
func (m *machine) cancel(t *rapid.T) {
	if len(m.model.queue) == 0 {
		t.Skip("nobody waits")
	}
	i := rapid.IntRange(0, len(m.model.queue)-1).Draw(t, "wait")
	w := m.model.queue[i]
	w.state = abandoned
	m.model.queue = slices.Delete(m.model.queue, i, i+1)
	m.model.settle()
	m.core.cancel(m.waits[w], abandoned)
}

func (m *machine) pin(t *rapid.T) {
	tx := m.core.txns[drawOwner(t)]
	if tx == nil || tx.holdsNothing() {
		t.Skip("holds nothing")
	}
	tx.pinned = true
	m.model.pinned[tx.id] = true
}

// check compares the two tables and verifies the core's invariants.
func (m *machine) check(t *rapid.T) {
	if err := m.core.check(); err != nil {
		t.Fatal(err)
	}
	for w, got := range m.waits {
		if w.state != got.state {
			t.Fatalf("%v %v %v: state %d, want %d", w.owner.Start, w.mode, w.span, got.state, w.state)
		}
		if w.state != waiting {
			delete(m.waits, w)
		}
	}
	var got, want []string
	for _, tx := range m.core.txns {
		for _, l := range m.core.locksOf(tx, "") {
			got = append(got, fmt.Sprint(l.Owner, l.Mode, l.Span))
		}
	}
	for _, l := range m.model.held {
		want = append(want, fmt.Sprint(l.owner, l.mode, l.span.export()))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("held %v, want %v", got, want)
	}
}

func drawOwner(t *rapid.T) Owner {
	return Owner{Start: rapid.Uint64Range(1, 5).Draw(t, "owner")}
}

// drawSpan draws keys and intervals out of six keys: most of them meet.
func drawSpan(t *rapid.T) Span {
	lo := rapid.IntRange(0, 5).Draw(t, "lo")
	s := Span{Lo: []byte{'a' + byte(lo)}}
	if width := rapid.IntRange(-3, 6).Draw(t, "width"); width > 0 {
		s.Hi = []byte{'a' + byte(lo+width)}
	}
	return s
}

// TestModel holds the core against the naive table, call by call.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{core: newCore(), model: &naive{pinned: map[Owner]bool{}}, waits: map[*naiveWait]*wait{}}
		t.Repeat(map[string]func(*rapid.T){
			"acquire": m.acquire, "acquire again": m.acquire, "and again": m.acquire,
			"release": m.release, "unlock": m.releaseSpan, "cancel": m.cancel, "pin": m.pin,
			"": m.check,
		})
		for n := range uint64(6) {
			if tx := m.core.txns[Owner{Start: n}]; tx != nil {
				m.core.release(tx)
			}
		}
		if err := m.core.checkEmpty(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestIntervals holds the interval tree against a list.
func TestIntervals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree intervals
		var list []*interval
		for i := range rapid.IntRange(0, 60).Draw(t, "steps") {
			if len(list) > 0 && rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
				k := rapid.IntRange(0, len(list)-1).Draw(t, "which")
				tree.remove(list[k])
				list = slices.Delete(list, k, k+1)
			} else {
				s := drawSpan(t).intern()
				if s.point() {
					s.hi = s.lo + "\x00"
				}
				n := &interval{span: s, seq: uint64(i)}
				tree.insert(n)
				list = append(list, n)
			}
			query := drawSpan(t).intern()
			var got, want []*interval
			tree.overlapping(query, func(n *interval) { got = append(got, n) })
			for _, n := range list {
				if n.overlaps(query) {
					want = append(want, n)
				}
			}
			slices.SortFunc(want, func(a, b *interval) int { return map[bool]int{true: -1, false: 1}[a.less(b)] })
			if !slices.Equal(got, want) || tree.len != len(list) {
				t.Fatalf("%v: got %d intervals, want %d", query, len(got), len(want))
			}
		}
	})
}
