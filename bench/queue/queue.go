package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// variant is one way to keep a queue in a table.
type variant struct {
	name   string
	table  string // its definition
	take   string // finds and locks jobs; %s is the rest of the statement
	finish string // takes the jobs %s out of the queue
	left   string // counts what is still in the queue
	limit  int
}

const (
	plainTable   = "CREATE TABLE queue.jobs (id INT PRIMARY KEY, payload VARCHAR(40) NOT NULL)"
	indexedTable = "CREATE TABLE queue.jobs (id INT PRIMARY KEY, payload VARCHAR(40) NOT NULL, done INT NOT NULL DEFAULT 0, KEY done (done, id))"
	takeFirst    = "SELECT id FROM queue.jobs ORDER BY id LIMIT %d FOR UPDATE SKIP LOCKED"
	takeAny      = "SELECT id FROM queue.jobs LIMIT %d FOR UPDATE SKIP LOCKED"
	takeOpen     = "SELECT id FROM queue.jobs WHERE done = 0 ORDER BY id LIMIT %d FOR UPDATE SKIP LOCKED"
	deleteJobs   = "DELETE FROM queue.jobs WHERE id IN (%s)"
	markJobs     = "UPDATE queue.jobs SET done = 1 WHERE id IN (%s)"
	countAll     = "SELECT COUNT(*) FROM queue.jobs"
	countOpen    = "SELECT COUNT(*) FROM queue.jobs WHERE done = 0"
)

var variants = []variant{
	{"first 1, delete", plainTable, takeFirst, deleteJobs, countAll, 1},
	{"first 10, delete", plainTable, takeFirst, deleteJobs, countAll, 10},
	{"any 1, delete", plainTable, takeAny, deleteJobs, countAll, 1},
	{"any 10, delete", plainTable, takeAny, deleteJobs, countAll, 10},
	{"first open 1, update", indexedTable, takeOpen, markJobs, countOpen, 1},
	{"first open 10, update", indexedTable, takeOpen, markJobs, countOpen, 10},
}

// gap is between the ids of jobs, so that a few hundred are on every shard: neighbours
// share one, 128 ids at a time.
const gap = 40

// queue is one run.
type queue struct {
	variant variant
	db      *sql.DB

	transactions, empty atomic.Int64

	mu    sync.Mutex
	taken []int // how often each job was taken
}

func (q *queue) fill(ctx context.Context) error {
	for _, s := range []string{"DROP TABLE IF EXISTS queue.jobs", q.variant.table} {
		if _, err := q.db.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	for id := 0; id < len(q.taken); {
		var values []string
		for ; id < len(q.taken) && len(values) < 1000; id++ {
			values = append(values, fmt.Sprintf("(%d, 'job number %d')", id*gap, id))
		}
		if _, err := q.db.ExecContext(ctx, "INSERT INTO queue.jobs (id, payload) VALUES "+strings.Join(values, ", ")); err != nil {
			return err
		}
	}
	return nil
}

// work runs the workers until the queue is empty.
func (q *queue) work(ctx context.Context, workers int) error {
	errs := make([]error, workers)
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() { errs[i] = q.worker(ctx) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func (q *queue) worker(ctx context.Context) error {
	for {
		ids, err := q.take(ctx)
		if err != nil {
			return err
		}
		q.transactions.Add(1)
		if len(ids) == 0 {
			var left int
			if err := q.db.QueryRowContext(ctx, q.variant.left).Scan(&left); err != nil || left == 0 {
				return err
			}
			q.empty.Add(1)
			continue
		}
		q.mu.Lock()
		for _, id := range ids {
			q.taken[id/gap]++
		}
		q.mu.Unlock()
	}
}

// take is one transaction of a worker. What it returns was committed.
func (q *queue) take(ctx context.Context) ([]int, error) {
	tx, err := q.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, fmt.Sprintf(q.variant.take, q.variant.limit))
	if err != nil {
		return nil, fmt.Errorf("look for jobs: %w", err)
	}
	defer rows.Close()
	var ids []int
	var list []string
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids, list = append(ids, id), append(list, fmt.Sprint(id))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for jobs: %w", err)
	}
	if len(ids) == 0 {
		return nil, tx.Commit()
	}
	changed, err := tx.ExecContext(ctx, fmt.Sprintf(q.variant.finish, strings.Join(list, ",")))
	if err != nil {
		return nil, fmt.Errorf("finish jobs: %w", err)
	}
	if n, _ := changed.RowsAffected(); n != int64(len(ids)) {
		return nil, fmt.Errorf("%d jobs were locked and %d changed", len(ids), n)
	}
	return ids, tx.Commit()
}

func (q *queue) check(ctx context.Context) error {
	for id, n := range q.taken {
		if n != 1 {
			return fmt.Errorf("job %d was taken %d times", id, n)
		}
	}
	var left int
	if err := q.db.QueryRowContext(ctx, q.variant.left).Scan(&left); err != nil {
		return err
	}
	if left != 0 {
		return fmt.Errorf("%d jobs are left over", left)
	}
	return nil
}
