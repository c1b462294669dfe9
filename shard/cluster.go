package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// Memory keeps a node's own notes, a few kilobytes, through restarts: without
// them a node whose peers are all down would not know where they will be.
type Memory interface {
	// Load returns what Save stored last, nil if nothing.
	Load() ([]byte, error)
	// Save replaces it durably.
	Save([]byte) error
}

// remembered is what a node notes down: the numbers of its lives that the registry
// may have, the present one last, and the cluster as it last saw it.
type remembered struct {
	sync.Mutex
	lives []uint64
	saved []byte
}

// maxLives bounds the lives of which nobody knows whether they were registered.
const maxLives = 100

// encodeNotes leaves out what changes all the time. The version of the cluster stands in
// front, in this form for ever, for releases that do not know the rest.
func encodeNotes(lives []uint64, s *ClusterState) []byte {
	kept := ClusterState{Cluster: s.Cluster, Ring: s.Ring, Replication: s.Replication, Version: s.Version, Preserve: s.Preserve,
		Members: slices.Clone(s.Members)}
	for i := range kept.Members {
		kept.Members[i].Up = false
	}
	for _, p := range s.Shards {
		kept.Shards = append(kept.Shards, ShardPlace{Shard: p.Shard, ChangeID: p.ChangeID, Voters: p.Voters, Learners: p.Learners})
	}
	b := appendUint([]byte{storedForm}, uint64(s.Version))
	b = appendUint(b, uint64(len(lives)))
	for _, life := range lives {
		b = appendUint(b, life)
	}
	return kept.AppendBinary(b)
}

func decodeNotes(b []byte) (lives []uint64, s ClusterState, err error) {
	d := newStoredDecoder(b)
	if !d.first {
		d.uint() // the version, which the state has too
	}
	lives = list(&d, (*decoder).uint)
	if d.byte() != formatVersion {
		d.fail()
	}
	s = d.state()
	return lives, s, d.done()
}

// NotedVersion returns the version of the cluster in what a Memory holds, and reads
// nothing behind it: a release that is too old for the rest can tell why.
func NotedVersion(notes []byte) (Version, error) {
	d := decoder{b: notes}
	form := d.byte()
	if len(notes) == 0 {
		return 0, nil
	}
	if form == storedForm-1 {
		return VersionFirst, nil
	}
	v := Version(d.uint())
	if d.bad || form == 0 {
		return 0, errFormat
	}
	return v, nil
}

// NotedMembers returns the nodes in what a Memory holds. The transport needs them
// before the node is open.
func NotedMembers(notes []byte) ([]Member, error) {
	if len(notes) == 0 {
		return nil, nil
	}
	_, s, err := decodeNotes(notes)
	return s.Members, err
}

// remember reads the notes and writes down the number of this life before anybody
// hears of it: a copy of the directory does not know what the original chose since.
func (n *Node) remember() error {
	if n.c.Memory == nil {
		return nil
	}
	b, err := n.c.Memory.Load()
	if err != nil {
		return fmt.Errorf("read the notes: %w", err)
	}
	state := ClusterState{}
	version, err := NotedVersion(b)
	if err != nil {
		return fmt.Errorf("decode the notes: %w", err)
	}
	if why := n.c.Versions.Refusal(version); why != "" && !mutated("V2.newer-notes") {
		return &Error{Code: Refused, Shard: System, Detail: why}
	}
	if len(b) > 0 {
		if n.memory.lives, state, err = decodeNotes(b); err != nil {
			return fmt.Errorf("decode the notes: %w", err)
		}
	}
	n.memory.lives = append(rememberedLives(n.memory.lives), randomID())
	n.see(&state)
	return n.note(&state)
}

// rememberedLives keeps the number of lives that were begun in vain within bounds. The
// first is the last that the registry has answered to, and most likely has still.
func rememberedLives(lives []uint64) []uint64 {
	if len(lives) < maxLives {
		return lives
	}
	return append(lives[:1:1], lives[len(lives)-maxLives+2:]...)
}

// checkLife asks the other nodes, before any replica runs, whether the cluster's version
// is one that this release speaks, and whether this directory is the node's latest: an
// older copy has forgotten votes that it gave. Who does not answer at once says nothing, nor does a picture that is not newer than the notes:
// openings are numbered, and numbers of former lives are forgotten.
func (n *Node) checkLife(ctx context.Context) error {
	lives := n.memory.lives
	if len(lives) == 0 {
		return nil
	}
	noted, _ := n.state.Load().Member(n.c.NodeID)
	var refused atomic.Pointer[Error]
	var wg sync.WaitGroup
	for _, m := range n.state.Load().Members {
		if m.ID == n.c.NodeID || m.State == MemberRemoved {
			continue
		}
		wg.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			state := &ClusterState{}
			if n.router.callNode(bounded, nodeAddr(m.ID), System, methodState, &StateRequest{}, state) != nil {
				return
			}
			if why := n.c.Versions.Refusal(state.Version); why != "" {
				refused.Store(&Error{Code: Refused, Shard: System, Detail: why})
				return
			}
			self, known := state.Member(n.c.NodeID)
			if known && self.Incarnation > noted.Incarnation && self.Life != 0 && !slices.Contains(lives, self.Life) {
				refused.Store(&Error{Code: Refused, Shard: System,
					Detail: fmt.Sprintf("node %d was opened since by another directory: this one is an older copy", n.c.NodeID)})
			}
		})
	}
	wg.Wait()
	if e := refused.Load(); e != nil {
		return e
	}
	return nil
}

// ErrNotes: a node that has peers has lost its notes.
var ErrNotes = errors.New("the notes of the cluster are missing")

// checkStoredVersion refuses data of a version that this release does not speak, where
// the notes are lost that would have said so.
func (n *Node) checkStoredVersion(snap *storage.Snapshot) error {
	b, ok, err := snap.Meta(metaRecord + recordVersion)
	if err != nil || !ok {
		return err
	}
	version, _, err := decodeVersion(b)
	if err != nil {
		return err
	}
	if why := n.c.Versions.Refusal(version); why != "" {
		return &Error{Code: Refused, Shard: System, Detail: why}
	}
	return nil
}

// recollect makes good for lost notes where the stored registry says that the node has
// no peers. Where it has some, or had, only the notes tell where they are and whether
// this directory is the node's latest.
func (n *Node) recollect(stored []paxos.Stored) error {
	if n.c.Memory == nil || len(stored) == 0 || len(n.state.Load().Members) > 0 {
		return nil
	}
	if stored[0].Group != groupOf(System) {
		return fmt.Errorf("%w: node %d has replicas, and none of the system shard", ErrNotes, n.c.NodeID)
	}
	snap := n.c.Engine.Space(uint64(System)).Snapshot()
	defer snap.Close()
	if err := n.checkStoredVersion(snap); err != nil {
		return err
	}
	b, ok, err := snap.Meta(metaRecord + recordMembers)
	if err != nil || !ok { // the first opening was cut short
		return err
	}
	members, err := decodeMembers(b)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.ID != n.c.NodeID && m.State != MemberRemoved {
			return fmt.Errorf("%w: node %d has peers, node %d is one", ErrNotes, n.c.NodeID, m.ID)
		}
		if m.ID == n.c.NodeID {
			n.memory.lives = append([]uint64{m.Life}, n.memory.lives...)
		}
	}
	n.c.Logger.Warn("the notes of the cluster are missing and are made anew: the node has no peers")
	return nil
}

// note writes the notes down if they say something new. What a version of the cluster
// brings is used only when the version is noted.
func (n *Node) note(s *ClusterState) error {
	if n.c.Memory == nil {
		n.activate(s.Version)
		return nil
	}
	if mutated("V3.gate-before-notes") {
		n.activate(s.Version)
	}
	n.memory.Lock()
	defer n.memory.Unlock()
	b := encodeNotes(n.memory.lives, s)
	if !bytes.Equal(b, n.memory.saved) {
		if err := n.c.Memory.Save(b); err != nil {
			return fmt.Errorf("write the notes: %w", err)
		}
		n.memory.saved = b
	}
	n.activate(s.Version)
	return nil
}

// see takes a picture of the cluster in: where to find the shards.
func (n *Node) see(s *ClusterState) {
	n.state.Store(s)
	if n.c.Changed != nil {
		n.c.Changed(s)
	}
	for _, p := range s.Shards {
		var addrs []NodeAddr
		for _, id := range s.nodes(p.Voters) {
			addrs = append(addrs, nodeAddr(uint64(id)))
		}
		if len(addrs) == 0 {
			continue
		}
		if local := n.replica(p.Shard); local != nil && !slices.Contains(addrs, n.addr()) {
			addrs = append(addrs, n.addr())
		}
		n.router.directory.Update(p.Shard, addrs)
		if p.Owner != 0 {
			n.router.directory.Suggest(p.Shard, nodeAddr(p.Owner))
		}
	}
}

// enter registers the node at the system shard and learns the ring and its
// gateway's number.
func (n *Node) enter(ctx context.Context) error {
	self := n.c.Self
	self.ID, self.Host, self.Versions = n.c.NodeID, n.c.Host.ID(), n.c.Versions
	if lives := n.memory.lives; len(lives) > 0 {
		self.Life = lives[len(lives)-1]
	}
	q := &RegisterRequest{Member: self, Process: n.process, Lives: n.memory.lives, Cluster: n.c.Cluster}
	response, err := n.registered(ctx, q)
	if err != nil {
		return err
	}
	n.memory.lives = n.memory.lives[max(0, len(n.memory.lives)-1):] // this one is registered
	n.gateway = n.c.NodeID<<48 | response.Incarnation&(1<<48-1)
	if n.ring, err = ring.Decode(response.State.Ring); err != nil {
		return fmt.Errorf("decode the ring: %w", err)
	}
	n.see(&response.State)
	return n.note(&response.State)
}

// registerPatience bounds one attempt to register.
const registerPatience = 5 * time.Second

// registered sends the registration until somebody takes it: when a whole cluster
// starts, the system shard has no owner for a while. Each attempt says what time it is
// then, and does not last: the owner takes the difference for that of the clocks.
func (n *Node) registered(ctx context.Context, q *RegisterRequest) (*RegisterResponse, error) {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		var response *RegisterResponse
		_, err := n.router.likely(System)
		attempt, cancel := context.WithTimeout(ctx, registerPatience)
		if err == nil {
			q.Millis = uint64(n.c.Clock().UnixMilli())
			response, err = callFor[RegisterResponse](attempt, n.router, System, methodRegister, q)
		}
		late := attempt.Err() != nil
		cancel()
		if code := CodeOf(err); err == nil || !late && code != NotOwner && code != Unavailable && code != Unknown {
			return response, err
		}
		n.askAround(ctx)
		if late := pause(ctx, n.life, wait); late != nil {
			return nil, fmt.Errorf("register at the system shard: %w", errors.Join(late, err))
		}
	}
}

// askAround asks the known nodes what they know, when the system shard is not
// where it was.
func (n *Node) askAround(ctx context.Context) {
	for _, m := range n.state.Load().Members {
		if m.ID == n.c.NodeID || m.State == MemberRemoved {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		state := &ClusterState{}
		err := n.router.callNode(bounded, nodeAddr(m.ID), System, methodState, &StateRequest{}, state)
		cancel()
		if err == nil && newer(state, n.state.Load()) {
			n.see(state)
			return
		}
	}
}

// newer compares what two pictures say of the system shard.
func newer(a, b *ClusterState) bool {
	pa, _ := a.Place(System)
	pb, _ := b.Place(System)
	return len(pa.Voters) > 0 && (len(pb.Voters) == 0 || pa.ChangeID > pb.ChangeID)
}

// Join asks a cluster, by the address of one of its nodes, to take a new node in.
func Join(ctx context.Context, t Transport, at NodeAddr, m Member, now time.Time) (*RegisterResponse, error) {
	if m.Versions == (Versions{}) {
		m.Versions = Supported()
	}
	r := &Router{transport: t, directory: NewDirectory()}
	response := &RegisterResponse{}
	q := &RegisterRequest{Member: m, Process: randomID(), Millis: uint64(now.UnixMilli())}
	if err := r.callNode(ctx, at, System, methodJoin, q, response); err != nil {
		return nil, fmt.Errorf("ask %s to join: %w", at, err)
	}
	return response, nil
}

// Greet asks a node whether it can be talked to.
func Greet(ctx context.Context, t Transport, at NodeAddr) error {
	r := &Router{transport: t, directory: NewDirectory()}
	if err := r.callNode(ctx, at, System, methodState, &StateRequest{}, &ClusterState{}); err != nil {
		return fmt.Errorf("ask %s: %w", at, err)
	}
	return nil
}

// awaitOwners waits until every shard is served somewhere. In a cluster it gives
// up after a while: shards without a majority must not keep the others away.
func (n *Node) awaitOwners(ctx context.Context) error {
	err := atOnce(n.router.shards, func(s ID) error { return n.router.call(ctx, s, methodPing, &PingRequest{}, &Done{}) })
	if err != nil && n.c.Transport != nil && ctx.Err() == nil {
		n.c.Logger.Warn("not every shard is served yet", "error", err)
		return nil
	}
	return err
}

// beat tells the system shard's owner that this node lives and takes its picture
// of the cluster in.
func (n *Node) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	n.beatOnce(ctx)
}

// beatOnce is one beat at a time: an older picture must not be taken in last.
func (n *Node) beatOnce(ctx context.Context) {
	select {
	case n.beats <- struct{}{}:
		defer func() { <-n.beats }()
	case <-ctx.Done():
		return
	}
	state, err := callFor[ClusterState](ctx, n.router, System, methodHeartbeat, n.promptReport(ctx))
	if err != nil {
		n.c.Logger.Debug("heartbeat", "error", err)
		n.askAround(ctx)
		return
	}
	if err := n.note(state); err != nil {
		n.c.Logger.Error("notes of the cluster", "error", err)
	}
	n.see(state)
	n.dropRemoved(state)
}

func (n *Node) ownReport(ctx context.Context) *HeartbeatRequest {
	q := &HeartbeatRequest{Node: n.c.NodeID, Process: n.process}
	for _, r := range n.local.all() {
		if n.orphaned(r.c.Shard) {
			continue
		}
		q.Replicas = append(q.Replicas, n.reportOf(ctx, r))
	}
	return q
}

// promptReport leaves the members of a shard out that cannot tell them now: one without
// a majority must not keep the node from being heard.
func (n *Node) promptReport(ctx context.Context) *HeartbeatRequest {
	ctx, cancel := context.WithTimeout(ctx, heartbeatEvery)
	defer cancel()
	return n.ownReport(ctx)
}

// reportOf is what a heartbeat says of a replica.
func (n *Node) reportOf(ctx context.Context, r *Replica) ReplicaReport {
	shared := n.sharedHere(r.c.Shard)
	report := r.report(ctx)
	if n.sharedHere(r.c.Shard) != shared { // of which log are these?
		report = ReplicaReport{Shard: report.Shard, Replica: report.Replica}
	}
	report.Shared = shared
	return report
}

// report is what a replica knows of itself.
func (r *Replica) report(ctx context.Context) ReplicaReport {
	report := ReplicaReport{Shard: r.c.Shard, Replica: r.c.Group.Replica(), Applied: uint64(r.c.Group.Applied())}
	t := r.serving.Load()
	if t == nil {
		return report
	}
	report.Serving, report.Epoch = true, t.epoch
	m, err := r.seats(ctx)
	if err != nil {
		return report
	}
	place := ShardPlace{}
	place.setMembership(m)
	report.ChangeID, report.Voters, report.Learners, report.Removed = place.ChangeID, place.Voters, place.Learners, place.Removed
	report.Bytes, _ = r.c.Space.Size()
	return report
}

// seats is the membership as this owner last saw it.
func (r *Replica) seats(ctx context.Context) (paxos.Membership, error) {
	if m := r.seated.Load(); m != nil {
		return *m, nil
	}
	before := r.unseated.Load()
	m, err := r.c.Group.Membership(ctx)
	if err != nil {
		return m, err
	}
	r.seated.Store(&m)
	if r.unseated.Load() != before { // it changed while it was asked for
		r.seated.Store(nil)
	}
	return m, nil
}

// unseat says that the members may be others now.
func (r *Replica) unseat() {
	r.unseated.Add(1)
	r.seated.Store(nil)
}

// dropRemoved ends replicas that their groups have removed. Numbers of replicas
// are never used again, so an old picture cannot mislead.
func (n *Node) dropRemoved(state *ClusterState) {
	for _, r := range n.local.all() {
		p, ok := state.Place(r.c.Shard)
		// The trunk and the shard's own group count their replicas each for itself.
		if !ok || p.Shared && !n.sharedHere(r.c.Shard) || !slices.Contains(p.Removed, r.c.Group.Replica()) {
			continue
		}
		if err := n.dropReplica(r); err != nil {
			n.c.Logger.Error("drop a replica", "error", err)
		}
	}
}

// serve answers what is asked of the node.
func (n *Node) serve(ctx context.Context, q Message) (Message, error) {
	switch q := q.(type) {
	case *RegisterRequest: // by way of any node
		return callFor[RegisterResponse](ctx, n.router, System, methodRegister, q)
	case *StartRequest:
		if err := n.startAdded(q); err != nil {
			return nil, err
		}
		return n.ownReport(ctx), nil
	case *ServiceRequest:
		return n.serveService(ctx, q)
	case *StateRequest:
		return n.state.Load(), nil
	case *LoadsRequest:
		return n.loads(), nil
	}
	panic(fmt.Sprintf("shard: request %T to a node", q))
}

// serveShard answers what is asked of an owner about the cluster.
func (n *Node) serveShard(ctx context.Context, r *Replica, q Message) (Message, error) {
	switch q := q.(type) {
	case *RegisterRequest:
		return n.register(ctx, r, q)
	case *HeartbeatRequest:
		return n.heartbeat(ctx, r, q)
	case *SettingRequest:
		return &Done{}, n.setting(ctx, r, q)
	case *SeatRequest:
		if err := n.seat(ctx, r, q); err != nil {
			return nil, err
		}
		return &HeartbeatRequest{Node: n.c.NodeID, Process: n.process, Replicas: []ReplicaReport{n.reportOf(ctx, r)}}, nil
	}
	panic(fmt.Sprintf("shard: request %T to an owner", q))
}

// startAdded starts a replica that was added to its group; one that runs stays.
// What an earlier replica of the same shard left here is removed first. A request
// may come late, when the replica was removed again: numbers ascend, and one that
// was purged must never run again, for it has forgotten its votes.
func (n *Node) startAdded(q *StartRequest) error {
	n.local.starting.Lock()
	defer n.local.starting.Unlock()
	if !n.local.open {
		return &Error{Code: Unavailable, Shard: q.Shard, Detail: "the node is not open"}
	}
	if q.Shared {
		return n.addToCompany(q)
	}
	if r := n.replica(q.Shard); r != nil && r.c.Group.Replica() == q.Replica {
		return nil
	} else if r != nil {
		return &Error{Code: Unavailable, Shard: q.Shard, Detail: "another replica runs here still"}
	}
	if l := n.trunk.Load(); l != nil && l.company && q.Shard != System {
		return &Error{Code: Unavailable, Shard: q.Shard, Detail: "the trunk is here still"}
	}
	if place, _ := n.state.Load().Place(q.Shard); q.Replica <= n.local.purged[q.Shard] || !place.Shared && slices.Contains(place.Removed, q.Replica) {
		return &Error{Code: Refused, Shard: q.Shard, Detail: fmt.Sprintf("replica %d was removed", q.Replica)}
	}
	stored, err := n.c.Host.Stored()
	if err != nil {
		return err
	}
	spec := paxos.GroupSpec{Group: groupOf(q.Shard), Replica: q.Replica, Join: true, Learner: true}
	for _, s := range stored {
		switch {
		case s.Group != spec.Group:
		case s.Replica > q.Replica:
			return &Error{Code: Refused, Shard: q.Shard, Detail: fmt.Sprintf("replica %d is here, which is later than %d", s.Replica, q.Replica)}
		case s.Replica == q.Replica:
			spec = paxos.GroupSpec{Group: s.Group, Replica: s.Replica, Restart: true}
		default:
			if err := n.purge(q.Shard, s.Replica); err != nil {
				return err
			}
		}
	}
	if spec.Join {
		if err := n.c.Engine.Space(uint64(q.Shard)).Destroy(); err != nil { // of a purge that was cut short
			return fmt.Errorf("remove what is left of shard %d: %w", q.Shard, err)
		}
	}
	return n.startReplica(q.Shard, spec)
}

// SetReplication asks for a number of replicas of every shard; 0 leaves it to the
// number of nodes.
func (n *Node) SetReplication(ctx context.Context, replicas uint64) error {
	return n.set(ctx, &SettingRequest{SetReplication: true, Replication: replicas})
}

// PreserveVersion says whether the cluster's version stays as it is, so that nodes can
// go back to the release they had. Otherwise it rises as soon as all members speak a
// newer one.
func (n *Node) PreserveVersion(ctx context.Context, preserve bool) error {
	return n.set(ctx, &SettingRequest{SetPreserve: true, Preserve: preserve})
}

// SetState drains a node, makes it leave, or takes either back.
func (n *Node) SetState(ctx context.Context, node uint64, state MemberState) error {
	return n.set(ctx, &SettingRequest{Node: node, State: state})
}

// set changes a setting and takes the cluster's new picture in, so that who changed it
// here sees it here. Should the beat fail, the next one brings it.
func (n *Node) set(ctx context.Context, q *SettingRequest) error {
	if err := n.router.call(ctx, System, methodSetting, q, &Done{}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	n.beatOnce(ctx)
	return nil
}

// Replicated reports whether every shard has its replicas and an owner, as this
// node last heard.
func (n *Node) Replicated() bool {
	s := n.state.Load()
	want := wantedReplication(s)
	for _, p := range s.Shards {
		if p.Owner == 0 || len(p.Voters) != want || len(p.Learners) > 0 {
			return false
		}
	}
	return len(s.Shards) > len(n.router.shards)
}

// State returns what this node knows of the cluster. It must not be changed.
func (n *Node) State() *ClusterState { return n.state.Load() }

// FirstNotes is what the Memory of a node that has joined begins with.
func FirstNotes(s *ClusterState) []byte { return encodeNotes(nil, s) }
