package shard

import (
	"slices"

	"github.com/rowlockdb/rowlock/ring"
)

// Where every node is to have a replica of every shard, one node owns all shards, the
// system shard included: owners on several nodes would only make one-shard commits into
// commits of several, and those into messages between nodes. Where there are more nodes
// than replicas no node can, and owners are spread.

// gather wants all shards to have one owner. It does nothing for the sake of that while
// the picture is not complete or replicas are on their way: what a new owner of the system
// shard hears first is a part, in which another node can own the most.
func (p *planner) gather() {
	owner := p.gatherer()
	p.waits = owner == 0 || !p.settled() && !mutated("0096.unsettled")
	if owner == 0 {
		return
	}
	for s, nodes := range p.wanted {
		if i := slices.Index(nodes, ring.NodeID(owner)); i > 0 {
			p.wanted[s] = slices.Insert(slices.Delete(nodes, i, i+1), 0, ring.NodeID(owner))
		}
	}
}

// gatherer is the node that is to own all shards: of those that may own the one that has
// most already, so that as few as can be change hands, and each that does makes the choice
// firmer. Of those that have as many it is the owner of the system shard, or else the one
// with the lowest number. It is 0 if no node may own.
func (p *planner) gatherer() uint64 {
	owned := map[uint64]int{}
	for _, place := range p.s.Shards {
		owned[place.Owner] += 2
		if place.Shard == System {
			owned[place.Owner]++
		}
	}
	var best uint64
	for _, m := range p.s.Members { // by number
		switch {
		case !p.s.mayOwn(m.ID) || !slices.Contains(p.nodes, ring.NodeID(m.ID)):
		case best == 0 || owned[m.ID] > owned[best] && !mutated("0096.lowest-number"):
			best = m.ID
		}
	}
	return best
}

// settled reports whether all shards of the ring are in the picture, each with an owner and
// with the replicas that it should have.
func (p *planner) settled() bool {
	r, err := ring.Decode(p.s.Ring)
	if err != nil || len(p.s.Shards) <= len(r.Shards()) || p.lead != nil && !p.whole {
		return false
	}
	for i := range p.s.Shards {
		place := &p.s.Shards[i]
		wanted := p.wanted[place.Shard]
		if place.Owner == 0 || len(place.Learners) > 0 || len(place.Voters) != len(wanted) {
			return false
		}
		for _, node := range wanted {
			if !p.s.seated(place, uint64(node)) {
				return false
			}
		}
	}
	return true
}
