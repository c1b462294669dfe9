package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock"
	"github.com/rowlockdb/rowlock/bench/process"
)

// opening is the balance of every account at the start.
const opening = 1000

// checkLimit bounds the checks after a restart.
const checkLimit = 2 * time.Minute

// workload is the load and what it was told.
type workload struct {
	settings settings
	clients  []*client
	lost     int

	retried, unknown atomic.Int64

	mu struct {
		sync.Mutex
		strange []string
	}
}

// client makes numbered steps. Its fields belong to its goroutine while the load
// runs, and to the checks between.
type client struct {
	id      int
	seq     int64   // of the next step; a step is never tried under two numbers
	acked   []int64 // steps that were acknowledged, ascending
	checked int     // how many of them earlier checks have found
	random  *rand.Rand
}

// transfers reports whether the client moves money; the others append.
func (c *client) transfers() bool { return c.id%2 == 0 }

func newWorkload(s settings) *workload {
	w := &workload{settings: s}
	for id := range s.clients {
		w.clients = append(w.clients, &client{id: id, random: rand.New(rand.NewPCG(s.seed, uint64(id)+1))})
	}
	return w
}

func (w *workload) acknowledged() int {
	n := 0
	for _, c := range w.clients {
		n += len(c.acked)
	}
	return n
}

// unexpected returns, and forgets, errors that neither the kill nor a lost
// deadlock explains.
func (w *workload) unexpected() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	strange := w.mu.strange
	w.mu.strange = nil
	return strange
}

func (w *workload) prepare(ctx context.Context, address string) error {
	db, err := process.Open(address, "")
	if err != nil {
		return err
	}
	defer db.Close()
	statements := []string{
		"CREATE DATABASE crash",
		"CREATE TABLE crash.accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)",
		"CREATE TABLE crash.journal (client INT, seq BIGINT, source INT NOT NULL, target INT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (client, seq))",
		"CREATE TABLE crash.entries (client INT, seq BIGINT, PRIMARY KEY (client, seq))",
	}
	for id := range w.settings.accounts {
		statements = append(statements, fmt.Sprintf("INSERT INTO crash.accounts VALUES (%d, %d)", idOf(id), opening))
	}
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// idOf is the id of an account, by its number. The journal has numbers.
func idOf(account int) int { return account * process.Apart }

// run starts the clients; the channel closes when all have met the end of the
// server or of ctx.
func (w *workload) run(ctx context.Context, address string) <-chan struct{} {
	done := make(chan struct{})
	var running sync.WaitGroup
	for _, c := range w.clients {
		running.Go(func() { w.client(ctx, c, address) })
	}
	go func() {
		running.Wait()
		close(done)
	}()
	return done
}

func (w *workload) client(ctx context.Context, c *client, address string) {
	db, err := process.Open(address, "crash")
	if err != nil {
		w.note(err)
		return
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for ctx.Err() == nil {
		seq := c.seq
		c.seq++
		err := w.step(ctx, c, db, seq)
		if err == nil {
			c.acked = append(c.acked, seq)
			continue
		}
		w.unknown.Add(1)
		var answer *mysql.MySQLError
		if !errors.As(err, &answer) {
			return // the connection is gone: the server was killed
		}
		w.note(err)
	}
}

func (w *workload) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.strange) < 5 {
		w.mu.strange = append(w.mu.strange, err.Error())
	}
}

func (w *workload) step(ctx context.Context, c *client, db *sql.DB, seq int64) error {
	if !c.transfers() {
		_, err := db.ExecContext(ctx, "INSERT INTO entries VALUES (?, ?)", c.id, seq)
		return err
	}
	source := c.random.IntN(w.settings.accounts)
	target := (source + 1 + c.random.IntN(w.settings.accounts-1)) % w.settings.accounts
	amount := 1 + c.random.Int64N(10)
	attempts := int64(0)
	err := rowlock.RunTx(ctx, db, nil, func(tx *sql.Tx) error {
		attempts++
		if _, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = balance - ? WHERE id = ?", amount, idOf(source)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = balance + ? WHERE id = ?", amount, idOf(target)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO journal VALUES (?, ?, ?, ?, ?)", c.id, seq, source, target, amount)
		return err
	})
	w.retried.Add(max(attempts-1, 0))
	return err
}

// verify counts what was acknowledged and is not there: since the last check, or
// ever when all is set. Wrong balances are an error.
func (w *workload) verify(ctx context.Context, address string, all bool) (lost int, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	db, err := process.Open(address, "crash")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	for _, c := range w.clients {
		from := c.checked
		if all {
			from = 0
		}
		missing, err := c.missing(ctx, db, from)
		if err != nil {
			return lost, err
		}
		for _, seq := range missing {
			fmt.Printf("  LOST: step %d of client %d\n", seq, c.id)
		}
		lost += len(missing)
		c.checked = len(c.acked)
	}
	return lost, w.balances(ctx, db)
}

// missing lists the acknowledged steps from index from on that have no row.
func (c *client) missing(ctx context.Context, db *sql.DB, from int) ([]int64, error) {
	if from == len(c.acked) {
		return nil, nil
	}
	table := "entries"
	if c.transfers() {
		table = "journal"
	}
	rows, err := db.QueryContext(ctx, "SELECT seq FROM "+table+" WHERE client = ? AND seq >= ?", c.id, c.acked[from])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	defer rows.Close()
	there := map[int64]bool{}
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		there[seq] = true
	}
	missing := slices.DeleteFunc(slices.Clone(c.acked[from:]), func(seq int64) bool { return there[seq] })
	return missing, rows.Err()
}

// balances compares each account with what the journal makes of it, and their
// sum with the opening one.
func (w *workload) balances(ctx context.Context, db *sql.DB) error {
	want := make([]int64, w.settings.accounts)
	for i := range want {
		want[i] = opening
	}
	err := eachRow(ctx, db, "SELECT source, target, amount FROM journal", 3, func(v []int64) {
		want[v[0]] -= v[2]
		want[v[1]] += v[2]
	})
	if err != nil {
		return err
	}
	sum, seen := int64(0), 0
	var wrong []string
	err = eachRow(ctx, db, "SELECT id, balance FROM accounts", 2, func(v []int64) {
		sum += v[1]
		seen++
		if n := v[0] / process.Apart; want[n] != v[1] {
			wrong = append(wrong, fmt.Sprintf("account %d has %d, its journal says %d", n, v[1], want[n]))
		}
	})
	switch {
	case err != nil:
		return err
	case seen != len(want):
		return fmt.Errorf("%d accounts instead of %d", seen, len(want))
	case sum != opening*int64(len(want)):
		return fmt.Errorf("the accounts hold %d instead of %d: %v", sum, opening*len(want), wrong)
	case len(wrong) > 0:
		return fmt.Errorf("transactions were applied in part: %v", wrong)
	}
	return nil
}

func eachRow(ctx context.Context, db *sql.DB, query string, columns int, do func([]int64)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	values := make([]int64, columns)
	into := make([]any, columns)
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
		do(values)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	return nil
}
