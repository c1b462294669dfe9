package shard

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// held is a transaction with a lock on row x of each shard.
type held struct {
	id     storage.TxnID
	tokens map[ID]LockToken
}

func (w *sharing) holdAll(owner paxos.ReplicaID) held {
	h := held{w.begin(), map[ID]LockToken{}}
	for _, r := range w.node(owner) {
		h.tokens[r.c.Shard] = w.lock(r, h.id, "x")
	}
	return h
}

// wantKept: the transaction has its locks on the shards that are named.
func (w *sharing) wantKept(h held, owner paxos.ReplicaID, shards ...ID) {
	w.t.Helper()
	for _, s := range shards {
		r := w.shards[s][owner-1]
		w.wantHeld(r, "x")
		got, code := w.tryLock(r, h.id, h.tokens[s], fmt.Sprint("more of ", owner))
		require.Equal(w.t, CodeNone, code, "shard %d", s)
		require.Equal(w.t, h.tokens[s], got, "the same token")
	}
}

var allShared = []ID{1, 2, 3}

// All shards change their owner in one go, each with its locks, in exactly the next epoch;
// and the new owner leads.
func TestJointHandOverKeepsOpenTransactions(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	h := w.holdAll(1)
	begun := w.epochs(1)
	for i := range paxos.ReplicaID(4) {
		from, to := i%3+1, (i+1)%3+1
		w.handAllOver(from, to)
		require.Empty(t, w.serving(from))
		require.Equal(t, allShared, w.serving(to))
		require.True(t, w.shards[2][to-1].leads())
		w.wantIdle(from)
		w.wantIdle(to)
		w.wantKept(h, to, allShared...)
		for s := range begun {
			begun[s]++
		}
		require.Equal(t, begun, w.epochs(to))
	}
	for s, token := range h.tokens {
		w.wantCommit(w.shards[s][1], h.id, token, "x", "1")
	}
	w.checksumsAgree()
}

// A hand-over that comes to nothing leaves all shards where they were, in epochs of the
// old owner's own, with all locks.
func TestCancelledJointHandOver(t *testing.T) {
	for name, fail := range map[string]func(w *sharing, cancel func()) (take func(context.Context, *TakeOverTogetherRequest) []error){
		"nobody answers": func(*sharing, func()) func(context.Context, *TakeOverTogetherRequest) []error {
			return func(_ context.Context, q *TakeOverTogetherRequest) []error {
				return slices.Repeat([]error{errors.New("unreachable")}, len(q.Shards))
			}
		},
		"one takeover is under way": func(w *sharing, _ func()) func(context.Context, *TakeOverTogetherRequest) []error {
			w.shards[3][1].takeover.Lock()
			return func(ctx context.Context, q *TakeOverTogetherRequest) []error {
				defer w.shards[3][1].takeover.Unlock()
				return w.ask(2)(ctx, q)
			}
		},
		"a flush without an end": func(w *sharing, cancel func()) func(context.Context, *TakeOverTogetherRequest) []error {
			w.network.Force(sharedGroup, memory.FaultUnknownLost)
			w.network.Observe(func(memory.Proposal) { cancel() }) // of the first
			return func(_ context.Context, q *TakeOverTogetherRequest) []error {
				w.t.Error("asked though not all is written down")
				return make([]error, len(q.Shards))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSharing(t, 1, 2, 3)
			h := w.holdAll(1)
			begun := w.epochs(1)
			ctx, cancel := context.WithCancel(w.ctx())
			defer cancel()
			require.Error(t, w.shards[1][0].handOverTogether(ctx, w.node(1), fail(w, cancel)))
			w.network.Observe(nil)
			require.Equal(t, allShared, w.serving(1))
			require.Empty(t, w.serving(2))
			w.wantIdle(1)
			w.wantIdle(2)
			w.wantKept(h, 1, allShared...)
			for s, epoch := range w.epochs(1) {
				require.Equal(t, begun[s]+1, epoch)
			}
			w.handAllOver(1, 2)
			w.wantKept(h, 2, allShared...)
		})
	}
}

// The answer is lost, but the successor took over.
func TestJointHandOverWithoutAnAnswer(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	h := w.holdAll(1)
	require.NoError(t, w.shards[1][0].handOverTogether(w.ctx(), w.node(1), func(ctx context.Context, q *TakeOverTogetherRequest) []error {
		for _, err := range w.ask(2)(ctx, q) {
			require.NoError(t, err)
		}
		return slices.Repeat([]error{errors.New("connection reset")}, len(q.Shards))
	}))
	require.Empty(t, w.serving(1))
	w.wantKept(h, 2, allShared...)
}

// Each shard succeeds or fails for itself. What was not taken is served where it was,
// though another leads, until that one takes it over too; only then its locks are lost.
func TestJointHandOverOfSome(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	h := w.holdAll(1)
	err := w.shards[1][0].handOverTogether(w.ctx(), w.node(1), func(ctx context.Context, q *TakeOverTogetherRequest) []error {
		some := &TakeOverTogetherRequest{Shards: []ShardTakeOver{q.Shards[0], q.Shards[2]}}
		errs := w.ask(2)(ctx, some)
		return []error{errs[0], errors.New("no room"), errs[1]}
	})
	require.ErrorContains(t, err, "1 of 3 shards")
	require.Equal(t, []ID{2}, w.serving(1))
	require.Equal(t, []ID{1, 3}, w.serving(2))
	w.wantKept(h, 1, 2)
	w.wantKept(h, 2, 1, 3)
	require.False(t, w.shards[2][0].leads())
	w.put(w.shards[2][0], "y", "1")
	for _, r := range append(w.node(1), w.node(2)...) {
		require.NoError(t, r.Reclaim(w.ctx()))
	}
	require.Equal(t, allShared, w.serving(2))
	w.wantRead(w.shards[2][1], "y", "1")
	w.wantLost(w.shards[2][1], h.id, h.tokens[2], "x")
	w.wantKept(h, 2, 1, 3)
	// The old owner hears of it when it asks its group.
	_, err = w.get(w.ctx(), w.shards[2][0], w.now(), "y")
	require.Equal(t, NotOwner, CodeOf(err))
}

// The successor loses its power when it has taken one shard over. The old owner has the
// others back with their locks, and that one when it leads again.
func TestSuccessorOfSeveralCrashes(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	w.put(w.shards[1][0], "z", "1")
	h := w.holdAll(1)
	taken, down := make(chan struct{}), make(chan struct{})
	for _, s := range []ID{2, 3} {
		w.lanes[1][s].onBarrier = func() { <-down }
	}
	go func() {
		defer close(down)
		<-taken
		w.network.Crash("n2")
	}()
	w.shards[1][1].c.Steps = func(_ context.Context, step string) {
		if step == "first timestamp drawn" {
			close(taken)
			<-down
		}
	}
	begun := w.epochs(1)
	err := w.shards[1][0].handOverTogether(w.ctx(), w.node(1), func(ctx context.Context, q *TakeOverTogetherRequest) []error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() { <-down; cancel() }()
		w.ask(2)(ctx, q)
		return slices.Repeat([]error{errors.New("connection reset")}, len(q.Shards))
	})
	require.ErrorContains(t, err, "2 of 3 shards")
	require.Equal(t, []ID{2, 3}, w.serving(1))
	w.wantKept(h, 1, 2, 3)
	require.NoError(t, w.network.Elect(sharedGroup, 1))
	for _, r := range w.node(1) {
		require.NoError(t, r.Reclaim(w.ctx()))
	}
	require.Equal(t, allShared, w.serving(1))
	require.Equal(t, [3]uint64{begun[0] + 2, begun[1] + 1, begun[2] + 1}, w.epochs(1))
	w.wantRead(w.shards[1][0], "z", "1")
	w.wantLost(w.shards[1][0], h.id, h.tokens[1], "x")
	w.wantCommit(w.shards[2][0], h.id, h.tokens[2], "x", "1")
}

// Whoever leads and serves nothing takes over by itself. A successor leads before it
// serves: nothing comes between.
func TestNoReclaimBetweenLeadingAndTakingOver(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	h := w.holdAll(1)
	begun := w.epochs(1)
	w.shards[1][1].c.Steps = func(ctx context.Context, step string) {
		if step != "leads for several" {
			return
		}
		for _, r := range append(w.node(1), w.node(2)...) {
			require.NoError(t, r.Reclaim(ctx))
			require.Nil(t, r.serving.Load())
		}
		require.Equal(t, begun, w.epochs(2))
	}
	w.handAllOver(1, 2)
	w.wantKept(h, 2, allShared...)
}

// Who found that he leads and serves nothing while he handed over takes nothing back when
// that has come to a good end.
func TestNoReclaimAfterAHandOver(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	token := w.lock(a, id, "x")
	looked, over, reclaimed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	a.c.Steps = func(_ context.Context, step string) {
		if step == "reclaim" {
			close(looked)
			<-over
		}
	}
	require.NoError(t, a.HandOver(w.ctx(), func(ctx context.Context, q *TakeOverRequest) error {
		go func() { reclaimed <- a.Reclaim(w.ctx()) }()
		<-looked
		return b.TakeOver(ctx, q)
	}))
	close(over)
	require.NoError(t, <-reclaimed)
	w.wantCommit(b, id, token, "x", "1")
}

// Shards that are not served here are left out. Without the one in whose name it is asked
// for there is no hand-over.
func TestJointHandOverOfWhatIsServed(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	w.handOver(w.shards[2][0], w.shards[2][1])
	h := held{w.begin(), map[ID]LockToken{}}
	h.tokens[2] = w.lock(w.shards[2][1], h.id, "x")
	before := w.epochs(2)
	w.handAllOver(1, 3)
	require.Equal(t, [3]uint64{before[0] + 1, before[1], before[2] + 1}, w.epochs(3))
	require.Equal(t, []ID{1, 3}, w.serving(3))
	w.wantKept(h, 2, 2)

	before = w.epochs(3)
	refused := w.shards[2][2].handOverTogether(w.ctx(), w.node(3), func(context.Context, *TakeOverTogetherRequest) []error {
		t.Error("asked")
		return nil
	})
	require.Equal(t, NotOwner, CodeOf(refused))
	require.Equal(t, before, w.epochs(3))
	require.Equal(t, []ID{1, 3}, w.serving(3))
	w.wantIdle(1)
	w.wantIdle(3)
}

// A request is refused as a whole: nobody leads, no epoch begins, no takeover stays held.
func TestJointTakeOversThatAreRefused(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	stranger := newTrio(t).shards[1][1]
	begun := w.epochs(1)
	flushed := func(s ID) ShardTakeOver { return ShardTakeOver{s, TakeOverRequest{Epoch: begun[0], Flush: 7}} }
	w.handOver(w.shards[3][0], w.shards[3][1])
	require.NoError(t, w.network.Elect(sharedGroup, 1))
	begun = w.epochs(1)
	s := &Server{Replica: func(s ID) *Replica {
		if s == 4 {
			return stranger
		}
		return w.server(2).Replica(s)
	}}
	for name, c := range map[string]struct {
		q    TakeOverTogetherRequest
		want Code
	}{
		"no shard":          {TakeOverTogetherRequest{}, BadRequest},
		"a shard elsewhere": {TakeOverTogetherRequest{[]ShardTakeOver{flushed(1), flushed(99)}}, NotOwner},
		"no flush":          {TakeOverTogetherRequest{[]ShardTakeOver{flushed(1), {2, TakeOverRequest{Epoch: 1}}}}, BadRequest},
		"no epoch":          {TakeOverTogetherRequest{[]ShardTakeOver{flushed(1), {2, TakeOverRequest{Flush: 1}}}}, BadRequest},
		"twice the same":    {TakeOverTogetherRequest{[]ShardTakeOver{flushed(1), flushed(1)}}, BadRequest},
		"its own":           {TakeOverTogetherRequest{[]ShardTakeOver{flushed(1), flushed(2), flushed(3)}}, BadRequest},
		"of another group":  {TakeOverTogetherRequest{[]ShardTakeOver{flushed(1), flushed(4)}}, BadRequest},
	} {
		_, err := s.takeOverTogether(w.ctx(), &c.q)
		require.Equal(t, c.want, CodeOf(err), name)
		require.False(t, w.shards[1][1].leads(), name)
		require.Equal(t, begun, w.epochs(2), name)
		w.wantIdle(2)
	}
}

// transportTo brings requests to servers.
type transportTo map[NodeAddr]*Server

func (t transportTo) Call(ctx context.Context, to NodeAddr, request []byte) ([]byte, error) {
	if t[to] == nil {
		return nil, fmt.Errorf("%w: no node %s", ErrNotSent, to)
	}
	return t[to].Serve(ctx, request), nil
}

// A node hands shards that share a group over in one message, once all nodes know that.
func TestNodeHandsOverTogether(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	n := &Node{c: Config{NodeID: 1}}
	n.router = &Router{self: n.addr(), directory: NewDirectory(), transport: transportTo{"2": w.server(2)}}
	for _, r := range w.node(1) {
		n.local.add(r)
	}
	h := w.holdAll(1)
	begun := w.epochs(1)
	n.activate(VersionCompany - 1)
	require.Equal(t, Unavailable, CodeOf(n.HandOver(w.ctx(), 1, "2")))
	require.Equal(t, begun, w.epochs(1))
	require.Equal(t, allShared, w.serving(1))

	n.activate(VersionCompany)
	require.Equal(t, Unavailable, CodeOf(n.HandOver(w.ctx(), 1, "9")), "nobody there")
	require.Equal(t, allShared, w.serving(1))
	w.wantKept(h, 1, allShared...)
	require.NoError(t, n.HandOver(w.ctx(), 1, "2"))
	w.wantKept(h, 2, allShared...)
	require.Equal(t, NotOwner, CodeOf(n.HandOver(w.ctx(), 1, "2")))
}

// All shards go around the nodes while transactions run on them, and every node tries to
// reclaim all the time: no transaction loses a lock, and no commit is lost.
func TestJointHandOversUnderLoad(t *testing.T) {
	w := newSharing(t, 1, 2, 3)
	var owner atomic.Uint64
	owner.Store(1)
	var done [4]atomic.Int64 // commits by shard
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return t.Failed()
		}
	}
	var wg sync.WaitGroup
	for _, s := range allShared {
		wg.Go(func() {
			for n := uint64(1); !stopped(); n++ {
				if err := w.increment(s, n, &owner); err != nil {
					t.Errorf("transaction %d on shard %d: %v", n, s, err)
					return
				}
				done[s].Add(1)
			}
		})
		wg.Go(func() {
			for !stopped() {
				for _, r := range w.shards[s] {
					if err := r.Reclaim(w.t.Context()); err != nil {
						t.Errorf("reclaim shard %d: %v", s, err)
						return
					}
				}
				runtime.Gosched()
			}
		})
	}
	for i := range paxos.ReplicaID(20) {
		from, to := i%3+1, (i+1)%3+1
		w.handAllOver(from, to)
		owner.Store(uint64(to))
		for _, s := range allShared {
			before := done[s].Load()
			require.Eventually(t, func() bool { return done[s].Load() > before+1 || t.Failed() }, time.Minute, time.Millisecond)
		}
	}
	close(stop)
	wg.Wait()
	for _, s := range allShared {
		value, err := w.get(w.ctx(), w.shards[s][owner.Load()-1], w.now(), "n")
		require.NoError(t, err)
		require.Len(t, value, int(done[s].Load()))
	}
	w.checksumsAgree()
}

// increment adds a letter to row n of a shard, at whoever owns it.
func (w *sharing) increment(s ID, seq uint64, owner *atomic.Uint64) error {
	ctx := w.t.Context()
	at := func() *Replica { return w.shards[s][owner.Load()-1] }
	start, _ := w.times.Timestamp(ctx)
	id := storage.TxnID{Start: start, Gateway: 20 + uint64(s), Seq: seq}
	response, err := again(func() (*LockResponse, error) {
		return at().Lock(ctx, &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key("n")}, Read: true})
	})
	if err != nil {
		return err
	}
	floor, _ := w.times.Timestamp(ctx)
	q := &OnePCRequest{Txn: id, Floor: floor, Token: response.Token, Writes: []Write{{Key: storage.Key("n"), Value: append(slices.Clone(response.Rows[0].Value), 'i')}}}
	vote, err := again(func() (*VoteResponse, error) { return at().OnePC(ctx, q) })
	if err == nil && vote.State != storage.VoteCommitted {
		err = fmt.Errorf("vote %v", vote.State)
	}
	return err
}
