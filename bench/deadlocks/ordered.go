package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/bench/process"
)

const (
	rowsOfOrdered = 3  // that one transaction locks
	hotRows       = 48 // that they are chosen from: few, so that sessions wait
)

// runOrdered runs transactions that lock rows in ascending order and returns how
// many met a deadlock. These are tried again, so that all of them commit.
func runOrdered(ctx context.Context, db *sql.DB, s settings) (deadlocks int64, err error) {
	var next, met atomic.Int64
	errs := make([]error, s.workers)
	var group sync.WaitGroup
	for worker := range s.workers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(s.seed, uint64(1000+worker)))
			for next.Add(1) <= int64(s.ordered) {
				ids := random.Perm(hotRows)[:rowsOfOrdered]
				slices.Sort(ids)
				err := ascend(ctx, db, ids)
				for isDeadlock(err) {
					met.Add(1)
					err = ascend(ctx, db, ids)
				}
				if err != nil {
					errs[worker] = fmt.Errorf("lock in one order: %w", err)
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return met.Load(), nil
}

func ascend(ctx context.Context, db *sql.DB, ids []int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, "UPDATE deadlocks.t SET v = v + 1 WHERE id = ?", id*process.Apart); err != nil {
			return err
		}
	}
	return tx.Commit()
}
