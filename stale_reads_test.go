package rowlock_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// staleConn is a session at a node that reads what is up to an hour old.
func (c *cluster) staleConn(at int) *sql.Conn {
	conn, err := c.nodes[at].db.Conn(context.Background())
	require.NoError(c.t, err)
	c.t.Cleanup(func() { conn.Close() })
	c.on(conn, "SET rowlock_read_staleness = 3600")
	return conn
}

func (c *cluster) on(conn *sql.Conn, statement string) {
	c.t.Helper()
	c.unless1030(statement, func() error {
		_, err := conn.ExecContext(context.Background(), statement)
		return err
	})
}

// unless1030 tries again what failed because a shard had no owner for ten seconds. A
// transaction that is open goes on.
func (c *cluster) unless1030(statement string, do func() error) {
	c.t.Helper()
	err := do()
	for began := time.Now(); number(err) == 1030 && time.Since(began) < time.Minute; {
		err = do()
	}
	require.NoError(c.t, err, statement)
}

func (c *cluster) ask(conn *sql.Conn, query string) (v int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = conn.QueryRowContext(ctx, query).Scan(&v)
	return v, err
}

func (c *cluster) want(conn *sql.Conn, want int, query string) {
	c.t.Helper()
	got := 0
	c.unless1030(query, func() (err error) {
		got, err = c.ask(conn, query)
		return err
	})
	require.Equal(c.t, want, got, query)
}

const sumOfT = "SELECT SUM(v) FROM d.t"

// Sessions that may read the near past read it from this node's replicas, and go on
// when the majority is lost. What they must see of the present they see.
func TestStaleReads(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.replicated()
	c.exec(0, "CREATE DATABASE d")
	c.exec(0, "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")
	for range 20 {
		c.exec(0, "INSERT INTO d.t (v) VALUES (1)")
	}
	conn := c.staleConn(2)
	c.want(conn, 20, sumOfT)
	served := func() int {
		v, err := c.ask(conn, "SELECT CAST(value AS SIGNED) FROM rowlock.metrics WHERE node = 3 AND name = 'follower_reads'")
		require.NoError(t, err)
		return v
	}
	here := func() bool {
		before := served()
		_, err := c.ask(conn, sumOfT)
		require.NoError(t, err)
		return served()-before >= 4
	}
	require.Eventually(t, here, time.Minute, 50*time.Millisecond, "all four shards are read here")
	c.exec(0, "UPDATE d.t SET v = 2")
	require.Eventually(t, func() bool {
		got, err := c.ask(conn, sumOfT)
		require.NoError(t, err)
		require.Contains(t, []int{20, 40}, got, "one moment or the other")
		return got == 40
	}, time.Minute, 20*time.Millisecond)

	// A table that is younger than the snapshot, one of the session's own, and
	// whatever writes or locks: the present.
	c.on(conn, "CREATE TABLE d.u (id INT PRIMARY KEY, v INT)")
	c.on(conn, "INSERT INTO d.u VALUES (1, 7)")
	c.want(conn, 7, "SELECT v FROM d.u WHERE id = 1")
	c.on(conn, "USE d")
	c.on(conn, "CREATE TEMPORARY TABLE own (v INT)")
	c.on(conn, "INSERT INTO own VALUES (3)")
	c.want(conn, 3, "SELECT v FROM own")
	c.on(conn, "BEGIN")
	c.on(conn, "UPDATE d.t SET v = 3 WHERE id = 1")
	c.want(conn, 41, sumOfT)
	c.on(conn, "COMMIT")
	c.on(conn, "BEGIN")
	c.want(conn, 41, sumOfT)
	c.want(conn, 3, "SELECT v FROM d.t WHERE id = 1 FOR UPDATE")
	c.on(conn, "ROLLBACK")
	c.on(conn, "START TRANSACTION READ ONLY")
	first, err := c.ask(conn, sumOfT)
	require.NoError(t, err)
	require.Contains(t, []int{40, 41}, first)
	c.exec(0, "UPDATE d.t SET v = v + 1")
	c.want(conn, first, sumOfT)
	_, err = c.ask(conn, "SELECT v FROM d.t WHERE id = 1 FOR SHARE")
	require.ErrorContains(t, err, "READ ONLY")
	c.on(conn, "COMMIT")

	// The others are gone, and with them the owners and the oracle.
	require.Eventually(t, func() bool {
		got, err := c.ask(conn, sumOfT)
		require.NoError(t, err)
		return got == 61 && here()
	}, time.Minute, 50*time.Millisecond)
	plain, err := c.nodes[2].db.Conn(context.Background())
	require.NoError(t, err)
	defer plain.Close()
	c.want(plain, 61, sumOfT)
	var then string
	require.NoError(t, conn.QueryRowContext(context.Background(), "SELECT UTC_TIMESTAMP(3)").Scan(&then))
	past := fmt.Sprintf("SELECT SUM(v) FROM d.t AS OF TIMESTAMP '%s'", then)
	require.Eventually(t, func() bool {
		before := served()
		c.want(plain, 61, past)
		return served()-before >= 4
	}, time.Minute, 50*time.Millisecond, "reads of a fixed point in the past are answered here, too")
	c.nodes[0].stop()
	c.nodes[1].stop()
	for range 20 {
		c.want(conn, 61, sumOfT)
	}
	c.on(conn, "START TRANSACTION READ ONLY")
	c.want(conn, 61, sumOfT)
	c.want(conn, 20, "SELECT COUNT(*) FROM d.t")
	c.on(conn, "COMMIT")
	c.want(conn, 61, past)
	c.want(plain, 61, past)
	for range 2 { // until the schema that is known is too old for reads of the present
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		require.Error(t, plain.QueryRowContext(ctx, sumOfT).Scan(new(int)), "the present cannot be had")
		cancel()
	}
	c.want(conn, 61, sumOfT)
	c.want(conn, 61, past)
	c.on(conn, "START TRANSACTION READ ONLY")
	c.want(conn, 61, sumOfT)
	c.on(conn, "COMMIT")

	var back sync.WaitGroup
	for _, n := range c.nodes[:2] {
		back.Go(func() { require.NoError(t, n.start()) })
	}
	back.Wait()
	c.exec(0, "UPDATE d.t SET v = v + 1")
	require.Eventually(t, func() bool {
		got, err := c.ask(conn, sumOfT)
		require.NoError(t, err)
		return got == 81
	}, time.Minute, 50*time.Millisecond)
}
