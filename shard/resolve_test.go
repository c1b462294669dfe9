package shard

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

func TestBatchesOfResolvesAreBounded(t *testing.T) {
	queue := func(n, size int) (q []pendingResolve) {
		for range n {
			q = append(q, pendingResolve{size: size})
		}
		return q
	}
	for _, test := range []struct {
		name  string
		queue []pendingResolve
		want  int
	}{
		{"nothing", nil, 0},
		{"few small ones", queue(3, 100), 3},
		{"many small ones", queue(2*resolveBatch, 100), resolveBatch},
		{"one beyond the bound goes alone", queue(3, 2*resolveBytes), 1},
		{"as many as fit", queue(10, resolveBytes/4), 4},
		{"a large one waits for the next", append(queue(2, 10), queue(1, 2*resolveBytes)...), 2},
		{"one tenure's", append(queue(2, 10), pendingResolve{tenure: &tenure{}}), 2},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, batchLen(test.queue)) })
	}
}

// One Resolve of large votes is committed in parts. Whichever part was durable
// when the power went, applying the entry again gives the same.
func TestLargeResolveMayBeAppliedInParts(t *testing.T) {
	e := newTestEngine(t)
	txn := func(i int) storage.TxnID { return storage.TxnID{Start: storage.Timestamp(10 * i), Gateway: 1} }
	const votes = 4
	var sums []uint64
	for durable := range votes + 1 {
		m, err := openTestMachine(e, uint64(durable+1))
		require.NoError(t, err)
		_, err = m.do(&Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
		require.NoError(t, err)
		whole := Command{Kind: KindResolve, Epoch: 1}
		for i := 1; i <= votes; i++ {
			value := bytes.Repeat([]byte{byte(i)}, resolveFlush+1)
			_, err := m.do(&Command{Kind: KindPrepare, Epoch: 1, Txn: txn(i), At: txn(i).Start + 1, Participants: []ID{1, 2},
				Writes: []Write{{Key: storage.Key{byte(i)}, Value: value}}})
			require.NoError(t, err)
			r := Resolution{Txn: txn(i), Commit: txn(i).Start + 2}
			if i == 2 {
				r.Commit = 0
			}
			whole.Resolutions = append(whole.Resolutions, r)
		}
		if durable > 0 {
			part := whole
			part.Resolutions = part.Resolutions[:durable]
			_, err := m.do(&part)
			require.NoError(t, err)
			m, err = openTestMachine(e, uint64(durable+1))
			require.NoError(t, err)
		}
		result, err := m.do(&whole)
		require.NoError(t, err)
		require.Equal(t, VerdictDone, result.Verdict)
		left := 0
		m.Prepared(func(storage.TxnID, storage.Vote) { left++ })
		require.Zero(t, left)
		sum, err := m.space.Checksum()
		require.NoError(t, err)
		sums = append(sums, sum)
	}
	for _, sum := range sums {
		require.Equal(t, sums[0], sum)
	}
}

// lingering returns a trio whose shard 1 keeps outcomes until somebody wants them.
func lingering(t *testing.T) (*trio, *Replica) {
	w := newTrio(t)
	owner := w.shards[1][0]
	owner.c.Linger = 1000 * time.Hour
	return w, owner
}

// decide has shard 1 vote on a write, and hands the outcome in.
func (w *trio) decide(r *Replica, k, v string) (id storage.TxnID) {
	id = w.begin()
	vote, err := r.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(r, id, k), k, v)})
	require.NoError(w.t, err)
	require.Equal(w.t, storage.VotePrepared, vote.State)
	require.True(w.t, r.handIn(id, vote.Prepare))
	return id
}

func (r *Replica) prepared() (n int) {
	r.c.Machine.Prepared(func(storage.TxnID, storage.Vote) { n++ })
	return n
}

// Nobody waits for an outcome: those of a while share one command.
func TestOutcomesShareACommand(t *testing.T) {
	w, r := lingering(t)
	for i := range 10 {
		w.decide(r, fmt.Sprint(i), "v")
	}
	require.Equal(t, 10, r.prepared())
	before := r.counters.proposals.Load()
	r.drainResolves()
	require.Zero(t, r.prepared())
	require.Equal(t, before+1, r.counters.proposals.Load())
}

func TestOutcomesDoNotWaitForEver(t *testing.T) {
	w := newTrio(t) // the default
	r := w.shards[1][0]
	w.decide(r, "k", "v")
	require.Eventually(t, func() bool { return r.prepared() == 0 }, time.Minute, time.Millisecond)
	r.c.Linger = -1
	w.decide(r, "k", "w")
	require.Eventually(t, func() bool { return r.prepared() == 0 }, time.Minute, time.Millisecond)
}

func TestFullBatchesDoNotLinger(t *testing.T) {
	w, r := lingering(t)
	for i := range lingerBatch {
		w.decide(r, fmt.Sprint(i), "v")
	}
	require.Eventually(t, func() bool { return r.prepared() == 0 }, time.Minute, time.Millisecond)
	w.decide(r, "large", strings.Repeat("v", lingerBytes))
	require.Eventually(t, func() bool { return r.prepared() == 0 }, time.Minute, time.Millisecond)
}

// Whoever needs an outcome has it at once.
func TestOutcomesAreHurried(t *testing.T) {
	for name, want := range map[string]func(w *trio, r *Replica) error{
		"by a reader of the key": func(w *trio, r *Replica) error {
			got, err := w.get(w.ctx(), r, w.now(), "k")
			require.Equal(w.t, "new", got)
			return err
		},
		"by a reader of a span": func(w *trio, r *Replica) error {
			_, err := r.Read(w.ctx(), &ReadRequest{At: w.now(), Span: &Span{Lo: storage.Key("a"), Hi: storage.Key("z")}})
			return err
		},
		"by who wants the lock": func(w *trio, r *Replica) error {
			w.lock(r, w.begin(), "k")
			return nil
		},
		"by who wants a lock on the interval": func(w *trio, r *Replica) error {
			_, err := r.Lock(w.ctx(), &LockRequest{Txn: w.begin(), Mode: LockShared, Span: &Span{Lo: storage.Key("a"), Hi: storage.Key("z")}, Read: true})
			return err
		},
		"by who lists the locks": func(w *trio, r *Replica) error {
			held, err := r.Locks()
			require.Empty(w.t, held)
			return err
		},
		"by who wants to hear of it": func(w *trio, r *Replica) error {
			id := w.begin()
			vote, err := r.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(r, id, "other"), "other", "v")})
			require.NoError(w.t, err)
			return r.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: vote.Prepare, Wait: true})
		},
		"by a clean stop": func(w *trio, r *Replica) error {
			r.Close()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := lingering(t)
			w.decide(r, "k", "new")
			require.Equal(t, 1, r.prepared())
			require.NoError(t, want(w, r))
			require.Eventually(t, func() bool { return r.prepared() == 0 }, time.Minute, time.Millisecond)
		})
	}
}

// What nobody has proposed is not lost with the owner, who need not be asked.
func TestOutcomesOfADeadOwner(t *testing.T) {
	w, a := lingering(t)
	id := w.decide(a, "k", "new")
	a.stepDown(a.serving.Load())
	require.False(t, a.handIn(id, 1))
	b := w.shards[1][1]
	require.NoError(t, b.BecomeOwner(w.ctx()))
	votes, err := b.Undecided(0)
	require.NoError(t, err)
	require.Len(t, votes, 1)
	require.NoError(t, b.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: votes[0].Prepare, Wait: true}))
	w.wantRead(b, "k", "new")
}

// waiter wants keys one after the other, and has waited so long when it returns
// that it no longer counts as somebody new.
func (w *trio) waiter(r *Replica, keys ...string) <-chan error {
	granted := make(chan error, 1)
	q := &LockRequest{Txn: w.begin(), Mode: LockExclusive, Read: true}
	for _, k := range keys {
		q.Keys = append(q.Keys, storage.Key(k))
	}
	before := len(r.serving.Load().table.Waits())
	go func() {
		_, err := r.Lock(w.ctx(), q)
		granted <- err
	}()
	require.Eventually(w.t, func() bool { return len(r.serving.Load().table.Waits()) > before }, time.Minute, time.Millisecond)
	w.forgetHurry(r)
	return granted
}

// forgetHurry lets resolvePrompt pass. Who begins to wait hurries after it is seen
// in the table, so that has to have happened.
func (w *trio) forgetHurry(r *Replica) {
	s := &r.resolver
	require.Eventually(w.t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		hurried := !s.mu.prompt.IsZero()
		s.mu.prompt = time.Time{}
		return hurried
	}, time.Minute, time.Millisecond)
}

func (w *trio) wantSoon(answer <-chan error) {
	w.t.Helper()
	select {
	case err := <-answer:
		require.NoError(w.t, err)
	case <-time.After(time.Minute):
		w.t.Fatal("waits for an outcome that lingers")
	}
}

// Who began to wait long before the outcome was known has it at once, too.
func TestWaitersOfLongHurryOutcomes(t *testing.T) {
	w, r := lingering(t)
	id := w.begin()
	vote, err := r.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(r, id, "k"), "k", "v")})
	require.NoError(t, err)
	granted := w.waiter(r, "k")
	require.True(t, r.handIn(id, vote.Prepare))
	w.wantSoon(granted)
}

func TestReadersOfLongHurryOutcomes(t *testing.T) {
	w, r := lingering(t)
	id := w.begin()
	vote, err := r.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(r, id, "k"), "k", "v")})
	require.NoError(t, err)
	at, read := w.now(), make(chan error, 1)
	go func() {
		_, err := w.get(w.ctx(), r, at, "k")
		read <- err
	}()
	w.forgetHurry(r)
	require.True(t, r.handIn(id, vote.Prepare))
	w.wantSoon(read)
}

// Each wait of a statement hurries, not the first alone.
func TestLaterWaitsHurryOutcomes(t *testing.T) {
	w, r := lingering(t)
	first := w.begin()
	w.lock(r, first, "a")
	granted := w.waiter(r, "a", "k")
	w.decide(r, "k", "v")
	require.NoError(t, r.Release(&ReleaseRequest{Txn: first}))
	w.wantSoon(granted)
}

// In a queue for one key each outcome is on the next one's way.
func TestQueuesOnOneKeyHurryOutcomes(t *testing.T) {
	w, r := lingering(t)
	hold := w.begin()
	w.lock(r, hold, "k")
	const n = 20
	done := make(chan error, n)
	ids := make([]storage.TxnID, n)
	for i := range ids {
		ids[i] = w.begin()
	}
	floor := w.now()
	commit := func(id storage.TxnID) error {
		lock, err := r.Lock(w.ctx(), &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key("k")}, Read: true})
		if err != nil {
			return err
		}
		q := &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: OnePCRequest{Txn: id, Token: lock.Token,
			Floor: max(floor, lock.Rows[0].Commit), Writes: []Write{{Key: storage.Key("k"), Value: []byte("v")}}}}
		vote, err := r.Prepare(w.ctx(), q)
		if CodeOf(err) == NeedFloor {
			if q.Floor, err = w.times.Timestamp(w.ctx()); err == nil {
				vote, err = r.Prepare(w.ctx(), q)
			}
		}
		if err != nil {
			return err
		}
		if !r.handIn(id, vote.Prepare) {
			return errors.New("not handed in")
		}
		return nil
	}
	for _, id := range ids {
		go func() { done <- commit(id) }()
	}
	require.Eventually(t, func() bool { return len(r.serving.Load().table.Waits()) == n }, time.Minute, time.Millisecond)
	w.forgetHurry(r)
	require.NoError(t, r.Release(&ReleaseRequest{Txn: hold}))
	for range ids {
		w.wantSoon(done)
	}
}

// What was queued when the ownership ended and began again is handed in again, and
// does not take along what came later.
func TestOutcomesAcrossTenures(t *testing.T) {
	w, r := lingering(t)
	w.decide(r, "old", "v")
	require.NoError(t, r.BecomeOwner(w.ctx()))
	w.decide(r, "new", "v")
	require.Equal(t, 2, r.prepared())
	r.hurryResolves()
	require.Eventually(t, func() bool { r.hurryResolves(); return r.prepared() == 0 }, time.Minute, time.Millisecond)
	w.wantRead(r, "old", "v")
	w.wantRead(r, "new", "v")
}

// A planned hand-over leaves nothing to find out, and what comes to a replica that
// is closed goes nowhere.
func TestHandOverWithOutcomesThatLinger(t *testing.T) {
	w, a := lingering(t)
	b := w.shards[1][1]
	w.decide(a, "k", "new")
	w.handOver(a, b)
	votes, err := b.Undecided(0)
	require.NoError(t, err)
	require.Empty(t, votes)
	w.wantRead(b, "k", "new")
	b.c.Linger = 1000 * time.Hour
	w.decide(b, "k", "newer")
	tenure := b.serving.Load()
	b.Close()
	b.enqueue(pendingResolve{tenure: tenure})
	b.hurryResolves()
	require.Empty(t, b.resolver.mu.queue)
}
