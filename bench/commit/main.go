// Command commit measures what a COMMIT over the wire costs on several shards
// beside one: one session, prepared statements, the same number of rows, kinds in
// random order. The limits:
//
//	2 rows on 2 shards   at most 1.5 times 2 rows on one
//	8 rows on 8 shards   at most 2 times 8 rows on one
//
// The time is that of the COMMIT statement; the whole transaction stands beside it.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

type settings struct {
	binary, address string
	rounds          int
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/rowlock", "server to start in a temporary directory")
	flag.StringVar(&s.address, "address", "", "server that runs already, instead")
	flag.IntVar(&s.rounds, "rounds", 1000, "commits of each kind")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "commit:", err)
		os.Exit(1)
	}
}

// kind is one shape of transaction.
type kind struct {
	rows, shards int
	ids          []int

	commits, whole []time.Duration
}

func run(ctx context.Context, s settings) error {
	if s.address == "" {
		server, err := process.StartTemporary(ctx, s.binary, "commit")
		if err != nil {
			return err
		}
		defer server.Kill()
		s.address = server.Address
	}
	db, err := process.Open(s.address, "")
	if err != nil {
		return err
	}
	defer db.Close()
	byShard, err := prepare(ctx, db)
	if err != nil {
		return err
	}
	kinds := []*kind{{rows: 2, shards: 1}, {rows: 2, shards: 2}, {rows: 8, shards: 1}, {rows: 8, shards: 8}}
	for _, k := range kinds {
		if err := k.choose(byShard); err != nil {
			return err
		}
	}
	if err := measure(ctx, db, kinds, s.rounds); err != nil {
		return err
	}
	return report(kinds)
}

const rows = 400

// prepare makes the table and returns its ids by shard.
func prepare(ctx context.Context, db *sql.DB) (map[int][]int, error) {
	statements := []string{"DROP DATABASE IF EXISTS commits", "CREATE DATABASE commits", "CREATE TABLE commits.t (id INT PRIMARY KEY, v BIGINT NOT NULL)"}
	var ids []int
	for i := range rows {
		id := i * process.Apart
		statements = append(statements, fmt.Sprintf("INSERT INTO commits.t VALUES (%d, 0)", id))
		ids = append(ids, id)
	}
	for _, q := range statements {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return nil, fmt.Errorf("%s: %w", q, err)
		}
	}
	places, err := process.Place(ctx, db, "commits.t", ids)
	if err != nil {
		return nil, err
	}
	byShard := map[int][]int{}
	for _, id := range ids {
		byShard[places[id]] = append(byShard[places[id]], id)
	}
	return byShard, nil
}

// choose takes the kind's rows, the same number from each of its shards, and
// rows of its own: the locks of a commit are free a moment after its answer.
func (k *kind) choose(byShard map[int][]int) error {
	each := k.rows / k.shards
	var shards []int
	for s, ids := range byShard {
		if len(ids) >= each {
			shards = append(shards, s)
		}
	}
	slices.Sort(shards)
	if len(shards) < k.shards {
		return fmt.Errorf("%d rows on each of %d shards are not there", each, k.shards)
	}
	for _, s := range shards[:k.shards] {
		k.ids = append(k.ids, byShard[s][:each]...)
		byShard[s] = byShard[s][each:]
	}
	return nil
}

func measure(ctx context.Context, db *sql.DB, kinds []*kind, rounds int) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	update, err := c.PrepareContext(ctx, "UPDATE commits.t SET v = v + 1 WHERE id = ?")
	if err != nil {
		return err
	}
	defer update.Close()
	const warm = 50
	for round := range warm + rounds {
		for _, i := range rand.Perm(len(kinds)) {
			k := kinds[i]
			commit, whole, err := k.once(ctx, c, update)
			if err != nil {
				return fmt.Errorf("%d rows on %d shards: %w", k.rows, k.shards, err)
			}
			if round >= warm {
				k.commits, k.whole = append(k.commits, commit), append(k.whole, whole)
			}
		}
	}
	return nil
}

// once runs one transaction.
func (k *kind) once(ctx context.Context, c *sql.Conn, update *sql.Stmt) (commit, whole time.Duration, err error) {
	begun := time.Now()
	if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
		return 0, 0, err
	}
	for _, id := range k.ids {
		if _, err := update.ExecContext(ctx, id); err != nil {
			return 0, 0, err
		}
	}
	committing := time.Now()
	_, err = c.ExecContext(ctx, "COMMIT")
	return time.Since(committing), time.Since(begun), err
}

// quantile sorts the times and returns one of them.
func quantile(times []time.Duration, q float64) time.Duration {
	slices.Sort(times)
	return times[int(q*float64(len(times)-1))]
}

// limits are the largest ratios of the median beside that of one shard.
var limits = map[int]float64{2: 1.5, 8: 2}

func report(kinds []*kind) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "rows\tshards\tCOMMIT median\tp95\ttransaction median\tratio to one shard\tlimit\t")
	var one *kind
	var errs []error
	for _, k := range kinds {
		median := quantile(k.commits, 0.5)
		ratio, limit := "", ""
		if k.shards == 1 {
			one = k
		} else {
			r := float64(median) / float64(quantile(one.commits, 0.5))
			ratio, limit = fmt.Sprintf("%.2f", r), fmt.Sprintf("%.1f", limits[k.rows])
			if r > limits[k.rows] {
				errs = append(errs, fmt.Errorf("%d rows on %d shards take %.2f times those on one", k.rows, k.shards, r))
			}
		}
		fmt.Fprintf(table, "%d\t%d\t%v\t%v\t%v\t%s\t%s\t\n", k.rows, k.shards, median.Round(time.Microsecond),
			quantile(k.commits, 0.95).Round(time.Microsecond), quantile(k.whole, 0.5).Round(time.Microsecond), ratio, limit)
	}
	table.Flush()
	return errors.Join(errs...)
}
