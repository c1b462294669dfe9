package paxostest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
)

// Cluster is a set of hosts of one implementation. Hosts are numbered from 0.
type Cluster interface {
	// ID is the node target of a host, known before it runs.
	ID(i int) string
	// Open opens a host that is not running.
	Open(i int) (paxos.Host, error)
	// Crash ends a running host as a power cut would: whatever was not synced
	// is lost, but for the disks of its state machines, which the suite cuts
	// itself by calling cut at the moment of the cut.
	Crash(i int, cut func())
	// Isolate puts a host out of reach of all others; Heal ends that.
	Isolate(i int)
	Heal()
	// Compact lets the log of a group be dropped up to about where it is.
	Compact(g paxos.GroupID) error
}

// settle bounds every wait of the suite. It is not a measurement: nothing
// fails for being slow before that.
const settle = 20 * time.Second

// node is a running host of the suite with the disks of its replicas.
type node struct {
	host  paxos.Host
	disks map[paxos.GroupID]*Disk
	group map[paxos.GroupID]paxos.Group
	life  int
}

// world drives a cluster and remembers what was acknowledged.
type world struct {
	t       *testing.T
	cluster Cluster
	members map[paxos.ReplicaID]string

	mu    sync.RWMutex
	nodes []*node
	acked map[paxos.GroupID][]string
}

func newWorld(t *testing.T, c Cluster, hosts, voters int) *world {
	w := &world{t: t, cluster: c, members: make(map[paxos.ReplicaID]string), acked: make(map[paxos.GroupID][]string)}
	for i := range voters {
		w.members[paxos.ReplicaID(i+1)] = c.ID(i)
	}
	for i := range hosts {
		w.nodes = append(w.nodes, &node{disks: make(map[paxos.GroupID]*Disk)})
		w.open(i)
	}
	t.Cleanup(func() {
		for i := range w.nodes {
			w.close(i)
		}
	})
	return w
}

func (w *world) open(i int) {
	h, err := w.cluster.Open(i)
	require.NoError(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[i].host = h
	w.nodes[i].group = make(map[paxos.GroupID]paxos.Group)
}

func (w *world) close(i int) {
	w.mu.Lock()
	h := w.nodes[i].host
	w.nodes[i].host = nil
	w.nodes[i].life++
	w.mu.Unlock()
	if h != nil {
		require.NoError(w.t, h.Close())
		require.NoError(w.t, h.Close(), "a second Close")
	}
}

// crash cuts the power of a host. Acknowledgements that arrive from it later
// do not count: nobody was there to see them.
func (w *world) crash(i int) {
	w.cluster.Crash(i, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.nodes[i].life++
		w.nodes[i].host = nil
		for _, d := range w.nodes[i].disks {
			d.Cut()
		}
	})
}

func (w *world) disk(i int, g paxos.GroupID) *Disk {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[i].disks[g] == nil {
		w.nodes[i].disks[g] = &Disk{}
	}
	return w.nodes[i].disks[g]
}

// start starts the founding replica of host i, which has number i+1.
func (w *world) start(i int, g paxos.GroupID) paxos.Group {
	return w.startSpec(i, paxos.GroupSpec{Group: g, Replica: paxos.ReplicaID(i + 1), Members: w.members})
}

func (w *world) startSpec(i int, spec paxos.GroupSpec) paxos.Group {
	gr, err := w.nodes[i].host.Start(spec, NewMachine(w.disk(i, spec.Group)))
	require.NoError(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[i].group[spec.Group] = gr
	return gr
}

// startAll starts a group on all its founding hosts at once.
func (w *world) startAll(g paxos.GroupID) []paxos.Group {
	groups := make([]paxos.Group, len(w.members))
	for i := range groups {
		groups[i] = w.start(i, g)
	}
	return groups
}

func (w *world) group(i int, g paxos.GroupID) (paxos.Group, int) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.nodes[i].host == nil {
		return nil, 0
	}
	return w.nodes[i].group[g], w.nodes[i].life
}

// propose proposes on host i and remembers the acknowledgement.
func (w *world) propose(i int, g paxos.GroupID, command string, timeout time.Duration) error {
	gr, life := w.group(i, g)
	if gr == nil {
		return paxos.ErrClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_, err := gr.Propose(ctx, []byte(command))
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.nodes[i].life == life {
		w.acked[g] = append(w.acked[g], command)
	}
	return err
}

// mustPropose proposes until it is acknowledged. Only a refusal that is known
// to have had no effect is tried again.
func (w *world) mustPropose(i int, g paxos.GroupID, command string) {
	w.t.Helper()
	require.NoError(w.t, w.until(func() error { return w.propose(i, g, command, settle) }, paxos.ErrNotSent))
}

// persist proposes until a proposal is acknowledged, and returns it. Where
// leaders come and go a proposal may be lost on its way; its outcome is unknown
// then, and it is made again under another name.
func (w *world) persist(i int, g paxos.GroupID, command string) string {
	w.t.Helper()
	for try := 1; ; try++ {
		named := command
		if try > 1 {
			named = fmt.Sprintf("%s, try %d", command, try)
		}
		err := w.until(func() error { return w.propose(i, g, named, 2*time.Second) }, paxos.ErrNotSent)
		if err == nil {
			return named
		}
		require.ErrorIs(w.t, err, paxos.ErrUnknownOutcome)
		require.Less(w.t, try, 10, "no proposal comes through; %s", w.describe(g))
	}
}

// change makes a membership change that must come about: done tells when it
// has, whatever the outcome that was reported.
func (w *world) change(g paxos.Group, f func(ctx context.Context, changeID uint64) error, done func(paxos.Membership) bool) paxos.Membership {
	w.t.Helper()
	deadline := time.Now().Add(settle)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		m, err := g.Membership(ctx)
		if err == nil && done(m) {
			cancel()
			return m
		}
		if err == nil {
			err = f(ctx, m.ChangeID)
		}
		cancel()
		if err != nil {
			require.True(w.t, isA(err, paxos.ErrNotSent) || isA(err, paxos.ErrUnknownOutcome) || isA(err, paxos.ErrRejected), "%v", err)
			require.True(w.t, time.Now().Before(deadline), "membership does not change: %v", err)
		}
	}
}

// rejected makes a membership change until its outcome is known, and wants it
// to be a refusal.
func (w *world) rejected(f func(ctx context.Context) error) {
	w.t.Helper()
	deadline := time.Now().Add(settle)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := f(ctx)
		cancel()
		known := !isA(err, paxos.ErrNotSent) && !isA(err, paxos.ErrUnknownOutcome)
		if known || time.Now().After(deadline) {
			require.ErrorIs(w.t, err, paxos.ErrRejected)
			return
		}
	}
}

// until calls f until it returns nil or an error that is not retry.
func (w *world) until(f func() error, retry error) error {
	deadline := time.Now().Add(settle)
	for {
		err := f()
		if err == nil || !isA(err, retry) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// eventually waits for a condition.
func (w *world) eventually(what string, cond func() bool) {
	w.t.Helper()
	require.Eventually(w.t, cond, settle, 2*time.Millisecond, what)
}

// converge waits until hosts have the same commands, with a barrier on each,
// and checks them against what was acknowledged.
func (w *world) converge(g paxos.GroupID, hosts ...int) []string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	for _, i := range hosts {
		gr, _ := w.group(i, g)
		if err := gr.ReadBarrier(ctx); err != nil {
			require.NoError(w.t, err, "barrier on host %d; %s", i, w.describe(g))
		}
	}
	first := w.disk(hosts[0], g)
	for _, i := range hosts {
		w.eventually(fmt.Sprintf("host %d has what host %d has", i, hosts[0]), func() bool {
			return w.disk(i, g).Checksum() == first.Checksum()
		})
	}
	commands := first.Commands()
	w.checkAcked(g, commands)
	return commands
}

// describe says where the replicas of a group are.
func (w *world) describe(g paxos.GroupID) string {
	var b strings.Builder
	for i := range w.nodes {
		gr, _ := w.group(i, g)
		if gr == nil {
			fmt.Fprintf(&b, "host %d down; ", i)
			continue
		}
		leader, term, ok := gr.Leader()
		fmt.Fprintf(&b, "host %d applied %d, leader %d in term %d (%t); ", i, gr.Applied(), leader, term, ok)
	}
	return b.String()
}

// checkAcked fails unless everything acknowledged is there, once.
func (w *world) checkAcked(g paxos.GroupID, commands []string) {
	w.t.Helper()
	seen := make(map[string]int)
	for _, c := range commands {
		seen[c]++
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, c := range w.acked[g] {
		require.Equal(w.t, 1, seen[c], "acknowledged command %q", c)
	}
}
