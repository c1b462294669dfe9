package rowlock_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// On three nodes the owners of the shards count as the engine does, through each node, in
// the same snapshot, while others write and an owner's node stops.
func TestPushdownOnThreeNodes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.replicated()
	c.exec(0, "CREATE DATABASE d")
	c.exec(0, "CREATE TABLE d.t (id INT PRIMARY KEY, part INT, v BIGINT)")
	for i := range 40 {
		c.exec(i%3, fmt.Sprintf("INSERT INTO d.t VALUES (%d, %d, %d), (%d, %d, NULL)", 2*i, i%5, i, 2*i+1, i%7))
	}
	writing, end := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer end()
	for at := range 2 {
		r := rand.New(rand.NewPCG(23, uint64(at)))
		db := c.nodes[at].db
		writers.Go(func() {
			for writing.Err() == nil { // what fails while owners change is as if it was not there
				_, _ = db.ExecContext(writing, "UPDATE d.t SET part = ?, v = ? WHERE id BETWEEN ? AND ? + 2", r.IntN(6), r.IntN(100), r.IntN(80), r.IntN(80))
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	queries := []string{
		"SELECT COUNT(*), SUM(v), COUNT(v), MIN(v), MAX(part), AVG(v) FROM d.t",
		"SELECT part, COUNT(*), SUM(v) FROM d.t GROUP BY part",
		"SELECT part, v, COUNT(*) FROM d.t WHERE v > 10 OR v IS NULL GROUP BY part, v",
	}
	compare := func(at int) {
		c.patiently("compare", func() error {
			conn, err := c.nodes[at].db.Conn(context.Background())
			if err != nil {
				return err
			}
			defer conn.Close()
			return comparesAlike(t, conn, queries)
		})
	}
	before := c.pushdowns(0)
	for range 4 {
		for at := range 3 {
			compare(at)
		}
	}
	require.Greater(t, c.pushdowns(0), before)
	c.nodes[2].stop()
	for range 3 {
		for at := range 2 {
			compare(at)
		}
	}
}

// pushdowns is how many aggregates owners have computed for a node.
func (c *cluster) pushdowns(at int) int {
	return c.one(at, fmt.Sprintf("SELECT CAST(value AS SIGNED) FROM rowlock.metrics WHERE node = %d AND name = 'pushdowns'", at+1))
}

// comparesAlike runs queries both ways in one transaction.
func comparesAlike(t *testing.T, conn *sql.Conn, queries []string) error {
	ctx := context.Background()
	if _, err := conn.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return err
	}
	defer conn.ExecContext(ctx, "ROLLBACK")
	for _, q := range queries {
		var both [2]string
		for way := range both {
			if _, err := conn.ExecContext(ctx, fmt.Sprint("SET rowlock_pushdown = ", way)); err != nil {
				return err
			}
			var err error
			if both[way], err = allRows(ctx, conn, q); err != nil {
				return err
			}
		}
		require.Equal(t, both[0], both[1], q)
	}
	return nil
}

func allRows(ctx context.Context, conn *sql.Conn, q string) (text string, err error) {
	rows, err := conn.QueryContext(ctx, q)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	values := make([]sql.NullString, len(columns))
	targets := make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return "", err
		}
		text += fmt.Sprintln(values)
	}
	return text, rows.Err()
}
