package shard

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/storage"
)

// Every order in which the messages of one large transaction can be applied,
// repeated ones included: models/m12_stage.py and the executions (a), (b) and (c)
// of H9 on the state machine itself. What is staged ends with the vote, a vote
// has all chunks or none, and nothing is there by halves.
func TestStagedOrders(t *testing.T) {
	m, err := openTestMachine(newTestEngine(t), 1)
	require.NoError(t, err)
	_, err = m.do(&Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
	require.NoError(t, err)
	const events, length = 6, 5
	start := storage.Timestamp(100)
	for n := range pow(events, length) {
		start++
		id := storage.TxnID{Start: start, Gateway: 1, Seq: 1}
		chunk := func(i uint32) []Write {
			return []Write{{Key: storage.Key(fmt.Sprintf("%d/%d", start, i)), Value: []byte("v")}}
		}
		order := ""
		for range length {
			event := n % events
			n /= events
			order += fmt.Sprint(event)
			c := Command{Epoch: 1, Txn: id}
			switch event {
			case 0, 1:
				c.Kind, c.Chunk, c.Writes = KindStage, uint32(event), chunk(uint32(event))
			case 2:
				c.Kind, c.At, c.Participants, c.Chunks = KindPrepare, start+1, []ID{1, 2}, 2
				c.Staged = ChunkHash(id, 0, chunk(0)) + ChunkHash(id, 1, chunk(1))
			case 3:
				c.Kind = KindCloseVote
			case 4:
				c = Command{Kind: KindResolve, Epoch: 1, Resolutions: []Resolution{{Txn: id, Commit: start + 2}}}
			case 5:
				c = Command{Kind: KindResolve, Epoch: 1, Resolutions: []Resolution{{Txn: id}}}
			}
			_, err := m.do(&c)
			require.NoError(t, err)
			if !m.wholeOrNothing(t, id, chunk) {
				t.Fatalf("events %s leave a part", order)
			}
		}
	}
}

func pow(n, times int) int {
	p := 1
	for range times {
		p *= n
	}
	return p
}

// wholeOrNothing checks what is stored of a transaction of two chunks.
func (m *testMachine) wholeOrNothing(t *testing.T, id storage.TxnID, chunk func(uint32) []Write) bool {
	snap := m.space.Snapshot()
	defer snap.Close()
	v, _, err := snap.Vote(id)
	require.NoError(t, err)
	staged := 0
	require.NoError(t, snap.StagedOf(id, func(uint32, []byte) error { staged++; return nil }))
	versions := 0
	for i := range uint32(2) {
		read, err := snap.Get(chunk(i)[0].Key, storage.MaxTimestamp)
		require.NoError(t, err)
		if read.Commit != 0 {
			versions++
		}
	}
	switch v.State {
	case storage.VotePrepared:
		return staged == 2 && versions == 0
	case storage.VoteCommitted:
		return staged == 0 && versions == 2
	case storage.VoteAborted:
		return staged == 0 && versions == 0
	}
	return versions == 0
}

// The resolution of a large transaction is committed in pieces. When the power
// goes between two of them, the entry is applied again and ends it.
func TestLargeResolveGoesOn(t *testing.T) {
	e := newTestEngine(t)
	id := storage.TxnID{Start: 10, Gateway: 1, Seq: 1}
	const chunks = 5
	for pieces := range chunks + 1 {
		space := uint64(pieces + 1)
		m, err := openTestMachine(e, space)
		require.NoError(t, err)
		_, err = m.do(&Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
		require.NoError(t, err)
		vote := Command{Kind: KindPrepare, Epoch: 1, Txn: id, At: 20, Participants: []ID{1}, Chunks: chunks}
		value := make([]byte, resolveFlush/2)
		write := func(i uint32) Write { return Write{Key: storage.Key{byte(i)}, Value: value} }
		for i := range uint32(chunks) {
			_, err := m.do(&Command{Kind: KindStage, Epoch: 1, Txn: id, Chunk: i, Writes: []Write{write(i)}})
			require.NoError(t, err)
			vote.Staged += ChunkHash(id, i, []Write{write(i)})
		}
		r, err := m.do(&vote)
		require.NoError(t, err)
		require.Equal(t, storage.VotePrepared, r.Vote.State)
		// What the first pieces leave, with the applied index of the entry before.
		b := m.space.NewBatch()
		for i := range uint32(pieces) {
			w := write(i)
			putWrite(b, &w, 22, id.Start)
			b.DeleteStaged(id, i)
		}
		require.NoError(t, b.Commit())
		b.Close()
		if m, err = openTestMachine(e, space); err != nil {
			t.Fatal(err)
		}
		_, err = m.do(&Command{Kind: KindResolve, Epoch: 1, Resolutions: []Resolution{{Txn: id, Commit: 22}}})
		require.NoError(t, err)
		snap := m.space.Snapshot()
		for i := range uint32(chunks) {
			read, err := snap.Get(write(i).Key, storage.MaxTimestamp)
			require.NoError(t, err)
			require.Equal(t, storage.Timestamp(22), read.Commit, "key %d after %d pieces", i, pieces)
		}
		v, _, err := snap.Vote(id)
		require.NoError(t, err)
		require.Equal(t, storage.VoteCommitted, v.State)
		snap.Close()
		require.Empty(t, m.Abandonable())
	}
}

// A vote may bring writes of its own beside its chunks. Their intents stay until
// the last batch of the resolution.
func TestLargeResolveGoesOnWithIntents(t *testing.T) {
	e := newTestEngine(t)
	m, err := openTestMachine(e, 1)
	require.NoError(t, err)
	_, err = m.do(&Command{Kind: KindBeginEpoch, Node: 1, Process: 1})
	require.NoError(t, err)
	id := storage.TxnID{Start: 10, Gateway: 1, Seq: 1}
	vote := Command{Kind: KindPrepare, Epoch: 1, Txn: id, At: 20, Participants: []ID{1}, Chunks: 4,
		Writes: []Write{{Key: storage.Key("own"), Value: []byte("1")}}}
	for i := range vote.Chunks {
		chunk := []Write{{Key: storage.Key{byte(i)}, Value: make([]byte, resolveFlush/2)}}
		_, err := m.do(&Command{Kind: KindStage, Epoch: 1, Txn: id, Chunk: i, Writes: chunk})
		require.NoError(t, err)
		vote.Staged += ChunkHash(id, i, chunk)
	}
	_, err = m.do(&vote)
	require.NoError(t, err)
	// Without its last chunk the resolution stops between two batches, as if the
	// power had gone.
	snap := m.space.Snapshot()
	last, _, err := snap.Staged(id, 3)
	require.NoError(t, err)
	snap.Close()
	change := func(f func(*storage.Batch)) {
		b := m.space.NewBatch()
		defer b.Close()
		f(b)
		require.NoError(t, b.Commit())
	}
	change(func(b *storage.Batch) { b.DeleteStaged(id, 3) })
	resolve := &Command{Kind: KindResolve, Epoch: 1, Resolutions: []Resolution{{Txn: id, Commit: 22}}}
	_, err = m.do(resolve)
	require.ErrorContains(t, err, "chunk 3 is missing")
	change(func(b *storage.Batch) { b.PutStaged(id, 3, last) })
	m, err = openTestMachine(e, 1)
	require.NoError(t, err)
	_, err = m.do(resolve)
	require.NoError(t, err)
	snap = m.space.Snapshot()
	defer snap.Close()
	for _, k := range []string{"own", "\x00", "\x03"} {
		read, err := snap.Get(storage.Key(k), storage.MaxTimestamp)
		require.NoError(t, err)
		require.Equal(t, storage.Timestamp(22), read.Commit)
		require.Nil(t, read.Intent)
	}
}

// stage sends one chunk of one write.
func (w *trio) stage(r *Replica, id storage.TxnID, token LockToken, chunk uint32, k, v string) uint64 {
	writes := []Write{{Key: storage.Key(k), Value: []byte(v)}}
	require.NoError(w.t, r.Stage(w.ctx(), &StageRequest{Txn: id, Token: token, Chunk: chunk, Writes: writes}))
	return ChunkHash(id, chunk, writes)
}

func (w *trio) large(id storage.TxnID, token LockToken, hashes ...uint64) *PrepareRequest {
	q := &PrepareRequest{Participants: []ID{1}, OnePCRequest: OnePCRequest{Txn: id, Floor: w.now(), Token: token}}
	for _, h := range hashes {
		q.Chunks++
		q.Staged += h
	}
	return q
}

// H9 (d): who reads what a living transaction has staged, at whatever timestamp,
// sees nothing of it, waits for nobody, and pushes nobody; nor does any sweep,
// however long the transaction takes. It then commits.
func TestStagedWritesAreNobodysBusiness(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	now := time.Now()
	a.c.Clock = func() time.Time { return now }
	w.put(a, "x", "old")
	id := w.begin()
	token := w.lock(a, id, "x")
	hash := w.stage(a, id, token, 0, "x", "new")
	for range 3 {
		short, cancel := context.WithTimeout(w.ctx(), 5*time.Second)
		got, err := w.get(short, a, w.now(), "x")
		cancel()
		require.NoError(t, err)
		require.Equal(t, "old", got)
		scan, err := a.Read(w.ctx(), &ReadRequest{At: w.now(), Span: &Span{}})
		require.NoError(t, err)
		require.Len(t, scan.Rows, 1)
		votes, err := a.Undecided(0)
		require.NoError(t, err)
		require.Empty(t, votes)
		now = now.Add(leaseTTL - time.Second)
		require.NoError(t, a.Renew(&RenewRequest{Gateway: 7, Cut: id.Seq, Open: []storage.TxnID{id}}))
		a.DropLapsed(0)
		w.settled(a)
	}
	vote, err := a.Prepare(w.ctx(), w.large(id, token, hash))
	require.NoError(t, err)
	require.Equal(t, storage.VotePrepared, vote.State)
	require.NoError(t, a.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: vote.Prepare, Wait: true}))
	w.wantRead(a, "x", "new")
	w.checksumsAgree()
}

// settled waits until closeAbandoned is not at work.
func (w *trio) settled(r *Replica) {
	require.Eventually(w.t, func() bool { return !r.serving.Load().closing.Load() }, time.Minute, time.Millisecond)
}

// H9 (a): a gateway that dies between Stage and its vote leaves nothing, whether
// the owner has heard of the gateway or is new; nor does a transaction that its
// living gateway has given up. What has voted stays.
func TestStagedWritesOfTheDeadGo(t *testing.T) {
	for name, die := range map[string]func(w *trio, a *Replica, id storage.TxnID, now *time.Time) *Replica{
		"silence": func(_ *trio, a *Replica, _ storage.TxnID, now *time.Time) *Replica {
			*now = now.Add(2 * leaseTTL)
			a.DropLapsed(0)
			return a
		},
		"over": func(w *trio, a *Replica, id storage.TxnID, _ *time.Time) *Replica {
			require.NoError(w.t, a.Renew(&RenewRequest{Gateway: 7, Cut: id.Seq + 10}))
			a.DropLapsed(0)
			return a
		},
		"new owner": func(w *trio, _ *Replica, _ storage.TxnID, now *time.Time) *Replica {
			b := w.shards[1][1]
			b.c.Clock = func() time.Time { return *now }
			require.NoError(w.t, b.BecomeOwner(w.ctx()))
			b.DropLapsed(0)
			w.settled(b)
			require.Len(w.t, b.c.Machine.Abandonable(), 1, "one lease to make itself known")
			*now = now.Add(2 * leaseTTL)
			b.DropLapsed(0)
			return b
		},
		"fence": func(w *trio, a *Replica, _ storage.TxnID, _ *time.Time) *Replica {
			require.NoError(w.t, a.RaiseFence(w.ctx(), w.now()))
			return a
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTrio(t)
			a := w.shards[1][0]
			now := time.Now()
			a.c.Clock = func() time.Time { return now }
			voter, id := w.begin(), w.begin()
			token := w.lock(a, voter, "v")
			vote, err := a.Prepare(w.ctx(), w.large(voter, token, w.stage(a, voter, token, 0, "v", "1")))
			require.NoError(t, err)
			require.Equal(t, storage.VotePrepared, vote.State)
			token = w.lock(a, id, "x")
			w.stage(a, id, token, 0, "x", "1")
			owner := die(w, a, id, &now)
			require.Eventually(t, func() bool { return len(owner.c.Machine.Abandonable()) == 0 }, time.Minute, time.Millisecond)
			// A copy that comes late stays out.
			result, err := owner.run(w.ctx(), &Command{Kind: KindStage, Txn: id, Writes: []Write{{Key: storage.Key("x")}}})
			require.NoError(t, err)
			require.NotEqual(t, VerdictDone, result.Verdict)
			require.NoError(t, owner.Resolve(w.ctx(), &ResolveRequest{Txn: voter, Commit: vote.Prepare, Wait: true}))
			w.wantRead(owner, "v", "1")
			w.wantRead(owner, "x", "")
			require.NoError(t, owner.c.Group.ReadBarrier(w.ctx()))
			snap := owner.c.Space.Snapshot()
			defer snap.Close()
			require.NoError(t, snap.AllStaged(func(id storage.TxnID, _ uint32, _ []byte) error {
				return fmt.Errorf("transaction %s has left a chunk", id)
			}))
			w.checksumsAgree()
		})
	}
}

// H9 (c): a vote whose chunks are not all there is answered ABORTED from the
// register, and with it everything goes.
func TestVoteWithoutItsChunksAborts(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	id := w.begin()
	token := w.lock(a, id, "x")
	w.lock(a, id, "y")
	first := w.stage(a, id, token, 0, "x", "1")
	lost := ChunkHash(id, 1, []Write{{Key: storage.Key("y"), Value: []byte("2")}})
	vote, err := a.Prepare(w.ctx(), w.large(id, token, first, lost))
	require.NoError(t, err)
	require.Equal(t, storage.VoteAborted, vote.State)
	require.Error(t, a.Stage(w.ctx(), &StageRequest{Txn: id, Token: token, Chunk: 1, Writes: []Write{{Key: storage.Key("y")}}}))
	require.Empty(t, a.c.Machine.Abandonable())
	w.lock(a, w.begin(), "x")

	// Nor may one that has staged commit in one phase, or with a key unlocked.
	id = w.begin()
	token = w.lock(a, id, "z")
	w.stage(a, id, token, 0, "z", "1")
	vote, err = a.OnePC(w.ctx(), w.request(id, token, "z", "2"))
	require.NoError(t, err)
	require.Equal(t, storage.VoteAborted, vote.State)
	id = w.begin()
	token = w.lock(a, id, "z")
	vote, err = a.Prepare(w.ctx(), w.large(id, token, w.stage(a, id, token, 0, "not locked", "1")))
	require.NoError(t, err)
	require.Equal(t, storage.VoteAborted, vote.State)
	w.wantRead(a, "z", "")
	w.checksumsAgree()
}

// H9: while the vote is on its way, its staged keys are locked in memory: a
// reader that could see it waits, and one that came before pushed its timestamp
// up. After it, and in a new owner, readers wait for the resolution.
func TestReadersWaitForStagedKeys(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	w.put(a, "x", "old")
	id := w.begin()
	token := w.lock(a, id, "x")
	hash := w.stage(a, id, token, 0, "x", "new")
	q := w.large(id, token, hash)
	before := w.now()
	w.wantRead(a, "x", "old") // raises max_ts above the floor
	wantWait := func(r *Replica, what string) {
		for _, q := range []*ReadRequest{{At: w.now(), Keys: []storage.Key{storage.Key("x")}}, {At: w.now(), Span: &Span{}}} {
			short, cancel := context.WithTimeout(w.ctx(), 20*time.Millisecond)
			_, err := r.Read(short, q)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, what)
		}
	}
	w.network.Hold(groupOne, 1)
	voted := make(chan *VoteResponse, 1)
	go func() {
		vote, err := a.Prepare(w.ctx(), q)
		if err != nil {
			t.Error(err)
		}
		voted <- vote
	}()
	require.Eventually(t, func() bool {
		tn := a.serving.Load()
		tn.mu.Lock()
		defer tn.mu.Unlock()
		p := tn.mu.proposals[id]
		return p != nil && p.ts != 0
	}, time.Minute, time.Millisecond)
	tn := a.serving.Load()
	tn.mu.Lock()
	blocked := tn.blocker(&ReadRequest{At: storage.MaxTimestamp, Keys: []storage.Key{storage.Key("x")}})
	scan := tn.blocker(&ReadRequest{At: storage.MaxTimestamp, Span: &Span{}})
	free := tn.blocker(&ReadRequest{At: before, Keys: []storage.Key{storage.Key("x")}})
	tn.mu.Unlock()
	require.NotNil(t, blocked, "a key")
	require.NotNil(t, scan, "a span")
	require.Nil(t, free, "below the timestamp of the vote")
	w.network.Release(groupOne, 1)
	vote := <-voted
	require.Equal(t, storage.VotePrepared, vote.State)
	require.Greater(t, vote.Prepare, before)
	got, err := w.get(w.ctx(), a, before, "x")
	require.NoError(t, err)
	require.Equal(t, "old", got)
	wantWait(a, "voted")

	b := w.shards[1][1]
	require.NoError(t, b.BecomeOwner(w.ctx()))
	wantWait(b, "at a new owner")
	short, cancel := context.WithTimeout(w.ctx(), 20*time.Millisecond)
	_, err = b.Lock(short, &LockRequest{Txn: w.begin(), Mode: LockExclusive, Keys: []storage.Key{storage.Key("x")}})
	cancel()
	require.Error(t, err, "its lock is rebuilt")
	require.NoError(t, b.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: vote.Prepare, Wait: true}))
	w.wantRead(b, "x", "new")
	w.checksumsAgree()
}

const groupOne = paxos.GroupID(2) // of shard 1

// A log that repeats, delays and loses proposals, and gateways that send a chunk
// again while its fate is open: each transaction commits whole.
func TestStageOnAFaultyLog(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	w.network.SetFaults(memory.Faults{UnknownApplied: 0.1, UnknownLost: 0.1, UnknownLate: 0.1, Duplicate: 0.2})
	for n := range 15 {
		id := w.begin()
		var token LockToken
		var hashes []uint64
		const chunks = 4
		for i := range chunks {
			token = w.lock(a, id, fmt.Sprint("k", i))
		}
		for i := range chunks {
			chunk := (i*3 + n) % chunks // in some order
			hashes = append(hashes, w.stage(a, id, token, uint32(chunk), fmt.Sprint("k", chunk), fmt.Sprint(n)))
		}
		q := w.large(id, token, hashes...)
		vote, err := a.Prepare(w.ctx(), q)
		for CodeOf(err) == Unknown {
			vote, err = a.Prepare(w.ctx(), q)
		}
		require.NoError(t, err)
		require.Equal(t, storage.VotePrepared, vote.State)
		require.NoError(t, a.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: vote.Prepare, Wait: true}))
		for i := range chunks {
			w.wantRead(a, fmt.Sprint("k", i), fmt.Sprint(n))
		}
	}
	w.network.SetFaults(memory.Faults{})
	require.Empty(t, a.c.Machine.Abandonable())
	w.checksumsAgree()
}

// H10: an intent is judged with the register of its own snapshot. The
// transaction may be resolved, and its register collected, before the scan gets
// there: a newer register says nothing, and then a committed row would be missed.
func TestIntentIsJudgedInItsSnapshot(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	id := w.begin()
	vote, err := a.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1}, OnePCRequest: *w.request(id, w.lock(a, id, "x"), "x", "new")})
	require.NoError(t, err)
	at := w.now()
	snap := a.c.Space.Snapshot()
	defer snap.Close()
	require.NoError(t, a.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: vote.Prepare, Wait: true}))
	require.NoError(t, a.RaiseFence(w.ctx(), id.Start+1))
	require.NoError(t, a.Collect(w.ctx(), id.Start+1))
	later := a.c.Space.Snapshot()
	_, kept, err := later.Vote(id)
	later.Close()
	require.NoError(t, err)
	require.False(t, kept)

	s := scan{span: Span{}, at: at, byteLimit: DefaultByteLimit}
	key, met, err := s.run(a, snap)
	require.NoError(t, err)
	require.Equal(t, "x", string(key), "it waits for the outcome")
	require.Equal(t, id, met)
	require.Empty(t, s.rows)
	require.NoError(t, a.runScan(w.ctx(), a.serving.Load(), &s))
	require.Len(t, s.rows, 1)
	require.Equal(t, "new", string(s.rows[0].Value))
}
