package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/bench/isolation/history"
	"github.com/rowlockdb/rowlock/bench/process"
)

// bank is the load "bank": money moves between accounts, their sum does not.
type bank struct {
	*execution
	writesBack      bool // what was read, where the level forbids lost updates
	sums, wrongSums atomic.Int64
	example         atomic.Pointer[string]
}

// opening is the balance of every account at the start; branches is the number
// of values of the secondary index.
const (
	opening  = 1000
	branches = 4
)

func newBank(r *execution) load {
	return &bank{execution: r, writesBack: r.level.name == serializable || r.level.name == repeatableRead}
}

func (l *bank) tables() []string {
	statements := []string{"CREATE TABLE accounts (id INT PRIMARY KEY, branch INT NOT NULL, balance BIGINT NOT NULL, KEY by_branch (branch))"}
	for id := range l.lists {
		statements = append(statements, fmt.Sprintf("INSERT INTO accounts VALUES (%d, %d, %d)", id*process.Apart, id%branches, opening))
	}
	return statements
}

func (l *bank) step(ctx context.Context, s *session) error {
	if s.random.IntN(5) == 0 {
		return l.look(ctx, s)
	}
	source := s.random.IntN(l.lists)
	target := (source + 1 + s.random.IntN(l.lists-1)) % l.lists
	amount := 1 + s.random.IntN(20)
	rollback := s.random.IntN(20) == 0
	return s.retry(ctx, func() (history.Outcome, error) {
		return s.attempt(ctx, begin, func() error {
			if err := l.transfer(ctx, s, source, target, amount); err != nil {
				return err
			}
			if rollback {
				return errRollback
			}
			return nil
		})
	})
}

// transfer moves an amount.
func (l *bank) transfer(ctx context.Context, s *session, source, target, amount int) error {
	for _, half := range []struct{ id, amount int }{{source * process.Apart, -amount}, {target * process.Apart, amount}} {
		if !l.writesBack || s.random.IntN(2) == 0 {
			if _, err := s.exec(ctx, "UPDATE accounts SET balance = balance + ? WHERE id = ?", half.amount, half.id); err != nil {
				return err
			}
			continue
		}
		var balance int
		if err := s.each(ctx, []any{&balance}, func() {}, "SELECT balance FROM accounts WHERE id = ?", half.id); err != nil {
			return err
		}
		if _, err := s.exec(ctx, "UPDATE accounts SET balance = ? WHERE id = ?", balance+half.amount, half.id); err != nil {
			return err
		}
	}
	return nil
}

// look sums in one statement, or in several of one snapshot.
func (l *bank) look(ctx context.Context, s *session) error {
	how := autocommit
	if l.level.name != readCommitted && s.random.IntN(2) == 0 {
		how = begin
	}
	return s.retry(ctx, func() (history.Outcome, error) {
		sum := 0
		outcome, err := s.attempt(ctx, how, func() (err error) {
			sum, err = l.sum(ctx, s, how == begin)
			return err
		})
		if outcome == history.Committed {
			l.check(sum, how)
		}
		return outcome, err
	})
}

func (l *bank) sum(ctx context.Context, s *session, parts bool) (int, error) {
	sum, balance := 0, 0
	add := func() { sum += balance }
	if !parts {
		return sum, s.each(ctx, []any{&balance}, add, "SELECT balance FROM accounts")
	}
	for branch := range branches {
		query, args := "SELECT balance FROM accounts WHERE branch = ?", []any{branch}
		if s.random.IntN(2) == 0 {
			query, args = "SELECT balance FROM accounts WHERE id % ? = ?", []any{branches, branch}
		}
		if err := s.each(ctx, []any{&balance}, add, query, args...); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

func (l *bank) check(sum int, how string) {
	l.sums.Add(1)
	if sum != l.lists*opening {
		l.wrongSums.Add(1)
		text := fmt.Sprintf("a sum is %d instead of %d (%q)", sum, l.lists*opening, how)
		l.example.Store(&text)
	}
}

func (l *bank) finish(ctx context.Context, s *session) error {
	sum, err := l.sum(ctx, s, false)
	if err == nil {
		l.check(sum, "at the end")
	}
	return err
}

func (l *bank) verdict() (string, []string) {
	var wrong []string
	if example := l.example.Load(); example != nil {
		wrong = append(wrong, *example)
	}
	return fmt.Sprintf("%d sums, %d of them wrong", l.sums.Load(), l.wrongSums.Load()), wrong
}
