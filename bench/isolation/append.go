package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/bench/isolation/history"
)

// appends is the load "append": rows are lists, written ",1,2,3". A row that is
// not there is an empty list, so that inserts and their phantoms take part.
type appends struct {
	*execution
	slots *slots
	value atomic.Int32
}

func newAppends(r *execution) load { return &appends{execution: r, slots: newSlots(r.lists, r.length)} }

// Keys 2n and 2n+1 share a pair, which has an index; the follower is the key after.
func (l *appends) tables() []string {
	return []string{"CREATE TABLE lists (id INT PRIMARY KEY, pair INT NOT NULL, follower INT NOT NULL, v TEXT NOT NULL, KEY by_pair (pair))"}
}

// The operations of a transaction.
type operation int

const (
	appendOp operation = iota
	pointOp            // by primary key
	pairOp             // by secondary index
	inOp               // several keys
	rangeOp            // an interval of keys
	joinOp             // a list joined with its neighbour
)

type planned struct {
	do   operation
	slot *slot
	key  int32
	more []int32 // other keys of inOp
}

// plan draws a transaction of 1 to 5 operations.
func (l *appends) plan(s *session) (how string, ops []planned) {
	n := 1 + s.random.IntN(5)
	reads := s.random.IntN(6) == 0 // and nothing else
	for range n {
		at := l.slots.pick(s.random)
		op := planned{slot: at, key: at.key.Load()}
		if reads || s.random.IntN(2) == 0 {
			op.do = l.reading(s)
		}
		if op.do == inOp {
			for range 2 {
				op.more = append(op.more, l.slots.pick(s.random).key.Load())
			}
		}
		ops = append(ops, op)
	}
	switch {
	case n == 1 && s.random.IntN(2) == 0:
		return autocommit, ops
	case reads && s.random.IntN(2) == 0:
		return readOnly, ops
	default:
		return begin, ops
	}
}

func (l *appends) reading(s *session) operation {
	switch n := s.random.IntN(20); {
	case n < 14:
		return pointOp
	case n < 16:
		return pairOp
	case n < 18:
		return inOp
	case n < 19:
		return joinOp
	default:
		return rangeOp
	}
}

func (l *appends) step(ctx context.Context, s *session) error {
	how, ops := l.plan(s)
	rollback := how == begin && s.random.IntN(40) == 0
	var used []*slot
	err := s.retry(ctx, func() (history.Outcome, error) {
		txn := history.Txn{Process: s.id, Begin: s.tick()}
		used = used[:0]
		outcome, err := s.attempt(ctx, how, func() error {
			for _, op := range ops {
				if err := l.operate(ctx, s, &txn, how, op); err != nil {
					return err
				}
				if op.do == appendOp {
					used = append(used, op.slot)
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
	if err != nil {
		return err
	}
	for _, at := range used {
		l.slots.wrote(at, func(key int32) { l.fresh(ctx, s, key) })
	}
	return nil
}

// fresh makes the rows of three of four keys before their first append. If it
// fails, the first append makes the row.
func (l *appends) fresh(ctx context.Context, s *session, key int32) {
	if l.late(key) || s.ready(ctx) != nil {
		return
	}
	if _, err := s.exec(ctx, "INSERT INTO lists VALUES (?, ?, ?, '')", idOf(key), key/2, idOf(key+1)); err != nil && code(err) == 0 {
		s.drop()
	}
}

// late keys get their row by their first append.
func (l *appends) late(key int32) bool { return key/int32(l.lists)%4 == 3 }

func (l *appends) operate(ctx context.Context, s *session, txn *history.Txn, how string, op planned) error {
	switch op.do {
	case appendOp:
		return l.append(ctx, s, txn, how, op.key)
	case pointOp:
		return l.read(ctx, s, txn, []int32{op.key}, "SELECT id, v FROM lists WHERE id = ?", idOf(op.key))
	case pairOp:
		pair := op.key / 2
		return l.read(ctx, s, txn, []int32{2 * pair, 2*pair + 1}, "SELECT id, v FROM lists WHERE pair = ?", pair)
	case inOp:
		keys := []int32{op.key}
		for _, key := range op.more {
			if key != keys[0] && key != keys[len(keys)-1] {
				keys = append(keys, key)
			}
		}
		return l.read(ctx, s, txn, keys, "SELECT id, v FROM lists WHERE id IN (?, ?, ?)", idOf(op.key), idOf(op.more[0]), idOf(op.more[1]))
	case rangeOp:
		return l.read(ctx, s, txn, []int32{op.key, op.key + 1, op.key + 2}, "SELECT id, v FROM lists WHERE id BETWEEN ? AND ?", idOf(op.key), idOf(op.key+2))
	default:
		return l.join(ctx, s, txn, op.key)
	}
}

func (l *appends) append(ctx context.Context, s *session, txn *history.Txn, how string, key int32) error {
	value := l.value.Add(1)
	text := "," + strconv.Itoa(int(value))
	// Entered first: the statement may have an effect though it is not answered.
	txn.Ops = append(txn.Ops, history.Op{Kind: history.Append, Key: key, Value: value})
	if how != autocommit && !l.late(key) && s.random.IntN(4) != 0 {
		n, err := s.exec(ctx, "UPDATE lists SET v = CONCAT(v, ?) WHERE id = ?", text, idOf(key))
		if err != nil || n > 0 {
			return err
		}
	}
	_, err := s.exec(ctx, "INSERT INTO lists VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE v = CONCAT(v, ?)", idOf(key), key/2, idOf(key+1), text, text)
	return err
}

// read runs a query for some keys; a key without a row is an empty list.
func (l *appends) read(ctx context.Context, s *session, txn *history.Txn, keys []int32, query string, args ...any) error {
	found := map[int32][]int32{}
	var id int32
	var v []byte
	var bad error
	err := s.each(ctx, []any{&id, &v}, func() {
		list, err := parseList(v)
		key := keyOf(id)
		if _, twice := found[key]; twice && err == nil {
			err = fmt.Errorf("%s returned row %d twice", query, id)
		}
		if err != nil {
			bad = err
		}
		found[key] = list
	}, query, args...)
	if err != nil {
		return err
	}
	if bad != nil {
		s.strange(bad)
	}
	for _, key := range keys {
		txn.Ops = append(txn.Ops, history.Op{Kind: history.ReadList, Key: key, List: found[key]})
		delete(found, key)
	}
	for _, key := range sorted(found) {
		s.strange(fmt.Errorf("%s %v returned row %d", query, args, idOf(key)))
	}
	return nil
}

// join says nothing about keys of which one has no row.
func (l *appends) join(ctx context.Context, s *session, txn *history.Txn, key int32) error {
	var v, w []byte
	return s.each(ctx, []any{&v, &w}, func() {
		for i, text := range [][]byte{v, w} {
			list, err := parseList(text)
			if err != nil {
				s.strange(err)
			}
			txn.Ops = append(txn.Ops, history.Op{Kind: history.ReadList, Key: key + int32(i), List: list})
		}
	}, "SELECT a.v, b.v FROM lists a JOIN lists b ON b.id = a.follower WHERE a.id = ?", idOf(key))
}

func parseList(text []byte) ([]int32, error) {
	if len(text) == 0 {
		return nil, nil
	}
	list := make([]int32, 0, bytes.Count(text, []byte(",")))
	for part := range bytes.SplitSeq(text[1:], []byte(",")) {
		n, err := strconv.ParseInt(string(part), 10, 32)
		if err != nil {
			return list, fmt.Errorf("the list %q is damaged", text)
		}
		list = append(list, int32(n))
	}
	return list, nil
}

// finish reads every list once more, so that an append that is gone is seen.
func (l *appends) finish(ctx context.Context, s *session) error {
	const chunk = 32
	for key := int32(0); key <= l.slots.top.Load(); key += chunk {
		keys := make([]int32, chunk)
		for i := range keys {
			keys[i] = key + int32(i)
		}
		txn := history.Txn{Process: s.id, Begin: s.tick()}
		if err := l.read(ctx, s, &txn, keys, "SELECT id, v FROM lists WHERE id BETWEEN ? AND ?", idOf(key), idOf(key+chunk-1)); err != nil {
			return err
		}
		txn.End, txn.Outcome = s.tick(), history.Committed
		s.txns = append(s.txns, txn)
	}
	return nil
}

func (l *appends) verdict() (string, []string) { return l.judged(history.Options{}) }
