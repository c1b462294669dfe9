package workload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Bank is a table of accounts, accounts in the pools' own database. A transfer is
// one transaction: two rows locked by FOR UPDATE, two updated, prepared
// statements. A deadlock rolls it back and is counted; the session goes on with
// the next.
type Bank struct {
	// Pools lead to the servers, which take sessions in turn. They must keep as many
	// idle connections as there are sessions.
	Pools    []*sql.DB
	Accounts int
}

const (
	opening = 1000 // the balance of every account at the start
	// StatementsOfATransfer with its BEGIN and COMMIT.
	StatementsOfATransfer = 6
)

// Prepare makes the accounts.
func (b *Bank) Prepare(ctx context.Context) error {
	const create = "CREATE TABLE accounts (id INT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, touched INT NOT NULL DEFAULT 0)"
	if _, err := b.Pools[0].ExecContext(ctx, create); err != nil {
		return fmt.Errorf("%s: %w", create, err)
	}
	const batch = 500
	for first := 1; first <= b.Accounts; first += batch {
		var values []string
		for id := first; id < min(first+batch, b.Accounts+1); id++ {
			values = append(values, fmt.Sprintf("(%d, %d)", id, opening))
		}
		if _, err := b.Pools[0].ExecContext(ctx, "INSERT INTO accounts (id, balance) VALUES "+strings.Join(values, ", ")); err != nil {
			return fmt.Errorf("open accounts: %w", err)
		}
	}
	return nil
}

// Check counts the money.
func (b *Bank) Check(ctx context.Context) error {
	var n, sum int
	err := b.Pools[0].QueryRowContext(ctx, "SELECT COUNT(*), CAST(SUM(balance) AS SIGNED) FROM accounts").Scan(&n, &sum)
	if err != nil {
		return fmt.Errorf("count the money: %w", err)
	}
	if n != b.Accounts || sum != n*opening {
		return fmt.Errorf("%d accounts hold %d instead of %d accounts with %d", n, sum, b.Accounts, b.Accounts*opening)
	}
	return nil
}

// Run makes transfers from so many sessions for a time.
func (b *Bank) Run(ctx context.Context, sessions int, span time.Duration) (Report, error) {
	all := make([]*session, sessions)
	errs := make([]error, sessions)
	var ready, running sync.WaitGroup
	ready.Add(sessions)
	start := make(chan struct{})
	stop := make(chan struct{})
	for i := range all {
		all[i] = &session{accounts: b.Accounts}
		running.Go(func() {
			c, err := b.Pools[i%len(b.Pools)].Conn(ctx)
			if err == nil {
				defer c.Close()
				err = all[i].open(ctx, c)
			}
			ready.Done()
			<-start
			if err == nil {
				err = all[i].run(ctx, stop)
			}
			errs[i] = err
		})
	}
	ready.Wait()
	begun := time.Now()
	close(start)
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	close(stop)
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return Report{}, err
	}
	return reportOf(all, time.Since(begun))
}

func reportOf(all []*session, took time.Duration) (r Report, err error) {
	var times []time.Duration
	var sum time.Duration
	for _, s := range all {
		times = append(times, s.times...)
		r.Deadlocks += s.deadlocks
	}
	if r.Transactions = len(times); r.Transactions == 0 {
		return r, errors.New("no transfer was made")
	}
	for _, t := range times {
		sum += t
	}
	r.Queries = r.Transactions * StatementsOfATransfer
	r.TransactionRate = float64(r.Transactions) / took.Seconds()
	r.QueryRate = r.TransactionRate * StatementsOfATransfer
	r.Average = sum / time.Duration(r.Transactions)
	r.Latency = LatencyOf(times)
	return r, nil
}

// session is one client and what it has seen.
type session struct {
	accounts  int
	begin     *sql.Stmt
	lock      *sql.Stmt
	take      *sql.Stmt
	give      *sql.Stmt
	commit    *sql.Stmt
	rollback  *sql.Stmt
	times     []time.Duration
	deadlocks int
}

func (s *session) open(ctx context.Context, c *sql.Conn) error {
	for _, p := range []struct {
		statement **sql.Stmt
		text      string
	}{
		{&s.begin, "BEGIN"}, {&s.commit, "COMMIT"}, {&s.rollback, "ROLLBACK"},
		{&s.lock, "SELECT balance FROM accounts WHERE id = ? FOR UPDATE"},
		{&s.take, "UPDATE accounts SET balance = balance - ?, touched = touched + 1 WHERE id = ?"},
		{&s.give, "UPDATE accounts SET balance = balance + ?, touched = touched + 1 WHERE id = ?"},
	} {
		var err error
		if *p.statement, err = c.PrepareContext(ctx, p.text); err != nil {
			return fmt.Errorf("%s: %w", p.text, err)
		}
	}
	return nil
}

func (s *session) run(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return ctx.Err()
		default:
		}
		begun := time.Now()
		err := s.transfer(ctx)
		var refused *mysql.MySQLError
		switch {
		case err == nil:
			s.times = append(s.times, time.Since(begun))
		case errors.As(err, &refused) && refused.Number == 1213:
			s.deadlocks++
			if _, err := s.rollback.ExecContext(ctx); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (s *session) transfer(ctx context.Context) error {
	from := 1 + rand.IntN(s.accounts)
	to := 1 + (from+rand.IntN(s.accounts-1))%s.accounts
	amount := 1 + rand.IntN(9)
	if _, err := s.begin.ExecContext(ctx); err != nil {
		return err
	}
	for _, id := range []int{from, to} {
		var balance int
		if err := s.lock.QueryRowContext(ctx, id).Scan(&balance); err != nil {
			return err
		}
	}
	if _, err := s.take.ExecContext(ctx, amount, from); err != nil {
		return err
	}
	if _, err := s.give.ExecContext(ctx, amount, to); err != nil {
		return err
	}
	_, err := s.commit.ExecContext(ctx)
	return err
}
