package shard

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRefusals(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	known := []Member{
		{ID: 1, Host: "h1", Name: "Anna", Cluster: "a1", Incarnation: 5, Life: 77},
		{ID: 2, Host: "h2", Name: "bert", Cluster: "a2", Incarnation: 3, State: MemberRemoved},
	}
	n := &Node{c: Config{Cluster: [16]byte{7}}}
	for _, c := range []struct {
		name   string
		change func(*RegisterRequest)
		heard  uint64 // process of node 1 that was heard of a moment ago
		want   string
	}{
		{name: "a new node", change: func(q *RegisterRequest) { q.Member = Member{Host: "h9", Name: "carl"}; q.Cluster = [16]byte{} }},
		{name: "a member again", change: func(*RegisterRequest) {}},
		{name: "a member again, a moment after its last life", heard: 4, change: func(*RegisterRequest) {}},
		{name: "another cluster", change: func(q *RegisterRequest) { q.Cluster = [16]byte{8} }, want: "belongs to cluster"},
		{name: "a clock that is behind", change: func(q *RegisterRequest) { q.Millis -= 3_600_000 }, want: "clock is 1h0m0s away"},
		{name: "a clock that is ahead", change: func(q *RegisterRequest) { q.Millis += 61_000 }, want: "clock is 1m1s away"},
		{name: "a clock that is a little off", change: func(q *RegisterRequest) { q.Millis += 30_000 }},
		{name: "a number that nobody has", change: func(q *RegisterRequest) { q.Member.ID = 9 }, want: "no node has number 9"},
		{name: "a removed node", change: func(q *RegisterRequest) { q.Member = Member{ID: 2, Host: "h2"} }, want: "was removed"},
		{name: "a removed node that joins with its old log", change: func(q *RegisterRequest) { q.Member = Member{Host: "h2"} }, want: "was removed"},
		{name: "another log", change: func(q *RegisterRequest) { q.Member.Host = "h9" }, want: "another log"},
		{name: "a copy while the original runs", heard: 4, change: func(q *RegisterRequest) { q.Member.Cluster = "elsewhere" }, want: "runs already, at a1"},
		{name: "a copy of an older state", change: func(q *RegisterRequest) { q.Lives = []uint64{55, 66} }, want: "older copy"},
		{name: "a name that is taken", change: func(q *RegisterRequest) { q.Member = Member{Host: "h9", Name: "ANNA"} }, want: "has the name"},
		{name: "the name of a removed node", change: func(q *RegisterRequest) { q.Member = Member{Host: "h9", Name: "bert"} }},
		{name: "its own name", change: func(q *RegisterRequest) { q.Member.Name = "anna" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := &RegisterRequest{Member: Member{ID: 1, Host: "h1", Name: "Anna", Cluster: "a1", Life: 88}, Process: 3, Lives: []uint64{66, 77, 88},
				Cluster: [16]byte{7}, Millis: uint64(now.UnixMilli())}
			c.change(q)
			g := &registrar{heard: map[uint64]heardOf{}}
			if c.heard != 0 {
				g.heard[1] = heardOf{at: now.Add(-time.Second), process: c.heard}
			}
			old, member := findMember(known, q.Member)
			why := n.refusal(q, old, member, known, g, now)
			if c.want == "" {
				require.Empty(t, why)
			} else {
				require.Contains(t, why, c.want)
			}
		})
	}
}

func TestChangeRefusals(t *testing.T) {
	for _, c := range []struct {
		name, members string
		replication   uint64
		node          uint64
		to            MemberState
		shard, want   string
	}{
		{name: "drain", members: "1 2 3", node: 2, to: MemberDraining},
		{name: "nobody", members: "1 2 3", node: 9, to: MemberDraining, want: "no such node"},
		{name: "leave four", members: "1 2 3 4", node: 2, to: MemberLeaving},
		{name: "leave three", members: "1 2 3", node: 2, to: MemberLeaving},
		{name: "leave three that were asked for", members: "1 2 3", replication: 3, node: 2, to: MemberLeaving, want: "lower the replication factor"},
		{name: "the last one", members: "1", node: 1, to: MemberLeaving, want: "0 nodes would be left"},
		{name: "remove with a replica", members: "1 2 3 4l", node: 4, to: MemberRemoved, shard: "1* 2 4", want: "still has a replica"},
		{name: "remove with a learner", members: "1 2 3 4l", node: 4, to: MemberRemoved, shard: "1* 2 3 +4", want: "still has a replica"},
		{name: "remove", members: "1 2 3 4l", node: 4, to: MemberRemoved, shard: "1* 2 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := plannedMembers(c.members)
			s.Replication = c.replication
			s.Shards = []ShardPlace{plannedShard(1, c.shard)}
			m, ok := s.Member(c.node)
			why := changeRefusal(&s, m, ok, c.to)
			if c.want == "" {
				require.Empty(t, why)
			} else {
				require.Contains(t, why, c.want)
			}
		})
	}
}

// What one process heard in one epoch counts in its next; a new owner gives every
// node the time to be heard.
func TestRegistrarRemembers(t *testing.T) {
	now := time.Unix(1000, 0)
	g := &registrar{}
	g.enter(3, now)
	g.asked = now
	g.take(&HeartbeatRequest{Node: 1, Replicas: []ReplicaReport{{Shard: 1, Serving: true, Epoch: 7, ChangeID: 2, Voters: []Seat{{1, "h1"}}}}}, now)
	require.True(t, g.up(2, now.Add(time.Second)), "not heard of yet")
	require.False(t, g.up(2, now.Add(2*upFor)))
	g.asked = now.Add(2 * upFor)
	g.enter(4, now.Add(2*upFor))
	require.False(t, g.up(2, now.Add(2*upFor)))
	g.take(&HeartbeatRequest{Node: 2, Replicas: []ReplicaReport{{Shard: 1, Serving: true, Epoch: 6, ChangeID: 1}}}, now)
	require.EqualValues(t, 1, g.places[1].Owner, "the later epoch is right")
	g.take(&HeartbeatRequest{Node: 1, Replicas: []ReplicaReport{{Shard: 1}}}, now)
	require.Zero(t, g.places[1].Owner, "it serves no more")
	g.enter(9, now.Add(time.Hour))
	require.True(t, g.up(2, now.Add(time.Hour)))
}
