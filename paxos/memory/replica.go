package memory

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/rowlockdb/rowlock/paxos"
)

// replica runs one state machine.
type replica struct {
	host  *host
	group *group
	id    paxos.ReplicaID
	sm    paxos.StateMachine
	wake  *sync.Cond    // on Network.mu: something changed for run
	gone  chan struct{} // closed when the replica stops taking part
	done  chan struct{} // closed when run has returned
	batch *rand.Rand    // sizes of batches; run's alone

	// Guarded by Network.mu.
	leader   paxos.ReplicaID // belief
	term     uint64
	applied  paxos.Index
	stopping bool
	tasks    []func()
	barriers []barrier
	closeErr error
}

// barrier is closed when the replica has applied index.
type barrier struct {
	index paxos.Index
	done  chan struct{}
}

func newReplica(h *host, g *group, id paxos.ReplicaID, sm paxos.StateMachine, applied paxos.Index) *replica {
	return &replica{
		host: h, group: g, id: id, sm: sm, applied: applied,
		wake: sync.NewCond(&h.net.mu),
		gone: make(chan struct{}),
		done: make(chan struct{}),
		// A source of its own, so that the goroutines of replicas do not
		// disturb the network's choices.
		batch: rand.New(rand.NewPCG(h.net.seed, uint64(g.id)<<32^uint64(id))),
	}
}

// run is the only goroutine that calls the state machine.
func (r *replica) run() {
	defer close(r.done)
	for {
		work := r.next()
		if work == nil {
			return
		}
		if err := work(); err != nil {
			r.fail(err)
			return
		}
	}
}

// next waits for something to do and returns it, or nil to stop.
func (r *replica) next() func() error {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	for {
		switch {
		case r.stopping:
			return nil
		case len(r.tasks) > 0:
			t := r.tasks[0]
			r.tasks = r.tasks[1:]
			return func() error { t(); return nil }
		case r.group.held[r.id] || r.applied >= r.group.matched[r.id]:
			r.wake.Wait()
		case r.applied+1 < r.group.first:
			base := *r.group.base
			return func() error { return r.restore(base) }
		default:
			return r.batchLocked()
		}
	}
}

// batchLocked takes the next entries, as many as chance wants.
func (r *replica) batchLocked() func() error {
	g := r.group
	n := int(g.matched[r.id] - r.applied)
	if n > 1 {
		n = 1 + r.batch.IntN(n)
	}
	from := int(r.applied + 1 - g.first)
	batch := g.entries[from : from+n : from+n]
	start := r.applied + 1
	return func() error { return r.apply(start, batch) }
}

func (r *replica) apply(start paxos.Index, batch []entry) error {
	es := make([]paxos.Entry, 0, len(batch))
	for i, e := range batch {
		if !e.hidden {
			es = append(es, paxos.Entry{Index: start + paxos.Index(i), Command: e.command})
		}
	}
	if len(es) > 0 {
		if err := r.sm.Apply(es); err != nil {
			return fmt.Errorf("memory: apply to group %d, index %d: %w", r.group.id, es[0].Index, err)
		}
	}
	for _, e := range es {
		if e.Result == nil {
			panic(fmt.Sprintf("memory: state machine of group %d set no result at index %d", r.group.id, e.Index))
		}
	}
	r.advance(start+paxos.Index(len(batch))-1, start, batch, es)
	return nil
}

// advance moves the applied cursor and wakes those who wait for it.
func (r *replica) advance(to, start paxos.Index, batch []entry, es []paxos.Entry) {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	r.applied = to
	for _, e := range es {
		p := batch[e.Index-start].origin
		if p != nil && p.replica == r {
			p.finish(e.Result, nil)
		}
	}
	keep := r.barriers[:0]
	for _, b := range r.barriers {
		if b.index <= to {
			close(b.done)
		} else {
			keep = append(keep, b)
		}
	}
	r.barriers = keep
}

// restore replaces the state by a snapshot. Proposals inside it were made here
// and applied, but nobody will ever know their results.
func (r *replica) restore(s snapshot) error {
	if err := r.sm.Restore(bytes.NewReader(s.data), r.gone); err != nil {
		return fmt.Errorf("memory: restore group %d at %d: %w", r.group.id, s.index, err)
	}
	if err := r.sm.Sync(); err != nil {
		return fmt.Errorf("memory: sync group %d: %w", r.group.id, err)
	}
	r.advance(s.index, 0, nil, nil)
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	if r.stopping { // the power may have gone before the sync
		return nil
	}
	r.group.floor[r.id] = max(r.group.floor[r.id], s.index)
	r.host.notifyLocked(paxos.Event{Kind: paxos.Restored, Group: r.group.id})
	return nil
}

// takeSnapshot syncs the state machine and writes it out, between two batches.
func (r *replica) takeSnapshot() (snapshot, error) {
	var s snapshot
	err := fmt.Errorf("replica %d: %w", r.id, paxos.ErrClosed)
	done := make(chan struct{})
	mu := &r.host.net.mu
	mu.Lock()
	r.tasks = append(r.tasks, func() {
		defer close(done)
		s, err = r.writeSnapshot()
	})
	r.wake.Broadcast()
	mu.Unlock()
	select {
	case <-done:
		return s, err
	case <-r.done:
	}
	select { // both may be closed; prefer the answer
	case <-done:
		return s, err
	default:
		return snapshot{}, fmt.Errorf("replica %d: %w", r.id, paxos.ErrClosed)
	}
}

func (r *replica) writeSnapshot() (snapshot, error) {
	if err := r.sm.Sync(); err != nil {
		return snapshot{}, err
	}
	snap, err := r.sm.Snapshot()
	if err != nil {
		return snapshot{}, err
	}
	var buf bytes.Buffer
	err = snap.Write(&buf, r.gone)
	if cerr := snap.Close(); err == nil {
		err = cerr
	}
	return snapshot{index: r.Applied(), data: buf.Bytes()}, err
}

// fail stops the replica because its state machine returned an error.
func (r *replica) fail(err error) {
	mu := &r.host.net.mu
	mu.Lock()
	defer mu.Unlock()
	r.group.failed[r.id] = err
	r.leaveLocked()
}

// leaveLocked takes the replica out of its group and ends what waits for it.
func (r *replica) leaveLocked() {
	if r.stopping {
		return
	}
	r.stopping = true
	close(r.gone)
	r.wake.Broadcast()
	delete(r.group.running, r.id)
	r.group.settleLocked()
}

// stop ends the replica and waits for its goroutine. A crash leaves the state
// machine as it is, otherwise it is closed.
func (r *replica) stop(crash bool) error {
	mu := &r.host.net.mu
	mu.Lock()
	_, mine := r.host.groups[r.group.id]
	delete(r.host.groups, r.group.id)
	r.leaveLocked()
	mu.Unlock()
	<-r.done
	if crash || !mine {
		return nil
	}
	if err := r.sm.Close(); err != nil {
		return fmt.Errorf("memory: close state machine of group %d: %w", r.group.id, err)
	}
	return nil
}
