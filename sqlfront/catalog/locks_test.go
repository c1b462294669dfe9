package catalog

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// refused tells that a request waits: it gives up at once.
func refused(t *testing.T, l *Locks, h *Holder, name string, mode Mode) {
	t.Helper()
	require.ErrorIs(t, l.Acquire(context.Background(), h, name, mode, time.Millisecond), ErrLockTimeout)
}

func granted(t *testing.T, l *Locks, h *Holder, name string, mode Mode) {
	t.Helper()
	require.NoError(t, l.Acquire(context.Background(), h, name, mode, time.Hour))
}

// stands waits until a request of a kind waits for a name.
func stands(l *Locks, name string, kind int) {
	for waiting := 0; waiting == 0; {
		l.mu.Lock()
		if n := l.mu.names[name]; n != nil {
			waiting = n.waiting[kind]
		}
		l.mu.Unlock()
	}
}

func TestMetadataLockModes(t *testing.T) {
	for _, c := range []struct {
		a, b   Mode
		beside bool
	}{
		{SharedRead, SharedRead, true}, {SharedRead, SharedWrite, true}, {SharedRead, ReadOnly, true}, {SharedRead, Exclusive, false},
		{SharedWrite, SharedWrite, true}, {SharedWrite, ReadOnly, false}, {SharedWrite, Exclusive, false},
		{ReadOnly, ReadOnly, true}, {ReadOnly, Exclusive, false}, {Exclusive, Exclusive, false},
	} {
		for _, order := range [][2]Mode{{c.a, c.b}, {c.b, c.a}} {
			l := NewLocks()
			var first, second Holder
			granted(t, l, &first, "d/t", order[0])
			if c.beside {
				granted(t, l, &second, "d/t", order[1])
			} else {
				refused(t, l, &second, "d/t", order[1])
			}
			l.ReleaseAll(&first)
			l.ReleaseAll(&second)
			require.Empty(t, l.mu.names, "idle names are forgotten")
		}
	}
}

// A request for several names holds none of them while it waits for another, and
// stops newcomers, but nobody whom it may be waiting for.
func TestLockTablesRequestsAreAllOrNothing(t *testing.T) {
	l := NewLocks()
	var writer, reader, tables, late Holder
	granted(t, l, &writer, "d", SharedRead)
	granted(t, l, &writer, "d/u", SharedRead)
	granted(t, l, &writer, "d/u", SharedWrite)
	granted(t, l, &reader, "d", SharedRead)
	granted(t, l, &reader, "d/t", SharedRead)
	done := make(chan error, 1)
	go func() {
		done <- l.AcquireAll(context.Background(), &tables, []Request{{"d/t", ReadOnly}, {"d/u", ReadOnly}}, time.Hour)
	}()
	stands(l, "d/u", waitRead)
	granted(t, l, &late, "d", SharedRead)
	granted(t, l, &late, "d/t", SharedRead) // reads are no obstacle
	refused(t, l, &late, "d/t", SharedWrite)
	refused(t, l, &reader, "d/t", SharedWrite)
	granted(t, l, &writer, "d/t", SharedRead) // has d/u, which is waited for
	granted(t, l, &writer, "d/t", SharedWrite)
	l.ReleaseAll(&writer)
	require.NoError(t, <-done)
	refused(t, l, &reader, "d/t", SharedWrite)
	l.ReleaseAll(&tables)
	granted(t, l, &reader, "d/t", SharedWrite)
	for _, h := range []*Holder{&reader, &late} {
		l.ReleaseAll(h)
	}
	require.Empty(t, l.mu.names)
}

// A writer to be, behind LOCK TABLES ... READ, goes on when a schema change begins
// to wait for him.
func TestSchemaChangeFreesWhoItWaitsFor(t *testing.T) {
	l := NewLocks()
	var writer, tables, next, change Holder
	granted(t, l, &writer, "d/t", SharedWrite)
	granted(t, l, &next, "d/t", SharedRead)
	ctx := context.Background()
	read := make(chan error, 1)
	go func() { read <- l.AcquireAll(ctx, &tables, []Request{{"d/t", ReadOnly}}, time.Hour) }()
	stands(l, "d/t", waitRead)
	write := make(chan error, 1)
	go func() { write <- l.Acquire(ctx, &next, "d/t", SharedWrite, time.Hour) }()
	alter := make(chan error, 1)
	go func() { alter <- l.Acquire(ctx, &change, "d/t", Exclusive, time.Hour) }()
	require.NoError(t, <-write)
	l.ReleaseAll(&next)
	l.ReleaseAll(&writer)
	require.NoError(t, <-alter)
	l.ReleaseAll(&change)
	require.NoError(t, <-read)
	l.ReleaseAll(&tables)
	require.Empty(t, l.mu.names)
}

// A transaction within LOCK TABLES stands behind nobody: all who wait may be waiting
// for that LOCK TABLES.
func TestTransactionsWithinLockTablesStandBehindNobody(t *testing.T) {
	l := NewLocks()
	ctx := context.Background()
	var inner, outer, first, second Holder
	inner.Within(&outer)
	require.NoError(t, l.AcquireAll(ctx, &outer, []Request{{"d/t", Exclusive}}, time.Hour))
	done := make(chan error, 2)
	go func() {
		done <- l.AcquireAll(ctx, &first, []Request{{"d/log", Exclusive}, {"d/t", Exclusive}}, time.Hour)
		l.ReleaseAll(&first)
	}()
	go func() {
		done <- l.AcquireAll(ctx, &second, []Request{{"d/log", ReadOnly}, {"d/t", ReadOnly}}, time.Hour)
		l.ReleaseAll(&second)
	}()
	stands(l, "d/log", waitWrite)
	stands(l, "d/log", waitRead)
	granted(t, l, &inner, "d/log", SharedRead)
	granted(t, l, &inner, "d/log", SharedWrite)
	l.ReleaseAll(&inner)
	l.ReleaseAll(&outer)
	for range 2 {
		require.NoError(t, <-done)
	}
}
