package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/bench/isolation/history"
)

// ddl is the load of that name: session 0 changes the table, the others its
// rows, each its own.
type ddl struct {
	*execution
	changes, looks atomic.Int64
	owners         []map[int32]*row

	mu       sync.Mutex
	problems []string
}

// row is what a row must hold: one of these values, nil for no row.
type row struct{ may []*int32 }

func newDDL(r *execution) load {
	l := &ddl{execution: r}
	for range r.sessions {
		l.owners = append(l.owners, map[int32]*row{})
	}
	return l
}

func (l *ddl) tables() []string {
	return []string{"CREATE TABLE things (id INT PRIMARY KEY, a INT NOT NULL, twice INT NOT NULL)"}
}

func (l *ddl) step(ctx context.Context, s *session) error {
	switch {
	case s.id == 0:
		return l.change(ctx, s)
	case s.random.IntN(10) == 0:
		return l.look(ctx, s)
	default:
		return l.write(ctx, s)
	}
}

// change makes one change after the other, in a circle.
func (l *ddl) change(ctx context.Context, s *session) error {
	circle := []string{
		"CREATE INDEX by_a ON things (a)",
		"ALTER TABLE things ADD COLUMN more INT NOT NULL DEFAULT 7",
		"CREATE UNIQUE INDEX by_both ON things (twice, id)",
		"ALTER TABLE things DROP COLUMN more",
		"DROP INDEX by_a ON things",
		"DROP INDEX by_both ON things",
	}
	statement := circle[l.changes.Load()%int64(len(circle))]
	outcome, err := s.attempt(ctx, autocommit, func() error {
		_, err := s.exec(ctx, statement)
		return err
	})
	// After a kill the change may be there already: then it cannot be made again.
	made := slices.Contains([]uint16{columnThere, indexThere, notThere}, code(err))
	if outcome == history.Committed || made && l.kill > 0 {
		l.changes.Add(1)
	}
	return ctx.Err()
}

const rowsOfSession = 50

func (l *ddl) write(ctx context.Context, s *session) error {
	id := idOf(int32(s.id*rowsOfSession + s.random.IntN(rowsOfSession)))
	rows := l.owners[s.id]
	if rows[id] == nil {
		rows[id] = &row{may: []*int32{nil}}
	}
	a := s.random.Int32N(1000)
	remove := s.random.IntN(5) == 0
	outcome, _ := s.attempt(ctx, autocommit, func() error {
		var err error
		if remove {
			_, err = s.exec(ctx, "DELETE FROM things WHERE id = ?", id)
		} else {
			_, err = s.exec(ctx, "INSERT INTO things (id, a, twice) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE a = VALUES(a), twice = VALUES(twice)", id, a, 2*a)
		}
		return err
	})
	value := &a
	if remove {
		value = nil
	}
	switch outcome {
	case history.Committed:
		rows[id].may = []*int32{value}
	case history.Unknown:
		rows[id].may = append(rows[id].may, value)
	}
	return ctx.Err()
}

// look compares the table with its indexes in one snapshot.
func (l *ddl) look(ctx context.Context, s *session) error {
	queries := []string{"SELECT id, a, twice FROM things", "SELECT id, a, twice FROM things WHERE a >= 0", "SELECT id, a, twice FROM things WHERE twice >= 0"}
	answers := make([]map[int32]int32, len(queries))
	outcome, _ := s.attempt(ctx, begin, func() error {
		for i, query := range queries {
			var err error
			if answers[i], err = l.rows(ctx, s, query); err != nil {
				return err
			}
		}
		return nil
	})
	if outcome != history.Committed {
		return ctx.Err()
	}
	l.looks.Add(1)
	for i := range queries[1:] {
		if difference := differ(answers[0], answers[i+1]); difference != "" && l.level.name != readCommitted {
			l.problem("%s and %s: %s", queries[0], queries[i+1], difference)
		}
	}
	return nil
}

func (l *ddl) rows(ctx context.Context, s *session, query string) (map[int32]int32, error) {
	found := map[int32]int32{}
	var id, a, twice int32
	err := s.each(ctx, []any{&id, &a, &twice}, func() {
		if _, again := found[id]; again || twice != 2*a {
			l.problem("%s: row %d holds %d and %d, or came twice", query, id, a, twice)
		}
		found[id] = a
	}, query)
	return found, err
}

func differ(one, other map[int32]int32) string {
	var text []string
	for _, id := range sorted(one) {
		if a, ok := other[id]; !ok || a != one[id] {
			text = append(text, fmt.Sprintf("row %d is %d and %d (%v)", id, one[id], a, ok))
		}
	}
	for _, id := range sorted(other) {
		if _, ok := one[id]; !ok {
			text = append(text, fmt.Sprintf("row %d is only in the second", id))
		}
	}
	return strings.Join(text[:min(len(text), 3)], ", ")
}

func (l *ddl) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.problems) < 5 {
		l.problems = append(l.problems, fmt.Sprintf(format, args...))
	}
}

func (l *ddl) finish(ctx context.Context, s *session) error {
	for _, query := range []string{"SELECT id, a, twice FROM things", "SELECT id, a, twice FROM things WHERE a >= 0"} {
		found, err := l.rows(ctx, s, query)
		if err != nil {
			return err
		}
		for _, rows := range l.owners {
			for id, r := range rows {
				a, ok := found[id]
				if !r.allows(a, ok) {
					l.problem("%s: row %d is %d (%v), which nobody was told", query, id, a, ok)
				}
			}
		}
	}
	return nil
}

func (r *row) allows(a int32, there bool) bool {
	for _, may := range r.may {
		if may == nil && !there || may != nil && there && *may == a {
			return true
		}
	}
	return false
}

func (l *ddl) verdict() (string, []string) {
	if l.changes.Load() == 0 {
		l.problem("the table never changed")
	}
	return fmt.Sprintf("%d changes of the table, %d comparisons", l.changes.Load(), l.looks.Load()), l.problems
}
