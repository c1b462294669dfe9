package shard

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/rowlockdb/rowlock/ring"
)

// When an exchange pays: two nodes differ by so much of the mean work of a node, and by
// so many requests a second, and at most so much of the difference is left.
const (
	exchangeShare = 0.3
	exchangeLeast = 100.0
	exchangeLeft  = 0.7
)

// exchangeOffers is how many of the best exchanges are tried against the even spread.
const exchangeOffers = 16

// exchange is what is wanted of the owners of two shards at most: the hot shard goes to
// a node with less work, and a colder one back if the numbers of shards ask for it.
type exchange map[ID]uint64 // node by shard

// planExchange looks for an exchange of owners between a node that does much work, the
// busiest that can give any, and the one that does the least. Replicas stay where they
// are. Rates are requests a second, of every shard; nothing happens while one is not
// known, or while anything else moves: who was asked to leave, a member that is down, a shard without an owner;
// nor where one node is to own all shards, or does because they share a log.
func planExchange(s *ClusterState, rates map[ID]float64) exchange {
	work, ok := workOf(s, rates)
	if p := (&planner{s: s, dead: func(uint64) bool { return false }}); !ok || !p.place() || p.together || p.lead != nil {
		return nil
	}
	nodes := slices.Sorted(maps.Keys(work))
	slices.SortStableFunc(nodes, func(a, b uint64) int { return cmp.Compare(work[b], work[a]) })
	mean := 0.0
	for _, w := range work {
		mean += w / float64(len(work))
	}
	least := nodes[len(nodes)-1]
	for _, giver := range nodes[:len(nodes)-1] { // the first may have nothing that it can give
		gap := work[giver] - work[least]
		if gap < exchangeLeast || gap < exchangeShare*mean {
			break
		}
		if x := exchangeBetween(s, rates, giver, least, gap); x != nil {
			return x
		}
	}
	return nil
}

// exchangeBetween is the exchange that leaves the least of the gap between two nodes.
func exchangeBetween(s *ClusterState, rates map[ID]float64, giver, least uint64, gap float64) exchange {
	var offers []offer
	try := func(x exchange, moved float64) {
		if left := math.Abs(gap - 2*moved); left <= exchangeLeft*gap {
			offers = append(offers, offer{x, left})
		}
	}
	for i := range s.Shards {
		hot := &s.Shards[i]
		if hot.Shard == System || hot.Owner != giver || !s.seated(hot, least) {
			continue
		}
		try(exchange{hot.Shard: least}, rates[hot.Shard])
		for j := range s.Shards {
			cold := &s.Shards[j]
			if cold.Shard != System && cold.Owner == least && s.seated(cold, giver) {
				try(exchange{hot.Shard: least, cold.Shard: giver}, rates[hot.Shard]-rates[cold.Shard])
			}
		}
	}
	slices.SortStableFunc(offers, func(a, b offer) int { return cmp.Compare(a.left, b.left) })
	for _, o := range offers[:min(len(offers), exchangeOffers)] {
		if stays(s, o.x) {
			return o.x
		}
	}
	return nil
}

// offer is an exchange and the difference that it would leave.
type offer struct {
	x    exchange
	left float64
}

// workOf sums the rates up by owner; false if the cluster is not at rest.
func workOf(s *ClusterState, rates map[ID]float64) (map[uint64]float64, bool) {
	work := map[uint64]float64{}
	for _, m := range s.Members {
		switch {
		case m.State == MemberRemoved:
		case m.State != MemberActive || !m.Up:
			return nil, false
		default:
			work[m.ID] = 0
		}
	}
	if len(s.Moves) > 0 || len(s.Shards) == 0 || len(work) < 2 {
		return nil, false
	}
	for _, p := range s.Shards {
		rate, known := rates[p.Shard]
		if _, member := work[p.Owner]; !known || !member || len(p.Learners) > 0 {
			return nil, false
		}
		work[p.Owner] += rate
	}
	return work, true
}

// stays reports whether the exchange is all that a plan would then do, so that it is
// not taken back for the sake of even numbers.
func stays(s *ClusterState, x exchange) bool {
	after := *s
	after.Shards = slices.Clone(s.Shards)
	for i := range after.Shards {
		if to, ok := x[after.Shards[i].Shard]; ok {
			after.Shards[i].Owner = to
		}
	}
	p := &planner{s: &after, dead: func(uint64) bool { return false }}
	if !p.place() {
		return false
	}
	return !slices.ContainsFunc(after.Shards, func(place ShardPlace) bool {
		return p.wanted[place.Shard][0] != ring.NodeID(place.Owner)
	})
}

// seated reports whether a node has a voter of the shard.
func (s *ClusterState) seated(p *ShardPlace, node uint64) bool {
	return slices.Contains(s.nodes(p.Voters), ring.NodeID(node))
}
