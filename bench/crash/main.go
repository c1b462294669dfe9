// Command crash loads a server, kills it with SIGKILL, starts it again and
// checks that nothing acknowledged is gone, many times over.
//
// Half of the clients move money between accounts on different shards, and write
// each transfer into a journal in the same transaction; the others append to a
// log, one autocommit insert at a time. After every restart:
//
//   - every transfer and every entry that was acknowledged is there;
//   - the balances are what the journal's rows make of the opening balances, so
//     that no transaction was applied in part, acknowledged or not;
//   - the sum of all balances has not changed.
//
// The last line is "rounds N, acknowledged N, lost N".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// settings are the flags.
type settings struct {
	binary   string
	rounds   int
	clients  int
	accounts int
	shards   int
	longest  time.Duration
	seed     uint64
	dir      string
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/rowlock", "server to test")
	flag.IntVar(&s.rounds, "rounds", 50, "how often to kill it")
	flag.IntVar(&s.clients, "clients", 8, "clients at a time")
	flag.IntVar(&s.accounts, "accounts", 64, "accounts; fewer meet more deadlocks")
	flag.IntVar(&s.shards, "shards", 8, "shards of the server")
	flag.DurationVar(&s.longest, "longest", 1500*time.Millisecond, "longest time of load before a kill")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed of the load")
	flag.StringVar(&s.dir, "dir", "", "data directory; a temporary one by default")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "rowlock-crash-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		s.dir = dir
	}
	fmt.Printf("seed %d\n", s.seed)
	server, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer func() { server.Kill() }()
	work := newWorkload(s)
	if err := work.prepare(ctx, server.Address); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(s.seed, 0))
	for round := 1; round <= s.rounds; round++ {
		load := time.Duration(1 + random.Int64N(int64(s.longest)))
		if server, err = s.round(ctx, work, server, round, load); err != nil {
			return err
		}
	}
	lost, err := work.verify(ctx, server.Address, true)
	if err != nil {
		return err
	}
	work.lost += lost
	fmt.Printf("rounds %d, acknowledged %d, lost %d\n", s.rounds, work.acknowledged(), work.lost)
	switch {
	case work.lost > 0:
		return errors.New("acknowledged work was lost")
	case work.acknowledged() < s.rounds:
		return errors.New("too little was acknowledged for the test to mean anything")
	}
	return nil
}

func (s settings) start(ctx context.Context) (*process.Server, error) {
	return process.Start(ctx, s.binary, "--data", s.dir, "--listen", "127.0.0.1:0", "--shards", fmt.Sprint(s.shards))
}

// round loads the server, kills it, starts it again and checks. It returns the
// new server.
func (s settings) round(ctx context.Context, work *workload, server *process.Server, round int, load time.Duration) (*process.Server, error) {
	before := work.acknowledged()
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	done := work.run(limited, server.Address)
	timer := time.NewTimer(load)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := server.Kill(); err != nil {
		return server, err
	}
	cancel()
	<-done
	if err := ctx.Err(); err != nil {
		return server, err
	}
	next, err := s.start(ctx)
	if err != nil {
		return server, fmt.Errorf("round %d: %w", round, err)
	}
	lost, err := work.verify(ctx, next.Address, false)
	if err != nil {
		return next, fmt.Errorf("round %d: %w", round, err)
	}
	work.lost += lost
	fmt.Printf("round %d: %d acknowledged in %v, %d retried, %d unknown, ready again after %v, lost %d\n", round,
		work.acknowledged()-before, load.Round(time.Millisecond), work.retried.Swap(0), work.unknown.Swap(0), next.Ready.Round(time.Millisecond), lost)
	for _, e := range work.unexpected() {
		fmt.Printf("  unexpected: %s\n", e)
	}
	return next, nil
}
