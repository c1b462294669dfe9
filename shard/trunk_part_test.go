package shard_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
)

// partHost lets a test come between.
type partHost struct {
	paxos.Host
	mu   sync.Mutex
	stop func(g paxos.GroupID) error
	wrap func(spec paxos.GroupSpec, g paxos.Group) paxos.Group
}

func (h *partHost) Stop(g paxos.GroupID) error {
	h.mu.Lock()
	f := h.stop
	h.mu.Unlock()
	if f != nil {
		if err := f(g); err != nil {
			return err
		}
	}
	return h.Host.Stop(g)
}

func (h *partHost) Start(spec paxos.GroupSpec, sm paxos.StateMachine) (paxos.Group, error) {
	g, err := h.Host.Start(spec, sm)
	if err == nil && h.wrap != nil {
		g = h.wrap(spec, g)
	}
	return g, err
}

func partCluster(t *testing.T, hosts map[uint64]*partHost) *testCluster {
	c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1, versions: company}
	c.hosts = map[uint64]func(paxos.Host) paxos.Host{}
	for id, h := range hosts {
		c.hosts[id] = func(host paxos.Host) paxos.Host { h.Host = host; return h }
	}
	t.Cleanup(c.close)
	c.start(&testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}, versions: company})
	c.join()
	c.join()
	c.formed(3)
	return c
}

// voterOf tells the shards of which node 1's picture says that a node is a voter.
func (c *testCluster) voterOf(at, id int) (all []shard.ID) {
	for _, p := range c.node(at).node.State().Shards {
		for _, v := range p.Voters {
			if v.Host == fmt.Sprintf("host%d", id) && p.Shard != 0 {
				all = append(all, p.Shard)
			}
		}
	}
	return all
}

// slowStart lets a test hold up the start of groups.
type slowStart struct {
	*partHost
	before func(spec paxos.GroupSpec)
}

func (h *slowStart) Start(spec paxos.GroupSpec, sm paxos.StateMachine) (paxos.Group, error) {
	h.before(spec)
	return h.partHost.Start(spec, sm)
}

// A member cannot stop the trunk while the others go on and remove one of its replicas; when
// it is started again the data of its other shards is there.
func TestPartedDataStays(t *testing.T) {
	t.Parallel()
	h := &partHost{}
	victim := 3
	c := partCluster(t, map[uint64]*partHost{uint64(victim): h})
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "before", "v")
	}
	var reached atomic.Bool
	h.mu.Lock()
	h.stop = func(g paxos.GroupID) error {
		if g == companyGroup {
			reached.Store(true)
			return errors.New("it does not stop")
		}
		return nil
	}
	h.mu.Unlock()
	c.ahead.Store(int64(time.Minute))
	c.join()
	require.Eventually(t, reached.Load, time.Minute, 10*time.Millisecond)
	removed := func() bool {
		for _, p := range c.node(1).node.State().Shards {
			if p.Shard != 0 && len(p.Removed) > 0 && slices.Contains(p.Removed, paxos.ReplicaID(victim)) && !p.Shared {
				return true
			}
		}
		return false
	}
	require.Eventually(t, removed, time.Minute, 10*time.Millisecond)
	t.Log("voter of", c.voterOf(1, victim), "stored", c.groups(victim))
	h.mu.Lock()
	h.stop = nil
	h.mu.Unlock()
	n := c.crash(victim)
	c.start(n)
	mine := c.voterOf(1, victim)
	t.Log("voter of", mine, "stored", c.groups(victim))
	for _, s := range mine {
		snap := c.node(victim).engine.Space(uint64(s)).Snapshot()
		applied, ok, err := snap.Applied()
		snap.Close()
		t.Log("shard", s, "applied record", applied, ok, err)
		if !ok {
			t.Errorf("shard %d: the data of a voter that runs is gone", s)
		}
	}
	require.Eventually(t, func() bool { return settled(c.node(1).node.State(), 3) }, 2*time.Minute, 10*time.Millisecond)
	for s := shard.ID(1); s <= 4; s++ {
		require.Equal(t, "v", c.read(1, s, "before"))
	}
}

// A member is lost for good right after the end: it is removed from all shards.
func TestMemberLostAtTheParting(t *testing.T) {
	t.Parallel()
	h := &partHost{}
	victim := 2
	c := partCluster(t, map[uint64]*partHost{uint64(victim): h})
	gone := make(chan struct{})
	var once sync.Once
	h.wrap = nil
	c.ahead.Store(int64(time.Minute))
	// it dies with the first own group
	h.wrap = func(spec paxos.GroupSpec, g paxos.Group) paxos.Group {
		if spec.Group >= 2 && spec.Group <= 5 {
			once.Do(func() { close(gone) })
		}
		return g
	}
	c.join()
	<-gone
	c.crash(victim)
	at := 1
	deadline := time.Now().Add(60 * time.Second) // DeadAfter is 4 s
	for time.Now().Before(deadline) {
		if len(c.voterOf(at, victim)) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("after 60 s node %d, which is dead, is still a voter of %v; %+v", victim, c.voterOf(at, victim), c.node(at).node.State())
}

// A member is late, and the log has been cut behind it: it is removed, and gets new replicas.
func TestMemberTooLateForTheParting(t *testing.T) {
	t.Parallel()
	victim := 3
	c := partCluster(t, nil)
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "before", "v")
	}
	c.network.Hold(companyGroup, paxos.ReplicaID(c.node(victim).node.Replica(1)))
	c.ahead.Store(int64(time.Minute))
	replica := c.node(victim).node.Replica(1)
	c.join()
	require.Eventually(t, func() bool { return slices.Contains(c.groups(1), 2) }, time.Minute, 10*time.Millisecond)
	time.Sleep(time.Second)
	require.NoError(t, c.network.Compact(companyGroup))
	c.network.Release(companyGroup, replica)
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		if len(c.groups(4)) > 1 && settled(c.node(1).node.State(), 3) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("stored %v; after 60 s: %+v", c.groups(victim), c.node(1).node.State())
}

// The owner is slow to found the shards' groups and the others are not: when they own
// them, nobody reads from the one before.
func TestNoReadByTheTrunkThatWasLeft(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var held atomic.Bool
	h := &partHost{}
	c := newTestClusterOf(t, 0, company)
	c.node(1)
	n := c.crash(1)
	c.hosts = map[uint64]func(paxos.Host) paxos.Host{1: func(host paxos.Host) paxos.Host {
		h.Host = host
		return &slowStart{h, func(spec paxos.GroupSpec) {
			if spec.Group >= 2 && spec.Group <= 5 {
				held.Store(true)
				<-release
			}
		}}
	}}
	c.start(n)
	c.join()
	c.join()
	c.formed(3)
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "k", "old")
	}
	p, _ := c.node(1).node.State().Place(1)
	require.EqualValues(t, 1, p.Owner)
	defer func() {
		select {
		case <-release:
		default:
			close(release)
		}
	}()
	c.ahead.Store(int64(time.Minute))
	c.join()
	require.Eventually(t, held.Load, time.Minute, time.Millisecond)
	require.Equal(t, "old", c.read(1, 1, "k"))
	// the others go on after a while
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		deadline := time.Now().Add(60 * time.Second)
		for time.Now().Before(deadline) {
			c.node(2).node.Router().Mislead(1, 2)
			c.node(2).node.Router().Mislead(1, 3)
			if c.tryWrite(c.ctx(), 2, 1, "k", "new") {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error("nobody could write")
	}()
	<-wrote
	t.Log("written by node 2")
	// read at the old owner
	for i := range 20 {
		c.node(1).node.Router().Mislead(1, 1)
		got, err := c.look(c.ctx(), 1, 1, "k")
		t.Log(i, got, err)
		if err == nil && got != "new" {
			t.Fatalf("a read after the commit was acknowledged returned %q", got)
		}
	}
}

// One member is lost at the parting, another is away for a while: that one stays.
func TestOnlyTheLostIsRemoved(t *testing.T) {
	t.Parallel()
	h := &partHost{}
	victim, slow := 3, 2
	var once sync.Once
	gone := make(chan struct{})
	h.wrap = func(spec paxos.GroupSpec, g paxos.Group) paxos.Group {
		if spec.Group >= 2 && spec.Group <= 5 {
			once.Do(func() { close(gone) })
		}
		return g
	}
	c := partCluster(t, map[uint64]*partHost{uint64(victim): h})
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "before", "v")
	}
	c.ahead.Store(int64(time.Minute))
	c.join()
	<-gone
	c.crash(victim)
	require.Eventually(t, func() bool { return slices.Contains(c.groups(slow), 2) && slices.Contains(c.groups(slow), 5) }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool {
		for s := shard.ID(1); s <= 4; s++ {
			p, ok := c.node(1).node.State().Place(s)
			if !ok || p.Shared || !slices.ContainsFunc(p.Running, func(r shard.RunningReplica) bool { return r.Node == uint64(slow) && !r.Shared }) {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond)
	t.Log("parted: voter", c.voterOf(1, slow), c.voterOf(1, victim))
	n := c.crash(slow)
	time.Sleep(6*time.Second + time.Duration(time.Now().UnixNano()%450)*time.Millisecond)
	c.start(n)
	deadline := time.Now().Add(40 * time.Second)
	for time.Now().Before(deadline) {
		st := c.node(1).node.State()
		for _, p := range st.Shards {
			if p.Shard != 0 && !p.Shared && slices.Contains(p.Removed, paxos.ReplicaID(slow)) {
				t.Logf("%+v", st.Shards)
				t.Fatalf("shard %d has removed node %d, which lives; voters %v", p.Shard, slow, p.Voters)
			}
		}
		if len(c.voterOf(1, victim)) == 0 && settled(st, 3) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, p := range c.node(1).node.State().Shards {
		t.Logf("%+v", p)
	}
	t.Fatal("not settled")
}

// A member falls before it has applied the end, and comes back when it was removed.
func TestMemberThatFellBeforeTheEnd(t *testing.T) {
	t.Parallel()
	c := partCluster(t, nil)
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "before", "v")
	}
	c.network.Hold(companyGroup, c.node(3).node.Replica(1))
	c.ahead.Store(int64(time.Minute))
	c.join()
	require.Eventually(t, func() bool { return slices.Contains(c.groups(1), 2) }, time.Minute, 5*time.Millisecond)
	n := c.crash(3)
	require.Eventually(t, func() bool {
		return c.apart(1) && c.apart(2) && len(c.voterOf(1, 3)) == 0 && settled(c.node(1).node.State(), 3)
	}, time.Minute, 20*time.Millisecond)
	t.Log("others are done")
	c.start(n)
	t.Log("started", c.groups(3))
	deadline := time.Now().Add(15 * time.Second)
	for time.Now().Before(deadline) {
		if c.apart(3) && len(c.groups(3)) > 1 && settled(c.node(1).node.State(), 3) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, p := range c.node(1).node.State().Shards {
		t.Logf("%+v", p)
	}
	t.Fatalf("stored on 3: %v", c.groups(3))
}
