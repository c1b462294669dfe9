package shard_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// readsSent counts the messages that ask for rows.
type readsSent struct {
	mu           sync.Mutex
	single, many int
}

// watchReads counts from now on.
func (c *testCluster) watchReads() *readsSent {
	w := &readsSent{}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose = func(request []byte) bool {
		single, many := shard.Reads(request)
		w.mu.Lock()
		defer w.mu.Unlock()
		if single {
			w.single++
		}
		if many {
			w.many++
		}
		return false
	}
	return w
}

// sent returns what was sent since it was asked last.
func (w *readsSent) sent() (single, many int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	single, many = w.single, w.many
	w.single, w.many = 0, 0
	return single, many
}

// everywhere reads the key "k" of all shards through a node, again where an owner is
// still being looked for.
func (c *testCluster) everywhere(at int) map[shard.ID]string {
	c.t.Helper()
	var got map[shard.ID]string
	c.until(func() bool {
		reads, err := c.readAll(at)
		if err != nil {
			return false
		}
		got = map[shard.ID]string{}
		for _, q := range reads {
			if code := shard.CodeOf(q.Err); code == shard.NotOwner || code == shard.Unavailable {
				return false
			}
			require.NoError(c.t, q.Err, "shard %d", q.Shard)
			require.Len(c.t, q.Response.Rows, 1, "shard %d", q.Shard)
			got[q.Shard] = string(q.Response.Rows[0].Value)
		}
		return true
	})
	return got
}

func (c *testCluster) readAll(at int) ([]shard.ShardRead, error) {
	r := c.node(at).node.Router()
	ts, err := r.Timestamp(c.ctx())
	if err != nil {
		return nil, err
	}
	same := &shard.ReadRequest{At: ts, Span: &shard.Span{Lo: []byte("k"), Hi: []byte("l")}}
	var reads []shard.ShardRead
	for s := shard.ID(0); s <= 4; s++ {
		reads = append(reads, shard.ShardRead{Shard: s, Request: same})
	}
	reads[4].Request = &shard.ReadRequest{At: ts, Keys: keys("k")}
	r.ReadMany(c.ctx(), reads)
	return reads, nil
}

// until tries on this goroutine, for a minute and the last try.
func (c *testCluster) until(good func() bool) {
	c.t.Helper()
	for begun := time.Now(); !good(); time.Sleep(10 * time.Millisecond) {
		require.Less(c.t, time.Since(begun), time.Minute)
	}
}

func (c *testCluster) fill() map[shard.ID]string {
	want := map[shard.ID]string{}
	for s := shard.ID(0); s <= 4; s++ {
		want[s] = fmt.Sprint("of ", s)
		c.write(1, s, "k", want[s])
	}
	return want
}

// Reads on many shards cost one message to each other node, one for a shard that is
// alone there, and bring what single ones do; also where owners have moved unheard of,
// or are gone.
func TestReadManyAsksEachNodeOnce(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 4)
	c.spread(1, 2, 3, 4)
	want := c.fill()
	w := c.watchReads()
	c.until(func() bool { // owners may still move, and not everybody knows at once
		sent := 0
		for at := 1; at <= 4; at++ {
			w.sent()
			require.Equal(t, want, c.everywhere(at))
			single, many := w.sent()
			if single+many > 3 { // there are three other nodes
				return false
			}
			sent += many
		}
		return sent > 0
	})

	moved := c.node(1).node.State()
	for _, p := range moved.Shards {
		for at := 1; at <= 4; at++ {
			c.node(at).node.Router().Mislead(p.Shard, p.Owner%4+1) // who is no owner
		}
	}
	for at := 1; at <= 4; at++ {
		require.Equal(t, want, c.everywhere(at))
		require.Equal(t, want, c.everywhere(at))
	}

	dead := c.crash(3)
	for _, at := range []int{1, 2, 4} {
		require.Equal(t, want, c.everywhere(at))
	}
	c.start(dead)
	require.Equal(t, want, c.everywhere(3))
}

// While a node is there that does not know the message, it is not sent.
func TestReadManyWaitsForItsVersion(t *testing.T) {
	t.Parallel()
	before := shard.Versions{Oldest: 1, Newest: shard.VersionReadMany - 1}
	c := newTestClusterOf(t, 2, before)
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	c.settle(1, 2)
	want := c.fill()
	require.NoError(t, c.replace(1, shard.Supported()))
	c.hears(1, 1, shard.Supported())
	w := c.watchReads()
	for at := 1; at <= 2; at++ {
		require.Equal(t, want, c.everywhere(at))
	}
	single, many := w.sent()
	require.Zero(t, many)
	require.Positive(t, single)

	require.NoError(t, c.replace(2, shard.Supported()))
	c.reaches(shard.VersionReadMany, 1, 2)
	c.settle(1, 2)
	c.until(func() bool {
		for at := 1; at <= 2; at++ {
			require.Equal(t, want, c.everywhere(at))
		}
		_, many = w.sent()
		return many > 0
	})
}

// counted is a reduction that counts rows.
type counted struct{ n int }

func (c *counted) Add(_, _ []byte) error  { c.n++; return nil }
func (c *counted) Size() int              { return 1 }
func (c *counted) Full() bool             { return false }
func (c *counted) Result(b []byte) []byte { return fmt.Append(b, c.n) }

// counting is the Reducer of test nodes.
func counting(program []byte) (shard.Reduction, error) {
	if string(program) != "count" {
		return nil, fmt.Errorf("program %q", program)
	}
	return &counted{}, nil
}

// counts has each shard count its rows, through a node.
func (c *testCluster) counts(at int) (sum string) {
	r := c.node(at).node.Router()
	for s := shard.ID(1); s <= 4; s++ {
		c.until(func() bool {
			ts, err := r.Timestamp(c.ctx())
			if err != nil {
				return false
			}
			q := &shard.ReduceRequest{At: ts, Span: shard.Span{Lo: []byte("k"), Hi: []byte("l")}, Program: []byte("count")}
			page, err := r.Reduce(c.ctx(), s, q)
			if err == nil {
				sum += string(page.Result)
			}
			return err == nil
		})
	}
	return sum
}

// Rows are reduced where they are; while a node is there that does not know how, none
// asks for it.
func TestReduceWaitsForItsVersion(t *testing.T) {
	t.Parallel()
	before := shard.Versions{Oldest: 1, Newest: shard.VersionReduce - 1}
	c := newTestClusterOf(t, 2, before)
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	c.settle(1, 2)
	c.fill()
	require.NoError(t, c.replace(1, shard.Supported()))
	c.hears(1, 1, shard.Supported())
	require.False(t, c.node(1).node.Router().Reduces())
	require.NoError(t, c.replace(2, shard.Supported()))
	c.reaches(shard.VersionReduce, 1, 2)
	for at := 1; at <= 2; at++ {
		c.until(c.node(at).node.Router().Reduces)
		require.Equal(t, "1111", c.counts(at))
	}
	_, err := c.node(1).node.Router().Reduce(c.ctx(), 1, &shard.ReduceRequest{Program: []byte("other")})
	require.Equal(t, shard.BadRequest, shard.CodeOf(err))
}

// While a node is there that does not know how, no intervals are given back one by one.
func TestGivingBackWaitsForItsVersion(t *testing.T) {
	t.Parallel()
	before := shard.Versions{Oldest: 1, Newest: shard.VersionGiveBack - 1}
	c := newTestClusterOf(t, 2, before)
	require.NoError(t, c.replace(1, shard.Supported()))
	c.hears(1, 1, shard.Supported())
	require.False(t, c.node(1).node.Router().ReleasesSpans())
	require.NoError(t, c.replace(2, shard.Supported()))
	c.reaches(shard.VersionGiveBack, 1, 2)
	for at := 1; at <= 2; at++ {
		c.until(c.node(at).node.Router().ReleasesSpans)
	}
}

// What does not fit into one answer is asked for again, not taken for empty.
func TestReadManyBoundsItsAnswer(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 1)
	value := string(bytes.Repeat([]byte("x"), shard.ReadManyBytes*2/5))
	for s := shard.ID(0); s <= 4; s++ {
		c.write(1, s, "k", value)
	}
	for s, got := range c.everywhere(1) {
		require.True(t, got == value, "shard %d has %d bytes", s, len(got))
	}
}

// Errors are those of the shard that they belong to, and concern no other.
func TestReadManyKeepsErrorsApart(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 1)
	c.fill()
	r := c.node(1).node.Router()
	ts, err := r.Timestamp(c.ctx())
	require.NoError(t, err)
	early := &shard.ReadRequest{At: ts + 1<<40, Keys: keys("k")} // nobody has drawn it
	reads := []shard.ShardRead{{Shard: 1, Request: &shard.ReadRequest{At: ts, Keys: keys("k")}}, {Shard: 2, Request: early},
		{Shard: 3, Request: &shard.ReadRequest{At: ts, Keys: keys("k")}}}
	r.ReadMany(c.ctx(), reads)
	require.Equal(t, "of 1", string(reads[0].Response.Rows[0].Value))
	require.Equal(t, shard.BadRequest, shard.CodeOf(reads[1].Err), "%v", reads[1].Err)
	require.Nil(t, reads[1].Response)
	require.Equal(t, "of 3", string(reads[2].Response.Rows[0].Value))

	// A vote that nobody resolves is in the way on shard 2 alone.
	lock, err := r.Lock(c.ctx(), 2, &shard.LockRequest{Txn: storage.TxnID{Start: ts, Gateway: 1 << 40, Seq: 1}, Mode: shard.LockExclusive, Keys: keys("k")})
	require.NoError(t, err)
	_, err = r.Prepare(c.ctx(), 2, &shard.PrepareRequest{OnePCRequest: shard.OnePCRequest{Txn: storage.TxnID{Start: ts, Gateway: 1 << 40, Seq: 1},
		Floor: ts, Token: lock.Token, Writes: put("k", "new")}, Participants: []shard.ID{2, 3}})
	require.NoError(t, err)
	ts, err = r.Timestamp(c.ctx())
	require.NoError(t, err)
	for i := range reads {
		reads[i] = shard.ShardRead{Shard: reads[i].Shard, Request: &shard.ReadRequest{At: ts, Keys: keys("k")}}
	}
	ctx, cancel := context.WithCancel(c.ctx())
	cancel()
	given := slices.Clone(reads)
	r.ReadMany(ctx, given)
	if shard.CodeOf(given[1].Err) != shard.Undecided { // it waits for two seconds at most
		require.ErrorIs(t, given[1].Err, context.Canceled)
	}
	r.ReadMany(c.ctx(), reads)
	require.Equal(t, "of 1", string(reads[0].Response.Rows[0].Value))
	require.Equal(t, shard.Undecided, shard.CodeOf(reads[1].Err), "%v", reads[1].Err)
	require.Equal(t, "of 3", string(reads[2].Response.Rows[0].Value))
}
