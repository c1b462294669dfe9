package txn_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/txn"
)

// The history tests run longer, or differently, by flags:
//
//	go test ./txn -run TestHistory -history.time=60s -seed=7
var historyTime = flag.Duration("history.time", 700*time.Millisecond, "how long each history test runs")

// TestHistory runs random transactions at once and checks afterwards that what
// they read and wrote can be explained by some order of them: one that respects
// real time under SERIALIZABLE, and snapshots that respect real time under
// REPEATABLE READ with snapshot isolation.
func TestHistory(t *testing.T) {
	for _, test := range []struct {
		name                      string
		snapshot, faulty, killing bool
	}{
		{name: "serializable"},
		{name: "serializable, faulty log", faulty: true},
		{name: "serializable, killed statements, faulty log", faulty: true, killing: true},
		{name: "snapshot isolation, faulty log", snapshot: true, faulty: true, killing: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			seed := explore.Seed(t)
			c := newCluster(t)
			h := &historyRun{cluster: c, co: c.coordinator(nil), snapshot: test.snapshot, killing: test.killing, began: time.Now(), failed: map[string]int{}}
			for _, s := range c.node.Router().DataShards() {
				for i := range 2 {
					h.keys = append(h.keys, c.key(s, fmt.Sprint("k", i)))
				}
			}
			for i, k := range h.keys {
				c.put(h.co, initial(i), k)
			}
			if test.faulty {
				c.network.SetFaults(faults)
			}
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() { h.work(rand.New(rand.NewPCG(seed, uint64(w)))) })
			}
			wg.Wait()
			c.network.SetFaults(noFaults)
			t.Logf("%d transactions in the history; failed: %v", len(h.history), h.failed)
			require.NotEmpty(t, h.history)
			require.Empty(t, h.wrong)
			require.NoError(t, explain(h.history, test.snapshot))
			h.nothingIsLeft()
		})
	}
}

// initial is the value that a key has before the history begins.
func initial(key int) string { return fmt.Sprint("initial ", key) }

// historyRun is one run: its transactions and what became of them.
type historyRun struct {
	*cluster
	co       *txn.Coordinator
	keys     []txn.Key // two on each shard, side by side
	snapshot bool      // snapshot isolation instead of SERIALIZABLE
	killing  bool
	began    time.Time

	mu      sync.Mutex
	next    int
	history []*record
	failed  map[string]int
	wrong   []error // outside the contract
}

func (h *historyRun) now() time.Duration { return time.Since(h.began) }

// goesOn says for how long: until something has happened, however slow the machine.
func (h *historyRun) goesOn() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now() < *historyTime || h.now() < time.Minute && len(h.history) == 0
}

func (h *historyRun) work(rng *rand.Rand) {
	for h.goesOn() {
		h.mu.Lock()
		h.next++
		id := h.next
		h.mu.Unlock()
		h.once(rng, id)
	}
}

// once runs one random transaction and records it unless it had no effect.
func (h *historyRun) once(rng *rand.Rand, id int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if h.killing && rng.IntN(3) == 0 {
		defer time.AfterFunc(time.Duration(rng.IntN(3000))*time.Microsecond, cancel).Stop()
	}
	s := &historySession{run: h, rng: rng, seen: map[int]string{}, record: &record{id: id, begin: h.now()}}
	o := txn.Options{Isolation: txn.Serializable, LockWait: 2 * time.Second}
	if h.snapshot {
		o.Isolation, o.SnapshotIsolation = txn.RepeatableRead, true
	}
	kind := rng.IntN(6)
	o.Autocommit, o.ReadOnly = kind <= 1, kind == 2
	s.tx = h.co.Begin(o)
	s.tx.BeginStatement(ctx, "statement")
	err := s.act(ctx, kind)
	if err == nil {
		err = s.tx.Commit(ctx)
	} else {
		_ = s.tx.Rollback(ctx)
	}
	s.record.end = h.now()
	var e *txn.Error
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
	case errors.As(err, &e) && e.Code == txn.Unknown: // it may take effect at any time
		s.record.unknown, s.record.end = true, 1<<62
	case e != nil:
		h.failed[e.Code.String()]++
		return
	default:
		h.wrong = append(h.wrong, err)
		return
	}
	h.history = append(h.history, s.record)
}

// historySession is one transaction under way.
type historySession struct {
	run    *historyRun
	rng    *rand.Rand
	tx     *txn.Txn
	record *record
	seen   map[int]string // what the transaction knows each key to hold
	writes int
}

func (s *historySession) act(ctx context.Context, kind int) error {
	switch n := len(s.run.keys); kind {
	case 0:
		s.record.name = "autocommit update"
		return s.write(ctx, s.rng.IntN(n))
	case 1:
		s.record.name = "autocommit read of one shard"
		i := s.rng.IntN(n)
		if err := s.read(ctx, i, txn.LockShared); err != nil {
			return err
		}
		s.pause()
		return s.read(ctx, i^1, txn.LockShared)
	case 2:
		s.record.name = "read only"
		return s.readAll(ctx)
	case 3:
		s.record.name = "scan and write"
		return s.scan(ctx)
	default:
		s.record.name = "transaction"
		return s.several(ctx)
	}
}

func (s *historySession) several(ctx context.Context) error {
	for n := s.rng.IntN(3) + 1; n > 0; n-- {
		i := s.rng.IntN(len(s.run.keys))
		if _, again := s.seen[i]; again {
			continue
		}
		var err error
		switch {
		case s.rng.IntN(2) == 0:
			err = s.write(ctx, i)
		case s.run.snapshot && s.rng.IntN(3) > 0:
			err = s.read(ctx, i, txn.LockNone)
		default:
			err = s.read(ctx, i, txn.LockShared)
		}
		if err != nil {
			return err
		}
		s.tx.BeginStatement(ctx, "statement")
		s.pause()
	}
	return nil
}

// readAll reads every key at a snapshot fixed a while before.
func (s *historySession) readAll(ctx context.Context) error {
	if _, err := s.tx.Snapshot(ctx); err != nil {
		return err
	}
	s.pause()
	rows, err := s.tx.GetMany(ctx, s.run.keys, txn.ReadOptions{})
	for i, r := range rows {
		s.note(i, r)
	}
	return err
}

// scan reads the whole key space, which under SERIALIZABLE locks it, and perhaps
// writes a key.
func (s *historySession) scan(ctx context.Context) error {
	lock := txn.LockNone
	if s.run.snapshot && s.rng.IntN(2) == 0 {
		lock = txn.LockShared
	}
	// Limit is a hint only: the cursor goes on.
	c, err := s.tx.Scan(ctx, txn.Scan{Where: txn.AllShards, Lock: lock, Reverse: s.rng.IntN(2) == 0, Limit: s.rng.IntN(2)})
	if err != nil {
		return err
	}
	defer c.Close()
	for n := 0; ; n++ {
		_, ok, err := c.Next(ctx)
		switch {
		case err != nil:
			return err
		case !ok && n != len(s.run.keys):
			return fmt.Errorf("a scan of %d keys found %d", len(s.run.keys), n)
		}
		if !ok {
			break
		}
	}
	for i := range s.run.keys { // the scan does not say which shard a row is of
		if err := s.read(ctx, i, lock); err != nil {
			return err
		}
	}
	if s.rng.IntN(2) == 0 {
		return s.write(ctx, s.rng.IntN(len(s.run.keys)))
	}
	return nil
}

func (s *historySession) read(ctx context.Context, key int, lock txn.Lock) error {
	row, err := s.tx.Get(ctx, s.run.keys[key], txn.ReadOptions{Lock: lock})
	if err == nil {
		s.note(key, row)
	}
	return err
}

func (s *historySession) note(key int, row txn.Row) {
	if _, known := s.seen[key]; !known {
		s.record.ops = append(s.record.ops, op{key: key, read: string(row.Value)})
	}
	s.seen[key] = string(row.Value)
}

func (s *historySession) write(ctx context.Context, key int) error {
	if err := s.read(ctx, key, txn.LockExclusive); err != nil {
		return err
	}
	s.writes++
	value := fmt.Sprintf("%d.%d", s.record.id, s.writes)
	s.record.ops = append(s.record.ops, op{key: key, read: s.seen[key], write: value})
	s.seen[key] = value
	return s.tx.Put(s.run.keys[key], []byte(value))
}

// pause lets others in between, now and then.
func (s *historySession) pause() {
	if s.rng.IntN(2) == 0 {
		time.Sleep(time.Duration(s.rng.IntN(2000)) * time.Microsecond)
	}
}

// nothingIsLeft waits until no lock and no undecided vote is left.
func (h *historyRun) nothingIsLeft() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(h.t, h.co.Flush(ctx))
	for _, s := range h.node.Router().DataShards() {
		require.Eventually(h.t, func() bool {
			locked, err := h.node.Router().Locks(ctx, s)
			require.NoError(h.t, err)
			undecided, err := h.node.Router().Undecided(ctx, s, 0)
			require.NoError(h.t, err)
			return len(locked)+len(undecided) == 0
		}, time.Minute, 10*time.Millisecond, "shard %d", s)
	}
}
