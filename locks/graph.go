package locks

import (
	"slices"
	"sync"
	"time"
)

// WaitGraph knows who waits for whom in all lock tables of a node, and finds cycles the moment a
// wait begins or changes. The zero value is not usable; see NewWaitGraph.
type WaitGraph struct {
	begun chan struct{} // holds one token
	mu    struct {
		sync.Mutex // taken after a table's mutex, never before
		nodes      map[Owner]*graphNode
		deadlocks  []Deadlock // the latest ones, oldest first
		total      uint64
	}
}

// graphNode is one owner: the waits it is in, and how many waits point at it. An owner may be in
// several waits at once (one statement asks many shards) and needs all of them to end, so a cycle
// through any one is a deadlock.
type graphNode struct {
	waits []*wait
	in    int
}

// target is an edge of the graph: an owner waited for, and what it holds (none: it is ahead in the
// queue).
type target struct {
	owner Owner
	held  modeSet
}

// keepDeadlocks is how many deadlocks are remembered for views.
const keepDeadlocks = 100

// Deadlock is a cycle that was found: each member waits for the next one, the last for the first.
type Deadlock struct {
	Number  uint64    // counts the deadlocks of this node from 1
	Time    time.Time // when it was found
	Members []WaitInfo
	Victim  Owner
}

// NewWaitGraph returns an empty graph, to be shared by all tables of a node.
func NewWaitGraph() *WaitGraph {
	g := &WaitGraph{begun: make(chan struct{}, 1)}
	g.mu.nodes = map[Owner]*graphNode{}
	return g
}

// Deadlocks returns the latest deadlocks, oldest first, and how many there were in all.
func (g *WaitGraph) Deadlocks() ([]Deadlock, uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.mu.deadlocks), g.mu.total
}

// Waiting returns the number of owners that wait or are waited for.
func (g *WaitGraph) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.mu.nodes)
}

// Begun receives something after a wait began where there was none, at least once for any number of
// such moments. Who finds Waiting zero and then receives from it misses no wait.
func (g *WaitGraph) Begun() <-chan struct{} { return g.begun }

// apply takes over one table's changes in one step (half of them could show a cycle that never
// was), then looks for cycles. The caller holds the table's mutex.
func (g *WaitGraph) apply(over, moved []*wait) {
	g.mu.Lock()
	defer g.mu.Unlock()
	empty := len(g.mu.nodes) == 0
	for _, w := range over {
		g.replaceLocked(w, nil)
	}
	for _, w := range moved {
		if w.state == waiting {
			g.replaceLocked(w, targetsOf(w.edges))
		}
	}
	if empty && len(g.mu.nodes) > 0 {
		select {
		case g.begun <- struct{}{}:
		default:
		}
	}
	for _, w := range moved {
		g.breakCyclesLocked(w)
	}
}

func targetsOf(edges []edge) []target {
	targets := make([]target, len(edges))
	for i, e := range edges {
		targets[i] = target{owner: e.txn.id, held: e.held}
	}
	return targets
}

// replaceLocked sets whom a wait waits for; nobody means that the wait is over.
func (g *WaitGraph) replaceLocked(w *wait, targets []target) {
	was, is := len(w.targets) > 0, len(targets) > 0
	for _, t := range targets {
		g.nodeLocked(t.owner).in++
	}
	switch {
	case is && !was:
		n := g.nodeLocked(w.owner)
		n.waits = append(n.waits, w)
	case was && !is:
		n := g.mu.nodes[w.owner]
		i := slices.Index(n.waits, w)
		n.waits = slices.Delete(n.waits, i, i+1)
		g.forgetLocked(w.owner, n)
	}
	for _, t := range w.targets {
		n := g.mu.nodes[t.owner]
		n.in--
		g.forgetLocked(t.owner, n)
	}
	w.targets = targets
}

func (g *WaitGraph) nodeLocked(o Owner) *graphNode {
	n := g.mu.nodes[o]
	if n == nil {
		n = &graphNode{}
		g.mu.nodes[o] = n
	}
	return n
}

func (g *WaitGraph) forgetLocked(o Owner, n *graphNode) {
	if n.in == 0 && len(n.waits) == 0 {
		delete(g.mu.nodes, o)
	}
}

// breakCyclesLocked sends a verdict to one wait of every cycle through w. A verdict names a wait,
// not a transaction: whoever receives it checks under its table's mutex that the wait is not over
// (rule H4). Until then the graph looks past the doomed wait.
func (g *WaitGraph) breakCyclesLocked(w *wait) {
	if mutated("2.3.cycle-undetected") {
		return
	}
	for len(w.targets) > 0 && !w.doomed() {
		cycle := g.cycleLocked(w)
		if cycle == nil {
			return
		}
		cycle = shorten(cycle)
		victim := slices.MinFunc(cycle, compareVictims)
		victim.doom(g.rememberLocked(cycle, victim))
	}
}

// compareVictims orders by what a rollback would lose: the fewest rows written, of equals the
// youngest transaction.
func compareVictims(a, b *wait) int {
	switch {
	case a.weight != b.weight && mutated("2.3.heaviest-victim"):
		return b.weight - a.weight
	case a.weight != b.weight:
		return a.weight - b.weight
	case a.owner != b.owner && mutated("2.3.oldest-victim"):
		return compareOwners(a.owner, b.owner)
	case a.owner != b.owner:
		return compareOwners(b.owner, a.owner)
	}
	return compareWaits(a, b)
}

// cycleLocked returns a shortest cycle through w: waits of which each one's owner is a target of
// the wait before, beginning with w. An owner nobody waits for is in no cycle, which answers the
// common case (one more waiter at the end of a queue) without a search.
func (g *WaitGraph) cycleLocked(w *wait) []*wait {
	if n := g.mu.nodes[w.owner]; n == nil || n.in == 0 {
		return nil
	}
	from := map[*wait]*wait{w: nil}
	seen := map[Owner]bool{}
	for queue := []*wait{w}; len(queue) > 0; queue = queue[1:] {
		for _, t := range queue[0].targets {
			if t.owner == w.owner {
				return pathTo(queue[0], from)
			}
			n := g.mu.nodes[t.owner]
			if seen[t.owner] || n == nil {
				continue
			}
			seen[t.owner] = true
			for _, next := range n.waits {
				if !next.doomed() {
					from[next] = queue[0]
					queue = append(queue, next)
				}
			}
		}
	}
	return nil
}

func pathTo(w *wait, from map[*wait]*wait) (path []*wait) {
	for ; w != nil; w = from[w] {
		path = append(path, w)
	}
	slices.Reverse(path)
	return path
}

// shorten leaves out the waits that only stand between others in a queue. The table names just the
// nearest obstacle (see evaluate), so a path may run through requests that are in nobody's way:
// rolling one of them back would break nothing.
func shorten(cycle []*wait) []*wait {
	short := cycle[:1:1]
	for i := 0; i < len(cycle)-1; {
		next := i + 1
		for j := len(cycle) - 1; j > next; j-- {
			if direct(cycle[i], cycle[j-1], cycle[j]) {
				next = j
			}
		}
		short, i = append(short, cycle[next]), next
	}
	return short
}

// direct reports whether w itself waits for the owner of blocker, which the path reaches through
// via: because blocker is a conflicting request for the same key further ahead, or because its
// owner holds what via waits for and w asks for the same key.
func direct(w, via, blocker *wait) bool {
	if w.table == blocker.table && w.span == blocker.span && blocker.before(w) &&
		w.mode.conflictsWith(1<<blocker.mode) {
		return true
	}
	if w.table != via.table || w.span != via.span {
		return false
	}
	return slices.ContainsFunc(via.targets, func(t target) bool {
		return t.owner == blocker.owner && w.mode.conflictsWith(t.held)
	})
}

func (g *WaitGraph) rememberLocked(cycle []*wait, victim *wait) *Deadlock {
	d := Deadlock{Victim: victim.owner, Time: time.Now()}
	for _, w := range cycle {
		info := w.info()
		for _, t := range w.targets {
			info.Blockers = append(info.Blockers, t.owner)
		}
		d.Members = append(d.Members, info)
	}
	return g.keepLocked(d)
}

// Remember adds a deadlock that a detector elsewhere found to the latest ones
// and gives it a number of this node.
func (g *WaitGraph) Remember(d Deadlock) *Deadlock {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keepLocked(d)
}

func (g *WaitGraph) keepLocked(d Deadlock) *Deadlock {
	g.mu.total++
	d.Number = g.mu.total
	if len(g.mu.deadlocks) == keepDeadlocks {
		g.mu.deadlocks = slices.Delete(g.mu.deadlocks, 0, 1)
	}
	g.mu.deadlocks = append(g.mu.deadlocks, d)
	return &d
}
