package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// What issue 4 allows.
const (
	idleLimit    = 0.05 // of a core, per node
	latencyLimit = 5    // times the commit of one node
	rateLimit    = 0.4  // of the throughput of one node
)

// idle measures what nodes use that have nothing to do.
func (p *program) idle(ctx context.Context) error {
	const span = 30 * time.Second
	if err := sleep(ctx, 10*time.Second); err != nil { // what the bank left behind is flushed
		return err
	}
	before, err := p.cpu()
	if err == nil {
		err = sleep(ctx, span)
	}
	if err != nil {
		return err
	}
	after, err := p.cpu()
	if err != nil {
		return err
	}
	var wrong []error
	for i := range after {
		share := (after[i] - before[i]).Seconds() / span.Seconds()
		fmt.Fprintf(p.out, "node %d, idle: %.1f %% of a core\n", i+1, 100*share)
		if p.times && share > idleLimit {
			wrong = append(wrong, fmt.Errorf("node %d uses %.1f %% of a core; %.0f %% is allowed", i+1, 100*share, 100*idleLimit))
		}
	}
	return errors.Join(wrong...)
}

// cpu is the processor time that each node has used.
func (p *program) cpu() ([]time.Duration, error) {
	var all []time.Duration
	for _, n := range p.cluster.Nodes {
		used, err := cpuOf(n.Server().PID())
		if err != nil {
			return nil, err
		}
		all = append(all, used)
	}
	return all, nil
}

// cpuOf reads the 14th and 15th field of stat, in hundredths of a second. The
// second field is a name in brackets, which may hold anything.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// latency compares three replicas with one: a commit of one session, and
// sysbench.
func (p *program) latency(ctx context.Context) error {
	var commits []time.Duration
	var rates []float64
	for _, nodes := range []int{1, p.nodes} {
		err := p.with(ctx, nodes, func() error {
			commit, err := p.commits(ctx)
			if err != nil {
				return err
			}
			commits = append(commits, commit)
			fmt.Fprintf(p.out, "%d nodes: a commit of one session takes %v (median)\n", nodes, commit.Round(time.Microsecond))
			rate, err := p.sysbench(ctx)
			rates = append(rates, rate)
			return err
		})
		if err != nil {
			return fmt.Errorf("%d nodes: %w", nodes, err)
		}
	}
	times, part := float64(commits[1])/float64(commits[0]), rates[1]/rates[0]
	fmt.Fprintf(p.out, "%d nodes beside one: a commit takes %.1f times as long, oltp_read_write makes %.0f %%\n", p.nodes, times, 100*part)
	if p.times && (times > latencyLimit || rates[0] > 0 && part < rateLimit) {
		return fmt.Errorf("at most %d times and at least %.0f %% were promised", latencyLimit, 100*rateLimit)
	}
	return nil
}

// commits is the median time of a one-row INSERT, committed by itself.
func (p *program) commits(ctx context.Context) (time.Duration, error) {
	db, err := process.OpenMany(p.cluster.Nodes[0].SQL(), 1)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	const n = 2000
	times := make([]time.Duration, 0, n)
	for i := range n + n/10 {
		begun := time.Now()
		if _, err := db.ExecContext(ctx, fmt.Sprintf("INSERT INTO bank.log VALUES (%d, 0)", -1-i)); err != nil {
			return 0, err
		}
		if i >= n/10 {
			times = append(times, time.Since(begun))
		}
	}
	slices.Sort(times)
	return times[n/2], nil
}

var perSecond = regexp.MustCompile(`transactions:\s+(\d+)\s+\(([\d.]+) per sec`)

// sysbench runs oltp_read_write through all nodes and prints what a transaction
// costs on each.
func (p *program) sysbench(ctx context.Context) (float64, error) {
	if _, err := exec.LookPath("sysbench"); err != nil {
		fmt.Fprintln(p.out, "  sysbench is not installed: oltp_read_write is left out")
		return 0, nil
	}
	db, err := p.cluster.Any(ctx)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE sbtest"); err != nil {
		return 0, err
	}
	var hosts []string
	port := ""
	for _, n := range p.cluster.Nodes {
		host, number, _ := strings.Cut(n.SQL(), ":")
		hosts, port = append(hosts, host), number
	}
	run := func(hosts []string, last ...string) (string, error) {
		args := append([]string{"oltp_read_write", "--mysql-host=" + strings.Join(hosts, ","), "--mysql-port=" + port, "--mysql-user=root",
			"--mysql-db=sbtest", "--mysql-ignore-errors=1213", "--db-ps-mode=disable", "--tables=4", "--table-size=5000"}, last...)
		out, err := exec.CommandContext(ctx, "sysbench", args...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("sysbench: %w: %.500s", err, out)
		}
		return string(out), nil
	}
	if _, err := run(hosts[:1], "prepare"); err != nil {
		return 0, err
	}
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	out, err := run(hosts, "--threads=8", "--time=20", "run")
	if err != nil {
		return 0, err
	}
	after, err := p.cpu()
	if err != nil {
		return 0, err
	}
	m := perSecond.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("sysbench printed no rate: %.500s", out)
	}
	count, _ := strconv.ParseFloat(m[1], 64)
	rate, _ := strconv.ParseFloat(m[2], 64)
	fmt.Fprintf(p.out, "  oltp_read_write, 8 threads: %.0f transactions a second", rate)
	for i := range after {
		fmt.Fprintf(p.out, ", node %d: %.0f µs of processor for each query", i+1, (after[i]-before[i]).Seconds()*1e6/count/20)
	}
	fmt.Fprintln(p.out)
	return rate, nil
}
