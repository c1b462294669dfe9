package txn_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// record is one transaction of a history: committed, or perhaps.
type record struct {
	id         int
	name       string
	begin, end time.Duration // it took effect in between
	unknown    bool          // whether it committed was never said
	ops        []op
}

// op is a read of a key, and the write over it if write is not empty. Every
// value written is unique, so that a read names its writer and a write, which
// reads first, the version it replaces.
type op struct {
	key         int
	read, write string
}

func (r *record) String() string {
	return fmt.Sprintf("%d %s [%v..%v] %+v", r.id, r.name, r.begin, r.end, r.ops)
}

type version struct {
	key   int
	value string
}

// Kinds of edges: "comes before" for a reason.
type edgeKind uint8

const (
	inTime    edgeKind = iota // ended before the other began
	readFrom                  // the other read what this one wrote
	overtaken                 // the other overwrote what this one read
)

type edge struct {
	to   int
	kind edgeKind
}

// graph has a node for each transaction and, at n+i, a node for the moment at
// which the i-th of them ended: real time is a chain of moments.
type graph struct {
	records []*record
	edges   [][]edge
}

// explain returns an error if no order explains the history. Adya's cycles
// ("Weak Consistency", 1999), with real time as one more kind of edge: under
// strict serializability no cycle at all; under strong snapshot isolation none
// but those with two anti-dependencies in a row.
func explain(history []*record, snapshot bool) error {
	g := &graph{records: observed(history)}
	if err := g.build(); err != nil {
		return err
	}
	edges := g.edges
	if snapshot {
		edges = apartOvertaken(edges)
	}
	cycle := shortestCycle(edges)
	if cycle == nil {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "a cycle of %d:", len(cycle))
	for _, v := range cycle {
		if v %= len(g.edges); v < len(g.records) {
			fmt.Fprintf(&b, "\n  %s", g.records[v])
		} else {
			b.WriteString("\n  (and then, in real time)")
		}
	}
	return fmt.Errorf("%s", b.String())
}

// observed leaves out the transactions that may have failed and of which nobody
// has seen anything.
func observed(history []*record) []*record {
	seen := make(map[version]bool)
	for _, r := range history {
		for _, o := range r.ops {
			if o.write == "" || !r.unknown {
				seen[version{o.key, o.read}] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(history), func(r *record) bool {
		return r.unknown && !slices.ContainsFunc(r.ops, func(o op) bool { return o.write != "" && seen[version{o.key, o.write}] })
	})
}

func (g *graph) build() error {
	n := len(g.records)
	g.edges = make([][]edge, 2*n)
	writer, next := make(map[version]int), make(map[version]int)
	for i, r := range g.records {
		for _, o := range r.ops {
			if o.write == "" {
				continue
			}
			writer[version{o.key, o.write}] = i
			over := version{o.key, o.read}
			if other, ok := next[over]; ok {
				return fmt.Errorf("lost update: key %d, version %q overwritten twice:\n  %s\n  %s", o.key, o.read, g.records[other], r)
			}
			next[over] = i
		}
	}
	for i, r := range g.records {
		for _, o := range r.ops {
			from := version{o.key, o.read}
			if w, ok := writer[from]; ok {
				g.add(w, i, readFrom)
				if over, ok := next[from]; ok && over == w && w != i {
					return fmt.Errorf("key %d: %q is not the last value of its writer, and was read by\n  %s", o.key, o.read, r)
				}
			} else if o.read != initial(o.key) {
				return fmt.Errorf("key %d: %q was never committed, and was read by\n  %s", o.key, o.read, r)
			}
			if over, ok := next[from]; ok {
				g.add(i, over, overtaken)
			}
		}
	}
	g.addTime()
	return nil
}

func (g *graph) add(from, to int, kind edgeKind) {
	if from != to {
		g.edges[from] = append(g.edges[from], edge{to, kind})
	}
}

// addTime puts the ends of the transactions in a row; each transaction begins
// after the last end before its begin.
func (g *graph) addTime() {
	n := len(g.records)
	order := func(key func(*record) time.Duration) []int {
		out := make([]int, n)
		for i := range out {
			out[i] = i
		}
		slices.SortFunc(out, func(a, b int) int { return cmp.Compare(key(g.records[a]), key(g.records[b])) })
		return out
	}
	ends := order(func(r *record) time.Duration { return r.end })
	for place, i := range ends {
		g.add(i, n+place, inTime)
		if place > 0 {
			g.add(n+place-1, n+place, inTime)
		}
	}
	last := -1
	for _, i := range order(func(r *record) time.Duration { return r.begin }) {
		for last+1 < n && g.records[ends[last+1]].end < g.records[i].begin {
			last++
		}
		if last >= 0 {
			g.add(n+last, i, inTime)
		}
	}
}

// apartOvertaken returns a graph whose paths are those without two overtaken
// edges in a row: node v+m stands for v reached by one.
func apartOvertaken(edges [][]edge) [][]edge {
	m := len(edges)
	out := make([][]edge, 2*m)
	for v, es := range edges {
		for _, e := range es {
			if e.kind == overtaken {
				out[v] = append(out[v], edge{m + e.to, e.kind})
			} else {
				out[v] = append(out[v], e)
				out[m+v] = append(out[m+v], e)
			}
		}
	}
	return out
}

// shortestCycle returns the nodes of a cycle through some node that is on one,
// the shortest through it; nil if there is no cycle.
func shortestCycle(edges [][]edge) []int {
	const (
		unseen = iota
		open
		closed
	)
	state := make([]byte, len(edges))
	type step struct{ node, edge int }
	for start := range edges {
		if state[start] != unseen {
			continue
		}
		state[start] = open
		for path := []step{{start, 0}}; len(path) > 0; {
			top := &path[len(path)-1]
			if top.edge == len(edges[top.node]) {
				state[top.node] = closed
				path = path[:len(path)-1]
				continue
			}
			to := edges[top.node][top.edge].to
			top.edge++
			switch state[to] {
			case open:
				return cycleThrough(edges, to)
			case unseen:
				state[to] = open
				path = append(path, step{to, 0})
			}
		}
	}
	return nil
}

// cycleThrough is a search in breadth from a node to itself.
func cycleThrough(edges [][]edge, start int) []int {
	parent := make(map[int]int)
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		v := queue[0]
		for _, e := range edges[v] {
			if e.to == start {
				var cycle []int
				for ; v != start; v = parent[v] {
					cycle = append(cycle, v)
				}
				cycle = append(cycle, start)
				slices.Reverse(cycle)
				return cycle
			}
			if _, seen := parent[e.to]; !seen {
				parent[e.to] = v
				queue = append(queue, e.to)
			}
		}
	}
	return nil
}

// The checker knows the anomalies it is there for.
func TestExplain(t *testing.T) {
	at := func(id int, begin, end time.Duration, ops ...op) *record {
		return &record{id: id, begin: begin, end: end, ops: ops}
	}
	x0, y0 := initial(0), initial(1)
	for _, test := range []struct {
		name                   string
		history                []*record
		serializable, snapshot bool // can be explained
	}{
		{"one after the other", []*record{
			at(1, 0, 1, op{0, x0, "1"}), at(2, 2, 3, op{0, "1", "2"}), at(3, 4, 5, op{key: 0, read: "2"})}, true, true},
		{"a stale read", []*record{
			at(1, 0, 1, op{0, x0, "1"}), at(2, 2, 3, op{key: 0, read: x0})}, false, false},
		{"the same at one time", []*record{
			at(1, 0, 3, op{0, x0, "1"}), at(2, 2, 3, op{key: 0, read: x0})}, true, true},
		{"a lost update", []*record{
			at(1, 0, 9, op{0, x0, "1"}), at(2, 0, 9, op{0, x0, "2"})}, false, false},
		{"write skew", []*record{
			at(1, 0, 9, op{key: 0, read: x0}, op{1, y0, "1"}), at(2, 0, 9, op{key: 1, read: y0}, op{0, x0, "2"})}, false, true},
		{"half of a transaction", []*record{
			at(1, 0, 9, op{0, x0, "1"}, op{1, y0, "1"}), at(2, 0, 9, op{key: 0, read: "1"}, op{key: 1, read: y0})}, false, false},
		{"two snapshots that disagree on an order", []*record{
			at(1, 0, 9, op{0, x0, "1"}), at(2, 0, 9, op{1, y0, "2"}),
			at(3, 0, 9, op{key: 0, read: "1"}, op{key: 1, read: y0}), at(4, 0, 9, op{key: 0, read: x0}, op{key: 1, read: "2"})}, false, false},
		{"a read of what was rolled back", []*record{at(1, 0, 9, op{key: 0, read: "nobody's"})}, false, false},
		{"a read of a value overwritten by its own writer", []*record{
			at(1, 0, 9, op{0, x0, "1"}, op{0, "1", "2"}), at(2, 0, 9, op{key: 0, read: "1"})}, false, false},
		{"an unknown outcome that nobody saw", []*record{
			{id: 1, end: 1 << 62, unknown: true, ops: []op{{0, x0, "1"}}}, at(2, 2, 3, op{0, x0, "2"})}, true, true},
		{"an unknown outcome that somebody saw", []*record{
			{id: 1, end: 1 << 62, unknown: true, ops: []op{{0, x0, "1"}}}, at(2, 2, 3, op{key: 0, read: "1"}), at(3, 4, 5, op{key: 0, read: x0})}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for snapshot, ok := range map[bool]bool{false: test.serializable, true: test.snapshot} {
				if err := explain(test.history, snapshot); ok {
					require.NoError(t, err)
				} else {
					require.Error(t, err, "snapshot %v", snapshot)
				}
			}
		})
	}
}
