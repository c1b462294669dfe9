// Command sysbench runs sysbench's OLTP scripts against a server and prints one
// line for each: rate, latency, and the server's CPU time per query.
//
// Only error 1213 (the transaction lost a deadlock and sysbench starts it again)
// is ignored, and counted; every other error fails the script.
//
//	go run ./bench/sysbench -binary bin/rowlock
//	go run ./bench/sysbench -address 127.0.0.1:3306
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/process"
)

const database = "sbtest"

type settings struct {
	binary, address, user, password, psMode string
	tables, rows, threads, seconds          int
	scripts                                 []string
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "", "server to start in a temporary directory")
	flag.StringVar(&s.address, "address", "", "server that runs already")
	flag.StringVar(&s.user, "user", "root", "user")
	flag.StringVar(&s.password, "password", "", "password")
	flag.StringVar(&s.psMode, "ps-mode", "auto", "prepared statements: auto, or disable for text")
	flag.IntVar(&s.tables, "tables", 4, "tables")
	flag.IntVar(&s.rows, "rows", 100_000, "rows of each table")
	flag.IntVar(&s.threads, "threads", 8, "clients")
	flag.IntVar(&s.seconds, "seconds", 30, "time for each script")
	scripts := flag.String("scripts", "oltp_point_select,oltp_read_only,oltp_read_write,oltp_write_only,oltp_update_index,oltp_update_non_index,oltp_insert,oltp_delete", "scripts")
	flag.Parse()
	s.scripts = strings.Split(*scripts, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "sysbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	pid := 0
	switch {
	case (s.binary == "") == (s.address == ""):
		return errors.New("say -binary or -address")
	case s.binary != "":
		server, err := process.StartTemporary(ctx, s.binary, "sysbench")
		if err != nil {
			return err
		}
		defer server.Kill()
		s.address, pid = server.Address, server.PID()
	}
	begun := time.Now()
	if err := s.load(ctx); err != nil {
		return err
	}
	took := time.Since(begun)
	fmt.Printf("loaded %d tables of %d rows in %.1f s, %.0f rows a second\n", s.tables, s.rows, took.Seconds(), float64(s.tables*s.rows)/took.Seconds())
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "script\ttps\tqps\tavg ms\tp95 ms\t1213\tserver µs/query\t")
	var failed []error
	for _, script := range s.scripts {
		row, err := s.measure(ctx, script, pid)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", script, err))
			row = script + "\tfailed\t\t\t\t\t\t"
		}
		fmt.Fprintln(table, row)
	}
	table.Flush()
	return errors.Join(failed...)
}

// load makes the database anew and fills it.
func (s settings) load(ctx context.Context) error {
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd = "tcp", s.address, s.user, s.password
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + database, "CREATE DATABASE " + database} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	_, err = s.sysbench(ctx, "oltp_read_write", "prepare")
	return err
}

// sysbench runs one script in one phase and returns what it printed.
func (s settings) sysbench(ctx context.Context, script, phase string) (string, error) {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "sysbench", script,
		"--mysql-host="+host, "--mysql-port="+port, "--mysql-user="+s.user, "--mysql-password="+s.password, "--mysql-db="+database,
		"--mysql-ignore-errors=1213", "--db-ps-mode="+s.psMode,
		fmt.Sprintf("--tables=%d", s.tables), fmt.Sprintf("--table-size=%d", s.rows),
		fmt.Sprintf("--threads=%d", s.threads), fmt.Sprintf("--time=%d", s.seconds), "--events=0", phase)
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sysbench %s: %w: %s", phase, err, lastLines(string(out)))
	}
	return string(out), nil
}

// lastLines keeps the part of a long output that says what went wrong.
func lastLines(out string) string {
	var kept []string
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, "FATAL") || strings.Contains(line, "rror") {
			kept = append(kept, line)
		}
	}
	if len(kept) > 3 {
		kept = kept[:3]
	}
	return strings.Join(kept, "; ")
}

var (
	transactions = regexp.MustCompile(`transactions:\s+\d+\s+\(([\d.]+) per sec`)
	queries      = regexp.MustCompile(`queries:\s+(\d+)\s+\(([\d.]+) per sec`)
	ignored      = regexp.MustCompile(`ignored errors:\s+(\d+)`)
	average      = regexp.MustCompile(`avg:\s+([\d.]+)`)
	percentile   = regexp.MustCompile(`95th percentile:\s+([\d.]+)`)
)

// measure runs a script and writes its line of the table.
func (s settings) measure(ctx context.Context, script string, pid int) (string, error) {
	before := cpu(pid)
	out, err := s.sysbench(ctx, script, "run")
	if err != nil {
		return "", err
	}
	used := cpu(pid) - before
	q := queries.FindStringSubmatch(out)
	if q == nil {
		return "", errors.New("sysbench printed no rate")
	}
	perQuery := ""
	if n, err := strconv.Atoi(q[1]); err == nil && n > 0 && pid != 0 {
		perQuery = fmt.Sprintf("%.0f", float64(used.Microseconds())/float64(n))
	}
	return strings.Join([]string{
		script, first(transactions, out), q[2], first(average, out), first(percentile, out), first(ignored, out), perQuery, "",
	}, "\t"), nil
}

func first(pattern *regexp.Regexp, text string) string {
	if m := pattern.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return "?"
}

// clockTick is the unit of /proc's CPU times on Linux, whatever the kernel's own.
const clockTick = 10 * time.Millisecond

// cpu is the CPU time that a process has used; 0 where there is no /proc.
func cpu(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick
}
