// Command sltcompare runs the same SQL scripts against two servers with the
// same parallelism, over the wire, and prints both reports and rates.
//
// One server is go-mysql-server with its in-memory tables, in this process. The
// other is a Rowlock node, also in this process, or whatever -dsn names. The
// program is apart from the product so that the product's binary does not hold
// the in-memory engine.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"time"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	gmssql "github.com/dolthub/go-mysql-server/sql"
	"github.com/go-sql-driver/mysql"
	"github.com/sirupsen/logrus"

	"github.com/rowlockdb/rowlock"
	"github.com/rowlockdb/rowlock/sqllogictest"
)

// settings are the flags.
type settings struct {
	dsn      string
	only     string
	shards   int
	failures int
	run      sqllogictest.Options
}

func main() {
	var s settings
	flag.StringVar(&s.dsn, "dsn", "", "second server, as go-sql-driver writes it; a node in this process by default")
	flag.StringVar(&s.only, "only", "", "'memory' or 'second': run one server only")
	flag.IntVar(&s.shards, "shards", 16, "shards of the node in this process")
	flag.IntVar(&s.failures, "failures", 10, "failures to print for each server")
	flag.IntVar(&s.run.Parallel, "parallel", runtime.GOMAXPROCS(0), "scripts at a time")
	flag.DurationVar(&s.run.Timeout, "timeout", 10*time.Second, "limit of one record")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sltcompare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, paths []string) error {
	files, err := sqllogictest.Find(paths...)
	if err != nil {
		return err
	}
	logrus.SetLevel(logrus.PanicLevel)
	if s.only != "second" {
		address, closeServer, err := startMemory()
		if err != nil {
			return err
		}
		err = measure(ctx, "in-memory engine", dsn(address), files, s)
		closeServer()
		if err != nil {
			return err
		}
	}
	switch {
	case s.only == "memory":
		return nil
	case s.dsn != "":
		return measure(ctx, s.dsn, s.dsn, files, s)
	}
	address, closeServer, err := startNode(ctx, s.shards)
	if err != nil {
		return err
	}
	defer closeServer()
	return measure(ctx, fmt.Sprintf("rowlock, %d shards", s.shards), dsn(address), files, s)
}

func dsn(address string) string { return "root@tcp(" + address + ")/" }

// startNode runs a node in a temporary directory.
func startNode(ctx context.Context, shards int) (address string, closeServer func(), err error) {
	dir, err := os.MkdirTemp("", "rowlock-sltcompare-")
	if err != nil {
		return "", nil, err
	}
	node, err := rowlock.Open(ctx, rowlock.Options{Dir: dir, Shards: shards})
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	closeServer = func() {
		node.Close(context.WithoutCancel(ctx))
		os.RemoveAll(dir)
	}
	bound, err := node.ListenMySQL("127.0.0.1:0")
	if err != nil {
		closeServer()
		return "", nil, err
	}
	return bound.String(), closeServer, nil
}

// measure runs the scripts against one server and prints its report.
func measure(ctx context.Context, name, dsn string, files []string, s settings) error {
	o := s.run
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return fmt.Errorf("read DSN: %w", err)
	}
	o.Open = func(_ context.Context, database string) (*sql.DB, error) {
		in := config.Clone()
		in.DBName = database
		connector, err := mysql.NewConnector(in)
		if err != nil {
			return nil, err
		}
		return sql.OpenDB(connector), nil
	}
	report, err := sqllogictest.Run(ctx, files, o)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("== %s\n", name)
	return report.WriteText(os.Stdout, s.failures)
}

func startMemory() (address string, closeServer func() error, err error) {
	provider := memory.NewDBProvider()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen: %w", err)
	}
	config := server.Config{Listener: listener, Protocol: "tcp", Address: listener.Addr().String()}
	s, err := server.NewServer(config, sqle.NewDefault(provider), gmssql.NewContext, memory.NewSessionBuilder(provider), nil)
	if err != nil {
		return "", nil, fmt.Errorf("start in-memory engine: %w", err)
	}
	go s.Start()
	return listener.Addr().String(), s.Close, nil
}
