// Command bank moves money between random accounts from many sessions at a time,
// checks that none was made or lost, and prints the rate. One transfer is one
// transaction: two rows locked by FOR UPDATE, two updated, prepared statements.
// A deadlock rolls it back and is counted; the session goes on with the next.
//
// Several binaries are measured in turns, and the rates of the first stand beside
// those of the others:
//
//	go run ./bench/bank -binary bin/rowlock,/tmp/older/rowlock
//
// With -lua the load is sysbench's, with that script; its accounts are the same.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

type settings struct {
	binaries, sessions []string
	lua                string
	accounts, rounds   int
	seconds            int
}

// opening is the balance of every account at the start.
const opening = 1000

func main() {
	var s settings
	binaries := flag.String("binary", "bin/rowlock", "servers to start in temporary directories, separated by commas")
	sessions := flag.String("sessions", "8,32", "numbers of sessions")
	flag.StringVar(&s.lua, "lua", "", "sysbench script that makes the load")
	flag.IntVar(&s.accounts, "accounts", 10_000, "accounts")
	flag.IntVar(&s.rounds, "rounds", 3, "runs of each kind; the median is printed")
	flag.IntVar(&s.seconds, "seconds", 5, "time of one run")
	flag.Parse()
	s.binaries, s.sessions = strings.Split(*binaries, ","), strings.Split(*sessions, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bank:", err)
		os.Exit(1)
	}
}

// bank is one server with accounts.
type bank struct {
	settings settings
	address  string
	db       *sql.DB
	runs     map[int][]outcome // by sessions
}

// outcome is what one run came to.
type outcome struct {
	rate      float64 // transfers a second
	median    time.Duration
	p95       time.Duration
	deadlocks int
}

func run(ctx context.Context, s settings) error {
	var banks []*bank
	for _, binary := range s.binaries {
		server, err := process.StartTemporary(ctx, binary, "bank")
		if err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
		defer server.Kill()
		b := &bank{settings: s, address: server.Address, runs: map[int][]outcome{}}
		if err := b.prepare(ctx); err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
		defer b.db.Close()
		banks = append(banks, b)
	}
	var numbers []int
	for _, text := range s.sessions {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("%q sessions", text)
		}
		numbers = append(numbers, n)
	}
	for range s.rounds {
		for _, n := range numbers {
			for i, b := range banks {
				o, err := b.load(ctx, n)
				if err == nil {
					err = b.check(ctx)
				}
				if err != nil {
					return fmt.Errorf("%s, %d sessions: %w", s.binaries[i], n, err)
				}
				b.runs[n] = append(b.runs[n], o)
			}
		}
	}
	report(s, banks, numbers)
	return nil
}

func (b *bank) prepare(ctx context.Context) error {
	admin, err := process.Open(b.address, "")
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, q := range []string{"CREATE DATABASE bank",
		"CREATE TABLE bank.accounts (id INT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, touched INT NOT NULL DEFAULT 0)"} {
		if _, err := admin.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	const batch = 500
	for first := 1; first <= b.settings.accounts; first += batch {
		var values []string
		for id := first; id < min(first+batch, b.settings.accounts+1); id++ {
			values = append(values, fmt.Sprintf("(%d, %d)", id, opening))
		}
		if _, err := admin.ExecContext(ctx, "INSERT INTO bank.accounts (id, balance) VALUES "+strings.Join(values, ", ")); err != nil {
			return fmt.Errorf("open accounts: %w", err)
		}
	}
	b.db, err = process.Open(b.address, "bank")
	if err == nil {
		b.db.SetMaxIdleConns(1000)
	}
	return err
}

// check counts the money.
func (b *bank) check(ctx context.Context) error {
	var n, sum int
	err := b.db.QueryRowContext(ctx, "SELECT COUNT(*), CAST(SUM(balance) AS SIGNED) FROM accounts").Scan(&n, &sum)
	if err != nil {
		return fmt.Errorf("count the money: %w", err)
	}
	if n != b.settings.accounts || sum != n*opening {
		return fmt.Errorf("%d accounts hold %d instead of %d accounts with %d", n, sum, b.settings.accounts, b.settings.accounts*opening)
	}
	return nil
}

func (b *bank) load(ctx context.Context, sessions int) (outcome, error) {
	if b.settings.lua != "" {
		return b.sysbench(ctx, sessions)
	}
	return b.drive(ctx, sessions)
}

func report(s settings, banks []*bank, numbers []int) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "sessions\tserver\ttransfers a second\tmedian\tp95\tdeadlocks\tbeside it, the first makes\t")
	for _, n := range numbers {
		first := middle(banks[0].runs[n])
		for i, b := range banks {
			o := middle(b.runs[n])
			ratio := ""
			if i > 0 {
				ratio = fmt.Sprintf("%.2f times as many", first.rate/o.rate)
			}
			fmt.Fprintf(table, "%d\t%s\t%.0f\t%v\t%v\t%d\t%s\t\n", n, s.binaries[i], o.rate,
				o.median.Round(10*time.Microsecond), o.p95.Round(10*time.Microsecond), o.deadlocks, ratio)
		}
	}
	table.Flush()
	fmt.Printf("runs %d, the sum of all balances was right after each\n", s.rounds*len(numbers)*len(banks))
}

// middle is the run with the median rate.
func middle(runs []outcome) outcome {
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b outcome) int { return int(a.rate - b.rate) })
	return sorted[len(sorted)/2]
}

var errNoRate = errors.New("sysbench printed no rate")
