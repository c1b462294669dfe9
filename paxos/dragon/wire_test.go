package dragon_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/paxos/paxostest"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
	"github.com/rowlockdb/rowlock/shard/transport/transporttest"
)

// wired is three hosts whose traffic goes over the transport between nodes,
// encrypted. Targets are host ids, addresses are node numbers, as in the product.
type wired struct {
	t         *testing.T
	certs     string
	mu        sync.Mutex
	addresses map[shard.NodeAddr]string
	dirs      [3]string
	disks     [3]*paxostest.Disk
	nodes     [3]*transport.Transport
	hosts     [3]paxos.Host
	groups    [3]paxos.Group
}

func newWired(t *testing.T) *wired {
	w := &wired{t: t, certs: t.TempDir(), addresses: make(map[shard.NodeAddr]string)}
	authority, err := transporttest.NewAuthority()
	require.NoError(t, err)
	require.NoError(t, authority.Write(w.certs, transporttest.Node()))
	for i := range w.dirs {
		w.dirs[i], w.disks[i] = t.TempDir(), &paxostest.Disk{}
	}
	return w
}

func (w *wired) id(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1) }

func (w *wired) addr(i int) shard.NodeAddr { return shard.NodeAddr(fmt.Sprint(i + 1)) }

func (w *wired) resolve(a shard.NodeAddr) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if to := w.addresses[a]; to != "" {
		return to, nil
	}
	return "", fmt.Errorf("no node %s", a)
}

func (w *wired) target(id string) (string, error) {
	for i := range w.hosts {
		if id == w.id(i) {
			return string(w.addr(i)), nil
		}
	}
	return "", fmt.Errorf("no host %s", id)
}

func (w *wired) start(i int) {
	w.t.Helper()
	node, err := transport.Listen(transport.Options{
		Listen:  "127.0.0.1:0",
		Self:    func() transport.Identity { return transport.Identity{Cluster: [16]byte{1}, Node: uint64(i + 1)} },
		Resolve: w.resolve, TLS: &transport.TLS{Dir: w.certs},
	})
	require.NoError(w.t, err)
	w.nodes[i] = node
	w.mu.Lock()
	w.addresses[w.addr(i)] = node.Addr()
	w.mu.Unlock()
	w.hosts[i], err = dragon.Open(dragon.Options{
		Dir: w.dirs[i], NodeHostID: w.id(i), Wire: node, Resolve: w.target,
		RTT: 5 * time.Millisecond, Election: 20, SnapshotEntries: 50, Overhead: 10,
	})
	require.NoError(w.t, err)
	members := make(map[paxos.ReplicaID]string)
	for j := range w.hosts {
		members[paxos.ReplicaID(j+1)] = w.id(j)
	}
	w.groups[i], err = w.hosts[i].Start(paxos.GroupSpec{Group: 1, Replica: paxos.ReplicaID(i + 1), Members: members}, paxostest.NewMachine(w.disks[i]))
	require.NoError(w.t, err)
}

// stop ends a host as Close of a node does: consensus first.
func (w *wired) stop(i int) {
	w.t.Helper()
	require.NoError(w.t, w.hosts[i].Close())
	require.NoError(w.t, w.nodes[i].Close())
}

// cut separates a host from the others, or ends that.
func (w *wired) cut(i int, cut bool) {
	for j, n := range w.nodes {
		switch {
		case j == i:
		case cut:
			n.Cut(w.addr(i))
			w.nodes[i].Cut(w.addr(j))
		default:
			n.Mend(w.addr(i))
			w.nodes[i].Mend(w.addr(j))
		}
	}
}

// has waits until a host's state machine has applied a command.
func (w *wired) has(i int, command string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := w.groups[i].ReadBarrier(limited)
		cancel()
		if err == nil {
			require.Contains(w.t, w.disks[i].Commands(), command)
			return
		}
	}
	w.t.Fatalf("host %d never reads", i+1)
}

// TestWire: elections, proposals, a restart, a snapshot of some megabytes and a
// host that is cut off, over the transport of the product.
func TestWire(t *testing.T) {
	w := newWired(t)
	for i := range w.hosts {
		w.start(i)
	}
	for i, g := range w.groups {
		proposeOn(t, g, fmt.Sprintf("from host %d", i+1))
	}
	for i := range w.hosts {
		w.has(i, "from host 3")
	}

	// While it is away the others drop the log that it would need.
	w.stop(2)
	large := make([]byte, 64<<10)
	for i := range 100 {
		copy(large, fmt.Sprintf("large %3d ", i))
		proposeOn(t, w.groups[i%2], string(large))
	}
	proposeOn(t, w.groups[0], "while host 3 was away")
	require.Eventually(t, func() bool {
		first, err := dragon.LogFirst(w.hosts[0], 1, 1)
		require.NoError(t, err)
		other, err := dragon.LogFirst(w.hosts[1], 1, 2)
		require.NoError(t, err)
		return min(first, other) > 20
	}, time.Minute, 10*time.Millisecond, "the log is never cut")
	restored := w.disks[2].Restores()
	w.start(2)
	w.has(2, "while host 3 was away")
	require.Greater(t, w.disks[2].Restores(), restored, "it came by the log, not by a snapshot")

	// The rest goes on without a host, whoever led.
	for i := range w.hosts {
		w.cut(i, true)
		command := fmt.Sprintf("without host %d", i+1)
		proposeOn(t, w.groups[(i+1)%3], command)
		w.cut(i, false)
		w.has(i, command)
	}
	for i := range w.hosts {
		w.stop(i)
	}
}
