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
	"github.com/rowlockdb/rowlock/storage"
)

const (
	testLease = time.Second
	testDrift = 0.1
)

// leasing is a shard with three voters whose owners take leases, by a clock that
// the test moves.
type leasing struct {
	*growing
	clock atomic.Int64
}

func newLeasing(t *testing.T) *leasing {
	w := &leasing{}
	w.clock.Store(int64(time.Hour))
	w.growing = newGrowingWith(t, LeasePolicy{Length: testLease, Drift: testDrift, Clock: func() time.Duration { return time.Duration(w.clock.Load()) }})
	a := w.shards[1][0]
	for id := paxos.ReplicaID(2); id <= 3; id++ {
		w.learn(a, id)
		require.NoError(t, a.AddVoter(w.ctx(), id, fmt.Sprint("n", id)))
	}
	return w
}

func (w *leasing) advance(d time.Duration) { w.clock.Add(int64(d)) }

func (w *leasing) wait() time.Duration { return w.shards[1][0].c.Lease.wait() }

// barriers counts what all replicas have asked their group.
func (w *leasing) barriers() (n int64) {
	for _, m := range w.members {
		n += m.barriers.Load()
	}
	return n
}

// take runs BecomeOwner beside the test and returns when the epoch has begun and the
// wait for others' leases with it; done tells how it ended.
func (w *leasing) take(ctx context.Context, r *Replica) (done chan error) {
	waits := make(chan struct{})
	var once sync.Once
	steps := r.c.Steps
	r.c.Steps = func(ctx context.Context, step string) {
		if steps != nil {
			steps(ctx, step)
		}
		if step == "lease wait" {
			once.Do(func() { close(waits) })
		}
	}
	done = make(chan error, 1)
	go func() { done <- r.BecomeOwner(ctx) }()
	arrives(w.t, waits)
	return done
}

// arrives fails the test if nothing comes.
func arrives[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatal("it does not come")
	}
	return v
}

func (w *leasing) epoch(r *Replica) uint64 {
	epoch, _, _, _ := r.c.Machine.Owner()
	return epoch
}

// What an epoch owes to those before it is a matter of the log alone.
func TestLeasesInTheRegister(t *testing.T) {
	type step struct {
		c    Command
		owed time.Duration
	}
	begin := func(process uint64, lease time.Duration) Command {
		return Command{Kind: KindBeginEpoch, Node: 1, Process: process, Lease: lease}
	}
	clear := func(c Command) Command { c.Clear = true; return c }
	sole := func(c Command) Command { c.Sole = true; return c }
	heir := func(c Command) Command { c.Flush = 7; return c }
	flush := Command{Kind: KindFlushLocks, Flush: 7, Last: true}
	for name, steps := range map[string][]step{
		"nobody before":                {{begin(1, 5), 0}},
		"the lease of the last":        {{begin(1, 5), 0}, {begin(2, 3), 5}, {begin(3, 1), 5}},
		"the last never served":        {{begin(1, 5), 0}, {begin(2, 3), 5}, {begin(3, 0), 5}, {begin(4, 9), 5}, {begin(5, 0), 9}},
		"sole epochs have none":        {{sole(begin(1, 0)), 0}, {begin(2, 0), 0}},
		"one's own epoch":              {{begin(1, 5), 0}, {clear(begin(1, 5)), 0}, {begin(2, 5), 5}},
		"waited once":                  {{begin(1, 5), 0}, {begin(2, 0), 5}, {clear(begin(2, 0)), 0}, {begin(3, 0), 0}},
		"a hand-over":                  {{begin(1, 5), 0}, {flush, 0}, {heir(begin(2, 3)), 0}, {begin(3, 3), 3}},
		"a flush for somebody else":    {{begin(1, 5), 0}, {flush, 0}, {begin(2, 3), 5}, {heir(begin(3, 3)), 5}},
		"a flush that was not written": {{begin(1, 5), 0}, {heir(begin(2, 3)), 5}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t)
			m := NewMachine(e.Space(1), e.Sync, 1)
			_, err := m.Open()
			require.NoError(t, err)
			for i, s := range steps {
				s.c.Epoch = uint64(0)
				if epoch, _, _, _ := m.Owner(); epoch > 0 {
					s.c.Epoch = epoch
				}
				entries := []paxos.Entry{{Index: paxos.Index(i + 1), Command: s.c.AppendBinary(nil)}}
				require.NoError(t, m.Apply(entries))
				epoch, _, _, _ := m.Owner()
				owed, _ := m.Leases(epoch)
				require.Equal(t, s.owed, owed, "step %d", i)
				// A copy of the command changes nothing, and neither does a restart.
				entries = []paxos.Entry{{Index: paxos.Index(i + 1), Command: s.c.AppendBinary(nil)}}
				require.NoError(t, m.Apply(entries))
				again := NewMachine(e.Space(1), e.Sync, 1)
				_, err := again.Open()
				require.NoError(t, err)
				require.Equal(t, m.owner.Load(), again.owner.Load())
			}
		})
	}
}

// Point reads, locking reads and timestamps cost neither a message nor a log entry
// while a lease lasts, beside writes too.
func TestReadsUnderALeaseAskNobody(t *testing.T) {
	w := newLeasing(t)
	a := w.shards[1][0]
	w.put(a, "x", "0")
	w.wantRead(a, "x", "0")
	asked := w.barriers()
	before := w.network.Proposals(2)
	var stop atomic.Bool
	var written atomic.Uint64
	var writer sync.WaitGroup
	writer.Go(func() {
		for !stop.Load() {
			w.tryPut(a, written.Load()+1, "y", "v")
			written.Add(1)
		}
	})
	for i := 0; i < 2000 || written.Load() == 0; i++ {
		w.wantRead(a, "x", "0")
	}
	stop.Store(true)
	writer.Wait()
	writes := written.Load()
	require.Equal(t, asked, w.barriers(), "a read or a lock has asked its group")
	require.LessOrEqual(t, w.network.Proposals(2)-before, writes, "only writes go to the log")
}

// A lease is renewed by those who read, ahead of its end, one barrier for all of
// them; who does not read does nothing.
func TestLeaseIsRenewedOnUse(t *testing.T) {
	w := newLeasing(t)
	a := w.shards[1][0]
	w.wantRead(a, "x", "")
	asked := w.barriers()
	w.advance(testLease / 3)
	w.wantRead(a, "x", "")
	require.Equal(t, asked, w.barriers(), "young")
	w.advance(testLease / 3)
	w.wantRead(a, "x", "")
	lease := &a.serving.Load().lease
	require.Eventually(t, func() bool {
		_, aging := lease.holds()
		return !aging
	}, time.Minute, time.Millisecond)
	require.Equal(t, asked+1, w.barriers(), "renewed beside the read")
	w.advance(testLease / 3)
	w.wantRead(a, "x", "")
	require.Equal(t, asked+1, w.barriers())
	w.advance(2 * testLease)
	require.Equal(t, asked+1, w.barriers(), "nobody reads")
	w.wantRead(a, "x", "")
	require.Equal(t, asked+2, w.barriers(), "it was over: the read waits for a barrier")
}

// The arrival rule: a barrier serves those who came before it began. Those who come
// while it is under way share the next.
func TestBarrierServesWhoCameBefore(t *testing.T) {
	w := newGrowing(t)
	a := w.shards[1][0]
	require.NoError(t, a.PrepareForVoters(w.ctx()))
	now := a.serving.Load()
	begun, release := make(chan struct{}, 9), make(chan struct{})
	w.members[0].onBarrier = func() { begun <- struct{}{}; <-release }
	answers := make(chan error, 9)
	prove := func() {
		p := a.joinProof(w.ctx(), now)
		go func() { <-p.done; answers <- p.err }()
	}
	prove()
	arrives(t, begun)
	for range 5 {
		prove()
	}
	require.Empty(t, begun, "the second waits for the first")
	release <- struct{}{}
	require.NoError(t, arrives(t, answers))
	arrives(t, begun)
	require.Empty(t, answers, "those who came while the first was under way")
	release <- struct{}{}
	for range 5 {
		require.NoError(t, arrives(t, answers))
	}
	require.Empty(t, begun)

	// A request that gives up takes the barrier from nobody.
	ctx, cancel := context.WithCancel(w.ctx())
	left := make(chan error, 1)
	go func() { left <- a.prove(ctx, now) }()
	arrives(t, begun)
	cancel()
	require.ErrorIs(t, arrives(t, left), context.Canceled)
	prove()
	release <- struct{}{}
	arrives(t, begun)
	close(release)
	require.NoError(t, arrives(t, answers))
	a.Close()
	require.Equal(t, NotOwner, CodeOf(a.prove(w.ctx(), now)))
}

// A lease counts from the moment when its barrier was issued, not from the answer.
func TestLeaseCountsFromTheQuestion(t *testing.T) {
	w := newLeasing(t)
	a := w.shards[1][0]
	w.members[0].onBarrier = func() { w.advance(testLease / 4 * 3) }
	require.NoError(t, a.barrier(w.ctx(), a.serving.Load()))
	w.members[0].onBarrier = nil
	require.EqualValues(t, w.clock.Load()+int64(testLease/4), a.serving.Load().lease.until.Load())
}

// H1: the next owner waits the lease out, after its epoch has begun and before it
// draws its first timestamp. What the last owner answers meanwhile stays true.
func TestNextOwnerWaitsForTheLease(t *testing.T) {
	w := newLeasing(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.put(a, "x", "1")
	w.wantRead(a, "x", "1")
	id := w.begin()
	floor := w.now()

	w.network.Hold(2, 1) // A has not applied what deposes it
	var begun, drawn time.Duration
	epoch := make(chan struct{})
	b.c.Steps = func(_ context.Context, step string) {
		switch step {
		case "epoch begun":
			begun = b.c.Lease.Clock()
			close(epoch)
		case "first timestamp drawn":
			drawn = b.c.Lease.Clock()
		}
	}
	done := w.take(w.ctx(), b)
	select {
	case <-epoch:
	case <-time.After(20 * time.Second):
		t.Fatal("the epoch waits for something, and no time has passed")
	}
	for passed := time.Duration(0); passed < testLease-testLease/8; passed += testLease / 8 {
		require.Nil(t, b.serving.Load())
		w.wantRead(a, "x", "1")
		w.advance(testLease / 8)
	}
	at := w.now()
	got, err := w.get(w.ctx(), a, at, "x")
	require.NoError(t, err)
	require.Equal(t, "1", got)
	w.advance(w.wait())
	require.NoError(t, <-done)
	require.GreaterOrEqual(t, drawn-begun, w.wait())

	q := w.request(id, w.lock(b, id, "x"), "x", "2")
	q.Floor = floor
	vote, err := b.OnePC(w.ctx(), q)
	require.NoError(t, err)
	require.Greater(t, vote.Commit, at, "what was read under the lease is final")
	w.network.Release(2, 1)
	_, err = w.get(w.ctx(), a, w.now(), "x")
	require.Equal(t, NotOwner, CodeOf(err))
	w.wantRead(b, "x", "2")
}

// Whoever is stopped while he reads under a lease does not answer after its end.
func TestLeaseIsCheckedAfterReading(t *testing.T) {
	for name, ask := range map[string]func(*leasing, *Replica) error{
		"read": func(w *leasing, r *Replica) error { _, err := w.get(w.ctx(), r, w.now(), "x"); return err },
		"scan": func(w *leasing, r *Replica) error {
			_, err := r.Read(w.ctx(), &ReadRequest{At: w.now(), Span: &Span{}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLeasing(t)
			a, b := w.shards[1][0], w.shards[1][1]
			w.put(a, "x", "1")
			w.wantRead(a, "x", "1")
			var once atomic.Bool
			a.c.Steps = func(_ context.Context, step string) {
				if step != "late proof" || once.Swap(true) {
					return
				}
				w.network.Hold(2, 1)
				done := w.take(w.ctx(), b)
				w.advance(w.wait())
				require.NoError(t, <-done)
				w.put(b, "x", "2")
				time.AfterFunc(10*time.Millisecond, func() { w.network.Release(2, 1) })
			}
			require.Equal(t, NotOwner, CodeOf(ask(w, a)))
			require.True(t, once.Load())
		})
	}
}

// Nobody waits for a lease that cannot be: not after one's own epoch, not after a
// hand-over, and not where no leases are taken. The clock of this test stands still.
func TestNoWaitWithoutALease(t *testing.T) {
	w := newLeasing(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.wantRead(a, "x", "")
	require.NoError(t, a.BecomeOwner(w.ctx()))
	w.wantRead(a, "x", "")
	w.handOver(a, b)
	w.wantRead(b, "x", "")
	require.Error(t, b.HandOver(w.ctx(), func(context.Context, *TakeOverRequest) error { return context.Canceled }))
	w.wantRead(b, "x", "")
	w.handOver(b, a)

	off := newTrio(t)
	require.NoError(t, off.shards[1][1].BecomeOwner(off.ctx()))
	owed, own := off.shards[1][1].c.Machine.Leases(w.epoch(off.shards[1][1]))
	require.Zero(t, owed+own)
}

// A release counts only if the owner before served: who took over and still waits
// cannot shorten the wait of others, and neither can a new life of the owner (m7).
func TestWaitIsNotCutShort(t *testing.T) {
	for name, next := range map[string]func(w *leasing) *Replica{
		"an owner that still waits is overtaken": func(w *leasing) *Replica {
			b := w.shards[1][1]
			ctx, cancel := context.WithCancel(w.ctx())
			done := w.take(ctx, b)
			cancel()
			require.Error(w.t, <-done)
			require.Error(w.t, b.HandOver(w.ctx(), takeOver(w.shards[1][2])), "it has nothing to hand over")
			return w.shards[1][2]
		},
		"an owner that has given up tries again": func(w *leasing) *Replica {
			b := w.shards[1][1]
			ctx, cancel := context.WithCancel(w.ctx())
			done := w.take(ctx, b)
			cancel()
			require.Error(w.t, <-done)
			return b
		},
		"a new life of the owner": func(w *leasing) *Replica {
			c := w.shards[1][0].c
			c.Process++
			r := NewReplica(c)
			w.t.Cleanup(r.Close)
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLeasing(t)
			a := w.shards[1][0]
			w.wantRead(a, "x", "")
			r := next(w)
			w.advance(w.wait() / 2)
			done := w.take(w.ctx(), r)
			w.advance(w.wait() / 2)
			owed, _ := r.c.Machine.Leases(w.epoch(r))
			require.Equal(t, w.wait(), owed)
			select {
			case <-done:
				t.Fatal("it serves before the lease can be over")
			case <-time.After(30 * time.Millisecond): // some polls of the clock
			}
			w.advance(w.wait()/2 + 1)
			require.NoError(t, <-done)
		})
	}
}

// Where leases are given up, the first owner that has waited for the last of them
// says so, and nobody waits again.
func TestLeasesAreForgotten(t *testing.T) {
	w := newLeasing(t)
	for _, r := range w.shards[1] {
		r.c.Lease.Length = 0
	}
	a, b, c := w.shards[1][0], w.shards[1][1], w.shards[1][2]
	w.wantRead(a, "x", "")
	done := w.take(w.ctx(), b)
	w.advance(w.wait() + 2*testLease)
	require.NoError(t, <-done)
	w.wantRead(b, "x", "")
	require.NoError(t, c.BecomeOwner(w.ctx()))
	w.wantRead(c, "x", "")
}

// TestLeasesAndClocks is H1 with clocks that run at different rates, at the very
// bound too: while the last owner cannot apply anything, no read that begins after
// a write of the next owner was acknowledged misses it.
func TestLeasesAndClocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(explore.Seed(t), 1))
	const drift = 0.3
	began := time.Now()
	for round := range 4 {
		rates := [3]float64{1 - drift, 1 + drift, 1} // the worst first
		if round > 0 {
			for i := range rates {
				rates[i] = 1 - drift + 2*drift*rng.Float64()
			}
		}
		w := newGrowingWith(t, LeasePolicy{Length: 150 * time.Millisecond, Drift: drift})
		w.clocks = func(id paxos.ReplicaID) func() time.Duration {
			return func() time.Duration { return time.Duration(float64(time.Since(began)) * rates[id-1]) }
		}
		a := w.shards[1][0]
		a.c.Lease.Clock = w.clocks(1)
		for id := paxos.ReplicaID(2); id <= 3; id++ {
			w.learn(a, id)
			require.NoError(t, a.AddVoter(w.ctx(), id, fmt.Sprint("n", id)))
		}
		w.put(a, "x", "1")
		deposeUnderALease(t, w, a, w.shards[1][1])
	}
}

func deposeUnderALease(t *testing.T, w *growing, a, b *Replica) {
	var acked atomic.Bool
	stop, answers := make(chan struct{}), make(chan int, 1)
	underLease := func() bool { // an answer while nothing can be asked
		require.NoError(t, a.barrier(w.ctx(), a.serving.Load()))
		w.network.Hold(2, 1)
		at, err := w.times.Timestamp(w.ctx())
		require.NoError(t, err)
		short, cancel := context.WithTimeout(w.ctx(), 100*time.Millisecond)
		defer cancel()
		_, err = w.get(short, a, at, "x")
		return err == nil
	}
	for began := time.Now(); !underLease(); { // on a busy machine it may be over by then
		require.Less(t, time.Since(began), time.Minute, "the owner does not answer under its lease")
		w.network.Release(2, 1)
	}
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				answers <- n
				return
			default:
			}
			late := acked.Load()
			at, _ := w.times.Timestamp(context.Background())
			short, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			got, err := w.get(short, a, at, "x")
			cancel()
			if h := hereOf(a, at, "x"); n%2 == 0 && h.response != nil {
				got, err = string(h.response.Rows[0].Value), h.err
			}
			if err == nil {
				n++
				if late && got != "2" {
					t.Errorf("read at %s began after the write was acknowledged and returned %q", storage.Timestamp(at), got)
				}
			}
		}
	}()
	require.NoError(t, w.network.Elect(2, 2))
	require.NoError(t, b.BecomeOwner(w.ctx()))
	w.put(b, "x", "2")
	acked.Store(true)
	time.Sleep(200 * time.Millisecond) // the rest of the lease, if the wait was too short
	close(stop)
	t.Log("answers beside it:", <-answers)
	w.network.Release(2, 1)
	w.wantRead(b, "x", "2")
}

// The setting of a node: 0 is the default, negative none, and a bound that is none
// makes no lease.
func TestLeasePolicy(t *testing.T) {
	for _, test := range []struct {
		length time.Duration
		drift  float64
		want   time.Duration
	}{
		{0, 0, DefaultLease}, {-1, 0, 0}, {time.Minute, 0.5, time.Minute}, {time.Minute, 1, 0}, {time.Minute, -0.1, 0},
	} {
		if p := newLeasePolicy(test.length, test.drift); bootClockRuns() {
			require.Equal(t, test.want, p.Length, "%v", test)
		}
	}
	p := newLeasePolicy(time.Minute, 0.5)
	require.Equal(t, 3*time.Minute, p.wait())
	require.LessOrEqual(t, bootClock(), bootClock())
}
