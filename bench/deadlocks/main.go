// Command deadlocks provokes deadlocks over the wire and measures how they end.
//
// In each cycle two or three sessions hold a row each, on different shards, and
// then ask for the row of the next one. Exactly one of them must get error 1213,
// it must be one that has written least, the others must commit, and the writes of
// the victim must be gone. The time runs from the moment the last of the sessions
// has asked to the error.
//
// After that, sessions lock several rows at a time in ascending order: none of
// them may see error 1213.
//
// The last line is "cycles N, broken N, p50 N, p99 N; ordered N, deadlocks N". The
// exit code is 1 if anything was other than it must be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/process"
)

// settings are the flags.
type settings struct {
	binary, address  string
	cycles, parallel int
	ordered, workers int
	shards           int
	limit            time.Duration
	seed             uint64
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/rowlock", "server to start in a temporary directory")
	flag.StringVar(&s.address, "address", "", "server that runs already")
	flag.IntVar(&s.cycles, "cycles", 1000, "deadlocks to provoke")
	flag.IntVar(&s.parallel, "parallel", 4, "cycles at a time")
	flag.IntVar(&s.ordered, "ordered", 10_000, "transactions that lock in one order")
	flag.IntVar(&s.workers, "workers", 16, "sessions that lock in one order")
	flag.IntVar(&s.shards, "shards", 8, "shards of the server")
	flag.DurationVar(&s.limit, "limit", 500*time.Millisecond, "limit of the 99th percentile")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "deadlocks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	if s.address == "" {
		server, err := process.StartTemporary(ctx, s.binary, "deadlocks", "--shards", fmt.Sprint(s.shards))
		if err != nil {
			return err
		}
		defer server.Stop()
		s.address = server.Address
	}
	fmt.Printf("seed %d\n", s.seed)
	db, err := process.OpenMany(s.address, 64)
	if err != nil {
		return err
	}
	defer db.Close()
	table, err := prepare(ctx, db)
	if err != nil {
		return err
	}
	fmt.Printf("%d rows on %d shards\n", rowCount, len(table.shards))
	result, err := table.provoke(ctx, db, s)
	if err != nil {
		return err
	}
	for _, b := range result.broken {
		fmt.Println("  broken:", b)
	}
	began := time.Now()
	deadlocks, err := runOrdered(ctx, db, s)
	if err != nil {
		return err
	}
	fmt.Printf("ordered: %.0f transactions per second\n", float64(s.ordered)/time.Since(began).Seconds())
	if err := table.check(ctx, db, result.added+int64(s.ordered)*rowsOfOrdered); err != nil {
		return err
	}
	p50, p99 := percentile(result.times, 50), percentile(result.times, 99)
	fmt.Printf("cycles %d, broken %d, p50 %v, p99 %v; ordered %d, deadlocks %d\n", len(result.times), len(result.broken),
		p50.Round(time.Microsecond), p99.Round(time.Microsecond), s.ordered, deadlocks)
	switch {
	case len(result.broken) > 0:
		return errors.New("a cycle did not end with exactly one victim, the lightest")
	case p99 > s.limit:
		return fmt.Errorf("the 99th percentile is above %v", s.limit)
	case deadlocks > 0:
		return errors.New("transactions that lock in one order met deadlocks")
	}
	return nil
}

func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	times = slices.Sorted(slices.Values(times))
	return times[(len(times)-1)*p/100]
}

// isDeadlock tells whether err is error 1213.
func isDeadlock(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == 1213
}
