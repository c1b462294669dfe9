package paxostest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
)

func isA(err, target error) bool { return errors.Is(err, target) }

// Run runs the suite on clusters of n hosts that newCluster returns.
func Run(t *testing.T, newCluster func(t *testing.T, n int) Cluster) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.run(newWorld(t, newCluster(t, c.hosts), c.hosts, c.voters))
		})
	}
}

// RunAlone runs the part of the suite that needs one host and no power cuts.
func RunAlone(t *testing.T, newCluster func(t *testing.T) Cluster) {
	for _, c := range cases {
		if c.hosts > 1 || c.cuts {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			c.run(newWorld(t, newCluster(t), 1, 1))
		})
	}
}

// RunWithoutLog runs the part of the suite that needs one host, and no log that the state
// machine could be compared with, nor elections.
func RunWithoutLog(t *testing.T, newCluster func(t *testing.T) Cluster) {
	for _, c := range cases {
		if c.hosts > 1 || needLog[c.name] {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			c.run(newWorld(t, newCluster(t), 1, 1))
		})
	}
}

var needLog = map[string]bool{
	"a state machine that lost synced data is refused": true,
	"a state machine of another replica is refused":    true,
	"the leader is announced":                          true,
}

var cases = []struct {
	name          string
	hosts, voters int
	cuts          bool
	run           func(*world)
}{
	{"applied in order with results", 1, 1, false, results},
	{"what a caller may do wrong", 1, 1, false, misuse},
	{"proposals at the same time", 1, 1, false, concurrent},
	{"groups do not know each other", 1, 1, false, independent},
	{"a graceful restart loses nothing", 1, 1, false, restart},
	{"a power cut loses nothing acknowledged", 1, 1, true, powerCuts},
	{"start, stop and start again", 1, 1, false, lifecycle},
	{"a state machine that lost synced data is refused", 1, 1, false, behind},
	{"a state machine of another replica is refused", 1, 1, false, ahead},
	{"the leader is announced", 1, 1, false, announced},
	{"every replica proposes and all agree", 3, 3, false, replicate},
	{"leadership can be handed over", 3, 3, false, transfer},
	{"a leader out of reach is replaced", 3, 3, false, isolation},
	{"a lagging replica is restored from a snapshot", 3, 3, false, restore},
	{"members come and go", 4, 3, false, membership},
	{"a group of one grows from a state that no log has", 3, 1, true, grow},
	{"crashes under load", 3, 3, true, crashes},
}

const g1 = paxos.GroupID(1)

func results(w *world) {
	g := w.start(0, g1)
	require.Equal(w.t, paxos.ReplicaID(1), g.Replica())
	var last paxos.Index
	for i := range 100 {
		r, err := g.Propose(context.Background(), []byte(fmt.Sprint("c", i)))
		require.NoError(w.t, err)
		require.Equal(w.t, strconv.Itoa(i+1), string(r))
		require.Greater(w.t, g.Applied(), last)
		last = g.Applied()
	}
	require.Len(w.t, w.converge(g1, 0), 100)
	leader, term, ok := g.Leader()
	require.True(w.t, ok)
	require.Equal(w.t, paxos.ReplicaID(1), leader)
	require.NotZero(w.t, term)
	m, err := g.Membership(context.Background())
	require.NoError(w.t, err)
	require.Equal(w.t, map[paxos.ReplicaID]string{1: w.cluster.ID(0)}, m.Voters)
	require.Empty(w.t, m.Learners)
	require.Empty(w.t, m.Removed)
}

func misuse(w *world) {
	h := w.nodes[0].host
	for _, spec := range []paxos.GroupSpec{
		{},
		{Group: 1},
		{Group: 1, Replica: 2, Members: w.members},
		{Group: 1, Replica: 1, Members: w.members, Join: true},
	} {
		_, err := h.Start(spec, NewMachine(&Disk{}))
		require.Error(w.t, err, "%+v", spec)
	}
	g := w.start(0, g1)
	_, err := h.Start(paxos.GroupSpec{Group: 1, Replica: 1, Members: w.members}, NewMachine(&Disk{}))
	require.ErrorIs(w.t, err, paxos.ErrRunning)
	w.mustPropose(0, g1, "first")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = g.Propose(ctx, []byte("too late"))
	require.ErrorIs(w.t, err, paxos.ErrNotSent)
	_, err = g.Propose(context.Background(), bytes.Repeat([]byte("x"), paxos.MaxCommand+1))
	require.ErrorIs(w.t, err, paxos.ErrTooLarge)
	require.Panics(w.t, func() { _, _ = g.Propose(context.Background(), nil) })
	require.ErrorIs(w.t, h.Stop(7), paxos.ErrNotRunning)
	require.ErrorIs(w.t, h.Purge(1, 1), paxos.ErrRunning)
	command := []byte("mine")
	_, err = g.Propose(context.Background(), command)
	require.NoError(w.t, err)
	require.Equal(w.t, []string{"first", "mine"}, w.converge(g1, 0))
}

func concurrent(w *world) {
	w.start(0, g1)
	var wg sync.WaitGroup
	for p := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := w.propose(0, g1, fmt.Sprintf("p%d-%d", p, i), settle); err != nil {
					w.t.Errorf("proposal %d of %d: %v", i, p, err)
					return
				}
			}
		})
	}
	wg.Wait()
	commands := w.converge(g1, 0)
	require.Len(w.t, commands, 400)
	next := make(map[string]int) // each proposer's own order is kept
	for _, c := range commands {
		var p string
		var i int
		_, err := fmt.Sscanf(c, "p%1s-%d", &p, &i)
		require.NoError(w.t, err)
		require.Equal(w.t, next[p], i)
		next[p]++
	}
}

func independent(w *world) {
	const groups = 5
	for g := paxos.GroupID(1); g <= groups; g++ {
		w.start(0, g)
	}
	for i := range 20 {
		for g := paxos.GroupID(1); g <= groups; g++ {
			w.mustPropose(0, g, fmt.Sprintf("g%d-%d", g, i))
		}
	}
	for g := paxos.GroupID(1); g <= groups; g++ {
		commands := w.converge(g, 0)
		require.Len(w.t, commands, 20)
		for i, c := range commands {
			require.Equal(w.t, fmt.Sprintf("g%d-%d", g, i), c)
		}
	}
}

func restart(w *world) {
	n := 0
	for round := range 3 {
		if round > 0 {
			w.open(0)
		}
		w.start(0, g1)
		for range 10 {
			n++
			w.mustPropose(0, g1, fmt.Sprint("c", n))
		}
		require.Len(w.t, w.converge(g1, 0), n)
		w.close(0)
		require.Equal(w.t, round+1, w.disk(0, g1).Closes())
	}
}

func powerCuts(w *world) {
	n := 0
	for round := range 6 {
		if round > 0 {
			w.open(0)
		}
		w.start(0, g1)
		require.Len(w.t, w.converge(g1, 0), n, "after cut %d", round)
		for range 20 {
			n++
			w.mustPropose(0, g1, fmt.Sprint("c", n))
		}
		w.crash(0)
	}
	w.open(0)
	w.start(0, g1)
	require.Len(w.t, w.converge(g1, 0), n)
}

func lifecycle(w *world) {
	g := w.start(0, g1)
	h := w.nodes[0].host
	w.mustPropose(0, g1, "one")
	require.NoError(w.t, h.Stop(g1))
	require.Equal(w.t, 1, w.disk(0, g1).Closes())
	require.ErrorIs(w.t, h.Stop(g1), paxos.ErrNotRunning)
	_, err := g.Propose(context.Background(), []byte("late"))
	require.ErrorIs(w.t, err, paxos.ErrClosed)
	require.ErrorIs(w.t, g.ReadBarrier(context.Background()), paxos.ErrClosed)
	_, _, ok := g.Leader()
	require.False(w.t, ok)
	w.start(0, g1)
	w.mustPropose(0, g1, "two")
	require.Equal(w.t, []string{"one", "two"}, w.converge(g1, 0))
	require.NoError(w.t, h.Stop(g1))
	require.NoError(w.t, h.Purge(g1, 1))
	_, err = h.Start(paxos.GroupSpec{Group: 1, Replica: 1, Members: w.members}, NewMachine(&Disk{}))
	require.Error(w.t, err, "a purged replica id is spent")
}

func behind(w *world) {
	w.start(0, g1)
	for i := range 300 {
		w.mustPropose(0, g1, fmt.Sprint("c", i))
	}
	require.NoError(w.t, w.cluster.Compact(g1))
	d := w.disk(0, g1)
	w.eventually("synced before the log is cut", func() bool { return d.Syncs() > 0 })
	require.NoError(w.t, w.nodes[0].host.Stop(g1))
	d.Wipe()
	_, err := w.nodes[0].host.Start(paxos.GroupSpec{Group: 1, Replica: 1, Members: w.members}, NewMachine(d))
	require.ErrorIs(w.t, err, paxos.ErrBehind)
	require.Equal(w.t, 2, d.Closes(), "a state machine whose start failed is closed")
}

func ahead(w *world) {
	d := &Disk{}
	d.current.Applied = 17
	_, err := w.nodes[0].host.Start(paxos.GroupSpec{Group: 1, Replica: 1, Members: w.members}, NewMachine(d))
	require.ErrorIs(w.t, err, paxos.ErrForeign)
	require.Equal(w.t, 1, d.Closes())
	w.start(0, g1)
	w.mustPropose(0, g1, "fine")
}

func announced(w *world) {
	w.start(0, g1)
	timeout := time.After(settle)
	for {
		select {
		case e := <-w.nodes[0].host.Events():
			if e.Kind == paxos.LeaderChanged && e.Leader == 1 {
				require.Equal(w.t, g1, e.Group)
				require.NotZero(w.t, e.Term)
				events := w.nodes[0].host.Events()
				w.close(0)
				for range events { // ends only when the channel is closed
				}
				return
			}
		case <-timeout:
			require.Fail(w.t, "no leader announced")
		}
	}
}

func replicate(w *world) {
	w.startAll(g1)
	for i := range 60 {
		c := w.persist(i%3, g1, fmt.Sprint("c", i))
		// What was acknowledged is seen behind a barrier anywhere.
		j := (i + 1) % 3
		gr, _ := w.group(j, g1)
		require.NoError(w.t, gr.ReadBarrier(context.Background()))
		require.Contains(w.t, w.disk(j, g1).Commands(), c)
	}
	require.GreaterOrEqual(w.t, len(w.converge(g1, 0, 1, 2)), 60)
}

// leader waits until a host believes in a leader and returns the leader's host.
func (w *world) leader(at int, g paxos.GroupID) int {
	w.t.Helper()
	var leader paxos.ReplicaID
	w.eventually("a leader", func() bool {
		gr, _ := w.group(at, g)
		id, _, ok := gr.Leader()
		leader = id
		return ok && id != 0
	})
	return int(leader) - 1
}

func transfer(w *world) {
	w.startAll(g1)
	w.persist(0, g1, "one")
	for range 3 {
		from := w.leader(0, g1)
		to := (from + 1) % 3
		w.converge(g1, 0, 1, 2)
		deadline := time.Now().Add(settle)
		for w.leader(0, g1) != to && time.Now().Before(deadline) {
			gr, _ := w.group(w.leader(0, g1), g1)
			// It may come to nothing and be refused while one is under way.
			_ = gr.TransferLeadership(paxos.ReplicaID(to + 1))
			time.Sleep(20 * time.Millisecond)
		}
		require.Equal(w.t, to, w.leader(0, g1))
		w.persist(0, g1, fmt.Sprint("led by ", to, " from ", from, " ", len(w.acked[g1])))
	}
	w.converge(g1, 0, 1, 2)
}

func isolation(w *world) {
	w.startAll(g1)
	w.persist(0, g1, "before")
	old := w.leader(0, g1)
	rest := []int{(old + 1) % 3, (old + 2) % 3}
	w.cluster.Isolate(old)
	w.eventually("a new leader", func() bool {
		gr, _ := w.group(rest[0], g1)
		id, _, ok := gr.Leader()
		return ok && int(id)-1 != old && id != 0
	})
	err := w.propose(old, g1, "from the past", 300*time.Millisecond)
	require.Error(w.t, err, "a leader out of reach cannot commit")
	require.True(w.t, isA(err, paxos.ErrUnknownOutcome) || isA(err, paxos.ErrNotSent), "%v", err)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	gr, _ := w.group(old, g1)
	require.Error(w.t, gr.ReadBarrier(ctx), "a leader out of reach cannot prove that it is up to date")
	w.persist(rest[0], g1, "meanwhile")
	w.persist(rest[1], g1, "meanwhile too")
	w.cluster.Heal()
	w.persist(rest[0], g1, "after")
	w.converge(g1, 0, 1, 2)
}

func restore(w *world) {
	w.startAll(g1)
	w.persist(0, g1, "before")
	w.converge(g1, 0, 1, 2)
	w.close(2)
	for i := range 400 {
		w.persist(i%2, g1, fmt.Sprint("c", i))
	}
	require.NoError(w.t, w.cluster.Compact(g1))
	w.open(2)
	w.start(2, g1)
	// The outcome of a proposal inside a snapshot cannot be known.
	unknown := w.propose(2, g1, "inside", settle)
	if unknown != nil {
		require.ErrorIs(w.t, unknown, paxos.ErrUnknownOutcome)
	}
	w.persist(0, g1, "after")
	n := len(w.converge(g1, 0, 1, 2))
	require.GreaterOrEqual(w.t, n, 402)
	w.persist(2, g1, "at last")
	commands := w.converge(g1, 0, 1, 2)
	require.Greater(w.t, len(commands), n)
	require.Positive(w.t, w.disk(2, g1).Restores())
	w.close(2)
	w.open(2)
	w.start(2, g1)
	again := w.converge(g1, 0, 1, 2)
	require.Equal(w.t, commands, again[:len(commands)])
}

func membership(w *world) {
	w.startAll(g1)
	for i := range 20 {
		w.persist(0, g1, fmt.Sprint("c", i))
	}
	g, _ := w.group(0, g1)
	id4 := w.cluster.ID(3)
	before, err := g.Membership(context.Background())
	require.NoError(w.t, err)
	require.Len(w.t, before.Voters, 3)

	m := w.change(g,
		func(ctx context.Context, id uint64) error { return g.AddLearner(ctx, 4, id4, id) },
		func(m paxos.Membership) bool { return len(m.Learners) == 1 })
	require.Equal(w.t, map[paxos.ReplicaID]string{4: id4}, m.Learners)
	require.Greater(w.t, m.ChangeID, before.ChangeID)
	w.rejected(func(ctx context.Context) error { return g.AddLearner(ctx, 5, id4, before.ChangeID) })
	w.startSpec(3, paxos.GroupSpec{Group: g1, Replica: 4, Join: true, Learner: true})
	require.GreaterOrEqual(w.t, len(w.converge(g1, 0, 1, 2, 3)), 20)

	m = w.change(g,
		func(ctx context.Context, id uint64) error { return g.AddReplica(ctx, 4, id4, id) },
		func(m paxos.Membership) bool { return len(m.Voters) == 4 })
	require.Empty(w.t, m.Learners)

	m = w.change(g,
		func(ctx context.Context, id uint64) error { return g.RemoveReplica(ctx, 3, id) },
		func(m paxos.Membership) bool { return len(m.Voters) == 3 })
	require.Equal(w.t, []paxos.ReplicaID{3}, m.Removed)
	w.rejected(func(ctx context.Context) error { return g.AddReplica(ctx, 3, w.cluster.ID(2), m.ChangeID) })
	w.persist(3, g1, "by the new one")
	w.converge(g1, 0, 1, 3)
	w.forget(2, paxos.GroupSpec{Group: g1, Replica: 3, Restart: true})
	w.persist(0, g1, "without the old one")
	w.converge(g1, 0, 1, 3)
}

// grow adds members to a group that began, at index 0, with a state: they get it, whoever
// leads, and wherever the power was cut before.
func grow(w *world) {
	w.disk(0, g1).Seed("inherited")
	g := w.start(0, g1)
	w.persist(0, g1, "own")
	for i := range 2 {
		w.crash(0)
		w.open(0)
		g = w.start(0, g1)
		w.persist(0, g1, fmt.Sprint("after cut ", i))
	}
	has := func(all map[paxos.ReplicaID]string, id paxos.ReplicaID) bool { return all[id] != "" }
	join := func(by paxos.Group, host int) {
		id := paxos.ReplicaID(host + 1)
		w.change(by,
			func(ctx context.Context, change uint64) error {
				return by.AddLearner(ctx, id, w.cluster.ID(host), change)
			},
			func(m paxos.Membership) bool { return has(m.Learners, id) })
		joined := w.startSpec(host, paxos.GroupSpec{Group: g1, Replica: id, Join: true, Learner: true})
		w.eventually("the learner says that it has everything", func() bool { return joined.Applied() >= by.Applied() })
		w.change(by,
			func(ctx context.Context, change uint64) error {
				return by.AddReplica(ctx, id, w.cluster.ID(host), change)
			},
			func(m paxos.Membership) bool { return has(m.Voters, id) })
	}
	join(g, 1)
	w.persist(0, g1, "among two")
	require.Equal(w.t, "inherited", w.converge(g1, 0, 1)[0])
	w.crash(0)
	w.open(0)
	w.start(0, g1)
	second, _ := w.group(1, g1)
	w.eventually("the second leads", func() bool {
		_ = second.TransferLeadership(2)
		leader, _, ok := second.Leader()
		return ok && leader == 2
	})
	join(second, 2)
	w.persist(1, g1, "among three")
	commands := w.converge(g1, 0, 1, 2)
	require.Equal(w.t, "inherited", commands[0])
	require.Positive(w.t, w.disk(1, g1).Restores())
	require.Positive(w.t, w.disk(2, g1).Restores())
}

// forget restarts a host with a replica that its group has removed, which may know it
// or not, and purges that.
func (w *world) forget(i int, spec paxos.GroupSpec) {
	w.crash(i)
	w.open(i)
	h := w.nodes[i].host
	if _, err := h.Start(spec, NewMachine(w.disk(i, spec.Group))); err != nil {
		require.ErrorIs(w.t, err, paxos.ErrRemoved)
	} else {
		require.NoError(w.t, h.Stop(spec.Group))
	}
	require.NoError(w.t, h.Purge(spec.Group, spec.Replica))
	stored, err := h.Stored()
	require.NoError(w.t, err)
	require.Empty(w.t, stored)
}

// crashes lets clients propose on every host while hosts lose power, one at a
// time and all at once. Proposals whose outcome is unknown may be there or
// not; the acknowledged ones must be, once.
func crashes(w *world) {
	seed := rand.Uint64()
	w.t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w.startAll(g1)
	w.persist(0, g1, "first")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := w.propose(i, g1, fmt.Sprintf("h%d-%d", i, n), time.Second); err != nil {
					time.Sleep(2 * time.Millisecond)
				}
			}
		})
	}
	ackedNow := func() int {
		w.mu.RLock()
		defer w.mu.RUnlock()
		return len(w.acked[g1])
	}
	for range 5 {
		before := ackedNow()
		w.eventually("progress", func() bool { return ackedNow() > before+10 })
		victims := []int{rng.IntN(3)}
		if rng.IntN(4) == 0 {
			victims = []int{0, 1, 2}
		}
		for _, i := range victims {
			w.crash(i)
		}
		for _, i := range victims {
			w.open(i)
			w.start(i, g1)
		}
	}
	before := ackedNow()
	w.eventually("progress at the end", func() bool { return ackedNow() > before+10 })
	close(stop)
	wg.Wait()
	w.converge(g1, 0, 1, 2)
}
