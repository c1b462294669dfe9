package shard

import (
	"slices"

	"github.com/rowlockdb/rowlock/ring"
)

// The shards that the trunk with members carries are one to the planner: they have one
// membership, one owner, one log. The lowest stands for all, and steps are planned for it
// only. Where more nodes than replicas want to have data the shards part: each gets a
// group of its own, which then moves like any other.

// findShared looks for the shard that stands for those that are carried, and whether the
// picture of them is whole. It is not while another node takes them over, while they part,
// and when a new owner of the system shard has not been told of all; then they wait.
func (p *planner) findShared(busy map[ID]moveStep) {
	data, carried := 0, 0
	p.whole = true
	for i := range p.s.Shards {
		place := &p.s.Shards[i]
		if place.Shard == System {
			continue
		}
		data++
		if !place.Shared {
			continue
		}
		carried++
		if p.lead == nil {
			p.lead = place
			continue
		}
		_, under := busy[place.Shard]
		p.whole = p.whole && place.Owner == p.lead.Owner && !under
	}
	if p.lead == nil || mutated("0097.one-by-one") {
		return
	}
	r, err := ring.Decode(p.s.Ring)
	p.whole = p.whole && err == nil && carried == data && data == len(r.Shards())
}

// follows reports whether another shard stands for this one.
func (p *planner) follows(place *ShardPlace) bool {
	return place.Shared && place.Shard != p.lead.Shard && !mutated("0097.one-by-one")
}

// held reports whether nothing may be planned for a shard: another one stands for it, or the
// picture of those that are carried is not whole. Data shards that are not carried, or
// not any more, wait with the others.
func (p *planner) held(place *ShardPlace) bool {
	return p.lead != nil && place.Shard != System && (p.follows(place) || !p.whole)
}

// part plans that the shards of the trunk get groups of their own, on all of its members.
// Those do what they have to when they come to it in the log, but a member that is down would keep
// the trunk alive until it is back, so all are up; and a learner cannot become a founder.
func (p *planner) part(place *ShardPlace) *moveStep {
	if !place.Shared || !p.grown || len(place.Learners) > 0 && !mutated("0097.parted-with-learners") {
		return nil
	}
	for _, seat := range place.Voters {
		m, ok := p.s.byHost(seat.Host)
		if (!ok || !m.Up || !p.near(place, seat, m)) && !mutated("0097.parted-without-one") {
			return nil
		}
	}
	return &moveStep{seat: &SeatRequest{Change: SeatPart}, move: Move{From: place.Owner, Step: "parting the shards"}}
}

// near reports whether a member has applied nearly all: one that is so late that it is sent
// the trunk's state would be sent what is left of it.
func (p *planner) near(place *ShardPlace, seat Seat, m Member) bool {
	r := p.running(place, seat, m)
	return m.ID == place.Owner || r != nil && r.Applied+catchUpGap >= place.Applied
}

// placeAlone computes where the replicas of one shard should be, or of those that it stands
// for, whatever the others do: they stay, those of the owner first.
func (p *planner) placeAlone(place *ShardPlace, nodes []ring.Node, rf int) ([]ring.NodeID, error) {
	stay := slices.DeleteFunc(p.presentNodes(place), func(id ring.NodeID) bool {
		return !slices.ContainsFunc(nodes, func(n ring.Node) bool { return n.ID == id })
	})
	previous := ring.Placement{place.Shard: stay[:min(rf, len(stay))]}
	wanted, err := ring.Place([]ring.ShardID{place.Shard}, nodes, rf, previous)
	return wanted[place.Shard], err
}

// agree gives all places of carried shards the latest membership that any of them was
// told with: it is one.
func agree(places []ShardPlace) {
	var latest *ShardPlace
	for i := range places {
		if p := &places[i]; p.Shared && len(p.Voters) > 0 && (latest == nil || p.ChangeID > latest.ChangeID) {
			latest = p
		}
	}
	for i := range places {
		if p := &places[i]; p.Shared && latest != nil {
			p.ChangeID, p.Voters, p.Learners, p.Removed = latest.ChangeID, latest.Voters, latest.Learners, latest.Removed
		}
	}
}
