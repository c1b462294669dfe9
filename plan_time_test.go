package rowlock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A statement that was planned before its node was cut off, and gets its timestamp
// after, does not read with the plan what a table held before it was rewritten.
func TestNoPlanOutlivesItsSchema(t *testing.T) {
	c := newCluster(t, 3)
	c.replicated()
	c.exec(0, "CREATE DATABASE d")
	c.exec(0, "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")
	for range 20 {
		c.exec(0, "INSERT INTO d.t (v) VALUES (1)")
	}
	conn, err := c.nodes[2].db.Conn(context.Background())
	require.NoError(t, err)
	defer conn.Close()
	c.want(conn, 20, "SELECT COUNT(*) FROM d.t")
	time.Sleep(2 * time.Second)
	for _, o := range []int{0, 1} {
		c.nodes[2].node.CutFrom(uint64(o + 1))
		c.nodes[o].node.CutFrom(3)
	}
	type result struct {
		n   int
		err error
	}
	got := make(chan result, 1)
	cut := time.Now()
	go func() {
		time.Sleep(1500 * time.Millisecond)
		n, err := c.ask(conn, "SELECT COUNT(*) FROM d.t")
		t.Log("answered after", time.Since(cut))
		got <- result{n, err}
	}()
	c.exec(0, "ALTER TABLE d.t MODIFY v BIGINT")
	t.Log("alter done after", time.Since(cut), "rows now", c.one(0, "SELECT COUNT(*) FROM d.t"))
	time.Sleep(time.Second)
	for _, o := range []int{0, 1} {
		c.nodes[2].node.Mend(uint64(o + 1))
		c.nodes[o].node.Mend(3)
	}
	r := <-got
	t.Log(r)
	if r.err == nil {
		require.Equal(t, 20, r.n, "rows of a full table")
	}
}
