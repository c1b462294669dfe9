package memory

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rowlockdb/rowlock/paxos"
)

// eventBuffer is how many hints a host keeps for a reader that is slow.
const eventBuffer = 256

// host is one life of a node: from Network.Host to Close or Crash.
type host struct {
	net    *Network
	id     string
	events chan paxos.Event

	// Guarded by Network.mu.
	up     bool
	groups map[paxos.GroupID]*replica // nil while it is being started
}

func newHost(n *Network, id string) *host {
	return &host{
		net:    n,
		id:     id,
		events: make(chan paxos.Event, eventBuffer),
		up:     true,
		groups: make(map[paxos.GroupID]*replica),
	}
}

// ID implements paxos.Host.
func (h *host) ID() string { return h.id }

// Events implements paxos.Host.
func (h *host) Events() <-chan paxos.Event { return h.events }

// notifyLocked queues a hint. When the channel is full the oldest hint gives
// way, so the newest always arrives.
func (h *host) notifyLocked(e paxos.Event) {
	if !h.up {
		return
	}
	for {
		select {
		case h.events <- e:
			return
		default:
		}
		select {
		case <-h.events:
		default:
		}
	}
}

// Start implements paxos.Host.
func (h *host) Start(spec paxos.GroupSpec, sm paxos.StateMachine) (paxos.Group, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if err := h.reserve(spec); err != nil {
		return nil, err
	}
	applied, err := sm.Open()
	if err != nil {
		h.unreserve(spec.Group)
		return nil, fmt.Errorf("memory: open state machine of group %d: %w", spec.Group, err)
	}
	r, err := h.launch(spec, sm, applied)
	if err != nil {
		h.unreserve(spec.Group)
		return nil, joinClose(err, sm)
	}
	return r, nil
}

func joinClose(err error, sm paxos.StateMachine) error {
	if cerr := sm.Close(); cerr != nil {
		return fmt.Errorf("%w (and closing the state machine: %v)", err, cerr)
	}
	return err
}

// reserve claims the group on this host, so that two Starts cannot race, and
// founds the group when it is new.
func (h *host) reserve(spec paxos.GroupSpec) error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if !h.up {
		return fmt.Errorf("memory: start group %d: %w", spec.Group, paxos.ErrClosed)
	}
	if _, ok := h.groups[spec.Group]; ok {
		return fmt.Errorf("memory: start group %d: %w", spec.Group, paxos.ErrRunning)
	}
	g := h.net.mu.groups[spec.Group]
	if err := h.checkSpec(g, spec); err != nil {
		return err
	}
	if g == nil {
		h.net.mu.groups[spec.Group] = newGroup(h.net, spec.Group, spec.Members)
	}
	h.groups[spec.Group] = nil
	return nil
}

func (h *host) checkSpec(g *group, spec paxos.GroupSpec) error {
	switch {
	case g == nil && (spec.Join || spec.Restart):
		return fmt.Errorf("memory: start group %d: no such group to join", spec.Group)
	case g == nil:
		return nil
	case g.purged[spec.Replica]:
		return fmt.Errorf("memory: start group %d: replica %d was purged", spec.Group, spec.Replica)
	case slices.Contains(g.members.Removed, spec.Replica):
		return fmt.Errorf("memory: start group %d: replica %d: %w", spec.Group, spec.Replica, paxos.ErrRemoved)
	case spec.Restart && g.started[spec.Replica] != h.id:
		return fmt.Errorf("memory: start group %d: replica %d never ran here", spec.Group, spec.Replica)
	case !spec.Join && !spec.Restart && !maps.Equal(g.founders, spec.Members):
		return fmt.Errorf("memory: start group %d: founding members differ from the first start", spec.Group)
	case g.hostOf(spec.Replica) == "":
		return fmt.Errorf("memory: start group %d: replica %d is not a member", spec.Group, spec.Replica)
	case g.running[spec.Replica] != nil:
		return fmt.Errorf("memory: start group %d: replica %d runs elsewhere: %w", spec.Group, spec.Replica, paxos.ErrRunning)
	}
	return nil
}

// Stored implements paxos.Host.
func (h *host) Stored() ([]paxos.Stored, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	var all []paxos.Stored
	for _, id := range slices.Sorted(maps.Keys(h.net.mu.groups)) {
		g := h.net.mu.groups[id]
		for _, r := range slices.Sorted(maps.Keys(g.started)) {
			if g.started[r] == h.id && !g.purged[r] {
				all = append(all, paxos.Stored{Group: id, Replica: r})
			}
		}
	}
	return all, nil
}

func (h *host) unreserve(id paxos.GroupID) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	delete(h.groups, id)
}

// launch starts the replica's goroutine.
func (h *host) launch(spec paxos.GroupSpec, sm paxos.StateMachine, applied paxos.Index) (*replica, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	g := h.net.mu.groups[spec.Group]
	switch {
	case !h.up:
		return nil, fmt.Errorf("memory: start group %d: %w", spec.Group, paxos.ErrClosed)
	case applied > g.matched[spec.Replica]:
		return nil, fmt.Errorf("memory: start group %d: state machine at %d is ahead of its log at %d: %w",
			spec.Group, applied, g.matched[spec.Replica], paxos.ErrForeign)
	case applied < g.floor[spec.Replica]:
		return nil, fmt.Errorf("memory: start group %d: state machine at %d, log kept from %d: %w",
			spec.Group, applied, g.floor[spec.Replica], paxos.ErrBehind)
	}
	r := newReplica(h, g, spec.Replica, sm, applied)
	h.groups[spec.Group] = r
	g.running[spec.Replica], g.started[spec.Replica] = r, h.id
	delete(g.failed, spec.Replica)
	go r.run()
	g.settleLocked()
	return r, nil
}

// Stop implements paxos.Host.
func (h *host) Stop(id paxos.GroupID) error {
	h.net.mu.Lock()
	r := h.groups[id]
	h.net.mu.Unlock()
	if r == nil {
		return fmt.Errorf("memory: stop group %d: %w", id, paxos.ErrNotRunning)
	}
	return r.stop(false)
}

// Purge implements paxos.Host.
func (h *host) Purge(id paxos.GroupID, r paxos.ReplicaID) error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if !h.up {
		return fmt.Errorf("memory: purge group %d: %w", id, paxos.ErrClosed)
	}
	g := h.net.mu.groups[id]
	if g == nil {
		return nil
	}
	if g.running[r] != nil {
		return fmt.Errorf("memory: purge group %d: replica %d: %w", id, r, paxos.ErrRunning)
	}
	g.purged[r] = true
	delete(g.matched, r)
	return nil
}

// Close implements paxos.Host.
func (h *host) Close() error { return h.shutdown(false) }

// shutdown stops the host and all its replicas, with their state machines
// closed or, after a crash, just left.
func (h *host) shutdown(crash bool) error {
	h.net.mu.Lock()
	rs := h.departLocked()
	h.net.mu.Unlock()
	return h.end(rs, crash)
}

// departLocked ends the host's life, once, and returns the replicas that are to be ended.
func (h *host) departLocked() (rs []*replica) {
	if !h.up {
		return nil
	}
	h.up = false
	close(h.events)
	for _, id := range slices.Sorted(maps.Keys(h.groups)) {
		if r := h.groups[id]; r != nil {
			rs = append(rs, r)
		}
	}
	return rs
}

func (h *host) end(rs []*replica, crash bool) error {
	var first error
	for _, r := range rs {
		if err := r.stop(crash); err != nil && first == nil {
			first = err
		}
	}
	return first
}
