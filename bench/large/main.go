// Command large runs transactions of a million rows against a real server.
//
// One transaction inserts all rows, by many INSERTs of a thousand rows, and is
// rolled back; another commits, and the server is killed with SIGKILL just after
// the acknowledgement. Then one INSERT ... SELECT, one UPDATE and one DELETE of as
// many rows each commit. Meanwhile others read the same table and write another
// one: readers must see all rows of a transaction or none. After each step the
// rows are counted and summed. At last a transaction beyond txn_total_size_limit
// must fail with error 1197 and leave nothing.
//
// It prints how long each step took, how long the others waited at most, and the
// largest resident memory of the server.
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
	binary string
	rows   int
	batch  int
	shards int
	index  bool
	only   string
	dir    string
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/rowlock", "server to test")
	flag.IntVar(&s.rows, "rows", 1_000_000, "rows of one transaction")
	flag.IntVar(&s.batch, "batch", 1000, "rows of one INSERT")
	flag.IntVar(&s.shards, "shards", 8, "shards of the server")
	flag.BoolVar(&s.index, "index", false, "give the tables a secondary index")
	flag.StringVar(&s.only, "only", "", "steps to take, as a regular expression; all by default")
	flag.StringVar(&s.dir, "dir", "", "data directory; a temporary one by default")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "large:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	only, err := regexp.Compile(s.only)
	if err != nil {
		return err
	}
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "rowlock-large-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		s.dir = dir
	}
	t := &trial{settings: s}
	if err := t.start(ctx); err != nil {
		return err
	}
	defer func() { t.server.Kill() }()
	if err := t.prepare(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"INSERT, ROLLBACK", t.insertAndRollBack},
		{"INSERT, COMMIT, kill -9", t.insertAndCrash},
		{"INSERT ... SELECT", t.insertSelect},
		{"UPDATE", t.update},
		{"DELETE", t.delete},
		{"beyond the limit", t.beyondLimit},
	} {
		if !only.MatchString(step.name) {
			continue
		}
		others := t.watch(ctx)
		begun := time.Now()
		err := step.do(ctx)
		took := time.Since(begun)
		waited, watchErr := others.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if watchErr != nil {
			return fmt.Errorf("beside %s: %w", step.name, watchErr)
		}
		fmt.Printf("%-24s %8.1f s, others at most %5.0f ms, resident %5d MiB at most\n",
			step.name, took.Seconds(), float64(waited.Milliseconds()), t.peak())
	}
	return t.server.Stop()
}

func (t *trial) start(ctx context.Context) error {
	server, err := process.Start(ctx, t.binary, "--data", t.dir, "--listen", "127.0.0.1:0", "--shards", fmt.Sprint(t.shards))
	if err != nil {
		return err
	}
	t.server = server
	return t.connect()
}
