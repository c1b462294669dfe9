package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// rewrites are schema changes that make every row anew and hold the table while they
// do: each waits for the statements before it, and those after it wait for it.
var rewrites = []string{
	"ALTER TABLE ddl.r MODIFY n BIGINT NOT NULL",
	"ALTER TABLE ddl.r DROP PRIMARY KEY, ADD PRIMARY KEY (id, k)",
	"ALTER TABLE ddl.r MODIFY s VARCHAR(80) NOT NULL DEFAULT ''",
	"ALTER TABLE ddl.r DROP PRIMARY KEY, ADD PRIMARY KEY (id)",
}

// counter is a session that counts in a row of its own: what was acknowledged must be
// there, however often the table was made anew meanwhile.
type counter struct {
	id           int
	acknowledged atomic.Int64
	unknown      atomic.Int64 // may have happened
}

// rewrite makes the table of counters anew again and again under load; the last time
// the node that does it is killed.
func (b *bench) rewrite(ctx context.Context) error {
	if err := b.fillCounters(ctx); err != nil {
		return fmt.Errorf("fill the table to be made anew: %w", err)
	}
	working, stop := context.WithCancel(ctx)
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer stop()
	failed := &firstError{}
	var counters []*counter
	for node := range b.dbs {
		for range b.clients {
			c := &counter{id: len(counters)}
			counters = append(counters, c)
			sessions.Go(func() { failed.note(c.run(working, b.dbs[node])) })
		}
	}
	for i, statement := range rewrites {
		if err := b.makeAnew(ctx, i%len(b.dbs), statement, counters); err != nil {
			return err
		}
	}
	if b.cluster != nil {
		if err := b.makeAnewAndKill(ctx, len(b.dbs)-1, "ALTER TABLE ddl.r MODIFY n INT NOT NULL"); err != nil {
			return err
		}
	}
	stop()
	sessions.Wait()
	return errors.Join(failed.err, b.compare(ctx, counters))
}

func (b *bench) makeAnew(ctx context.Context, node int, statement string, counters []*counter) error {
	before, began := sum(counters), time.Now()
	for {
		_, err := b.dbs[node].ExecContext(ctx, statement)
		if err == nil {
			break
		}
		if !again(err) {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	fmt.Printf("%-60s %7.1f s for %d rows, meanwhile %d changes\n", statement, time.Since(began).Seconds(), b.rewritten, sum(counters)-before)
	return nil
}

// makeAnewAndKill kills the node that makes the table anew. Afterwards the table is the
// old one or the new one.
func (b *bench) makeAnewAndKill(ctx context.Context, node int, statement string) error {
	go b.dbs[node].ExecContext(ctx, statement)
	select {
	case <-time.After(500 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := b.cluster.Nodes[node].Kill(); err != nil {
		return err
	}
	began := time.Now()
	for { // until another node can change the table
		_, err := b.dbs[0].ExecContext(ctx, "ALTER TABLE ddl.r ALTER s SET DEFAULT 'x'")
		if err == nil {
			break
		}
		if !again(err) {
			return fmt.Errorf("change the table after its changer was killed: %w", err)
		}
	}
	fmt.Printf("%-60s changed by another node %.1f s later\n", statement+", kill -9", time.Since(began).Seconds())
	return b.cluster.Nodes[node].Start(ctx)
}

// run adds one to the counter until the context ends.
func (c *counter) run(ctx context.Context, db *sql.DB) error {
	for ctx.Err() == nil {
		r, err := db.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("UPDATE ddl.r SET n = n + 1 WHERE id = %d", c.id))
		var refused *mysql.MySQLError
		switch {
		case err == nil:
			if n, err := r.RowsAffected(); err != nil || n != 1 {
				return fmt.Errorf("counter %d: %d rows changed, %v", c.id, n, err)
			}
			c.acknowledged.Add(1)
		case again(err):
		case errors.As(err, &refused) && refused.Number != 1053 && refused.Number != 1317:
			return fmt.Errorf("counter %d: %w", c.id, err)
		default: // its node is killed
			c.unknown.Add(1)
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// compare looks for every counter and every other row.
func (b *bench) compare(ctx context.Context, counters []*counter) error {
	for at, db := range b.dbs {
		var rows, others int
		row := db.QueryRowContext(ctx, "SELECT COUNT(*), COUNT(CASE WHEN n = 0 AND s = CONCAT('row ', id) AND k = id % 7 THEN 1 END) FROM ddl.r")
		if err := row.Scan(&rows, &others); err != nil {
			return err
		}
		if rows != b.rewritten || others < b.rewritten-len(counters) {
			return fmt.Errorf("node %d: %d rows of %d, %d as they were", at+1, rows, b.rewritten, others)
		}
		for _, c := range counters {
			var n int64
			if err := db.QueryRowContext(ctx, fmt.Sprintf("SELECT n FROM ddl.r WHERE id = %d", c.id)).Scan(&n); err != nil {
				return err
			}
			if least := c.acknowledged.Load(); n < least || n > least+c.unknown.Load() {
				return fmt.Errorf("node %d: counter %d is at %d, %d were acknowledged and %d left open", at+1, c.id, n, least, c.unknown.Load())
			}
		}
	}
	fmt.Printf("    %d rows and %d changes, all there on every node\n", b.rewritten, sum(counters))
	return nil
}

func sum(counters []*counter) (n int64) {
	for _, c := range counters {
		n += c.acknowledged.Load()
	}
	return n
}

func (b *bench) fillCounters(ctx context.Context) error {
	db := b.dbs[0]
	create := "CREATE TABLE ddl.r (id INT PRIMARY KEY, k INT NOT NULL, n INT NOT NULL DEFAULT 0, s VARCHAR(40), INDEX (k))"
	if _, err := db.ExecContext(ctx, create); err != nil {
		return err
	}
	for first := 0; first < b.rewritten; first += fillRows {
		var values []string
		for id := first; id < min(first+fillRows, b.rewritten); id++ {
			values = append(values, fmt.Sprintf("(%d, %d, 0, 'row %d')", id, id%7, id))
		}
		if _, err := db.ExecContext(ctx, "INSERT INTO ddl.r VALUES "+strings.Join(values, ", ")); err != nil {
			return err
		}
	}
	return nil
}

// firstError keeps the first error of several sessions.
type firstError struct {
	once sync.Once
	err  error
}

func (f *firstError) note(err error) {
	if err != nil {
		f.once.Do(func() { f.err = err })
	}
}
