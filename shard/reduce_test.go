package shard

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// listed is a reduction that keeps all rows: what it holds is what a read returns.
type listed struct {
	rows  []string
	bytes int
	fail  error
	full  int
}

func (l *listed) Add(key, value []byte) error {
	l.rows = append(l.rows, fmt.Sprintf("%s=%s", key, value))
	return l.fail
}
func (l *listed) Size() int              { return l.bytes * len(l.rows) }
func (l *listed) Full() bool             { return l.full > 0 && len(l.rows) >= l.full }
func (l *listed) Result(b []byte) []byte { return append(b, fmt.Sprint(l.rows)...) }

// reduceAll reduces a whole shard.
func (w *trio) reduceAll(r *Replica, at storage.Timestamp) ([]string, error) {
	l := &listed{}
	_, err := r.Reduce(w.ctx(), &ReduceRequest{At: at}, l)
	return l.rows, err
}

// A reduction holds what a read at its timestamp returns, waits as it does for a vote
// that is undecided, and goes on behind it with the outcome.
func TestReductionWaitsForTheOutcome(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprint("commit ", commit), func(t *testing.T) {
			w := newTrio(t)
			a := w.shards[1][0]
			for _, k := range []string{"a", "x", "z"} {
				w.put(a, k, "old")
			}
			id := w.begin()
			before := w.now()
			vote, err := a.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(a, id, "x"), "x", "new")})
			require.NoError(t, err)
			rows, err := w.reduceAll(a, before)
			require.NoError(t, err)
			require.Equal(t, []string{"a=old", "x=old", "z=old"}, rows)
			short, cancel := context.WithTimeout(w.ctx(), 10*time.Millisecond)
			_, err = a.Reduce(short, &ReduceRequest{At: w.now()}, &listed{})
			cancel()
			require.Error(t, err, "neither the old nor the new value can be told yet")
			at, done := w.now(), make(chan []string, 1)
			go func() {
				rows, err := w.reduceAll(a, at)
				if err != nil {
					rows = []string{err.Error()}
				}
				done <- rows
			}()
			want, outcome := "x=old", storage.Timestamp(0)
			if commit {
				want, outcome = "x=new", vote.Prepare
			}
			require.NoError(t, a.Resolve(w.ctx(), &ResolveRequest{Txn: id, Commit: outcome}))
			require.Equal(t, []string{"a=old", want, "z=old"}, <-done)
		})
	}
}

// A page ends when there is much in it, and the next one begins behind it.
func TestReductionPages(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	for i := range 5 {
		w.put(a, fmt.Sprint("k", i), "v")
	}
	at := w.now()
	var all []string
	q := &ReduceRequest{At: at, Span: Span{Lo: storage.Key("k1")}}
	for range 2 {
		l := &listed{bytes: reduceBytes / 2}
		page, err := a.Reduce(w.ctx(), q, l)
		require.NoError(t, err)
		require.True(t, page.More)
		require.EqualValues(t, 2, page.Rows)
		all, q.Span.Lo = append(all, l.rows...), page.Resume
	}
	l := &listed{}
	page, err := a.Reduce(w.ctx(), q, l)
	require.NoError(t, err)
	require.False(t, page.More)
	require.Empty(t, l.rows)
	require.Equal(t, []string{"k1=v", "k2=v", "k3=v", "k4=v"}, all)

	l = &listed{full: 3}
	_, err = a.Reduce(w.ctx(), &ReduceRequest{At: at}, l)
	require.NoError(t, err)
	require.Len(t, l.rows, 3, "nothing more is read when nothing more is wanted")
}

// counted is a reduction to which rows are all alike.
type counted struct {
	listed
	n int
}

func (c *counted) Counts() bool  { return true }
func (c *counted) AddRows(n int) { c.n += n }

// Rows that are only counted are the rows that are listed, in one page and in many; where a
// vote may matter they are taken one by one.
func TestCountingReduction(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	for i := range 5 {
		w.put(a, fmt.Sprint("k", i), "v")
	}
	w.put(a, "k1", "again")
	at := w.now()
	w.put(a, "later", "v")
	c := &counted{}
	page, err := a.Reduce(w.ctx(), &ReduceRequest{At: at}, c)
	require.NoError(t, err)
	require.Equal(t, 5, c.n)
	require.Equal(t, uint64(5), page.Rows)
	require.False(t, page.More)
	for most := uint64(1); most <= 6; most++ {
		c := &counted{}
		var lo storage.Key
		for pages := 0; ; pages++ {
			f := &fold{span: Span{Lo: lo}, at: at, reduction: c, most: most}
			_, err := a.readInto(w.ctx(), &ReadRequest{At: at, Span: &f.span}, false, f)
			require.NoError(t, err)
			if !f.more {
				break
			}
			require.Equal(t, most, f.rows)
			lo = f.resume
		}
		require.Equal(t, 5, c.n, "pages of %d", most)
	}
	id := w.begin()
	_, err = a.Prepare(w.ctx(), &PrepareRequest{Participants: []ID{1, 2}, OnePCRequest: *w.request(id, w.lock(a, id, "k2"), "k2", "new")})
	require.NoError(t, err)
	c = &counted{}
	_, err = a.Reduce(w.ctx(), &ReduceRequest{At: at}, c)
	require.NoError(t, err)
	require.Equal(t, 5, c.n+len(c.rows))
}

// What a reduction does not understand is no answer, nor is what nobody waits for.
func TestReductionFails(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	w.put(a, "k", "v")
	_, err := a.Reduce(w.ctx(), &ReduceRequest{At: w.now()}, &listed{fail: errors.New("damaged")})
	require.Equal(t, BadRequest, CodeOf(err))
	_, err = a.Reduce(w.ctx(), &ReduceRequest{At: storage.MaxTimestamp}, &listed{})
	require.Error(t, err, "the oracle did not issue it")
}

// evens is a filter that wants every second row, and of that the first byte.
type evens struct{ n int }

func (e *evens) Row(value []byte) ([]byte, bool, error) {
	e.n++
	return value[:1], e.n%2 == 0, nil
}

// A filtered read brings the rows that are wanted, and ends a page where enough rows were
// looked at, or found.
func TestFilteredReads(t *testing.T) {
	w := newTrio(t)
	a := w.shards[1][0]
	for i := range 9 {
		w.put(a, fmt.Sprint("k", i), fmt.Sprint(i, "v"))
	}
	at := w.now()
	for _, c := range []struct {
		visit, limit, bytes int
		want                []string
	}{
		{0, 0, 1 << 20, []string{"1357"}},
		{3, 0, 1 << 20, []string{"1", "4", "7"}},
		{0, 2, 1 << 20, []string{"13", "57", ""}},
		{0, 0, 1, []string{"1", "3", "5", "7", ""}},
		{1, 0, 1 << 20, []string{"", "", "", "", "", "", "", "", "", ""}},
	} {
		var pages []string
		q := &FilteredRead{Read: ReadRequest{At: at, Span: &Span{}, Limit: c.limit, ByteLimit: c.bytes}, Visit: c.visit}
		for {
			page, err := a.ReadFiltered(w.ctx(), q, &evens{})
			require.NoError(t, err)
			text := ""
			for _, r := range page.Rows {
				require.True(t, r.Found)
				text += string(r.Value)
			}
			pages = append(pages, text)
			if !page.More {
				break
			}
			q.Read.Span = &Span{Lo: page.Resume}
		}
		if c.visit == 3 {
			pages = pages[:3]
		}
		require.Equal(t, c.want, pages, "%+v", c)
	}
}
