package shard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// TestReadsAcrossOwners is models/reads.py at work: the owner moves around,
// replicas lag, answers of proposals get lost, and every read at R that was
// answered must show what the final history shows at R; and every write that
// was acknowledged before R was drawn lies at or below R.
func TestReadsAcrossOwners(t *testing.T) {
	seed := explore.Seed(t)
	w := newTrio(t)
	w.network.SetFaults(memory.Faults{UnknownApplied: 0.03, UnknownLost: 0.03, UnknownLate: 0.03, Duplicate: 0.03})
	h := &readsHistory{w: w, began: time.Now()}
	var wg sync.WaitGroup
	for i := range 3 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() { h.write(rng, i) })
		wg.Go(func() { h.read(rand.New(rand.NewPCG(seed, uint64(10+i)))) })
	}
	h.moveOwners(rand.New(rand.NewPCG(seed, 99)))
	wg.Wait()
	w.network.SetFaults(memory.Faults{})
	require.NoError(t, w.shards[System][0].BecomeOwner(w.ctx())) // the last attempt may have failed
	require.NoError(t, w.shards[1][0].BecomeOwner(w.ctx()))
	h.check(t)
	w.checksumsAgree()
}

const readsKeys = 3

type readsHistory struct {
	w     *trio
	began time.Time
	seq   atomic.Uint64
	moves atomic.Int64

	mu    sync.Mutex
	reads []observedRead
	acks  int
	// latest acknowledged commit, for the real-time half of the promise
	acked [readsKeys]storage.Timestamp
}

type observedRead struct {
	at    storage.Timestamp
	key   int
	value string
}

// goesOn says for how long: until enough has happened, however slow the machine.
func (h *readsHistory) goesOn() bool {
	past := time.Since(h.began)
	return past < 1500*time.Millisecond || past < time.Minute && !h.enough()
}

func (h *readsHistory) enough() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acks > 20 && len(h.reads) > 20 && h.moves.Load() > 5
}

func readsKey(i int) storage.Key { return storage.Key(fmt.Sprint("k", i)) }

func (h *readsHistory) write(rng *rand.Rand, writer int) {
	for h.goesOn() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		h.writeOnce(ctx, rng, writer)
		cancel()
	}
}

func (h *readsHistory) writeOnce(ctx context.Context, rng *rand.Rand, writer int) {
	start, err := h.w.Timestamp(ctx)
	if err != nil {
		return
	}
	k, n := rng.IntN(readsKeys), h.seq.Add(1)
	id := storage.TxnID{Start: start, Gateway: uint64(50 + writer), Seq: n}
	r := h.w.shards[1][rng.IntN(3)]
	granted, err := r.Lock(ctx, &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{readsKey(k)}, Timeout: 100 * time.Millisecond})
	if err != nil {
		return
	}
	floor, err := h.w.Timestamp(ctx)
	if err != nil {
		_ = r.Release(&ReleaseRequest{Txn: id})
		return
	}
	q := OnePCRequest{Txn: id, Token: granted.Token, Floor: floor,
		Writes: []Write{{Key: readsKey(k), Value: []byte(fmt.Sprint(n))}}}
	var vote *VoteResponse
	if rng.IntN(2) == 0 {
		vote, err = r.OnePC(ctx, &q)
	} else {
		vote, err = h.inTwoSteps(ctx, rng, r, &q)
	}
	if err != nil || vote.State != storage.VoteCommitted {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acks++
	h.acked[k] = max(h.acked[k], vote.Commit)
}

// inTwoSteps votes, and resolves a moment later, with whoever is the owner then.
func (h *readsHistory) inTwoSteps(ctx context.Context, rng *rand.Rand, r *Replica, q *OnePCRequest) (*VoteResponse, error) {
	vote, err := r.Prepare(ctx, &PrepareRequest{OnePCRequest: *q, Participants: []ID{1}})
	time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
	for ctx.Err() == nil {
		for _, r := range h.w.shards[1] {
			if err != nil { // as a recoverer does
				if vote, err = r.CloseVote(ctx, &CloseVoteRequest{Txn: q.Txn}); err != nil {
					continue
				}
			}
			if vote.State != storage.VotePrepared {
				return vote, nil
			}
			if r.Resolve(ctx, &ResolveRequest{Txn: q.Txn, Commit: vote.Prepare, Wait: true}) == nil {
				return &VoteResponse{State: storage.VoteCommitted, Commit: vote.Prepare}, nil
			}
		}
		_ = pause(ctx, ctx, time.Millisecond)
	}
	return nil, ctx.Err()
}

func (h *readsHistory) read(rng *rand.Rand) {
	for h.goesOn() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		k := rng.IntN(readsKeys)
		h.mu.Lock()
		acked := h.acked[k]
		h.mu.Unlock()
		at, err := h.w.Timestamp(ctx)
		if err == nil && at < acked {
			h.w.t.Errorf("timestamp %s drawn after a commit at %s was acknowledged", at, acked)
		}
		if err == nil {
			// Reads that look at every intent and those that know better agree
			// with the final history, hence with each other.
			q := &ReadRequest{At: at, Keys: []storage.Key{readsKey(k)}}
			if rng.IntN(2) == 0 {
				q = &ReadRequest{At: at, Span: &Span{Lo: readsKey(k), Hi: successor(readsKey(k))}}
			}
			value, err := readOrReduce(ctx, rng, h.w.shards[1][rng.IntN(3)], q)
			if err == nil {
				h.mu.Lock()
				h.reads = append(h.reads, observedRead{at, k, value})
				h.mu.Unlock()
			}
		}
		cancel()
	}
}

// readOrReduce returns the value that there is, by way of a read or a reduction.
func readOrReduce(ctx context.Context, rng *rand.Rand, r *Replica, q *ReadRequest) (value string, err error) {
	if q.Span != nil && rng.IntN(2) == 0 {
		l := &lastValue{}
		_, err := r.Reduce(ctx, &ReduceRequest{At: q.At, Span: *q.Span}, l)
		return l.value, err
	}
	response, err := r.read(ctx, q, rng.IntN(2) == 0)
	if err == nil && len(response.Rows) == 1 {
		value = string(response.Rows[0].Value)
	}
	return value, err
}

type lastValue struct {
	listed
	value string
}

func (l *lastValue) Add(_, value []byte) error {
	l.value = string(value)
	return nil
}

// leaveRoom waits for a write where the machine is too slow for one between two moves.
func (h *readsHistory) leaveRoom() {
	if time.Since(h.began) < 1500*time.Millisecond {
		return
	}
	acked := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.acks
	}
	before, late := acked(), time.Now().Add(2*time.Second)
	for h.goesOn() && acked() == before && time.Now().Before(late) {
		time.Sleep(time.Millisecond)
	}
}

// moveOwners changes owners and leaders, and lets replicas lag. Where the system
// shard has lost its owner nothing else can move, so it gets another one first.
func (h *readsHistory) moveOwners(rng *rand.Rand) {
	orphaned := false
	for h.goesOn() {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		lagging := paxos.ReplicaID(rng.IntN(3) + 1)
		h.w.network.Hold(2, lagging)
		next := rng.IntN(3)
		s := ID(1)
		if rng.IntN(8) == 0 || orphaned {
			s = System
		}
		_ = h.w.network.Elect(paxos.GroupID(s+1), paxos.ReplicaID(next+1))
		time.AfterFunc(time.Duration(rng.IntN(10))*time.Millisecond, func() { h.w.network.Release(2, lagging) })
		err := h.w.shards[s][next].BecomeOwner(ctx)
		if err == nil {
			h.moves.Add(1)
		}
		if s == System {
			orphaned = err != nil
		}
		time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		cancel()
		if !orphaned {
			h.leaveRoom()
		}
	}
	for r := range paxos.ReplicaID(3) {
		h.w.network.Release(2, r+1)
	}
}

func (h *readsHistory) check(t *testing.T) {
	r := h.w.shards[1][0]
	snap := r.c.Space.Snapshot()
	defer snap.Close()
	for _, o := range h.reads {
		read, err := snap.Get(readsKey(o.key), o.at)
		require.NoError(t, err)
		require.Equal(t, string(read.Value), o.value, "read of key %d at %s", o.key, o.at)
	}
	t.Logf("%d acknowledged writes, %d reads, %d moves", h.acks, len(h.reads), h.moves.Load())
	require.True(t, h.enough(), "the test did something")
}

// A reader that has looked at an owner's memory opens its snapshot in the same
// tenure or not at all: what a later owner wrote was not in that memory, and a
// tenure that has ended has forgotten its votes.
func TestSnapshotBelongsToTheTenure(t *testing.T) {
	for name, end := range map[string]func(w *trio, a *Replica, now *tenure){
		"the owner stepped down": func(_ *trio, a *Replica, now *tenure) { a.stepDown(now) },
		"another took over, which it has only applied": func(w *trio, a *Replica, now *tenure) {
			require.NoError(t, w.shards[1][1].BecomeOwner(w.ctx()))
			require.NoError(t, a.c.Group.ReadBarrier(w.ctx()))
			require.Same(t, now, a.serving.Load())
		},
		"it took over again": func(w *trio, a *Replica, _ *tenure) { require.NoError(t, a.BecomeOwner(w.ctx())) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTrio(t)
			a := w.shards[1][0]
			now := a.serving.Load()
			snap, err := a.openOwn(now, storage.MaxTimestamp)
			require.NoError(t, err)
			snap.Close()
			end(w, a, now)
			_, err = a.openOwn(now, storage.MaxTimestamp)
			require.Equal(t, NotOwner, CodeOf(err))
		})
	}
}
