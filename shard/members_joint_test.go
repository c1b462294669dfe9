package shard

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
)

// newLonely makes shards that share a group whose only voter is node 1, in sole epochs. Node 2
// was a voter, and is not any more.
func newLonely(t *testing.T) *sharing {
	w := newSharing(t, 1, 2)
	require.NoError(t, w.shards[1][0].RemoveReplica(w.ctx(), 2))
	for _, r := range w.node(1) {
		require.NoError(t, r.BecomeOwner(w.ctx()))
	}
	w.wantSole(true, allShared...)
	return w
}

func (w *sharing) wantSole(want bool, shards ...ID) {
	w.t.Helper()
	for _, s := range shards {
		r := w.shards[s][0]
		require.Equal(w.t, want, r.serving.Load().sole, "shard %d", s)
		_, _, _, sole := r.c.Machine.Owner()
		require.Equal(w.t, want, sole, "shard %d", s)
	}
}

// onVoter has f in the place of the proposal that adds a voter in the name of shard 1.
func (w *sharing) onVoter(f func() error) {
	w.lanes[0][1].addReplica = func(context.Context, paxos.ReplicaID, string, uint64) error { return f() }
}

// H14 for all shards of a group: a voter is added in the name of one of them. The first
// owner lags behind; the second voter takes another of the shards over. No read of the
// first may miss what the second has acknowledged. Open transactions go on.
func TestReadsWhileASharedGroupGrows(t *testing.T) {
	w := newLonely(t)
	a := w.shards[2][0]
	w.put(a, "x", "1")
	h := held{w.begin(), map[ID]LockToken{}}
	h.tokens[3] = w.lock(w.shards[3][0], h.id, "x")
	require.NoError(t, w.shards[1][0].AddLearner(w.ctx(), 3, "n3"))
	w.wantSole(true, allShared...)
	w.start(3, paxos.GroupSpec{Join: true, Learner: true})
	w.lanes[0][1].addReplica = func(ctx context.Context, id paxos.ReplicaID, target string, changeID uint64) error {
		w.wantSole(false, allShared...)
		return w.lanes[0][1].Group.AddReplica(ctx, id, target, changeID)
	}
	require.NoError(t, w.shards[1][0].AddVoter(w.ctx(), 3, "n3"))
	w.wantKept(h, 1, 3)
	b := w.shards[2][2]
	w.network.Hold(sharedGroup, 1)
	require.NoError(t, w.network.Elect(sharedGroup, 3))
	require.NoError(t, b.BecomeOwner(w.ctx()))
	w.put(b, "x", "2")
	at := w.now()
	answered := make(chan error, 1)
	go func() { _, err := w.get(w.ctx(), a, at, "x"); answered <- err }()
	w.wantRead(b, "x", "2")
	w.network.Release(sharedGroup, 1)
	require.Equal(t, NotOwner, CodeOf(<-answered))
}

// A change that was proposed in the name of one shard and not answered may come true
// whenever it likes: no other shard's epoch begins as if it could not.
func TestNoSoleEpochBesideAChangeOfAnother(t *testing.T) {
	w := newLonely(t)
	w.onVoter(func() error { return fmt.Errorf("lost: %w", paxos.ErrUnknownOutcome) })
	require.ErrorIs(t, w.shards[1][0].AddVoter(w.ctx(), 3, "n3"), paxos.ErrUnknownOutcome)
	for _, r := range w.node(1) {
		require.NoError(t, r.BecomeOwner(w.ctx()))
	}
	w.wantSole(false, allShared...)
	require.NoError(t, w.shards[2][0].AddLearner(w.ctx(), 3, "n3"), "another change: that one is refused now")
	for _, r := range w.node(1) {
		require.NoError(t, r.BecomeOwner(w.ctx()))
	}
	w.wantSole(true, allShared...)

	w.onVoter(func() error { return paxos.ErrRejected })
	require.ErrorIs(t, w.shards[1][0].AddVoter(w.ctx(), 3, "n3"), paxos.ErrRejected)
	w.wantSole(false, allShared...)
	require.NoError(t, w.shards[3][0].BecomeOwner(w.ctx()))
	w.wantSole(true, 3)
}

// A shard that is about to serve in a sole epoch when the change is noted is waited for.
func TestSoleEpochThatDoesNotServeYet(t *testing.T) {
	w := newLonely(t)
	a, b := w.shards[1][0], w.shards[2][0]
	begun, looked, serves := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	b.c.Steps = func(_ context.Context, step string) {
		switch step {
		case "first timestamp drawn": // nobody sees this epoch yet
			select {
			case <-begun:
			default:
				close(begun)
				<-looked
			}
		case "end sole":
			close(looked)
		}
	}
	go func() { serves <- b.BecomeOwner(w.ctx()) }()
	<-begun
	w.onVoter(func() error {
		require.NoError(t, <-serves)
		w.wantSole(false, allShared...)
		return paxos.ErrRejected
	})
	require.ErrorIs(t, a.AddVoter(w.ctx(), 3, "n3"), paxos.ErrRejected)
}

// An epoch that begins after the others were ended, and before the voter is proposed, is
// not sole.
func TestEpochsThatBeginBesideAChange(t *testing.T) {
	w := newLonely(t)
	w.shards[1][0].c.Steps = func(ctx context.Context, step string) {
		if step == "change prepared" {
			require.NoError(t, w.shards[2][0].BecomeOwner(ctx))
		}
	}
	w.onVoter(func() error {
		w.wantSole(false, allShared...)
		return paxos.ErrRejected
	})
	require.ErrorIs(t, w.shards[1][0].AddVoter(w.ctx(), 3, "n3"), paxos.ErrRejected)
}

// Where an epoch cannot be ended no voter is proposed, and the change is not noted for ever.
func TestVoterWithoutAnEndOfTheSoleEpochs(t *testing.T) {
	w := newLonely(t)
	w.onVoter(func() error { t.Error("proposed"); return nil })
	w.lanes[0][3].onBarrier = func() { w.shards[3][0].Close() }
	require.Error(t, w.shards[1][0].AddVoter(w.ctx(), 3, "n3"))
	require.NoError(t, w.shards[1][0].BecomeOwner(w.ctx()))
	w.wantSole(true, 1)
}

// While the other shards begin epochs all the time: from the moment when a voter is
// proposed to the answer none is in a sole one.
func TestVotersBesideNewEpochs(t *testing.T) {
	w := newLonely(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, r := range w.node(1)[1:] {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := r.BecomeOwner(w.t.Context()); err != nil && CodeOf(err) != NotOwner {
					t.Error(err)
					return
				}
			}
		})
	}
	proposed := 0
	w.onVoter(func() error {
		proposed++
		for range 50 {
			for _, r := range w.node(1) {
				if now := r.serving.Load(); now != nil && now.sole {
					t.Errorf("shard %d is in a sole epoch beside the proposal of a voter", r.c.Shard)
				}
			}
			runtime.Gosched()
		}
		return paxos.ErrRejected
	})
	for proposed < 20 && !t.Failed() {
		require.NoError(t, w.shards[1][0].BecomeOwner(w.ctx()))
		require.ErrorIs(t, w.shards[1][0].AddVoter(w.ctx(), 3, "n3"), paxos.ErrRejected)
	}
	close(stop)
	wg.Wait()
}
