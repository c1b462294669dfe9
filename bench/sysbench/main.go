// Command sysbench runs sysbench's OLTP scripts against a server and prints one
// line for each: rate, latency, and the server's CPU time per query.
//
// Only error 1213 (the transaction lost a deadlock and sysbench starts it again)
// is ignored, and counted; every other error fails the script.
//
//	go run ./bench/sysbench -binary bin/rowlock
//	go run ./bench/sysbench -address 127.0.0.1:3306
//
// bench/peers runs the same scripts against several servers in turn.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/process"
	"github.com/rowlockdb/rowlock/bench/workload"
)

const database = "sbtest"

type settings struct {
	binary, address string
	load            workload.Sysbench
	threads         int
	seconds         int
	scripts         []string
}

func main() {
	s := settings{load: workload.Sysbench{Database: database}}
	flag.StringVar(&s.binary, "binary", "", "server to start in a temporary directory")
	flag.StringVar(&s.address, "address", "", "server that runs already")
	flag.StringVar(&s.load.User, "user", "root", "user")
	flag.StringVar(&s.load.Password, "password", "", "password")
	flag.BoolVar(&s.load.Text, "text", false, "send statements as text instead of preparing them")
	flag.StringVar(&s.load.Distribution, "distribution", "", "of the rows that are touched: special (sysbench's own), uniform, gaussian, pareto")
	flag.IntVar(&s.load.Tables, "tables", 4, "tables")
	flag.IntVar(&s.load.Rows, "rows", 100_000, "rows of each table")
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
	s.load.Addresses = []string{s.address}
	begun := time.Now()
	if err := s.fill(ctx); err != nil {
		return err
	}
	took, rows := time.Since(begun), s.load.Tables*s.load.Rows
	fmt.Printf("loaded %d tables of %d rows in %.1f s, %.0f rows a second\n", s.load.Tables, s.load.Rows, took.Seconds(), float64(rows)/took.Seconds())
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "script\ttps\tqps\tavg ms\tp50 ms\tp95 ms\tp99 ms\t1213\tserver µs/query\t")
	var failed []error
	for _, script := range s.scripts {
		row, err := s.measure(ctx, script, pid)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", script, err))
			row = script + "\tfailed\t\t\t\t\t\t\t\t"
		}
		fmt.Fprintln(table, row)
	}
	table.Flush()
	return errors.Join(failed...)
}

// fill makes the database anew and fills it.
func (s settings) fill(ctx context.Context) error {
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.Passwd = "tcp", s.address, s.load.User, s.load.Password
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
	return s.load.Prepare(ctx)
}

// measure runs a script and writes its line of the table. A server that was not
// started here has no process to ask for its time.
func (s settings) measure(ctx context.Context, script string, pid int) (string, error) {
	before, _ := process.CPU(pid)
	r, err := s.load.Run(ctx, script, s.threads, time.Duration(s.seconds)*time.Second)
	if err != nil {
		return "", err
	}
	perQuery := ""
	if after, err := process.CPU(pid); err == nil && pid != 0 {
		perQuery = fmt.Sprintf("%.0f", float64((after-before).Microseconds())/float64(r.Queries))
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }
	return fmt.Sprintf("%s\t%.0f\t%.0f\t%s\t%s\t%s\t%s\t%d\t%s\t", script, r.TransactionRate, r.QueryRate,
		ms(r.Average), ms(r.Latency.P50), ms(r.Latency.P95), ms(r.Latency.P99), r.Deadlocks, perQuery), nil
}
