package shard

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// here is readHere of one key of one replica. There is no answer if it is left.
func here(w *trio, r *Replica, at storage.Timestamp, k string) (string, bool) {
	h := hereOf(r, at, k)
	require.NoError(w.t, h.err)
	if h.response == nil {
		return "", false
	}
	return string(h.response.Rows[0].Value), true
}

func hereOf(r *Replica, at storage.Timestamp, k string) hereRead {
	reads := []hereRead{{replica: r, q: &ReadRequest{At: at, Keys: []storage.Key{storage.Key(k)}}}}
	readHere(context.Background(), reads, DefaultByteLimit, time.Minute)
	return reads[0]
}

func wantHere(w *trio, r *Replica, at storage.Timestamp, k, want string) {
	w.t.Helper()
	got, ok := here(w, r, at, k)
	require.True(w.t, ok, "left")
	require.Equal(w.t, want, got)
}

func wantLeft(w *trio, r *Replica, at storage.Timestamp, k string) {
	w.t.Helper()
	got, ok := here(w, r, at, k)
	require.False(w.t, ok, "read %q", got)
}

// TestReadHereReadsAsRead: every kind of request brings what it brings alone, also
// behind others.
func TestReadHereReadsAsRead(t *testing.T) {
	w := newGrowing(t)
	a := w.shards[1][0]
	for i := range 30 {
		w.put(a, fmt.Sprintf("k%02d", i), fmt.Sprint("value ", i))
	}
	at := w.now()
	w.put(a, "k05", "later")
	span := func(lo, hi string) *Span { return &Span{Lo: storage.Key(lo), Hi: storage.Key(hi)} }
	requests := []*ReadRequest{
		{At: at, Span: span("k00", "k10")},
		{At: at, Span: &Span{}},
		{At: at, Span: span("k00", "k10"), Reverse: true},
		{At: at, Span: span("k05", "k30"), Limit: 3},
		{At: at, Span: span("k05", "k30"), Limit: 3, Reverse: true},
		{At: at, Span: span("k05", "k30"), ByteLimit: 1},
		{At: at, Span: span("x", "y")},
		{At: at, Span: span("k10", "k10")},
		{At: at, Keys: []storage.Key{storage.Key("k07"), storage.Key("none"), storage.Key("k05")}},
		{At: 1, Span: span("k05", "k30")},
		{At: at, Span: span("k00", "k30")},
	}
	var reads []hereRead
	for _, q := range requests {
		reads = append(reads, hereRead{replica: a, q: q})
	}
	readHere(w.ctx(), reads, DefaultByteLimit, time.Minute)
	for i, h := range reads {
		want, err := a.Read(w.ctx(), requests[i])
		require.NoError(t, err)
		require.NoError(t, h.err)
		require.NotNil(t, h.response, "request %d is left", i)
		require.Equal(t, want.AppendBinary(nil), h.response.AppendBinary(nil), "request %d", i)
		for _, r := range h.response.Rows { // what is appended goes nowhere else
			_ = append(append(r.Key, '!'), append(r.Value, '!')...)
		}
		_ = append(h.response.Rows, Row{})
	}
	for i, h := range reads {
		want, err := a.Read(w.ctx(), requests[i])
		require.NoError(t, err)
		require.Equal(t, want.AppendBinary(nil), h.response.AppendBinary(nil), "request %d", i)
	}

	// Who has no room left, no replica, or does not own is left.
	reads = []hereRead{{q: requests[0]}, {replica: a, q: requests[0]}, {replica: a, q: requests[1]}}
	readHere(w.ctx(), reads, 1, time.Minute)
	require.Nil(t, reads[0].response)
	require.Len(t, reads[1].response.Rows, 10)
	require.Nil(t, reads[2].response)
	b := w.learn(a, 2)
	wantLeft(&w.trio, b, at, "k07")
}

// A read is left beside a vote that may end at or below it, one that begins in the
// middle of the read too, and beside one that has: nobody waits here.
func TestReadHereLeavesWhatMayWait(t *testing.T) {
	for _, begins := range []string{"before", "here max_ts"} {
		t.Run(begins, func(t *testing.T) {
			w := newGrowing(t)
			a := w.shards[1][0]
			w.put(a, "x", "old")
			id := w.begin()
			q := w.request(id, w.lock(a, id, "x"), "x", "new")
			at := w.now()
			ctx, chosen, proceed := w.ctx(), make(chan struct{}), make(chan struct{})
			voted := make(chan *VoteResponse, 1)
			vote := func() {
				go func() {
					vote, err := a.Prepare(ctx, &PrepareRequest{OnePCRequest: *q, Participants: []ID{1, 2}})
					if err != nil {
						t.Error(err)
					}
					voted <- vote
				}()
				arrives(t, chosen)
			}
			var choose, read sync.Once
			a.c.Steps = func(_ context.Context, step string) {
				switch step {
				case "timestamp chosen":
					choose.Do(func() { close(chosen); <-proceed })
				case begins: // nothing is raised yet
					read.Do(vote)
				}
			}
			if begins == "before" {
				read.Do(vote)
			}
			wantLeft(&w.trio, a, at, "x")
			wantHere(&w.trio, a, at, "y", "")
			close(proceed)
			prepared := arrives(t, voted)
			require.LessOrEqual(t, prepared.Prepare, at, "the case is what it should be")
			wantLeft(&w.trio, a, at, "x")
			wantHere(&w.trio, a, prepared.Prepare-1, "x", "old")
			wantHere(&w.trio, a, at, "y", "")
			require.NoError(t, a.Resolve(ctx, &ResolveRequest{Txn: id, Commit: prepared.Prepare, Wait: true}))
			wantHere(&w.trio, a, at, "x", "new")
		})
	}
}

// A vote that begins once everything was looked at ends above the read.
func TestReadHereRaisesMaxTS(t *testing.T) {
	w := newGrowing(t)
	a := w.shards[1][0]
	w.put(a, "x", "old")
	id := w.begin()
	q := w.request(id, w.lock(a, id, "x"), "x", "new")
	at := w.now()
	var once sync.Once
	var vote *VoteResponse
	a.c.Steps = func(ctx context.Context, step string) {
		if step == "here read" {
			once.Do(func() {
				var err error
				vote, err = a.OnePC(ctx, q)
				require.NoError(t, err)
			})
		}
	}
	wantHere(&w.trio, a, at, "x", "old")
	require.Greater(t, vote.Commit, at)
	wantHere(&w.trio, a, at, "x", "old")
	wantHere(&w.trio, a, w.now(), "x", "new")
}

// Where the ownership is proved by a barrier, and where it cannot be, the read is
// left; under a lease only if that is over before all is read.
func TestReadHereProves(t *testing.T) {
	w := newGrowing(t)
	a := w.shards[1][0]
	w.put(a, "x", "1")
	wantHere(&w.trio, a, w.now(), "x", "1")
	w.learn(a, 2)
	require.NoError(t, a.AddVoter(w.ctx(), 2, "n2"))
	w.put(a, "x", "2")
	wantLeft(&w.trio, a, w.now(), "x")

	l := newLeasing(t)
	a, b := l.shards[1][0], l.shards[1][1]
	l.put(a, "x", "1")
	l.wantRead(a, "x", "1")
	wantHere(&l.trio, a, l.now(), "x", "1")
	var once sync.Once
	a.c.Steps = func(_ context.Context, step string) {
		if step == "here late proof" {
			once.Do(func() {
				l.network.Hold(2, 1)
				done := l.take(l.ctx(), b)
				l.advance(l.wait())
				require.NoError(t, <-done)
				l.put(b, "x", "2")
			})
		}
	}
	wantLeft(&l.trio, a, l.now(), "x")
	l.network.Release(2, 1)
}

// A timestamp that the oracle is not known to have issued is for Read to judge.
func TestReadHereTakesIssuedTimestamps(t *testing.T) {
	w := newGrowing(t)
	a := w.shards[1][0]
	w.put(a, "x", "1")
	wantLeft(&w.trio, a, w.now()+1<<30, "x")
	w.put(a, "x", "2")
	require.Less(t, storage.Timestamp(a.maxTS.Load()), w.now())
}

// What is older than the fence is refused, as by Read.
func TestReadHereKeepsTheFence(t *testing.T) {
	w := newGrowing(t)
	a := w.shards[1][0]
	w.put(a, "x", "1")
	at := w.now()
	require.NoError(t, a.RaiseFence(w.ctx(), w.now()))
	reads := []hereRead{{replica: a, q: &ReadRequest{At: at, Keys: []storage.Key{storage.Key("x")}}}}
	readHere(w.ctx(), reads, DefaultByteLimit, time.Minute)
	require.Equal(t, SnapshotTooOld, CodeOf(reads[0].err))
	require.Nil(t, reads[0].response)
}

// What is read beside commits in one step and in two is read again for ever.
func TestReadHereRepeats(t *testing.T) {
	w := newGrowing(t)
	a := w.shards[1][0]
	type seen struct {
		at    storage.Timestamp
		value string
	}
	var writing, reading sync.WaitGroup
	var reads [2][]seen
	var seq atomic.Uint64
	done := make(chan struct{})
	ctx := w.ctx()
	commit := func(n int) error {
		start, err := w.times.Timestamp(ctx)
		if err != nil {
			return err
		}
		id := storage.TxnID{Start: start, Gateway: 9, Seq: seq.Add(1)}
		granted, err := a.Lock(ctx, &LockRequest{Txn: id, Mode: LockExclusive, Keys: []storage.Key{storage.Key("x")}, Timeout: time.Minute})
		if err != nil {
			return err
		}
		floor, err := w.times.Timestamp(ctx)
		if err != nil {
			return err
		}
		q := OnePCRequest{Txn: id, Token: granted.Token, Floor: floor, Writes: []Write{{Key: storage.Key("x"), Value: fmt.Append(nil, id.Seq)}}}
		if n%2 == 0 {
			_, err = a.OnePC(ctx, &q)
			return err
		}
		vote, err := a.Prepare(ctx, &PrepareRequest{OnePCRequest: q, Participants: []ID{1, 2}})
		if err != nil {
			return err
		}
		return a.Resolve(ctx, &ResolveRequest{Txn: id, Commit: vote.Prepare, Wait: n%4 == 1})
	}
	for range 3 {
		writing.Go(func() {
			for n := range 60 {
				if err := commit(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range reads {
		reading.Go(func() {
			for {
				at, _ := w.times.Timestamp(ctx)
				if h := hereOf(a, at, "x"); h.response != nil {
					reads[i] = append(reads[i], seen{at, string(h.response.Rows[0].Value)})
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	for _, r := range slices.Concat(reads[0], reads[1]) {
		got, err := w.get(ctx, a, r.at, "x")
		require.NoError(t, err)
		require.Equal(t, got, r.value, "at %s", r.at)
	}
	t.Log("reads:", len(reads[0]), len(reads[1]))
}
