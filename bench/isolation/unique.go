package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/bench/isolation/history"
)

// unique is the load of that name: all sessions want the same value of a unique
// index at about the same time, in letters that the collation takes for equal.
type unique struct {
	*execution
	tickets atomic.Int64
	rows    atomic.Int64

	mu       sync.Mutex
	values   map[int64]*wanted
	problems []string
}

// wanted is what became of the wishes for one value.
type wanted struct{ won, lost, unknown int }

func newUnique(r *execution) load { return &unique{execution: r, values: map[int64]*wanted{}} }

func (l *unique) tables() []string {
	return []string{"CREATE TABLE names (id BIGINT PRIMARY KEY, name VARCHAR(40) NOT NULL, UNIQUE KEY by_name (name))"}
}

func (l *unique) step(ctx context.Context, s *session) error {
	value := (l.tickets.Add(1) - 1) / int64(l.sessions)
	name := fmt.Sprintf("name%d", value)
	if s.random.IntN(2) == 0 {
		name = strings.ToUpper(name)
	}
	way := s.random.IntN(4)
	how := begin
	if way == 0 {
		how = autocommit
	}
	rollback := way == 1 && s.random.IntN(2) == 0
	return s.retry(ctx, func() (history.Outcome, error) {
		outcome, err := s.attempt(ctx, how, func() error {
			if err := l.take(ctx, s, way, name); err != nil {
				return err
			}
			if rollback {
				return errRollback
			}
			return nil
		})
		l.enter(value, outcome, code(err))
		return outcome, err
	})
}

// take inserts the name, or renames a row to it.
func (l *unique) take(ctx context.Context, s *session, way int, name string) error {
	id := l.rows.Add(1)
	if way < 3 {
		_, err := s.exec(ctx, "INSERT INTO names VALUES (?, ?)", id, name)
		return err
	}
	if _, err := s.exec(ctx, "INSERT INTO names VALUES (?, ?)", id, fmt.Sprintf("own%d", id)); err != nil {
		return err
	}
	_, err := s.exec(ctx, "UPDATE names SET name = ? WHERE id = ?", name, id)
	return err
}

func (l *unique) enter(value int64, outcome history.Outcome, number uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.values[value]
	if w == nil {
		w = &wanted{}
		l.values[value] = w
	}
	switch {
	case outcome == history.Committed:
		w.won++
	case outcome == history.Unknown:
		w.unknown++
	case number == duplicateKey:
		w.lost++
	}
}

func (l *unique) finish(ctx context.Context, s *session) error {
	for _, query := range []string{"SELECT name FROM names", "SELECT name FROM names WHERE name >= 'name' AND name < 'namf'"} {
		there := map[int64]int{}
		var name string
		err := s.each(ctx, []any{&name}, func() {
			var value int64
			if n, _ := fmt.Sscanf(strings.ToLower(name), "name%d", &value); n == 1 {
				there[value]++
			}
		}, query)
		if err != nil {
			return err
		}
		for value, w := range l.values {
			l.judge(query, value, w, there[value])
		}
	}
	return nil
}

func (l *unique) judge(query string, value int64, w *wanted, rows int) {
	switch {
	case w.won > 1 || rows > 1:
	case rows < w.won || rows > w.won+w.unknown:
	case w.lost > 0 && w.won == 0 && w.unknown == 0:
	default:
		return
	}
	if len(l.problems) < 5 {
		l.problems = append(l.problems, fmt.Sprintf("value %d: %d inserts succeeded, %d met a duplicate, %d are unknown; %s has it %d times",
			value, w.won, w.lost, w.unknown, query, rows))
	}
}

func (l *unique) verdict() (string, []string) {
	return fmt.Sprintf("%d values, wanted by %d each", len(l.values), l.sessions), l.problems
}

// autoincrement is the load of that name.
type autoincrement struct {
	*execution
	tokens atomic.Int64

	mu       sync.Mutex
	told     map[int64]int64 // number by token, of committed rows
	given    map[int64]bool  // numbers, also of what was rolled back
	problems []string
}

func newAutoincrement(r *execution) load {
	return &autoincrement{execution: r, told: map[int64]int64{}, given: map[int64]bool{}}
}

func (l *autoincrement) tables() []string {
	return []string{"CREATE TABLE numbered (id BIGINT PRIMARY KEY AUTO_INCREMENT, token BIGINT NOT NULL, UNIQUE KEY by_token (token))"}
}

func (l *autoincrement) step(ctx context.Context, s *session) error {
	how := begin
	if s.random.IntN(2) == 0 {
		how = autocommit
	}
	rollback := how == begin && s.random.IntN(4) == 0
	var token, id int64
	outcome, _ := s.attempt(ctx, how, func() error {
		several := s.random.IntN(3) == 0
		token = l.tokens.Add(3)
		statement, args := "INSERT INTO numbered (token) VALUES (?)", []any{token}
		if several {
			statement, args = "INSERT INTO numbered (token) VALUES (?), (?), (?)", []any{token, token + 1, token + 2}
		}
		result, err := s.conn.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		if id, err = result.LastInsertId(); err != nil {
			return err
		}
		if rollback {
			return errRollback
		}
		return nil
	})
	l.enter(token, id, outcome)
	return ctx.Err()
}

func (l *autoincrement) enter(token, id int64, outcome history.Outcome) {
	if id == 0 {
		return // no answer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.given[id] {
		l.problems = append(l.problems, fmt.Sprintf("%d was given twice", id))
	}
	l.given[id] = true
	if outcome == history.Committed {
		l.told[token] = id
	}
}

func (l *autoincrement) finish(ctx context.Context, s *session) error {
	there := map[int64]int64{}
	var id, token int64
	if err := s.each(ctx, []any{&id, &token}, func() { there[token] = id }, "SELECT id, token FROM numbered"); err != nil {
		return err
	}
	for token, id := range l.told {
		if there[token] != id && len(l.problems) < 5 {
			l.problems = append(l.problems, fmt.Sprintf("token %d has the number %d; it was told %d", token, there[token], id))
		}
	}
	return nil
}

func (l *autoincrement) verdict() (string, []string) {
	return fmt.Sprintf("%d numbers given, %d rows acknowledged by their first number", len(l.given), len(l.told)), l.problems
}
