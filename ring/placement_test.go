package ring

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func shardIDs(n int) []ShardID { return New(n, 1).Shards() }

func someNodes(n, zones int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{ID: NodeID(i + 1), Zone: fmt.Sprint("zone ", i%zones)}
	}
	return nodes
}

// loads counts replicas and owned shards by node.
func loads(p Placement) (replicas, owned map[NodeID]int) {
	replicas, owned = map[NodeID]int{}, map[NodeID]int{}
	for _, nodes := range p {
		owned[nodes[0]]++
		for _, n := range nodes {
			replicas[n]++
		}
	}
	return replicas, owned
}

func place(t require.TestingT, shards, rf int, nodes []Node, previous Placement) Placement {
	p, err := Place(shardIDs(shards), nodes, rf, previous)
	require.NoError(t, err)
	return p
}

// requireEven checks equal nodes in zones of equal size (or fewer replicas than zones would need).
func requireEven(t require.TestingT, p Placement, nodes []Node, rf int) {
	replicas, owned := loads(p)
	s, n := float64(len(p)), float64(len(nodes))
	for _, node := range nodes {
		require.GreaterOrEqual(t, float64(replicas[node.ID]), math.Floor(s*float64(rf)/n), "replicas on node %d", node.ID)
		require.LessOrEqual(t, float64(replicas[node.ID]), math.Ceil(s*float64(rf)/n), "replicas on node %d", node.ID)
		require.GreaterOrEqual(t, float64(owned[node.ID]), math.Floor(s/n), "shards of node %d", node.ID)
		require.LessOrEqual(t, float64(owned[node.ID]), math.Ceil(s/n), "shards of node %d", node.ID)
	}
}

// requireSpread checks that no node, and no zone if there are enough, has a shard twice.
func requireSpread(t require.TestingT, p Placement, nodes []Node, rf int) {
	zone, zones := map[NodeID]string{}, map[string]bool{}
	for _, n := range nodes {
		zone[n.ID], zones[n.Zone] = n.Zone, true
	}
	for s, set := range p {
		require.Len(t, set, rf)
		seen := map[string]bool{}
		for i, n := range set {
			require.Contains(t, zone, n)
			require.NotContains(t, set[:i], n, "shard %d", s)
			seen[zone[n]] = true
		}
		require.Len(t, seen, min(rf, len(zones)), "zones of shard %d: %v", s, set)
	}
}

func TestPlaceOneNode(t *testing.T) {
	p := place(t, 16, 1, someNodes(1, 1), nil)
	for _, s := range shardIDs(16) {
		require.Equal(t, []NodeID{1}, p[s])
	}
}

// TestPlaceIsEven: any number of equal nodes, each a zone of its own or all in one.
func TestPlaceIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "nodes")
		rf := rapid.IntRange(1, min(n, 5)).Draw(t, "rf")
		nodes := someNodes(n, rapid.SampledFrom([]int{1, n}).Draw(t, "zones"))
		p := place(t, rapid.IntRange(1, 24).Draw(t, "shards"), rf, nodes, nil)
		requireEven(t, p, nodes, rf)
		if nodes[n-1].Zone != nodes[0].Zone {
			requireSpread(t, p, nodes, rf)
		}
	})
}

// TestPlaceKeepsZonesApart: zones of any sizes; a shard's replicas are in as many as possible.
func TestPlaceKeepsZonesApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "nodes")
		nodes := someNodes(n, 1)
		zones := map[string]bool{}
		for i := range nodes {
			nodes[i].Zone = rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "zone")
			zones[nodes[i].Zone] = true
		}
		rf := rapid.IntRange(1, len(zones)).Draw(t, "rf")
		requireSpread(t, place(t, rapid.IntRange(1, 16).Draw(t, "shards"), rf, nodes, nil), nodes, rf)
	})
}

// TestPlaceIsStable: the same nodes again, in another order, move nothing and change no owner.
func TestPlaceIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "nodes")
		rf := rapid.IntRange(1, min(n, 3)).Draw(t, "rf")
		nodes := someNodes(n, rapid.IntRange(1, 3).Draw(t, "zones"))
		p := place(t, 16, rf, nodes, nil)
		again := place(t, 16, rf, rapid.Permutation(nodes).Draw(t, "order"), p)
		require.Equal(t, p, again)
		require.Empty(t, Moves(p, again))
	})
}

// TestPlaceMovesLittle: a new node takes its share and nothing else moves; a node that goes gives
// its replicas up and nothing else moves.
func TestPlaceMovesLittle(t *testing.T) {
	for _, test := range []struct{ shards, nodes, rf int }{{16, 3, 3}, {16, 4, 3}, {16, 5, 3}, {64, 9, 3}, {16, 1, 1}, {16, 6, 5}} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			nodes := someNodes(test.nodes, test.nodes)
			old := place(t, test.shards, test.rf, nodes, nil)
			more := append(slices.Clone(nodes), Node{ID: 100, Zone: "new"})
			grown := place(t, test.shards, test.rf, more, old)
			requireEven(t, grown, more, test.rf)
			requireSpread(t, grown, more, test.rf)
			moves := Moves(old, grown)
			share := float64(test.shards*test.rf) / float64(test.nodes+1)
			require.LessOrEqual(t, float64(len(moves)), math.Ceil(share))
			for _, m := range moves {
				require.Equal(t, NodeID(100), m.Add)
			}
			held, _ := loads(grown)
			shrunk := place(t, test.shards, test.rf, nodes, grown)
			requireEven(t, shrunk, nodes, test.rf)
			require.Len(t, Moves(grown, shrunk), held[100])
		})
	}
}

// TestPlaceFewestMoves compares with every possible placement of a small cluster.
func TestPlaceFewestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const shards, rf = 4, 2
		n := rapid.IntRange(2, 4).Draw(t, "nodes")
		nodes := someNodes(n, n)
		previous := Placement{}
		for _, s := range shardIDs(shards) {
			previous[s] = rapid.Permutation([]NodeID{1, 2, 3, 4, 5}).Draw(t, "set")[:rf]
		}
		p := place(t, shards, rf, nodes, previous)
		require.Len(t, Moves(previous, p), fewestMoves(previous, nodes, shards, rf))
	})
}

// fewestMoves tries all placements with even replicas.
func fewestMoves(previous Placement, nodes []Node, shards, rf int) int {
	var pairs [][]NodeID
	for i, a := range nodes {
		for _, b := range nodes[:i] {
			pairs = append(pairs, []NodeID{a.ID, b.ID})
		}
	}
	low, high := shards*rf/len(nodes), (shards*rf+len(nodes)-1)/len(nodes)
	best := math.MaxInt
	load := map[NodeID]int{}
	var try func(s, moves int)
	try = func(s, moves int) {
		if s > shards {
			for _, n := range nodes {
				if load[n.ID] < low || load[n.ID] > high {
					return
				}
			}
			best = min(best, moves)
			return
		}
		for _, pair := range pairs {
			for _, n := range pair {
				load[n]++
			}
			try(s+1, moves+len(missing(pair, previous[ShardID(s)])))
			for _, n := range pair {
				load[n]--
			}
		}
	}
	try(1, 0)
	return best
}

// TestPlaceWeights: shares follow capacity until a node holds every shard.
func TestPlaceWeights(t *testing.T) {
	nodes := someNodes(4, 4)
	nodes[0].Capacity, nodes[1].Capacity = 2, 2
	replicas, owned := loads(place(t, 60, 1, nodes, nil))
	require.Equal(t, map[NodeID]int{1: 20, 2: 20, 3: 10, 4: 10}, replicas)
	require.Equal(t, replicas, owned)

	nodes[0].Capacity = 1000
	replicas, _ = loads(place(t, 60, 2, nodes, nil))
	require.Equal(t, map[NodeID]int{1: 60, 2: 30, 3: 15, 4: 15}, replicas)
}

// TestPlaceUnequalZones: a zone takes every shard once, however small it is.
func TestPlaceUnequalZones(t *testing.T) {
	nodes := []Node{{ID: 1, Zone: "a"}, {ID: 2, Zone: "b"}, {ID: 3, Zone: "c"}, {ID: 4, Zone: "c"}, {ID: 5, Zone: "c"}, {ID: 6, Zone: "c"}}
	replicas, _ := loads(place(t, 16, 3, nodes, nil))
	require.Equal(t, map[NodeID]int{1: 16, 2: 16, 3: 4, 4: 4, 5: 4, 6: 4}, replicas)
	// Two zones for three replicas: two in one of them, never three.
	p := place(t, 16, 3, nodes[1:], nil)
	for _, set := range p {
		require.Contains(t, set, NodeID(2))
	}
}

func TestPlaceOrder(t *testing.T) {
	nodes := someNodes(3, 3)
	old := Placement{1: {3, 1, 2}, 2: {1, 3, 2}, 3: {2, 1, 3}}
	require.Equal(t, old, place(t, 3, 3, nodes, old))
}

func TestPlaceRefuses(t *testing.T) {
	_, err := Place(shardIDs(2), someNodes(2, 2), 3, nil)
	require.ErrorIs(t, err, ErrTooFewNodes)
	for name, call := range map[string]func() error{
		"no replicas":  func() error { _, err := Place(shardIDs(2), someNodes(2, 2), 0, nil); return err },
		"shard twice":  func() error { _, err := Place([]ShardID{1, 1}, someNodes(2, 2), 1, nil); return err },
		"node twice":   func() error { _, err := Place(shardIDs(1), []Node{{ID: 1}, {ID: 1}}, 1, nil); return err },
		"no node":      func() error { _, err := Place(shardIDs(1), []Node{{ID: 0}}, 1, nil); return err },
		"bad capacity": func() error { _, err := Place(shardIDs(1), []Node{{ID: 1, Capacity: -1}}, 1, nil); return err },
		"NaN capacity": func() error { _, err := Place(shardIDs(1), []Node{{ID: 1, Capacity: math.NaN()}}, 1, nil); return err },
	} {
		err := call()
		require.Error(t, err, name)
		require.False(t, errors.Is(err, ErrTooFewNodes), name)
	}
}

func TestMoves(t *testing.T) {
	old := Placement{1: {1, 2, 3}, 2: {1, 2, 3}, 3: {1}, 4: {1, 2}}
	new := Placement{1: {4, 2, 3}, 2: {3, 2, 1}, 3: {1, 2}, 5: {1}}
	require.Equal(t, []Move{
		{Shard: 1, Add: 4, Remove: 1}, {Shard: 3, Add: 2}, {Shard: 4, Remove: 1}, {Shard: 4, Remove: 2}, {Shard: 5, Add: 1},
	}, Moves(old, new))
}

func BenchmarkPlace(b *testing.B) {
	for _, size := range []struct{ shards, nodes int }{{16, 3}, {64, 9}, {256, 30}} {
		b.Run(fmt.Sprintf("%dx%d", size.shards, size.nodes), func(b *testing.B) {
			shards, nodes := shardIDs(size.shards), someNodes(size.nodes, 3)
			for b.Loop() {
				if _, err := Place(shards, nodes, 3, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
