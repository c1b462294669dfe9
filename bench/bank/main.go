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
	"github.com/rowlockdb/rowlock/bench/workload"
)

type settings struct {
	binaries, sessions []string
	lua                string
	accounts, rounds   int
	seconds            int
}

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
	workload.Bank
	settings settings
	address  string
	runs     map[int][]workload.Report // by sessions
}

func run(ctx context.Context, s settings) error {
	var banks []*bank
	for _, binary := range s.binaries {
		server, err := process.StartTemporary(ctx, binary, "bank")
		if err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
		defer server.Kill()
		b := &bank{settings: s, address: server.Address, runs: map[int][]workload.Report{}}
		if err := b.open(ctx); err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
		defer b.Pools[0].Close()
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
				r, err := b.measure(ctx, n)
				if err == nil {
					err = b.Check(ctx)
				}
				if err != nil {
					return fmt.Errorf("%s, %d sessions: %w", s.binaries[i], n, err)
				}
				b.runs[n] = append(b.runs[n], r)
			}
		}
	}
	report(s, banks, numbers)
	return nil
}

func (b *bank) open(ctx context.Context) error {
	admin, err := process.Open(b.address, "")
	if err != nil {
		return err
	}
	defer admin.Close()
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE bank"); err != nil {
		return err
	}
	db, err := process.Open(b.address, "bank")
	if err != nil {
		return err
	}
	db.SetMaxIdleConns(1000)
	b.Bank = workload.Bank{Pools: []*sql.DB{db}, Accounts: b.settings.accounts}
	return b.Prepare(ctx)
}

func (b *bank) measure(ctx context.Context, sessions int) (workload.Report, error) {
	span := time.Duration(b.settings.seconds) * time.Second
	if b.settings.lua == "" {
		return b.Run(ctx, sessions, span)
	}
	s := workload.Sysbench{Addresses: []string{b.address}, User: "root", Database: "bank",
		Options: []string{fmt.Sprintf("--accounts=%d", b.settings.accounts)}}
	return s.Run(ctx, b.settings.lua, sessions, span)
}

func report(s settings, banks []*bank, numbers []int) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "sessions\tserver\ttransfers a second\tmedian\tp95\tdeadlocks\tbeside it, the first makes\t")
	for _, n := range numbers {
		first := middle(banks[0].runs[n])
		for i, b := range banks {
			r := middle(b.runs[n])
			ratio := ""
			if i > 0 {
				ratio = fmt.Sprintf("%.2f times as many", first.TransactionRate/r.TransactionRate)
			}
			fmt.Fprintf(table, "%d\t%s\t%.0f\t%v\t%v\t%d\t%s\t\n", n, s.binaries[i], r.TransactionRate,
				r.Latency.P50.Round(10*time.Microsecond), r.Latency.P95.Round(10*time.Microsecond), r.Deadlocks, ratio)
		}
	}
	table.Flush()
	fmt.Printf("runs %d, the sum of all balances was right after each\n", s.rounds*len(numbers)*len(banks))
}

// middle is the run with the median rate.
func middle(runs []workload.Report) workload.Report {
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b workload.Report) int { return int(a.TransactionRate - b.TransactionRate) })
	return sorted[len(sorted)/2]
}
