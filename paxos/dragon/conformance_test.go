package dragon_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/paxos/paxostest"
)

// cluster lets the suite drive hosts of one process: in memory, where the
// power can be cut, or one of them on disk.
type cluster struct {
	t     *testing.T
	net   *dragon.Network
	dir   string // on disk, empty in memory
	rng   *rand.Rand
	mu    sync.Mutex
	hosts []*member
}

type member struct {
	host paxos.Host
	fs   *vfs.MemFS
	gate sync.RWMutex // held while the power is cut
	log  *pebblevfs.MemFS
}

// gatedFS removes nothing while the power is cut, so that both file systems
// of a host lose it at the same moment.
type gatedFS struct {
	vfs.FS
	gate *sync.RWMutex
}

func (g gatedFS) Remove(name string) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.FS.Remove(name)
}

func (g gatedFS) RemoveAll(name string) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.FS.RemoveAll(name)
}

func (g gatedFS) Rename(oldname, newname string) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.FS.Rename(oldname, newname)
}

func newCluster(t *testing.T, n int) *cluster {
	seed := explore.Seed(t)
	c := &cluster{t: t, net: dragon.NewNetwork(), rng: rand.New(rand.NewPCG(seed, 2))}
	for range n {
		c.hosts = append(c.hosts, &member{fs: vfs.NewStrictMem(), log: pebblevfs.NewCrashableMem()})
	}
	return c
}

func (c *cluster) ID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1) }

func (c *cluster) Open(i int) (paxos.Host, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.hosts[i]
	o := dragon.Options{
		NodeHostID: c.ID(i), Network: c.net, RTT: 5 * time.Millisecond,
		Election: 20, SnapshotEntries: 100, Overhead: 20,
	}
	if c.dir != "" {
		o.Dir = c.dir
	} else {
		o.Dir, o.FS, o.LogFS = fmt.Sprintf("/data-%d", i), gatedFS{m.fs, &m.gate}, m.log
	}
	h, err := dragon.Open(o)
	if err != nil {
		return nil, err
	}
	m.host = h
	return &tracked{h, c, m}, nil
}

// tracked tells the cluster when the suite closes a host.
type tracked struct {
	paxos.Host
	c *cluster
	m *member
}

func (t *tracked) Close() error {
	t.c.mu.Lock()
	if t.m.host == t.Host {
		t.m.host = nil
	}
	t.c.mu.Unlock()
	return t.Host.Close()
}

// Crash takes the host off the network first: what it says after the moment
// of the cut must not be heard.
func (c *cluster) Crash(i int, cut func()) {
	c.Isolate(i)
	cut()
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.hosts[i]
	m.log = c.cutPower(m)
	m.host = nil
	c.mend(i)
}

func (c *cluster) cutPower(m *member) *pebblevfs.MemFS {
	m.gate.Lock()
	after := m.log.CrashClone(pebblevfs.CrashCloneCfg{UnsyncedDataPercent: c.rng.IntN(101), RNG: c.rng})
	m.fs.SetIgnoreSyncs(true)
	m.gate.Unlock()
	if err := m.host.Close(); err != nil {
		c.t.Errorf("close after the power cut: %v", err)
	}
	m.fs.ResetToSyncedState()
	m.fs.SetIgnoreSyncs(false)
	return after
}

func (c *cluster) Isolate(i int) {
	for j := range c.hosts {
		if j != i {
			c.net.Cut(c.ID(i), c.ID(j))
		}
	}
}

func (c *cluster) mend(i int) {
	for j := range c.hosts {
		c.net.Mend(c.ID(i), c.ID(j))
	}
}

func (c *cluster) Heal() {
	for i := range c.hosts {
		c.mend(i)
	}
}

// Compact waits until the log was cut, which Dragonboat does by itself.
func (c *cluster) Compact(g paxos.GroupID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline := time.Now().Add(time.Minute)
	for i, m := range c.hosts {
		if m.host == nil {
			continue
		}
		for {
			first, err := dragon.LogFirst(m.host, g, paxos.ReplicaID(i+1))
			if err != nil {
				return err
			}
			if first > 50 || first == 0 {
				break
			}
			if time.Now().After(deadline) {
				return errors.New("the log was not cut")
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func TestConformance(t *testing.T) {
	paxostest.Run(t, func(t *testing.T, n int) paxostest.Cluster { return newCluster(t, n) })
}

func TestConformanceOnDisk(t *testing.T) {
	paxostest.RunAlone(t, func(t *testing.T) paxostest.Cluster {
		c := newCluster(t, 1)
		c.dir = t.TempDir()
		return c
	})
}

// TestEmptiedSnapshot checks the length by which a start knows that a snapshot
// file that was received has been emptied.
func TestEmptiedSnapshot(t *testing.T) {
	c := newCluster(t, 3)
	members := map[paxos.ReplicaID]string{1: c.ID(0), 2: c.ID(1), 3: c.ID(2)}
	hosts := make([]paxos.Host, 3)
	groups := make([]paxos.Group, 3)
	disks := []*paxostest.Disk{{}, {}, {}}
	start := func(i int) {
		h, err := c.Open(i)
		require.NoError(t, err)
		hosts[i] = h
		groups[i], err = h.Start(paxos.GroupSpec{Group: 1, Replica: paxos.ReplicaID(i + 1), Members: members}, paxostest.NewMachine(disks[i]))
		require.NoError(t, err)
	}
	start(0)
	start(1)
	for i := range 400 {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			_, err := groups[0].Propose(ctx, []byte(fmt.Sprint(i)))
			cancel()
			if err == nil {
				break
			}
		}
	}
	require.NoError(t, c.Compact(1))
	start(2)
	require.Eventually(t, func() bool {
		size, full, err := dragon.SnapshotSize(c.hosts[2].host, 1, 3)
		return err == nil && full && size == dragon.EmptiedSnapshot
	}, time.Minute, time.Millisecond)
	require.Equal(t, 1, disks[2].Restores())
	for _, h := range hosts {
		require.NoError(t, h.Close())
	}
}
