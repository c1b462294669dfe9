package txn

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

var (
	modelOrders = flag.Int("model.orders", 250, "orders of each scenario that the model of the replicas plays")
	modelWalks  = flag.Int("model.walks", 30, "pairs of random orders of each scenario")
)

// increment is a transaction that reads keys under exclusive locks and adds one
// to each. A key after "?" is read under a shared lock and not written; one after
// "!" is locked a second time before it is written, as a later statement would.
func (w *modelWorld) increment(ctx context.Context, name string, gateway int, o Options, keys ...string) {
	w.transaction(ctx, name, gateway, o, func(ctx context.Context, t *Txn, h *modelTxn) error {
		for _, k := range keys {
			if err := h.add(ctx, t, k); err != nil {
				return err
			}
		}
		return nil
	})
}

func (h *modelTxn) add(ctx context.Context, t *Txn, k string) error {
	how, lock := k[0], LockExclusive
	if how == '?' || how == '!' {
		k = k[1:]
	}
	if how == '?' {
		lock = LockShared
	}
	row, err := t.Get(ctx, keyOf(k), ReadOptions{Lock: lock})
	if err != nil {
		return err
	}
	h.locked = append(h.locked, modelSeen{k, string(row.Value), row.Found})
	if how == '?' {
		return nil
	}
	if how == '!' {
		if _, err := t.Get(ctx, keyOf(k), ReadOptions{Lock: lock}); err != nil {
			return err
		}
	}
	n, _ := strconv.Atoi(string(row.Value))
	h.writes[k] = strconv.Itoa(n + 1)
	return t.Put(keyOf(k), []byte(h.writes[k]))
}

// transaction is an actor that runs a transaction.
func (w *modelWorld) transaction(ctx context.Context, name string, gateway int, o Options, work func(context.Context, *Txn, *modelTxn) error) {
	h := &modelTxn{name: name, writes: map[string]string{}, serial: true}
	w.mu.txns = append(w.mu.txns, h)
	w.stage.Go(ctx, name, func(ctx context.Context) {
		t := w.gateways[gateway].Begin(o)
		t.BeginStatement(ctx, name)
		err := work(ctx, t, h)
		h.id = t.ID()
		if err == nil {
			w.stage.At(ctx, "commit")
			err = t.Commit(ctx)
		} else {
			_ = t.Rollback(ctx)
		}
		var e *Error
		if errors.As(err, &e) {
			h.code = e.Code
		}
		h.acked, h.ended = err == nil, w.event()
	})
}

// read is an actor that reads keys at one snapshot.
func (w *modelWorld) read(ctx context.Context, name string, gateway int, keys ...string) {
	w.stage.Go(ctx, name, func(ctx context.Context) {
		h := &modelRead{name: name, began: w.event()}
		t := w.gateways[gateway].Begin(Options{Isolation: RepeatableRead})
		for _, k := range keys {
			row, err := t.Get(ctx, keyOf(k), ReadOptions{})
			if err != nil {
				return
			}
			h.seen = append(h.seen, modelSeen{k, string(row.Value), row.Found})
		}
		h.at = t.snapshot
		_ = t.Commit(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.reads = append(w.mu.reads, h)
	})
}

// follow is an actor that has a timestamp closed by whoever owns the shard of x, and
// then reads there at a replica that asks nobody.
func (w *modelWorld) follow(ctx context.Context, name string, replica int, keys ...string) {
	w.stage.Go(ctx, name, func(ctx context.Context) {
		h := &modelRead{name: name, began: w.event()}
		h.at, _ = w.Timestamp(ctx)
		_, err := ask(ctx, modelRouter{w: w}, 1, "close", storage.TxnID{}, func(ctx context.Context, p *shard.Replica) (struct{}, error) {
			return struct{}{}, p.CloseUpTo(ctx, h.at)
		})
		if err != nil {
			return
		}
		w.stage.At(ctx, "closed")
		q := &shard.ReadRequest{At: h.at}
		for _, k := range keys {
			q.Keys = append(q.Keys, storage.Key(k))
		}
		resp, err := w.replicas[1][replica].ReadClosed(ctx, q)
		if err != nil {
			return // it lags, or a vote is undecided: the owner's business
		}
		for i, row := range resp.Rows {
			h.seen = append(h.seen, modelSeen{keys[i], string(row.Value), row.Found})
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.reads = append(w.mu.reads, h)
	})
}

// count is an actor that counts the rows of an interval twice under shared locks.
func (w *modelWorld) count(ctx context.Context, name string, lo, hi string) {
	w.transaction(ctx, name, 0, Options{Isolation: Serializable}, func(ctx context.Context, t *Txn, h *modelTxn) error {
		var counts [2]int
		for i := range counts {
			c, err := t.Scan(ctx, Scan{Lo: storage.Key(lo), Hi: storage.Key(hi), Lock: LockShared})
			if err != nil {
				return err
			}
			for {
				_, ok, err := c.Next(ctx)
				if err != nil {
					c.Close()
					return err
				}
				if !ok {
					break
				}
				counts[i]++
			}
			c.Close()
			w.stage.At(ctx, "counted")
		}
		if counts[0] != counts[1] {
			return &Error{Code: Bug, Detail: fmt.Sprint("phantom: ", counts)}
		}
		return nil
	})
}

// check compares what was seen and told with what the logs came to.
func (w *modelWorld) check() error {
	for s, spaces := range w.spaces {
		a, err := spaces[0].Checksum()
		if err != nil {
			return err
		}
		if b, err := spaces[1].Checksum(); err != nil || a != b {
			return fmt.Errorf("replicas of shard %d differ: %v", s, err)
		}
	}
	for _, h := range w.mu.txns {
		if err := w.checkTxn(h); err != nil {
			return err
		}
	}
	for _, h := range w.mu.reads {
		for _, seen := range h.seen {
			if now := w.at(seen.key, h.at); now != seen {
				return fmt.Errorf("%s saw %v at %d, where there is %v", h.name, seen, h.at-1<<20, now)
			}
		}
		for _, t := range w.mu.txns {
			for k, v := range t.writes {
				if c := w.commitOf(k, v, t.id); t.acked && t.ended < h.began && c > h.at {
					return fmt.Errorf("%s began after %s was acknowledged and reads at %d, below its commit at %d", h.name, t.name, h.at-1<<20, c-1<<20)
				}
			}
		}
	}
	for _, k := range []string{"x", "y"} {
		if err := w.checkChain(k); err != nil {
			return err
		}
	}
	return nil
}

func (w *modelWorld) checkTxn(h *modelTxn) error {
	if h.code == Bug {
		return fmt.Errorf("%s found a phantom", h.name)
	}
	var commit storage.Timestamp
	there := 0
	for k, v := range h.writes {
		if c := w.commitOf(k, v, h.id); c != 0 {
			there++
			if commit != 0 && commit != c {
				return fmt.Errorf("%s committed at two timestamps", h.name)
			}
			commit = c
		}
	}
	switch {
	case there != 0 && there != len(h.writes):
		return fmt.Errorf("%s is half there", h.name)
	case h.acked && there != len(h.writes):
		return fmt.Errorf("%s was acknowledged and is not there", h.name)
	case !h.acked && h.code != Unknown && there > 0:
		return fmt.Errorf("%s was answered %s and is there", h.name, h.code)
	}
	if commit == 0 || !h.serial {
		return nil
	}
	for _, seen := range h.locked {
		if now := w.at(seen.key, commit-1); now != seen {
			return fmt.Errorf("%s commits at %d and read %v under a lock, where there is %v", h.name, commit-1<<20, seen, now)
		}
	}
	return nil
}

// at returns what a key holds at a timestamp.
func (w *modelWorld) at(k string, at storage.Timestamp) modelSeen {
	read := w.version(k, at)
	if read.Commit == 0 || read.Tombstone {
		return modelSeen{key: k}
	}
	return modelSeen{k, string(read.Value), true}
}

func (w *modelWorld) version(k string, at storage.Timestamp) storage.Read {
	snap := w.spaces[shard.ID(keyOf(k).token)][0].Snapshot()
	defer snap.Close()
	read, err := snap.GetVersion(storage.Key(k), at)
	if err != nil {
		panic(err)
	}
	read.Value = append([]byte(nil), read.Value...)
	return read
}

// commitOf returns the commit timestamp of a transaction's version, 0 if there
// is none.
func (w *modelWorld) commitOf(k, v string, id storage.TxnID) storage.Timestamp {
	for at := storage.MaxTimestamp; ; {
		read := w.version(k, at)
		if read.Commit == 0 {
			return 0
		}
		if read.Start == id.Start && string(read.Value) == v {
			return read.Commit
		}
		at = read.Commit - 1
	}
}

// checkChain: every version of a counter is one more than the version below it.
func (w *modelWorld) checkChain(k string) error {
	for at := storage.MaxTimestamp; ; {
		read := w.version(k, at)
		if read.Commit == 0 {
			return nil
		}
		below := w.at(k, read.Commit-1)
		n, _ := strconv.Atoi(below.value)
		if string(read.Value) != strconv.Itoa(n+1) {
			return fmt.Errorf("lost update: %s was %q, then %q", k, below.value, read.Value)
		}
		at = read.Commit - 1
	}
}

// scenario is a set of actors.
type scenario struct {
	name           string
	places         int   // see explore.NewSchedules
	losses, copies int64 // answers that may be lost, proposals that may be doubled
	leases         bool
	actors         func(ctx context.Context, w *modelWorld)
}

var serial = Options{Isolation: Serializable}

var scenarios = []scenario{
	{"a read and a write", 3, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "x")
		w.read(ctx, "R1", 0, "x")
	}},
	{"a read and a write across owners", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 1, serial, "x")
		w.read(ctx, "R1", 0, "x")
		w.take(ctx, 1, 1)
	}},
	{"a write, then reads across owners", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "x")
		w.read(ctx, "R1", 0, "x")
		w.read(ctx, "R2", 1, "x")
		w.take(ctx, 1, 1)
	}},
	{"autocommit across owners", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 1, Options{Isolation: Serializable, Autocommit: true}, "x")
		w.read(ctx, "R1", 0, "x")
		w.take(ctx, 1, 1)
	}},
	{"two reads, a write, a new owner", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 1, serial, "x")
		w.read(ctx, "R1", 0, "x")
		w.read(ctx, "R2", 0, "x")
		w.take(ctx, 1, 1)
	}},
	{"a lease, a read, a write, a new owner", 3, 0, 0, true, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 1, serial, "x")
		w.read(ctx, "R1", 0, "x")
		w.take(ctx, 1, 1)
		w.passTime(ctx)
	}},
	{"a lease and two new owners", 2, 0, 0, true, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 1, serial, "x")
		w.read(ctx, "R1", 0, "x")
		w.read(ctx, "R2", 1, "x")
		w.take(ctx, 1, 1)
		w.take(ctx, 1, 0)
		w.passTime(ctx)
	}},
	{"lost answers and copies", 2, 1, 1, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "x")
		w.read(ctx, "R1", 0, "x")
		w.increment(ctx, "T2", 1, serial, "x")
	}},
	{"two keys, two transactions", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "x", "y")
		w.increment(ctx, "T2", 1, serial, "x", "y")
		w.read(ctx, "R1", 0, "x", "y")
	}},
	{"two keys across owners", 2, 1, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "x", "y")
		w.take(ctx, 1, 1)
		w.read(ctx, "R1", 1, "x", "y")
	}},
	{"autocommit beside a reader's lock", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "?x", "y")
		w.increment(ctx, "T2", 1, Options{Isolation: Serializable, Autocommit: true}, "x")
		w.read(ctx, "R1", 0, "x", "y")
	}},
	{"autocommit that reads what is newer", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "x")
		w.increment(ctx, "T2", 1, Options{Isolation: Serializable, Autocommit: true}, "?x", "x2")
		w.read(ctx, "R1", 0, "x", "x2")
	}},
	{"an interval and an insert", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.count(ctx, "T1", "x", "z")
		w.increment(ctx, "T2", 1, serial, "x2", "y")
	}},
	{"a write and a follower", 3, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "x")
		w.follow(ctx, "F1", 1, "x")
	}},
	{"two keys and a follower", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "x", "y")
		w.follow(ctx, "F1", 1, "x")
	}},
	{"a follower across owners", 2, 1, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 1, serial, "x")
		w.follow(ctx, "F1", 0, "x")
		w.take(ctx, 1, 1)
	}},
	{"leases lapse", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "!x")
		w.increment(ctx, "T2", 1, serial, "x")
		w.lapse(ctx, 1)
	}},
	{"locks lost with their owner", 2, 0, 0, false, func(ctx context.Context, w *modelWorld) {
		w.increment(ctx, "T1", 0, serial, "!x")
		w.increment(ctx, "T2", 1, serial, "x")
		w.take(ctx, 1, 1)
	}},
}

// play runs a scenario once.
func play(t *testing.T, e *modelEngine, s *scenario, choose func([]string) int) (failure error) {
	synctest.Test(t, func(t *testing.T) {
		stage := explore.NewStage(choose)
		w, err := newModelWorld(e, stage, s.leases)
		require.NoError(t, err)
		defer w.close()
		w.losses.Store(s.losses)
		w.copies.Store(s.copies)
		w.free.Store(false)
		s.actors(t.Context(), w)
		err = stage.Run()
		if settled := w.settle(); err == nil {
			err = settled
		}
		synctest.Wait()
		if err == nil {
			err = w.check()
		}
		if err != nil {
			failure = &explore.Violation{What: err.Error(), Trace: stage.Trace}
		}
	})
	return failure
}

// TestReplicasModel plays every scenario in the orders that differ from running
// one actor after the other in a few places, those with fewer first.
func TestReplicasModel(t *testing.T) {
	for i := range scenarios {
		s := &scenarios[i]
		t.Run(s.name, func(t *testing.T) {
			e := openModelEngine(t)
			schedules, n := explore.NewSchedules(s.places), 0
			for choose := schedules.Next(); choose != nil && n < *modelOrders; choose = schedules.Next() {
				require.NoError(t, play(t, e, s, choose), "order %d", n)
				n++
			}
			t.Logf("%d orders", n)
		})
	}
}

// TestReplicasModelScripts plays the orders that break a rule's absence and are
// too deep for the search.
func TestReplicasModelScripts(t *testing.T) {
	for _, test := range []struct {
		name, scenario string
		script         []string
	}{
		{"a proposal begins between a look and max_ts", "a read and a write",
			[]string{"T1 > lock check", "R1 > max_ts", "T1", "R1"}},
		{"the old owner has not applied what deposes it", "two reads, a write, a new owner",
			[]string{"R2", "B takes 1", "commit begin-epoch", "apply at 1B", "answer begin-epoch", "B takes 1",
				"T1", "commit one-phase", "apply at 1B", "answer one-phase", "T1", "R1"}},
		{"the old owner has a lease and has not applied what deposes it", "a lease, a read, a write, a new owner",
			[]string{"B takes 1", "commit begin-epoch", "apply at 1B", "answer begin-epoch", "B takes 1",
				"T1", "commit one-phase", "apply at 1B", "answer one-phase", "T1", "R1"}},
		{"a read while an outcome is unknown", "lost answers and copies",
			[]string{"T1", "lose the answer of one-phase", "R1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == test.scenario })
			require.NoError(t, play(t, openModelEngine(t), &scenarios[i], explore.Script(test.script...)))
		})
	}
}

// TestReplicasModelWalk plays scenarios in random orders.
func TestReplicasModelWalk(t *testing.T) {
	rng := rand.New(rand.NewPCG(explore.Seed(t), 0))
	for i := range scenarios {
		s := &scenarios[i]
		t.Run(s.name, func(t *testing.T) {
			e := openModelEngine(t)
			for range *modelWalks {
				require.NoError(t, play(t, e, s, explore.Random(rng)))
				require.NoError(t, play(t, e, s, explore.Priorities(rng, rng.IntN(4), 60)))
			}
		})
	}
}
