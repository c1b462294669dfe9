package shard

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// lockDurably takes exclusive locks that outlive the owner.
func (w *trio) lockDurably(r *Replica, id storage.TxnID, token LockToken, keys ...string) LockToken {
	w.t.Helper()
	q := &LockRequest{Txn: id, Token: token, Mode: LockExclusive, Durable: true, Read: true}
	for _, k := range keys {
		q.Keys = append(q.Keys, storage.Key(k))
	}
	response, err := r.Lock(w.ctx(), q)
	require.NoError(w.t, err)
	return response.Token
}

// owner crash, replicated: the transaction goes on, and nobody else got its locks.
func TestDurableLocksSurviveTheOwner(t *testing.T) {
	w := newTrio(t)
	r := w.shards[1]
	w.put(r[0], "x", "1")
	id, other := w.begin(), w.begin()
	token := w.lockDurably(r[0], id, LockToken{}, "x")
	_, err := r[0].Lock(w.ctx(), &LockRequest{Txn: id, Token: token, Mode: LockShared, Durable: true, Span: &Span{Lo: storage.Key("zz")}})
	require.NoError(t, err)
	otherToken := w.lock(r[0], other, "y")
	for i := 1; i <= 3; i++ {
		require.NoError(t, r[i%3].BecomeOwner(w.ctx()))
		w.wantHeld(r[i%3], "x")
		w.wantHeld(r[i%3], "zzz") // an insert into the interval without an end
		require.Equal(t, token, w.lockDurably(r[i%3], id, token, fmt.Sprint("more ", i)))
	}
	w.wantLost(r[0], other, otherToken, "y") // in memory, and gone with it
	w.wantHeld(r[0], "more 1")
	w.wantCommit(r[0], id, token, "x", "2")
	durable, _ := w.records(r[0])
	require.Empty(t, durable)
	w.wantFree(r[0], "x", "zzz", "more 1", "more 3")
	w.checksumsAgree()
}

// A durable grant is answered only after its record is committed: one round for
// all locks of a request, none for locks that are written down already.
func TestDurableGrantComesAfterItsRecord(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	id := w.begin()
	rounds := func() uint64 { return a.counters.proposals.Load() }
	before := rounds()
	token := w.lockDurably(a, id, LockToken{}, "a", "b", "c", "d")
	require.Equal(t, before+1, rounds())
	require.Equal(t, token, w.lockDurably(a, id, token, "b", "c"))
	require.Equal(t, before+1, rounds())

	w.network.Hold(2, 1)
	answered := make(chan error, 1)
	go func() {
		_, err := a.Lock(context.Background(), &LockRequest{Txn: id, Token: token, Mode: LockExclusive, Durable: true, Keys: []storage.Key{storage.Key("late")}})
		answered <- err
	}()
	require.Eventually(t, func() bool { return rounds() == before+2 || len(answered) > 0 }, time.Minute, time.Millisecond)
	require.Empty(t, answered)
	w.network.Release(2, 1)
	require.NoError(t, <-answered)
	durable, _ := w.records(a)
	require.Len(t, durable, 2)
}

// What was granted before the first durable request is written down with it.
func TestFirstDurableGrantTakesTheOthersAlong(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	token := w.lock(a, id, "memory")
	w.lockDurably(a, id, token, "x")
	_, err := a.Lock(w.ctx(), &LockRequest{Txn: id, Token: token, Mode: LockExclusive, Keys: []storage.Key{storage.Key("after")}})
	require.NoError(t, err)
	require.NoError(t, b.BecomeOwner(w.ctx()))
	for _, k := range []string{"memory", "x", "after"} {
		w.wantHeld(b, k)
	}
	w.wantCommit(b, id, token, "memory", "1")
}

// It is written down with the next one if the first comes to nothing.
func TestFailedDurableGrantTakesNothingFromTheNext(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	token := w.lock(a, id, "memory")
	w.network.Force(2, slices.Repeat([]memory.Fault{memory.FaultNotSent}, 8)...) // longer than ctx lasts
	ctx, cancel := context.WithTimeout(w.ctx(), 100*time.Millisecond)
	defer cancel()
	_, err := a.Lock(ctx, &LockRequest{Txn: id, Token: token, Mode: LockExclusive, Durable: true, Keys: []storage.Key{storage.Key("x")}})
	require.Error(t, err)
	w.lockDurably(a, id, token, "y")
	require.NoError(t, b.BecomeOwner(w.ctx()))
	w.wantHeld(b, "memory")
	w.wantCommit(b, id, token, "memory", "1")
}

// lapse lets time pass in which only one gateway renewed its lease.
func (w *trio) lapse(r *Replica, alive uint64) {
	w.ahead.Store(int64(2 * leaseTTL))
	require.NoError(w.t, r.Renew(&RenewRequest{Gateway: alive}))
	r.DropLapsed(0)
}

// H3 in replicated mode: rollback, lapse, a renewal that does not name it. Each
// writes ABORTED before anybody gets the key; after the next crash nothing of it
// is back, and the transaction that wakes is refused.
func TestDurableLocksEndThroughTheRegister(t *testing.T) {
	for name, end := range map[string]func(*trio, *Replica, storage.TxnID){
		"rollback": func(w *trio, r *Replica, id storage.TxnID) {
			require.NoError(w.t, r.Release(&ReleaseRequest{Txn: id}))
		},
		"close vote": func(w *trio, r *Replica, id storage.TxnID) {
			_, err := r.CloseVote(w.ctx(), &CloseVoteRequest{Txn: id})
			require.NoError(w.t, err)
		},
		"resolve": func(w *trio, r *Replica, id storage.TxnID) {
			require.NoError(w.t, r.Resolve(w.ctx(), &ResolveRequest{Txn: id}))
		},
		"lapse": func(w *trio, r *Replica, id storage.TxnID) {
			w.lapse(r, id.Gateway+1)
		},
		"lapse at a new owner": func(w *trio, r *Replica, id storage.TxnID) {
			require.NoError(w.t, r.BecomeOwner(w.ctx()))
			w.lapse(r, id.Gateway+1)
		},
		"an earlier life of the node": func(w *trio, r *Replica, id storage.TxnID) { r.DropLapsed(id.Gateway + 1) },
		"renewal": func(w *trio, r *Replica, id storage.TxnID) {
			require.NoError(w.t, r.Renew(&RenewRequest{Gateway: id.Gateway, Cut: id.Seq}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTrio(t)
			a, c := w.shards[1][0], w.shards[1][2]
			a.c.Clock = func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
			w.put(a, "x", "0")
			id, next := w.begin(), w.begin()
			next.Gateway++
			token := w.lockDurably(a, id, LockToken{}, "x")
			granted := make(chan error, 1)
			w.network.Observe(func(p memory.Proposal) {
				var command Command
				if command.Decode(p.Command) == nil && command.Kind == KindCloseVote && len(granted) > 0 {
					t.Error("granted before the register was written")
				}
			})
			wait := func() {
				_, err := again(func() (*LockResponse, error) {
					return a.Lock(w.ctx(), &LockRequest{Txn: next, Mode: LockExclusive, Keys: []storage.Key{storage.Key("x")}})
				})
				granted <- err
			}
			go wait()
			end(w, a, id)
			require.NoError(t, <-granted)
			snap := a.c.Space.Snapshot()
			vote, _, err := snap.Vote(id)
			snap.Close()
			require.NoError(t, err)
			require.Equal(t, storage.VoteAborted, vote.State)
			require.NoError(t, a.Release(&ReleaseRequest{Txn: next}))
			w.put(a, "x", "1")

			require.NoError(t, c.BecomeOwner(w.ctx()))
			durable, _ := w.records(c)
			require.Empty(t, durable)
			w.wantFree(c, "x")
			w.wantLost(c, id, token, "x")
			w.wantRead(c, "x", "1")
			w.checksumsAgree()
		})
	}
}

// The record of a lock may apply late, or its owner be deposed on the way: after
// the transaction has ended it does not come back.
func TestLateRecordOfALock(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	token := w.lockDurably(a, id, LockToken{}, "x")
	w.network.Force(2, memory.FaultUnknownLate)
	ctx, cancel := context.WithTimeout(w.ctx(), 20*time.Millisecond)
	defer cancel()
	w.network.Observe(func(memory.Proposal) { cancel() }) // no second copy
	_, err := a.Lock(ctx, &LockRequest{Txn: id, Token: token, Mode: LockExclusive, Durable: true, Keys: []storage.Key{storage.Key("y")}})
	require.Error(t, err)
	w.network.Observe(nil)
	require.NoError(t, a.Release(&ReleaseRequest{Txn: id}))
	w.network.Flush(2)
	durable, _ := w.records(a)
	require.Empty(t, durable)
	require.NoError(t, b.BecomeOwner(w.ctx()))
	w.wantFree(b, "x", "y")
}

// A lock request of a transaction that has ended leaves nothing behind.
func TestDurableLockAfterTheEnd(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	id := w.begin()
	token := w.lockDurably(a, id, LockToken{}, "x")
	require.NoError(t, a.Release(&ReleaseRequest{Txn: id}))
	_, err := a.Lock(w.ctx(), &LockRequest{Txn: id, Token: token, Mode: LockExclusive, Durable: true, Keys: []storage.Key{storage.Key("late")}})
	require.Equal(t, LockLost, CodeOf(err))
	w.wantFree(a, "x", "late")
	durable, _ := w.records(a)
	require.Empty(t, durable)
}

// A transaction that only locked ends with a vote, too: its records must go.
func TestDurableReadOnlyCommit(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	q := &OnePCRequest{Txn: id, Floor: w.now(), Token: w.lockDurably(a, id, LockToken{}, "x"), Locked: []LockRef{{Mode: LockExclusive, Lo: storage.Key("x")}}}
	vote, err := a.OnePC(w.ctx(), q)
	require.NoError(t, err)
	require.Equal(t, storage.VoteCommitted, vote.State)
	again, err := a.OnePC(w.ctx(), q)
	require.NoError(t, err)
	require.Equal(t, vote, again)
	require.NoError(t, b.BecomeOwner(w.ctx()))
	w.wantFree(b, "x")
}

// Single durable locks are not given up early: the record would outlive them.
func TestDurableLocksAreReleasedTogether(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	token := w.lockDurably(a, id, LockToken{}, "x", "y")
	require.NoError(t, a.Release(&ReleaseRequest{Txn: id, Keys: []storage.Key{storage.Key("x")}}))
	w.wantHeld(a, "x")
	require.NoError(t, b.BecomeOwner(w.ctx()))
	w.wantHeld(b, "x")
	w.wantCommit(b, id, token, "y", "1")
	w.wantFree(b, "x")
}

// Durable locks through planned changes and crashes alike; a vote cast under
// them, too.
func TestDurableLocksAreHandedOver(t *testing.T) {
	w := newTrio(t)
	r := w.shards[1]
	id, voter := w.begin(), w.begin()
	token := w.lockDurably(r[0], id, LockToken{}, "x")
	vote, err := r[0].Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2},
		OnePCRequest: *w.request(voter, w.lockDurably(r[0], voter, LockToken{}, "v", "w"), "v", "1")})
	require.NoError(t, err)
	w.handOver(r[0], r[1])
	require.NoError(t, r[2].BecomeOwner(w.ctx()))
	w.handOver(r[2], r[0])
	w.wantHeld(r[0], "x")
	w.wantNotGranted(r[0], "w")
	require.NoError(t, r[0].Resolve(w.ctx(), &ResolveRequest{Txn: voter, Commit: vote.Prepare, Wait: true}))
	w.wantFree(r[0], "v", "w")
	w.wantCommit(r[0], id, token, "x", "1")
	durable, handed := w.records(r[0])
	require.Empty(t, durable)
	require.Empty(t, handed)
	w.checksumsAgree()
}

// H8 with durable locks: below the fence no vote is possible, and the end of the
// transaction frees its keys.
func TestDurableLocksBelowTheFence(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	w.lockDurably(a, id, LockToken{}, "x")
	require.NoError(t, a.RaiseFence(w.ctx(), w.now()))
	require.NoError(t, a.Release(&ReleaseRequest{Txn: id}))
	w.wantFree(a, "x")
	require.NoError(t, b.BecomeOwner(w.ctx()))
	w.wantFree(b, "x")
}

// H1, R3: the new owner draws its first timestamp after its epoch is applied.
// Drawn before, a read at the old owner in between could lie above it, and the
// new owner would commit below that read.
func TestFirstTimestampIsDrawnInTheEpoch(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.put(a, "x", "old")
	id, floor := w.begin(), w.now()
	var at storage.Timestamp
	var seen string
	b.c.Times = drawing{w, func() {
		for range 5 {
			at = w.now()
		}
		if v, err := w.get(w.ctx(), a, at, "x"); err == nil {
			seen = v
		} else {
			require.Equal(t, NotOwner, CodeOf(err))
		}
	}}
	require.NoError(t, b.BecomeOwner(w.ctx()))
	b.c.Times = w
	q := w.request(id, w.lock(b, id, "x"), "x", "new")
	q.Floor = floor
	vote, err := b.OnePC(w.ctx(), q)
	require.NoError(t, err)
	require.Equal(t, storage.VoteCommitted, vote.State)
	if seen != "" {
		require.Greater(t, vote.Commit, at, "a read at %s saw %q", at, seen)
	}
}

// drawing does something after every timestamp drawn.
type drawing struct {
	*trio
	then func()
}

func (d drawing) Timestamp(ctx context.Context) (storage.Timestamp, error) {
	t, err := d.trio.Timestamp(ctx)
	d.then()
	return t, err
}

// H1: an epoch belongs to one life of one process. A second life of the same
// node, which takes the register as the first one found it, does not own it.
func TestEpochBelongsToOneLife(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	epoch, node, _, _ := a.c.Machine.Owner()
	second := Command{Kind: KindBeginEpoch, Epoch: epoch - 1, Node: node, Process: 999}
	result, err := a.proposeUntilKnown(w.ctx(), &second)
	require.NoError(t, err)
	require.Equal(t, VerdictNotOwner, result.Verdict)
	first := second
	first.Process = a.c.Process
	result, err = a.proposeUntilKnown(w.ctx(), &first)
	require.NoError(t, err)
	require.Equal(t, VerdictDone, result.Verdict, "a copy of what was applied")
}
