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

// trio is the system shard and shard 1, each with three voters on three nodes:
// the interfaces of many nodes, in memory.
type trio struct {
	t       *testing.T
	network *memory.Network
	shards  map[ID][3]*Replica
	seq     uint64
	ahead   atomic.Int64 // of clocks that look at it
	times   TimestampSource
}

func newTrio(t *testing.T) *trio {
	w := &trio{t: t, network: memory.NewNetwork(1), shards: make(map[ID][3]*Replica)}
	w.times = w
	members := map[paxos.ReplicaID]string{1: "n1", 2: "n2", 3: "n3"}
	for n := range 3 {
		e := newTestEngine(t)
		host := w.network.Host(members[paxos.ReplicaID(n+1)])
		t.Cleanup(func() { _ = host.Close() })
		for _, s := range []ID{System, 1} {
			m := NewMachine(e.Space(uint64(s)), e.Sync, uint64(n+1))
			g, err := host.Start(paxos.GroupSpec{Group: paxos.GroupID(s + 1), Replica: paxos.ReplicaID(n + 1), Members: members}, m)
			require.NoError(t, err)
			r := NewReplica(ReplicaConfig{Shard: s, Node: uint64(n + 1), Process: uint64(100 + n), Space: e.Space(uint64(s)),
				Machine: m, Group: g, Times: w})
			t.Cleanup(r.Close)
			three := w.shards[s]
			three[n] = r
			w.shards[s] = three
		}
	}
	require.NoError(t, w.shards[System][0].BecomeOwner(w.ctx()))
	require.NoError(t, w.shards[1][0].BecomeOwner(w.ctx()))
	return w
}

func (w *trio) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

// Timestamp and Issued make the trio a TimestampSource: whoever owns the
// system shard answers.
func (w *trio) Timestamp(ctx context.Context) (storage.Timestamp, error) {
	var err error
	for _, r := range w.shards[System] {
		var t storage.Timestamp
		if t, err = r.Timestamps(ctx, 1); err == nil {
			return t, nil
		}
	}
	return 0, err
}

func (w *trio) Issued() storage.Timestamp { return 0 }

func (w *trio) now() storage.Timestamp {
	ts, err := w.times.Timestamp(w.ctx())
	require.NoError(w.t, err)
	return ts
}

func (w *trio) begin() storage.TxnID {
	w.seq++
	return storage.TxnID{Start: w.now(), Gateway: 7, Seq: w.seq}
}

func (w *trio) lock(r *Replica, id storage.TxnID, k string) LockToken {
	response, err := r.Lock(w.ctx(), &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key(k)}, Read: true})
	require.NoError(w.t, err)
	return response.Token
}

func (w *trio) request(id storage.TxnID, token LockToken, k, v string) *OnePCRequest {
	return &OnePCRequest{Txn: id, Floor: w.now(), Token: token, Writes: []Write{{Key: storage.Key(k), Value: []byte(v)}}}
}

func (w *trio) put(r *Replica, k, v string) {
	id := w.begin()
	vote, err := r.OnePC(w.ctx(), w.request(id, w.lock(r, id, k), k, v))
	require.NoError(w.t, err)
	require.Equal(w.t, storage.VoteCommitted, vote.State)
}

func (w *trio) get(ctx context.Context, r *Replica, at storage.Timestamp, k string) (string, error) {
	response, err := r.Read(ctx, &ReadRequest{At: at, Keys: []storage.Key{storage.Key(k)}})
	if err != nil {
		return "", err
	}
	return string(response.Rows[0].Value), nil
}

func (w *trio) wantRead(r *Replica, k, v string) {
	w.t.Helper()
	got, err := w.get(w.ctx(), r, w.now(), k)
	require.NoError(w.t, err)
	require.Equal(w.t, v, got)
}

func (w *trio) checksumsAgree() {
	for s, three := range w.shards {
		var sums [3]uint64
		for i, r := range three {
			require.NoError(w.t, r.c.Group.ReadBarrier(w.ctx()))
			var err error
			sums[i], err = r.c.Space.Checksum()
			require.NoError(w.t, err)
		}
		require.Equal(w.t, [3]uint64{sums[0], sums[0], sums[0]}, sums, "shard %d", s)
	}
}

func TestTakeOverKeepsCommitsAndFencesTheOldOwner(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	w.put(a, "x", "1")
	late := w.begin()
	lateRequest := w.request(late, w.lock(a, late, "y"), "y", "late")
	require.NoError(t, b.BecomeOwner(w.ctx()))
	w.wantRead(b, "x", "1")
	w.put(b, "x", "2")

	// The old owner does not know yet: its writes are refused by the state
	// machine, its reads and locks by the barrier.
	require.NotNil(t, a.serving.Load())
	_, err := a.OnePC(w.ctx(), lateRequest)
	require.Equal(t, NotOwner, CodeOf(err))
	_, err = w.get(w.ctx(), a, w.now(), "x")
	require.Equal(t, NotOwner, CodeOf(err))
	w.wantRead(b, "y", "")
	w.checksumsAgree()
}

func TestDeposedOwnerDoesNotAnswerReadsAndGrants(t *testing.T) {
	for name, ask := range map[string]func(*trio, *Replica) error{
		"read": func(w *trio, r *Replica) error { _, err := w.get(w.ctx(), r, w.now(), "x"); return err },
		"lock": func(w *trio, r *Replica) error {
			_, err := r.Lock(w.ctx(), &LockRequest{Txn: w.begin(), Mode: LockExclusive, Keys: []storage.Key{storage.Key("x")}, Read: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTrio(t)
			a, b := w.shards[1][0], w.shards[1][1]
			w.put(a, "x", "1")
			// A lags: it has not applied what deposes it.
			w.network.Hold(2, 1)
			require.NoError(t, w.network.Elect(2, 2))
			require.NoError(t, b.BecomeOwner(w.ctx()))
			w.put(b, "x", "2")
			answered := make(chan error, 1)
			go func() { answered <- ask(w, a) }()
			w.wantRead(b, "x", "2")
			w.network.Release(2, 1)
			require.Equal(t, NotOwner, CodeOf(<-answered))
		})
	}
}

// R3: what somebody read at the old owner is final at the new one, however old
// the floor that a transaction brings.
func TestNewOwnerCommitsAboveOldReads(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	id, floor := w.begin(), w.now()
	at := w.now()
	got, err := w.get(w.ctx(), a, at, "x")
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, b.BecomeOwner(w.ctx()))
	q := w.request(id, w.lock(b, id, "x"), "x", "1")
	q.Floor = floor
	vote, err := b.OnePC(w.ctx(), q)
	require.NoError(t, err)
	require.Greater(t, vote.Commit, at)
}

// Locks of memory die with their epoch, and the token says so (H2); a vote's
// locks live on with it.
func TestLocksAcrossOwners(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	lost, voted := w.begin(), w.begin()
	lostToken, votedToken := w.lock(a, lost, "lost"), w.lock(a, voted, "k")
	_, err := a.Lock(w.ctx(), &LockRequest{Txn: voted, Token: votedToken, Mode: LockShared, Keys: []storage.Key{storage.Key("only read")}})
	require.NoError(t, err)
	prepare := &PrepareRequest{OnePCRequest: *w.request(voted, votedToken, "k", "v"), Participants: []ID{1, 2}}
	vote, err := a.Prepare(w.ctx(), prepare)
	require.NoError(t, err)
	require.Equal(t, storage.VotePrepared, vote.State)

	require.NoError(t, b.BecomeOwner(w.ctx()))
	for _, k := range []string{"k", "only read"} {
		short, cancel := context.WithTimeout(w.ctx(), 20*time.Millisecond)
		_, err = b.Lock(short, &LockRequest{Txn: w.begin(), Mode: LockExclusive, Keys: []storage.Key{storage.Key(k)}})
		cancel()
		require.Equal(t, LockTimeout, CodeOf(err), k)
	}
	_, err = b.Lock(w.ctx(), &LockRequest{Txn: lost, Token: lostToken, Mode: LockExclusive, Keys: []storage.Key{storage.Key("lost")}})
	require.Equal(t, LockLost, CodeOf(err))
	aborted, err := b.OnePC(w.ctx(), w.request(lost, lostToken, "lost", "v"))
	require.NoError(t, err)
	require.Equal(t, storage.VoteAborted, aborted.State)

	// A second Prepare finds the stored vote; the outcome frees the locks.
	again, err := b.Prepare(w.ctx(), prepare)
	require.NoError(t, err)
	require.Equal(t, vote, again)
	require.NoError(t, b.Resolve(w.ctx(), &ResolveRequest{Txn: voted, Commit: vote.Prepare, Wait: true}))
	w.wantRead(b, "k", "v")
	w.put(b, "k", "w")
	w.put(b, "only read", "z")
	w.checksumsAgree()
}

// An interval holds the key that is written in it: then one grant of a key and one write are
// not the same key, and the vote lists its locks.
func TestLocksOfIntervalsAcrossOwners(t *testing.T) {
	w := newTrio(t)
	a, b := w.shards[1][0], w.shards[1][1]
	voted := w.begin()
	token := w.lock(a, voted, "only read")
	interval := &Span{Lo: storage.Key("j"), Hi: storage.Key("m")}
	_, err := a.Lock(w.ctx(), &LockRequest{Txn: voted, Token: token, Mode: LockExclusive, Span: interval})
	require.NoError(t, err)
	_, err = a.Prepare(w.ctx(), &PrepareRequest{OnePCRequest: *w.request(voted, token, "k", "v"), Participants: []ID{1, 2}})
	require.NoError(t, err)

	require.NoError(t, b.BecomeOwner(w.ctx()))
	for _, k := range []string{"j", "k", "l", "only read"} {
		_, err = b.Lock(w.ctx(), &LockRequest{Txn: w.begin(), Mode: LockExclusive, Wait: WaitNone, Keys: []storage.Key{storage.Key(k)}})
		require.Equal(t, WouldBlock, CodeOf(err), k)
	}
}

// Whatever becomes of a proposal, the answer is the register's, and the write
// is there once.
func TestOutcomesOfProposals(t *testing.T) {
	for _, fault := range []memory.Fault{memory.FaultNotSent, memory.FaultUnknownApplied, memory.FaultUnknownLost, memory.FaultUnknownLate, memory.FaultDuplicate} {
		t.Run(fault.String(), func(t *testing.T) {
			w := newTrio(t)
			a := w.shards[1][0]
			id := w.begin()
			q := w.request(id, w.lock(a, id, "x"), "x", "1")
			w.network.Force(2, fault)
			vote, err := a.OnePC(w.ctx(), q)
			require.NoError(t, err)
			require.Equal(t, storage.VoteCommitted, vote.State)
			w.network.Flush(2)
			w.wantRead(a, "x", "1")
			again, err := a.OnePC(w.ctx(), q)
			require.NoError(t, err)
			require.Equal(t, vote, again, "a retry gets the first answer")
			w.checksumsAgree()
		})
	}
}

// What cannot be sent for long is taken back: nothing happened, and the
// transaction has its locks still.
func TestProposalThatIsNeverSent(t *testing.T) {
	t.Parallel()
	w := newTrio(t)
	a := w.shards[1][0]
	id := w.begin()
	q := w.request(id, w.lock(a, id, "x"), "x", "1")
	w.network.SetFaults(memory.Faults{NotSent: 1})
	_, err := a.OnePC(w.ctx(), q)
	require.Equal(t, Unavailable, CodeOf(err))
	w.network.SetFaults(memory.Faults{})
	w.wantRead(a, "x", "")
	vote, err := a.OnePC(w.ctx(), q)
	require.NoError(t, err)
	require.Equal(t, storage.VoteCommitted, vote.State)
}

// While an outcome is unknown, readers at or above its timestamp wait (R2, H7)
// and nothing releases its locks (H4).
func TestUnknownOutcomeKeepsItsLocks(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	id := w.begin()
	q := w.request(id, w.lock(a, id, "x"), "x", "1")
	w.network.Hold(2, 1) // committed by the others, not applied here
	done := make(chan error, 1)
	go func() {
		_, err := a.OnePC(w.ctx(), q)
		done <- err
	}()
	tenure := a.serving.Load()
	require.Eventually(t, func() bool { return tenure.pending.Load() == 1 }, time.Minute, time.Millisecond)
	require.NoError(t, a.Release(&ReleaseRequest{Txn: id}))
	require.NoError(t, a.Renew(&RenewRequest{Gateway: 7, Cut: 1000}))
	require.True(t, tenure.table.Holds(ownerOf(id), LockExclusive, spanOf("x")))

	require.NotNil(t, tenure.blockerAt("x", w.now()), "a new reader waits")
	w.network.Release(2, 1)
	require.NoError(t, <-done)
	w.wantRead(a, "x", "1")
}

// The oracle ascends over owners, whatever the clocks say (R3).
func TestOracleAscendsOverOwners(t *testing.T) {
	w := newTrio(t)
	last := w.now()
	for i := range 6 {
		owner := w.shards[System][i%3]
		// Clocks of different nodes disagree by hours.
		owner.oracle.clock = func() time.Time { return time.Now().Add(time.Duration(i%3-1) * time.Hour) }
		require.NoError(t, owner.BecomeOwner(w.ctx()))
		for range 100 {
			next := w.now()
			require.Greater(t, next, last)
			last = next
		}
	}
}

func TestOracleSurvivesItsClock(t *testing.T) {
	w := newTrio(t)
	owner := w.shards[System][0]
	now := time.Now()
	owner.oracle.clock = func() time.Time { return now }
	last := w.now()
	for _, jump := range []time.Duration{0, -time.Hour, 0, 24 * time.Hour, -48 * time.Hour, 3 * time.Second, time.Millisecond} {
		now = now.Add(jump)
		for range 50 {
			next := w.now()
			require.Greater(t, next, last, "after a jump of %s", jump)
			require.Less(t, next, owner.c.Machine.Window(), "nothing at or above the persisted top is issued")
			last = next
		}
	}
}

// A reader judges an intent by the vote of its own snapshot, waits while it is
// PREPARED, and reads the outcome (H10).
func TestReaderWaitsForTheOutcome(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprint("commit ", commit), func(t *testing.T) {
			w := newTrio(t)
			a := w.shards[1][0]
			w.put(a, "x", "old")
			id := w.begin()
			before := w.now()
			vote, err := a.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(a, id, "x"), "x", "new")})
			require.NoError(t, err)
			got, err := w.get(w.ctx(), a, before, "x") // below the intent: not its business
			require.NoError(t, err)
			require.Equal(t, "old", got)
			short, cancel := context.WithTimeout(w.ctx(), 10*time.Millisecond)
			_, err = w.get(short, a, w.now(), "x")
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, "neither the old nor the new value can be told yet")
			type answer struct {
				value string
				err   error
			}
			point, scan := make(chan answer, 1), make(chan answer, 1)
			at := w.now()
			go func() {
				v, err := w.get(w.ctx(), a, at, "x")
				point <- answer{v, err}
			}()
			go func() {
				r, err := a.Read(w.ctx(), &ReadRequest{At: at, Span: &Span{}})
				if err == nil {
					scan <- answer{string(r.Rows[0].Value), nil}
				} else {
					scan <- answer{"", err}
				}
			}()
			want, outcome := "old", storage.Timestamp(0)
			if commit {
				want, outcome = "new", vote.Prepare
			}
			require.NoError(t, a.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: outcome}))
			require.Equal(t, answer{want, nil}, <-point)
			require.Equal(t, answer{want, nil}, <-scan)
		})
	}
}

// A vote that nobody resolves is reported to whoever meets it, with what is
// needed to finish it.
func TestUndecidedVoteIsReported(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	now := time.Now()
	a.c.Clock = func() time.Time { return now }
	id := w.begin()
	_, err := a.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(a, id, "x"), "x", "v")})
	require.NoError(t, err)
	now = now.Add(3 * time.Second)
	_, err = w.get(w.ctx(), a, w.now(), "x")
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, Undecided, e.Code)
	require.Equal(t, id, e.Other)
	require.Equal(t, []ID{1, 2}, e.Participants)
	votes, err := a.Undecided(2 * time.Second)
	require.NoError(t, err)
	require.Len(t, votes, 1)
	require.Equal(t, 3*time.Second, votes[0].Age)
	votes, err = a.Undecided(4 * time.Second)
	require.NoError(t, err)
	require.Empty(t, votes)
	vote, err := a.CloseVote(w.ctx(), &CloseVoteRequest{Txn: id})
	require.NoError(t, err)
	require.Equal(t, storage.VotePrepared, vote.State)
}

// A gateway that falls silent loses its locks; its transactions notice, even
// if they lock the same rows again (H2).
func TestLapsedGateway(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	now := time.Now()
	a.c.Clock = func() time.Time { return now }
	sleeper, voter := w.begin(), w.begin()
	token := w.lock(a, sleeper, "x")
	vote, err := a.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(voter, w.lock(a, voter, "v"), "v", "1")})
	require.NoError(t, err)
	now = now.Add(leaseTTL / 2)
	require.NoError(t, a.Renew(&RenewRequest{Gateway: 7, Oldest: 5}))
	now = now.Add(leaseTTL / 2)
	a.DropLapsed(0)
	require.True(t, a.serving.Load().table.Holds(ownerOf(sleeper), LockExclusive, spanOf("x")), "renewed")
	oldest, err := a.Oldest()
	require.NoError(t, err)
	require.Equal(t, storage.Timestamp(5), oldest.Oldest)

	now = now.Add(2 * leaseTTL)
	a.DropLapsed(0)
	require.True(t, a.serving.Load().table.Holds(ownerOf(voter), LockExclusive, spanOf("v")), "a vote's locks stay (H4)")
	other := w.begin()
	other.Gateway = 8
	_, err = a.Lock(w.ctx(), &LockRequest{Txn: other, Mode: LockExclusive, Keys: []storage.Key{storage.Key("x")}})
	require.NoError(t, err)
	require.NoError(t, a.Release(&ReleaseRequest{Txn: other}))
	_, err = a.Lock(w.ctx(), &LockRequest{Txn: sleeper, Token: token, Mode: LockExclusive, Keys: []storage.Key{storage.Key("x")}})
	require.Equal(t, LockLost, CodeOf(err))
	// Even if it has the row locked again, by a request that named no token.
	require.NotEqual(t, token, w.lock(a, sleeper, "x"))
	aborted, err := a.OnePC(w.ctx(), w.request(sleeper, token, "x", "1"))
	require.NoError(t, err)
	require.Equal(t, storage.VoteAborted, aborted.State)
	require.NoError(t, a.Resolve(w.ctx(), &ResolveRequest{Txn: voter, Commit: vote.Prepare, Wait: true}))
	w.wantRead(a, "v", "1")
}

// The renewal's list frees what a late request has locked for a transaction
// that is over, and refuses further ones (H16).
func TestRenewalEndsTransactions(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	ended, open := w.begin(), w.begin()
	w.lock(a, ended, "x")
	w.lock(a, open, "y")
	require.NoError(t, a.Renew(&RenewRequest{Gateway: 7, Cut: open.Seq, Open: []storage.TxnID{open}}))
	_, err := a.Lock(w.ctx(), &LockRequest{Txn: ended, Mode: LockExclusive, Keys: []storage.Key{storage.Key("z")}})
	require.Equal(t, LockLost, CodeOf(err))
	w.lock(a, w.begin(), "x")
	w.lock(a, open, "z")
}

func spanOf(k string) (s struct{ Lo, Hi []byte }) { s.Lo = []byte(k); return }

func (t *tenure) blockerAt(k string, at storage.Timestamp) *proposal {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.onKey(storage.Key(k), at)
}
