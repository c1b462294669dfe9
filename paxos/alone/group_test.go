package alone_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/alone"
)

// heldDisk is a state machine whose disk waits for the test. A command's result is the
// command.
type heldDisk struct {
	opened  paxos.Index
	applied chan []string   // what was applied at once
	disk    chan chan error // a batch waits; what is sent is what becomes of it

	mu     sync.Mutex
	fails  error // of the next Apply
	closed int
}

func newHeldDisk() *heldDisk {
	return &heldDisk{opened: 41, applied: make(chan []string, 100), disk: make(chan chan error)}
}

func (d *heldDisk) Open() (paxos.Index, error) { return d.opened, nil }

func (d *heldDisk) ApplyDurably(entries []paxos.Entry) (func() error, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil {
		return nil, d.fails
	}
	var all []string
	for i := range entries {
		entries[i].Result = entries[i].Command
		all = append(all, fmt.Sprintf("%d %s", entries[i].Index, entries[i].Command))
	}
	d.applied <- all
	return func() error {
		result := make(chan error)
		d.disk <- result
		return <-result
	}, nil
}

func (d *heldDisk) Apply([]paxos.Entry) error                { panic("not asked for") }
func (d *heldDisk) Sync() error                              { panic("not asked for") }
func (d *heldDisk) Snapshot() (paxos.Snapshot, error)        { panic("nobody joins") }
func (d *heldDisk) Restore(io.Reader, <-chan struct{}) error { panic("nobody sends") }

func (d *heldDisk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed++
	return nil
}

func (d *heldDisk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = err
}

// outcome is what a proposal came to.
type outcome struct {
	result string
	err    error
}

// fixture is a group on a held disk.
type fixture struct {
	t       *testing.T
	d       *heldDisk
	g       *alone.Group
	stopped chan struct{}
	failed  chan error
}

func start(t *testing.T) *fixture {
	f := &fixture{t: t, d: newHeldDisk(), stopped: make(chan struct{}), failed: make(chan error, 1)}
	var err error
	f.g, err = alone.Start(paxos.GroupSpec{Group: 7, Replica: 3, Restart: true}, f.d, alone.Options{Target: "me", Stopped: f.stopped,
		Failed: func(err error) { f.failed <- err }})
	require.NoError(t, err)
	return f
}

func (f *fixture) propose(ctx context.Context, command string) <-chan outcome {
	wait := f.g.Submit(ctx, []byte(command))
	done := make(chan outcome, 1)
	go func() {
		b, err := wait()
		done <- outcome{string(b), err}
	}()
	return done
}

func (f *fixture) barrier() <-chan error {
	begun, done := make(chan struct{}), make(chan error, 1)
	go func() {
		close(begun)
		done <- f.g.ReadBarrier(context.Background())
	}()
	<-begun
	return done
}

// still fails if something has happened that must wait for the disk.
func still[T any](t *testing.T, c <-chan T) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("before the disk has it: %v", v)
	default:
	}
}

// Results come when they are durable, in order. What comes while a batch is on its way to
// the disk is applied together.
func TestDurableBeforeTold(t *testing.T) {
	f := start(t)
	a := f.propose(t.Context(), "a")
	require.Equal(t, []string{"42 a"}, <-f.d.applied)
	first := <-f.d.disk
	b, c := f.propose(t.Context(), "b"), f.propose(t.Context(), "c")
	still(t, a)
	still(t, f.d.applied)
	first <- nil
	require.Equal(t, outcome{"a", nil}, <-a)
	require.Equal(t, []string{"43 b", "44 c"}, <-f.d.applied)
	still(t, b)
	still(t, c)
	(<-f.d.disk) <- nil
	require.Equal(t, outcome{"b", nil}, <-b)
	require.Equal(t, outcome{"c", nil}, <-c)
	require.EqualValues(t, 44, f.g.Applied())
	require.NoError(t, f.g.Stop())
	require.Equal(t, 1, f.d.closed)
}

// A barrier waits for all that can be seen, also of a batch that is being applied, and
// for nothing that comes later.
func TestBarrierIsDurable(t *testing.T) {
	f := start(t)
	require.NoError(t, f.g.ReadBarrier(t.Context()))
	a := f.propose(t.Context(), "a")
	<-f.d.applied // and may be seen
	waits := f.barrier()
	first := <-f.d.disk
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.g.ReadBarrier(ctx), paxos.ErrNotSent)
	still(t, waits)
	first <- nil
	require.NoError(t, <-waits)
	require.NoError(t, (<-a).err)
	require.NoError(t, f.g.Stop())
	require.ErrorIs(t, f.g.ReadBarrier(t.Context()), paxos.ErrClosed)
}

// A context that ends: what was not taken never will be, of the rest nothing is known.
func TestContextEnds(t *testing.T) {
	f := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := f.propose(ctx, "a")
	<-f.d.applied
	first := <-f.d.disk
	b := f.propose(ctx, "b")
	cancel()
	require.ErrorIs(t, (<-a).err, paxos.ErrUnknownOutcome)
	require.ErrorIs(t, (<-b).err, paxos.ErrNotSent)
	c := f.propose(t.Context(), "c")
	first <- nil
	require.Equal(t, []string{"43 c"}, <-f.d.applied, "b is not sent")
	(<-f.d.disk) <- nil
	require.NoError(t, (<-c).err)
	require.NoError(t, f.g.Stop())
}

// Stop waits for what is under way; what is queued then was never sent.
func TestStopUnderWay(t *testing.T) {
	f := start(t)
	a := f.propose(t.Context(), "a")
	first := <-f.d.disk
	b := f.propose(t.Context(), "b")
	stopped := make(chan error)
	go func() { stopped <- f.g.Stop() }()
	for leads := true; leads; _, _, leads = f.g.Leader() {
	}
	first <- nil
	require.NoError(t, (<-a).err)
	require.ErrorIs(t, (<-b).err, paxos.ErrClosed)
	require.NoError(t, <-stopped)
	require.NoError(t, f.g.Stop())
	require.Equal(t, 1, f.d.closed)
	require.ErrorIs(t, (<-f.propose(t.Context(), "c")).err, paxos.ErrClosed)
}

// Nothing waits for a disk that has failed: it never comes back.
func TestDiskFails(t *testing.T) {
	f := start(t)
	a := f.propose(t.Context(), "a")
	<-f.d.disk // for ever
	b := f.propose(t.Context(), "b")
	waits := f.barrier()
	close(f.stopped)
	require.ErrorIs(t, (<-a).err, paxos.ErrUnknownOutcome)
	require.Error(t, (<-b).err)
	require.ErrorIs(t, <-waits, paxos.ErrClosed)
	require.ErrorIs(t, (<-f.propose(t.Context(), "c")).err, paxos.ErrClosed)
	require.Error(t, f.g.Stop())
	require.Zero(t, f.d.closed)
}

// An error of the state machine is the end: nothing is applied after it.
func TestStateMachineFails(t *testing.T) {
	broken := errors.New("broken")
	for name, breaks := range map[string]func(*fixture){
		"while it applies": func(f *fixture) { f.d.fail(broken) },
		"while it syncs": func(f *fixture) {
			a := f.propose(context.Background(), "a")
			(<-f.d.disk) <- broken
			require.ErrorIs(f.t, (<-a).err, paxos.ErrUnknownOutcome)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			breaks(f)
			require.Error(t, (<-f.propose(t.Context(), "b")).err)
			require.ErrorIs(t, <-f.failed, broken)
			require.ErrorIs(t, (<-f.propose(t.Context(), "c")).err, paxos.ErrClosed)
			_, _, leads := f.g.Leader()
			require.False(t, leads)
			require.NoError(t, f.g.Stop())
		})
	}
}

// The group has one member for as long as it is there.
func TestMembersStay(t *testing.T) {
	f := start(t)
	m, err := f.g.Membership(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[paxos.ReplicaID]string{3: "me"}, m.Voters)
	require.ErrorIs(t, f.g.AddLearner(t.Context(), 4, "other", m.ChangeID), paxos.ErrRejected)
	require.ErrorIs(t, f.g.AddReplica(t.Context(), 4, "other", m.ChangeID), paxos.ErrRejected)
	require.ErrorIs(t, f.g.RemoveReplica(t.Context(), 3, m.ChangeID), paxos.ErrRejected)
	require.NoError(t, f.g.Stop())
	for _, spec := range []paxos.GroupSpec{
		{Group: 7, Replica: 3, Join: true},
		{Group: 7, Replica: 3, Members: map[paxos.ReplicaID]string{3: "me", 4: "other"}},
	} {
		_, err := alone.Start(spec, newHeldDisk(), alone.Options{})
		require.Error(t, err)
	}
}
