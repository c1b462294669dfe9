package shard

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rowlockdb/rowlock/ring"
)

// catchUpGap is how many log entries a learner may lag when it becomes a voter.
const catchUpGap = 500

// moveLimit is how many shards get new replicas at a time: each is a snapshot of
// a shard on its way.
const moveLimit = 4

// moveStep is one step of one shard's move.
type moveStep struct {
	shard ID
	// seat goes to the shard's owner, or start to node.
	seat  *SeatRequest
	start *StartRequest
	node  uint64
	move  Move
}

// movePlan decides what to do next for every shard. It is a function of the
// picture alone, so that it can be broken off and begun again anywhere: what the
// groups say is where it goes on.
//
// A shard goes from its voters to the wanted nodes in this order: every missing
// node gets a learner; when all learners have caught up they become voters, one
// after the other; then the voters that are not wanted go, the owner only after it
// has handed the shard over. So a majority of a wanted size is there at every step.
//
// Busy are the steps under way, whose shards wait for them, as do those that are not
// free; with them they count against what may happen at a time.
//
// Aims are the nodes that should own some of the shards, for their load: the plan is made
// as if they did, unless one node is to own all.
func movePlan(s *ClusterState, dead func(node uint64) bool, busy map[ID]moveStep, free func(ID) bool, aims map[ID]uint64) []moveStep {
	p := &planner{s: s, dead: dead, aims: aims, busy: busy}
	if !p.place() {
		return nil
	}
	var steps []moveStep
	for i := range s.Shards {
		step := busy[s.Shards[i].Shard]
		if !p.follows(&s.Shards[i]) && len(s.Shards[i].Learners) > 0 || step.is(SeatLearner) {
			p.adding++
		}
		p.handed = p.handed || step.is(SeatOwner)
	}
	for i := range s.Shards {
		place := &s.Shards[i]
		if !free(place.Shard) {
			continue
		}
		step := p.next(place)
		if step == nil {
			continue
		}
		step.move.Shard, step.shard = place.Shard, place.Shard
		if step.seat != nil {
			step.seat.ChangeID, step.seat.Shared = place.ChangeID, place.Shared
		}
		if step.start != nil {
			step.start.Shared = place.Shared
		}
		steps = append(steps, *step)
	}
	return steps
}

func (m *moveStep) is(c SeatChange) bool { return m.seat != nil && m.seat.Change == c }

type planner struct {
	s      *ClusterState
	dead   func(uint64) bool
	aims   map[ID]uint64
	busy   map[ID]moveStep
	nodes  []ring.NodeID // that may have replicas, without the dead if there are enough others
	wanted ring.Placement
	// together says that each of the nodes is wanted to have a replica of every shard, so
	// that one of them owns all.
	together bool
	waits    bool // nothing changes hands only for being together
	// lead stands for the shards that the trunk with members carries, nil if there are none;
	// whole says that all of them are known and have one owner.
	lead  *ShardPlace
	whole bool
	// grown says that more nodes than replicas want to have data.
	grown  bool
	adding int  // shards with learners
	handed bool // a hand-over is planned already
}

// place computes where every replica should be.
func (p *planner) place() bool {
	var nodes []ring.Node
	for _, n := range ringNodes(p.s.Members) {
		if !p.dead(uint64(n.ID)) {
			nodes = append(nodes, n)
		}
	}
	rf := min(wantedReplication(p.s), len(nodes))
	if rf < wantedReplication(p.s) {
		// The dead cannot be replaced: they may come back.
		nodes, rf = ringNodes(p.s.Members), wantedReplication(p.s)
	}
	p.findShared(p.busy)
	// Two nodes of which nobody said that both are to have data: it stays where it is, on the
	// one that was alone before, or on both.
	stays := p.s.Replication == 0 && rf == 1
	if err := p.placeShards(nodes, rf, stays); err != nil || len(p.s.Shards) == 0 {
		return false
	}
	up := 0
	for _, n := range nodes {
		p.nodes = append(p.nodes, n.ID)
		if m, ok := p.s.Member(uint64(n.ID)); ok && m.Up && !p.dead(m.ID) {
			up++
		}
	}
	p.grown = up > rf && !stays
	if p.together = rf > 1 && len(nodes) == rf; p.together {
		p.gather()
	}
	return true
}

// placeShards spreads the replicas of all shards over the nodes, if they do not stay where
// they are; shards that are carried have the place of the one that stands for them.
func (p *planner) placeShards(nodes []ring.Node, rf int, stay bool) error {
	var shards []ring.ShardID
	previous, wanted := ring.Placement{}, ring.Placement{}
	for i := range p.s.Shards {
		place := &p.s.Shards[i]
		switch {
		case p.follows(place):
			wanted[place.Shard] = slices.Clone(wanted[p.lead.Shard]) // which is lower
		case stay || place.Shared:
			alone, err := p.placeAlone(place, nodes, rf)
			if err != nil {
				return err
			}
			wanted[place.Shard] = alone
		default:
			shards = append(shards, place.Shard)
			previous[place.Shard] = p.presentNodes(place)
		}
	}
	if len(shards) > 0 {
		spread, err := ring.Place(shards, nodes, rf, previous)
		if err != nil {
			return err
		}
		maps.Copy(wanted, spread)
	}
	p.wanted = wanted
	return nil
}

// presentNodes lists the nodes of a shard, the owner first.
func (p *planner) presentNodes(place *ShardPlace) []ring.NodeID {
	nodes := append(p.s.nodes(place.Voters), p.s.nodes(place.Learners)...)
	owner := ring.NodeID(place.Owner)
	if aim := ring.NodeID(p.aims[place.Shard]); slices.Contains(nodes, aim) {
		owner = aim
	}
	if i := slices.Index(nodes, owner); i > 0 {
		nodes = slices.Insert(slices.Delete(nodes, i, i+1), 0, owner)
	}
	return nodes
}

// next is the next step of one shard, nil if there is none now.
func (p *planner) next(place *ShardPlace) *moveStep {
	if place.Owner == 0 || len(place.Voters) == 0 || p.held(place) {
		return nil
	}
	if step := p.part(place); step != nil {
		return step
	}
	wanted := p.wanted[place.Shard]
	if step, busy := p.add(place, wanted); busy {
		return step
	}
	if step, busy := p.promote(place, wanted); busy {
		return step
	}
	if step, busy := p.shrink(place, wanted); busy {
		return step
	}
	return p.balance(place, wanted)
}

// add brings a learner to a wanted node that has no replica.
func (p *planner) add(place *ShardPlace, wanted []ring.NodeID) (*moveStep, bool) {
	present := p.presentNodes(place)
	for _, node := range wanted {
		m, ok := p.s.Member(uint64(node))
		if slices.Contains(present, node) || !ok {
			continue
		}
		if !m.Up {
			return nil, true // the others wait: a majority must stay within reach
		}
		if len(place.Learners) == 0 {
			if p.adding >= moveLimit {
				return nil, true
			}
			p.adding++
		}
		return &moveStep{seat: &SeatRequest{Change: SeatLearner, Host: m.Host, Node: m.ID},
			move: p.moveOf(place, uint64(node), "adding a replica")}, true
	}
	return nil, false
}

// promote makes voters of learners that have caught up, and starts those that
// were added but do not run.
func (p *planner) promote(place *ShardPlace, wanted []ring.NodeID) (*moveStep, bool) {
	var first *Seat
	var to Member
	for i, seat := range place.Learners {
		m, ok := p.s.byHost(seat.Host)
		if !ok || !slices.Contains(wanted, ring.NodeID(m.ID)) {
			return &moveStep{seat: &SeatRequest{Change: SeatRemove, Replica: seat.Replica},
				move: Move{To: m.ID, Step: "removing a replica that is not wanted any more"}}, true
		}
		if !m.Up {
			return nil, true // as a voter it could be the one that a majority lacks
		}
		running := p.running(place, seat, m)
		if running == nil {
			return &moveStep{start: &StartRequest{Shard: place.Shard, Replica: seat.Replica}, node: m.ID,
				move: p.moveOf(place, m.ID, "starting the replica")}, true
		}
		if running.Applied == 0 || running.Applied+catchUpGap < place.Applied {
			move := p.moveOf(place, m.ID, "copying")
			move.Done, move.Total = running.Applied, place.Applied
			return &moveStep{move: move}, true
		}
		if first == nil {
			first, to = &place.Learners[i], m
		}
	}
	if first == nil {
		return nil, false
	}
	return &moveStep{seat: &SeatRequest{Change: SeatVoter, Replica: first.Replica, Host: first.Host},
		move: p.moveOf(place, to.ID, "making the replica a voter")}, true
}

func (p *planner) running(place *ShardPlace, seat Seat, m Member) *RunningReplica {
	for i, r := range place.Running {
		if r.Node == m.ID && r.Replica == seat.Replica && r.Shared == place.Shared {
			return &place.Running[i]
		}
	}
	return nil
}

// shrink removes a voter that is not wanted: one that is down first, because others may be
// what a majority lacks while it counts.
func (p *planner) shrink(place *ShardPlace, wanted []ring.NodeID) (*moveStep, bool) {
	var gone *Seat
	var at Member // 0: of no node
	for i, seat := range place.Voters {
		m, ok := p.s.byHost(seat.Host)
		if ok && slices.Contains(wanted, ring.NodeID(m.ID)) {
			continue
		}
		if gone == nil || at.Up && !m.Up {
			gone, at = &place.Voters[i], m
		}
	}
	switch {
	case gone == nil:
		return nil, false
	case !p.reachable(place, wanted):
		return nil, true
	case at.ID == place.Owner:
		return p.handOver(place, wanted), true
	}
	return &moveStep{seat: &SeatRequest{Change: SeatRemove, Replica: gone.Replica, Host: gone.Host, Node: at.ID},
		move: Move{From: at.ID, Step: "removing a replica", Bytes: place.Bytes}}, true
}

// reachable reports whether a majority of the wanted voters is up.
func (p *planner) reachable(place *ShardPlace, wanted []ring.NodeID) bool {
	up := 0
	for _, seat := range place.Voters {
		if m, ok := p.s.byHost(seat.Host); ok && m.Up && slices.Contains(wanted, ring.NodeID(m.ID)) {
			up++
		}
	}
	return up > len(wanted)/2
}

// balance hands a shard to the node that should own it.
func (p *planner) balance(place *ShardPlace, wanted []ring.NodeID) *moveStep {
	owner, ok := p.s.Member(place.Owner)
	if ok && owner.State == MemberActive && (p.waits || uint64(wanted[0]) == place.Owner || place.Shard == System && p.unsure()) {
		return nil
	}
	return p.handOver(place, wanted)
}

// unsure reports whether a member is down. Each owner of the system shard counts for itself
// how long, and the next one may not hold it for dead yet: they would want the shard at
// different nodes, and hand it to and fro.
func (p *planner) unsure() bool {
	return !mutated("0096.to-and-fro") && slices.ContainsFunc(p.s.Members, func(m Member) bool {
		return !m.Up && m.State != MemberRemoved
	})
}

// handOver plans one hand-over a round: to the first wanted node that can own. An owner
// that is down hands nothing over.
func (p *planner) handOver(place *ShardPlace, wanted []ring.NodeID) *moveStep {
	if owner, ok := p.s.Member(place.Owner); p.handed || !ok || !owner.Up {
		return nil
	}
	for _, node := range wanted {
		to := uint64(node)
		if !p.s.mayOwn(to) || !p.s.seated(place, to) {
			continue
		}
		if to == place.Owner {
			return nil
		}
		p.handed = true
		return &moveStep{seat: &SeatRequest{Change: SeatOwner, Node: to},
			move: Move{From: place.Owner, To: to, Step: "handing the shard over"}}
	}
	return nil
}

// moveOf describes a replica on its way to a node, from one that will go.
func (p *planner) moveOf(place *ShardPlace, to uint64, step string) Move {
	move := Move{To: to, Step: step, Total: place.Applied, Bytes: place.Bytes}
	for _, n := range p.s.nodes(place.Voters) {
		if !slices.Contains(p.wanted[place.Shard], n) {
			move.From = uint64(n)
		}
	}
	return move
}

// String says what a step is, for logs.
func (m moveStep) String() string {
	return fmt.Sprintf("shard %d: %s, from node %d to node %d", m.shard, m.move.Step, m.move.From, m.move.To)
}
