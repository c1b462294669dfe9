package shard

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// jointWorld is a node whose shards 1, 2 and 3 share a log.
type jointWorld struct {
	*trio
	trunk  *Trunk
	log    *testLog
	owners []*Replica // of the shards, in their order
	ids    []ID
}

const testTrunkGroup paxos.GroupID = 99

// testLog is a log that shards share; apart: they do not any more.
type testLog struct {
	paxos.Group
	apart  bool
	joints atomic.Int64 // entries with several parts
}

func (l *testLog) applied() (uint64, error) { return uint64(l.Applied()), nil }

func (l *testLog) submitJoint(ctx context.Context, parts []shardCommand) func() ([][]byte, error) {
	l.joints.Add(1)
	wait := l.Group.(paxos.Submitter).Submit(ctx, appendJoint(nil, parts))
	return func() ([][]byte, error) {
		b, err := wait()
		if err != nil {
			return nil, err
		}
		return splitResults(b, len(parts))
	}
}

// testLane is a shard's way into the log, and then, once it has left, into own.
type testLane struct {
	*testLog
	shard ID
	own   paxos.Group
}

func (l *testLane) sharedLog() sharedLog {
	if l.apart {
		return nil
	}
	return l.testLog
}

func (l *testLane) Propose(ctx context.Context, command []byte) ([]byte, error) {
	return l.Submit(ctx, command)()
}

func (l *testLane) Submit(ctx context.Context, command []byte) func() ([]byte, error) {
	wait := l.Group.(paxos.Submitter).Submit(ctx, appendPart(nil, l.shard, command))
	return func() ([]byte, error) {
		b, err := wait()
		if err == nil && hasLeft(b) {
			return l.own.Propose(ctx, command)
		}
		return b, err
	}
}

func newJointWorld(t *testing.T) *jointWorld {
	w := &jointWorld{trio: &trio{t: t, network: memory.NewNetwork(1), shards: make(map[ID][3]*Replica)}}
	w.times = w
	e := newTestEngine(t)
	host := w.network.Host("n1")
	t.Cleanup(func() { _ = host.Close() })
	start := func(g paxos.GroupID, sm paxos.StateMachine) paxos.Group {
		group, err := host.Start(paxos.GroupSpec{Group: g, Replica: 1, Members: map[paxos.ReplicaID]string{1: "n1"}}, sm)
		require.NoError(t, err)
		return group
	}
	replica := func(s ID, m *Machine, g paxos.Group) *Replica {
		r := NewReplica(ReplicaConfig{Shard: s, Node: 1, Process: 100, Space: m.space, Machine: m, Group: g, Times: w, Linger: -1})
		t.Cleanup(r.Close)
		return r
	}
	system := NewMachine(e.Space(0), e.Sync, 1)
	w.shards[System] = [3]*Replica{replica(System, system, start(1, system))}
	w.shards[System] = [3]*Replica{w.shards[System][0], w.shards[System][0], w.shards[System][0]}
	w.trunk = NewTrunk(e.Space(TrunkSpace), e.Sync, 1)
	var machines []*Machine
	for s := ID(1); s <= 3; s++ {
		m := NewMachine(e.Space(uint64(s)), e.Sync, 1)
		w.trunk.Carry(s, m)
		machines = append(machines, m)
	}
	w.log = &testLog{Group: start(testTrunkGroup, w.trunk)}
	for i, m := range machines {
		s := ID(i + 1)
		w.ids = append(w.ids, s)
		w.owners = append(w.owners, replica(s, m, &testLane{testLog: w.log, shard: s}))
	}
	require.NoError(t, w.shards[System][0].BecomeOwner(w.ctx()))
	for _, r := range w.owners {
		require.NoError(t, r.BecomeOwner(w.ctx()))
	}
	return w
}

// votes locks a key on every shard and asks for votes on writing it.
func (w *jointWorld) votes(value string) []jointVote {
	id := w.begin()
	votes := make([]jointVote, len(w.owners))
	for i, r := range w.owners {
		token := w.lock(r, id, "k")
		q := &PrepareRequest{Participants: w.ids, OnePCRequest: *w.request(id, token, "k", value)}
		votes[i] = jointVote{replica: r, request: q}
	}
	return votes
}

// states describes what came of votes, for each shard.
func states(votes []jointVote) (all []string) {
	for i := range votes {
		v := &votes[i]
		switch {
		case v.err != nil:
			all = append(all, CodeOf(v.err).String())
		case v.response.Fenced:
			all = append(all, "FENCED")
		default:
			all = append(all, v.response.State.String())
		}
	}
	return all
}

// values reads the key of every shard, now; undecided votes are passed over.
func (w *jointWorld) values() []string { return w.valuesAt(storage.MaxTimestamp) }

func (w *jointWorld) valuesAt(at storage.Timestamp) (all []string) {
	for _, r := range w.owners {
		snap := r.c.Space.Snapshot()
		read, err := snap.Get(storage.Key("k"), at)
		require.NoError(w.t, err)
		all = append(all, string(bytes.Clone(read.Value)))
		snap.Close()
	}
	return all
}

// free wants the key to be lockable everywhere.
func (w *jointWorld) free() {
	w.t.Helper()
	id := w.begin()
	for _, r := range w.owners {
		w.lock(r, id, "k")
		require.NoError(w.t, r.Release(&ReleaseRequest{Txn: id}))
	}
}

// TestVotesThatShareALog: the votes of a transaction on shards that share a log are one
// entry of it, and all are answered COMMITTED at the largest of their timestamps. There
// is nothing left to be resolved, no lock, and no memory lock in front of readers.
func TestVotesThatShareALog(t *testing.T) {
	w := newJointWorld(t)
	votes := w.votes("a")
	before := w.network.Committed(testTrunkGroup)
	w.owners[1].raiseMaxTS(w.now()) // its timestamp is larger
	castTogether(w.ctx(), votes)
	require.Equal(t, before+1, w.network.Committed(testTrunkGroup))
	require.Equal(t, []string{"committed", "committed", "committed"}, states(votes))
	require.Greater(t, votes[1].response.Prepare, votes[0].response.Prepare)
	for i := range votes {
		require.Equal(t, votes[1].response.Prepare, votes[i].response.Commit)
		require.Empty(t, preparedOf(w.owners[i].c.Machine))
		require.Zero(t, w.owners[i].serving.Load().pending.Load())
		got, err := w.get(w.ctx(), w.owners[i], votes[i].response.Commit, "k")
		require.NoError(t, err)
		require.Equal(t, "a", got)
		_, err = w.get(w.ctx(), w.owners[i], votes[i].response.Commit-1, "k")
		require.NoError(t, err)
	}
	w.free()
	require.Equal(t, int64(1), w.log.joints.Load())

	again := make([]jointVote, len(votes)) // the registers answer
	for i := range again {
		again[i].replica, again[i].request = votes[i].replica, votes[i].request
	}
	castTogether(w.ctx(), again)
	require.Equal(t, states(votes), states(again))
}

// TestVotesThatShareALogAreVotes: what one shard refuses, none commits; the others vote
// as if each were alone, and so do all once they do not share a log any more.
func TestVotesThatShareALogAreVotes(t *testing.T) {
	for name, c := range map[string]struct {
		break_ func(w *jointWorld, votes []jointVote)
		want   []string
	}{
		"nothing": {func(*jointWorld, []jointVote) {}, []string{"committed", "committed", "committed"}},
		"a lock is lost": {func(w *jointWorld, votes []jointVote) {
			require.NoError(w.t, w.owners[1].Release(&ReleaseRequest{Txn: votes[0].request.Txn}))
		}, []string{"prepared", "aborted", "prepared"}},
		"the register is closed": {func(w *jointWorld, votes []jointVote) {
			c := Command{Kind: KindCloseVote, Epoch: 1, Txn: votes[0].request.Txn}
			_, err := w.owners[2].propose(w.ctx(), c.AppendBinary(nil))
			require.NoError(w.t, err)
		}, []string{"prepared", "prepared", "aborted"}},
		"a schema has changed": {func(w *jointWorld, votes []jointVote) {
			require.NoError(w.t, w.owners[0].RaiseSchema(w.ctx(), 5, 2))
			votes[0].request.Schemas = []SchemaRef{{Table: 5, Version: 1}}
		}, []string{SchemaChanged.String(), "prepared", "prepared"}},
		"another owner": {func(w *jointWorld, votes []jointVote) {
			c := Command{Kind: KindBeginEpoch, Epoch: 1, Node: 1, Process: 5}
			_, err := w.owners[1].propose(w.ctx(), c.AppendBinary(nil))
			require.NoError(w.t, err)
		}, []string{"prepared", NotOwner.String(), "prepared"}},
		"a participant elsewhere": {func(w *jointWorld, votes []jointVote) {
			for i := range votes {
				votes[i].request.Participants = []ID{1, 2, 3, 7}
			}
		}, []string{"prepared", "prepared", "prepared"}},
		"no log is shared": {func(w *jointWorld, _ []jointVote) { w.log.apart = true }, []string{"prepared", "prepared", "prepared"}},
		"too large": {func(w *jointWorld, votes []jointVote) {
			for i := range votes {
				votes[i].request.Writes[0].Value = make([]byte, maxJoint/2)
			}
		}, []string{"prepared", "prepared", "prepared"}},
		"the entry is not sent": {func(w *jointWorld, _ []jointVote) {
			w.network.Force(testTrunkGroup, memory.FaultNotSent)
		}, []string{"prepared", "prepared", "prepared"}},
		"the entry is there twice": {func(w *jointWorld, _ []jointVote) {
			w.network.Force(testTrunkGroup, memory.FaultDuplicate)
		}, []string{"committed", "committed", "committed"}},
		"the answer is lost": {func(w *jointWorld, _ []jointVote) {
			w.network.Force(testTrunkGroup, memory.FaultUnknownApplied)
		}, []string{"committed", "committed", "committed"}},
		"the entry is lost": {func(w *jointWorld, _ []jointVote) {
			w.network.Force(testTrunkGroup, memory.FaultUnknownLost)
		}, []string{"prepared", "prepared", "prepared"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newJointWorld(t)
			votes := w.votes("new")
			c.break_(w, votes)
			castTogether(w.ctx(), votes)
			require.Equal(t, c.want, states(votes))
			want := ""
			if c.want[0] == "committed" {
				want = "new"
			}
			require.Equal(t, []string{want, want, want}, w.values())
		})
	}
}

// TestALateEntryCommitsNothingTwice: an entry whose fate is unknown is followed by the
// votes alone. It is applied after all, behind the first of them.
func TestALateEntryCommitsNothingTwice(t *testing.T) {
	w := newJointWorld(t)
	votes := w.votes("late")
	w.network.Force(testTrunkGroup, memory.FaultUnknownLate)
	castTogether(w.ctx(), votes)
	require.Equal(t, []string{"prepared", "prepared", "prepared"}, states(votes))
	commit := storage.Timestamp(0)
	for i := range votes {
		commit = max(commit, votes[i].response.Prepare)
	}
	for _, r := range w.owners {
		require.NoError(t, r.Resolve(w.ctx(), &ResolveRequest{Txn: votes[0].request.Txn, Commit: commit, Wait: true}))
	}
	require.Equal(t, []string{"late", "late", "late"}, w.values())
	w.free()
}

// TestVotesThatComeAfterLeave go to the shards' own logs.
func TestVotesThatComeAfterLeave(t *testing.T) {
	w := newJointWorld(t)
	votes := w.votes("own")
	_, err := w.log.Propose(w.ctx(), encodeEnd(trunkEnd{kind: trunkLeave}))
	require.NoError(t, err)
	host := w.network.Host("n1 again")
	t.Cleanup(func() { _ = host.Close() })
	for i, r := range w.owners {
		members := map[paxos.ReplicaID]string{1: "n1 again"}
		own, err := host.Start(paxos.GroupSpec{Group: paxos.GroupID(i + 2), Replica: 1, Members: members}, leftMachine{r.c.Machine})
		require.NoError(t, err)
		r.c.Group.(*testLane).own = own
	}
	castTogether(w.ctx(), votes)
	require.Equal(t, []string{"prepared", "prepared", "prepared"}, states(votes))
	require.Equal(t, int64(1), w.log.joints.Load())
}

// leftMachine begins a log of its own with what is in memory.
type leftMachine struct{ *Machine }

func (leftMachine) Open() (paxos.Index, error) { return 0, nil }

// TestEveryShardOrNone: transactions over all shards that share a log, of several clients
// at a time, with an unreliable log. Before and after each of them all shards have the same
// value.
func TestEveryShardOrNone(t *testing.T) {
	w := newJointWorld(t)
	votes := w.votes("000")
	castTogether(w.ctx(), votes)
	require.Equal(t, "committed", states(votes)[0])
	w.network.SetFaults(memory.Faults{NotSent: 0.02, UnknownApplied: 0.02, UnknownLost: 0.02, UnknownLate: 0.02, Duplicate: 0.05})
	var clients sync.WaitGroup
	committed := make([]map[storage.Timestamp]string, 3)
	for c := range committed {
		committed[c] = map[storage.Timestamp]string{}
		clients.Go(func() {
			for i := range uint64(30) {
				value := fmt.Sprintf("%d-%d", c, i)
				if commit := w.everywhere(uint64(c+1)<<32+i, value); commit != 0 {
					committed[c][commit] = value
				}
			}
		})
	}
	clients.Wait()
	w.network.SetFaults(memory.Faults{})
	all := 0
	for c := range committed {
		for commit, value := range committed[c] {
			all++
			require.Equal(t, []string{value, value, value}, w.valuesAt(commit))
			before := w.valuesAt(commit - 1)
			require.Equal(t, []string{before[0], before[0], before[0]}, before)
		}
	}
	require.NotZero(t, all)
	require.NotZero(t, w.log.joints.Load())
}

// everywhere writes one value on every shard, and finishes the transaction whatever the
// votes are. It returns when it committed, 0 if it did not.
func (w *jointWorld) everywhere(seq uint64, value string) storage.Timestamp {
	id := storage.TxnID{Start: w.now(), Gateway: 7, Seq: seq}
	ctx := context.Background()
	votes := make([]jointVote, len(w.owners))
	for i, r := range w.owners {
		short, cancel := context.WithTimeout(ctx, time.Minute)
		lock, err := r.Lock(short, &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key("k")}})
		cancel()
		if err != nil {
			for _, r := range w.owners {
				_ = r.Release(&ReleaseRequest{Txn: id})
			}
			return 0
		}
		votes[i] = jointVote{replica: r, request: &PrepareRequest{Participants: w.ids, OnePCRequest: OnePCRequest{Txn: id, Token: lock.Token,
			Writes: []Write{{Key: storage.Key("k"), Value: []byte(value)}}}}}
	}
	floor := w.now()
	for i := range votes {
		votes[i].request.Floor = floor
	}
	castTogether(ctx, votes)
	commit, aborted := storage.Timestamp(0), false
	for i := range votes {
		v := &votes[i]
		for v.err != nil { // silence: the register tells
			v.response, v.err = v.replica.CloseVote(ctx, &CloseVoteRequest{Txn: id})
		}
		aborted = aborted || v.response.State == storage.VoteAborted || v.response.Fenced
		commit = max(commit, v.response.Prepare, v.response.Commit)
	}
	if aborted {
		commit = 0
	}
	for _, r := range w.owners {
		for r.Resolve(ctx, &ResolveRequest{Txn: id, Commit: commit, Wait: true}) != nil {
		}
		if aborted {
			_ = r.Release(&ReleaseRequest{Txn: id})
		}
	}
	return commit
}
