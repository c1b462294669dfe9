package shard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/ring"
)

// Where every node has every shard one of them owns all. Shards are numbered from 0, the
// system shard, on.
func TestOwnersTogether(t *testing.T) {
	for _, c := range []struct {
		name, members, shards string
		unknown               int // shards of the ring that nobody has told of
		replication           uint64
		want                  string
	}{
		{name: "the system shard goes to the others", members: "1 2 3", shards: "1* 2 3, 2* 1 3, 2* 1 3", want: "0: owner 2"},
		{name: "one goes to most", members: "1 2 3", shards: "3* 1 2, 3* 1 2, 2* 1 3", want: "2: owner 3"},
		{name: "of as many the system shard's owner", members: "1 2 3", shards: "3* 1 2, 3* 1 2, 2* 1 3, 2* 1 3", want: "2: owner 3"},
		{name: "or the lowest number", members: "1d 2 3", shards: "1* 2 3, 3* 1 2, 2* 1 3, 1* 2 3", want: "0: owner 2"},
		{name: "all are together", members: "1 2 3", shards: "3* 1 2, 3* 1 2, 3* 1 2"},
		{name: "two nodes with two replicas", members: "1 2", shards: "2* 1, 1* 2, 1* 2", replication: 2, want: "0: owner 1"},
		{name: "more nodes than replicas", members: "1 2 3", shards: "1* 2, 2* 3, 3* 1", replication: 2},
		{name: "they spread then", members: "1 2 3", shards: "1* 2, 1* 3, 1* 3, 1* 2, 2* 3, 2* 3", replication: 2, want: "1: owner 3|2: owner 3"},
		{name: "one replica of each", members: "1 2 3", shards: "1*, 2*, 3*", replication: 1},
		{name: "who drains owns nothing", members: "1 2d 3", shards: "2* 1 3, 2* 1 3, 3* 1 2", want: "0: owner 3"},
		{name: "and gathers nothing", members: "1 2d 3", shards: "1* 2 3, 2* 1 3, 2* 1 3", want: "1: owner 1"},
		{name: "who is down hands nothing over", members: "1x 2 3", shards: "1* 2 3, 1* 2 3, 1* 2 3"},
		{name: "and keeps nobody else from it", members: "1x 2 3", shards: "1* 2 3, 2* 1 3, 2* 1 3, 3* 1 2", want: "3: owner 2"},
		{name: "a shard that nobody has told of", members: "1 2 3", shards: "1* 2 3, 2* 1 3, 2* 1 3", unknown: 1},
		{name: "nor keeps it anybody from draining", members: "1 2d 3", shards: "1* 2 3, 2* 1 3", unknown: 1, want: "1: owner 1"},
		{name: "a shard without an owner", members: "1 2 3", shards: "1* 2 3, 2* 1 3, 2* 1 3, 1 2 3"},
		{name: "a replica on its way", members: "1 2 3", shards: "1* 2 3, 2* 1 3, 2* 1 3, 2* 1 +3c", want: "3: copying"},
		{name: "nobody may own", members: "1d 2x 3d", shards: "1* 2 3, 3* 1 2"},
		{name: "one is dead", members: "1 2 3X 4", shards: "1* 2 4, 2* 1 4, 4* 1 2, 4* 1 2, 4* 1 2", want: "1: owner 4"},
		{name: "the system shard stays while one is down", members: "1 2 3x", shards: "1* 2 3, 2* 1 3, 2* 1 3"},
		{name: "unless its owner drains", members: "1d 2 3x", shards: "1* 2 3, 2* 1 3, 2* 1 3", want: "0: owner 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dead := plannedMembers(c.members)
			s.Replication = c.replication
			for i, text := range strings.Split(c.shards, ", ") {
				s.Shards = append(s.Shards, plannedShard(ID(i), text))
			}
			s.Ring = plannedRing(len(s.Shards) - 1 + c.unknown)
			var got []string
			for _, step := range movePlan(&s, func(node uint64) bool { return dead[node] }, nil, always, nil) {
				got = append(got, fmt.Sprintf("%d: %s", step.shard, describeStep(step)))
			}
			require.Contains(t, strings.Split(c.want, "|"), strings.Join(got, ", "))
		})
	}
}

// gathering is a cluster whose nodes fail and drain, for the plan: what the owner of the
// system shard knows is a part for a while when that has changed.
type gathering struct {
	t      *testing.T
	seed   uint64
	rnd    *rand.Rand
	s      ClusterState // all of it
	silent int          // plans that are made before all is known again
	handed int          // over, since it was looked at last
}

func newGathering(t *testing.T, seed uint64) *gathering {
	g := &gathering{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 96))}
	nodes := 2 + g.rnd.IntN(4)
	g.s, _ = plannedMembers("1 2 3 4 5"[:2*nodes-1])
	g.s.Replication = uint64(nodes)
	g.s.Ring = plannedRing(16)
	for id := range ID(17) {
		place := plannedShard(id, "1* 2 3 4 5"[:2*nodes])
		place.Owner = g.anybody(func(m Member) bool { return true })
		g.s.Shards = append(g.s.Shards, place)
	}
	return g
}

// anybody is one of the nodes that are like that, 0 if none is.
func (g *gathering) anybody(like func(Member) bool) uint64 {
	var all []uint64
	for _, m := range g.s.Members {
		if like(m) {
			all = append(all, m.ID)
		}
	}
	if len(all) == 0 {
		return 0
	}
	return all[g.rnd.IntN(len(all))]
}

// happen has something happen: a node goes down and others take its shards over, each
// somebody, or it comes back; one drains, or does no more; shards change hands by chance.
func (g *gathering) happen() {
	m := &g.s.Members[g.rnd.IntN(len(g.s.Members))]
	up := func(m Member) bool { return m.Up }
	switch g.rnd.IntN(4) {
	case 0:
		m.Up = !m.Up
	case 1:
		m.State = MemberDraining - m.State
	case 2:
		g.s.Shards[g.rnd.IntN(17)].Owner = g.anybody(up)
	}
	for i := range g.s.Shards {
		p := &g.s.Shards[i]
		if owner, _ := g.s.Member(p.Owner); !owner.Up && g.anybody(up) != 0 && g.rnd.IntN(4) > 0 {
			p.Owner = g.anybody(up)
			if p.Shard == System {
				g.silent = 3
			}
		}
	}
}

// plan takes the steps of one plan and reports whether there was any. None of them is to
// a node that may not own.
func (g *gathering) plan() bool {
	picture, part := g.s, g.silent > 0
	if part {
		g.silent--
		picture.Shards = slices.DeleteFunc(slices.Clone(g.s.Shards), func(ShardPlace) bool { return g.rnd.IntN(3) == 0 })
	}
	steps := movePlan(&picture, func(uint64) bool { return false }, nil, always, nil)
	require.LessOrEqual(g.t, len(steps), 1, "seed %d", g.seed)
	for _, step := range steps {
		require.True(g.t, step.is(SeatOwner) && g.s.mayOwn(step.seat.Node), "seed %d: %s", g.seed, describeStep(step))
		place := &g.s.Shards[step.shard]
		from, _ := g.s.Member(place.Owner)
		require.True(g.t, from.Up, "seed %d: %s", g.seed, describeStep(step))
		place.Owner = step.seat.Node
		g.handed++
		if step.shard == System {
			g.silent = 3
		}
	}
	return len(steps) > 0 || part
}

func (g *gathering) rest() {
	for n := 0; g.plan(); n++ {
		require.Less(g.t, n, 100, "seed %d: no end", g.seed)
	}
}

// owned counts the shards of each node.
func (g *gathering) owned() map[uint64]int {
	owned := map[uint64]int{}
	for _, p := range g.s.Shards {
		owned[p.Owner]++
	}
	return owned
}

// Whatever happens, plans come to rest, and with one owner if any node may own and no shard
// is a node's that is down; no more shards change hands than have to, and
// none while all are well together.
func TestOwnersTogetherRest(t *testing.T) {
	for seed := range uint64(60) {
		g := newGathering(t, seed)
		g.rest()
		for range 30 {
			g.happen()
			silent := g.silent > 0
			before := g.owned()
			most, stuck, drains := 0, before[0], false
			for _, m := range g.s.Members {
				if g.s.mayOwn(m.ID) {
					most = max(most, before[m.ID])
				}
				if !m.Up {
					stuck += before[m.ID]
				}
				drains = drains || m.State == MemberDraining && m.Up && before[m.ID] > 0
			}
			may := g.anybody(func(m Member) bool { return g.s.mayOwn(m.ID) })
			g.handed = 0
			g.rest()
			after := g.owned()
			switch {
			case may == 0:
				require.Zero(t, g.handed, "seed %d", seed)
			case stuck > 0 && !drains:
				require.LessOrEqual(t, g.handed, 17-most-stuck, "seed %d", seed)
			case silent && drains: // each goes somewhere at once, and then perhaps again
				require.LessOrEqual(t, g.handed, 2*17, "seed %d", seed)
			case stuck == 0 && g.anybody(func(m Member) bool { return !m.Up }) > 0: // the system shard stays
				apart := map[uint64]bool{}
				for _, p := range g.s.Shards[1:] {
					apart[p.Owner] = true
				}
				require.Len(t, apart, 1, "seed %d: %v to %v", seed, before, after)
			case !drains && stuck == 0:
				require.Len(t, after, 1, "seed %d: %v, %d hand-overs", seed, before, g.handed)
				require.Equal(t, 17-most, g.handed, "seed %d: %v to %v", seed, before, after)
			case stuck == 0:
				require.Len(t, after, 1, "seed %d: %v", seed, before)
			}
			for node, n := range after {
				m, _ := g.s.Member(node)
				require.False(t, may != 0 && m.Up && m.State == MemberDraining && n > 0, "seed %d: node %d drains and owns", seed, node)
			}
			g.handed = 0
			g.rest()
			require.Zero(t, g.handed, "seed %d: it does not rest", seed)
		}
	}
}

// A node more than there are replicas spreads the owners, and one less gathers them again.
func TestOwnersSpreadAndGather(t *testing.T) {
	s, _ := plannedMembers("1 2 3")
	s.Ring = plannedRing(16)
	for id := range ID(17) {
		s.Shards = append(s.Shards, plannedShard(id, "1*"))
	}
	owners := func() int {
		owners := map[uint64]bool{}
		for _, p := range s.Shards {
			owners[p.Owner] = true
		}
		return len(owners)
	}
	nobody := func(uint64) bool { return false }
	run(t, &s, nobody)
	require.Equal(t, 1, owners())
	s.Members = append(s.Members, Member{ID: 4, Host: "h4", Up: true})
	run(t, &s, nobody)
	require.Equal(t, 4, owners())
	s.Members[1].State = MemberLeaving
	run(t, &s, nobody)
	require.Equal(t, 1, owners())
	for _, p := range s.Shards {
		require.ElementsMatch(t, []ring.NodeID{1, 3, 4}, s.nodes(p.Voters))
	}
}
