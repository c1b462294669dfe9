package workload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Sysbench runs scripts of the program of that name.
type Sysbench struct {
	// Addresses of the servers, which take sessions in turn. Their ports are equal.
	Addresses                []string
	User, Password, Database string

	Tables, Rows int
	// Text sends statements as text instead of preparing them.
	Text bool
	// Distribution of the rows that are touched; empty is sysbench's own, by which
	// three quarters of all statements meet one percent of the rows.
	Distribution string
	// More options, as the program knows them.
	Options []string
}

// Report is what one run came to.
type Report struct {
	Transactions, Queries      int
	TransactionRate, QueryRate float64 // a second
	Average                    time.Duration
	Latency                    Latency
	Deadlocks                  int           // that the script went on from
	Client                     time.Duration // processor time of the program itself
}

// ErrNoSysbench says that the program is not installed.
var ErrNoSysbench = errors.New("sysbench is not installed")

// HasSysbench tells whether it is.
func HasSysbench() bool {
	_, err := exec.LookPath("sysbench")
	return err == nil
}

// Prepare makes the tables and fills them.
func (s Sysbench) Prepare(ctx context.Context) error {
	_, _, err := s.command(ctx, "oltp_read_write", "prepare")
	return err
}

// Run runs a script for a time. Only error 1213 is ignored, after which sysbench
// starts the transaction again, and counted; every other error fails the script.
func (s Sysbench) Run(ctx context.Context, script string, threads int, span time.Duration) (Report, error) {
	out, client, err := s.command(ctx, script, "run", "--histogram=on", "--events=0",
		fmt.Sprintf("--threads=%d", threads), fmt.Sprintf("--time=%d", max(1, int(span.Seconds()))))
	if err != nil {
		return Report{}, err
	}
	r, err := parseReport(out)
	r.Client = client
	return r, err
}

// command runs one script in one phase.
func (s Sysbench) command(ctx context.Context, script, phase string, more ...string) (out string, client time.Duration, err error) {
	path, err := exec.LookPath("sysbench")
	if err != nil {
		return "", 0, ErrNoSysbench
	}
	args, err := s.args(script)
	if err != nil {
		return "", 0, err
	}
	c := exec.CommandContext(ctx, path, append(append(args, more...), phase)...)
	b, err := c.CombinedOutput()
	if err != nil {
		return "", 0, fmt.Errorf("sysbench %s %s: %w: %s", script, phase, err, complaints(string(b)))
	}
	return string(b), c.ProcessState.UserTime() + c.ProcessState.SystemTime(), nil
}

func (s Sysbench) args(script string) ([]string, error) {
	var hosts []string
	port := ""
	for _, address := range s.Addresses {
		host, p, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if port != "" && port != p {
			return nil, fmt.Errorf("ports %s and %s: sysbench wants one", port, p)
		}
		hosts, port = append(hosts, host), p
	}
	args := []string{script,
		"--mysql-host=" + strings.Join(hosts, ","), "--mysql-port=" + port, "--mysql-user=" + s.User,
		"--mysql-password=" + s.Password, "--mysql-db=" + s.Database, "--mysql-ignore-errors=1213"}
	if s.Tables > 0 {
		args = append(args, fmt.Sprintf("--tables=%d", s.Tables), fmt.Sprintf("--table-size=%d", s.Rows))
	}
	if s.Text {
		args = append(args, "--db-ps-mode=disable")
	}
	if s.Distribution != "" {
		args = append(args, "--rand-type="+s.Distribution)
	}
	return append(args, s.Options...), nil
}

// complaints keeps the part of a long output that says what went wrong.
func complaints(out string) string {
	var kept []string
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, "FATAL") || strings.Contains(line, "rror") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[:min(len(kept), 3)], "; ")
}

var (
	transactions = regexp.MustCompile(`transactions:\s+(\d+)\s+\(([\d.]+) per sec`)
	queries      = regexp.MustCompile(`queries:\s+(\d+)\s+\(([\d.]+) per sec`)
	ignored      = regexp.MustCompile(`ignored errors:\s+(\d+)`)
	average      = regexp.MustCompile(`avg:\s+([\d.]+)`)
	bar          = regexp.MustCompile(`(?m)^\s*([\d.]+) \|\**\s+(\d+)\s*$`)
)

// parseReport reads what sysbench printed with a histogram.
func parseReport(out string) (r Report, err error) {
	txns, all := transactions.FindStringSubmatch(out), queries.FindStringSubmatch(out)
	if txns == nil || all == nil {
		return r, errors.New("sysbench printed no rate")
	}
	r.Transactions, _ = strconv.Atoi(txns[1])
	r.TransactionRate, _ = strconv.ParseFloat(txns[2], 64)
	r.Queries, _ = strconv.Atoi(all[1])
	r.QueryRate, _ = strconv.ParseFloat(all[2], 64)
	if r.Transactions == 0 {
		return r, errors.New("sysbench made no transaction")
	}
	if m := ignored.FindStringSubmatch(out); m != nil {
		r.Deadlocks, _ = strconv.Atoi(m[1])
	}
	if m := average.FindStringSubmatch(out); m != nil {
		r.Average = milliseconds(m[1])
	}
	var counts []count
	for _, m := range bar.FindAllStringSubmatch(out, -1) {
		n, _ := strconv.Atoi(m[2])
		counts = append(counts, count{milliseconds(m[1]), n})
	}
	r.Latency = latencyOf(counts)
	return r, nil
}

func milliseconds(text string) time.Duration {
	ms, _ := strconv.ParseFloat(text, 64)
	return time.Duration(ms * float64(time.Millisecond))
}
