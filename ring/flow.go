package ring

import "math"

// flow is a minimum-cost maximum-flow problem on a small directed graph, solved by successive
// cheapest augmenting paths (Ford and Fulkerson; Bellman-Ford with a queue for the paths, since
// edges may have negative cost). Everything is visited in insertion order: the result depends on
// nothing else.
type flow struct {
	edges []flowEdge
	out   [][]int // edges by vertex
}

// flowEdge is one direction of an edge; the other direction is the edge with the last bit flipped.
type flowEdge struct {
	to       int
	capacity int // what can still be sent
	cost     int
}

func newFlow(vertices int) *flow { return &flow{out: make([][]int, vertices)} }

// add appends an edge and returns its number.
func (f *flow) add(from, to, capacity, cost int) int {
	n := len(f.edges)
	f.edges = append(f.edges, flowEdge{to, capacity, cost}, flowEdge{from, 0, -cost})
	f.out[from] = append(f.out[from], n)
	f.out[to] = append(f.out[to], n+1)
	return n
}

// used returns what edge n carries.
func (f *flow) used(n int) int { return f.edges[n^1].capacity }

// solve sends as much as possible from source to sink, as cheaply as possible, and returns how
// much that is.
func (f *flow) solve(source, sink int) (sent int) {
	for {
		via := f.cheapest(source, sink)
		if via == nil {
			return sent
		}
		amount := math.MaxInt
		for v := sink; v != source; v = f.edges[via[v]^1].to {
			amount = min(amount, f.edges[via[v]].capacity)
		}
		for v := sink; v != source; v = f.edges[via[v]^1].to {
			f.edges[via[v]].capacity -= amount
			f.edges[via[v]^1].capacity += amount
		}
		sent += amount
	}
}

// cheapest returns, for every vertex, the edge by which a cheapest path from source enters it, or
// nil if sink cannot be reached.
func (f *flow) cheapest(source, sink int) []int {
	const unreached = math.MaxInt
	cost, via := make([]int, len(f.out)), make([]int, len(f.out))
	queued := make([]bool, len(f.out))
	for v := range cost {
		cost[v] = unreached
	}
	cost[source] = 0
	for queue := []int{source}; len(queue) > 0; queue = queue[1:] {
		v := queue[0]
		queued[v] = false
		for _, n := range f.out[v] {
			e := f.edges[n]
			if e.capacity == 0 || cost[v]+e.cost >= cost[e.to] {
				continue
			}
			cost[e.to], via[e.to] = cost[v]+e.cost, n
			if !queued[e.to] {
				queued[e.to] = true
				queue = append(queue, e.to)
			}
		}
	}
	if cost[sink] == unreached {
		return nil
	}
	return via
}
