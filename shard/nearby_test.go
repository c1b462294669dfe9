package shard

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// What is remembered of draws is what tells most: the later asked for and the lower,
// the better.
func TestDraws(t *testing.T) {
	for name, test := range map[string]struct {
		in, want draws
	}{
		"ascending":                         {draws{{1, 10}, {2, 20}}, draws{{1, 10}, {2, 20}}},
		"answers out of order":              {draws{{2, 20}, {1, 10}}, draws{{1, 10}, {2, 20}}},
		"a later question, a lower answer":  {draws{{1, 20}, {2, 10}}, draws{{2, 10}}},
		"the same the other way about":      {draws{{2, 10}, {1, 20}}, draws{{2, 10}}},
		"one is better than several":        {draws{{1, 20}, {2, 30}, {3, 40}, {4, 15}}, draws{{4, 15}}},
		"one between two":                   {draws{{1, 10}, {5, 50}, {3, 30}}, draws{{1, 10}, {3, 30}, {5, 50}}},
		"one between two, below the second": {draws{{1, 10}, {5, 50}, {3, 60}}, draws{{1, 10}, {5, 50}}},
	} {
		t.Run(name, func(t *testing.T) {
			var d draws
			for _, next := range test.in {
				d = d.add(next)
			}
			require.Equal(t, test.want, d)
		})
	}
	var d draws
	for i := range 2 * nearbyDraws {
		d = d.add(draw{time.Duration(i), storage.Timestamp(i)})
	}
	require.Len(t, d, nearbyDraws)
	require.EqualValues(t, 2*nearbyDraws-1, d[nearbyDraws-1].ts)
}

// A snapshot is as old as the question whose answer it is at or above.
func TestStaleness(t *testing.T) {
	d := draws{{10 * time.Second, 100}, {20 * time.Second, 200}}
	for _, test := range []struct {
		ts        storage.Timestamp
		now       time.Duration
		staleness time.Duration
		want      bool
	}{
		{99, 10 * time.Second, time.Hour, false}, // nothing is known of it
		{100, 19 * time.Second, 10 * time.Second, true},
		{199, 19 * time.Second, 10 * time.Second, true},
		{199, 21 * time.Second, 10 * time.Second, false},
		{200, 29 * time.Second, 10 * time.Second, true},
		{300, 29 * time.Second, 10 * time.Second, true},
		{300, 30 * time.Second, 10 * time.Second, false}, // this clock may be slow
	} {
		require.Equal(t, test.want, d.shows(test.ts, test.now, test.staleness), "%+v", test)
	}
}

// nearbyTrio is the node of the second replica of a trio.
func nearbyTrio(t *testing.T) (*trio, *Router, *time.Duration) {
	w := newTrio(t)
	directory := NewDirectory()
	r := &Router{self: "2", directory: directory, server: &Server{}, encode: true, shards: []ID{1}}
	r.server.Replica = func(s ID) *Replica {
		three := w.shards[s]
		return three[1]
	}
	life, end := context.WithCancel(context.Background())
	n := newNearby(life, r)
	now := time.Hour
	n.clock = func() time.Duration { return now }
	r.nearby = n
	t.Cleanup(func() {
		end()
		n.close()
	})
	return w, r, &now
}

// The choice is what is closed on all the shards that are wanted, if that is young
// enough and the schema is known.
func TestChooseASnapshot(t *testing.T) {
	w, r, now := nearbyTrio(t)
	n := r.nearby
	n.mu.running = true // the test is the loop
	_, ok := n.choose(time.Hour, 0)
	require.False(t, ok, "nobody has wanted anything")
	n.want(1)
	_, ok = n.choose(time.Hour, 0)
	require.False(t, ok, "nothing is closed")
	asked := *now
	at := w.closeNow(w.shards[1][0])
	_, ok = n.choose(time.Hour, 0)
	require.False(t, ok, "nobody knows how old it is")
	n.mu.draws = n.mu.draws.add(draw{asked, at})
	*now += 4 * time.Second
	got, ok := n.choose(5*time.Second, 0)
	require.True(t, ok)
	require.Equal(t, at, got)
	_, ok = n.choose(3*time.Second, 0)
	require.False(t, ok, "it is too old")
	_, ok = n.choose(5*time.Second, at-1)
	require.False(t, ok, "the schema is known up to before")
	n.want(System)
	_, ok = n.choose(5*time.Second, 0)
	require.False(t, ok, "nothing is closed on the other shard")
	*now += nearbyKept
	got, ok = n.choose(time.Hour, 0)
	require.False(t, ok, "those that were wanted last count")
	delete(n.mu.wanted, System)
	got, ok = n.choose(time.Hour, 0)
	require.True(t, ok)
	require.Equal(t, at, got)
}

// Who asks for nothing costs nothing: the loop ends. How often it closes depends on
// how stale reads may be.
func TestPaceOfClosing(t *testing.T) {
	_, r, now := nearbyTrio(t)
	n := r.nearby
	n.mu.running = true // the test is the loop
	n.want(1)
	every, ok := n.pace()
	require.True(t, ok)
	require.Equal(t, nearbySlowest, every, "reads of a fixed point in the past")
	for _, test := range []struct{ staleness, want time.Duration }{
		{time.Hour, nearbySlowest}, {2 * time.Second, time.Second / 2}, {time.Hour, time.Second / 2}, {1, nearbyFastest},
	} {
		n.choose(test.staleness, 0)
		every, ok = n.pace()
		require.True(t, ok)
		require.Equal(t, test.want, every)
	}
	*now += nearbyKept
	_, ok = n.pace()
	require.False(t, ok)
	require.False(t, n.mu.running)
}

// The age of a snapshot counts from the question for its timestamp: who commits
// between the draw and the answer is not in it.
func TestStalenessCountsFromTheQuestion(t *testing.T) {
	w, r, now := nearbyTrio(t)
	r.self, r.encode = "1", false
	r.directory.Add(System, "1")
	r.server.Replica = func(s ID) *Replica {
		*now += time.Second // on the way to the oracle
		three := w.shards[s]
		return three[0]
	}
	asked := *now
	ts, err := r.StaleTimestamp(w.ctx(), time.Hour, 0)
	require.NoError(t, err)
	require.Less(t, asked, *now)
	since, ok := r.nearby.mu.draws.since(ts)
	require.True(t, ok)
	require.Equal(t, asked, since)
}
