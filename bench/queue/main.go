// Command queue takes jobs from a table with FOR UPDATE SKIP LOCKED, many workers
// at a time, as work queues in SQL do:
//
//	BEGIN; SELECT id FROM jobs … LIMIT n FOR UPDATE SKIP LOCKED; DELETE or UPDATE; COMMIT
//
// Every job must be taken exactly once and no worker may meet an error, deadlocks
// included. Each variant prints its rate and how often a worker came back with
// nothing although there were jobs. The exit code is 1 if anything is wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// settings are the flags.
type settings struct {
	binary, address       string
	jobs, workers, shards int
	only                  string
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/rowlock", "server to start in a temporary directory")
	flag.StringVar(&s.address, "address", "", "server that runs already")
	flag.IntVar(&s.jobs, "jobs", 10_000, "jobs in the queue")
	flag.IntVar(&s.workers, "workers", 16, "workers")
	flag.IntVar(&s.shards, "shards", 8, "shards of the server")
	flag.StringVar(&s.only, "only", "", "regexp of the variants to run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "queue:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	only, err := regexp.Compile(s.only)
	if err != nil {
		return err
	}
	if s.address == "" {
		server, err := process.StartTemporary(ctx, s.binary, "queue", "--shards", fmt.Sprint(s.shards))
		if err != nil {
			return err
		}
		defer server.Stop()
		s.address = server.Address
	}
	db, err := process.OpenMany(s.address, 64)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE queue"); err != nil {
		return err
	}
	for _, v := range variants {
		if !only.MatchString(v.name) {
			continue
		}
		q := &queue{variant: v, db: db, taken: make([]int, s.jobs)}
		if err := q.fill(ctx); err != nil {
			return fmt.Errorf("%s: fill the queue: %w", v.name, err)
		}
		began := time.Now()
		if err := q.work(ctx, s.workers); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		took := time.Since(began)
		if err := q.check(ctx); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		fmt.Printf("%-28s %d jobs, %d workers, each job once: %6.0f jobs per second, %d transactions, %d came back empty\n",
			v.name, s.jobs, s.workers, float64(s.jobs)/took.Seconds(), q.transactions.Load(), q.empty.Load())
	}
	return nil
}
