package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

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

// drive makes the load with clients of our own.
func (b *bank) drive(ctx context.Context, sessions int) (outcome, error) {
	all := make([]*session, sessions)
	errs := make([]error, sessions)
	var ready, running sync.WaitGroup
	ready.Add(sessions)
	start := make(chan struct{})
	stop := make(chan struct{})
	for i := range all {
		all[i] = &session{accounts: b.settings.accounts}
		running.Go(func() {
			c, err := b.db.Conn(ctx)
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
	timer := time.NewTimer(time.Duration(b.settings.seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	close(stop)
	running.Wait()
	took := time.Since(begun)
	if err := errors.Join(errs...); err != nil {
		return outcome{}, err
	}
	var o outcome
	var times []time.Duration
	for _, s := range all {
		times = append(times, s.times...)
		o.deadlocks += s.deadlocks
	}
	if len(times) == 0 {
		return o, errors.New("no transfer was made")
	}
	slices.Sort(times)
	o.rate = float64(len(times)) / took.Seconds()
	o.median, o.p95 = times[len(times)/2], times[len(times)*95/100]
	return o, nil
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

var (
	transactions = regexp.MustCompile(`transactions:\s+\d+\s+\(([\d.]+) per sec`)
	average      = regexp.MustCompile(`avg:\s+([\d.]+)`)
	percentile   = regexp.MustCompile(`95th percentile:\s+([\d.]+)`)
	ignored      = regexp.MustCompile(`ignored errors:\s+(\d+)`)
)

// sysbench makes the load with a script for sysbench; its median is an average.
func (b *bank) sysbench(ctx context.Context, sessions int) (outcome, error) {
	host, port, err := net.SplitHostPort(b.address)
	if err != nil {
		return outcome{}, err
	}
	c := exec.CommandContext(ctx, "sysbench", b.settings.lua,
		"--mysql-host="+host, "--mysql-port="+port, "--mysql-user=root", "--mysql-db=bank", "--mysql-ignore-errors=1213",
		fmt.Sprintf("--accounts=%d", b.settings.accounts), fmt.Sprintf("--threads=%d", sessions),
		fmt.Sprintf("--time=%d", b.settings.seconds), "--events=0", "run")
	out, err := c.CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("sysbench: %w: %s", err, out)
	}
	number := func(pattern *regexp.Regexp) float64 {
		var x float64
		if m := pattern.FindSubmatch(out); m != nil {
			x, _ = strconv.ParseFloat(string(m[1]), 64)
		}
		return x
	}
	o := outcome{rate: number(transactions), deadlocks: int(number(ignored)),
		median: time.Duration(number(average) * float64(time.Millisecond)), p95: time.Duration(number(percentile) * float64(time.Millisecond))}
	if o.rate == 0 {
		return o, errNoRate
	}
	return o, nil
}
