package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/bench/workload"
)

// Databases of the workloads.
const (
	sysbenchData = "sbtest"
	bankData     = "bank"
	scanData     = "scans"
)

// names are all workloads in the order in which they run: delete last of those of
// sysbench, whose tables it empties.
var names = []string{idleName, "point_select", "point_select_text", "read_only", "read_write", "write_only",
	"update_index", "update_non_index", "insert", "delete", "bank",
	"load_data", "scan_count", "scan_sum"}

const idleName = "idle_connections"

// trial is one kind of measurement.
type trial struct {
	name     string
	threads  int
	unit     string // of the rate
	sysbench bool
	fresh    bool // only once, before there is any data
	run      func(ctx context.Context, s *server) (sample, error)
}

// sample is what one run came to. A zero is a figure that is not known.
type sample struct {
	rate      float64 // units a second
	units     float64 // that the server's processor time is divided by
	latency   workload.Latency
	deadlocks int
	client    time.Duration // processor time of a load generator of its own
	growth    int64         // bytes of memory, if that is what was measured

	cpu    float64 // microseconds of the servers' processor time a unit
	memory int64   // resident bytes of the servers afterwards
	others float64 // part of the machine that neither the servers nor the client used, but somebody
}

// script is a workload of sysbench.
type script struct {
	name string
	file string
	text bool
	// uniform rows instead of sysbench's own choice, by which three of four deletes
	// would find nothing after a second.
	uniform bool
	many    bool // runs with many sessions too
}

var scripts = []script{
	{name: "point_select", file: "oltp_point_select", many: true},
	{name: "point_select_text", file: "oltp_point_select", text: true},
	{name: "read_only", file: "oltp_read_only"},
	{name: "read_write", file: "oltp_read_write", many: true},
	{name: "write_only", file: "oltp_write_only"},
	{name: "update_index", file: "oltp_update_index"},
	{name: "update_non_index", file: "oltp_update_non_index", many: true},
	{name: "insert", file: "oltp_insert"},
	{name: "delete", file: "oltp_delete", uniform: true},
}

// trials are the measurements of one round, in their order.
func (s settings) trials() []trial {
	var all []trial
	if s.cluster == 0 {
		all = append(all, trial{name: idleName, threads: s.idle, fresh: true, run: s.idleConnections})
	}
	for _, one := range scripts {
		threads := slices.Clone(s.threads)
		if one.many && s.many > 0 {
			threads = append(threads, s.many)
		}
		for _, n := range threads {
			all = append(all, trial{name: one.name, threads: n, unit: "queries", sysbench: true, run: s.sysbench(one, n)})
		}
	}
	for _, n := range s.threads {
		all = append(all, trial{name: "bank", threads: n, unit: "transfers", run: s.bank(n)})
	}
	if s.cluster == 0 {
		all = append(all,
			trial{name: "load_data", threads: 1, unit: "rows", run: s.loadData},
			trial{name: "scan_count", threads: 1, unit: "rows", run: s.scan("SELECT COUNT(*) FROM " + bigTable)},
			trial{name: "scan_sum", threads: 1, unit: "rows", run: s.scan("SELECT part, SUM(amount) FROM " + bigTable + " GROUP BY part")})
	}
	return slices.DeleteFunc(all, func(t trial) bool { return !s.wants(t.name) })
}

func namesOf(trials []trial) []string {
	var all []string
	for _, t := range trials {
		all = append(all, t.name)
	}
	return slices.Compact(all)
}

// tool is sysbench on a server.
func (s settings) tool(one *server) workload.Sysbench {
	return workload.Sysbench{Addresses: one.addresses, User: one.user, Password: one.password,
		Database: sysbenchData, Tables: s.tables, Rows: s.rows}
}

func (s settings) sysbench(what script, threads int) func(context.Context, *server) (sample, error) {
	return func(ctx context.Context, one *server) (sample, error) {
		tool := s.tool(one)
		tool.Text = what.text
		if what.uniform {
			tool.Distribution = "uniform"
		}
		r, err := tool.Run(ctx, what.file, threads, s.span)
		return sample{rate: r.QueryRate, units: float64(r.Queries), latency: r.Latency, deadlocks: r.Deadlocks, client: r.Client}, err
	}
}

func (s settings) bank(sessions int) func(context.Context, *server) (sample, error) {
	return func(ctx context.Context, one *server) (sample, error) {
		pools, err := one.pool(bankData)
		if err != nil {
			return sample{}, err
		}
		b := workload.Bank{Pools: pools, Accounts: s.accounts}
		r, err := b.Run(ctx, sessions, s.span)
		if err == nil {
			err = b.Check(ctx)
		}
		return sample{rate: r.TransactionRate, units: float64(r.Queries), latency: r.Latency, deadlocks: r.Deadlocks}, err
	}
}

// prepare makes the data anew that the workloads of a round need.
func (s settings) prepare(ctx context.Context, one *server, withSysbench bool) error {
	if withSysbench && slices.ContainsFunc(scripts, func(x script) bool { return s.wants(x.name) && one.takesPart(x.name) }) {
		if err := one.exec(ctx, "", "DROP DATABASE IF EXISTS "+sysbenchData, "CREATE DATABASE "+sysbenchData); err != nil {
			return err
		}
		if err := s.tool(one).Prepare(ctx); err != nil {
			return err
		}
	}
	if s.wants("bank") && one.takesPart("bank") {
		if err := one.exec(ctx, "", "DROP DATABASE IF EXISTS "+bankData, "CREATE DATABASE "+bankData); err != nil {
			return err
		}
		pools, err := one.pool(bankData)
		if err != nil {
			return err
		}
		b := workload.Bank{Pools: pools, Accounts: s.accounts}
		return b.Prepare(ctx)
	}
	return nil
}

// idleConnections measures what connections cost that do nothing.
func (s settings) idleConnections(ctx context.Context, one *server) (sample, error) {
	one.dropPools()
	if err := sleep(ctx, s.settle); err != nil {
		return sample{}, err
	}
	pools, err := one.pool("")
	if err != nil {
		return sample{}, err
	}
	defer one.dropPools()
	before := one.memory()
	for i := range s.idle {
		c, err := pools[0].Conn(ctx)
		if err != nil {
			return sample{}, fmt.Errorf("connection %d: %w", i+1, err)
		}
		defer c.Close()
		if _, err := c.ExecContext(ctx, "SET @mine = 1"); err != nil {
			return sample{}, fmt.Errorf("connection %d: %w", i+1, err)
		}
	}
	if err := sleep(ctx, s.settle); err != nil {
		return sample{}, err
	}
	return sample{growth: one.memory() - before}, nil
}

func sleep(ctx context.Context, span time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(span):
		return nil
	}
}
