package locks

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func key(s string) []Span { return []Span{{Lo: []byte(s)}} }

func txnNamed(n uint64) Owner { return Owner{Start: n} }

func lockX(t require.TestingT, table *Table, o Owner, keys ...string) {
	for _, k := range keys {
		_, err := table.Acquire(context.Background(), Request{Owner: o, Mode: Exclusive, Spans: key(k)}, WaitNone)
		require.NoError(t, err)
	}
}

// TestErrors: a caller finds the reason, the span, the others and the context's own error.
func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable("a", NewWaitGraph())
		lockX(t, table, txnNamed(1), "k")
		spans := append(key("free"), key("k")...)
		r := Request{Owner: txnNamed(2), Mode: Exclusive, Spans: spans}

		_, err := table.Acquire(context.Background(), r, WaitNone)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.ErrorIs(t, err, ErrWouldBlock)
		require.Equal(t, 1, e.Index)
		require.Equal(t, "k", string(e.Span.Lo))
		require.Equal(t, `lock "k" in a: lock is held`, err.Error())

		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
		defer cancel()
		_, err = table.Acquire(ctx, r, WaitBlock)
		require.ErrorIs(t, err, ErrTimeout)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorAs(t, err, &e)
		require.Equal(t, []Owner{txnNamed(1)}, e.Others)

		killed := errors.New("query was killed")
		ctx2, kill := context.WithCancelCause(context.Background())
		kill(killed)
		_, err = table.Acquire(ctx2, r, WaitBlock)
		require.ErrorIs(t, err, killed)
		require.NotErrorIs(t, err, ErrTimeout)
	})
}

// TestGrantThenDrop: a grant that its goroutine has not seen yet is void once the owner is dropped,
// even if the same owner has locks again (H2, H16).
func TestGrantThenDrop(t *testing.T) {
	table := NewTable("a", NewWaitGraph())
	one, two := txnNamed(1), txnNamed(2)
	lockX(t, table, one, "k")
	c := table.mu.core
	w, answer := c.acquire(c.txn(two), Exclusive, key("k")[0], WaitBlock)
	require.Equal(t, isQueued, answer)
	w.wake = make(chan struct{}, 1)
	table.publishLocked()
	require.True(t, table.Release(one))
	require.Equal(t, granted, w.state)
	require.Equal(t, []Owner{two}, table.DropUnpinned(func(Owner) bool { return true }))
	lockX(t, table, two, "other")

	table.mu.Lock()
	err := table.awaitLocked(context.Background(), w)
	table.mu.Unlock()
	require.ErrorIs(t, err, ErrDropped)
	require.False(t, table.Holds(two, Exclusive, key("k")[0]))
}

// TestVoidVerdict: a verdict names one wait. If the lock is granted before the verdict is read, the
// owner goes on (H4).
func TestVoidVerdict(t *testing.T) {
	table := NewTable("a", NewWaitGraph())
	one, two := txnNamed(1), txnNamed(2)
	lockX(t, table, one, "k")
	c := table.mu.core
	w, _ := c.acquire(c.txn(two), Exclusive, key("k")[0], WaitBlock)
	w.wake = make(chan struct{}, 1)
	table.publishLocked()
	require.True(t, table.Break(w.seq, Deadlock{}))
	require.True(t, table.Release(one))
	table.mu.Lock()
	err := table.awaitLocked(context.Background(), w)
	table.mu.Unlock()
	require.Nil(t, err)
	require.True(t, table.Holds(two, Exclusive, key("k")[0]))
	require.False(t, table.Break(w.seq, Deadlock{}))
}

// TestInstall: what Held returns makes the same table elsewhere; a conflict is a bug.
func TestInstall(t *testing.T) {
	old, fresh := NewTable("a", NewWaitGraph()), NewTable("a", NewWaitGraph())
	one, two := txnNamed(1), txnNamed(2)
	lockX(t, old, one, "b", "c")
	_, err := old.Acquire(context.Background(), Request{Owner: one, Mode: Gap, Spans: []Span{{Lo: []byte("a"), Hi: []byte("z")}}}, WaitNone)
	require.NoError(t, err)
	_, err = old.Acquire(context.Background(), Request{Owner: two, Mode: Gap, Spans: []Span{{Lo: []byte("k"), Hi: []byte("m")}}}, WaitNone)
	require.NoError(t, err)
	require.True(t, old.Pin(one))
	for _, o := range old.Owners() {
		fresh.Install(o, old.Held(o))
	}
	require.Equal(t, old.All(), fresh.All())
	require.NoError(t, fresh.check())
	require.False(t, fresh.Release(one), "it was pinned")
	require.True(t, fresh.Release(two))
	require.Panics(t, func() {
		fresh.Install(two, []Lock{{Mode: Exclusive, Span: Span{Lo: []byte("b")}}})
	})
}

// TestViewsAreCopies: what a caller does to a span it gave or was given changes nothing.
func TestViewsAreCopies(t *testing.T) {
	table := NewTable("a", NewWaitGraph())
	k := []byte("k")
	_, err := table.Acquire(context.Background(), Request{Owner: txnNamed(1), Mode: Shared, Spans: []Span{{Lo: k}}}, WaitBlock)
	require.NoError(t, err)
	k[0] = 'z'
	table.All()[0].Span.Lo[0] = 'y'
	require.True(t, table.Holds(txnNamed(1), Shared, key("k")[0]))
}

// TestCancelledWaiterLeavesNothing: neither goroutine, queue, record nor edge.
func TestCancelledWaiterLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		graph := NewWaitGraph()
		table := NewTable("a", graph)
		lockX(t, table, txnNamed(1), "k")
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for n := range uint64(100) {
			wg.Go(func() {
				s := key("k")
				if n%3 == 0 {
					s = []Span{{Lo: []byte("a"), Hi: []byte("z")}}
				}
				_, err := table.Acquire(ctx, Request{Owner: txnNamed(n + 2), Mode: Mode(n % uint64(modes)), Spans: s}, WaitBlock)
				require.ErrorIs(t, err, context.Canceled)
			})
		}
		synctest.Wait()
		require.NotEmpty(t, table.Waits())
		require.NoError(t, table.check())
		cancel()
		wg.Wait()
		require.Empty(t, table.Waits())
		require.Zero(t, graph.Waiting())
		require.Len(t, table.All(), 1)
		require.Equal(t, []Owner{txnNamed(1)}, table.Owners())
		require.True(t, table.Release(txnNamed(1)))
		require.NoError(t, table.checkEmpty())
	})
}

// TestHotKey: a long queue for one key is served in order, and each release wakes one.
func TestHotKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable("a", NewWaitGraph())
		lockX(t, table, txnNamed(0), "k")
		const n = 500
		var order []uint64
		for i := range uint64(n) {
			go func() {
				_, err := table.Acquire(context.Background(), Request{Owner: txnNamed(i + 1), Mode: Exclusive, Spans: key("k")}, WaitBlock)
				require.NoError(t, err)
				order = append(order, i) // guarded by the lock under test
				table.Release(txnNamed(i + 1))
			}()
			synctest.Wait() // fixes the order of arrival
		}
		for _, w := range table.mu.core.sortedTxns() {
			for _, w := range w.waits {
				require.Len(t, w.edges, 1)
			}
		}
		table.Release(txnNamed(0))
		synctest.Wait()
		require.Len(t, order, n)
		require.IsIncreasing(t, order)
	})
}

// TestIndexComesAndGoes: keys are kept in order only while intervals are in use.
func TestIndexComesAndGoes(t *testing.T) {
	table := NewTable("a", NewWaitGraph())
	c := table.mu.core
	lockX(t, table, txnNamed(1), "a", "b")
	require.Nil(t, c.index)
	gap := Request{Owner: txnNamed(2), Mode: Gap, Spans: []Span{{Lo: []byte("c"), Hi: []byte("d")}}}
	_, err := table.Acquire(context.Background(), gap, WaitBlock)
	require.NoError(t, err)
	require.Equal(t, 2, c.index.Len())
	table.Release(txnNamed(2))
	for i := range 10_000 {
		lockX(t, table, txnNamed(3), fmt.Sprint("key", i))
		if i%2000 == 0 {
			require.NoError(t, table.check())
			table.Release(txnNamed(3))
		}
	}
	require.Nil(t, c.index)
	require.NoError(t, table.check())
}

// TestWhoPassesDoesNotStandForOthers: T3's second request waits in front of T4 and passes by T2, so
// T4 has to wait for T2 itself. (Graph-less: with detection one of T2 and T3 would have given way.)
func TestWhoPassesDoesNotStandForOthers(t *testing.T) {
	c := newCore()
	ask := func(n uint64, m Mode, span string) {
		c.acquire(c.txn(txnNamed(n)), m, parseSpan(span), WaitBlock)
	}
	ask(1, Insert, "[b,d)")
	ask(5, Shared, "[a,c)")
	ask(3, Insert, "[b,d)")
	ask(2, Shared, "c")
	ask(3, Exclusive, "c")
	c.release(c.txns[txnNamed(5)])
	ask(4, Exclusive, "[a,d)")
	require.NoError(t, c.check())
	four := c.txns[txnNamed(4)].waits[0]
	require.Equal(t, []Owner{txnNamed(1), txnNamed(2), txnNamed(3)}, ownersOf(four.edges))
}

func TestUnknownMode(t *testing.T) {
	require.Panics(t, func() {
		_, _ = NewTable("a", NewWaitGraph()).Acquire(context.Background(), Request{Mode: modes}, WaitBlock)
	})
}

// BenchmarkUncontended is one transaction with one X lock on a free key: the common case.
func BenchmarkUncontended(b *testing.B) {
	for _, other := range []struct {
		name   string
		ranges int
	}{{"points", 0}, {"beside100ranges", 100}} {
		b.Run(other.name, func(b *testing.B) {
			table := NewTable("a", NewWaitGraph())
			for i := range other.ranges {
				s := Span{Lo: fmt.Appendf(nil, "range%04d", i), Hi: fmt.Appendf(nil, "range%04d~", i)}
				_, _ = table.Acquire(context.Background(), Request{Owner: txnNamed(0), Mode: Gap, Spans: []Span{s}}, WaitBlock)
			}
			lo := []byte("a key of usual length 0000")
			r := Request{Mode: Exclusive, Spans: []Span{{Lo: lo}}}
			b.ReportAllocs()
			for b.Loop() {
				r.Owner.Start++
				lo[len(lo)-1], lo[len(lo)-2] = byte(r.Owner.Start), byte(r.Owner.Start>>8)
				if _, err := table.Acquire(context.Background(), r, WaitBlock); err != nil {
					b.Fatal(err)
				}
				table.Release(r.Owner)
			}
		})
	}
}

// BenchmarkManyKeys is one transaction that locks 10000 keys and releases them; per key.
func BenchmarkManyKeys(b *testing.B) {
	const n = 10_000
	spans := make([]Span, n)
	for i := range spans {
		spans[i] = Span{Lo: fmt.Appendf(nil, "a key of usual length %05d", i)}
	}
	table := NewTable("a", NewWaitGraph())
	r := Request{Owner: txnNamed(1), Mode: Exclusive, Spans: spans}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Acquire(context.Background(), r, WaitBlock); err != nil {
			b.Fatal(err)
		}
		table.Release(r.Owner)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}

// BenchmarkReentrant asks for a lock the owner has.
func BenchmarkReentrant(b *testing.B) {
	table := NewTable("a", NewWaitGraph())
	r := Request{Owner: txnNamed(1), Mode: Exclusive, Spans: key("k")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Acquire(context.Background(), r, WaitBlock); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHotKey is one key that 64 goroutines want.
func BenchmarkHotKey(b *testing.B) {
	table := NewTable("a", NewWaitGraph())
	b.ReportAllocs()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	var next sync.Mutex
	var start uint64
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			next.Lock()
			start++
			o := txnNamed(start)
			next.Unlock()
			if _, err := table.Acquire(context.Background(), Request{Owner: o, Mode: Exclusive, Spans: key("k")}, WaitBlock); err != nil {
				b.Error(err)
			}
			table.Release(o)
		}
	})
}

// BenchmarkDeadlock is two transactions that meet head on, found and broken.
func BenchmarkDeadlock(b *testing.B) {
	table := NewTable("a", NewWaitGraph())
	one, two := txnNamed(1), txnNamed(2)
	for b.Loop() {
		lockX(b, table, one, "k1")
		lockX(b, table, two, "k2")
		done := make(chan struct{})
		go func() {
			_, _ = table.Acquire(context.Background(), Request{Owner: one, Mode: Exclusive, Spans: key("k2"), Weight: 2}, WaitBlock)
			close(done)
		}()
		_, err := table.Acquire(context.Background(), Request{Owner: two, Mode: Exclusive, Spans: key("k1"), Weight: 1}, WaitBlock)
		if !errors.Is(err, ErrDeadlock) {
			b.Fatal(err)
		}
		table.Release(two)
		<-done
		table.Release(one)
	}
}
