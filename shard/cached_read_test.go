package shard

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// warm reads a key, so that the next reads find it in the cache of rows, and returns
// the timestamp.
func (w *trio) warm(r *Replica, k string) storage.Timestamp {
	w.t.Helper()
	at := w.now()
	_, err := w.get(w.ctx(), r, at, k)
	require.NoError(w.t, err)
	_, ok := r.c.Space.Cached(storage.Key(k), at)
	require.True(w.t, ok, "%s is not cached", k)
	return at
}

// onStep does something when the replica comes to a step for the first time.
func onStep(r *Replica, step string, do func()) {
	var once sync.Once
	r.c.Steps = func(_ context.Context, s string) {
		if s == step {
			once.Do(do)
		}
	}
}

// succeed makes b the owner, which writes x, and waits until a has applied its epoch.
func (w *trio) succeed(a, b *Replica) {
	epoch, _, _, _ := a.c.Machine.Owner()
	require.NoError(w.t, b.BecomeOwner(w.ctx()))
	w.put(b, "x", "2")
	require.Eventually(w.t, func() bool { now, _, _, _ := a.c.Machine.Owner(); return now > epoch }, time.Minute, time.Millisecond)
}

// TestCachedReads: what is cached is read as from the store: the newest version and
// older ones, keys without a version, some of several keys.
func TestCachedReads(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	w.put(a, "x", "1")
	w.warm(a, "none")
	old := w.warm(a, "x")
	hits := func() uint64 { return a.c.Space.Engine().Metrics().RowCacheHits }
	before := hits()
	for range 3 {
		w.wantRead(a, "x", "1")
		w.wantRead(a, "none", "")
	}
	require.Equal(t, before+6, hits())
	w.put(a, "x", "2")
	w.put(a, "none", "some")
	w.put(a, "y", "3")
	for range 2 {
		keys := []storage.Key{storage.Key("y"), storage.Key("x"), storage.Key("z"), storage.Key("none")}
		response, err := a.Read(w.ctx(), &ReadRequest{At: w.now(), Keys: keys})
		require.NoError(t, err)
		for i, want := range []string{"3", "2", "", "some"} {
			require.Equal(t, keys[i], response.Rows[i].Key)
			require.Equal(t, want, string(response.Rows[i].Value))
			require.Equal(t, want != "", response.Rows[i].Found)
		}
		got, err := w.get(w.ctx(), a, old, "x")
		require.NoError(t, err)
		require.Equal(t, "1", got)
		got, err = w.get(w.ctx(), a, old, "none")
		require.NoError(t, err)
		require.Empty(t, got)
	}
	w.checksumsAgree()
}

// TestCachedReadsOfManyKeys: a request of many keys finds what is cached, and leaves there
// what it is.
func TestCachedReadsOfManyKeys(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	w.put(a, "x", "1")
	w.warm(a, "x")
	keys := []storage.Key{storage.Key("x")}
	for i := 1; i < manyKeys; i++ {
		keys = append(keys, fmt.Append(nil, "many", i))
	}
	known := func() (n int) {
		for _, k := range keys {
			if _, ok := a.c.Space.Cached(k, storage.MaxTimestamp); ok {
				n++
			}
		}
		return n
	}
	for _, c := range []struct{ keys, known int }{{manyKeys, 1}, {manyKeys - 1, manyKeys - 1}} {
		response, err := a.Read(w.ctx(), &ReadRequest{At: w.now(), Keys: keys[:c.keys]})
		require.NoError(t, err)
		require.Equal(t, "1", string(response.Rows[0].Value))
		require.Equal(t, c.known, known())
	}
}

// TestCachedReadsKeepTheFence: what is read without a snapshot is too old if the fence
// passes the timestamp meanwhile.
func TestCachedReadsKeepTheFence(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	w.put(a, "x", "1")
	at := w.warm(a, "x")
	onStep(a, "read", func() { require.NoError(t, a.RaiseFence(w.ctx(), w.now())) })
	_, err := w.get(w.ctx(), a, at, "x")
	require.Equal(t, SnapshotTooOld, CodeOf(err))
}

// TestCachedReadsAreTheOwners: what is read without a snapshot is nothing if there is
// a later owner, whose writes it may have met.
func TestCachedReadsAreTheOwners(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		w := newTrio(t)
		a, b := w.shards[1][0], w.shards[1][1]
		w.put(a, "x", "1")
		at := w.warm(a, "x")
		onStep(a, "read", func() { w.succeed(a, b) })
		_, err := w.get(w.ctx(), a, at, "x")
		require.Equal(t, NotOwner, CodeOf(err))
	})
	t.Run("together", func(t *testing.T) {
		l := newLeasing(t)
		a, b := l.shards[1][0], l.shards[1][1]
		l.put(a, "x", "1")
		at := l.warm(a, "x")
		wantHere(&l.trio, a, at, "x", "1")
		onStep(a, "here read", func() { require.NoError(t, a.HandOver(l.ctx(), takeOver(b))); l.put(b, "x", "2") })
		wantLeft(&l.trio, a, at, "x")
	})
}

// TestCachedReadsAreProved: who has read without a snapshot looks at its lease then,
// though those beside it are left.
func TestCachedReadsAreProved(t *testing.T) {
	l := newLeasing(t)
	a, b := l.shards[1][0], l.shards[1][1]
	l.put(a, "x", "1")
	at := l.warm(a, "x")
	reads := func() []hereRead {
		return []hereRead{{replica: a, q: &ReadRequest{At: at, Span: &Span{}}},
			{replica: a, q: &ReadRequest{At: at, Keys: []storage.Key{storage.Key("x")}}}}
	}
	h := reads()
	readHere(l.ctx(), h, DefaultByteLimit, -1)
	require.Nil(t, h[0].response, "no patience")
	require.NotNil(t, h[1].response)
	require.Equal(t, "1", string(h[1].response.Rows[0].Value))

	onStep(a, "here read", func() {
		l.network.Hold(2, 1)
		done := l.take(l.ctx(), b)
		l.advance(l.wait())
		require.NoError(t, <-done)
		l.put(b, "x", "2")
	})
	h = reads()
	readHere(l.ctx(), h, DefaultByteLimit, -1)
	require.Nil(t, h[0].response)
	require.Nil(t, h[1].response, "the lease was over")
	l.network.Release(2, 1)
}
