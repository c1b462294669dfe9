package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/rowlockdb/rowlock/bench/process"
)

// rowCount is enough for every parallel cycle to find rows of its own on every
// shard.
const rowCount = 1024

// table is what the sessions fight for: one row after the other on each shard.
type table struct {
	shards []int         // that have rows
	rows   map[int][]int // ids of the rows of a shard
}

// prepare makes the table and finds out, by locking them, on which shard its rows
// are.
func prepare(ctx context.Context, db *sql.DB) (*table, error) {
	var values []string
	for i := range rowCount {
		id := i * process.Apart
		values = append(values, fmt.Sprintf("(%d, 0)", id))
	}
	for _, q := range []string{
		"CREATE DATABASE deadlocks",
		"CREATE TABLE deadlocks.t (id INT PRIMARY KEY, v BIGINT NOT NULL)",
		"INSERT INTO deadlocks.t VALUES " + strings.Join(values, ", "),
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return nil, fmt.Errorf("%.40s: %w", q, err)
		}
	}
	t := &table{rows: map[int][]int{}}
	for i := range rowCount {
		id := i * process.Apart
		s, err := shardOf(ctx, db, id)
		if err != nil {
			return nil, fmt.Errorf("find the shard of a row: %w", err)
		}
		if t.rows[s] == nil {
			t.shards = append(t.shards, s)
		}
		t.rows[s] = append(t.rows[s], id)
	}
	if len(t.shards) < 3 {
		return nil, fmt.Errorf("the rows are on %d shards: three are needed", len(t.shards))
	}
	return t, nil
}

// shardOf locks a row and looks where the lock is.
func shardOf(ctx context.Context, db *sql.DB, id int) (shard int, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	var v int
	if err := tx.QueryRowContext(ctx, "SELECT v FROM deadlocks.t WHERE id = ? FOR UPDATE", id).Scan(&v); err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, "SELECT shard FROM rowlock.locks").Scan(&shard)
	return shard, err
}

// check compares the sum of all rows with what was committed.
func (t *table) check(ctx context.Context, db *sql.DB, want int64) error {
	var sum int64
	if err := db.QueryRowContext(ctx, "SELECT SUM(v) FROM deadlocks.t").Scan(&sum); err != nil {
		return err
	}
	if sum != want {
		return fmt.Errorf("the rows add up to %d, not to the %d that was committed", sum, want)
	}
	return nil
}
