// Command isolation loads a server with transactions of many sessions, and
// checks what they saw: by a history of them all (package history), or by an
// invariant that no interleaving may break.
//
//	append         lists: every anomaly of the level, the strongest of the loads
//	register       the same with values that are overwritten
//	bank           money moves; every snapshot holds the same sum
//	fork           two that read two fresh keys must not disagree on what came first
//	monotonic      a counter: no number twice, none left out, none read after a greater one
//	unique         many insert one value into a unique index: one succeeds
//	autoincrement  no number is given twice, each row is found under the number that was told
//	ddl            columns and indexes come and go during the load; table and indexes agree
//
// With -kill the server is killed and started again meanwhile, so that some
// outcomes stay unknown. With -nodes 3 three servers form a cluster, sessions go
// through all of them, and nodes are also paused and, where this is root, cut off.
//
//	go run ./bench/isolation -binary bin/rowlock
//	go run ./bench/isolation -dsn 'root@tcp(127.0.0.1:3306)/' -modes append -levels serializable
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	binary, dsn  string
	modes        []string
	levels       []string
	transactions int
	sessions     int
	lists        int
	length       int
	shards       int
	nodes        int
	least        float64
	kill         time.Duration
	seed         uint64
	examples     int
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/rowlock", "server to start in a temporary directory")
	flag.StringVar(&s.dsn, "dsn", "", "server that runs already, in the form of the Go driver")
	modes := flag.String("modes", strings.Join(modeNames(), ","), "loads, in this order")
	chosen := flag.String("levels", strings.Join(levelNames(), ","), "isolation levels")
	flag.IntVar(&s.transactions, "transactions", 100_000, "transactions to commit, per load and level")
	flag.IntVar(&s.sessions, "sessions", 16, "sessions")
	flag.IntVar(&s.lists, "lists", 64, "lists or registers in use at a time; a quarter of them takes half of the operations")
	flag.IntVar(&s.length, "length", 100, "writes to one of them, before a fresh one takes its place")
	flag.IntVar(&s.shards, "shards", 16, "shards of the server")
	flag.IntVar(&s.nodes, "nodes", 1, "servers, which form one cluster")
	flag.Float64Var(&s.least, "least", 0, "least rate of commits per second of the load append")
	flag.DurationVar(&s.kill, "kill", 0, "longest time between two kills of the server, in a cluster also pauses and partitions; 0 = none")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed of the load")
	flag.IntVar(&s.examples, "examples", 2, "examples of each anomaly to print")
	flag.Parse()
	s.modes, s.levels = strings.Split(*modes, ","), strings.Split(*chosen, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "isolation:", err)
		os.Exit(1)
	}
}

// run carries out every load at every level that it makes sense at.
func run(ctx context.Context, s settings, out io.Writer) error {
	if err := known(s); err != nil {
		return err
	}
	target, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer target.close()
	fmt.Fprintf(out, "seed %d, %d sessions, %d shards\n", s.seed, s.sessions, s.shards)
	bad := 0
	for _, m := range modes {
		if !slices.Contains(s.modes, m.name) {
			continue
		}
		for _, l := range levels {
			if !slices.Contains(s.levels, l.name) || !slices.Contains(m.levels, l.name) {
				continue
			}
			r := newRun(s, target, m.name, l)
			if err := r.carryOut(ctx, m.new(r)); err != nil {
				return fmt.Errorf("%s, %s: %w", m.name, l.title, err)
			}
			bad += r.print(out)
		}
	}
	if bad > 0 {
		return errors.New("not as promised")
	}
	return nil
}

func known(s settings) error {
	for _, name := range s.modes {
		if !slices.Contains(modeNames(), name) {
			return fmt.Errorf("there is no load %q", name)
		}
	}
	for _, name := range s.levels {
		if !slices.Contains(levelNames(), name) {
			return fmt.Errorf("there is no level %q", name)
		}
	}
	return nil
}
