package memory_test

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/paxos/paxostest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster lets the suite drive a network.
type cluster struct {
	net *memory.Network
	n   int
}

func (c *cluster) ID(i int) string                { return fmt.Sprintf("host-%d", i) }
func (c *cluster) Open(i int) (paxos.Host, error) { return c.net.Host(c.ID(i)), nil }

func (c *cluster) Crash(i int, cut func()) {
	c.net.Crash(c.ID(i))
	cut()
}

func (c *cluster) Isolate(i int) { c.net.Partition([]string{c.ID(i)}) }
func (c *cluster) Heal()         { c.net.Heal() }

func (c *cluster) Compact(g paxos.GroupID) error { return c.net.Compact(g) }

func TestConformance(t *testing.T) {
	paxostest.Run(t, func(t *testing.T, n int) paxostest.Cluster {
		return &cluster{net: memory.NewNetwork(1), n: n}
	})
}
