// Command commitcost measures what a durable transaction costs below SQL: one
// node on the disk, transactions straight on package txn. Beside rate and latency
// it prints what does not depend on how busy the machine is: log entries, fsyncs,
// switches of goroutines' threads and allocations for each transaction.
//
//	go run ./bench/commitcost -threads 1,8,32
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

type settings struct {
	dir             string
	profile, memory string
	shards, rows    int
	kinds, threads  []string
	length          time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.dir, "dir", "", "folder for the node; a temporary one if empty")
	flag.IntVar(&s.shards, "shards", 16, "shards")
	flag.IntVar(&s.rows, "rows", 20_000, "rows that are there before")
	kinds := flag.String("kinds", "update,insert,index,hot", "kinds of transactions: "+strings.Join(kindNames(), ", "))
	threads := flag.String("threads", "1,8", "clients at a time")
	flag.DurationVar(&s.length, "length", 3*time.Second, "time for each line")
	flag.StringVar(&s.profile, "profile", "", "file for a CPU profile of all of it")
	flag.StringVar(&s.memory, "allocs", "", "file for a profile of what is allocated")
	flag.Parse()
	if s.memory != "" {
		runtime.MemProfileRate = 4096
	}
	s.kinds, s.threads = strings.Split(*kinds, ","), strings.Split(*threads, ",")
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "commitcost:", err)
		os.Exit(1)
	}
}

func run(s settings) (err error) {
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "commitcost"); err != nil {
			return err
		}
		defer os.RemoveAll(s.dir)
	}
	n, err := open(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := n.load(s.rows); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if s.profile != "" {
		f, err := os.Create(s.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if s.memory != "" {
		defer func() { err = errors.Join(err, writeAllocs(s.memory)) }()
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer table.Flush()
	fmt.Fprintln(table, "kind\tclients\ttxn/s\tp50 µs\tp99 µs\tCPU µs\tuser µs\tentries\tfsyncs\tswitches\tallocs\tbytes\t")
	for _, name := range s.kinds {
		k := kinds[name]
		if k == nil {
			return fmt.Errorf("no kind %q", name)
		}
		for _, text := range s.threads {
			threads, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			line, err := n.measure(k, threads, s.length)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(table, "%s\t%d\t%s\t\n", name, threads, line)
		}
	}
	return nil
}

func writeAllocs(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

// node is one node without a front.
type node struct {
	engine *storage.Engine
	host   paxos.Host
	shards *shard.Node
	txns   *txn.Coordinator
	disk   *storage.StopFS // of the log
	rows   int
	fresh  atomic.Uint64
}

func open(s settings) (*node, error) {
	n := &node{rows: s.rows, disk: storage.NewStopFS(nil, func(error) {})}
	var err error
	if n.engine, err = storage.Open(storage.Options{Dir: filepath.Join(s.dir, "data"), CacheBytes: 256 << 20}); err != nil {
		return nil, err
	}
	n.host, err = dragon.Open(dragon.Options{Dir: filepath.Join(s.dir, "log"), LogFS: n.disk})
	if err != nil {
		return nil, err
	}
	n.shards, err = shard.Open(context.Background(), shard.Config{NodeID: 1, Engine: n.engine, Host: n.host, Shards: s.shards})
	if err != nil {
		return nil, err
	}
	n.txns = txn.New(txn.Config{Router: n.shards.Router(), Gateway: n.shards.Gateway()})
	return n, nil
}

func (n *node) close() error {
	ctx := context.Background()
	return errors.Join(n.txns.Close(ctx), n.shards.Close(ctx), n.host.Close(), n.engine.Close())
}

// usage is what the process has used so far.
type usage struct {
	user, system   time.Duration
	switches       int64
	allocs, bytes  uint64
	entries, syncs uint64
	began          time.Time
}

func (n *node) usage() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{user: time.Duration(r.Utime.Nano()), system: time.Duration(r.Stime.Nano()), switches: r.Nvcsw,
		allocs: m.Mallocs, bytes: m.TotalAlloc, entries: n.shards.Router().Rounds(), syncs: n.disk.Syncs(), began: time.Now()}
}

// measure runs a kind of transaction on some clients for a while.
func (n *node) measure(k kind, clients int, length time.Duration) (string, error) {
	runtime.GC()
	before := n.usage()
	end := before.began.Add(length)
	times := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := 0; errs[c] == nil && time.Now().Before(end); i++ {
				began := time.Now()
				errs[c] = n.commit(k, c, i)
				times[c] = append(times[c], time.Since(began))
			}
		})
	}
	wg.Wait()
	after := n.usage()
	all := slices.Concat(times...)
	slices.Sort(all)
	count := float64(len(all))
	per := func(v float64) float64 { return v / count }
	user := after.user - before.user
	cpu := user + after.system - before.system
	return fmt.Sprintf("%.0f\t%d\t%d\t%.1f\t%.1f\t%.2f\t%.3f\t%.2f\t%.0f\t%.0f",
		count/after.began.Sub(before.began).Seconds(), all[len(all)/2].Microseconds(), all[len(all)*99/100].Microseconds(),
		per(float64(cpu.Microseconds())), per(float64(user.Microseconds())), per(float64(after.entries-before.entries)),
		per(float64(after.syncs-before.syncs)), per(float64(after.switches-before.switches)),
		per(float64(after.allocs-before.allocs)), per(float64(after.bytes-before.bytes))), errors.Join(errs...)
}
