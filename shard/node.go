package shard

import (
	"context"
	"log/slog"
	"time"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/storage"
)

// Config describes a node's part of the key space.
type Config struct {
	NodeID uint64
	Engine *storage.Engine
	Host   paxos.Host
	// Shards is the number of data shards of a new key space; the stored ring
	// rules afterwards. 0 means ring.DefaultShards.
	Shards    int
	Transport Transport // nil: direct calls
	Logger    *slog.Logger
	// Clock sets the pace of the oracle and nothing else. nil is time.Now.
	Clock func() time.Time
	// Retention is the age up to which snapshots can be read; 0 means 10 minutes.
	Retention time.Duration
	// GarbageInterval is the pause between garbage rounds; 0 means one minute, negative none.
	GarbageInterval time.Duration
}

// NodeAddr is where a node answers requests.
type NodeAddr string

// Transport carries encoded requests between nodes.
type Transport interface {
	Call(ctx context.Context, to NodeAddr, request []byte) (response []byte, err error)
}

// Node is one member: its shard replicas, their owners, and a Router.
type Node struct{}

// Open starts the node. It returns once every shard that this node owns serves.
func Open(ctx context.Context, c Config) (*Node, error) { panic("skeleton") }

// Router returns the node's router.
func (n *Node) Router() *Router { panic("skeleton") }

// Gateway identifies this incarnation of the node: NodeID << 48 | incarnation.
func (n *Node) Gateway() uint64 { panic("skeleton") }

// Status describes every shard of the node.
func (n *Node) Status() []ShardStatus { panic("skeleton") }

// Close stops serving and stops the replicas. Host and Engine stay open: they belong to the caller.
func (n *Node) Close(ctx context.Context) error { panic("skeleton") }

// ShardStatus is a line of the shard view.
type ShardStatus struct {
	Shard                                ID
	Owner                                uint64 // node id, 0 while nobody is known to serve
	Epoch                                uint64
	TokenShare                           float64
	Bytes                                uint64
	Applied                              uint64
	Reads, Proposals, Commits, LockWaits uint64
}
