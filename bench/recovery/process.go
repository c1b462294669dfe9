package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/process"
	"github.com/rowlockdb/rowlock/txn"
)

const (
	accounts = 200
	opening  = 1000
	// wide is the number of shards of the wide transactions.
	wide = 3
)

// world is a data directory whose server dies again and again.
type world struct {
	binary, dir string
	byShard     map[int][]int // account ids
	shards      []int
}

// processes runs a commit to each place in a server that exits there.
func processes(ctx context.Context, binary string) error {
	dir, err := os.MkdirTemp("", "rowlock-recovery-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := &world{binary: binary, dir: dir, byShard: map[int][]int{}}
	if err := w.prepare(ctx); err != nil {
		return fmt.Errorf("process: %w", err)
	}
	var results []result
	for _, p := range places(wide) {
		r := result{place: p, limit: resolveLimit}
		if r.committed, r.took, err = w.die(ctx, p); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.err = err
		}
		results = append(results, r)
	}
	return report("process: the server dies and starts again", results)
}

func (w *world) start(ctx context.Context, environment ...string) (*process.Server, *sql.DB, error) {
	server, err := process.StartWith(ctx, environment, w.binary, "--data", filepath.Join(w.dir, "data"), "--listen", "127.0.0.1:0", "--shards", "8")
	if err != nil {
		return nil, nil, err
	}
	db, err := process.Open(server.Address, "")
	if err != nil {
		server.Kill()
		return nil, nil, err
	}
	return server, db, nil
}

func (w *world) prepare(ctx context.Context) error {
	server, db, err := w.start(ctx)
	if err != nil {
		return err
	}
	defer server.Kill()
	defer db.Close()
	statements := []string{"CREATE DATABASE bank", "CREATE TABLE bank.accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)"}
	var ids []int
	for i := range accounts {
		id := i * process.Apart
		statements = append(statements, fmt.Sprintf("INSERT INTO bank.accounts VALUES (%d, %d)", id, opening))
		ids = append(ids, id)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	places, err := process.Place(ctx, db, "bank.accounts", ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		s := places[id]
		if len(w.byShard[s]) == 0 {
			w.shards = append(w.shards, s)
		}
		w.byShard[s] = append(w.byShard[s], id)
	}
	if len(w.shards) < wide {
		return fmt.Errorf("the accounts lie on %d shards", len(w.shards))
	}
	return nil
}

// rows chooses one account on each of n shards; two on one, for n = 1.
func (w *world) rows(n int) []int {
	if n == 1 {
		return w.byShard[w.shards[0]][:2]
	}
	var ids []int
	for _, s := range w.shards[:n] {
		ids = append(ids, w.byShard[s][0])
	}
	return ids
}

// die runs one commit in a server that dies at p, starts the server again, and
// says what has become of the commit and when that was certain.
func (w *world) die(ctx context.Context, p place) (committed bool, took time.Duration, err error) {
	ids := w.rows(p.shards)
	armed := filepath.Join(w.dir, "armed")
	os.Remove(armed)
	server, db, err := w.start(ctx, "ROWLOCK_FAILPOINT="+p.String(), "ROWLOCK_FAILPOINT_ARMED="+armed)
	if err != nil {
		return false, 0, err
	}
	defer server.Kill()
	before, err := balances(ctx, db, ids, false)
	if err != nil {
		return false, 0, err
	}
	told, err := transfer(ctx, db, ids, armed)
	db.Close()
	if err != nil {
		return false, 0, err
	}
	if p.step == answered {
		if told != nil {
			return false, 0, fmt.Errorf("the commit failed: %w", told)
		}
		server.Kill()
	} else if code := server.Wait(); code != 86 {
		return false, 0, fmt.Errorf("the server ended with %d, not at its failpoint; the client was told %v", code, told)
	}
	var refused *mysql.MySQLError
	if told == nil && p.step != answered && p.step != txn.StepResolve || errors.As(told, &refused) {
		return false, 0, fmt.Errorf("the client was told %v", told)
	}
	return w.find(ctx, ids, before)
}

// transfer takes money from the first account and gives one to each other. told
// is what COMMIT answered.
func transfer(ctx context.Context, db *sql.DB, ids []int, armed string) (told, err error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
		return nil, err
	}
	for i, id := range ids {
		change := 1
		if i == 0 {
			change = 1 - len(ids)
		}
		if _, err := c.ExecContext(ctx, fmt.Sprintf("UPDATE bank.accounts SET balance = balance + (%d) WHERE id = %d", change, id)); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(armed, nil, 0o600); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, told = c.ExecContext(ctx, "COMMIT")
	return told, nil
}

// find starts the server again and reads the rows under locks.
func (w *world) find(ctx context.Context, ids []int, before []int) (committed bool, took time.Duration, err error) {
	server, db, err := w.start(ctx)
	if err != nil {
		return false, 0, err
	}
	ready := time.Now()
	defer server.Kill()
	defer db.Close()
	after, err := balances(ctx, db, ids, true)
	took = time.Since(ready)
	if err != nil {
		return false, took, err
	}
	var sum int
	if err := db.QueryRowContext(ctx, "SELECT CAST(SUM(balance) AS SIGNED) FROM bank.accounts").Scan(&sum); err != nil {
		return false, took, err
	}
	if sum != accounts*opening {
		return false, took, fmt.Errorf("the accounts hold %d instead of %d", sum, accounts*opening)
	}
	changed := 0
	for i := range ids {
		if after[i] != before[i] {
			changed++
		}
	}
	if changed != 0 && changed != len(ids) {
		return false, took, fmt.Errorf("applied in part: %v became %v", before, after)
	}
	return changed > 0, took, nil
}

// balances reads the accounts, one statement each, in one transaction.
func balances(ctx context.Context, db *sql.DB, ids []int, lock bool) ([]int, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	suffix := ""
	if lock {
		suffix = " FOR UPDATE"
	}
	values := make([]int, len(ids))
	for i, id := range ids {
		if err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT balance FROM bank.accounts WHERE id = %d%s", id, suffix)).Scan(&values[i]); err != nil {
			return nil, err
		}
	}
	return values, tx.Commit()
}
