package shard

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// slowLog persists a window when it is told to.
type slowLog struct {
	asked chan storage.Timestamp
	let   chan error
}

func newSlowOracle() (*Oracle, *slowLog) {
	log := &slowLog{asked: make(chan storage.Timestamp, 100), let: make(chan error, 100)}
	now := time.UnixMilli(1 << 40)
	o := &Oracle{clock: func() time.Time { return now }}
	o.persist = func(ctx context.Context, top storage.Timestamp) error {
		log.asked <- top
		select {
		case err := <-log.let:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return o, log
}

// servingSlowOracle returns an oracle whose next draw needs a longer window.
func servingSlowOracle(t *testing.T) (*Oracle, *slowLog) {
	o, log := newSlowOracle()
	log.let <- nil
	require.NoError(t, o.start(t.Context(), 5))
	top := <-log.asked
	o.last.Store(uint64(top) - 1)
	return o, log
}

func TestOracleRefusesAbsurdCounts(t *testing.T) {
	o, log := newSlowOracle()
	log.let <- nil
	require.NoError(t, o.start(t.Context(), 5))
	for _, n := range []uint64{0, maxTimestamps + 1, 1 << 63} {
		_, err := o.next(t.Context(), n)
		require.Equal(t, BadRequest, CodeOf(err))
	}
	first, err := o.next(t.Context(), maxTimestamps)
	require.NoError(t, err)
	second, err := o.next(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, first+maxTimestamps, second)
}

// An extension belongs to nobody: a client that gives up neither waits for it
// nor takes it away from the others.
func TestOracleClientGivesUpAlone(t *testing.T) {
	o, log := servingSlowOracle(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { _, err := o.next(ctx, 1); gone <- err }()
	top := <-log.asked
	stays := make(chan storage.Timestamp)
	go func() {
		ts, err := o.next(context.Background(), 1)
		if err != nil {
			ts = 0
		}
		stays <- ts
	}()
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	log.let <- nil
	ts := <-stays
	require.NotZero(t, ts)
	require.Less(t, ts, top)
	require.Empty(t, log.asked, "one extension for both")
}

// What an oracle persists for a life that has ended does not bring it back.
func TestOracleStaysStopped(t *testing.T) {
	o, log := servingSlowOracle(t)
	waited := make(chan error)
	go func() { _, err := o.next(context.Background(), 1); waited <- err }()
	<-log.asked
	o.stop()
	log.let <- nil
	require.Equal(t, NotOwner, CodeOf(<-waited))
	_, err := o.next(t.Context(), 1)
	require.Equal(t, NotOwner, CodeOf(err))

	// A new life does not wait for the extension of the old one.
	last := o.Issued()
	log.let <- nil
	require.NoError(t, o.start(t.Context(), last+7))
	ts, err := o.next(t.Context(), 1)
	require.NoError(t, err)
	require.Greater(t, ts, last+7)
}

// Time that runs out for an extension is not that of who waits for it: he is told that
// no timestamp could be had.
func TestOracleExtensionThatFails(t *testing.T) {
	o, log := servingSlowOracle(t)
	log.let <- fmt.Errorf("propose: %w", context.DeadlineExceeded)
	_, err := o.next(t.Context(), 1)
	require.Equal(t, Unavailable, CodeOf(err))
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	log.let <- nil
	_, err = o.next(t.Context(), 1)
	require.NoError(t, err)
}
