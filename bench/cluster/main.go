// Command cluster starts servers that form one database, loads them through all
// nodes at once, breaks things, and looks whether anything that was acknowledged
// is lost.
//
//	faults     one run for each class of faults, the default
//	restart    all nodes killed at once under load, again and again
//	failover   kill -9 of a node; how long until each of its shards takes writes
//	grow       from three nodes to five and back under load
//	latency    what a commit costs on three replicas beside one
//	idle       what nodes cost that have nothing to do
//
// The load moves money between accounts, with a journal, and appends to a log.
// After each fault: every acknowledged write is there, balances and journal agree,
// their sum is what it was, and all replicas of every shard are the same at an
// equal applied index (rowlock.checksums).
//
//	go run ./bench/cluster -binary bin/rowlock
//	go run ./bench/cluster -mode faults -only 'cut off'
//
// As root each node gets a network namespace of its own, so that partitions can be
// made; otherwise the nodes have addresses in 127.0.0.0/8 and partitions are left
// out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// settings are the flags.
type settings struct {
	binary, mode, only, network string
	nodes, shards               int
	accounts, sessions, rounds  int
	warm                        time.Duration
	times, short, verbose       bool
	seed                        uint64
	dir                         string
	autopsy                     string   // directory; empty: none
	chosen                      []string // names of faults; nil: all
}

// program is one cluster with its bank.
type program struct {
	settings
	cluster *process.Cluster
	bank    *bank
	random  *rand.Rand
	out     io.Writer
	begun   time.Time
}

var modes = map[string]func(*program, context.Context) error{
	"faults": (*program).allFaults, "restart": (*program).restart, "failover": (*program).failover,
	"grow": (*program).grow, "idle": (*program).idle, "latency": (*program).latency,
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/rowlock", "server")
	flag.StringVar(&s.mode, "mode", "faults", "faults, restart, failover, grow, latency or idle")
	flag.StringVar(&s.only, "only", "", "faults whose name holds this text")
	flag.StringVar(&s.network, "network", "", "loopback or namespaces; empty: the latter as root")
	flag.IntVar(&s.nodes, "nodes", 3, "nodes")
	flag.IntVar(&s.shards, "shards", 16, "shards")
	flag.IntVar(&s.accounts, "accounts", 1000, "accounts of the bank")
	flag.IntVar(&s.sessions, "sessions", 3, "clients of each node")
	flag.IntVar(&s.rounds, "rounds", 0, "kills of failover (50) and restart (20)")
	flag.DurationVar(&s.warm, "warm", 6*time.Second, "load before each fault")
	flag.BoolVar(&s.times, "times", true, "times count, too")
	flag.BoolVar(&s.short, "short", false, "faults last at most 3 s")
	flag.BoolVar(&s.verbose, "v", false, "say what is being done")
	flag.Uint64Var(&s.seed, "seed", 1, "seed of load and victims")
	flag.StringVar(&s.dir, "dir", "", "where the data goes, to be kept; empty: a temporary directory")
	flag.StringVar(&s.autopsy, "autopsy", "", "directory for the stacks of all servers when something is wrong, which ends the run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, out io.Writer) (err error) {
	mode, ok := modes[s.mode]
	if !ok {
		return fmt.Errorf("there is no mode %q", s.mode)
	}
	p := &program{settings: s, out: out, begun: time.Now(), random: rand.New(rand.NewPCG(s.seed, 0))}
	if s.mode == "latency" {
		return mode(p, ctx) // starts clusters of its own
	}
	return p.with(ctx, s.nodes, func() error { return mode(p, ctx) })
}

// with runs something on a cluster of so many nodes.
func (p *program) with(ctx context.Context, nodes int, do func() error) (err error) {
	begun := time.Now()
	p.cluster, err = process.NewCluster(ctx, process.ClusterOptions{Binary: p.binary, Nodes: nodes, Spare: 2,
		Shards: p.shards, Network: p.network, Dir: p.dir})
	if err != nil {
		return err
	}
	cluster := p.cluster
	defer func() { err = errors.Join(err, cluster.Close()) }()
	fmt.Fprintf(p.out, "%d nodes, %d shards, ready after %v, seed %d\n", nodes, p.shards, time.Since(begun).Round(time.Millisecond), p.seed)
	if p.bank, err = newBank(ctx, p.cluster, p.accounts, p.seed); err != nil {
		return fmt.Errorf("open the bank: %w", err)
	}
	return do()
}

func (p *program) logf(format string, args ...any) {
	if p.verbose {
		fmt.Fprintf(p.out, "%7.2f s  %s\n", time.Since(p.begun).Seconds(), strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (p *program) shorten(d time.Duration) time.Duration {
	if p.short {
		return min(d, 3*time.Second)
	}
	return d
}

// allFaults carries out every class of faults that this cluster can have.
func (p *program) allFaults(ctx context.Context) error {
	var outcomes []outcome
	var errs []error
	var left []string
	for _, f := range faults {
		if !strings.Contains(f.name, p.only) || p.chosen != nil && !slices.Contains(p.chosen, f.name) {
			continue
		}
		if !p.possible(f) {
			left = append(left, f.name)
			continue
		}
		o := p.carryOut(ctx, f)
		if err := o.judge(f, p.times); err != nil {
			o.wrong = err
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
			p.dissect(ctx)
		}
		outcomes = append(outcomes, o)
		if ctx.Err() != nil || len(errs) > 0 && !slices.ContainsFunc(p.cluster.Nodes, (*process.Node).Running) {
			break // there is nothing left to break
		}
	}
	p.report(outcomes, left)
	return errors.Join(errs...)
}

// possible tells whether a fault can be had here.
func (p *program) possible(f fault) bool {
	if f.tool != "" {
		if _, err := exec.LookPath(f.tool); err != nil || os.Geteuid() != 0 {
			return false
		}
		if f.tool == "strace" && exec.Command("strace", "-o", os.DevNull, "true").Run() != nil {
			return false // tracing is not allowed here
		}
	}
	return f.least <= len(p.cluster.Nodes) && (!f.cuts || p.cluster.Network.Cuts())
}

func (p *program) report(outcomes []outcome, left []string) {
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\tbefore\t80 % again, during it\tafter it\tacknowledged\tlost\terrors of clients\t")
	when := func(d time.Duration, ok bool) string {
		if !ok {
			return "-"
		}
		return d.Round(100 * time.Millisecond).String()
	}
	for _, o := range outcomes {
		lost := "0"
		if o.wrong != nil {
			lost = "WRONG: " + o.wrong.Error()
		}
		fmt.Fprintf(table, "%s\t%.0f/s\t%s\t%s\t%d\t%s\t%s\t\n", o.name, o.before, when(o.during, o.served), when(o.after, o.back),
			o.acknowledged, lost, o.errors)
	}
	table.Flush()
	if len(left) > 0 {
		fmt.Fprintf(p.out, "left out here: %s\n", strings.Join(left, ", "))
	}
	fmt.Fprintf(p.out, "acknowledged writes %d, all there; replicas of every shard equal after each fault unless it says WRONG\n", p.bank.acknowledged())
}
