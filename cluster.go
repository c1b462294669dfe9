//go:build cgo || gms_pure_go

package rowlock

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
	"github.com/rowlockdb/rowlock/sqlfront"
)

// ErrRefused: the cluster does not take this node; the error says why.
var ErrRefused = errors.New("rowlock: the cluster refuses this node")

// The tick of a node that may have peers, which is the same on all of them, and its
// election timeout in ticks: half a second to a second. Leaders say that they live
// at every tick, all at the same moment, so that the groups of a node share packets
// and wake-ups. The groups of a node that is alone elect themselves sooner.
const (
	clusterTick     = 100 * time.Millisecond
	clusterElection = 5
)

// joinPatience is how long a new node asks the nodes of Options.Join in turn.
const joinPatience = time.Minute

// clustered reports whether the node talks to others.
func (n *Node) clustered() bool { return n.options.Cluster != "" }

// openTransport listens for other nodes.
func (n *Node) openTransport(context.Context) error {
	if !n.clustered() {
		return nil
	}
	o := transport.Options{Listen: n.options.Cluster, Advertise: n.options.Advertise, Insecure: n.options.Insecure, Logger: n.log,
		Versions: n.options.versions,
		Self: func() transport.Identity {
			id := n.identity.Load()
			return transport.Identity{Cluster: id.Cluster, Node: id.Node}
		},
		Resolve: n.addressOf,
	}
	if n.options.Certificates != "" {
		o.TLS = &transport.TLS{Dir: n.options.Certificates}
	}
	t, err := transport.Listen(o)
	if err != nil {
		return err
	}
	n.transport = t
	n.onClose("transport", func(context.Context) error { return t.Close() })
	return nil
}

// recall reads the cluster's version, before a release that does not speak it changes
// anything, and who the members are. Without its notes a node that has joined would take
// itself for the founder of another cluster.
func (n *Node) recall() error {
	notes, err := n.notes().Load()
	if err != nil {
		return err
	}
	version, err := shard.NotedVersion(notes)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, notesFile, err)
	}
	if why := n.options.versions.Refusal(version); why != "" {
		return fmt.Errorf("%w: node %d cannot be started with this release: %s", ErrFormat, n.identity.Load().Node, why)
	}
	members, err := shard.NotedMembers(notes)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, notesFile, err)
	}
	self := n.identity.Load().Node
	if self > founder && len(members) == 0 {
		return fmt.Errorf("%w: %s is missing, where node %d keeps the addresses of its cluster", ErrCorrupt, notesFile, self)
	}
	if slices.ContainsFunc(members, func(m shard.Member) bool { return m.ID == self && m.State == shard.MemberRemoved }) {
		return fmt.Errorf("%w: node %d: %w", ErrRemoved, self, errRemoved)
	}
	others := slices.ContainsFunc(members, func(m shard.Member) bool { return m.ID != self && m.State != shard.MemberRemoved })
	if others && self != 0 && !n.clustered() {
		return fmt.Errorf("rowlock: node %d has peers: Options.Cluster (--cluster) is missing", self)
	}
	n.members.Store(&members)
	return nil
}

// addressOf finds a node's address for the transport.
func (n *Node) addressOf(to shard.NodeAddr) (string, error) {
	id, err := strconv.ParseUint(string(to), 10, 64)
	if err != nil {
		return "", err
	}
	for _, m := range *n.members.Load() {
		if m.ID == id && m.Cluster != "" {
			return m.Cluster, nil
		}
	}
	return "", fmt.Errorf("no address of node %s is known", to)
}

// nodeOf finds the node of a consensus host.
func (n *Node) nodeOf(host string) (string, error) {
	for _, m := range *n.members.Load() {
		if m.Host == host {
			return strconv.FormatUint(m.ID, 10), nil
		}
	}
	return "", fmt.Errorf("no node has host %s", host)
}

// openMembership makes a member of a node that joins: it asks the nodes it was told
// of for a number, again and again, because they may be starting too.
func (n *Node) openMembership(ctx context.Context) error {
	if n.identity.Load().Node != 0 {
		return n.checkPeers(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	member := n.self()
	member.Host = n.host.ID()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var all error
		final := true
		for _, at := range n.options.Join {
			response, err := shard.Join(ctx, n.transport, shard.NodeAddr(at), member, time.Now())
			if err == nil {
				return n.becomeMember(response)
			}
			if shard.CodeOf(err) == shard.Refused {
				return fmt.Errorf("%w: %w", ErrRefused, err)
			}
			all = errors.Join(all, err)
			final = final && strange(err)
		}
		if final {
			return fmt.Errorf("%w: %w", ErrRefused, all)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("join the cluster: %w", all)
		}
	}
}

// strange tells whether a node cannot be talked to, however long one waits.
func strange(err error) bool {
	return errors.Is(err, transport.ErrVersion) || errors.Is(err, transport.ErrCertificate) || errors.Is(err, transport.ErrProtocol)
}

// greetLimit bounds the wait for the first answers of other nodes.
const greetLimit = 2 * time.Second

// checkPeers refuses to start a member where all who should be its peers, by its notes
// or by Options.Join, are no nodes of its cluster: it would wait for them in vain, or,
// with data of another cluster, serve beside the one that it was told to join. Who
// does not answer says nothing.
func (n *Node) checkPeers(ctx context.Context) error {
	if !n.clustered() {
		return nil
	}
	own := []string{n.transport.Addr(), n.transport.Advertised()}
	var told, noted []shard.NodeAddr
	for _, at := range n.options.Join {
		if !slices.Contains(own, at) {
			told = append(told, shard.NodeAddr(at))
		}
	}
	for _, m := range *n.members.Load() {
		if m.ID != n.ID() && m.State != shard.MemberRemoved {
			noted = append(noted, shard.NodeAddr(strconv.FormatUint(m.ID, 10)))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, greetLimit)
	defer cancel()
	answers := make(chan error, 2)
	for _, peers := range [][]shard.NodeAddr{told, noted} {
		go func() { answers <- n.strangers(ctx, peers) }()
	}
	return cmp.Or(<-answers, <-answers)
}

// strangers is an error if none of some nodes is of this cluster.
func (n *Node) strangers(ctx context.Context, peers []shard.NodeAddr) error {
	errs := make(chan error, len(peers))
	for _, at := range peers {
		go func() { errs <- shard.Greet(ctx, n.transport, at) }()
	}
	var all error
	for range peers {
		err := <-errs
		if !strange(err) && !errors.Is(err, transport.ErrCluster) {
			return nil
		}
		all = errors.Join(all, err)
	}
	if all == nil {
		return nil
	}
	id := n.identity.Load()
	return fmt.Errorf("%w: this directory is of node %d of cluster %x: %w", ErrRefused, id.Node, id.Cluster, all)
}

// becomeMember writes the notes before the identity: what has an identity finds
// its peers.
func (n *Node) becomeMember(r *shard.RegisterResponse) error {
	if err := n.notes().Save(shard.FirstNotes(&r.State)); err != nil {
		return err
	}
	n.changed(&r.State)
	id := identity{Node: r.ID, Cluster: r.State.Cluster}
	if err := writeDurably(filepath.Join(n.options.Dir, identityFile), id.encode()); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	n.identity.Store(&id)
	return nil
}

// self is what others should know of this node.
func (n *Node) self() shard.Member {
	m := shard.Member{Name: n.options.Name, Zone: n.options.Zone, SQL: n.options.SQLAddress, Versions: n.options.versions}
	if n.transport != nil {
		m.Cluster = n.transport.Advertised()
	}
	return m
}

// changed keeps the addresses of the members. A node that was removed stops serving:
// who asked it would get answers from a cluster that has forgotten it.
func (n *Node) changed(s *shard.ClusterState) {
	members := s.Members
	n.members.Store(&members)
	if server := n.served.Load(); server != nil {
		server.ShowReplication(s.Replication)
	}
	if self, ok := s.Member(n.ID()); ok && self.State == shard.MemberRemoved {
		n.removal.Do(func() { time.AfterFunc(lastAnswers, func() { n.removed(self.ID) }) })
	}
}

// lastAnswers is how long a node that was removed goes on answering: who removed it by
// way of itself is to hear that it was done.
const lastAnswers = time.Second

func (n *Node) removed(self uint64) {
	select {
	case <-n.closed:
	default:
		n.fail(fmt.Errorf("node %d: %w", self, errRemoved))
	}
}

// clusterConfig is the part of a shard node's configuration that other nodes need.
func (n *Node) clusterConfig(c *shard.Config) {
	c.Cluster = n.identity.Load().Cluster
	c.Self = n.self()
	c.Versions = n.options.versions
	c.Changed = n.changed
	c.DeadAfter = n.options.DeadAfter
	c.Lease, c.LeaseDrift = n.options.Lease, n.options.LeaseDrift
	c.Memory = n.notes()
	if n.transport == nil {
		return
	}
	c.Transport = n.transport
	c.Serve = func(serve func(context.Context, []byte) []byte) { n.transport.SetHandler(serve) }
}

// peers are the other nodes as the SQL server sees them.
type peers struct{ *shard.Node }

func (p peers) Members() []sqlfront.Peer {
	var all []sqlfront.Peer
	for _, m := range p.Node.Members() {
		all = append(all, sqlfront.Peer{ID: m.ID, Name: m.Name, Up: m.Up})
	}
	return all
}

// notes is a shard.Memory in a file: a checksum (CRC-32C, 4 bytes, big endian) and
// what it is of.
type notes struct {
	path string
	node *Node
}

func (n *Node) notes() notes { return notes{filepath.Join(n.options.Dir, notesFile), n} }

// Load implements shard.Memory.
func (n notes) Load() ([]byte, error) {
	b, err := os.ReadFile(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the notes of the cluster: %w", err)
	}
	if len(b) < 4 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, fmt.Errorf("%w: %s", ErrCorrupt, n.path)
	}
	return b[4:], nil
}

// Save implements shard.Memory. A node that has failed writes nothing more: the
// next one may have the directory already.
func (n notes) Save(b []byte) error {
	n.node.noting.Lock()
	defer n.node.noting.Unlock()
	if err := n.node.diskFailed(); err != nil {
		return err
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	if err := writeDurably(n.path, slices.Concat(sum, b)); err != nil {
		return fmt.Errorf("write the notes of the cluster: %w", err)
	}
	return nil
}

// memberList is read by the transport while the node changes it.
type memberList = atomic.Pointer[[]shard.Member]

// ID is the node's number in its cluster.
func (n *Node) ID() uint64 { return n.identity.Load().Node }

// ClusterAddress is where other nodes reach this one; empty without a cluster.
func (n *Node) ClusterAddress() string {
	if n.transport == nil {
		return ""
	}
	return n.transport.Advertised()
}

// Member is a node of the cluster.
type Member struct {
	ID           uint64
	Name, Zone   string
	Cluster, SQL string // addresses
	State        string // active, draining, leaving
	Up           bool   // it was heard of a moment ago
}

// Members lists the nodes of the cluster, by number.
func (n *Node) Members() []Member {
	var all []Member
	for _, m := range n.shards.Members() {
		all = append(all, Member{ID: m.ID, Name: m.Name, Zone: m.Zone, Cluster: m.Cluster, SQL: m.SQL, State: m.State.String(), Up: m.Up})
	}
	return all
}

// AwaitReplicas waits until every shard has its replicas and an owner.
func (n *Node) AwaitReplicas(ctx context.Context) error {
	for !n.shards.Replicated() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("rowlock: wait for replicas: %w", ctx.Err())
		}
	}
	return nil
}

// pokeService tells other nodes that the schema, users or variables have changed.
const pokeService byte = 'P'

// announce pokes the other nodes. They would notice by themselves a moment later,
// so nobody waits for their answers.
func (n *Node) announce() {
	for _, m := range n.shards.Members() {
		if m.ID == n.ID() || !m.Up {
			continue
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, err := n.shards.Ask(ctx, m.ID, pokeService, nil); err != nil {
				n.log.Debug("tell of a change", "node", m.ID, "error", err)
			}
		}()
	}
}

// SetReplication asks for a number of replicas of every shard; 0 leaves it to the
// number of nodes: three as soon as there are three.
func (n *Node) SetReplication(ctx context.Context, replicas int) error {
	return refused(n.shards.SetReplication(ctx, uint64(replicas)))
}

// ClusterVersions says which versions a cluster may have that this release takes part in:
// "1", or "1 to 3".
func ClusterVersions() string { return shard.Supported().String() }

// PreserveVersion keeps the cluster's version as it is, so that its nodes can go back to
// the release they had, until FinalizeVersion. Without it the version rises as soon as
// all nodes speak a newer one.
func (n *Node) PreserveVersion(ctx context.Context) error {
	return refused(n.shards.PreserveVersion(ctx, true))
}

// FinalizeVersion ends PreserveVersion: no older release comes in any more, and what the
// new one brought is used.
func (n *Node) FinalizeVersion(ctx context.Context) error {
	return refused(n.shards.PreserveVersion(ctx, false))
}

// Drain takes what a node owns away from it, so that it can be restarted without
// anybody noticing. The next start of the node ends it, Undrain too.
func (n *Node) Drain(ctx context.Context, node uint64) error {
	return refused(n.shards.SetState(ctx, node, shard.MemberDraining))
}

// Undrain takes Drain or Leave back.
func (n *Node) Undrain(ctx context.Context, node uint64) error {
	return refused(n.shards.SetState(ctx, node, shard.MemberActive))
}

// Leave moves a node's replicas to others; Remove forgets it once it has none.
func (n *Node) Leave(ctx context.Context, node uint64) error {
	return refused(n.shards.SetState(ctx, node, shard.MemberLeaving))
}

// Remove makes a node that has left a stranger.
func (n *Node) Remove(ctx context.Context, node uint64) error {
	return refused(n.shards.SetState(ctx, node, shard.MemberRemoved))
}

func refused(err error) error {
	if shard.CodeOf(err) == shard.Refused {
		return fmt.Errorf("%w: %w", errChange, err)
	}
	return err
}

// errChange is in the error of a change of the cluster that cannot be made.
var errChange = errors.New("rowlock: refused")

// CutFrom ends the connections with another node, in both directions, until Mend.
// It is for demonstrations and tests.
func (n *Node) CutFrom(node uint64) { n.transport.Cut(shard.NodeAddr(strconv.FormatUint(node, 10))) }

// Mend ends CutFrom.
func (n *Node) Mend(node uint64) { n.transport.Mend(shard.NodeAddr(strconv.FormatUint(node, 10))) }
