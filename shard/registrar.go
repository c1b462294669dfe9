package shard

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/ring"
)

// The records of the system shard about the cluster.
const (
	recordMembers     = "nodes"       // all nodes, the removed ones too
	recordReplication = "replication" // the wanted number of replicas
	recordVersion     = "version"     // the cluster's version, and whether it is preserved
)

const (
	// heartbeatEvery is the pause between two heartbeats; a node that was silent
	// for upFor counts as down. Nothing that must be right depends on either.
	heartbeatEvery = 500 * time.Millisecond
	upFor          = 3 * time.Second
	// maxClockGap is how far a node's clock may be from the cluster's when it
	// comes in. Timestamps do not need it, people who read them do.
	maxClockGap = time.Minute
)

// registrar is the memory of the system shard's owner about the nodes: who was
// heard of when, and what their replicas do. What must last is in records.
type registrar struct {
	sync.Mutex // held across a proposal on purpose: one registration at a time
	epoch      uint64
	began      time.Time
	asked      time.Time // for the last time
	heard      map[uint64]heardOf
	places     map[ID]ShardPlace
	moves      map[ID]Move
}

type heardOf struct {
	at      time.Time
	process uint64
	running []ReplicaReport
}

// enter begins an epoch. What this process heard in its epoch just before stays:
// none of it has to be right. Otherwise every node counts as up until it has had
// the time to be heard.
func (g *registrar) enter(epoch uint64, now time.Time) {
	g.epoch = epoch
	if g.heard != nil && now.Sub(g.asked) < upFor {
		return
	}
	g.began = now
	g.heard, g.places, g.moves = map[uint64]heardOf{}, map[ID]ShardPlace{}, map[ID]Move{}
}

func (g *registrar) up(node uint64, now time.Time) bool {
	h, ok := g.heard[node]
	if !ok {
		return now.Sub(g.began) < upFor
	}
	return now.Sub(h.at) < upFor
}

// silence is how long a node has not been heard of.
func (g *registrar) silence(node uint64, now time.Time) time.Duration {
	if h, ok := g.heard[node]; ok {
		return now.Sub(h.at)
	}
	return now.Sub(g.began)
}

// tell takes in what a node says of some of its replicas.
func (g *registrar) tell(q *HeartbeatRequest) {
	h := g.heard[q.Node]
	rest := slices.DeleteFunc(slices.Clone(h.running), func(old ReplicaReport) bool {
		return slices.ContainsFunc(q.Replicas, func(r ReplicaReport) bool { return r.Shard == old.Shard })
	})
	h.running = append(rest, q.Replicas...)
	g.heard[q.Node] = h
	g.see(q)
}

// take takes a heartbeat in.
func (g *registrar) take(q *HeartbeatRequest, now time.Time) {
	g.heard[q.Node] = heardOf{at: now, process: q.Process, running: q.Replicas}
	g.see(q)
}

// see: of two owners that report themselves the one of the later epoch is right,
// and of two memberships the later one.
func (g *registrar) see(q *HeartbeatRequest) {
	for _, r := range q.Replicas {
		p, ok := g.places[r.Shard]
		if r.Serving && (!ok || r.Epoch >= p.Epoch) {
			p.Shard, p.Owner, p.Epoch, p.Applied, p.Bytes = r.Shard, q.Node, r.Epoch, r.Applied, r.Bytes
			if r.Shared != p.Shared { // the members of another group: no later and no earlier ones
				p.Shared, p.ChangeID, p.Voters, p.Learners, p.Removed = r.Shared, 0, nil, nil, nil
			}
			if r.ChangeID >= p.ChangeID && len(r.Voters) > 0 {
				p.ChangeID, p.Voters, p.Learners, p.Removed = r.ChangeID, r.Voters, r.Learners, r.Removed
			}
			g.places[r.Shard] = p
		} else if ok && p.Owner == q.Node && !r.Serving {
			p.Owner = 0
			g.places[r.Shard] = p
		}
	}
}

// register makes a node a member or admits a member that was opened again.
func (n *Node) register(ctx context.Context, r *Replica, q *RegisterRequest) (*RegisterResponse, error) {
	g, now, err := n.registrarOf(ctx, r)
	if err != nil {
		return nil, err
	}
	defer g.Unlock()
	known, err := n.storedMembers(r)
	if err != nil {
		return nil, err
	}
	m := q.Member
	old, member := findMember(known, m)
	version, _, err := storedVersion(r)
	if err != nil {
		return nil, err
	}
	if why := cmp.Or(m.Versions.Refusal(version), n.refusal(q, old, member, known, g, now)); why != "" {
		return nil, &Error{Code: Refused, Shard: System, Detail: why}
	}
	if member && q.Member.ID == 0 && old.Incarnation > 0 {
		// A request to join that came late, or again: the node has been open since,
		// and what it said of itself then counts.
		return n.admission(r, g, old, now)
	}
	if member {
		m.ID, m.State = old.ID, old.State
		if m.State == MemberDraining { // it is back from its restart
			m.State = MemberActive
		}
	} else if m.ID == 0 {
		for _, k := range known {
			m.ID = max(m.ID, k.ID)
		}
		m.ID++
	}
	if q.Member.ID != 0 {
		m.Incarnation = old.Incarnation + 1
	}
	m.Up = false
	if err := g.putMember(ctx, r, known, m); err != nil {
		return nil, err
	}
	g.heard[m.ID] = heardOf{at: now, process: q.Process}
	return n.admission(r, g, m, now)
}

// admission is the answer to a node that is a member now.
func (n *Node) admission(r *Replica, g *registrar, m Member, now time.Time) (*RegisterResponse, error) {
	state, err := n.clusterState(r, g, now)
	if err != nil {
		return nil, err
	}
	return &RegisterResponse{ID: m.ID, Incarnation: m.Incarnation, State: *state}, nil
}

func findMember(known []Member, m Member) (Member, bool) {
	for _, k := range known {
		if m.ID != 0 && k.ID == m.ID || m.ID == 0 && k.Host == m.Host {
			return k, true
		}
	}
	return Member{}, false
}

// maxNode is the highest number of a node.
const maxNode = 1<<16 - 1

// refusal says why a node may not come in; empty if it may.
func (n *Node) refusal(q *RegisterRequest, old Member, member bool, known []Member, g *registrar, now time.Time) string {
	m := q.Member
	gap := now.Sub(time.UnixMilli(int64(q.Millis)))
	switch {
	case q.Cluster != [16]byte{} && q.Cluster != n.c.Cluster:
		return fmt.Sprintf("its data belongs to cluster %x, this is cluster %x", q.Cluster, n.c.Cluster)
	case gap.Abs() > maxClockGap:
		return fmt.Sprintf("its clock is %s away from the cluster's", gap.Abs().Round(time.Second))
	case m.ID == 0 && !member && len(known) > 0 && known[len(known)-1].ID == maxNode:
		return fmt.Sprintf("all %d numbers of nodes are used up", maxNode)
	case m.ID != 0 && !member && len(known) > 0:
		return fmt.Sprintf("no node has number %d", m.ID)
	case member && old.State == MemberRemoved:
		return fmt.Sprintf("node %d was removed from the cluster; start it on an empty directory to join as a new node", old.ID)
	case member && old.Host != m.Host:
		return fmt.Sprintf("node %d has another log than this directory", old.ID)
	}
	if h, ok := g.heard[old.ID]; member && ok && h.process != q.Process && now.Sub(h.at) < upFor && old.Cluster != m.Cluster {
		return fmt.Sprintf("node %d runs already, at %s: this directory is a copy", old.ID, old.Cluster)
	}
	if member && m.ID != 0 && old.Life != 0 && !slices.Contains(q.Lives, old.Life) {
		return fmt.Sprintf("node %d was opened since by another directory: this one is an older copy", old.ID)
	}
	for _, k := range known {
		if m.Name != "" && strings.EqualFold(k.Name, m.Name) && k.ID != old.ID && k.State != MemberRemoved {
			return fmt.Sprintf("node %d has the name %q already", k.ID, k.Name)
		}
	}
	return ""
}

// registrarOf locks the registrar if the replica owns the system shard. A new one
// knows this node's replicas from the start.
func (n *Node) registrarOf(ctx context.Context, r *Replica) (*registrar, time.Time, error) {
	if r.c.Shard != System {
		return nil, time.Time{}, r.bad("nodes are registered at the system shard")
	}
	t, err := r.current()
	if err != nil {
		return nil, time.Time{}, err
	}
	now := n.c.Clock()
	n.registrar.Lock()
	defer func() { n.registrar.asked = now }()
	if n.registrar.epoch != t.epoch {
		n.registrar.enter(t.epoch, now)
		n.registrar.take(n.promptReport(ctx), now)
	}
	return &n.registrar, now, nil
}

// storedMembers reads the registry.
func (n *Node) storedMembers(r *Replica) ([]Member, error) {
	b, ok, err := r.c.Machine.Record(recordMembers)
	if err != nil {
		return nil, fmt.Errorf("read the registry of nodes: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return decodeMembers(b)
}

func decodeMembers(b []byte) ([]Member, error) {
	d := newStoredDecoder(b)
	members := list(&d, (*decoder).member)
	if err := d.done(); err != nil {
		return nil, fmt.Errorf("decode the registry of nodes: %w", err)
	}
	return members, nil
}

// heartbeat takes a node's report in and answers with the state of the cluster.
func (n *Node) heartbeat(ctx context.Context, r *Replica, q *HeartbeatRequest) (*ClusterState, error) {
	g, now, err := n.registrarOf(ctx, r)
	if err != nil {
		return nil, err
	}
	defer g.Unlock()
	g.take(q, now)
	s, err := n.clusterState(r, g, now)
	if err == nil {
		n.raise(ctx, r, g, s)
	}
	return s, err
}

// clusterState is the picture that all nodes get.
func (n *Node) clusterState(r *Replica, g *registrar, now time.Time) (*ClusterState, error) {
	members, err := n.storedMembers(r)
	if err != nil {
		return nil, err
	}
	s := &ClusterState{Cluster: n.c.Cluster, Members: members}
	for i := range s.Members {
		m := &s.Members[i]
		m.Up = m.State != MemberRemoved && g.up(m.ID, now)
	}
	if s.Ring, _, err = r.c.Machine.Record(recordRing); err != nil {
		return nil, fmt.Errorf("read the ring: %w", err)
	}
	if s.Replication, err = n.storedReplication(r); err != nil {
		return nil, err
	}
	if s.Version, s.Preserve, err = storedVersion(r); err != nil {
		return nil, err
	}
	for _, p := range g.places {
		p.Running = nil
		for node, h := range g.heard {
			for _, rr := range h.running {
				if rr.Shard == p.Shard {
					p.Running = append(p.Running, RunningReplica{Node: node, Replica: rr.Replica, Applied: rr.Applied, Shared: rr.Shared})
				}
			}
		}
		s.Shards = append(s.Shards, p)
	}
	agree(s.Shards)
	for _, m := range g.moves {
		s.Moves = append(s.Moves, m)
	}
	slices.SortFunc(s.Shards, func(a, b ShardPlace) int { return cmp.Compare(a.Shard, b.Shard) })
	slices.SortFunc(s.Moves, func(a, b Move) int { return cmp.Compare(a.Shard, b.Shard) })
	return s, nil
}

// storedVersion reads the cluster's version. What was made before there was a record of
// it is of the first.
func storedVersion(r *Replica) (v Version, preserve bool, err error) {
	b, ok, err := r.c.Machine.Record(recordVersion)
	if err != nil {
		return 0, false, fmt.Errorf("read the cluster's version: %w", err)
	}
	if !ok {
		return VersionFirst, false, nil
	}
	return decodeVersion(b)
}

func decodeVersion(b []byte) (v Version, preserve bool, err error) {
	d := newDecoder(b)
	v, preserve = Version(d.uint()), d.bool()
	if err := d.done(); err != nil {
		return 0, false, fmt.Errorf("decode the cluster's version: %w", err)
	}
	return v, preserve, nil
}

func encodeVersion(v Version, preserve bool) []byte {
	return appendBool(appendUint([]byte{formatVersion}, uint64(v)), preserve)
}

func (g *registrar) putVersion(ctx context.Context, r *Replica, v Version, preserve bool) error {
	if err := g.put(ctx, r, recordVersion, encodeVersion(v, preserve)); err != nil {
		return fmt.Errorf("store version %d of the cluster: %w", v, err)
	}
	return nil
}

// raise stores a higher version of the cluster if all members speak it. Registrations
// wait meanwhile, so none that does not speak it comes in beside; should it fail, the
// next heartbeat tries again.
func (n *Node) raise(ctx context.Context, r *Replica, g *registrar, s *ClusterState) {
	to := raised(s)
	if to == s.Version {
		return
	}
	if err := g.putVersion(ctx, r, to, s.Preserve); err != nil {
		n.c.Logger.Warn("raise the cluster's version", "to", uint64(to), "error", err)
		return
	}
	n.c.Logger.Info("the cluster's version is raised", "from", uint64(s.Version), "to", uint64(to))
	s.Version = to
}

func (n *Node) storedReplication(r *Replica) (uint64, error) {
	b, ok, err := r.c.Machine.Record(recordReplication)
	if err != nil || !ok {
		return 0, err
	}
	d := newDecoder(b)
	v := d.uint()
	return v, d.done()
}

// setting changes a stored setting.
func (n *Node) setting(ctx context.Context, r *Replica, q *SettingRequest) error {
	g, now, err := n.registrarOf(ctx, r)
	if err != nil {
		return err
	}
	defer g.Unlock()
	state, err := n.clusterState(r, g, now)
	if err != nil {
		return err
	}
	if q.SetReplication {
		if q.Replication > maxReplication {
			return &Error{Code: Refused, Shard: System, Detail: fmt.Sprintf("%d replicas; 1 to %d are possible", q.Replication, maxReplication)}
		}
		return g.put(ctx, r, recordReplication, appendUint([]byte{formatVersion}, q.Replication))
	}
	if q.SetPreserve {
		state.Preserve = q.Preserve
		return g.putVersion(ctx, r, raised(state), q.Preserve)
	}
	m, ok := state.Member(q.Node)
	if why := changeRefusal(state, m, ok, q.State); why != "" {
		return &Error{Code: Refused, Shard: System, Detail: why}
	}
	m.State = q.State
	return g.putMember(ctx, r, state.Members, m)
}

// put stores what was computed from the records of the registrar's epoch. Heartbeats
// wait meanwhile, so it does not wait for a majority for long.
func (g *registrar) put(ctx context.Context, r *Replica, name string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return r.replaceRecord(ctx, g.epoch, name, value)
}

// putMember stores the registry with one member new or changed.
func (g *registrar) putMember(ctx context.Context, r *Replica, known []Member, m Member) error {
	all := append(slices.DeleteFunc(slices.Clone(known), func(k Member) bool { return k.ID == m.ID }), m)
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	b := appendUint([]byte{storedForm}, uint64(len(all)))
	for i := range all {
		all[i].Up = false
		b = appendMember(b, &all[i])
	}
	if err := g.put(ctx, r, recordMembers, b); err != nil {
		return fmt.Errorf("store node %d: %w", m.ID, err)
	}
	return nil
}

// changeRefusal says why a node's state cannot change so; empty if it can.
func changeRefusal(s *ClusterState, m Member, known bool, to MemberState) string {
	if !known || m.State == MemberRemoved {
		return "there is no such node"
	}
	if to != MemberLeaving && to != MemberRemoved {
		return ""
	}
	left := 0
	for _, o := range s.Members {
		if o.ID != m.ID && (o.State == MemberActive || o.State == MemberDraining) {
			left++
		}
	}
	if want := wantedReplication(s); left < 1 || left < want && want <= left+1 && s.Replication > uint64(left) {
		return fmt.Sprintf("%d nodes would be left and %d replicas are asked for: lower the replication factor or add a node first", left, s.Replication)
	}
	if to != MemberRemoved {
		return ""
	}
	for _, p := range s.Shards {
		for _, seat := range append(append([]Seat(nil), p.Voters...), p.Learners...) {
			if seat.Host == m.Host {
				return fmt.Sprintf("it still has a replica of shard %d", p.Shard)
			}
		}
	}
	return ""
}

// maxReplication bounds the replicas of a shard.
const maxReplication = 7

// wantedReplication is the number of replicas that each shard should have: what
// was asked for, or three as soon as there are three nodes. Two replicas would
// survive no loss and wait for each other, so they are never chosen by itself.
func wantedReplication(s *ClusterState) int {
	nodes := 0
	for _, m := range s.Members {
		if m.State == MemberActive || m.State == MemberDraining {
			nodes++
		}
	}
	want := int(s.Replication)
	if want == 0 {
		want = 3
	}
	want = min(want, nodes)
	if want == 2 && s.Replication == 0 {
		want = 1
	}
	return max(want, 1)
}

// ringNodes are the nodes that may have replicas.
func ringNodes(members []Member) []ring.Node {
	var nodes []ring.Node
	for _, m := range members {
		if m.State == MemberActive || m.State == MemberDraining {
			nodes = append(nodes, ring.Node{ID: ring.NodeID(m.ID), Zone: m.Zone})
		}
	}
	return nodes
}
