package shard

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// growing is shard 1 with one voter, on a network where it may get more. The
// replicas' names for their places are n1, n2, n3.
type growing struct {
	trio
	members [3]*watchedGroup
	issued  atomic.Uint64
	lease   LeasePolicy
	clocks  func(paxos.ReplicaID) func() time.Duration // nil: that of lease
}

// watchedGroup lets a test step between a replica and its group.
type watchedGroup struct {
	paxos.Group
	// addReplica, if set, stands in for AddReplica.
	addReplica func(ctx context.Context, id paxos.ReplicaID, target string, changeID uint64) error
	// onBarrier, if set, is called while a barrier is under way.
	onBarrier func()
	barriers  atomic.Int64
}

func (g *watchedGroup) ReadBarrier(ctx context.Context) error {
	g.barriers.Add(1)
	if g.onBarrier != nil {
		g.onBarrier()
	}
	return g.Group.ReadBarrier(ctx)
}

func (g *watchedGroup) AddReplica(ctx context.Context, id paxos.ReplicaID, target string, changeID uint64) error {
	if g.addReplica != nil {
		return g.addReplica(ctx, id, target, changeID)
	}
	return g.Group.AddReplica(ctx, id, target, changeID)
}

// testTimes is an oracle that is always there.
type testTimes struct{ last *atomic.Uint64 }

func (s testTimes) Timestamp(context.Context) (storage.Timestamp, error) {
	return storage.Timestamp(s.last.Add(1)), nil
}
func (s testTimes) Issued() storage.Timestamp { return storage.Timestamp(s.last.Load()) }

func newGrowing(t *testing.T) *growing { return newGrowingWith(t, LeasePolicy{}) }

func newGrowingWith(t *testing.T, lease LeasePolicy) *growing {
	g := &growing{trio: trio{t: t, network: memory.NewNetwork(1), shards: make(map[ID][3]*Replica)}, lease: lease}
	g.issued.Store(1 << 20)
	g.times = testTimes{&g.issued}
	g.start(1, paxos.GroupSpec{Members: map[paxos.ReplicaID]string{1: "n1"}})
	require.NoError(t, g.shards[1][0].BecomeOwner(g.ctx()))
	return g
}

// start starts one replica and returns it.
func (g *growing) start(id paxos.ReplicaID, spec paxos.GroupSpec) *Replica {
	e := newTestEngine(g.t)
	host := g.network.Host(fmt.Sprint("n", id))
	g.t.Cleanup(func() { _ = host.Close() })
	m := NewMachine(e.Space(1), e.Sync, uint64(id))
	spec.Group, spec.Replica = 2, id
	group, err := host.Start(spec, m)
	require.NoError(g.t, err)
	g.members[id-1] = &watchedGroup{Group: group}
	lease := g.lease
	if g.clocks != nil {
		lease.Clock = g.clocks(id)
	}
	r := NewReplica(ReplicaConfig{Shard: 1, Node: uint64(id), Process: uint64(100 + id), Space: e.Space(1), Machine: m,
		Group: g.members[id-1], Times: g.times, Lease: lease})
	g.t.Cleanup(r.Close)
	three := g.shards[1]
	three[id-1] = r
	g.shards[1] = three
	return r
}

// learn adds a learner and starts it.
func (g *growing) learn(owner *Replica, id paxos.ReplicaID) *Replica {
	require.NoError(g.t, owner.AddLearner(g.ctx(), id, fmt.Sprint("n", id)))
	return g.start(id, paxos.GroupSpec{Join: true, Learner: true})
}

func (g *growing) wantSole(r *Replica, want bool) {
	g.t.Helper()
	require.Equal(g.t, want, r.serving.Load().sole)
	_, _, _, sole := r.c.Machine.Owner()
	require.Equal(g.t, want, sole)
}

// A shard grows from one voter to three and shrinks again while a transaction is
// open. Changes that were made already are done.
func TestShardGrowsAndShrinks(t *testing.T) {
	g := newGrowing(t)
	a := g.shards[1][0]
	g.put(a, "x", "1")
	id := g.begin()
	token := g.lock(a, id, "y")
	g.learn(a, 2)
	g.learn(a, 3)
	g.wantSole(a, true)
	for range 2 {
		require.NoError(t, a.AddVoter(g.ctx(), 2, "n2"))
		g.wantSole(a, false)
		require.NoError(t, a.AddVoter(g.ctx(), 3, "n3"))
		require.NoError(t, a.AddLearner(g.ctx(), 3, "n3"), "more than a learner")
	}
	g.wantHeld(a, "y")
	g.wantCommit(a, id, token, "y", "2")
	m, err := a.Members(g.ctx())
	require.NoError(t, err)
	require.Len(t, m.Voters, 3)
	g.checksumsAgree()

	require.Equal(t, BadRequest, CodeOf(a.AddVoter(g.ctx(), 3, "n9")), "it is somewhere else")
	require.Equal(t, BadRequest, CodeOf(a.RemoveReplica(g.ctx(), 1)), "itself")
	b := g.shards[1][1]
	for _, change := range []error{b.AddLearner(g.ctx(), 4, "n4"), b.AddVoter(g.ctx(), 4, "n4"), b.RemoveReplica(g.ctx(), 3)} {
		require.Equal(t, NotOwner, CodeOf(change))
	}
	g.handOver(a, b)
	for range 2 {
		require.NoError(t, b.RemoveReplica(g.ctx(), 3))
		require.NoError(t, b.RemoveReplica(g.ctx(), 1))
	}
	g.wantSole(b, false)
	g.wantRead(b, "x", "1")
	require.ErrorIs(t, b.AddVoter(g.ctx(), 3, "n3"), paxos.ErrRejected, "ids are not used twice")
	require.NoError(t, b.BecomeOwner(g.ctx()))
	g.wantSole(b, true)
	g.wantRead(b, "y", "2")
}

// H14 (models/m9_sole.py): the owner of the one voter lags behind what its raft
// core acknowledges; the second voter takes over. No read of the first may miss
// what the second has acknowledged.
func TestReadsWhileAShardGrows(t *testing.T) {
	g := newGrowing(t)
	a := g.shards[1][0]
	g.put(a, "x", "1")
	b := g.learn(a, 2)
	g.members[0].addReplica = func(ctx context.Context, id paxos.ReplicaID, target string, changeID uint64) error {
		_, _, _, sole := a.c.Machine.Owner()
		require.False(t, sole, "applied, not only committed, before the change is proposed")
		require.False(t, a.serving.Load().sole)
		return g.members[0].Group.AddReplica(ctx, id, target, changeID)
	}
	require.NoError(t, a.AddVoter(g.ctx(), 2, "n2"))
	g.network.Hold(2, 1)
	require.NoError(t, b.c.Group.ReadBarrier(g.ctx()))
	require.NoError(t, g.network.Elect(2, 2))
	require.NoError(t, b.BecomeOwner(g.ctx()))
	g.put(b, "x", "2")
	at := g.now()
	answered := make(chan error, 1)
	go func() { _, err := g.get(g.ctx(), a, at, "x"); answered <- err }()
	g.wantRead(b, "x", "2")
	g.network.Release(2, 1)
	require.Equal(t, NotOwner, CodeOf(<-answered))
}

// A change that was proposed and not answered may come true whenever it likes: no
// sole epoch begins before that is out of the question.
func TestNoSoleEpochBesideAChange(t *testing.T) {
	t.Run("without an answer", func(t *testing.T) {
		g := newGrowing(t)
		a := g.shards[1][0]
		g.learn(a, 2)
		var late func() error
		g.members[0].addReplica = func(ctx context.Context, id paxos.ReplicaID, target string, changeID uint64) error {
			late = func() error { return g.members[0].Group.AddReplica(g.ctx(), id, target, changeID) }
			return fmt.Errorf("lost: %w", paxos.ErrUnknownOutcome)
		}
		require.ErrorIs(t, a.AddVoter(g.ctx(), 2, "n2"), paxos.ErrUnknownOutcome)
		require.NoError(t, a.BecomeOwner(g.ctx()))
		g.wantSole(a, false)
		require.NoError(t, late())
		require.NoError(t, a.RemoveReplica(g.ctx(), 2))
		require.NoError(t, a.BecomeOwner(g.ctx()))
		g.wantSole(a, true)
	})
	t.Run("that was refused", func(t *testing.T) {
		g := newGrowing(t)
		a := g.shards[1][0]
		require.ErrorIs(t, a.AddVoter(g.ctx(), 0, "nowhere"), paxos.ErrRejected)
		require.NoError(t, a.BecomeOwner(g.ctx()))
		g.wantSole(a, true)
	})
	t.Run("while it begins", func(t *testing.T) {
		g := newGrowing(t)
		a := g.shards[1][0]
		g.learn(a, 2)
		a.c.Steps = func(ctx context.Context, step string) {
			if step == "sole epoch begun" {
				m, err := a.Members(ctx)
				require.NoError(t, err)
				require.NoError(t, g.members[0].Group.AddReplica(ctx, 2, "n2", m.ChangeID))
			}
		}
		require.NoError(t, a.BecomeOwner(g.ctx()))
		g.wantSole(a, false)
	})
}

// What waits, votes and reads while the sole epoch ends goes on or is sent to the
// same owner again; nothing is lost.
func TestSoleEpochEndsUnderLoad(t *testing.T) {
	g := newGrowing(t)
	a := g.shards[1][0]
	g.learn(a, 2)
	var done atomic.Bool
	finished := make(chan int)
	for i := range 4 {
		go func() {
			n := 0
			for !done.Load() {
				if g.tryPut(a, uint64(i+1)<<32+uint64(n), fmt.Sprint("k", i), fmt.Sprint(n+1)) {
					n++
				}
			}
			finished <- n
		}()
	}
	require.NoError(t, a.AddVoter(g.ctx(), 2, "n2"))
	time.Sleep(10 * time.Millisecond)
	done.Store(true)
	sum := 0
	for range 4 {
		sum += <-finished
	}
	total := 0
	for i := range 4 {
		v, err := g.get(g.ctx(), a, g.now(), fmt.Sprint("k", i))
		require.NoError(t, err)
		var n int
		_, _ = fmt.Sscan(v, &n)
		total += n
	}
	require.GreaterOrEqual(t, total, sum)
	require.LessOrEqual(t, total, sum+4, "votes without an answer")
}

// tryPut writes a row in a transaction of its own; false if that was not acknowledged.
// The replica stays the owner, epochs may change.
func (g *growing) tryPut(r *Replica, seq uint64, k, v string) bool {
	id := storage.TxnID{Start: g.now(), Gateway: 9, Seq: seq}
	granted, err := again(func() (*LockResponse, error) {
		return r.Lock(g.ctx(), &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key(k)}})
	})
	if err != nil {
		return false
	}
	q := g.request(id, granted.Token, k, v)
	vote, err := again(func() (*VoteResponse, error) { return r.OnePC(g.ctx(), q) })
	return err == nil && vote.State == storage.VoteCommitted
}

// tryPut writes a row in a transaction of its own; false if that was not acknowledged.
func tryPut(ctx context.Context, r *Replica, times TimestampSource, seq uint64, k, v string) bool {
	start, _ := times.Timestamp(ctx)
	id := storage.TxnID{Start: start, Gateway: 9, Seq: seq}
	granted, err := r.Lock(ctx, &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key(k)}})
	if err != nil {
		return false
	}
	floor, _ := times.Timestamp(ctx)
	vote, err := r.OnePC(ctx, &OnePCRequest{Txn: id, Token: granted.Token, Floor: floor,
		Writes: []Write{{Key: storage.Key(k), Value: []byte(v)}}})
	return err == nil && vote.State == storage.VoteCommitted
}

// What was computed from other members is refused, unless it is done: of two movers,
// one of which was deposed, only one takes a voter away.
func TestSeatOfOtherMembers(t *testing.T) {
	g := newGrowing(t)
	a := g.shards[1][0]
	change := func() uint64 {
		m, err := a.Members(g.ctx())
		require.NoError(t, err)
		return m.ChangeID
	}
	n := &Node{c: Config{NodeID: 1}}
	seat := func(q SeatRequest) Code { return CodeOf(n.seat(g.ctx(), a, &q)) }
	for id := paxos.ReplicaID(2); id <= 3; id++ {
		host := fmt.Sprint("n", id)
		seen := change()
		require.Equal(t, CodeNone, seat(SeatRequest{Change: SeatLearner, Host: host, ChangeID: seen}))
		g.start(id, paxos.GroupSpec{Join: true, Learner: true})
		require.Equal(t, CodeNone, seat(SeatRequest{Change: SeatLearner, Host: host, ChangeID: seen}), "it is done")
		require.Equal(t, Refused, seat(SeatRequest{Change: SeatVoter, Replica: id, Host: host, ChangeID: seen}))
		require.Equal(t, CodeNone, seat(SeatRequest{Change: SeatVoter, Replica: id, Host: host, ChangeID: change()}))
	}
	seen := change()
	require.Equal(t, Refused, seat(SeatRequest{Change: SeatLearner, Host: "n4", ChangeID: seen - 1}))
	require.Equal(t, Refused, seat(SeatRequest{Change: SeatOwner, Node: 2, ChangeID: seen - 1}))
	require.Equal(t, CodeNone, seat(SeatRequest{Change: SeatRemove, Replica: 2, ChangeID: seen}), "the one mover")
	require.Equal(t, Refused, seat(SeatRequest{Change: SeatRemove, Replica: 3, ChangeID: seen}), "the other")
	require.Equal(t, CodeNone, seat(SeatRequest{Change: SeatRemove, Replica: 2, ChangeID: seen}), "it is done")
	m, err := a.Members(g.ctx())
	require.NoError(t, err)
	require.Len(t, m.Voters, 2)
}
