package main

import (
	"context"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/bench/isolation/history"
	"github.com/rowlockdb/rowlock/bench/process"
)

// registers is the load "register": rows hold one number, which is overwritten.
type registers struct {
	*execution
	slots *slots
	value atomic.Int32
}

func newRegisters(r *execution) load {
	return &registers{execution: r, slots: newSlots(r.lists, r.length)}
}

func (l *registers) tables() []string {
	return []string{"CREATE TABLE registers (id INT PRIMARY KEY, pair INT NOT NULL, v INT NOT NULL, KEY by_pair (pair))"}
}

func (l *registers) step(ctx context.Context, s *session) error {
	type planned struct {
		write bool
		slot  *slot
		key   int32
	}
	var ops []planned
	for range 1 + s.random.IntN(5) {
		at := l.slots.pick(s.random)
		ops = append(ops, planned{s.random.IntN(2) == 0, at, at.key.Load()})
	}
	how := begin
	if len(ops) == 1 && s.random.IntN(2) == 0 {
		how = autocommit
	}
	rollback := how == begin && s.random.IntN(40) == 0
	err := s.retry(ctx, func() (history.Outcome, error) {
		txn := history.Txn{Process: s.id, Begin: s.tick()}
		outcome, err := s.attempt(ctx, how, func() error {
			for _, op := range ops {
				do := l.read
				if op.write {
					do = l.write
				}
				if err := do(ctx, s, &txn, op.key); err != nil {
					return err
				}
			}
			if rollback {
				return errRollback
			}
			return nil
		})
		txn.End, txn.Outcome = s.tick(), outcome
		s.txns = append(s.txns, txn)
		return outcome, err
	})
	for _, op := range ops {
		if op.write {
			l.slots.wrote(op.slot, func(int32) {})
		}
	}
	return err
}

func (l *registers) write(ctx context.Context, s *session, txn *history.Txn, key int32) error {
	value := l.value.Add(1)
	txn.Ops = append(txn.Ops, history.Op{Kind: history.Write, Key: key, Value: value})
	statement := "INSERT INTO registers VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v)"
	if s.random.IntN(4) == 0 {
		statement = "REPLACE INTO registers VALUES (?, ?, ?)"
	}
	_, err := s.exec(ctx, statement, idOf(key), key/2, value)
	return err
}

func (l *registers) read(ctx context.Context, s *session, txn *history.Txn, key int32) error {
	query, arg, keys := "SELECT id, v FROM registers WHERE id = ?", idOf(key), []int32{key}
	switch s.random.IntN(8) {
	case 0:
		query += " FOR UPDATE"
	case 1:
		query += " LOCK IN SHARE MODE"
	case 2:
		query, arg, keys = "SELECT id, v FROM registers WHERE pair = ?", key/2, []int32{key &^ 1, key | 1}
	}
	found := map[int32]int32{}
	var id, v int32
	if err := s.each(ctx, []any{&id, &v}, func() { found[keyOf(id)] = v }, query, arg); err != nil {
		return err
	}
	for _, key := range keys {
		txn.Ops = append(txn.Ops, history.Op{Kind: history.Read, Key: key, Value: found[key]})
	}
	return nil
}

func (l *registers) finish(ctx context.Context, s *session) error {
	txn := history.Txn{Process: s.id, Begin: s.tick()}
	found := map[int32]int32{}
	var id, v int32
	if err := s.each(ctx, []any{&id, &v}, func() { found[keyOf(id)] = v }, "SELECT id, v FROM registers"); err != nil {
		return err
	}
	for key := range l.slots.top.Load() + 1 {
		txn.Ops = append(txn.Ops, history.Op{Kind: history.Read, Key: key, Value: found[key]})
	}
	txn.End, txn.Outcome = s.tick(), history.Committed
	s.txns = append(s.txns, txn)
	return nil
}

// All levels read what was acknowledged before the statement, so the versions of
// a register agree with time.
func (l *registers) verdict() (string, []string) {
	return l.judged(history.Options{LinearizableKeys: true})
}

// forks is the load "fork": groups of two keys, each written once, by whoever
// comes first, and read together meanwhile.
type forks struct {
	*execution
	group atomic.Int32
	uses  atomic.Int32 // of the current group
	value atomic.Int32
}

func newForks(r *execution) load { return &forks{execution: r} }

func (l *forks) tables() []string {
	return []string{"CREATE TABLE forks (id INT PRIMARY KEY, v INT NOT NULL)"}
}

// usesOfGroup is how many transactions use a group.
const usesOfGroup = 12

func (l *forks) step(ctx context.Context, s *session) error {
	group := l.group.Load()
	if l.uses.Add(1)%usesOfGroup == 0 {
		l.group.Add(1)
	}
	txn := history.Txn{Process: s.id, Begin: s.tick()}
	how, do := begin, func() error { return l.both(ctx, s, &txn, group) }
	if s.random.IntN(2) == 0 {
		how, do = autocommit, func() error { return l.one(ctx, s, &txn, 2*group+s.random.Int32N(2)) }
	}
	outcome, _ := s.attempt(ctx, how, do)
	txn.End, txn.Outcome = s.tick(), outcome
	s.txns = append(s.txns, txn)
	return ctx.Err()
}

func (l *forks) one(ctx context.Context, s *session, txn *history.Txn, key int32) error {
	value := l.value.Add(1)
	txn.Ops = []history.Op{{Kind: history.Write, Key: key, Value: value}}
	_, err := s.exec(ctx, "INSERT INTO forks VALUES (?, ?)", key*process.Apart, value)
	return err
}

func (l *forks) both(ctx context.Context, s *session, txn *history.Txn, group int32) error {
	first := s.random.Int32N(2)
	for _, key := range []int32{2*group + first, 2*group + 1 - first} {
		op := history.Op{Kind: history.Read, Key: key}
		if err := s.each(ctx, []any{&op.Value}, func() {}, "SELECT v FROM forks WHERE id = ?", key*process.Apart); err != nil {
			return err
		}
		txn.Ops = append(txn.Ops, op)
	}
	return nil
}

func (l *forks) finish(context.Context, *session) error { return nil }

func (l *forks) verdict() (string, []string) {
	return l.judged(history.Options{LinearizableKeys: true})
}
