package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/bench/isolation/history"
)

// monotonic is the load of that name: a counter that is read, written one
// higher, and whose steps are entered in the same transaction.
type monotonic struct {
	*execution
	acknowledged atomic.Int64 // the greatest value that somebody was told
	steps        []int64      // by session: committed
	unknown      []int64
	back         atomic.Int64
	problems     []string
}

func newMonotonic(r *execution) load {
	return &monotonic{execution: r, steps: make([]int64, r.sessions), unknown: make([]int64, r.sessions)}
}

func (l *monotonic) tables() []string {
	return []string{
		"CREATE TABLE counter (id INT PRIMARY KEY, n BIGINT NOT NULL)",
		"CREATE TABLE steps (n BIGINT PRIMARY KEY, session INT NOT NULL)",
		"INSERT INTO counter VALUES (1, 0)",
	}
}

func (l *monotonic) step(ctx context.Context, s *session) error {
	if s.random.IntN(2) == 0 {
		return l.read(ctx, s)
	}
	return s.retry(ctx, func() (history.Outcome, error) {
		var n int64
		outcome, err := s.attempt(ctx, begin, func() (err error) {
			n, err = l.raise(ctx, s)
			return err
		})
		switch outcome {
		case history.Committed:
			l.steps[s.id]++
			l.told(n)
		case history.Unknown:
			l.unknown[s.id]++
		}
		return outcome, err
	})
}

func (l *monotonic) raise(ctx context.Context, s *session) (int64, error) {
	var n int64
	if err := s.each(ctx, []any{&n}, func() {}, "SELECT n FROM counter WHERE id = 1"); err != nil {
		return 0, err
	}
	n++
	if _, err := s.exec(ctx, "UPDATE counter SET n = ? WHERE id = 1", n); err != nil {
		return 0, err
	}
	_, err := s.exec(ctx, "INSERT INTO steps VALUES (?, ?)", n, s.id)
	return n, err
}

// read must not see less than was told to anyone before it began.
func (l *monotonic) read(ctx context.Context, s *session) error {
	least := l.acknowledged.Load()
	var n int64
	outcome, _ := s.attempt(ctx, autocommit, func() error {
		return s.each(ctx, []any{&n}, func() {}, "SELECT n FROM counter WHERE id = 1")
	})
	if outcome == history.Committed {
		if n < least {
			l.back.Add(1)
		}
		l.told(n)
	}
	return ctx.Err()
}

func (l *monotonic) told(n int64) {
	for old := l.acknowledged.Load(); n > old && !l.acknowledged.CompareAndSwap(old, n); old = l.acknowledged.Load() {
	}
}

func (l *monotonic) finish(ctx context.Context, s *session) error {
	var counter int64
	if err := s.each(ctx, []any{&counter}, func() {}, "SELECT n FROM counter WHERE id = 1"); err != nil {
		return err
	}
	by := make([]int64, l.sessions)
	want, n, session := int64(0), int64(0), 0
	err := s.each(ctx, []any{&n, &session}, func() {
		want++
		if n != want && len(l.problems) < 5 {
			l.problems = append(l.problems, fmt.Sprintf("step %d stands where %d is due", n, want))
			want = n
		}
		by[session]++
	}, "SELECT n, session FROM steps ORDER BY n")
	if err != nil {
		return err
	}
	if counter != want || counter < l.acknowledged.Load() {
		l.problems = append(l.problems, fmt.Sprintf("the counter is %d, the last step %d, acknowledged was %d", counter, want, l.acknowledged.Load()))
	}
	for id := range by {
		if by[id] < l.steps[id] || by[id] > l.steps[id]+l.unknown[id] {
			l.problems = append(l.problems, fmt.Sprintf("session %d has %d steps; %d were acknowledged, %d unknown", id, by[id], l.steps[id], l.unknown[id]))
		}
	}
	return nil
}

func (l *monotonic) verdict() (string, []string) {
	if n := l.back.Load(); n > 0 {
		l.problems = append(l.problems, fmt.Sprintf("%d reads saw less than was acknowledged before", n))
	}
	return fmt.Sprintf("counted to %d", l.acknowledged.Load()), l.problems
}
