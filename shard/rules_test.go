package shard_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

func requireCode(t testing.TB, want shard.Code, err error) {
	t.Helper()
	require.Equal(t, want, shard.CodeOf(err), "%v", err)
}

func (f *fixture) tryLock(s shard.ID, q *shard.LockRequest) (*shard.LockResponse, error) {
	return f.node.Router().Lock(f.ctx(), s, q)
}

func (f *fixture) onePC(s shard.ID, id storage.TxnID, token shard.LockToken, floor storage.Timestamp, writes ...shard.Write) (*shard.VoteResponse, error) {
	return f.node.Router().OnePC(f.ctx(), s, &shard.OnePCRequest{Txn: id, Token: token, Floor: floor, Writes: writes})
}

// R4: every vote's timestamp is at most one above the last that was issued, so
// whoever draws one after the acknowledgement sees the write.
func TestVotesAreNeverAheadOfTheOracle(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 50 {
		before := f.now()
		commit := f.commit(1, put("k", fmt.Sprint(i)))
		after := f.now()
		require.Greater(t, commit, before)
		require.LessOrEqual(t, commit, after)
		require.Equal(t, fmt.Sprint(i), f.get(1, after, "k"))
	}
}

// H6: without a floor, the start must be at or above everything the
// transaction read or locked.
func TestFloorMayBeSkippedOnlyAboveWhatWasSeen(t *testing.T) {
	f := newFixture(t, nil)
	early := f.begin()
	f.commit(1, put("x", "1"))
	early.Seq = 1000

	t.Run("a version newer than the start", func(t *testing.T) {
		token := f.lock(1, early, "x").Token
		_, err := f.onePC(1, early, token, 0, put("x", "2")...)
		requireCode(t, shard.NeedFloor, err)
		vote, err := f.onePC(1, early, token, f.now(), put("x", "2")...)
		require.NoError(t, err)
		require.Equal(t, storage.VoteCommitted, vote.State)
	})
	t.Run("a row that was only locked", func(t *testing.T) {
		id := f.begin()
		f.commit(1, put("read", "1"))
		token := f.lock(1, id, "read", "other").Token
		_, err := f.onePC(1, id, token, 0, put("other", "2")...)
		requireCode(t, shard.NeedFloor, err)
		require.NoError(t, f.node.Router().Release(f.ctx(), 1, &shard.ReleaseRequest{Txn: id}))
	})
	t.Run("nothing newer", func(t *testing.T) {
		id := f.begin()
		vote, err := f.onePC(1, id, f.lock(1, id, "fresh").Token, 0, put("fresh", "1")...)
		require.NoError(t, err)
		require.Equal(t, storage.VoteCommitted, vote.State)
		require.LessOrEqual(t, vote.Commit, f.now())
	})
	t.Run("a reader's lock released later", func(t *testing.T) {
		// models/m3_floor.py: T1 reads x under a shared lock, writes elsewhere and
		// commits; T2 began before and takes x without waiting.
		t2 := f.begin()
		t1 := f.begin()
		token := f.lock(1, t1, "x", "y").Token
		_, err := f.onePC(1, t1, token, f.now(), put("y", "1")...)
		require.NoError(t, err)
		_, err = f.onePC(1, t2, f.lock(1, t2, "x").Token, 0, put("x", "3")...)
		requireCode(t, shard.NeedFloor, err)
	})
	for name, release := range map[string]func(id storage.TxnID) error{
		"released without a vote": func(id storage.TxnID) error {
			return f.node.Router().Release(f.ctx(), 1, &shard.ReleaseRequest{Txn: id})
		},
		"dropped by a renewal": func(id storage.TxnID) error {
			return f.node.Router().Renew(f.ctx(), 1, &shard.RenewRequest{Gateway: id.Gateway, Cut: id.Seq})
		},
	} {
		t.Run("a reader's lock "+name, func(t *testing.T) {
			// A reader of one shard commits without a vote; it may have read what
			// was committed after the writer began.
			key := "x " + name
			f.commit(1, put(key, "1"))
			writer := f.begin()
			writer.Gateway++ // not of the gateway that renews
			reader := f.begin()
			_, err := f.tryLock(1, &shard.LockRequest{Txn: reader, Mode: shard.LockShared, Keys: keys(key), Read: true})
			require.NoError(t, err)
			f.commit(1, put("y", name))
			_, err = f.tryLock(1, &shard.LockRequest{Txn: reader, Mode: shard.LockShared, Keys: keys("y"), Read: true})
			require.NoError(t, err)
			require.NoError(t, release(reader))
			_, err = f.onePC(1, writer, f.lock(1, writer, key).Token, 0, put(key, "2")...)
			requireCode(t, shard.NeedFloor, err)
		})
	}
	t.Run("prepare always needs one", func(t *testing.T) {
		id := f.begin()
		token := f.lock(2, id, "p").Token
		_, err := f.node.Router().Prepare(f.ctx(), 2, &shard.PrepareRequest{Participants: []shard.ID{1, 2},
			OnePCRequest: shard.OnePCRequest{Txn: id, Token: token, Writes: put("p", "1")}})
		requireCode(t, shard.NeedFloor, err)
	})
}

// H12: a timestamp that the oracle did not issue never raises maxTS.
func TestTimestampsFromElsewhereAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	f.commit(1, put("x", "1"))
	for _, at := range []storage.Timestamp{f.now() + 1<<40, storage.MaxTimestamp} {
		_, err := f.node.Router().Read(f.ctx(), 1, &shard.ReadRequest{At: at, Keys: keys("x")})
		requireCode(t, shard.BadRequest, err)
	}
	commit := f.commit(1, put("x", "2"))
	require.LessOrEqual(t, commit, f.now())
}

// H13: first committer wins over rows, new rows and deleted rows of the interval.
func TestConflictWithASnapshot(t *testing.T) {
	for name, change := range map[string][]shard.Write{
		"changed":  put("b", "2"),
		"inserted": put("bb", "2"),
		"deleted":  {{Key: storage.Key("b"), Tombstone: true}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.commit(1, put("a", "1", "b", "1", "c", "1"))
			snapshot := f.now()
			f.commit(1, change)
			id := f.begin()
			q := shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Snapshot: snapshot,
				Span: &shard.Span{Lo: storage.Key("b"), Hi: storage.Key("c")}}
			_, err := f.tryLock(1, &q)
			requireCode(t, shard.Conflict, err)
			q.RowsOnly = true
			_, err = f.tryLock(1, &q)
			requireCode(t, shard.Conflict, err)
			_, err = f.tryLock(1, &shard.LockRequest{Txn: id, Mode: shard.LockShared, Snapshot: snapshot, Keys: []storage.Key{change[0].Key}})
			requireCode(t, shard.Conflict, err)
			q.Span, q.Keys = nil, keys("a", "c")
			_, err = f.tryLock(1, &q)
			require.NoError(t, err)
		})
	}
}

// H5: a locking scan and buffered inserts wait for each other.
func TestRangesAgainstInserts(t *testing.T) {
	f := newFixture(t, nil)
	f.commit(1, put("a", "1", "c", "3", "e", "5", "g", "7"))
	scanner, inserter := f.begin(), f.begin()
	page, err := f.tryLock(1, &shard.LockRequest{Txn: scanner, Mode: shard.LockShared, Limit: 2,
		Span: &shard.Span{Lo: storage.Key("b")}})
	require.NoError(t, err)
	require.Len(t, page.Rows, 2)
	require.True(t, page.More)
	require.Equal(t, "e\x00", string(page.Resume))
	// The interval ends at the last row returned.
	for k, code := range map[string]shard.Code{"a": shard.CodeNone, "b": shard.WouldBlock, "d": shard.WouldBlock, "e": shard.WouldBlock, "f": shard.CodeNone} {
		_, err := f.tryLock(1, &shard.LockRequest{Txn: inserter, Mode: shard.LockExclusive, Wait: shard.WaitNone, Keys: keys(k)})
		requireCode(t, code, err)
	}
	_, err = f.tryLock(1, &shard.LockRequest{Txn: scanner, Mode: shard.LockShared, Wait: shard.WaitNone,
		Span: &shard.Span{Lo: page.Resume}})
	requireCode(t, shard.WouldBlock, err) // f is locked and not there
	require.NoError(t, f.node.Router().Release(f.ctx(), 1, &shard.ReleaseRequest{Txn: inserter}))
	rest, err := f.tryLock(1, &shard.LockRequest{Txn: scanner, Mode: shard.LockShared, Span: &shard.Span{Lo: page.Resume}})
	require.NoError(t, err)
	require.Len(t, rest.Rows, 1)
	require.False(t, rest.More)
}

func TestSkipLockedAndRowsOnly(t *testing.T) {
	f := newFixture(t, nil)
	f.commit(1, put("a", "1", "b", "2", "c", "3"))
	holder, other := f.begin(), f.begin()
	f.lock(1, holder, "b")
	page, err := f.tryLock(1, &shard.LockRequest{Txn: other, Mode: shard.LockExclusive, Wait: shard.WaitSkip, Span: &shard.Span{}})
	require.NoError(t, err)
	require.Len(t, page.Rows, 2)
	some, err := f.tryLock(1, &shard.LockRequest{Txn: other, Mode: shard.LockExclusive, Wait: shard.WaitSkip, Keys: keys("a", "b", "c"), Read: true})
	require.NoError(t, err)
	require.Equal(t, []int{1}, some.Skipped)
	require.False(t, some.Rows[1].Found)
	// No interval is locked by either.
	_, err = f.tryLock(1, &shard.LockRequest{Txn: holder, Mode: shard.LockExclusive, Wait: shard.WaitNone, Keys: keys("bb")})
	require.NoError(t, err)
}

// H15: NOWAIT waits for a transaction that has voted: its COMMIT may be
// acknowledged already.
func TestNoWaitWaitsForTheVoted(t *testing.T) {
	f := newFixture(t, nil)
	r, voted := f.node.Router(), f.begin()
	vote, err := r.Prepare(f.ctx(), 1, &shard.PrepareRequest{Participants: []shard.ID{1, 2},
		OnePCRequest: shard.OnePCRequest{Txn: voted, Token: f.lock(1, voted, "x").Token, Floor: f.now(), Writes: put("x", "1")}})
	require.NoError(t, err)
	granted := make(chan error, 1)
	go func() {
		_, err := r.Lock(context.Background(), 1, &shard.LockRequest{Txn: f.begin(), Mode: shard.LockExclusive, Wait: shard.WaitNone, Keys: keys("x"), Timeout: 20 * time.Second})
		granted <- err
	}()
	require.NoError(t, r.Resolve(f.ctx(), 1, &shard.ResolveRequest{Txn: voted, Commit: vote.Prepare}))
	require.NoError(t, <-granted)
}

// The lock wait timeout holds behind a transaction that has voted, too.
func TestLockWaitIsBoundedBehindTheVoted(t *testing.T) {
	now := time.Now() // the vote does not grow old
	f := newFixture(t, func(c *shard.Config) { c.Clock = func() time.Time { return now } })
	r, voted := f.node.Router(), f.begin()
	vote, err := r.Prepare(f.ctx(), 1, &shard.PrepareRequest{Participants: []shard.ID{1, 2},
		OnePCRequest: shard.OnePCRequest{Txn: voted, Token: f.lock(1, voted, "x", "y").Token, Floor: f.now(), Writes: put("x", "1", "y", "1")}})
	require.NoError(t, err)
	for wait, code := range map[shard.LockWait]shard.Code{shard.WaitBlock: shard.LockTimeout, shard.WaitNone: shard.WouldBlock} {
		for began := time.Now(); ; {
			// The context ends before NOWAIT would give the voted up by itself. On a busy
			// machine it may end before the request has done so.
			ctx, cancel := context.WithTimeout(t.Context(), 1900*time.Millisecond)
			_, err = r.Lock(ctx, 1, &shard.LockRequest{Txn: f.begin(), Mode: shard.LockExclusive, Wait: wait, Keys: keys("x", "y"), Timeout: 20 * time.Millisecond})
			late := ctx.Err() != nil
			cancel()
			if !late {
				requireCode(t, code, err)
				break
			}
			require.Less(t, time.Since(began), time.Minute, "it waits for its context")
		}
	}
	require.NoError(t, r.Resolve(f.ctx(), 1, &shard.ResolveRequest{Txn: voted, Commit: vote.Prepare}))
}

// H11: nobody who planned with an older version votes after the raise.
func TestSchemaMinimum(t *testing.T) {
	f := newFixture(t, nil)
	r, id := f.node.Router(), f.begin()
	token := f.lock(1, id, "x").Token
	require.NoError(t, r.RaiseSchema(f.ctx(), 5, 3))
	q := &shard.OnePCRequest{Txn: id, Token: token, Floor: f.now(), Writes: put("x", "1"), Schemas: []shard.SchemaRef{{Table: 5, Version: 2}}}
	_, err := r.OnePC(f.ctx(), 1, q)
	requireCode(t, shard.SchemaChanged, err)
	require.Equal(t, "-", f.get(1, f.now(), "x"))
	f.close()
	f.open()
	id = f.begin()
	q.Txn, q.Token, q.Floor = id, f.lock(1, id, "x").Token, f.now()
	_, err = f.node.Router().OnePC(f.ctx(), 1, q)
	requireCode(t, shard.SchemaChanged, err)
}

// A retry with other content is a bug of the caller and is told so.
func TestRetryWithOtherContent(t *testing.T) {
	f := newFixture(t, nil)
	id := f.begin()
	token := f.lock(1, id, "x").Token
	_, err := f.onePC(1, id, token, f.now(), put("x", "1", "x", "2")...)
	requireCode(t, shard.BadRequest, err)
	first, err := f.onePC(1, id, token, f.now(), put("x", "1")...)
	require.NoError(t, err)
	again, err := f.onePC(1, id, token, f.now(), put("x", "1")...) // another floor is no other content
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestScansPageBothWays(t *testing.T) {
	f := newFixture(t, nil)
	var want []string
	for i := range 25 {
		k := fmt.Sprintf("k%02d", i)
		want = append(want, k)
		f.commit(1, put(k, "v"))
	}
	f.commit(1, []shard.Write{{Key: storage.Key("k07"), Tombstone: true}})
	want = append(want[:7:7], want[8:]...)
	at := f.now()
	f.commit(1, put("k99", "later"))
	for _, reverse := range []bool{false, true} {
		for _, limits := range [][2]int{{4, 0}, {0, 12}, {0, 0}, {24, 0}} {
			q := &shard.ReadRequest{At: at, Span: &shard.Span{}, Reverse: reverse, Limit: limits[0], ByteLimit: limits[1]}
			var got []string
			for {
				page, err := f.node.Router().Read(f.ctx(), 1, q)
				require.NoError(t, err)
				for _, row := range page.Rows {
					got = append(got, string(row.Key))
				}
				if !page.More {
					break
				}
				if reverse {
					q.Span = &shard.Span{Hi: page.Resume}
				} else {
					q.Span = &shard.Span{Lo: page.Resume}
				}
			}
			if reverse {
				for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
					got[i], got[j] = got[j], got[i]
				}
			}
			require.Equal(t, want, got, "reverse %v, limits %v", reverse, limits)
		}
	}
}

// Garbage: old versions and markers go, what a gateway still uses stays, and a
// read below the fence is refused, not answered wrongly.
func TestGarbage(t *testing.T) {
	now := time.Now()
	f := newFixture(t, func(c *shard.Config) { c.Clock = func() time.Time { return now }; c.Retention = time.Minute })
	f.commit(1, put("x", "1"))
	old := f.now()
	require.NoError(t, f.node.Router().Renew(f.ctx(), 0, &shard.RenewRequest{Gateway: f.node.Gateway(), Oldest: old}))
	f.commit(1, put("x", "2"))
	late := f.begin()
	lateToken := f.lock(2, late, "late").Token
	now = now.Add(2 * time.Minute)
	require.NoError(t, f.node.CollectGarbage(f.ctx()))
	require.Equal(t, "1", f.get(1, old, "x"), "somebody reads here")

	require.NoError(t, f.node.Router().Renew(f.ctx(), 0, &shard.RenewRequest{Gateway: f.node.Gateway(), Oldest: storage.MaxTimestamp}))
	// The oracle's time counts, and it moves when asked.
	f.now()
	require.NoError(t, f.node.CollectGarbage(f.ctx()))
	_, err := f.node.Router().Read(f.ctx(), 1, &shard.ReadRequest{At: old, Keys: keys("x")})
	requireCode(t, shard.SnapshotTooOld, err)
	require.Equal(t, "2", f.get(1, f.now(), "x"))
	checks, err := f.engine.Space(1).Checksum()
	require.NoError(t, err)
	require.NotZero(t, checks)
	snap := f.engine.Space(1).Snapshot()
	read, err := snap.Get(storage.Key("x"), old)
	snap.Close()
	require.NoError(t, err)
	require.Zero(t, read.Commit, "the old version is gone")
	// H8: below the fence nothing new is voted, and nothing is written about it.
	vote, err := f.onePC(2, late, lateToken, f.now(), put("late", "1")...)
	require.NoError(t, err)
	require.Equal(t, &shard.VoteResponse{Fenced: true}, vote)
}

// An undecided vote holds garbage up until it is finished.
func TestGarbageWaitsForUndecidedVotes(t *testing.T) {
	now := time.Now()
	f := newFixture(t, func(c *shard.Config) { c.Clock = func() time.Time { return now }; c.Retention = time.Minute })
	r, id := f.node.Router(), f.begin()
	vote, err := r.Prepare(f.ctx(), 2, &shard.PrepareRequest{Participants: []shard.ID{1, 2},
		OnePCRequest: shard.OnePCRequest{Txn: id, Token: f.lock(2, id, "x").Token, Floor: f.now(), Writes: put("x", "1")}})
	require.NoError(t, err)
	require.Equal(t, storage.VotePrepared, vote.State)
	done := f.commit(1, put("y", "1"))
	now = now.Add(2 * time.Minute)
	f.now()
	require.NoError(t, f.node.CollectGarbage(f.ctx()))
	markers := func(s uint64) (n int) {
		snap := f.engine.Space(s).Snapshot()
		defer snap.Close()
		require.NoError(t, snap.Votes(func(storage.TxnID, storage.Vote) error { n++; return nil }))
		return n
	}
	require.Equal(t, 1, markers(1), "the marker of %s stays", done)
	closed, err := r.CloseVote(f.ctx(), 1, &shard.CloseVoteRequest{Txn: id})
	require.NoError(t, err)
	require.True(t, closed.Fenced, "a recoverer takes this for an abort")
	require.NoError(t, r.Resolve(f.ctx(), 2, &shard.ResolveRequest{Txn: id, Wait: true}))
	require.NoError(t, f.node.CollectGarbage(f.ctx()))
	require.Zero(t, markers(1))
	require.Zero(t, markers(2))
	require.Equal(t, "-", f.get(2, f.now(), "x"))
}

func TestDeadlockHasOneVictim(t *testing.T) {
	f := newFixture(t, nil)
	r, a, b := f.node.Router(), f.begin(), f.begin()
	f.lock(1, a, "x")
	f.lock(2, b, "x") // across shards: one wait graph for the node
	results := make(chan error, 2)
	wait := func(s shard.ID, id storage.TxnID) {
		_, err := r.Lock(context.Background(), s, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: keys("x"), Timeout: 20 * time.Second})
		if err != nil {
			_ = r.Release(context.Background(), 1, &shard.ReleaseRequest{Txn: id})
			_ = r.Release(context.Background(), 2, &shard.ReleaseRequest{Txn: id})
		}
		results <- err
	}
	go wait(2, a)
	go wait(1, b)
	one, two := <-results, <-results
	codes := []shard.Code{shard.CodeOf(one), shard.CodeOf(two)}
	require.ElementsMatch(t, []shard.Code{shard.Deadlock, shard.CodeNone}, codes)
}

func TestStatusAndLocks(t *testing.T) {
	f := newFixture(t, nil)
	id := f.begin()
	f.lock(2, id, "x")
	infos, err := f.node.Router().Locks(f.ctx(), 2)
	require.NoError(t, err)
	require.Len(t, infos, 1)
	require.Equal(t, id, infos[0].Txn)
	require.Nil(t, infos[0].Hi)
	share := 0.0
	for i, s := range f.node.Status() {
		require.Equal(t, shard.ID(i), s.Shard)
		require.True(t, s.Serving)
		require.Equal(t, uint64(1), s.Owner)
		share += s.TokenShare
	}
	require.InDelta(t, 1, share, 1e-9)
}

// The ring is read back, not computed again, whatever the configuration says now.
func TestRingIsStored(t *testing.T) {
	f := newFixture(t, nil)
	require.Len(t, f.node.Router().DataShards(), 4)
	before := f.node.Router().Ring().AppendBinary(nil)
	f.close()
	f.config.Shards = 7
	f.open()
	require.Equal(t, before, f.node.Router().Ring().AppendBinary(nil))
	require.Len(t, f.node.Router().DataShards(), 4)
}
