package alone_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/alone"
	"github.com/rowlockdb/rowlock/paxos/paxostest"
)

// cluster is one host. It outlives its openings.
type cluster struct {
	spent map[paxos.GroupID]paxos.ReplicaID
	host  *host
}

func (c *cluster) ID(int) string { return "host" }

func (c *cluster) Open(int) (paxos.Host, error) {
	c.host = &host{cluster: c, groups: map[paxos.GroupID]*alone.Group{}}
	return c.host, nil
}

// Crash cuts the disks; what the host does afterwards is done by a ghost.
func (c *cluster) Crash(_ int, cut func()) {
	h := c.host
	cut()
	_ = h.Close() // nobody is there any more
}

func (c *cluster) Isolate(int)                 {}
func (c *cluster) Heal()                       {}
func (c *cluster) Compact(paxos.GroupID) error { return nil }

// host runs groups without logs.
type host struct {
	cluster *cluster
	mu      sync.Mutex
	groups  map[paxos.GroupID]*alone.Group
}

func (h *host) Start(spec paxos.GroupSpec, sm paxos.StateMachine) (paxos.Group, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.groups[spec.Group] != nil {
		return nil, paxos.ErrRunning
	}
	if h.cluster.spent[spec.Group] >= spec.Replica && spec.Replica != 0 {
		return nil, fmt.Errorf("replica %d was purged", spec.Replica)
	}
	g, err := alone.Start(spec, sm, alone.Options{Target: h.ID()})
	if err != nil {
		return nil, err
	}
	h.groups[spec.Group] = g
	return g, nil
}

func (h *host) Stop(id paxos.GroupID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[id]
	if g == nil {
		return paxos.ErrNotRunning
	}
	delete(h.groups, id)
	return g.Stop()
}

func (h *host) Purge(g paxos.GroupID, r paxos.ReplicaID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.groups[g] != nil {
		return paxos.ErrRunning
	}
	h.cluster.spent[g] = r
	return nil
}

func (h *host) Stored() ([]paxos.Stored, error) { return nil, nil }
func (h *host) ID() string                      { return "host" }
func (h *host) Events() <-chan paxos.Event      { return nil }

func (h *host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, g := range h.groups {
		if err := g.Stop(); err != nil {
			return err
		}
		delete(h.groups, id)
	}
	return nil
}

// TestConformance: a group without a log does what a group of one does, power cuts
// included.
func TestConformance(t *testing.T) {
	paxostest.RunWithoutLog(t, func(t *testing.T) paxostest.Cluster {
		return &cluster{spent: map[paxos.GroupID]paxos.ReplicaID{}}
	})
}
