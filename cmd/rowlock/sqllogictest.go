package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rowlockdb/rowlock"
	"github.com/rowlockdb/rowlock/sqllogictest"
)

// scriptConfig is what the flags of the sqllogictest command say.
type scriptConfig struct {
	dsn         string
	engines     []string
	parallel    int
	timeout     time.Duration
	failures    int
	json, junit string
	rewrite     bool
	allowSystem bool
	shards      int
}

func sqllogictestCommand() *cobra.Command {
	var o scriptConfig
	c := &cobra.Command{
		Use:     "sqllogictest PATH...",
		Aliases: []string{"slt"},
		Short:   "Run SQL test scripts and report what differs",
		Long: `Run scripts in the format of SQLite's sqllogictest, and of sqllogictest-rs.

A path is a file (plain, .gz or .zst), a folder, or a glob. Every script runs in
a database of its own, which is dropped afterwards. Without --dsn the scripts run
on a node in this process, in a temporary directory. The last line is the count of
passed, failed and skipped records; the exit code is 1 if any failed.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("sqllogictest needs a script, a folder or a glob")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runScripts(ctx, o, args, c.OutOrStdout())
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.dsn, "dsn", "", "server to test, as go-sql-driver writes it: 'root@tcp(127.0.0.1:3306)/'")
	flags.StringSliceVar(&o.engines, "engine", []string{"mysql"}, "names for onlyif and skipif")
	flags.IntVar(&o.parallel, "parallel", runtime.GOMAXPROCS(0), "scripts at a time")
	flags.DurationVar(&o.timeout, "timeout", 0, "limit of one record, such as 10s; 0 = none")
	flags.IntVar(&o.failures, "failures", 10, "failures to print")
	flags.StringVar(&o.json, "json", "", "also write the report as JSON to this file ('-' = instead, to standard output)")
	flags.StringVar(&o.junit, "junit", "", "also write the report as JUnit XML to this file")
	flags.BoolVar(&o.rewrite, "rewrite", false, "write what the server answers into the scripts")
	flags.BoolVar(&o.allowSystem, "allow-system", false, "run the shell commands of 'system' records")
	flags.IntVar(&o.shards, "shards", 16, "shards of the node that runs when there is no --dsn")
	return c
}

func runScripts(ctx context.Context, o scriptConfig, paths []string, out io.Writer) error {
	files, err := sqllogictest.Find(paths...)
	if err != nil {
		return usagef("%w", err)
	}
	open, closeServer, err := endpoint(ctx, o)
	if err != nil {
		return err
	}
	defer closeServer()
	run := sqllogictest.Options{
		Open: open, Engines: o.engines, Parallel: o.parallel, Timeout: o.timeout,
		Rewrite: o.rewrite, AllowSystem: o.allowSystem,
	}
	stopBar := func() {}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		run.Progress, stopBar = progressBar()
	}
	report, runErr := sqllogictest.Run(ctx, files, run)
	stopBar()
	if err := write(report, o, out); err != nil {
		return err
	}
	switch {
	case errors.Is(runErr, context.Canceled):
		return fmt.Errorf("interrupted after %s", report.Summary())
	case runErr != nil:
		return runErr
	case report.Failed > 0:
		return errFailed
	}
	return nil
}

// endpoint is what the scripts run on: a server somewhere, or a node of our own.
func endpoint(ctx context.Context, o scriptConfig) (open func(context.Context, string) (*sql.DB, error), closeServer func(), err error) {
	if o.dsn != "" {
		config, err := mysql.ParseDSN(o.dsn)
		if err != nil {
			return nil, nil, usagef("--dsn: %w", err)
		}
		config.Logger = &mysql.NopLogger{}
		return func(_ context.Context, database string) (*sql.DB, error) {
			in := config.Clone()
			in.DBName = database
			connector, err := mysql.NewConnector(in)
			if err != nil {
				return nil, err
			}
			return sql.OpenDB(connector), nil
		}, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "rowlock-sqllogictest-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	node, err := rowlock.Open(ctx, rowlock.Options{Dir: dir, Shards: o.shards})
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	open = func(_ context.Context, database string) (*sql.DB, error) {
		return sql.OpenDB(node.Connector(database)), nil
	}
	return open, func() {
		limited, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		node.Close(limited)
		os.RemoveAll(dir)
	}, nil
}

// write writes the report wherever the flags say. The text goes last, so that
// its closing line is the last line of the output.
func write(report *sqllogictest.Report, o scriptConfig, out io.Writer) error {
	if o.junit != "" {
		if err := writeFile(o.junit, report.WriteJUnit); err != nil {
			return err
		}
	}
	if o.json == "-" {
		return report.WriteJSON(out)
	}
	if o.json != "" {
		if err := writeFile(o.json, report.WriteJSON); err != nil {
			return err
		}
	}
	return report.WriteText(out, o.failures)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write report %s: %w", path, err)
	}
	return nil
}

// progressBar draws on standard error how far a run has come.
func progressBar() (func(sqllogictest.Progress), func()) {
	const steps = 1000
	w := progress.NewWriter()
	w.SetOutputWriter(os.Stderr)
	w.SetAutoStop(false)
	w.SetUpdateFrequency(200 * time.Millisecond)
	w.SetTrackerLength(30)
	w.Style().Visibility.Value = false
	w.Style().Visibility.Speed = false
	tracker := &progress.Tracker{Message: "scripts", Total: steps}
	w.AppendTracker(tracker)
	go w.Render()
	update := func(p sqllogictest.Progress) {
		tracker.UpdateMessage(fmt.Sprintf("%d of %d scripts, %d passed, %d failed", p.FilesDone, p.Files, p.Passed, p.Failed))
		tracker.SetValue(int64(p.Fraction * steps))
	}
	return update, func() {
		tracker.MarkAsDone()
		w.Stop()
		for w.IsRenderInProgress() {
			time.Sleep(10 * time.Millisecond)
		}
	}
}
