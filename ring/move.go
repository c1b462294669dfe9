package ring

import (
	"maps"
	"slices"
)

// Move is one replica's move: Add gets a replica of the shard, Remove gives its own up. Either is 0
// when a shard gains or loses replicas.
type Move struct {
	Shard       ShardID
	Add, Remove NodeID
}

// Moves lists what turns one placement into another, by shard and then in the order in which the
// placements name the nodes. A change of owner among the same nodes is no move.
func Moves(old, new Placement) []Move {
	shards := slices.AppendSeq(slices.Collect(maps.Keys(old)), maps.Keys(new))
	slices.Sort(shards)
	var out []Move
	for _, s := range slices.Compact(shards) {
		add, remove := missing(new[s], old[s]), missing(old[s], new[s])
		for i := range max(len(add), len(remove)) {
			m := Move{Shard: s}
			if i < len(add) {
				m.Add = add[i]
			}
			if i < len(remove) {
				m.Remove = remove[i]
			}
			out = append(out, m)
		}
	}
	return out
}

// missing returns what is in a and not in b.
func missing(a, b []NodeID) (out []NodeID) {
	for _, n := range a {
		if !slices.Contains(b, n) {
			out = append(out, n)
		}
	}
	return out
}
