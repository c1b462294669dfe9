package ring

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/zeebo/xxh3"
)

// NodeID names a node of the cluster. 0 is no node.
type NodeID uint64

// Node is a place for replicas.
type Node struct {
	ID NodeID
	// Zone is a failure domain: nodes that may fail together share it.
	Zone string
	// Capacity is the node's weight relative to the others; 0 counts as 1.
	Capacity float64
}

// Placement lists the nodes of each shard's replicas; the first one is the preferred owner.
type Placement map[ShardID][]NodeID

// ErrTooFewNodes says that there are fewer nodes than replicas of one shard.
var ErrTooFewNodes = errors.New("ring: too few nodes")

// Costs of the flow, each far above what all smaller ones can add up to: leaving a node below its
// share, moving a replica, and a tie-break that spreads the sets of nodes which share shards.
const (
	costBelowShare = -1 << 50
	costMove       = 1 << 28
	costTieMask    = 1<<10 - 1
)

// Place spreads rf replicas of every shard over the nodes; the package comment says what it
// promises. previous may be nil; nodes in it that are not in nodes count as gone. The result has
// the preferred owner first and then the replicas that stay, in their previous order, before the
// new ones. The error is ErrTooFewNodes, or describes an argument that makes no sense.
func Place(shards []ShardID, nodes []Node, rf int, previous Placement) (Placement, error) {
	p, err := newPlacing(shards, nodes, rf, previous)
	if err != nil {
		return nil, err
	}
	sets := p.replicas()
	owners := p.owners(sets)
	out := make(Placement, len(p.shards))
	for i, s := range p.shards {
		out[s] = p.order(s, sets[i], owners[i])
	}
	return out, nil
}

// placing is one call of Place: the arguments in a fixed order and what follows from them.
type placing struct {
	shards   []ShardID
	nodes    []Node
	zones    []string
	zoneOf   []int // by node
	rf       int
	perZone  int       // most replicas of one shard in one zone
	share    []float64 // replicas due to each node
	previous Placement
}

func newPlacing(shards []ShardID, nodes []Node, rf int, previous Placement) (*placing, error) {
	p := &placing{shards: slices.Clone(shards), nodes: slices.Clone(nodes), rf: rf, previous: previous}
	slices.Sort(p.shards)
	slices.SortFunc(p.nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	if rf < 1 {
		return nil, fmt.Errorf("ring: %d replicas", rf)
	}
	if len(slices.Compact(slices.Clone(p.shards))) != len(shards) {
		return nil, errors.New("ring: a shard is listed twice")
	}
	for i := range p.nodes {
		n := &p.nodes[i]
		if n.ID == 0 || i > 0 && n.ID == p.nodes[i-1].ID {
			return nil, fmt.Errorf("ring: node %d is no name or is listed twice", n.ID)
		}
		if n.Capacity < 0 || math.IsNaN(n.Capacity) || math.IsInf(n.Capacity, 0) {
			return nil, fmt.Errorf("ring: node %d has capacity %v", n.ID, n.Capacity)
		}
		if n.Capacity == 0 {
			n.Capacity = 1
		}
		p.zones = append(p.zones, n.Zone)
	}
	if len(nodes) < rf {
		return nil, fmt.Errorf("%w: %d for %d replicas", ErrTooFewNodes, len(nodes), rf)
	}
	slices.Sort(p.zones)
	p.zones = slices.Compact(p.zones)
	p.measure()
	return p, nil
}

// measure computes how many replicas of a shard a zone must take at least, and each node's share:
// in proportion to capacity first among the zones and then inside them, except that nobody can
// take more than there are places (one per shard on a node, perZone per shard in a zone).
func (p *placing) measure() {
	members := make([][]int, len(p.zones))
	p.zoneOf = make([]int, len(p.nodes))
	for i, n := range p.nodes {
		z, _ := slices.BinarySearch(p.zones, n.Zone)
		p.zoneOf[i] = z
		members[z] = append(members[z], i)
	}
	room := func(perZone int) (sum int) {
		for _, m := range members {
			sum += min(perZone, len(m))
		}
		return sum
	}
	for p.perZone = 1; room(p.perZone) < p.rf; {
		p.perZone++
	}

	s := float64(len(p.shards))
	weights, limits := make([]float64, len(p.zones)), make([]float64, len(p.zones))
	for z, m := range members {
		limits[z] = s * float64(min(p.perZone, len(m)))
		for _, n := range m {
			weights[z] += p.nodes[n].Capacity
		}
	}
	zoneShares := divide(s*float64(p.rf), weights, limits)
	p.share = make([]float64, len(p.nodes))
	for z, m := range members {
		weights, limits := make([]float64, len(m)), make([]float64, len(m))
		for i, n := range m {
			weights[i], limits[i] = p.nodes[n].Capacity, s
		}
		for i, share := range divide(zoneShares[z], weights, limits) {
			p.share[m[i]] = share
		}
	}
}

// divide splits total in proportion to weights without exceeding limits; what one cannot take goes
// to the others.
func divide(total float64, weights, limits []float64) []float64 {
	shares, full := make([]float64, len(weights)), make([]bool, len(weights))
	for {
		rest, weight := total, 0.0
		for i := range weights {
			if full[i] {
				rest -= limits[i]
			} else {
				weight += weights[i]
			}
		}
		changed := false
		for i := range weights {
			if full[i] {
				continue
			}
			shares[i] = rest * weights[i] / weight
			if shares[i] >= limits[i] {
				shares[i], full[i], changed = limits[i], true, true
			}
		}
		if !changed {
			return shares
		}
	}
}

// bounds rounds a share down and up, forgiving the error of the floating-point division.
func bounds(share float64) (low, high int) {
	const slack = 1e-6
	return int(math.Floor(share + slack)), int(math.Ceil(share - slack))
}

// replicas chooses the nodes of every shard. The flow runs
//
//	source -rf-> shard -perZone-> (shard, zone) -1-> node -share-> sink
//
// A fraction share/S of every shard on every node is a flow, and all bounds are whole numbers, so a
// whole-numbered one within the bounds exists, and the cheapest of them is found.
func (p *placing) replicas() [][]int {
	s, z, n := len(p.shards), len(p.zones), len(p.nodes)
	source, sink := 0, 1
	shard := func(i int) int { return 2 + i }
	zone := func(i, j int) int { return 2 + s + i*z + j }
	node := func(j int) int { return 2 + s + s*z + j }
	f := newFlow(2 + s + s*z + n)
	edges := make([][]int, s)
	for i, id := range p.shards {
		f.add(source, shard(i), p.rf, 0)
		for j := range z {
			f.add(shard(i), zone(i, j), p.perZone, 0)
		}
		for j := range n {
			stays := slices.Contains(p.previous[id], p.nodes[j].ID)
			edges[i] = append(edges[i], f.add(zone(i, p.zoneOf[j]), node(j), 1, p.cost(id, j, stays)))
		}
	}
	for j := range n {
		low, high := bounds(p.share[j])
		f.add(node(j), sink, low, costBelowShare)
		f.add(node(j), sink, high-low, 0)
	}
	if sent := f.solve(source, sink); sent != s*p.rf {
		panic(fmt.Sprintf("ring: placed %d of %d replicas", sent, s*p.rf))
	}
	sets := make([][]int, s)
	for i := range sets {
		for j, e := range edges[i] {
			if f.used(e) == 1 {
				sets[i] = append(sets[i], j)
			}
		}
	}
	return sets
}

// owners chooses one node out of every set. Each node owns 1/rf of its replicas, rounded down or
// up, which is its share of the shards, rounded.
func (p *placing) owners(sets [][]int) []int {
	s, n := len(p.shards), len(p.nodes)
	source, sink := 0, 1
	f := newFlow(2 + s + n)
	count := make([]int, n)
	edges := make([][]int, s)
	for i, id := range p.shards {
		f.add(source, 2+i, 1, 0)
		for _, j := range sets[i] {
			stays := len(p.previous[id]) > 0 && p.previous[id][0] == p.nodes[j].ID
			edges[i] = append(edges[i], f.add(2+i, 2+s+j, 1, p.cost(id, j, stays)))
			count[j]++
		}
	}
	for j, c := range count {
		low, high := c/p.rf, (c+p.rf-1)/p.rf
		f.add(2+s+j, sink, low, costBelowShare)
		f.add(2+s+j, sink, high-low, 0)
	}
	if sent := f.solve(source, sink); sent != s {
		panic(fmt.Sprintf("ring: found owners for %d of %d shards", sent, s))
	}
	owners := make([]int, s)
	for i := range owners {
		k := slices.IndexFunc(edges[i], func(e int) bool { return f.used(e) == 1 })
		owners[i] = sets[i][k]
	}
	return owners
}

// cost of putting a shard on a node: nothing if it is there, else a move and a fixed pseudo-random
// tie-break, so that neighbours in the node list do not all share the same shards.
func (p *placing) cost(s ShardID, node int, stays bool) int {
	if stays {
		return 0
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(s))
	binary.BigEndian.PutUint64(b[8:], uint64(p.nodes[node].ID))
	return costMove + int(xxh3.Hash(b[:])&costTieMask)
}

// order lists a shard's nodes: the owner, those that stay in their previous order, the new ones.
func (p *placing) order(s ShardID, set []int, owner int) []NodeID {
	rank := func(n NodeID) int {
		if n == p.nodes[owner].ID {
			return -1
		}
		if i := slices.Index(p.previous[s], n); i >= 0 {
			return i
		}
		return math.MaxInt
	}
	ids := make([]NodeID, len(set))
	for i, j := range set {
		ids[i] = p.nodes[j].ID
	}
	slices.SortFunc(ids, func(a, b NodeID) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return ids
}
