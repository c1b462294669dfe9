package shard

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// farOracle is the oracle on another node. A test may hold its answers back, after
// the timestamps were drawn.
type farOracle struct {
	last     atomic.Uint64
	requests atomic.Int64
	drawn    chan struct{}
	answer   chan error // nil: answers go at once
}

func (o *farOracle) draw(n uint64) storage.Timestamp { return storage.Timestamp(o.last.Add(n) - n + 1) }

// Call implements Transport.
func (o *farOracle) Call(ctx context.Context, _ NodeAddr, request []byte) ([]byte, error) {
	o.requests.Add(1)
	var e envelope
	if err := e.decode(request); err != nil {
		return nil, err
	}
	q := &TimestampRequest{}
	if err := q.Decode(e.body); err != nil {
		return nil, err
	}
	first := o.draw(uint64(q.Count))
	if o.answer != nil {
		o.drawn <- struct{}{}
		if err := <-o.answer; err != nil {
			return nil, err
		}
	}
	return (&TimestampResponse{First: first}).AppendBinary([]byte{formatVersion, statusOK}), nil
}

func newFarRouter(o *farOracle) *Router {
	r := &Router{self: "1", directory: NewDirectory(), transport: o, server: &Server{Replica: func(ID) *Replica { return nil }}}
	r.directory.Set(System, "2")
	return r
}

// ask draws a timestamp beside the test, which goes on when the request has a place.
func (r *Router) ask(ctx context.Context) chan drawnTimestamp {
	answer := make(chan drawnTimestamp, 1)
	b, place := r.timestamps.join(r.drawRemote)
	go func() {
		select {
		case <-b.done:
			answer <- drawnTimestamp{b.first + storage.Timestamp(place), b.err}
		case <-ctx.Done():
			answer <- drawnTimestamp{0, ctx.Err()}
		}
	}()
	return answer
}

type drawnTimestamp struct {
	at  storage.Timestamp
	err error
}

// Those who ask while a request is under way share the next one.
func TestTimestampsShareRequests(t *testing.T) {
	o := &farOracle{drawn: make(chan struct{}, 99), answer: make(chan error)}
	r := newFarRouter(o)
	first := r.ask(context.Background())
	arrives(t, o.drawn)
	var others []chan drawnTimestamp
	for range 50 {
		others = append(others, r.ask(context.Background()))
	}
	o.answer <- nil
	require.NoError(t, arrives(t, first).err)
	close(o.answer)
	seen := map[storage.Timestamp]bool{}
	for _, other := range others {
		answer := arrives(t, other)
		require.NoError(t, answer.err)
		require.False(t, seen[answer.at], "issued twice")
		seen[answer.at] = true
	}
	require.Less(t, o.requests.Load(), int64(50), "they share")
	require.Equal(t, r.Issued(), storage.Timestamp(o.last.Load()))
}

// A request that is under way, to a node that is gone, does not outlive the node that sent it.
func TestTimestampsEndWithTheNode(t *testing.T) {
	life, end := context.WithCancel(context.Background())
	s := &timestamps{life: life}
	asked := make(chan struct{}, 9)
	ask := func(ctx context.Context, _ uint64) (storage.Timestamp, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return 0, ctx.Err()
	}
	first, _ := s.join(ask)
	arrives(t, asked)
	next, _ := s.join(ask)
	end()
	s.close()
	for _, b := range []*timestampBatch{first, next} {
		arrives(t, b.done)
		require.Equal(t, Unavailable, CodeOf(b.err))
	}
	_, err := s.draw(context.Background(), ask)
	require.Equal(t, Unavailable, CodeOf(err))
}

// H12: nothing that was drawn before a request arrived is given to it, though it be
// left over.
func TestTimestampsLeftOverAreLeft(t *testing.T) {
	o := &farOracle{drawn: make(chan struct{}, 9), answer: make(chan error)}
	r := newFarRouter(o)
	ctx, cancel := context.WithCancel(context.Background())
	gone, stays := r.ask(ctx), r.ask(context.Background())
	arrives(t, o.drawn)
	cancel()
	require.ErrorIs(t, arrives(t, gone).err, context.Canceled)
	acked := o.draw(1) // somebody else commits, and tells the next client
	later := r.ask(context.Background())
	close(o.answer)
	require.NoError(t, arrives(t, stays).err)
	answer := arrives(t, later)
	require.NoError(t, answer.err)
	require.Greater(t, answer.at, acked)
}

// A request on its way to a node that is gone holds nobody up for long, and what
// goes wrong with one is told to those who shared it only.
func TestTimestampsDoNotWaitForTheLost(t *testing.T) {
	o := &farOracle{drawn: make(chan struct{}, 9), answer: make(chan error)}
	r := newFarRouter(o)
	lost := r.ask(context.Background())
	arrives(t, o.drawn)
	second := r.ask(context.Background())
	arrives(t, o.drawn) // though the first is not answered
	o.answer <- errors.New("gone")
	o.answer <- nil
	results := []drawnTimestamp{arrives(t, lost), arrives(t, second)}
	require.True(t, (results[0].err == nil) != (results[1].err == nil), "%v", results)
	for _, result := range results {
		if result.err != nil {
			require.Equal(t, Unavailable, CodeOf(result.err))
		}
	}
	close(o.answer)
	_, err := r.Timestamp(context.Background())
	require.NoError(t, err)
}

// Many who draw at once get what ascends for each of them.
func TestTimestampsAscend(t *testing.T) {
	o := &farOracle{}
	r := newFarRouter(o)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[storage.Timestamp]bool{}
	for range 8 {
		wg.Go(func() {
			last := storage.Timestamp(0)
			for range 500 {
				before := storage.Timestamp(o.last.Load())
				at, err := r.Timestamp(context.Background())
				if err != nil || at <= last || at <= before {
					t.Errorf("%d after %d and %d: %v", at, last, before, err)
				}
				last = at
				mu.Lock()
				if seen[at] {
					t.Errorf("%d twice", at)
				}
				seen[at] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests for %d timestamps", o.requests.Load(), len(seen))
}
