package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// takeOver is how the tests bring the request to a successor.
func takeOver(to *Replica) func(context.Context, *TakeOverRequest) error {
	return func(ctx context.Context, q *TakeOverRequest) error { return to.TakeOver(ctx, q) }
}

func (w *trio) handOver(from, to *Replica) {
	w.t.Helper()
	require.NoError(w.t, from.HandOver(w.ctx(), takeOver(to)))
}

// tryLock asks for an exclusive lock and does not wait.
func (w *trio) tryLock(r *Replica, id storage.TxnID, token LockToken, k string) (LockToken, Code) {
	response, err := r.Lock(w.ctx(), &LockRequest{Txn: id, Token: token, Mode: LockExclusive, Wait: WaitNone, Keys: []storage.Key{storage.Key(k)}})
	if err != nil {
		require.NotEqual(w.t, CodeNone, CodeOf(err), "%v", err)
		return LockToken{}, CodeOf(err)
	}
	return response.Token, CodeNone
}

func (w *trio) wantHeld(r *Replica, k string) {
	w.t.Helper()
	id := w.begin()
	_, code := w.tryLock(r, id, LockToken{}, k)
	require.Equal(w.t, WouldBlock, code, k)
}

func (w *trio) wantFree(r *Replica, keys ...string) {
	w.t.Helper()
	id := w.begin()
	for _, k := range keys {
		_, code := w.tryLock(r, id, LockToken{}, k)
		require.Equal(w.t, CodeNone, code, k)
	}
	require.NoError(w.t, r.Release(&ReleaseRequest{Txn: id}))
}

// wantLost: the transaction gets 1213 for its next lock and for its commit, and
// nothing is granted to it.
func (w *trio) wantLost(r *Replica, id storage.TxnID, token LockToken, k string) {
	w.t.Helper()
	_, code := w.tryLock(r, id, token, k)
	require.Equal(w.t, LockLost, code)
	vote, err := r.OnePC(w.ctx(), w.request(id, token, k, "lost update"))
	require.NoError(w.t, err)
	require.Equal(w.t, storage.VoteAborted, vote.State)
}

func (w *trio) wantCommit(r *Replica, id storage.TxnID, token LockToken, k, v string) {
	w.t.Helper()
	vote, err := r.OnePC(w.ctx(), w.request(id, token, k, v))
	require.NoError(w.t, err)
	require.Equal(w.t, storage.VoteCommitted, vote.State)
	w.wantRead(r, k, v)
}

// records lists whose locks are written down in a replica's storage.
func (w *trio) records(r *Replica) (durable, handed []storage.TxnID) {
	require.NoError(w.t, r.c.Group.ReadBarrier(w.ctx()))
	snap := r.c.Space.Snapshot()
	defer snap.Close()
	require.NoError(w.t, snap.Locks(func(id storage.LockID, _ storage.LockRecord) error {
		if id.Source == storage.LocksDurable {
			durable = append(durable, id.Txn)
		} else {
			handed = append(handed, id.Txn)
		}
		return nil
	}))
	return durable, handed
}

// A planned change of the owner is not noticed by open transactions: their locks
// exclude, their tokens are good, over any number of changes.
func TestHandOverKeepsOpenTransactions(t *testing.T) {
	w := newTrio(t)
	r := w.shards[1]
	w.put(r[0], "x", "1")
	id := w.begin()
	token := w.lock(r[0], id, "x")
	_, err := r[0].Lock(w.ctx(), &LockRequest{Txn: id, Token: token, Mode: LockShared, Span: &Span{Lo: storage.Key("m"), Hi: storage.Key("p")}})
	require.NoError(t, err)
	for i := range 4 {
		from, to := r[i%3], r[(i+1)%3]
		w.handOver(from, to)
		require.Nil(t, from.serving.Load())
		w.wantHeld(to, "x")
		w.wantHeld(to, "n") // an insert into the interval
		got, code := w.tryLock(to, id, token, fmt.Sprint("more ", i))
		require.Equal(t, CodeNone, code)
		require.Equal(t, token, got, "the same token")
		_, code = w.tryLock(from, id, token, "y")
		require.Equal(t, NotOwner, code)
	}
	w.wantCommit(r[1], id, token, "x", "2")
	w.wantFree(r[1], "x", "n", "more 0", "more 3")
	w.checksumsAgree()
}

// H2 over a planned change: a token from before a drop stays bad, and so does
// one of an owner that crashed.
func TestHandOverKeepsLostLocksLost(t *testing.T) {
	w := newTrio(t)
	a, b, c := w.shards[1][0], w.shards[1][1], w.shards[1][2]
	now := time.Now()
	a.c.Clock = func() time.Time { return now }
	id := w.begin()
	token := w.lock(a, id, "x")
	now = now.Add(2 * leaseTTL)
	a.DropLapsed(0)
	w.handOver(a, b)
	w.wantLost(b, id, token, "x")

	id = w.begin()
	token = w.lock(b, id, "y")
	require.NoError(t, c.BecomeOwner(w.ctx()))
	w.handOver(c, a)
	w.wantLost(a, id, token, "y")
}

// H3, the first execution: locks are handed over, dropped by the new owner, and
// not there again after it crashes.
func TestHandedOverLocksAreNotResurrected(t *testing.T) {
	for name, end := range map[string]func(*trio, *Replica, storage.TxnID){
		"lapse": func(w *trio, r *Replica, _ storage.TxnID) {
			r.c.Clock = func() time.Time { return time.Now().Add(2 * leaseTTL) }
			r.DropLapsed(0)
		},
		"release": func(w *trio, r *Replica, id storage.TxnID) {
			require.NoError(w.t, r.Release(&ReleaseRequest{Txn: id}))
		},
		"renewal": func(w *trio, r *Replica, id storage.TxnID) {
			require.NoError(w.t, r.Renew(&RenewRequest{Gateway: id.Gateway, Cut: id.Seq}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTrio(t)
			a, b, c := w.shards[1][0], w.shards[1][1], w.shards[1][2]
			w.put(a, "x", "0")
			id := w.begin()
			token := w.lock(a, id, "x")
			w.handOver(a, b)
			end(w, b, id)
			w.put(b, "x", "1")
			require.NoError(t, c.BecomeOwner(w.ctx()))
			_, handed := w.records(c)
			require.Empty(t, handed)
			w.wantFree(c, "x")
			w.wantLost(c, id, token, "x")
			w.wantRead(c, "x", "1")
		})
	}
}

// H3: between the flush and the next epoch nothing is granted, released, read or
// voted; whoever asks is sent on.
func TestOwnerIsFrozenAfterTheFlush(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.put(a, "x", "1")
	id, other := w.begin(), w.begin()
	token, otherToken := w.lock(a, id, "x"), w.lock(a, other, "y")
	q := w.request(other, otherToken, "y", "1")
	at := w.now()
	frozen := a.serving.Load()
	require.NoError(t, a.HandOver(w.ctx(), func(ctx context.Context, request *TakeOverRequest) error {
		_, code := w.tryLock(a, w.begin(), LockToken{}, "z")
		require.Equal(t, NotOwner, code)
		_, err := w.get(ctx, a, at, "x")
		require.Equal(t, NotOwner, CodeOf(err))
		// These had found the owner serving.
		_, err = a.castVote(ctx, frozen, &voteRequest{OnePCRequest: q})
		require.Equal(t, NotOwner, CodeOf(err))
		_, err = a.commitReadOnly(ctx, frozen, &OnePCRequest{Txn: id, Token: token, Floor: at})
		require.Equal(t, NotOwner, CodeOf(err))
		require.Equal(t, NotOwner, CodeOf(a.release(frozen, id)))
		require.Equal(t, NotOwner, CodeOf(a.Release(&ReleaseRequest{Txn: id})))
		require.Equal(t, NotOwner, CodeOf(a.Renew(&RenewRequest{Gateway: 7, Cut: 1000})))
		a.DropLapsed(0)
		require.True(t, frozen.table.Holds(ownerOf(id), LockExclusive, spanOf("x")))
		return b.TakeOver(ctx, request)
	}))
	// A release goes to the new owner, and leaves nothing (no ghost lock).
	w.wantHeld(b, "x")
	require.NoError(t, b.Release(&ReleaseRequest{Txn: id}))
	w.wantFree(b, "x")
	w.wantCommit(b, other, otherToken, "y", "1")
}

// A hand-over that comes to nothing ends in an epoch of the old owner, which has
// everything still; a flush that applies late changes nothing.
func TestCancelledHandOver(t *testing.T) {
	for name, late := range map[string]bool{"refused": false, "flush with an unknown outcome": true} {
		t.Run(name, func(t *testing.T) {
			w := newTrio(t)
			a, b := w.shards[1][0], w.shards[1][1]
			id := w.begin()
			token := w.lock(a, id, "x")
			var asked *TakeOverRequest
			ctx := w.ctx()
			if late {
				w.network.Force(2, memory.FaultUnknownLate)
				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				w.network.Observe(func(p memory.Proposal) { // no second copy
					var c Command
					if c.Decode(p.Command) == nil && c.Kind == KindFlushLocks {
						cancel()
					}
				})
				ctx = short
			}
			err := a.HandOver(ctx, func(_ context.Context, q *TakeOverRequest) error {
				asked = q
				return errors.New("unreachable")
			})
			require.Error(t, err)
			w.network.Flush(2)
			require.NotNil(t, a.serving.Load())
			_, handed := w.records(a)
			require.Empty(t, handed)
			w.wantHeld(a, "x")
			if !late {
				// The request arrives late: the epoch has passed.
				require.Equal(t, NotOwner, CodeOf(b.TakeOver(w.ctx(), asked)))
			}
			released := w.begin()
			w.lock(a, released, "y")
			require.NoError(t, a.Release(&ReleaseRequest{Txn: released}))
			w.wantFree(a, "y")
			w.wantCommit(a, id, token, "x", "1")
			w.checksumsAgree()
		})
	}
}

// The answer of the successor is lost, but it did take over.
func TestHandOverWithoutAnAnswer(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	token := w.lock(a, id, "x")
	require.NoError(t, a.HandOver(w.ctx(), func(ctx context.Context, q *TakeOverRequest) error {
		require.NoError(t, b.TakeOver(ctx, q))
		return errors.New("connection reset")
	}))
	require.Nil(t, a.serving.Load())
	w.wantCommit(b, id, token, "x", "1")
}

// A crash of the old owner between its flush and the next epoch: nobody inherits.
func TestCrashBetweenFlushAndEpoch(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	token := w.lock(a, id, "x")
	require.NoError(t, a.HandOver(w.ctx(), func(ctx context.Context, q *TakeOverRequest) error {
		require.NoError(t, b.BecomeOwner(ctx)) // it was elected, and knows of no flush
		return errors.New("nobody there")
	}))
	_, handed := w.records(b)
	require.Empty(t, handed)
	w.put(b, "x", "1")
	w.wantLost(b, id, token, "x")
	w.wantRead(b, "x", "1")
}

// Votes under way when the hand-over begins are waited for, votes cast are the
// new owner's business with all their locks.
func TestHandOverWithVotes(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	cast, voting := w.begin(), w.begin()
	vote, err := a.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(cast, w.lock(a, cast, "p"), "p", "1")})
	require.NoError(t, err)
	q := w.request(voting, w.lock(a, voting, "v"), "v", "1")
	w.network.Hold(2, 1)
	done := make(chan error, 1)
	go func() {
		_, err := a.OnePC(w.ctx(), q)
		done <- err
	}()
	tenure := a.serving.Load()
	require.Eventually(t, func() bool { return tenure.pending.Load() == 2 }, time.Minute, time.Millisecond)
	over := make(chan error, 1)
	go func() { over <- a.HandOver(w.ctx(), takeOver(b)) }()
	require.Eventually(t, func() bool { return a.serving.Load() == nil }, time.Minute, time.Millisecond)
	w.network.Release(2, 1)
	require.NoError(t, <-done)
	require.NoError(t, <-over)
	w.wantRead(b, "v", "1")
	w.wantFree(b, "v")
	w.wantNotGranted(b, "p")
	require.NoError(t, b.Resolve(w.ctx(), &ResolveRequest{Txn: cast, Commit: vote.Prepare, Wait: true}))
	w.wantRead(b, "p", "1")
	w.checksumsAgree()
}

// wantNotGranted: a vote holds the key.
func (w *trio) wantNotGranted(r *Replica, k string) {
	w.t.Helper()
	_, err := r.Lock(w.ctx(), &LockRequest{Txn: w.begin(), Mode: LockExclusive, Keys: []storage.Key{storage.Key(k)}, Timeout: 20 * time.Millisecond})
	require.Equal(w.t, LockTimeout, CodeOf(err))
}

// Who waits for a lock when the shard is handed over waits on at the new owner.
func TestWaitersAreSentOn(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id, waiter := w.begin(), w.begin()
	token := w.lock(a, id, "x")
	ask := func(r *Replica) error {
		_, err := r.Lock(w.ctx(), &LockRequest{Txn: waiter, Mode: LockExclusive, Keys: []storage.Key{storage.Key("x")}})
		return err
	}
	first := make(chan error, 1)
	go func() { first <- ask(a) }()
	table := a.serving.Load().table
	require.Eventually(t, func() bool { return len(table.Waits()) == 1 }, time.Minute, time.Millisecond)
	w.handOver(a, b)
	require.Equal(t, NotOwner, CodeOf(<-first))
	go func() { first <- ask(b) }()
	table = b.serving.Load().table
	require.Eventually(t, func() bool { return len(table.Waits()) == 1 }, time.Minute, time.Millisecond)
	w.wantCommit(b, id, token, "x", "1")
	require.NoError(t, <-first)
}

// The oracle is handed over like any shard, and ascends.
func TestHandOverOfTheOracle(t *testing.T) {
	w := newTrio(t)
	r := w.shards[System]
	last := w.now()
	for i := range 5 {
		w.handOver(r[i%3], r[(i+1)%3])
		next := w.now()
		require.Greater(t, next, last)
		last = next
	}
}

// Hand-overs go around while transactions run: none of them is lost, and the
// counter has every increment.
func TestHandOversUnderLoad(t *testing.T) {
	w := newTrio(t)
	r := w.shards[1]
	w.put(r[0], "n", "")
	var owner sync.Map
	owner.Store("r", r[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	added := 0
	current := func() *Replica { o, _ := owner.Load("r"); return o.(*Replica) }
	for g := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				now, err := w.Timestamp(w.ctx())
				if !errors.Is(err, nil) {
					continue
				}
				id := storage.TxnID{Start: now, Gateway: uint64(20 + g), Seq: uint64(n + 1)}
				response, err := again(func() (*LockResponse, error) {
					return current().Lock(w.ctx(), &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key("n")}, Read: true})
				})
				if err != nil {
					t.Error(err)
					return
				}
				q := w.request(id, response.Token, "n", string(response.Rows[0].Value)+"i")
				vote, err := again(func() (*VoteResponse, error) { return current().OnePC(w.ctx(), q) })
				if err != nil || vote.State != storage.VoteCommitted {
					t.Errorf("transaction %d of %d: %v, %v", n, g, vote, err)
					return
				}
				mu.Lock()
				added++
				mu.Unlock()
			}
		})
	}
	for i := range 30 {
		w.handOver(r[i%3], r[(i+1)%3])
		owner.Store("r", r[(i+1)%3])
		mu.Lock()
		before := added
		mu.Unlock()
		require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return added > before+3 || t.Failed() }, time.Minute, time.Millisecond)
	}
	close(stop)
	wg.Wait()
	value, err := w.get(w.ctx(), current(), w.now(), "n")
	require.NoError(t, err)
	require.Len(t, value, added)
	w.checksumsAgree()
}

// again repeats what the owner of another moment has to answer.
func again[T any](ask func() (T, error)) (T, error) {
	for {
		v, err := ask()
		if CodeOf(err) != NotOwner {
			return v, err
		}
		time.Sleep(time.Millisecond)
	}
}

// A large lock table goes in several records and commands, whole.
func TestLargeFlush(t *testing.T) {
	h := &handedTable{header: flushHeader{Flush: 3, TokenEpoch: 2, Gateways: []handedGateway{{7, 1}}}}
	want := make(map[storage.TxnID]int)
	for n := range 60 {
		k := &keptLocks{txn: storage.TxnID{Start: storage.Timestamp(n + 1), Gateway: 7, Seq: 1}}
		for i := range 300 {
			k.locks = append(k.locks, LockRef{Mode: LockExclusive, Lo: bytes.Repeat([]byte{byte(i)}, 1000)})
		}
		h.txns, want[k.txn] = append(h.txns, k), len(k.locks)
	}
	commands := h.commands(5)
	require.Greater(t, len(commands), 2)
	for i, c := range commands {
		require.Less(t, len(c.AppendBinary(nil)), flushBytes+2*flushPart)
		require.Equal(t, i == len(commands)-1, c.Last)
		for _, part := range c.Handed {
			refs, err := decodeLockSet(part.Locks)
			require.NoError(t, err)
			want[part.Txn] -= len(refs)
		}
	}
	for id, left := range want {
		require.Zero(t, left, "%v", id)
	}
}

// A node asks by message; what it cannot reach leaves it the owner.
func TestRequestsForTheWrongHandOver(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	require.Equal(t, BadRequest, CodeOf(a.TakeOver(w.ctx(), &TakeOverRequest{Epoch: 1, Flush: 2})), "it owns the shard")
	require.Equal(t, BadRequest, CodeOf(b.TakeOver(w.ctx(), &TakeOverRequest{Epoch: 1})))
	require.Equal(t, NotOwner, CodeOf(b.TakeOver(w.ctx(), &TakeOverRequest{Epoch: 7, Flush: 2})), "another epoch")
	require.Equal(t, NotOwner, CodeOf(b.HandOver(w.ctx(), takeOver(a))), "it does not own the shard")
	w.wantFree(a, "x")
}

// Whoever leads and serves nothing takes the shard over again; who does not
// lead, or serves, leaves it alone.
func TestReclaim(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.put(a, "x", "1")
	require.NoError(t, w.network.Elect(2, 1))
	epoch, _, _, _ := a.c.Machine.Owner()
	require.NoError(t, a.Reclaim(w.ctx()))
	require.NoError(t, b.Reclaim(w.ctx()))
	now, _, _, _ := a.c.Machine.Owner()
	require.Equal(t, epoch, now)
	a.stepDown(a.serving.Load())
	require.NoError(t, a.Reclaim(w.ctx()))
	w.wantRead(a, "x", "1")
	w.put(a, "x", "2")
}
