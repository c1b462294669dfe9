package shard

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// closeNow closes a timestamp of now at the owner and waits until everybody has
// applied that.
func (w *trio) closeNow(owner *Replica) storage.Timestamp {
	at := w.now()
	require.NoError(w.t, owner.CloseUpTo(w.ctx(), at))
	for _, r := range w.shards[1] {
		w.catchUp(r, at)
	}
	return at
}

func (w *trio) catchUp(r *Replica, closed storage.Timestamp) {
	require.Eventually(w.t, func() bool { return r.c.Machine.Closed() >= closed }, time.Minute, time.Millisecond)
}

// closedKey and closedSpan read one key at a replica that asks nobody.
func closedKey(r *Replica, at storage.Timestamp, k string) (string, error) {
	response, err := r.ReadClosed(context.Background(), &ReadRequest{At: at, Keys: []storage.Key{storage.Key(k)}})
	if err != nil {
		return "", err
	}
	return string(response.Rows[0].Value), nil
}

func closedSpan(r *Replica, at storage.Timestamp, k string) (string, error) {
	key := storage.Key(k)
	response, err := r.ReadClosed(context.Background(), &ReadRequest{At: at, Span: &Span{Lo: key, Hi: successor(key)}})
	if err != nil || len(response.Rows) == 0 {
		return "", err
	}
	return string(response.Rows[0].Value), nil
}

var closedReads = map[string]func(*Replica, storage.Timestamp, string) (string, error){"key": closedKey, "span": closedSpan}

func wantClosed(t *testing.T, r *Replica, at storage.Timestamp, k, want string) {
	t.Helper()
	for name, read := range closedReads {
		got, err := read(r, at, k)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
}

func wantNotClosed(t *testing.T, r *Replica, at storage.Timestamp, k string) {
	t.Helper()
	for name, read := range closedReads {
		_, err := read(r, at, k)
		require.ErrorIs(t, err, errNotClosed, name)
	}
}

// Every replica answers what is closed as the owner does, and nothing above it.
func TestClosedTimestamps(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	wantNotClosed(t, b, w.now(), "x")
	w.put(a, "x", "1")
	first := w.closeNow(a)
	w.put(a, "x", "2")
	second := w.closeNow(a)
	for _, r := range w.shards[1] {
		wantClosed(t, r, first, "x", "1")
		wantClosed(t, r, second, "x", "2")
		wantClosed(t, r, second, "y", "")
		wantNotClosed(t, r, w.now(), "x")
	}

	// A replica that lags knows less, and nothing wrong.
	w.network.Hold(2, 2)
	w.put(a, "x", "3")
	third := w.now()
	require.NoError(t, a.CloseUpTo(w.ctx(), third))
	wantNotClosed(t, b, third, "x")
	wantClosed(t, b, second, "x", "2")
	w.network.Release(2, 2)
	w.catchUp(b, third)
	wantClosed(t, b, third, "x", "3")

	// Closing again, or less, is nothing; a restart remembers.
	before := a.counters.proposals.Load()
	require.NoError(t, a.CloseUpTo(w.ctx(), third))
	require.NoError(t, a.CloseUpTo(w.ctx(), first))
	require.Equal(t, before, a.counters.proposals.Load())
	again := NewMachine(b.c.Space, b.c.Space.Engine().Sync, 2)
	_, err := again.Open()
	require.NoError(t, err)
	require.Equal(t, third, again.Closed())

	require.Equal(t, NotOwner, CodeOf(b.CloseUpTo(w.ctx(), w.now())))
	require.Equal(t, BadRequest, CodeOf(a.CloseUpTo(w.ctx(), w.now()+1<<40)), "the oracle has not issued it")
	require.NoError(t, a.RaiseFence(w.ctx(), third+1))
	_, err = closedKey(a, third, "x")
	require.Equal(t, SnapshotTooOld, CodeOf(err))
	w.checksumsAgree()
}

// H12: what is closed stays as it is, whoever commits afterwards: maxTS was raised.
func TestNothingCommitsBelowWhatIsClosed(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	q := w.request(id, w.lock(a, id, "x"), "x", "late") // with a floor from before
	at := w.closeNow(a)
	wantClosed(t, b, at, "x", "")
	vote, err := a.OnePC(w.ctx(), q)
	require.NoError(t, err)
	require.Equal(t, storage.VoteCommitted, vote.State)
	require.Greater(t, vote.Commit, at)
	require.NoError(t, b.c.Group.ReadBarrier(w.ctx()))
	wantClosed(t, b, at, "x", "")
}

// H12: a vote that has its memory lock and no timestamp yet, or one that may be at or
// below what is to be closed, is waited for, also if its outcome is unknown for long.
func TestClosingWaitsForMemoryLocks(t *testing.T) {
	for _, step := range []string{"timestamp", "timestamp chosen"} {
		t.Run(step, func(t *testing.T) {
			w := newTrio(t)
			a, b := w.shards[1][0], w.shards[1][1]
			id := w.begin()
			q := w.request(id, w.lock(a, id, "x"), "x", "1")
			entered, proceed, looks := make(chan struct{}), make(chan struct{}), make(chan struct{})
			var vote, look sync.Once
			a.c.Steps = func(_ context.Context, at string) {
				switch at {
				case step:
					vote.Do(func() { close(entered); <-proceed })
				case "close look":
					look.Do(func() { close(looks) })
				}
			}
			ctx, commit := w.ctx(), make(chan storage.Timestamp, 1)
			go func() {
				vote, err := a.OnePC(ctx, q)
				if err != nil {
					t.Error(err)
					vote = &VoteResponse{}
				}
				commit <- vote.Commit
			}()
			arrives(t, entered)
			at := w.now()
			closed := make(chan error, 1)
			go func() { closed <- a.CloseUpTo(ctx, at) }()
			arrives(t, looks)
			select {
			case <-closed:
				close(proceed)
				t.Fatal("closed beside a vote that is under way")
			case <-time.After(50 * time.Millisecond):
			}
			close(proceed)
			below := arrives(t, commit) <= at
			require.NoError(t, arrives(t, closed))
			require.Equal(t, step == "timestamp chosen", below, "the case is what it should be")
			w.catchUp(b, at)
			want := ""
			if below {
				want = "1"
			}
			wantClosed(t, b, at, "x", want)
		})
	}
}

// The order is maxTS first, then the look: a vote that begins in between is above.
func TestClosingLooksAfterRaisingMaxTS(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id := w.begin()
	q := w.request(id, w.lock(a, id, "x"), "x", "1")
	at := w.now()
	ctx, chosen, proceed := w.ctx(), make(chan struct{}), make(chan struct{})
	voted := make(chan error, 1)
	var vote, look sync.Once
	a.c.Steps = func(_ context.Context, step string) {
		switch step {
		case "timestamp chosen":
			vote.Do(func() { close(chosen); <-proceed })
		case "close max_ts": // nothing is raised yet
			look.Do(func() {
				go func() { _, err := a.OnePC(ctx, q); voted <- err }()
				<-chosen
				time.AfterFunc(50*time.Millisecond, func() { close(proceed) })
			})
		}
	}
	require.NoError(t, a.CloseUpTo(ctx, at))
	w.catchUp(b, at)
	got, err := closedKey(b, at, "x")
	require.NoError(t, err)
	require.NoError(t, arrives(t, voted))
	require.NoError(t, b.c.Group.ReadBarrier(w.ctx()))
	wantClosed(t, b, at, "x", got)
}

// A vote that is PREPARED when a timestamp is closed belongs to nobody's past yet:
// the owner has to say. Reads below it, and of other keys, need not wait.
func TestUndecidedVotesAreTheOwners(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.put(a, "x", "old")
	before := w.now()
	id := w.begin()
	q := w.request(id, w.lock(a, id, "x"), "x", "new")
	vote, err := a.Prepare(w.ctx(), &PrepareRequest{OnePCRequest: *q, Participants: []ID{1, 2}})
	require.NoError(t, err)
	at := w.closeNow(a)
	wantNotClosed(t, b, at, "x")
	wantClosed(t, b, before, "x", "old")
	wantClosed(t, b, at, "y", "")
	require.NoError(t, a.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: vote.Prepare, Wait: true}))
	require.NoError(t, b.c.Group.ReadBarrier(w.ctx()))
	wantClosed(t, b, at, "x", "new")
	wantClosed(t, b, vote.Prepare-1, "x", "old")
}

// The same for a vote whose writes were staged, of which no intent tells.
func TestUndecidedStagedVotesAreTheOwners(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.put(a, "x", "old")
	id := w.begin()
	token := w.lock(a, id, "x")
	hash := w.stage(a, id, token, 0, "x", "new")
	early := w.closeNow(a)
	wantClosed(t, b, early, "x", "old")
	q := w.large(id, token, hash)
	vote, err := a.Prepare(w.ctx(), q)
	require.NoError(t, err)
	at := w.closeNow(a)
	wantNotClosed(t, b, at, "x")
	wantClosed(t, b, early, "x", "old")
	require.NoError(t, a.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: vote.Prepare, Wait: true}))
	require.NoError(t, b.c.Group.ReadBarrier(w.ctx()))
	wantClosed(t, b, at, "x", "new")
}

// An owner that has been deposed closes nothing, and the next one commits above what
// is closed.
func TestClosedAcrossOwners(t *testing.T) {
	w := newTrio(t)
	a, b, c := w.shards[1][0], w.shards[1][1], w.shards[1][2]
	w.put(a, "x", "1")
	at := w.closeNow(a)
	require.NoError(t, b.BecomeOwner(w.ctx()))
	require.Equal(t, NotOwner, CodeOf(a.CloseUpTo(w.ctx(), w.now())))
	w.put(b, "x", "2")
	wantClosed(t, c, at, "x", "1")
	require.Equal(t, at, c.c.Machine.Closed())
	w.handOver(b, c)
	w.put(c, "x", "3")
	later := w.closeNow(c)
	for _, r := range w.shards[1] {
		wantClosed(t, r, at, "x", "1")
		wantClosed(t, r, later, "x", "3")
	}
}

// A replica whose data is removed between two steps of a read answers nothing.
func TestRemovedReplicaAnswersNothing(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.put(a, "x", "1")
	at := w.closeNow(a)
	b.c.Steps = func(_ context.Context, step string) {
		if step == "closed" {
			require.NoError(t, b.c.Space.Destroy())
		}
	}
	wantNotClosed(t, b, at, "x")
}

// A new replica that gets a snapshot knows what was closed when that was made.
func TestClosedInASnapshot(t *testing.T) {
	w := newGrowing(t)
	a := w.shards[1][0]
	w.put(a, "x", "1")
	at := w.now()
	require.NoError(t, a.CloseUpTo(w.ctx(), at))
	b := w.learn(a, 2)
	w.catchUp(b, at)
	wantClosed(t, b, at, "x", "1")
}

// TestFollowerReads is TestReadsAcrossOwners for reads that replicas answer by
// themselves: owners move, replicas lag, answers get lost, timestamps are closed all
// the while, and everything that any replica answered at R is what the final history
// shows at R.
func TestFollowerReads(t *testing.T) {
	seed := explore.Seed(t)
	w := newTrio(t)
	w.network.SetFaults(memory.Faults{UnknownApplied: 0.03, UnknownLost: 0.03, UnknownLate: 0.03, Duplicate: 0.03})
	h := &readsHistory{w: w, began: time.Now()}
	var wg sync.WaitGroup
	var refused [3]int
	for i := range 3 {
		wg.Go(func() { h.write(rand.New(rand.NewPCG(seed, uint64(i))), i) })
		wg.Go(func() { refused[i] = h.follow(rand.New(rand.NewPCG(seed, uint64(20+i))), w.shards[1][i]) })
	}
	wg.Go(func() { h.close() })
	h.moveOwners(rand.New(rand.NewPCG(seed, 99)))
	wg.Wait()
	w.network.SetFaults(memory.Faults{})
	require.NoError(t, w.shards[1][0].BecomeOwner(w.ctx()))
	h.check(t)
	w.checksumsAgree()
	t.Logf("%v reads were left to the owner", refused)
}

// close closes timestamps of now at whoever owns the shard.
func (h *readsHistory) close() {
	for h.goesOn() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		if at, err := h.w.Timestamp(ctx); err == nil {
			for _, r := range h.w.shards[1] {
				_ = r.CloseUpTo(ctx, at)
			}
		}
		_ = pause(ctx, ctx, time.Millisecond)
		cancel()
	}
}

// follow reads at one replica what is closed there.
func (h *readsHistory) follow(rng *rand.Rand, r *Replica) (refused int) {
	for h.goesOn() {
		at := r.c.Machine.Closed()
		if at == 0 {
			_ = pause(r.life, r.life, time.Millisecond)
			continue
		}
		_ = pause(r.life, r.life, 100*time.Microsecond)
		at -= storage.Timestamp(rng.IntN(3))
		k := rng.IntN(readsKeys)
		read := closedReads[[]string{"key", "span"}[rng.IntN(2)]]
		value, err := read(r, at, string(readsKey(k)))
		if err != nil {
			refused++
			continue
		}
		h.mu.Lock()
		h.reads = append(h.reads, observedRead{at, k, value})
		h.mu.Unlock()
	}
	return refused
}
