package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
	"github.com/rowlockdb/rowlock/bench/workload"
)

// What issue 4 allows.
const (
	latencyLimit = 5   // times the commit of one node
	rateLimit    = 0.4 // of the throughput of one node
)

const (
	latencyRounds  = 5
	commitsARound  = 500
	sysbenchRound  = 6 * time.Second
	sysbenchTables = 4
	sysbenchRows   = 5000
	queriesOfATxn  = 20 // of oltp_read_write: 18 statements, BEGIN, COMMIT
)

// side is one of the two clusters that are compared.
type side struct {
	cluster *process.Cluster
	session *sql.DB
	next    int // row of bank.log
	commits []time.Duration
	rates   []float64       // oltp_read_write, transactions a second
	used    []time.Duration // by each node during it
	client  time.Duration   // by sysbench
	asked   float64         // requests of nodes to nodes meanwhile
	txns    float64
}

// latency compares three replicas with one: a commit of one session, and
// oltp_read_write. Both clusters run all the time and take turns, so that both
// have the same share of a machine that does other things too.
func (p *program) latency(ctx context.Context) error {
	dir := p.dir
	if dir != "" {
		p.dir = filepath.Join(dir, "one")
	}
	return p.with(ctx, 1, func() error {
		one := &side{cluster: p.cluster}
		if dir != "" {
			p.dir = filepath.Join(dir, "many")
		}
		return p.with(ctx, p.nodes, func() error {
			return p.compare(ctx, one, &side{cluster: p.cluster})
		})
	})
}

func (p *program) compare(ctx context.Context, sides ...*side) error {
	loads := workload.HasSysbench()
	if !loads {
		fmt.Fprintln(p.out, "sysbench is not installed: oltp_read_write is left out")
	}
	for _, s := range sides {
		var err error
		if s.session, err = process.OpenMany(s.cluster.Nodes[0].SQL(), 1); err != nil {
			return err
		}
		defer s.session.Close()
		if err := s.insert(ctx, commitsARound/5); err != nil {
			return err
		}
		s.commits = nil // what is done for the first time does not count
		if !loads {
			continue
		}
		if err := s.prepare(ctx); err != nil {
			return err
		}
	}
	for round := range latencyRounds {
		for _, s := range sides {
			if err := s.insert(ctx, commitsARound); err != nil {
				return fmt.Errorf("%d nodes: %w", len(s.cluster.Nodes), err)
			}
			if !loads {
				continue
			}
			if err := s.load(ctx); err != nil {
				return fmt.Errorf("%d nodes: %w", len(s.cluster.Nodes), err)
			}
			p.logf("round %d, %d nodes: %.0f transactions a second", round+1, len(s.cluster.Nodes), s.rates[round])
		}
	}
	return p.judgeLatency(sides[0], sides[1], loads)
}

func (p *program) judgeLatency(one, many *side, loads bool) error {
	for _, s := range []*side{one, many} {
		fmt.Fprintf(p.out, "%d nodes: a commit of one session takes %v\n", len(s.cluster.Nodes), median(s.commits).Round(time.Microsecond))
		if !loads {
			continue
		}
		fmt.Fprintf(p.out, "  oltp_read_write, 8 threads: %.0f transactions a second; µs of processor for each query:", median(s.rates))
		for i := range s.used {
			fmt.Fprintf(p.out, " node %d %.0f,", i+1, s.perQuery(s.used[i]))
		}
		fmt.Fprintf(p.out, " all %.0f, sysbench %.0f; %.1f messages between nodes for each transaction\n",
			s.perQuery(s.all()), s.perQuery(s.client), s.asked/s.txns)
	}
	times := float64(median(many.commits)) / float64(median(one.commits))
	fmt.Fprintf(p.out, "%d nodes beside one: a commit takes %.1f times as long", len(many.cluster.Nodes), times)
	part := 1.0
	if loads {
		part = median(many.rates) / median(one.rates)
		fmt.Fprintf(p.out, ", oltp_read_write makes %.0f %% (by processor time %.0f %%)", 100*part,
			100*one.perQuery(one.all()+one.client)/many.perQuery(many.all()+many.client))
	}
	fmt.Fprintln(p.out, "; medians")
	if p.times && (times > latencyLimit || part < rateLimit) {
		return fmt.Errorf("at most %d times and at least %.0f %% were promised", latencyLimit, 100*rateLimit)
	}
	return nil
}

func median[T int64 | time.Duration | float64](all []T) T {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func (s *side) all() (sum time.Duration) {
	for _, used := range s.used {
		sum += used
	}
	return sum
}

// perQuery is in microseconds.
func (s *side) perQuery(used time.Duration) float64 {
	return used.Seconds() * 1e6 / s.txns / queriesOfATxn
}

// insert commits single rows, each by itself.
func (s *side) insert(ctx context.Context, n int) error {
	for range n {
		s.next--
		begun := time.Now()
		if _, err := s.session.ExecContext(ctx, fmt.Sprintf("INSERT INTO bank.log VALUES (%d, 0)", s.next)); err != nil {
			return err
		}
		s.commits = append(s.commits, time.Since(begun))
	}
	return nil
}

// sysbench is the program against the first nodes, or all of them.
func (s *side) sysbench(nodes int) workload.Sysbench {
	b := workload.Sysbench{User: "root", Database: "sbtest", Tables: sysbenchTables, Rows: sysbenchRows, Text: true}
	for _, n := range s.cluster.Nodes[:nodes] {
		b.Addresses = append(b.Addresses, n.SQL())
	}
	return b
}

func (s *side) prepare(ctx context.Context) error {
	if _, err := s.session.ExecContext(ctx, "CREATE DATABASE sbtest"); err != nil {
		return err
	}
	return s.sysbench(1).Prepare(ctx)
}

// load runs one round of oltp_read_write.
func (s *side) load(ctx context.Context) error {
	before, err := cpuOfAll(s.cluster)
	if err != nil {
		return err
	}
	asked, err := s.requests(ctx)
	if err != nil {
		return err
	}
	r, err := s.sysbench(len(s.cluster.Nodes)).Run(ctx, "oltp_read_write", 8, sysbenchRound)
	if err != nil {
		return err
	}
	after, err := cpuOfAll(s.cluster)
	if err != nil {
		return err
	}
	now, err := s.requests(ctx)
	if err != nil {
		return err
	}
	s.asked += now - asked
	if s.used == nil {
		s.used = make([]time.Duration, len(after))
	}
	for i := range after {
		s.used[i] += after[i] - before[i]
	}
	s.client, s.txns, s.rates = s.client+r.Client, s.txns+float64(r.Transactions), append(s.rates, r.TransactionRate)
	return nil
}

// requests is how many requests the nodes have sent each other so far.
func (s *side) requests(ctx context.Context) (n float64, err error) {
	err = s.session.QueryRowContext(ctx, "SELECT COALESCE(SUM(value), 0) FROM rowlock.metrics WHERE name LIKE 'peer\\_calls%'").Scan(&n)
	return n, err
}
