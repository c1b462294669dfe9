// Command ddl changes the schema of a large table while sessions on all nodes read
// and write it, by single statements and in transactions: a column is added, an index built, an index built by a node that is
// killed half way, a column dropped. No statement of the load may fail, except on
// connections to the killed node while it is down (and 1213 and 1205, which programs
// try again, of what was lost with it); after each index
// rowlock.check_table must find every row in it. Then a smaller table is made anew under
// load, by changes of types and of the primary key; every acknowledged change must be
// there on every node. The exit code is 1 if anything is
// wrong.
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
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// settings are the flags.
type settings struct {
	binary, address                         string
	nodes, rows, rewritten, shards, clients int
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/rowlock", "server to start in a temporary directory")
	flag.StringVar(&s.address, "address", "", "servers that run already, separated by commas; none is killed")
	flag.IntVar(&s.nodes, "nodes", 1, "nodes to start")
	flag.IntVar(&s.rows, "rows", 1_000_000, "rows of the table")
	flag.IntVar(&s.rewritten, "rewritten", 20_000, "rows of the table that is made anew; 0: none")
	flag.IntVar(&s.shards, "shards", 8, "shards of the servers")
	flag.IntVar(&s.clients, "clients", 4, "sessions of the load on each node")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "ddl:", err)
		os.Exit(1)
	}
}

// bench is a run.
type bench struct {
	settings
	cluster *process.Cluster // nil: servers of others
	dbs     []*sql.DB        // by node
	load    *load
}

func run(ctx context.Context, s settings) (err error) {
	b := &bench{settings: s}
	addresses := strings.Split(s.address, ",")
	if s.address == "" {
		if b.cluster, err = process.NewCluster(ctx, process.ClusterOptions{Binary: s.binary, Nodes: s.nodes, Shards: s.shards}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.cluster.Close()) }()
		addresses = nil
		for _, n := range b.cluster.Nodes {
			addresses = append(addresses, n.SQL())
		}
	}
	for _, a := range addresses {
		db, err := process.OpenMany(a, 64)
		if err != nil {
			return err
		}
		defer db.Close()
		b.dbs = append(b.dbs, db)
	}
	if err := b.fill(ctx); err != nil {
		return fmt.Errorf("fill the table: %w", err)
	}
	b.load = newLoad(b.dbs, s.rows, s.clients)
	err = b.changes(ctx)
	b.load.stop()
	if err != nil || b.rewritten == 0 {
		return err
	}
	return b.rewrite(ctx)
}

// changes are the schema changes, each by another node.
func (b *bench) changes(ctx context.Context) error {
	last := len(b.dbs) - 1
	if err := b.change(ctx, b.dbs[0], "ALTER TABLE ddl.t ADD COLUMN n INT NOT NULL DEFAULT 7"); err != nil {
		return err
	}
	if err := b.change(ctx, b.dbs[last], "CREATE INDEX v ON ddl.t (v)"); err != nil {
		return err
	}
	if err := b.check(ctx); err != nil {
		return err
	}
	if b.cluster != nil {
		if err := b.changeAndKill(ctx, last, "CREATE INDEX w ON ddl.t (w)"); err != nil {
			return err
		}
		if err := b.check(ctx); err != nil {
			return err
		}
	}
	return b.change(ctx, b.dbs[0], "ALTER TABLE ddl.t DROP COLUMN n")
}

// change runs one statement under the load.
func (b *bench) change(ctx context.Context, db *sql.DB, statement string) error {
	b.load.begin()
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, statement)
		done <- err
	}()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
			return b.report(statement, time.Since(began))
		case <-tick.C:
			if state, rows, err := lastJob(ctx, db); err == nil {
				fmt.Printf("    %-8s %s rows\n", state, rows)
			}
		}
	}
}

func (b *bench) report(what string, took time.Duration) error {
	n, slowest, failed := b.load.end()
	fmt.Printf("%-60s %7.1f s, meanwhile %d statements, slowest %.0f ms, failed %d\n", what, took.Seconds(), n,
		float64(slowest.Microseconds())/1000, len(failed))
	if len(failed) > 0 {
		return fmt.Errorf("%d statements failed during %s, the first: %w", len(failed), what, failed[0])
	}
	return nil
}

// changeAndKill kills the node that runs the change when a third is done, and
// starts it again at once.
func (b *bench) changeAndKill(ctx context.Context, node int, statement string) error {
	b.load.begin()
	began := time.Now()
	go b.dbs[node].ExecContext(ctx, statement)
	watch := b.dbs[0]
	if err := b.await(ctx, watch, func(state string, done, total int) bool {
		return state == "running" && done > b.rows/3
	}); err != nil {
		return err
	}
	b.load.forgive(node, true)
	if err := b.cluster.Nodes[node].Kill(); err != nil {
		return err
	}
	killed := time.Now()
	if err := b.cluster.Nodes[node].Start(ctx); err != nil {
		return err
	}
	fmt.Printf("    node %d killed, back after %.1f s\n", node+1, time.Since(killed).Seconds())
	if err := b.await(ctx, watch, func(state string, _, _ int) bool { return state == "done" }); err != nil {
		return err
	}
	b.load.forgive(node, false)
	return b.report(statement+", kill -9", time.Since(began))
}

// await waits until the newest job is as wanted.
func (b *bench) await(ctx context.Context, db *sql.DB, good func(state string, done, total int) bool) error {
	for {
		var state string
		var done, total int
		row := db.QueryRowContext(ctx, "SELECT state, rows_done, rows_total FROM rowlock.jobs ORDER BY id DESC LIMIT 1")
		if err := row.Scan(&state, &done, &total); err == nil && good(state, done, total) {
			return nil
		} else if err == nil && (state == "failed" || state == "cancelled") {
			return fmt.Errorf("the job is %s", state)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func lastJob(ctx context.Context, db *sql.DB) (state, rows string, err error) {
	err = db.QueryRowContext(ctx, "SELECT state, CONCAT(rows_done, ' of ', rows_total) FROM rowlock.jobs ORDER BY id DESC LIMIT 1").
		Scan(&state, &rows)
	return state, rows, err
}

// check compares the indexes with the rows.
func (b *bench) check(ctx context.Context) error {
	began := time.Now()
	rows, err := b.dbs[0].QueryContext(ctx, "CALL rowlock.check_table('ddl', 't')")
	if err != nil {
		return fmt.Errorf("check the table: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var index, problem string
		var key sql.NullString
		var entries int
		if err := rows.Scan(&index, &problem, &key, &entries); err != nil {
			return err
		}
		if problem != "none" {
			return fmt.Errorf("index %s: %s of row %s", index, problem, key.String)
		}
		fmt.Printf("    index %s: %d entries, one for each row (%.1f s)\n", index, entries, time.Since(began).Seconds())
	}
	return rows.Err()
}

// fill makes the table.
func (b *bench) fill(ctx context.Context) error {
	db := b.dbs[0]
	for _, q := range []string{"CREATE DATABASE ddl", "CREATE TABLE ddl.t (id INT PRIMARY KEY, v INT, w INT, s VARCHAR(40))"} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	began := time.Now()
	pages := make(chan int)
	errs := make(chan error, fillers)
	for n := range fillers {
		go func() {
			var err error
			for first := range pages {
				if err == nil {
					err = b.fillPage(ctx, b.dbs[n%len(b.dbs)], first)
				}
			}
			errs <- err
		}()
	}
	for first := 0; first < b.rows; first += fillRows {
		pages <- first
	}
	close(pages)
	var err error
	for range fillers {
		err = errors.Join(err, <-errs)
	}
	if err == nil {
		fmt.Printf("%d rows in %.1f s\n", b.rows, time.Since(began).Seconds())
	}
	return err
}

// How the table is filled: statements at a time, and rows of one.
const (
	fillers  = 4
	fillRows = 4000
)

func (b *bench) fillPage(ctx context.Context, db *sql.DB, first int) error {
	var values []string
	for id := first; id < min(first+fillRows, b.rows); id++ {
		values = append(values, fmt.Sprintf("(%d, %d, %d, 'row %d')", id, id%1000, id%77777, id))
	}
	for try := 0; ; try++ {
		_, err := db.ExecContext(ctx, "INSERT INTO ddl.t VALUES "+strings.Join(values, ", "))
		if err == nil || !again(err) || try == 10 {
			return err
		}
	}
}
