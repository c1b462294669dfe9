package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/paxos/paxostest"
)

const g1 = paxos.GroupID(1)

// trio is one group on three hosts.
type trio struct {
	net    *memory.Network
	hosts  []paxos.Host
	groups []paxos.Group
	disks  []*paxostest.Disk
}

func newTrio(t *testing.T, seed int64) *trio {
	x := &trio{net: memory.NewNetwork(seed)}
	members := map[paxos.ReplicaID]string{1: "a", 2: "b", 3: "c"}
	for i, id := range []string{"a", "b", "c"} {
		h := x.net.Host(id)
		require.Same(t, h, x.net.Host(id), "one life, one host")
		d := &paxostest.Disk{}
		g, err := h.Start(paxos.GroupSpec{Group: g1, Replica: paxos.ReplicaID(i + 1), Members: members}, paxostest.NewMachine(d))
		require.NoError(t, err)
		x.hosts, x.groups, x.disks = append(x.hosts, h), append(x.groups, g), append(x.disks, d)
	}
	t.Cleanup(func() {
		for _, h := range x.hosts {
			require.NoError(t, h.Close())
		}
	})
	return x
}

func (x *trio) propose(i int, command string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := x.groups[i].Propose(ctx, []byte(command))
	return err
}

func (x *trio) commands(t *testing.T, i int) []string {
	require.NoError(t, x.groups[i].ReadBarrier(context.Background()))
	return x.disks[i].Commands()
}

func TestForcedFaults(t *testing.T) {
	x := newTrio(t, 1)
	x.net.Force(g1, memory.FaultNotSent, memory.FaultUnknownApplied, memory.FaultUnknownLost,
		memory.FaultUnknownLate, memory.FaultNone, memory.FaultDuplicate, memory.FaultUnknownLate)
	for _, c := range []struct {
		command string
		err     error
	}{
		{"not sent", paxos.ErrNotSent},
		{"applied", paxos.ErrUnknownOutcome},
		{"lost", paxos.ErrUnknownOutcome},
		{"late", paxos.ErrUnknownOutcome},
		{"fine", nil},
		{"twice", nil},
		{"flushed", paxos.ErrUnknownOutcome},
	} {
		err := x.propose(1, c.command)
		require.True(t, errors.Is(err, c.err), "%s: %v", c.command, err)
	}
	require.Equal(t, []string{"applied", "fine", "late", "twice", "twice"}, x.commands(t, 0))
	x.net.Flush(g1)
	require.Equal(t, []string{"applied", "fine", "late", "twice", "twice", "flushed"}, x.commands(t, 2))
	require.Equal(t, uint64(7), x.net.Proposals(g1))
	require.Zero(t, x.net.Proposals(2))
}

// TestSeed: the same seed gives the same faults.
func TestSeed(t *testing.T) {
	run := func(seed int64) (outcomes []string, commands []string) {
		x := newTrio(t, seed)
		x.net.SetFaults(memory.Faults{NotSent: .1, UnknownApplied: .1, UnknownLost: .1, UnknownLate: .1, Duplicate: .1})
		for i := range 100 {
			outcomes = append(outcomes, fmt.Sprint(x.propose(0, fmt.Sprint(i))))
		}
		x.net.Flush(g1)
		return outcomes, x.commands(t, 0)
	}
	first, state := run(7)
	second, again := run(7)
	require.Equal(t, first, second)
	require.Equal(t, state, again)
	kinds := map[string]bool{}
	for _, o := range first {
		kinds[o] = true
	}
	require.Len(t, kinds, 3, "applied, not sent, unknown")
	other, _ := run(8)
	require.NotEqual(t, first, other)
}

func TestHoldAndRelease(t *testing.T) {
	x := newTrio(t, 1)
	require.NoError(t, x.propose(0, "one"))
	x.commands(t, 2)
	x.net.Hold(g1, 3)
	require.NoError(t, x.propose(0, "two"))
	require.Equal(t, []string{"one"}, x.disks[2].Commands(), "a held replica lags")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, x.groups[2].ReadBarrier(ctx), paxos.ErrNotSent)
	x.net.Release(g1, 3)
	require.Equal(t, []string{"one", "two"}, x.commands(t, 2))
}

func TestRestoreInsteadOfReplay(t *testing.T) {
	x := newTrio(t, 1)
	x.net.Hold(g1, 3)
	for i := range 10 {
		require.NoError(t, x.propose(0, fmt.Sprint(i)))
	}
	require.NoError(t, x.net.Compact(g1))
	x.net.Release(g1, 3)
	require.Len(t, x.commands(t, 2), 10)
	require.Equal(t, 1, x.disks[2].Restores())
	for e := range x.hosts[2].Events() {
		if e.Kind == paxos.Restored {
			break
		}
	}
}

func TestElections(t *testing.T) {
	x := newTrio(t, 1)
	require.NoError(t, x.net.Elect(g1, 3))
	leader, term, ok := x.groups[0].Leader()
	require.True(t, ok)
	require.Equal(t, paxos.ReplicaID(3), leader)
	require.Error(t, x.net.Elect(g1, 9))
	x.net.Depose(g1)
	require.ErrorIs(t, x.propose(0, "nobody leads"), paxos.ErrNotSent)
	require.NoError(t, x.net.Elect(g1, 1))
	_, next, _ := x.groups[1].Leader()
	require.Greater(t, next, term)
	require.NoError(t, x.groups[0].TransferLeadership(2))
	leader, _, _ = x.groups[2].Leader()
	require.Equal(t, paxos.ReplicaID(2), leader)

	// Out of reach, the old leader goes on believing; its proposals are stuck
	// and may or may not get in later.
	x.net.Partition([]string{"b"})
	leader, _, _ = x.groups[1].Leader()
	require.Equal(t, paxos.ReplicaID(2), leader)
	leader, _, _ = x.groups[0].Leader()
	require.NotEqual(t, paxos.ReplicaID(2), leader)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := x.groups[1].Propose(ctx, []byte("stuck"))
	require.ErrorIs(t, err, paxos.ErrUnknownOutcome)
	require.NoError(t, x.propose(0, "fine"))
	x.net.Heal()
	commands := x.commands(t, 1)
	require.Equal(t, "fine", commands[0])
}

func TestObserver(t *testing.T) {
	x := newTrio(t, 1)
	var seen []string
	x.net.Observe(func(p memory.Proposal) {
		seen = append(seen, fmt.Sprintf("%d by %d %s %t %q %t", p.Seq, p.Replica, p.Command, p.Finished, p.Result, p.Err == nil))
	})
	require.NoError(t, x.propose(1, "one"))
	x.net.Force(g1, memory.FaultUnknownLost)
	require.Error(t, x.propose(0, "two"))
	x.net.Observe(nil)
	require.NoError(t, x.propose(0, "three"))
	require.Equal(t, []string{
		`1 by 2 one false "" true`, `1 by 2 one true "1" true`,
		`2 by 1 two false "" true`, `2 by 1 two true "" false`,
	}, seen)
}

// broken is a state machine that fails.
type broken struct{ paxos.StateMachine }

func (broken) Apply([]paxos.Entry) error { return errors.New("disk on fire") }

func TestFailStop(t *testing.T) {
	n := memory.NewNetwork(1)
	h := n.Host("a")
	d := &paxostest.Disk{}
	g, err := h.Start(paxos.GroupSpec{Group: g1, Replica: 1, Members: map[paxos.ReplicaID]string{1: "a"}}, broken{paxostest.NewMachine(d)})
	require.NoError(t, err)
	_, err = g.Propose(context.Background(), []byte("x"))
	require.ErrorIs(t, err, paxos.ErrUnknownOutcome)
	require.ErrorContains(t, n.Failed(g1, 1), "disk on fire")
	_, err = g.Propose(context.Background(), []byte("x"))
	require.ErrorIs(t, err, paxos.ErrClosed)
	require.NoError(t, h.Close())
	require.Equal(t, 1, d.Closes())
}
