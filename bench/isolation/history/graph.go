package history

// edgeKind is a kind of dependency, as a bit.
type edgeKind uint8

const (
	wwEdge edgeKind = 1 << iota
	wrEdge
	rwEdge
	processEdge
	realtimeEdge
)

// edge says that one transaction comes before another, and why: the versions of
// a key, as far as the kind has them.
type edge struct {
	from, to      int32
	key           int32
	before, after int32
	kind          edgeKind
}

// graph is the dependencies by the transaction that they leave.
type graph struct {
	start []int32 // of transaction t: edges[start[t]:start[t+1]]
	edges []edge
}

func newGraph(n int, edges []edge) *graph {
	g := &graph{start: make([]int32, n+1), edges: make([]edge, len(edges))}
	for _, e := range edges {
		g.start[e.from+1]++
	}
	for i := range n {
		g.start[i+1] += g.start[i]
	}
	next := append([]int32(nil), g.start...)
	for _, e := range edges {
		g.edges[next[e.from]] = e
		next[e.from]++
	}
	return g
}

func (g *graph) size() int { return len(g.start) - 1 }

func (g *graph) out(t int32) []edge { return g.edges[g.start[t]:g.start[t+1]] }

// walk is which edges a path may use. With apart, no two anti-dependencies may
// follow each other, so that a place is a transaction and whether it was
// reached by one: place 2t, or 2t+1 if it was.
type walk struct {
	kinds edgeKind
	apart bool
}

// places is the number of places per transaction.
func (w walk) places() int32 {
	if w.apart {
		return 2
	}
	return 1
}

// step is the place that an edge leads to from a place, or -1.
func (w walk) step(place int32, e edge) int32 {
	switch {
	case w.kinds&e.kind == 0:
		return -1
	case !w.apart:
		return e.to
	case e.kind != rwEdge:
		return 2 * e.to
	case place%2 == 1:
		return -1
	default:
		return 2*e.to + 1
	}
}

// components finds the strong components (Tarjan): for each place the number of
// its component, or -1 for one that has no cycle through it; and how many there are.
func (g *graph) components(w walk) (of []int32, count int32) {
	n := int32(g.size()) * w.places()
	t := &tarjan{graph: g, walk: w, of: make([]int32, n), index: make([]int32, n), low: make([]int32, n)}
	for i := range t.of {
		t.of[i] = -1
	}
	for place := range n {
		if t.index[place] == 0 {
			t.visit(place)
		}
	}
	return t.of, t.count
}

// tarjan is the state of the search, with a stack of its own instead of the
// program's, which long chains of transactions would exhaust.
type tarjan struct {
	*graph
	walk
	of, index, low []int32 // index 0: not seen; low -1: in no open component any more
	count, seen    int32
	path           []frame
	open           []int32
}

type frame struct {
	place int32
	next  int32 // edge to follow next
}

func (t *tarjan) enter(place int32) {
	t.seen++
	t.index[place], t.low[place] = t.seen, t.seen
	t.open = append(t.open, place)
	t.path = append(t.path, frame{place, t.start[place/t.places()]})
}

func (t *tarjan) visit(root int32) {
	t.enter(root)
	for len(t.path) > 0 {
		top := &t.path[len(t.path)-1]
		place := top.place
		if top.next == t.start[place/t.places()+1] {
			t.path = t.path[:len(t.path)-1]
			t.leave(place)
			continue
		}
		to := t.step(place, t.edges[top.next])
		top.next++
		switch {
		case to < 0:
		case t.index[to] == 0:
			t.enter(to)
		case t.low[to] >= 0:
			t.low[place] = min(t.low[place], t.index[to])
		}
	}
}

// leave ends a place: the first of its component takes all of it off the stack.
func (t *tarjan) leave(place int32) {
	if len(t.path) > 0 {
		parent := t.path[len(t.path)-1].place
		t.low[parent] = min(t.low[parent], t.low[place])
	}
	if t.low[place] != t.index[place] {
		return
	}
	last := len(t.open) - 1
	single := t.open[last] == place
	for {
		member := t.open[last]
		t.open = t.open[:last]
		last--
		t.low[member] = -1
		if !single {
			t.of[member] = t.count
		}
		if member == place {
			break
		}
	}
	if !single {
		t.count++
	}
}
