package txn_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/txn"
)

const (
	movingSlots  = 24
	movingTokens = 7
)

// TestMovingTokens moves tokens between keys of all shards: deleted here,
// inserted there. Every scan that succeeds, locking or not, in either direction,
// sees each token exactly once.
func TestMovingTokens(t *testing.T) {
	seed := explore.Seed(t)
	c := newCluster(t)
	co := c.coordinator(nil)
	shards := c.node.Router().DataShards()
	slot := func(i int) txn.Key { return c.key(shards[i%len(shards)], fmt.Sprintf("slot %02d", i)) }
	for i := range movingTokens {
		c.put(co, fmt.Sprint("token ", i), slot(i))
	}
	c.network.SetFaults(faults)
	began := time.Now()
	var mu sync.Mutex
	moves, scans := 0, 0
	var wrong []string
	goesOn := func() bool { // until something has happened, however slow the machine
		mu.Lock()
		defer mu.Unlock()
		past := time.Since(began)
		return past < *historyTime || past < time.Minute && (moves == 0 || scans == 0)
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for goesOn() {
				o := txn.Options{Isolation: txn.RepeatableRead, SnapshotIsolation: true, LockWait: 3 * time.Second}
				scanning := rng.IntN(3) > 0
				if rng.IntN(2) == 0 {
					o.Isolation = txn.Serializable
				}
				o.ReadOnly = scanning && rng.IntN(2) == 0
				tx := co.Begin(o)
				var saw []string
				var err error
				if scanning {
					saw, err = scanTokens(t.Context(), tx, rng)
				} else {
					err = moveToken(t.Context(), tx, slot(rng.IntN(movingSlots)), slot(rng.IntN(movingSlots)))
				}
				_ = tx.Rollback(context.Background())
				if err != nil {
					continue
				}
				mu.Lock()
				if scanning {
					scans++
				} else {
					moves++
				}
				if distinct := distinctOf(saw); scanning && (len(saw) != movingTokens || distinct != movingTokens) {
					wrong = append(wrong, fmt.Sprintf("%v: %v", o, saw))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	c.network.SetFaults(noFaults)
	t.Logf("%d moves, %d scans", moves, scans)
	require.Empty(t, wrong)
	require.NotZero(t, moves)
	require.NotZero(t, scans)
}

func distinctOf(values []string) int {
	set := make(map[string]bool)
	for _, v := range values {
		set[v] = true
	}
	return len(set)
}

func moveToken(ctx context.Context, tx *txn.Txn, from, to txn.Key) error {
	rows, err := tx.GetMany(ctx, []txn.Key{from, to}, exclusive)
	if err != nil {
		return err
	}
	if !rows[0].Found || rows[1].Found {
		return errors.New("nothing to move")
	}
	if err := tx.Delete(from); err != nil {
		return err
	}
	if err := tx.Put(to, rows[0].Value); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func scanTokens(ctx context.Context, tx *txn.Txn, rng *rand.Rand) (saw []string, err error) {
	c, err := tx.Scan(ctx, txn.Scan{Where: txn.AllShards, Reverse: rng.IntN(2) == 0, Limit: rng.IntN(3)})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for {
		row, ok, err := c.Next(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			return saw, tx.Commit(ctx)
		}
		saw = append(saw, string(row.Value))
	}
}

// TestPredicateUnderSerializable: everybody counts the rows and inserts one only
// if there are fewer than three; nobody ever counts more (no phantoms).
func TestPredicateUnderSerializable(t *testing.T) {
	seed := explore.Seed(t)
	c := newCluster(t)
	co := c.coordinator(nil)
	shards := c.node.Router().DataShards()
	c.network.SetFaults(faults)
	began := time.Now()
	var mu sync.Mutex
	most, done := 0, 0
	goesOn := func() bool {
		mu.Lock()
		defer mu.Unlock()
		past := time.Since(began)
		return past < *historyTime || past < time.Minute && done == 0
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for goesOn() {
				tx := co.Begin(txn.Options{Isolation: txn.Serializable, LockWait: 2 * time.Second})
				n, err := insertBelow(t.Context(), tx, 3, func(i int) txn.Key {
					return c.key(shards[i%len(shards)], fmt.Sprintf("row %02d", i))
				}, rng)
				_ = tx.Rollback(context.Background())
				mu.Lock()
				if most = max(most, n); err == nil {
					done++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	c.network.SetFaults(noFaults)
	t.Logf("%d transactions", done)
	require.NotZero(t, done)
	require.LessOrEqual(t, most, 3)
}

// insertBelow counts the rows; it inserts one if there are fewer than limit and
// deletes the last otherwise.
func insertBelow(ctx context.Context, tx *txn.Txn, limit int, row func(int) txn.Key, rng *rand.Rand) (n int, err error) {
	rows, err := drain(ctx, tx, txn.Scan{Where: txn.AllShards, Reverse: rng.IntN(2) == 0})
	if err != nil {
		return 0, err
	}
	i := rng.IntN(30)
	insert := len(rows) < limit
	if !insert {
		if _, err := fmt.Sscan(string(rows[len(rows)-1].Value), &i); err != nil {
			return len(rows), err
		}
	}
	if _, err := tx.Get(ctx, row(i), exclusive); err != nil {
		return len(rows), err
	}
	if insert {
		err = tx.Put(row(i), fmt.Append(nil, i))
	} else {
		err = tx.Delete(row(i))
	}
	if err != nil {
		return len(rows), err
	}
	return len(rows), tx.Commit(ctx)
}
