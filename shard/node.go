package shard

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/locks"
	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/storage"
)

// The records of the system shard that a node uses.
const (
	recordRing        = "ring"         // the ring, as encoded by package ring
	recordIncarnation = "incarnation/" // + node id: how often the node was opened
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
	// Retention is the age up to which snapshots can be read; 0 means
	// DefaultRetention.
	Retention time.Duration
	// GarbageInterval is the pause between garbage rounds; 0 means
	// DefaultGarbageInterval, negative none at all.
	GarbageInterval time.Duration
}

// Node is one member of the key space: its replicas, their service, a Router.
// In this release a key space has one node with one voter per shard.
type Node struct {
	c        Config
	process  uint64
	gateway  uint64
	ring     *ring.Ring
	replicas map[ID]*Replica // complete before Open returns, then constant
	groups   []paxos.GroupID
	router   *Router
	graph    *locks.WaitGraph
	reporter *reporter

	sweeps sync.WaitGroup
	life   context.Context
	end    context.CancelFunc
}

// Open starts the node and returns once every shard serves: the system shard
// first, since the others need its ring and its oracle. The caller closes
// Engine and Host, after Close, or after an error.
func Open(ctx context.Context, c Config) (*Node, error) {
	c.setDefaults()
	if c.NodeID == 0 || c.NodeID >= 1<<16 {
		return nil, fmt.Errorf("open node: id %d is not between 1 and 65535", c.NodeID)
	}
	n := &Node{c: c, process: randomID(), replicas: make(map[ID]*Replica), graph: locks.NewWaitGraph()}
	n.life, n.end = context.WithCancel(context.Background())
	n.router = &Router{self: n.addr(), directory: NewDirectory(), transport: c.Transport, encode: c.AlwaysEncode,
		server: &Server{Replica: func(s ID) *Replica { return n.replicas[s] }}}
	if err := n.open(ctx); err != nil {
		_ = n.Close(ctx) // the error that matters is err
		return nil, fmt.Errorf("open node %d: %w", c.NodeID, err)
	}
	n.sweep(lapseCheck, n.dropLapsed)
	n.sweep(time.Second, n.reclaim)
	n.reporter = n.newReporter()
	n.sweep(reportEvery, n.reportWaits)
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
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.GarbageInterval == 0 {
		c.GarbageInterval = DefaultGarbageInterval
	}
}

func randomID() uint64 {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(fmt.Sprintf("shard: no randomness: %v", err))
	}
	return binary.BigEndian.Uint64(b[:])
}

func (n *Node) addr() NodeAddr { return NodeAddr(fmt.Sprint(n.c.NodeID)) }

func (n *Node) open(ctx context.Context) error {
	if err := n.startShard(System); err != nil {
		return err
	}
	if err := n.replicas[System].BecomeOwner(ctx); err != nil {
		return err
	}
	if err := n.loadRing(ctx); err != nil {
		return err
	}
	if err := n.incarnate(ctx); err != nil {
		return err
	}
	n.router.ring, n.router.shards = n.ring, sortedIDs(n.ring.Shards())
	for _, s := range n.router.shards {
		if err := n.startShard(s); err != nil {
			return err
		}
	}
	return n.ownShards(ctx)
}

// ownShards becomes the owner of all data shards at once: each waits for its
// group's election, which takes longer than everything else.
func (n *Node) ownShards(ctx context.Context) error {
	errs := make([]error, len(n.router.shards))
	var wg sync.WaitGroup
	for i, s := range n.router.shards {
		r := n.replicas[s]
		wg.Go(func() { errs[i] = r.BecomeOwner(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// startShard starts this node's replica of a shard.
func (n *Node) startShard(s ID) error {
	space := n.c.Engine.Space(uint64(s))
	machine := NewMachine(space, n.c.Engine.Sync, n.c.NodeID)
	group := paxos.GroupID(s + 1)
	g, err := n.c.Host.Start(paxos.GroupSpec{Group: group, Replica: paxos.ReplicaID(n.c.NodeID),
		Members: map[paxos.ReplicaID]string{paxos.ReplicaID(n.c.NodeID): n.c.Host.ID()}}, machine)
	if err != nil {
		return fmt.Errorf("start shard %d: %w", s, err)
	}
	n.groups = append(n.groups, group)
	r := NewReplica(ReplicaConfig{Shard: s, Node: n.c.NodeID, Process: n.process, Space: space, Machine: machine,
		Group: g, Times: n.router, Graph: n.graph, Logger: n.c.Logger, Clock: n.c.Clock})
	n.replicas[s] = r
	n.router.directory.Set(s, n.addr())
	return nil
}

// loadRing reads the stored ring, or stores a new one in a new key space. What
// is stored rules: it is never computed again.
func (n *Node) loadRing(ctx context.Context) error {
	system := n.replicas[System]
	b, ok, err := system.c.Machine.Record(recordRing)
	if err != nil {
		return fmt.Errorf("read the ring: %w", err)
	}
	if !ok {
		b = ring.New(n.c.Shards, ring.DefaultVirtualNodes).AppendBinary(nil)
		if b, err = system.PutRecord(ctx, recordRing, b, true); err != nil {
			return fmt.Errorf("store the ring: %w", err)
		}
	}
	if n.ring, err = ring.Decode(b); err != nil {
		return fmt.Errorf("decode the ring: %w", err)
	}
	return nil
}

// incarnate counts this opening of the node and derives the gateway's number.
func (n *Node) incarnate(ctx context.Context) error {
	system, name := n.replicas[System], recordIncarnation+fmt.Sprint(n.c.NodeID)
	b, ok, err := system.c.Machine.Record(name)
	if err != nil {
		return fmt.Errorf("read the incarnation: %w", err)
	}
	var count uint64
	if ok {
		d := newDecoder(b)
		if count = d.uint(); d.done() != nil {
			return fmt.Errorf("decode the incarnation: %w", errFormat)
		}
	}
	count++
	if _, err := system.PutRecord(ctx, name, appendUint([]byte{formatVersion}, count), false); err != nil {
		return fmt.Errorf("store the incarnation: %w", err)
	}
	n.gateway = n.c.NodeID<<48 | count&(1<<48-1)
	return n.succeed(ctx)
}

// succeed frees the advisory locks of the node's former lives.
func (n *Node) succeed(ctx context.Context) error {
	if mutated("H16.advisory-lives") {
		return nil
	}
	_, err := n.router.Advisory(ctx, &AdvisoryRequest{Op: AdvisorySucceed, Session: AdvisorySession{Gateway: n.gateway}})
	if err != nil {
		return fmt.Errorf("free the advisory locks of former lives: %w", err)
	}
	return nil
}

// Router returns the node's router.
func (n *Node) Router() *Router { return n.router }

// Gateway identifies this opening of the node: NodeID << 48 | incarnation. No
// other opening of any node has the same.
func (n *Node) Gateway() uint64 { return n.gateway }

// Server answers requests of other nodes.
func (n *Node) Server() *Server { return n.router.server }

// Close ends the service and stops the replicas. Host and Engine stay open:
// they belong to the caller.
func (n *Node) Close(ctx context.Context) error {
	n.end()
	n.sweeps.Wait()
	for _, r := range n.replicas {
		r.Close()
	}
	var first error
	for _, g := range n.groups {
		if err := n.c.Host.Stop(g); err != nil && first == nil {
			first = fmt.Errorf("stop group %d: %w", g, err)
		}
	}
	n.groups = nil
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
	for _, r := range n.replicas {
		r.DropLapsed(n.gateway)
	}
	// Its proposals wait for the system shard's quorum: not in the way of others.
	ctx, cancel := context.WithTimeout(n.life, time.Second)
	defer cancel()
	n.replicas[System].ExpireAdvisory(ctx, n.gateway)
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
