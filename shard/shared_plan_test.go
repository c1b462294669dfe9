package shard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/ring"
)

// plannedShared is a shard that the trunk with members carries.
func plannedShared(id ID, text string) ShardPlace {
	p := plannedShard(id, text)
	p.Shared = true
	for i := range p.Running {
		p.Running[i].Shared = true
	}
	return p
}

// Shards are numbered from 0, the system shard, on; those with a ~ are carried by the trunk.
func TestPlanOfSharedShards(t *testing.T) {
	for _, c := range []struct {
		name, members, shards string
		unknown               int // shards of the ring that nobody has told of
		replication           uint64
		busy                  []ID
		want                  string
	}{
		{name: "the lowest stands for all", members: "1 2 3", shards: "1* 2 3, ~1*, ~1*", want: "1: learner on 2|1: learner on 3"},
		{name: "a replica of the trunk is started", members: "1 2 3", shards: "1* 2 3, ~1* +2 +3r, ~1* +2 +3r", want: "1: start 12 on 2"},
		{name: "and becomes a voter", members: "1 2 3", shards: "1* 2 3, ~1* +2r +3r, ~1* +2r +3r", want: "1: voter 12"},
		{name: "all are there", members: "1 2 3", shards: "1* 2 3, ~1* 2 3, ~1* 2 3"},
		{name: "a dead member is replaced", members: "1 2 3X 4", shards: "1* 2 4, ~1* 2 3, ~1* 2 3", want: "1: learner on 4"},
		{name: "one hand-over for all", members: "1d 2 3", shards: "2* 1 3, ~1* 2 3, ~1* 2 3", want: "1: owner 2"},
		{name: "the system shard goes to them", members: "1 2 3", shards: "2* 1 3, ~1* 2 3, ~1* 2 3", want: "0: owner 1"},
		{name: "another node takes them over", members: "1d 2 3", shards: "2* 1 3, ~1* 2 3, ~2* 1 3"},
		{name: "a carried shard without an owner", members: "1d 2 3", shards: "2* 1 3, ~1* 2 3, ~1 2 3"},
		{name: "a shard that nobody has told of", members: "1d 2 3", shards: "2* 1 3, ~1* 2 3, ~1* 2 3", unknown: 1},
		{name: "a step of another one under way", members: "1d 2 3", shards: "2* 1 3, ~1* 2 3, ~1* 2 3", busy: []ID{2}},
		{name: "some have parted already", members: "1 2 3 4l", shards: "1* 2 3, ~1* 2 3 4, 1* 2 3 4"},
		{name: "nobody waits with the system shard", members: "1 2 3 4l", shards: "1* 2 3 4, ~1* 2 3 4, 1* 2 3 4", want: "0: remove 14"},

		{name: "they part with more nodes", members: "1 2 3 4", shards: "1* 2 3, ~1* 2 3, ~1* 2 3", want: "1: part"},
		{name: "at once", members: "1 2 3 4", shards: "1* 2 3, ~1*, ~1*", want: "1: part"},
		{name: "not for a node that is down", members: "1 2 3 4x", shards: "1* 2 3, ~1* 2 3, ~1* 2 3"},
		{name: "nor for one that leaves", members: "1 2 3 4l", shards: "1* 2 3, ~1* 2 3, ~1* 2 3"},
		{name: "not without a member", members: "1 2x 3 4 5", shards: "1* 2 3, ~1* 2 3, ~1* 2 3"},
		{name: "not with a learner", members: "1 2 3 4", shards: "1* 2 3, ~1* 2 +3r, ~1* 2 +3r", want: "1: voter 13"},
		{name: "not while another node takes them over", members: "1 2 3 4", shards: "1* 2 3, ~1* 2 3, ~2* 1 3"},
		{name: "a dead member goes first", members: "1 2 3X 4 5", shards: "1* 2 4, ~1* 2 3, ~1* 2 3", want: "1: learner on 4|1: learner on 5"},
		{name: "a member that leaves is no reason to wait", members: "1 2 3l 4 5", shards: "1* 2 4, ~1* 2 3, ~1* 2 3", want: "1: part"},
		{name: "one replica, and two nodes", members: "1 2", shards: "1*, ~1*, ~1*", replication: 1, want: "1: part"},
		{name: "one replica, and a node", members: "1", shards: "1*, ~1*, ~1*", replication: 1},
		{name: "two replicas, and two nodes", members: "1 2", shards: "1* 2, ~1*, ~1*", replication: 2, want: "1: learner on 2"},

		{name: "a second node gets nothing by itself", members: "1 2", shards: "1*, ~1*, ~1*"},
		{name: "nor of shards with their own groups", members: "1 2", shards: "1*, 1*, 1*"},
		{name: "what two nodes have spread stays so", members: "1 2", shards: "1*, 2*, 1*, 2*, 2*"},
		{name: "the third leaves, and the owner keeps what it has", members: "1 2 3l", shards: "2*, ~2* 1 3, ~2* 1 3", want: "1: remove 11"},
		{name: "it was the owner", members: "1 2 3l", shards: "1*, ~1 3*, ~1 3*", want: "1: owner 1"},
		{name: "of two the one that has the data leaves", members: "1l 2", shards: "2*, ~1*, ~1*", want: "1: learner on 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dead := plannedMembers(c.members)
			s.Replication = c.replication
			for i, text := range strings.Split(c.shards, ", ") {
				if carried, ok := strings.CutPrefix(text, "~"); ok {
					s.Shards = append(s.Shards, plannedShared(ID(i), carried))
				} else {
					s.Shards = append(s.Shards, plannedShard(ID(i), text))
				}
			}
			s.Ring = plannedRing(len(s.Shards) - 1 + c.unknown)
			busy := map[ID]moveStep{}
			for _, id := range c.busy {
				busy[id] = moveStep{seat: &SeatRequest{Change: SeatVoter}}
			}
			free := func(id ID) bool { _, under := busy[id]; return !under }
			var got []string
			for _, step := range movePlan(&s, func(node uint64) bool { return dead[node] }, busy, free, nil) {
				got = append(got, fmt.Sprintf("%d: %s", step.shard, describeStep(step)))
				require.Equal(t, s.Shards[step.shard].Shared, step.seat != nil && step.seat.Shared || step.start != nil && step.start.Shared)
			}
			require.Contains(t, strings.Split(c.want, "|"), strings.Join(got, ", "))
		})
	}
}

// company is a cluster whose data shards share a log until they part, for the plan. At most
// one node is down at a time, for a moment or for good.
type company struct {
	t    *testing.T
	seed uint64
	rnd  *rand.Rand
	s    ClusterState
	gone map[uint64]bool // dead
}

func newCompany(t *testing.T, seed uint64) *company {
	c := &company{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 97)), gone: map[uint64]bool{}}
	c.s, _ = plannedMembers("1")
	c.s.Ring = plannedRing(4)
	c.s.Shards = append(c.s.Shards, plannedShard(System, "1*"))
	for id := ID(1); id <= 4; id++ {
		c.s.Shards = append(c.s.Shards, plannedShared(id, "1*"))
	}
	return c
}

// well reports whether each group has a majority of voters that are up.
func (c *company) well() bool {
	for _, p := range c.s.Shards {
		up := 0
		for _, v := range p.Voters {
			if m, _ := c.s.byHost(v.Host); m.Up {
				up++
			}
		}
		if 2*up <= len(p.Voters) {
			return false
		}
	}
	return true
}

// happen has something happen that the cluster outlives: a node joins, leaves, drains, goes down
// or comes back; another number of replicas is asked for.
func (c *company) happen() {
	before := slices.Clone(c.s.Members)
	m := &c.s.Members[c.rnd.IntN(len(c.s.Members))]
	whole := func() bool {
		return !slices.ContainsFunc(c.s.Members, func(m Member) bool { return !m.Up && m.State != MemberRemoved })
	}
	switch c.rnd.IntN(8) {
	case 0, 1, 2:
		if id := uint64(len(before) + 1); id <= 7 {
			c.s.Members = append(c.s.Members, Member{ID: id, Host: fmt.Sprint("h", id), Up: true})
		}
	case 3:
		if ok := changeRefusal(&c.s, *m, true, MemberLeaving) == ""; ok && len(ringNodes(c.s.Members)) > 1 && whole() {
			m.State = MemberLeaving
		}
	case 4:
		if m.State <= MemberDraining {
			m.State = MemberDraining - m.State
		}
	case 5:
		m.Up = m.State != MemberRemoved && (!m.Up || !whole())
		c.gone[m.ID] = !m.Up && c.rnd.IntN(2) == 0
	case 6:
		c.s.Replication = uint64(c.rnd.IntN(4))
	case 7:
		if changeRefusal(&c.s, *m, true, MemberRemoved) == "" && m.State == MemberLeaving {
			m.State, m.Up = MemberRemoved, false
		}
	}
	if !c.well() {
		copy(c.s.Members, before)
	}
	c.failOver()
}

// failOver has a voter that is up own what a node had that is down: the carried shards
// by one, some of them later than others.
func (c *company) failOver() {
	var next uint64
	for i := range c.s.Shards {
		p := &c.s.Shards[i]
		if m, _ := c.s.Member(p.Owner); m.Up {
			continue
		}
		if !p.Shared || next == 0 {
			p.Owner = 0
			for _, v := range p.Voters {
				if m, _ := c.s.byHost(v.Host); m.Up && (p.Owner == 0 || c.rnd.IntN(2) == 0) {
					p.Owner = m.ID
				}
			}
		}
		if p.Shared && next == 0 {
			next = p.Owner
		}
		if p.Shared {
			p.Owner = next
		}
	}
}

// plan carries one plan out and reports whether it had any steps.
func (c *company) plan() bool {
	picture := c.s
	if c.rnd.IntN(4) == 0 { // an owner is not known
		picture.Shards = slices.Clone(c.s.Shards)
		picture.Shards[c.rnd.IntN(len(picture.Shards))].Owner = 0
	}
	steps := movePlan(&picture, func(node uint64) bool { return c.gone[node] }, nil, always, nil)
	taken := 0
	for _, step := range steps {
		if step.seat == nil && step.start == nil {
			continue
		}
		taken++
		lead := &c.s.Shards[step.shard]
		if step.seat.part() {
			c.part(lead)
			continue
		}
		if !lead.Shared {
			carryOut(lead, step)
		} else {
			require.EqualValues(c.t, 1, step.shard, "seed %d: %s", c.seed, describeStep(step))
			for i := range c.s.Shards[1:] {
				carryOut(&c.s.Shards[i+1], step)
			}
		}
		for i := range c.s.Shards {
			for j := range c.s.Shards[i].Running {
				c.s.Shards[i].Running[j].Shared = c.s.Shards[i].Shared
			}
		}
		require.True(c.t, c.well(), "seed %d: no majority after %s", c.seed, describeStep(step))
		owner, _ := c.s.Member(lead.Owner)
		require.True(c.t, owner.Up && c.s.seated(lead, lead.Owner), "seed %d: owner after %s", c.seed, describeStep(step))
	}
	return taken > 0
}

func (q *SeatRequest) part() bool { return q != nil && q.Change == SeatPart }

// part has the carried shards part, on their members, who must all be there.
func (c *company) part(lead *ShardPlace) {
	require.Empty(c.t, lead.Learners, "seed %d", c.seed)
	for _, v := range lead.Voters {
		m, _ := c.s.byHost(v.Host)
		require.True(c.t, m.Up, "seed %d", c.seed)
	}
	for i := range c.s.Shards[1:] {
		p := &c.s.Shards[i+1]
		require.Equal(c.t, lead.Voters, p.Voters)
		p.Shared = false
		p.Removed = nil
		for j := range p.Running {
			p.Running[j].Shared = false
		}
	}
}

// rest carries plans out until there is nothing to do, also with all of the picture.
func (c *company) rest() {
	for idle, n := 0, 0; idle < 20; n++ {
		require.Less(c.t, n, 2000, "seed %d: no end", c.seed)
		idle++
		if c.plan() {
			idle = 0
		}
	}
}

// check looks at what a plan at rest has come to, with all nodes there.
func (c *company) check() {
	nodes, want := len(ringNodes(c.s.Members)), wantedReplication(&c.s)
	two := c.s.Replication == 0 && want == 1 && nodes == 2
	owners := map[uint64]bool{}
	for _, p := range c.s.Shards {
		require.Len(c.t, p.Voters, want, "seed %d: shard %d", c.seed, p.Shard)
		require.Empty(c.t, p.Learners, "seed %d: shard %d", c.seed, p.Shard)
		for _, id := range c.s.nodes(p.Voters) {
			require.True(c.t, slices.ContainsFunc(ringNodes(c.s.Members), func(n ring.Node) bool { return n.ID == id }), "seed %d", c.seed)
		}
		require.False(c.t, p.Shared && nodes > want && !two, "seed %d: %d nodes, %d replicas, and they have not parted", c.seed, nodes, want)
		owners[p.Owner] = true
	}
	if want > 1 && nodes == want && c.anybody() {
		require.Len(c.t, owners, 1, "seed %d", c.seed)
	}
	for id := range owners {
		m, _ := c.s.Member(id)
		require.False(c.t, want > 1 && m.State == MemberDraining && c.anybody(), "seed %d: node %d drains and owns", c.seed, id)
	}
}

// anybody reports whether every shard has a voter that may own it.
func (c *company) anybody() bool {
	return !slices.ContainsFunc(c.s.Shards, func(p ShardPlace) bool {
		return !slices.ContainsFunc(c.s.nodes(p.Voters), func(n ring.NodeID) bool { return c.s.mayOwn(uint64(n)) })
	})
}

// Whatever happens, plans lead to the replicas that are asked for, with a majority up at every
// step, and shards that share a log have parted where there are more nodes than replicas.
func TestPlansOfSharedShardsEnd(t *testing.T) {
	parted, stayed := 0, 0
	for seed := range uint64(300) {
		c := newCompany(t, seed)
		for range c.rnd.IntN(25) {
			c.happen()
			for range c.rnd.IntN(6) {
				c.plan()
			}
		}
		drains := 0
		for i := range c.s.Members {
			m := &c.s.Members[i]
			m.Up = m.State != MemberRemoved
			if m.State == MemberDraining {
				drains++
			}
			if m.State == MemberDraining && (drains > 1 || wantedReplication(&c.s) == 1) {
				m.State = MemberActive // nobody else might be there to own
			}
		}
		clear(c.gone)
		c.rest()
		c.check()
		if c.s.Shards[1].Shared {
			stayed++
		} else {
			parted++
		}
	}
	require.Greater(t, min(parted, stayed), 30, "%d parted, %d did not", parted, stayed)
}

// Carried shards have one membership, the latest that one of them was told with.
func TestRegistrarSeesTheTrunk(t *testing.T) {
	g := &registrar{heard: map[uint64]heardOf{}, places: map[ID]ShardPlace{}}
	report := func(s ID, shared bool, change uint64, voters ...Seat) ReplicaReport {
		return ReplicaReport{Shard: s, Shared: shared, Serving: true, Epoch: 3, ChangeID: change, Voters: voters}
	}
	see := func(r ...ReplicaReport) { g.see(&HeartbeatRequest{Node: 1, Replicas: r}) }
	see(report(1, false, 70, Seat{1, "h1"}), report(2, false, 80, Seat{1, "h1"}))
	see(report(1, true, 5), report(2, true, 5, Seat{1, "h1"}))
	require.True(t, g.places[1].Shared)
	require.Empty(t, g.places[1].Voters, "those of another group are not the trunk's")
	require.EqualValues(t, 5, g.places[2].ChangeID, "numbers of two logs are not compared")
	see(report(1, true, 9, Seat{1, "h1"}, Seat{2, "h2"}), report(2, true, 4, Seat{3, "h3"}))
	require.Equal(t, []Seat{{1, "h1"}}, g.places[2].Voters, "an earlier membership")
	places := []ShardPlace{{Shard: 0, ChangeID: 99}, g.places[1], g.places[2]}
	agree(places)
	require.Equal(t, places[1].Voters, places[2].Voters)
	require.Len(t, places[2].Voters, 2)
	require.EqualValues(t, 9, places[2].ChangeID)
	require.Empty(t, places[0].Voters)
	see(report(1, false, 1, Seat{1, "h1"}, Seat{2, "h2"}))
	require.False(t, g.places[1].Shared)
	require.EqualValues(t, 1, g.places[1].ChangeID, "they have parted")
	require.Equal(t, []paxos.ReplicaID(nil), g.places[1].Removed)
}
