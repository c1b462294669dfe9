// Command sltcompare runs the same SQL scripts against two servers with the
// same parallelism, over the wire, and prints both rates.
//
// One server is go-mysql-server with its in-memory tables, in this process. The
// other is whatever --dsn names, if it is given. The program is apart from the
// product so that the product's binary does not hold the in-memory engine.
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

	"github.com/rowlockdb/rowlock/sqllogictest"
)

func main() {
	dsn := flag.String("dsn", "", "second server, as go-sql-driver writes it, without a database")
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "scripts at a time")
	timeout := flag.Duration("timeout", 10*time.Second, "limit of one record")
	failures := flag.Int("failures", 10, "failures to print for each server")
	skipMemory := flag.Bool("skip-memory", false, "run only the server of --dsn")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Args(), *dsn, *parallel, *timeout, *failures, *skipMemory); err != nil {
		fmt.Fprintln(os.Stderr, "sltcompare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, paths []string, dsn string, parallel int, timeout time.Duration, failures int, skipMemory bool) error {
	files, err := sqllogictest.Find(paths...)
	if err != nil {
		return err
	}
	options := sqllogictest.Options{Parallel: parallel, Timeout: timeout}
	if !skipMemory {
		address, closeServer, err := startMemory()
		if err != nil {
			return err
		}
		defer closeServer()
		if err := measure(ctx, "in-memory engine", "root@tcp("+address+")/", files, options, failures); err != nil {
			return err
		}
	}
	if dsn == "" {
		return nil
	}
	return measure(ctx, "server of --dsn", dsn, files, options, failures)
}

// measure runs the scripts against one server and prints its report.
func measure(ctx context.Context, name, dsn string, files []string, o sqllogictest.Options, failures int) error {
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
	return report.WriteText(os.Stdout, failures)
}

func startMemory() (address string, closeServer func() error, err error) {
	logrus.SetLevel(logrus.PanicLevel)
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
