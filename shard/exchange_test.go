package shard

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func describeExchange(x exchange) string {
	var words []string
	for _, s := range slices.Sorted(maps.Keys(x)) {
		words = append(words, fmt.Sprintf("%d to %d", s, x[s]))
	}
	return strings.Join(words, ", ")
}

// Shards are numbered from 0, the system shard, on; each with its replicas and its rate.
func TestPlanExchange(t *testing.T) {
	const even = "1* 2 =0, 1* 3 =%d, 1* 3 =%d, 2* 1 =%d, 2* 3 =%d, 3* 1 =%d, 3* 2 =%d"
	for _, c := range []struct {
		name, members, shards, want string
		more                        int // replicas than there are where owners are spread
	}{
		{"nothing to do", "1 2 3", fmt.Sprintf(even, 100, 100, 100, 100, 100, 100), "", 0},
		{"two hot shards on one node", "1 2 3", fmt.Sprintf(even, 1000, 900, 100, 100, 10, 10), "2 to 3", 0},
		{"one hot shard is hot anywhere", "1 2 3", fmt.Sprintf(even, 1000, 0, 0, 0, 0, 0), "", 0},
		{"but what is beside it goes", "1 2 3", fmt.Sprintf(even, 1000, 900, 300, 300, 100, 10), "1 to 3, 5 to 1", 0},
		{"an idle cluster stays", "1 2 3", fmt.Sprintf(even, 50, 40, 0, 0, 0, 0), "", 0},
		{"a small difference stays", "1 2 3", fmt.Sprintf(even, 1100, 1100, 1000, 1000, 1000, 1000), "", 0},
		{"not while a node is down", "1 2 3x", fmt.Sprintf(even, 1000, 900, 100, 100, 10, 10), "", 0},
		{"not while one drains", "1 2 3d", fmt.Sprintf(even, 1000, 900, 100, 100, 10, 10), "", 0},
		{"not while replicas are added", "1 2 3", "1* 2 =0, 1* 3 =1000, 1* 3 =900, 2* 1 =100, 2* +3 =100, 3* 1 =10, 3* 2 =10", "", 0},
		{"not without an owner", "1 2 3", "1* 2 =0, 1* 3 =1000, 1* 3 =900, 2* 1 =100, 2 3 =100, 3* 1 =10, 3* 2 =10", "", 0},
		{"not without all rates", "1 2 3", "1* 2 =0, 1* 3 =1000, 1* 3 =900, 2* 1 =100, 2* 3, 3* 1 =10, 3* 2 =10", "", 0},
		{"the system shard stays", "1 2 3", "1* 3 =900, 2* 1 =0, 3* 2 =0", "", 0},
		{"one alone where the numbers allow it", "1 2 3", "1* 2 =0, 1* 3 =1000, 2* 3 =900, 2* 1 =900, 3* 1 =10", "2 to 3", 0},
		{"only to a node with a replica", "1 2 3 4", "1* 2 3 =0, 1* 2 3 =1000, 1* 2 3 =900, 2* 1 4 =500, 3* 2 4 =500, 4* 2 3 =0", "", 0},
		{"a hot shard that stays hot hides no others", "1 2 3", fmt.Sprintf(even, 3000, 0, 1400, 1400, 10, 10), "4 to 3, 6 to 2", 0},
		{"nor does a hot system shard", "1 2 3", "1* 2 =3000, 1* 3 =0, 1* 3 =0, 2* 1 =1400, 2* 3 =1400, 3* 1 =10, 3* 2 =10", "4 to 3, 6 to 2", 0},
		{"not where one node is to own all", "1 2 3", fmt.Sprintf(even, 1000, 900, 100, 100, 10, 10), "", 1},
		{"one node", "1", "1* =0, 1* =5000", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := plannedMembers(c.members)
			s.Replication = uint64(len(s.Members) - 1 + c.more)
			rates := map[ID]float64{}
			for i, text := range strings.Split(c.shards, ", ") {
				place, rate, known := strings.Cut(text, "=")
				s.Shards = append(s.Shards, plannedShard(ID(i), place))
				if known {
					var r float64
					fmt.Sscan(rate, &r)
					rates[ID(i)] = r
				}
			}
			require.Equal(t, c.want, describeExchange(planExchange(&s, rates)))
		})
	}
}

// Whatever the rates are, exchanges come to an end, each makes the work more even, and
// the plan of moves undoes none of them.
func TestExchangesEnd(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		nodes := "1 2 3 4 5 6"[:2*(4+rnd.IntN(3))-1] // more than replicas
		s, _ := plannedMembers(nodes)
		rates := map[ID]float64{}
		for id := range ID(17) {
			s.Shards = append(s.Shards, plannedShard(id, "1*"))
			rates[id] = 10000 * rnd.ExpFloat64() * rnd.ExpFloat64()
		}
		run(t, &s, func(uint64) bool { return false })
		numbers := func() map[uint64]int {
			n := map[uint64]int{}
			for _, p := range s.Shards {
				n[p.Owner]++
			}
			return n
		}
		uneven := func() (sum float64) { // of the squares: least where all do the same
			work, ok := workOf(&s, rates)
			require.True(t, ok)
			for _, w := range work {
				sum += w * w
			}
			return sum
		}
		rounds := 0
		for x := planExchange(&s, rates); x != nil; x = planExchange(&s, rates) {
			before := uneven()
			for step := 0; ; step++ {
				steps := movePlan(&s, func(uint64) bool { return false }, nil, always, x)
				if len(steps) == 0 {
					break
				}
				require.Less(t, step, 2, "seed %d: more than an exchange: %v", seed, steps)
				require.Len(t, steps, 1)
				require.Equal(t, SeatOwner, steps[0].seat.Change)
				i := slices.IndexFunc(s.Shards, func(p ShardPlace) bool { return p.Shard == steps[0].shard })
				carryOut(&s.Shards[i], steps[0])
			}
			require.Empty(t, movePlan(&s, func(uint64) bool { return false }, nil, always, nil), "seed %d: it is taken back", seed)
			require.Less(t, uneven(), before, "seed %d", seed)
			rounds++
			require.Less(t, rounds, 100, "seed %d: no end", seed)
		}
		t.Logf("seed %d: %d nodes, %d exchanges, owners %v", seed, len(s.Members), rounds, numbers())
	}
}

// Rates are those of one tenure, from two answers that were both given.
func TestLoadSurvey(t *testing.T) {
	var l loadSurvey
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	l.take([]ShardLoad{{1, 5, 1000}, {2, 5, 50}}, at(0))
	require.Empty(t, l.rates(at(0), time.Minute), "one look is no rate")
	l.take([]ShardLoad{{1, 5, 3000}, {2, 6, 70}}, at(10))
	require.Equal(t, map[ID]float64{1: 200}, l.rates(at(10), time.Minute), "2 has another owner")
	l.take([]ShardLoad{{2, 6, 170}, {1, 4, 9000}}, at(20))
	require.Equal(t, map[ID]float64{1: 200, 2: 10}, l.rates(at(20), time.Minute), "what was deposed does not count")
	require.Equal(t, map[ID]float64{2: 10}, l.rates(at(25), 10*time.Second), "1 was not heard of")
	l.forget()
	require.Empty(t, l.rates(at(25), time.Minute))

	s, _ := plannedMembers("1 2 3")
	s.Shards = []ShardPlace{plannedShard(1, "1* 2 3"), plannedShard(2, "2* 1 3")}
	l.want(exchange{1: 2, 2: 1}, at(30))
	require.Equal(t, map[ID]uint64{1: 2, 2: 1}, l.aimed(&s, at(31)))
	s.Shards[0].Owner = 2
	require.Equal(t, map[ID]uint64{2: 1}, l.aimed(&s, at(32)), "1 is there")
	require.Empty(t, l.aimed(&s, at(120)), "not for ever")
	for _, gone := range []func(m *Member){func(m *Member) { m.Up = false }, func(m *Member) { m.State = MemberDraining }} {
		s, _ := plannedMembers("1 2 3")
		s.Shards = []ShardPlace{plannedShard(1, "3* 1 2")}
		l.want(exchange{1: 2}, at(200))
		require.Len(t, l.aimed(&s, at(201)), 1)
		gone(&s.Members[1])
		require.Empty(t, l.aimed(&s, at(202)), "it cannot own")
		s, _ = plannedMembers("1 2 3")
		require.Empty(t, l.aimed(&s, at(203)), "it is not wanted again when it comes back")
	}
}
