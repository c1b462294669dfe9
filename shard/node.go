package shard

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// The records of the system shard that a node uses.
const (
	recordRing    = "ring"    // the ring, as encoded by package ring
	recordFounded = "founded" // all shards of the ring have been made
)

// The defaults of Config.
const (
	DefaultRetention       = 10 * time.Minute
	DefaultGarbageInterval = time.Minute
)

// Config describes a node's part of the key space.
type Config struct {
	// NodeID is at least 1 and less than 65536.
	NodeID uint64
	Engine *storage.Engine
	Host   paxos.Host
	// Shards is the number of data shards of a new key space; the stored ring
	// rules afterwards. 0 means ring.DefaultShards.
	Shards int
	// Transport reaches other nodes; nil if there are none.
	Transport Transport
	// AlwaysEncode sends local calls through the encodings too. Tests do; it costs
	// time and finds what a second node would find.
	AlwaysEncode bool
	Logger       *slog.Logger
	// Clock sets the pace of the oracle and of leases, never what is correct.
	// nil is time.Now.
	Clock func() time.Time
	// Lease is how long owners of shards with several voters answer reads without
	// asking them, counted from the last time they did (H1), and how long at least
	// nobody serves a shard whose owner is gone. 0 means DefaultLease, negative no
	// leases: where the rates of the nodes' clocks may differ by more than LeaseDrift,
	// and where a machine may be stopped from outside without its clocks noticing.
	Lease time.Duration
	// LeaseDrift bounds the rate of the clocks of all nodes; 0 means DefaultDrift.
	LeaseDrift float64
	// Retention is the age up to which snapshots can be read; 0 means
	// DefaultRetention.
	Retention time.Duration
	// Cluster is the id of the cluster; it must not be zero where there is a
	// Transport.
	Cluster [16]byte
	// Self is what other nodes and operators should know of this node; ID and
	// Host need not be set.
	Self Member
	// Versions is what this node speaks; zero means Supported().
	Versions Versions
	// Memory keeps what the node must know to start when no other node answers;
	// nil keeps nothing.
	Memory Memory
	// Failed, if set, is told that a state machine without a log cannot go on; it must not
	// block. nil panics. Host tells of the others.
	Failed func(error)
	// Changed, if set, is told every picture of the cluster; it must not block.
	Changed func(*ClusterState)
	// Serve, if set, is given what answers the requests of other nodes, before this
	// node needs their answers.
	Serve func(func(ctx context.Context, request []byte) []byte)
	// Reducer reads the programs of ReduceRequests; nil: nothing is reduced here.
	Reducer Reducer
	// Filters reads the programs of FilteredReads; set with Reducer.
	Filters func(program []byte) (RowFilter, error)
	// DeadAfter is how long a node is silent before its replicas are made anew on
	// others; 0 means DefaultDeadAfter.
	DeadAfter time.Duration
	// OwnLogs gives each shard of a new key space a log of its own at once; otherwise
	// they share one while the node is alone (see Trunk).
	OwnLogs bool
	// GarbageInterval is the pause between garbage rounds; 0 means
	// DefaultGarbageInterval, negative none at all.
	GarbageInterval time.Duration
	// SurveyEvery is the pause between two looks at the work of the owners, on which
	// they change places; 0 means every ten seconds, negative none at all.
	SurveyEvery time.Duration
}

// Node is one member of the key space: its replicas, their service, a Router.
type Node struct {
	c        Config
	process  uint64
	gateway  uint64
	ring     *ring.Ring
	local    localReplicas
	trunk    atomic.Pointer[trunkLife] // nil: every shard has a log of its own
	resuming atomic.Bool               // a trunk with members is stored and not resumed yet
	router   *Router
	graph    *locks.WaitGraph
	reporter *reporter
	full     atomic.Bool // see SetFull

	state     atomic.Pointer[ClusterState] // never nil
	beats     chan struct{}                // room for one, see beatOnce
	registrar registrar
	mover     *mover
	survey    loadSurvey
	memory    remembered
	version   atomic.Uint64 // see Version
	services  struct {
		sync.Mutex
		by map[byte]func(context.Context, uint64, []byte) ([]byte, error)
	}

	sweeps sync.WaitGroup
	life   context.Context
	end    context.CancelFunc
}

// Open starts the node and returns once every shard has an owner, or, in a
// cluster, when it has waited for that for ownerPatience. The caller closes
// Engine and Host, after Close, or after an error.
func Open(ctx context.Context, c Config) (*Node, error) {
	c.setDefaults()
	if c.NodeID == 0 || c.NodeID > maxNode {
		return nil, fmt.Errorf("open node: id %d is not between 1 and 65535", c.NodeID)
	}
	n := &Node{c: c, process: randomID(), graph: locks.NewWaitGraph(), mover: newMover(), beats: make(chan struct{}, 1)}
	n.services.by = make(map[byte]func(context.Context, uint64, []byte) ([]byte, error))
	n.state.Store(&ClusterState{})
	n.life, n.end = context.WithCancel(context.Background())
	n.router = &Router{self: n.addr(), directory: NewDirectory(), transport: c.Transport, encode: c.AlwaysEncode,
		server: &Server{Replica: n.replica, node: n}}
	n.router.timestamps.life = n.life
	n.router.nearby = newNearby(n.life, n.router)
	if c.Serve != nil {
		c.Serve(n.router.server.Serve)
	}
	if err := n.open(ctx); err != nil {
		_ = n.Close(ctx) // the error that matters is err
		return nil, fmt.Errorf("open node %d: %w", c.NodeID, err)
	}
	n.sweep(lapseCheck, n.dropLapsed)
	n.reporter = n.newReporter()
	n.sweeps.Go(n.watchWaits)
	if c.GarbageInterval > 0 {
		n.sweep(c.GarbageInterval, n.collect)
	}
	return n, nil
}

func (c *Config) setDefaults() {
	if c.Shards == 0 {
		c.Shards = ring.DefaultShards
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Versions == (Versions{}) {
		c.Versions = Supported()
	}
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.DeadAfter == 0 {
		c.DeadAfter = DefaultDeadAfter
	}
	if c.GarbageInterval == 0 {
		c.GarbageInterval = DefaultGarbageInterval
	}
	if c.SurveyEvery == 0 {
		c.SurveyEvery = surveyEvery
	}
}

func randomID() uint64 {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(fmt.Sprintf("shard: no randomness: %v", err))
	}
	return binary.BigEndian.Uint64(b[:])
}

func (n *Node) addr() NodeAddr { return nodeAddr(n.c.NodeID) }

func nodeAddr(id uint64) NodeAddr { return NodeAddr(strconv.FormatUint(id, 10)) }

// open brings the node's replicas up, makes it a member and learns the ring.
func (n *Node) open(ctx context.Context) error {
	stored, err := n.c.Host.Stored()
	if err != nil {
		return fmt.Errorf("list the replicas: %w", err)
	}
	if err := n.remember(); err != nil {
		return err
	}
	if err := n.recollect(stored); err != nil {
		return err
	}
	if err := n.checkLife(ctx); err != nil {
		return err
	}
	founding := len(stored) == 0 && len(n.state.Load().Members) == 0
	if founding {
		stored = []paxos.Stored{{Group: groupOf(System), Replica: paxos.ReplicaID(n.c.NodeID)}}
	}
	trunk, stored, err := n.splitTrunk(stored)
	if err != nil {
		return err
	}
	n.resuming.Store(trunk != nil && trunk.company != nil)
	for _, s := range stored {
		err := n.startReplica(shardOf(s.Group), n.spec(s, founding))
		if errors.Is(err, paxos.ErrRemoved) { // the last opening ended before it could be purged
			err = n.purge(shardOf(s.Group), s.Replica)
		}
		if err != nil {
			return err
		}
	}
	if trunk, err = n.resume(ctx, trunk); err != nil {
		return err
	}
	n.follow()
	if !founding && len(stored) == 1 {
		if founding, err = n.unrecorded(ctx); err != nil {
			return err
		}
	}
	if founding {
		if err := n.begin(ctx); err != nil {
			return err
		}
	}
	if err := n.enter(ctx); err != nil {
		return err
	}
	n.router.ring, n.router.shards = n.ring, sortedIDs(n.ring.Shards())
	if err := n.found(ctx, trunk); err != nil {
		return err
	}
	n.resuming.Store(false)
	if err := n.settleTrunk(ctx); err != nil {
		return err
	}
	n.local.admit(true)
	n.sweep(heartbeatEvery, n.beat)
	if n.c.Transport != nil { // who is alone has nowhere to move anything to
		n.sweep(moveEvery, n.moveReplicas)
		if n.c.SurveyEvery > 0 {
			n.sweep(n.c.SurveyEvery, n.surveyLoads)
		}
	}
	if err := n.succeed(ctx); err != nil {
		return err
	}
	return n.awaitOwners(ctx)
}

func groupOf(s ID) paxos.GroupID { return paxos.GroupID(s + 1) }
func shardOf(g paxos.GroupID) ID { return ID(g - 1) }

// spec tells how to start a replica that this node has or founds.
func (n *Node) spec(s paxos.Stored, founding bool) paxos.GroupSpec {
	spec := paxos.GroupSpec{Group: s.Group, Replica: s.Replica, Restart: !founding}
	if founding {
		spec.Members = map[paxos.ReplicaID]string{s.Replica: n.c.Host.ID()}
	}
	return spec
}

// founder tells how to start the replica that begins a group on this node.
func (n *Node) founder(g paxos.GroupID) paxos.GroupSpec {
	return n.spec(paxos.Stored{Group: g, Replica: paxos.ReplicaID(n.c.NodeID)}, true)
}

// found starts the groups of the shards that nobody has made yet: those of a new ring,
// or the trunk in their place. A start that was cut short is finished by the next one;
// what is stored tells which of the two it had begun with. trunk is one that is stored
// and does not run yet, or nil.
func (n *Node) found(ctx context.Context, trunk *storedTrunk) error {
	if trunk != nil { // nobody knew its shards before
		if err := n.bringUp(ctx, n.ring, trunk); err != nil {
			return err
		}
	}
	if members := n.state.Load().Members; len(members) != 1 || members[0].ID != n.c.NodeID || n.replica(System) == nil {
		return nil
	}
	if _, ok, err := n.replica(System).c.Machine.Record(recordFounded); err != nil {
		return err
	} else if ok {
		return n.checkRows()
	}
	if len(n.local.all()) == 1 && !n.c.OwnLogs && n.Active(VersionTrunk) {
		if err := n.foundTrunk(); err != nil {
			return err
		}
	}
	var fresh []*Replica
	for _, s := range n.router.shards {
		if n.replica(s) == nil {
			if err := n.startReplica(s, n.founder(groupOf(s))); err != nil {
				return err
			}
		}
		fresh = append(fresh, n.replica(s))
	}
	if err := atOnce(fresh, func(r *Replica) error { return r.Own(ctx) }); err != nil {
		return err
	}
	_, err := n.replica(System).PutRecord(ctx, recordFounded, []byte{formatVersion}, false)
	return err
}

// checkRows refuses to go on where nothing is left of the data shards, which have been
// made and which nobody else can have: the only member has neither a trunk nor replicas of
// them. Without a log of the trunk, only the store said that there was one.
func (n *Node) checkRows() error {
	if len(n.local.all()) > 1 || n.trunk.Load() != nil || mutated("0092.rows-missing") {
		return nil
	}
	return fmt.Errorf("%w: the rows' data is missing: no data shard has a replica here, and there is no other node", paxos.ErrBehind)
}

// unrecorded reports that this may be a key space whose records have not been made yet:
// the node has not been told of any, and it alone has the system shard.
func (n *Node) unrecorded(ctx context.Context) (bool, error) {
	r := n.replica(System)
	if r == nil || r.c.Group.Replica() != paxos.ReplicaID(n.c.NodeID) || len(n.state.Load().Members) > 0 {
		return false, nil
	}
	if _, ok, err := r.c.Machine.Record(recordRing); err != nil || ok {
		return false, err
	}
	m, err := r.Members(ctx)
	if err != nil {
		return false, fmt.Errorf("members of the system shard: %w", err)
	}
	return r.alone(m), nil
}

// begin makes the records of a new key space, if they are not in the log already.
func (n *Node) begin(ctx context.Context) error {
	r := n.replica(System)
	if err := r.Own(ctx); err != nil {
		return err
	}
	if _, ok, err := r.c.Machine.Record(recordRing); err != nil || ok {
		return err
	}
	return n.makeRecords(ctx)
}

// makeRecords stores the version and the ring of a new key space, unless they are there.
func (n *Node) makeRecords(ctx context.Context) error {
	if _, err := n.replica(System).PutRecord(ctx, recordVersion, encodeVersion(n.c.Versions.Newest, false), true); err != nil {
		return fmt.Errorf("store the cluster's version: %w", err)
	}
	b := ring.New(n.c.Shards, ring.DefaultVirtualNodes).AppendBinary(nil)
	if _, err := n.replica(System).PutRecord(ctx, recordRing, b, true); err != nil {
		return fmt.Errorf("store the ring: %w", err)
	}
	return nil
}

// succeed frees the advisory locks of the node's former lives. It may be repeated.
func (n *Node) succeed(ctx context.Context) error {
	if mutated("H16.advisory-lives") {
		return nil
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		_, err := n.router.Advisory(ctx, &AdvisoryRequest{Op: AdvisorySucceed, Session: AdvisorySession{Gateway: n.gateway}})
		if code := CodeOf(err); err == nil || code != NotOwner && code != Unavailable && code != Unknown || pause(ctx, n.life, wait) != nil {
			if err != nil {
				err = fmt.Errorf("free the advisory locks of former lives: %w", err)
			}
			return err
		}
	}
}

// Router returns the node's router.
func (n *Node) Router() *Router { return n.router }

// Gateway identifies this opening of the node: NodeID << 48 | incarnation. No
// other opening of any node has the same.
func (n *Node) Gateway() uint64 { return n.gateway }

// Server answers requests of other nodes.
func (n *Node) Server() *Server { return n.router.server }

// Close ends the service, waits for the requests of others that are being served
// and stops the replicas. Host and Engine stay open: they belong to the caller,
// who may close them now.
func (n *Node) Close(ctx context.Context) error {
	n.end()
	n.sweeps.Wait()
	n.router.nearby.close()
	n.router.timestamps.close()
	n.local.admit(false)
	trunk := n.trunk.Load()
	for trunk != nil {
		trunk.close()
		if now := n.trunk.Load(); now != trunk { // it has come to its end meanwhile
			trunk = now
			continue
		}
		break
	}
	replicas := n.local.all()
	for _, r := range replicas {
		r.Close()
	}
	var first error
	for _, r := range replicas {
		g := groupOf(r.c.Shard)
		err := n.c.Host.Stop(g)
		if err != nil && !errors.Is(err, paxos.ErrNotRunning) && first == nil {
			first = fmt.Errorf("stop group %d: %w", g, err)
		}
	}
	if trunk != nil {
		first = errors.Join(first, trunk.stopAll())
	}
	for _, r := range replicas {
		n.local.remove(r)
	}
	n.router.server.close()
	return first
}

// sweep runs f now and then until the node is closed.
func (n *Node) sweep(every time.Duration, f func(context.Context)) {
	n.sweeps.Add(1)
	go func() {
		defer n.sweeps.Done()
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				f(n.life)
			case <-n.life.Done():
				return
			}
		}
	}()
}

func (n *Node) dropLapsed(context.Context) {
	for _, r := range n.local.all() {
		r.DropLapsed(n.gateway)
	}
	system := n.replica(System)
	if system == nil {
		return
	}
	// Its proposals wait for the system shard's quorum: not in the way of others.
	ctx, cancel := context.WithTimeout(n.life, time.Second)
	defer cancel()
	system.ExpireAdvisory(ctx, n.gateway)
}

func (n *Node) collect(ctx context.Context) {
	if err := n.CollectGarbage(ctx); err != nil && ctx.Err() == nil {
		n.c.Logger.Warn("garbage round", "error", err)
	}
}

// CollectGarbage runs one garbage round: choose a timestamp below which nothing
// is in use, raise the fence to it on every shard, make sure that no vote below
// it is undecided, and only then remove what lies below. All "now" is the
// oracle's (H12).
func (n *Node) CollectGarbage(ctx context.Context) error {
	r := n.router
	below, _, err := n.oldest(ctx)
	if err != nil {
		return err
	}
	now, err := r.Timestamp(ctx)
	if err != nil {
		return err
	}
	kept := uint64(n.c.Retention.Milliseconds())
	if now.Millis() <= kept {
		return nil
	}
	below = min(below, storage.MakeTimestamp(now.Millis()-kept, 0))
	if below == 0 {
		return nil
	}
	for _, s := range r.allShards() {
		if err := r.call(ctx, s, methodRaiseFence, &FenceRequest{Below: below}, &Done{}); err != nil {
			return fmt.Errorf("raise the fence of shard %d: %w", s, err)
		}
	}
	_, undecided, err := n.oldest(ctx)
	if err != nil {
		return err
	}
	if undecided < below && !mutated("1.4.garbage-beside-open-votes") {
		return nil // recovery finishes it; the next round removes
	}
	for _, s := range r.allShards() {
		if err := r.call(ctx, s, methodCollect, &CollectRequest{Below: below}, &Done{}); err != nil {
			return fmt.Errorf("collect garbage of shard %d: %w", s, err)
		}
	}
	return nil
}

// oldest returns the oldest timestamp in use and the start of the oldest
// undecided vote over all shards.
func (n *Node) oldest(ctx context.Context) (used, undecided storage.Timestamp, err error) {
	used, undecided = storage.MaxTimestamp, storage.MaxTimestamp
	for _, s := range n.router.allShards() {
		response, err := callFor[OldestResponse](ctx, n.router, s, methodOldest, &OldestRequest{})
		if err != nil {
			return 0, 0, fmt.Errorf("ask shard %d for the oldest timestamp in use: %w", s, err)
		}
		used, undecided = min(used, response.Oldest), min(undecided, response.Undecided)
	}
	return used, undecided, nil
}
