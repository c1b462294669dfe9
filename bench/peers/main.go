// Command peers measures Rowlock beside other servers that speak MySQL's protocol:
// the same data, the same load, each in turn, several rounds (A B A B …), and
// prints the medians, the processor time of the server for each query and the
// ratio to each peer.
//
//	go run ./bench/peers -binary bin/rowlock
//	go run ./bench/peers -binary bin/rowlock,/tmp/older/rowlock -mariadb=false
//	go run ./bench/peers -peer tidb=root@tcp(127.0.0.1:4000)/#1234 -only point_select,bank
//	go run ./bench/peers -cluster 3
//
// The first binary is compared with everything else. MariaDB is started if it is
// installed, with durable settings; a peer with -peer runs already, and the number
// behind # is its process, without which its processor time stays unknown. With
// -cluster, Rowlock runs on so many nodes beside as many nodes of MariaDB with
// Galera, and sessions are dealt out to all of them.
//
// docs/performance.md says what the figures mean and which are asked for.
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rowlockdb/rowlock/bench/workload"
)

type settings struct {
	binaries     []string
	peers        []string // name=dsn#pid
	mariadb      bool
	memory       bool // the engine with its own tables, for scans
	cluster      int
	shards       int
	bufferMB     int
	tables, rows int
	loadRows     int
	accounts     int
	idle         int
	many         int
	threads      []int
	rounds       int
	span, settle time.Duration
	only         []string
	csv, svg     string
}

// endings are signals upon which the servers are ended too; the third comes when
// nobody reads the output any more.
var endings = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGHUP}

func main() {
	if len(os.Args) == 3 && os.Args[1] == memoryEngine {
		fail(serveMemory(os.Args[2]))
		return
	}
	var s settings
	binaries := flag.String("binary", "bin/rowlock", "servers to start, separated by commas; the first is compared with all others")
	flag.Func("peer", "server that runs already, name=dsn or name=dsn#pid; may be given again", func(text string) error {
		s.peers = append(s.peers, text)
		return nil
	})
	flag.BoolVar(&s.mariadb, "mariadb", true, "start MariaDB if it is installed")
	flag.BoolVar(&s.memory, "memory", true, "measure scans also on go-mysql-server with its tables in memory")
	flag.IntVar(&s.cluster, "cluster", 0, "nodes of each database; 0: one server that is alone")
	flag.IntVar(&s.shards, "shards", 16, "shards of Rowlock")
	flag.IntVar(&s.bufferMB, "buffer-mb", 1024, "buffer pool of MariaDB, in MiB")
	flag.IntVar(&s.tables, "tables", 4, "tables of sysbench")
	flag.IntVar(&s.rows, "rows", 100_000, "rows of each")
	flag.IntVar(&s.loadRows, "load-rows", 1_000_000, "rows for LOAD DATA and the scans")
	flag.IntVar(&s.accounts, "accounts", 10_000, "accounts of the bank")
	flag.IntVar(&s.idle, "idle", 1000, "idle connections whose memory is measured")
	flag.IntVar(&s.many, "many", 256, "sessions of the runs with many; 0: none")
	threads := flag.String("threads", "8,32", "numbers of sessions")
	flag.IntVar(&s.rounds, "rounds", 3, "rounds; the median is printed")
	flag.DurationVar(&s.span, "time", 10*time.Second, "length of one run")
	flag.DurationVar(&s.settle, "settle", 2*time.Second, "rest before a run")
	only := flag.String("only", "", "run these only: "+strings.Join(names, ","))
	flag.StringVar(&s.csv, "csv", "", "file for the table as CSV")
	flag.StringVar(&s.svg, "svg", "", "file for the plot")
	flag.Parse()
	s.binaries = strings.Split(*binaries, ",")
	fail(s.read(*threads, *only))
	ctx, stop := signal.NotifyContext(context.Background(), endings...)
	defer stop()
	fail(run(ctx, s, os.Stdout))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// read takes the lists among the flags apart.
func (s *settings) read(threads, only string) error {
	for text := range strings.SplitSeq(threads, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("%q threads", text)
		}
		s.threads = append(s.threads, n)
	}
	if only != "" {
		s.only = strings.Split(only, ",")
	}
	for _, name := range s.only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no workload %q", name)
		}
	}
	return nil
}

func run(ctx context.Context, s settings, out io.Writer) (err error) {
	servers, skipped, err := s.start(ctx)
	defer func() {
		for _, one := range servers {
			err = errors.Join(err, one.close())
		}
	}()
	if err != nil {
		return err
	}
	for _, reason := range skipped {
		fmt.Fprintln(out, "skipped:", reason)
	}
	for _, one := range servers {
		fmt.Fprintf(out, "%s: %s at %s\n", one.name, one.version(ctx), strings.Join(one.addresses, ", "))
	}
	trials := s.trials()
	if !workload.HasSysbench() {
		trials = slices.DeleteFunc(trials, func(t trial) bool { return t.sysbench })
		fmt.Fprintln(out, "skipped: sysbench is not installed, and with it all workloads but", strings.Join(namesOf(trials), ", "))
	}
	c := newCourse(s, servers, trials, out)
	err = c.run(ctx) // what was measured until then is worth a look
	return errors.Join(err, c.report())
}
