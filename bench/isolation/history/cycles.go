package history

import "slices"

// class is a class of cycles: which edges they may have and which one they must
// have.
type class struct {
	walk
	must    edgeKind
	variant string // "", process, realtime
}

// The classes, the gravest first. A cycle's name follows from its own edges.
func classes() []class {
	var all []class
	for _, v := range []struct {
		name string
		kind edgeKind
	}{{"", 0}, {process, processEdge}, {realtime, realtimeEdge}} {
		all = append(all,
			class{walk{wwEdge | v.kind, false}, wwEdge, v.name},
			class{walk{wwEdge | wrEdge | v.kind, false}, wrEdge, v.name},
			class{walk{wwEdge | wrEdge | rwEdge | v.kind, true}, rwEdge, v.name},
			class{walk{wwEdge | wrEdge | rwEdge | v.kind, false}, rwEdge, v.name},
		)
	}
	return all
}

// classesPerVariant is the length of one variant in classes.
const classesPerVariant = 4

// Bounds of the search for examples: edges that are tried in one component, and
// places that are visited for one class in all.
const (
	triesPerComponent = 64
	visitsPerClass    = 4 << 20
	visitsPerTry      = 1 << 17
)

// search looks for cycles.
type search struct {
	graph   *graph
	report  *Report
	covered [][]bool // by class: transactions in a component where it was found
	visits  int
}

// newSearch keeps only the dependencies that can be part of a cycle.
func newSearch(n int, edges []edge, report *Report) *search {
	whole := newGraph(n, edges)
	of, count := whole.components(walk{kinds: wwEdge | wrEdge | rwEdge | processEdge | realtimeEdge})
	if count == 0 {
		return &search{report: report}
	}
	var kept []edge
	for _, e := range edges {
		if of[e.from] >= 0 && of[e.from] == of[e.to] {
			kept = append(kept, e)
		}
	}
	return &search{graph: newGraph(n, kept), report: report}
}

func (s *search) run() {
	if s.graph == nil {
		return
	}
	for i, c := range classes() {
		s.covered = append(s.covered, make([]bool, s.graph.size()))
		s.visits = 0
		s.class(i, c)
	}
}

// class reports cycles of one class. Components that a gentler variant covers
// are left out: what needs no edge of time is not blamed on it.
func (s *search) class(i int, c class) {
	of, count := s.graph.components(c.walk)
	if count == 0 {
		return
	}
	excluded := make([]bool, count)
	for lower := i % classesPerVariant; lower < i; lower += classesPerVariant {
		s.exclude(excluded, of, c.walk, s.covered[lower])
	}
	apart := make([]bool, count) // components in which the class before found something
	if i%classesPerVariant == classesPerVariant-1 {
		for lower := classesPerVariant - 2; lower < i; lower += classesPerVariant {
			s.exclude(apart, of, c.walk, s.covered[lower])
		}
	}
	candidates := make([][]edge, count)
	for _, e := range s.graph.edges {
		if e.kind != c.must {
			continue
		}
		if at := inside(of, c.walk, e); at >= 0 {
			candidates[at] = append(candidates[at], e)
		}
	}
	for place, at := range of {
		if at >= 0 && len(candidates[at]) > 0 {
			s.covered[i][int32(place)/c.places()] = true
		}
	}
	for at, edges := range candidates {
		if len(edges) > 0 && !excluded[at] {
			s.component(c, of, int32(at), edges, apart[at])
		}
	}
}

// inside is the component that an edge is in, or -1.
func inside(of []int32, w walk, e edge) int32 {
	from := e.from * w.places()
	to := w.step(from, e)
	if to < 0 || of[to] < 0 {
		return -1
	}
	for place := from; place < from+w.places(); place++ {
		if of[place] == of[to] && w.step(place, e) == to {
			return of[to]
		}
	}
	return -1
}

func (s *search) exclude(excluded []bool, of []int32, w walk, covered []bool) {
	for place, at := range of {
		if at >= 0 && covered[int32(place)/w.places()] {
			excluded[at] = true
		}
	}
}

// component reports cycles of one component, each through another edge.
// onlySkew says that weaker cycles than those with adjacent anti-dependencies
// are known already.
func (s *search) component(c class, of []int32, at int32, candidates []edge, onlySkew bool) {
	member := func(place int32) bool { return of[place] == at }
	known := map[[2]int32]bool{}
	found := 0
	stride := max(1, len(candidates)/triesPerComponent)
	for i := 0; i < len(candidates); i += stride {
		e := candidates[i]
		if known[[2]int32{e.from, e.to}] || s.visits > visitsPerClass {
			continue
		}
		cycle := s.best(c, e, member, onlySkew)
		if cycle == nil {
			continue
		}
		for _, step := range cycle {
			known[[2]int32{step.from, step.to}] = true
		}
		found++
		s.report.cycle(cycle)
	}
	if found > 0 || onlySkew {
		return
	}
	// The component proves that there is a cycle; the bounds hid it.
	for _, e := range candidates {
		if cycle := s.shortest(c.walk, e, member, nil, 0); cycle != nil {
			s.report.cycle(cycle)
			return
		}
	}
}

// best is the gravest cycle through an edge, or nil: with one anti-dependency
// rather than with several that are apart.
func (s *search) best(c class, e edge, member func(int32) bool, onlySkew bool) []edge {
	if !c.apart {
		var goal func(trail) bool
		if c.must == rwEdge && onlySkew {
			goal = func(t trail) bool { return t.adjacent }
		}
		return s.shortest(c.walk, e, member, goal, visitsPerTry)
	}
	one := walk{c.kinds &^ rwEdge, false}
	either := func(t int32) bool { return member(2*t) || member(2*t+1) }
	if cycle := s.shortest(one, e, either, nil, visitsPerTry); cycle != nil {
		return cycle
	}
	return s.shortest(c.walk, e, member, nil, visitsPerTry)
}

// trail is what must be known of a path besides where it is.
type trail struct {
	rw       bool // its last edge is an anti-dependency
	adjacent bool // two of them followed each other
}

// reached is an entry of the breadth-first queue.
type reached struct {
	place int32
	trail trail
	by    edge
	from  int32 // entry before
}

// shortest is the shortest path from the end of an edge back to its beginning,
// with that edge first, over places that are members. goal, if not nil, says
// whether a path will do; limit bounds the places visited, 0 = all.
func (s *search) shortest(w walk, first edge, member func(int32) bool, goal func(trail) bool, limit int) []edge {
	begin := first.to * w.places()
	if w.apart && first.kind == rwEdge {
		begin++
	}
	if !member(begin) {
		return nil
	}
	type state struct {
		place int32
		trail trail
	}
	start := trail{rw: first.kind == rwEdge}
	queue := []reached{{begin, start, first, -1}}
	seen := map[state]bool{{begin, reduced(start, goal)}: true}
	for at := 0; at < len(queue); at++ {
		q := queue[at]
		s.visits++
		if limit > 0 && at > limit {
			return nil
		}
		if q.place/w.places() == first.from {
			end := q.trail
			end.adjacent = end.adjacent || end.rw && first.kind == rwEdge
			if (!w.apart || !end.adjacent) && (goal == nil || goal(end)) {
				return path(queue, int32(at))
			}
		}
		for _, e := range s.graph.out(q.place / w.places()) {
			to := w.step(q.place, e)
			if to < 0 || !member(to) {
				continue
			}
			next := trail{rw: e.kind == rwEdge, adjacent: q.trail.adjacent || q.trail.rw && e.kind == rwEdge}
			key := state{to, reduced(next, goal)}
			if !seen[key] {
				seen[key] = true
				queue = append(queue, reached{to, next, e, int32(at)})
			}
		}
	}
	return nil
}

// reduced is the part of a trail that tells places apart: all of it where a goal
// asks for it.
func reduced(t trail, goal func(trail) bool) trail {
	if goal == nil {
		return trail{}
	}
	return t
}

func path(queue []reached, at int32) []edge {
	var edges []edge
	for ; at >= 0; at = queue[at].from {
		edges = append(edges, queue[at].by)
	}
	slices.Reverse(edges)
	return edges
}

// name says what a cycle is.
func name(cycle []edge) string {
	var kinds edgeKind
	anti, adjacent := 0, false
	for i, e := range cycle {
		kinds |= e.kind
		if e.kind == rwEdge {
			anti++
			adjacent = adjacent || cycle[(i+1)%len(cycle)].kind == rwEdge && len(cycle) > 1
		}
	}
	base := G0
	switch {
	case anti == 1:
		base = GSingle
	case adjacent:
		base = G2Item
	case anti > 1:
		base = GNonadjacent
	case kinds&wrEdge != 0:
		base = G1c
	}
	switch {
	case kinds&realtimeEdge != 0:
		return base + realtime
	case kinds&processEdge != 0:
		return base + process
	default:
		return base
	}
}
