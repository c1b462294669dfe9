package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/ring"
)

// planned is a cluster for movePlan: "1 2 3" are active nodes, "4d" drains, "5l"
// leaves, "6x" is down, "7X" is dead.
func plannedMembers(text string) (s ClusterState, dead map[uint64]bool) {
	dead = map[uint64]bool{}
	for word := range strings.FieldsSeq(text) {
		m := Member{Up: true}
		mark := strings.TrimLeft(word, "0123456789")
		fmt.Sscan(strings.TrimSuffix(word, mark), &m.ID)
		switch mark {
		case "d":
			m.State = MemberDraining
		case "l":
			m.State = MemberLeaving
		case "x":
			m.Up = false
		case "X":
			m.Up = false
			dead[m.ID] = true
		}
		m.Host = fmt.Sprint("h", m.ID)
		s.Members = append(s.Members, m)
	}
	return s, dead
}

// plannedShard is a shard: "1* 2 +3 +4r" is owned by node 1, node 2 votes, node 3
// has a learner that does not run, that of node 4 has caught up. Replica numbers
// are those of the nodes plus ten.
func plannedShard(id ID, text string) ShardPlace {
	p := ShardPlace{Shard: id, Applied: 1000}
	for word := range strings.FieldsSeq(text) {
		var node uint64
		fmt.Sscan(strings.Trim(word, "+*rc"), &node)
		seat := Seat{Replica: paxos.ReplicaID(node + 10), Host: fmt.Sprint("h", node)}
		applied := uint64(1000)
		switch {
		case !strings.HasPrefix(word, "+"):
			p.Voters = append(p.Voters, seat)
		case strings.HasSuffix(word, "c"):
			applied = 10
			fallthrough
		default:
			p.Learners = append(p.Learners, seat)
		}
		if strings.HasSuffix(word, "*") {
			p.Owner = node
		}
		if !strings.HasPrefix(word, "+") || strings.HasSuffix(word, "r") || strings.HasSuffix(word, "c") {
			p.Running = append(p.Running, RunningReplica{Node: node, Replica: seat.Replica, Applied: applied})
		}
	}
	return p
}

func TestMovePlan(t *testing.T) {
	for _, c := range []struct {
		name, members, shard string
		replication          uint64
		want                 string
	}{
		{name: "one node", members: "1", shard: "1*"},
		{name: "two nodes keep one replica", members: "1 2", shard: "1*"},
		{name: "three nodes begin", members: "1 2 3", shard: "1*", want: "learner on 2|learner on 3"},
		{name: "the second learner comes before any voter", members: "1 2 3", shard: "1* +2r", want: "learner on 3"},
		{name: "a learner must be started", members: "1 2 3", shard: "1* +2 +3r", want: "start 12 on 2"},
		{name: "a learner is behind", members: "1 2 3", shard: "1* +2c +3r", want: "copying"},
		{name: "a learner that is down does not vote", members: "1 2 3x", shard: "1* 2 +3r"},
		{name: "learners become voters", members: "1 2 3", shard: "1* +2r +3r", want: "voter 12"},
		{name: "one after the other", members: "1 2 3", shard: "1* 2 +3r", want: "voter 13"},
		{name: "done", members: "1 2 3", shard: "1* 2 3"},
		{name: "nothing without an owner", members: "1 2 3", shard: "1 +2r"},
		{name: "a node that is down gets nothing", members: "1 2x 3", shard: "1* +3r"},
		{name: "a node that is down keeps what it has", members: "1 2 3x 4", shard: "1* 2 3"},
		{name: "a dead node is replaced", members: "1 2 3X 4", shard: "1* 2 3", want: "learner on 4"},
		{name: "and then removed", members: "1 2 3X 4", shard: "1* 2 3 4", want: "remove 13"},
		{name: "the dead stay where nobody can replace them", members: "1 2 3X", shard: "1* 2 3"},
		{name: "leaving gives replicas away", members: "1 2 3l 4", shard: "1* 2 3", want: "learner on 4"},
		{name: "and leaves last", members: "1 2 3l 4", shard: "1* 2 3 4", want: "remove 13"},
		{name: "an owner hands over before it is removed", members: "1 2 3l 4", shard: "3* 1 2 4", want: "owner 1|owner 2|owner 4"},
		{name: "no voter goes while the others are no majority", members: "1 2x 3l 4x", shard: "1* 2 3 4"},
		{name: "draining gives only ownership away", members: "1d 2 3", shard: "1* 2 3", want: "owner 2|owner 3"},
		{name: "to nobody who is down", members: "1d 2x 3", shard: "1* 2 3", want: "owner 3"},
		{name: "a learner that is not wanted goes", members: "1 2 3 4l", shard: "1* 2 3 +4r", want: "remove 14"},
		{name: "as asked for", members: "1 2 3", shard: "1*", replication: 1},
		{name: "two if somebody insists", members: "1 2 3", shard: "1*", replication: 2, want: "learner on 2|learner on 3"},
		{name: "fewer than there are, one that is down first", members: "1 2x 3", shard: "3* 1 2", replication: 1, want: "remove 12"},
		{name: "fewer than there are", members: "1 2 3", shard: "1* 2 3", replication: 1, want: "remove 12|remove 13"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dead := plannedMembers(c.members)
			s.Replication = c.replication
			s.Shards = []ShardPlace{plannedShard(1, c.shard)}
			var got []string
			for _, step := range movePlan(&s, func(node uint64) bool { return dead[node] }, nil, always, nil) {
				got = append(got, describeStep(step))
			}
			require.LessOrEqual(t, len(got), 1, "one step at a time: %v", got)
			require.Contains(t, strings.Split(c.want, "|"), strings.Join(got, ""))
		})
	}
}

func always(ID) bool { return true }

// What is under way counts against what may be at a time, and a shard whose step has
// failed does not keep the others waiting.
func TestMovePlanBesideSteps(t *testing.T) {
	under := func(c SeatChange) moveStep { return moveStep{seat: &SeatRequest{Change: c}} }
	for _, c := range []struct {
		name, members, shards string // shards from 1 on, a sign of what they do before each
		want                  string
	}{
		{name: "one hand-over at a time", members: "1d 2 3", shards: "1* 2 3, 1* 2 3, 1* 2 3", want: "1: owner 2"},
		{name: "none beside one that is under way", members: "1d 2 3", shards: "o 1* 2 3, 1* 2 3"},
		{name: "one that failed comes later", members: "1d 2 3", shards: "- 1* 2 3, 1* 2 3, 1* 2 3", want: "2: owner 2"},
		{name: "another shard's hand-over keeps nobody from adding", members: "1 2 3", shards: "o 1* 2 3, 1*", want: "2: learner on 2"},
		{name: "learners under way count", members: "1 2 3", shards: "l 1*, l 1*, 1*, 1*, 1*, 1*",
			want: "3: learner on 3, 4: learner on 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := plannedMembers(c.members)
			busy, later := map[ID]moveStep{}, map[ID]bool{}
			for i, text := range strings.Split(c.shards, ", ") {
				id := ID(i + 1)
				switch text[0] {
				case 'o':
					busy[id] = under(SeatOwner)
				case 'l':
					busy[id] = under(SeatLearner)
				case '-':
					later[id] = true
				}
				place := plannedShard(id, strings.TrimLeft(text, "ol- "))
				place.ChangeID = uint64(10 * id)
				s.Shards = append(s.Shards, place)
			}
			free := func(id ID) bool { _, under := busy[id]; return !under && !later[id] }
			var got []string
			for _, step := range movePlan(&s, func(uint64) bool { return false }, busy, free, nil) {
				got = append(got, fmt.Sprintf("%d: %s", step.shard, describeStep(step)))
				require.EqualValues(t, 10*step.shard, step.seat.ChangeID)
			}
			require.Equal(t, c.want, strings.Join(got, ", "))
		})
	}
}

func describeStep(s moveStep) string {
	switch {
	case s.start != nil:
		return fmt.Sprintf("start %d on %d", s.start.Replica, s.node)
	case s.seat == nil:
		return s.move.Step
	}
	switch s.seat.Change {
	case SeatLearner:
		return "learner on " + strings.TrimPrefix(s.seat.Host, "h")
	case SeatVoter:
		return fmt.Sprintf("voter %d", s.seat.Replica)
	case SeatRemove:
		return fmt.Sprintf("remove %d", s.seat.Replica)
	case SeatPart:
		return "part"
	}
	return fmt.Sprintf("owner %d", s.seat.Node)
}

// plannedRing is the ring of a picture with shards 0 to n.
func plannedRing(n int) []byte { return ring.New(n, 1).AppendBinary(nil) }

// A plan that is carried out step by step comes to an end, with every shard where
// it should be, owners spread evenly, or one where every node has every shard, no step
// undone, and a majority of each group up at every step.
func TestMovePlanEnds(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"1", "1 2 3"}, {"1 2 3", "1 2 3 4 5"}, {"1 2 3 4 5", "1 2 3 4l 5l"}, {"1 2 3", "1 2 3X 4"}, {"1 2 3 4", "1l 2 3 4"},
	} {
		s, _ := plannedMembers(c.from)
		s.Ring = plannedRing(16)
		for id := range ID(17) {
			s.Shards = append(s.Shards, plannedShard(id, "1*"))
		}
		run(t, &s, func(uint64) bool { return false })
		next, dead := plannedMembers(c.to)
		s.Members = next.Members
		moves := run(t, &s, func(node uint64) bool { return dead[node] })
		owned, held := map[uint64]int{}, map[uint64]int{}
		gone := 0
		for _, m := range s.Members {
			if m.State == MemberLeaving || dead[m.ID] {
				gone++
			}
		}
		left := len(s.Members) - gone
		for _, p := range s.Shards {
			owned[p.Owner]++
			require.Len(t, p.Voters, 3, "%s to %s", c.from, c.to)
			for _, v := range p.Voters {
				m, _ := s.byHost(v.Host)
				held[m.ID]++
			}
		}
		for _, m := range s.Members {
			if m.State == MemberLeaving || dead[m.ID] {
				require.Zero(t, held[m.ID])
				continue
			}
			require.InDelta(t, 17*3/float64(left), held[m.ID], 1, "%s to %s: %v", c.from, c.to, held)
			if left > 3 {
				require.InDelta(t, 17/float64(left), owned[m.ID], 1.01, "%s to %s: %v", c.from, c.to, owned)
			}
		}
		if left == 3 {
			require.Len(t, owned, 1, "%s to %s", c.from, c.to)
		}
		t.Logf("%s to %s: %d replicas added", c.from, c.to, moves)
	}
}

// run carries plans out until there is nothing to do and returns how many replicas
// were added.
func run(t *testing.T, s *ClusterState, dead func(uint64) bool) (added int) {
	for range 1000 {
		steps := movePlan(s, dead, nil, always, nil)
		if len(steps) == 0 {
			return added
		}
		for _, step := range steps {
			i := slices.IndexFunc(s.Shards, func(p ShardPlace) bool { return p.Shard == step.shard })
			p := &s.Shards[i]
			if step.seat != nil && step.seat.Change == SeatLearner {
				added++
			}
			carryOut(p, step)
			up := 0
			for _, v := range p.Voters {
				if m, ok := s.byHost(v.Host); ok && m.Up {
					up++
				}
			}
			require.Greater(t, 2*up, len(p.Voters), "shard %d has no majority after %s", p.Shard, describeStep(step))
		}
	}
	t.Fatal("the plan does not end")
	return 0
}

func carryOut(p *ShardPlace, step moveStep) {
	drop := func(seats []Seat, r paxos.ReplicaID) []Seat {
		return slices.DeleteFunc(slices.Clone(seats), func(s Seat) bool { return s.Replica == r })
	}
	if step.start != nil {
		p.Running = append(p.Running, RunningReplica{Node: step.node, Replica: step.start.Replica, Applied: p.Applied})
		return
	}
	switch q := step.seat; q.Change {
	case SeatLearner:
		highest := paxos.ReplicaID(100)
		for _, s := range slices.Concat(p.Voters, p.Learners) {
			highest = max(highest, s.Replica)
		}
		p.Learners = append(p.Learners, Seat{Replica: max(highest, slices.Max(append(p.Removed, 0))) + 1, Host: q.Host})
	case SeatVoter:
		p.Learners = drop(p.Learners, q.Replica)
		p.Voters = append(p.Voters, Seat{Replica: q.Replica, Host: q.Host})
	case SeatRemove:
		p.Learners, p.Voters = drop(p.Learners, q.Replica), drop(p.Voters, q.Replica)
		p.Removed = append(p.Removed, q.Replica)
	case SeatOwner:
		p.Owner = q.Node
	}
}
