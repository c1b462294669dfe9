package sqlfront

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/rowlockdb/rowlock/sqlfront/wire"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// Config says what a Server stands on and how it behaves. Only Coordinator is
// required.
type Config struct {
	// Coordinator runs every transaction of this server, its own included.
	Coordinator *txn.Coordinator
	// Logger receives what an operator should see; nil discards it.
	Logger *slog.Logger
	// Version is what clients see as @@version; empty means DefaultVersion.
	Version string
	// Collation names the collation of databases and literals that ask for
	// none; empty means DefaultCollation.
	Collation string
	// TLS, when set, is offered to clients that ask for it.
	TLS *tls.Config
	// RequireTLS turns connections without TLS away (3159), those inside the process
	// apart, as require_secure_transport does, which can be changed at run time.
	RequireTLS bool
	// Secret is known to all nodes of the cluster and to no client.
	Secret []byte
	// MaxConnections bounds simultaneous client connections; 0 means 1000.
	MaxConnections uint64
	// PreparedStatements bounds the parsed statements kept by one session;
	// 0 means 256.
	PreparedStatements int
	// NoAuthentication accepts every client as an all-powerful user. The
	// in-process listener of an embedded node and tests use it.
	NoAuthentication bool
	// Node is this node's id, which connection numbers begin with; 0 is that of a
	// server without a cluster.
	Node uint64
	// Peers reach the servers of other nodes; nil if there are none.
	Peers Peers
	// Announce, when set, is called after this server has changed the schema, users
	// or variables: it should have Poke called on the servers of the other nodes,
	// and return at once. Without it they notice within a tenth of a second.
	Announce func()
	// Admin changes the cluster; nil: there is no procedure that does.
	Admin Admin
	// Blocks tells whether all nodes know tables whose rows are placed by blocks; nil:
	// they do not.
	Blocks func() bool
	// Sources feed the tables of the rowlock database.
	Sources Sources

	hideSystem bool // tests compare the list of databases
}

// DefaultVersion is reported to clients unless Config.Version says otherwise.
const DefaultVersion = wire.Version

// DefaultCollation is the collation of a new database, as in MySQL 8.
const DefaultCollation = "utf8mb4_0900_ai_ci"

// Sources are the callbacks behind the views of the rowlock database. A nil
// callback gives an empty table. Shards, Deadlocks, Metrics, Replicas and
// Checksums tell what their node knows: the server puts the answers of all nodes
// together. The others answer for the cluster. Rows beside an error are shown,
// and the error becomes a warning.
type Sources struct {
	Shards    func(context.Context) ([]ShardInfo, error)
	Nodes     func(context.Context) ([]NodeInfo, error)
	Locks     func(context.Context) ([]LockInfo, error)
	Deadlocks func(context.Context) ([]DeadlockInfo, error) // the latest, oldest first
	Metrics   func(context.Context) ([]MetricInfo, error)
	Moves     func(context.Context) ([]MoveInfo, error)
	Replicas  func(context.Context) ([]ReplicaInfo, error)
	Checksums func(context.Context) ([]ChecksumInfo, error)
}

// ShardInfo is one row of rowlock.shards.
type ShardInfo struct {
	Shard   uint64
	Owner   uint64 // node id; 0 = not known
	Epoch   uint64
	State   string
	Bytes   uint64
	Share   float64 // part of the ring, 0 to 1; 0 for the system shard
	Applied uint64
}

// NodeInfo is one row of rowlock.nodes.
type NodeInfo struct {
	Node     uint64
	Name     string
	Address  string // for clients
	Cluster  string // for other nodes
	Zone     string
	State    string
	Owned    uint64 // shards
	Replicas uint64 // with a vote
	// OldestVersion to NewestVersion is what the node's release speaks.
	OldestVersion, NewestVersion uint64
}

// MoveInfo is one row of rowlock.moves: a replica on its way to another node.
type MoveInfo struct {
	Shard       uint64
	From, To    uint64 // nodes; 0: a replica is only added or only removed
	Step        string
	Done, Total uint64 // bytes of the snapshot; Total 0: not known
	Started     time.Time
}

// ReplicaInfo is one row of rowlock.replicas.
type ReplicaInfo struct {
	Shard   uint64
	Node    uint64
	Replica uint64
	Role    string // owner, voter, learner
	Applied uint64
}

// ChecksumInfo is one row of rowlock.checksums: what a replica holds at the index
// it has applied. Replicas with equal Applied have equal sums.
type ChecksumInfo struct {
	Shard    uint64
	Node     uint64
	Replica  uint64
	Applied  uint64
	Checksum uint64
}

// LockInfo is a lock that is held or, if not Granted, waited for.
type LockInfo struct {
	Shard       uint64
	Transaction storage.TxnID
	Connection  uint64 // of the transaction's client; 0: not known
	Mode        string // S, X, GAP or INSERT
	Lo, Hi      []byte // Hi nil: the single key Lo
	Granted     bool
	Voted       bool // the holder's commit is under way
	// Of a wait: for how long, how many rows the transaction has written, whom it
	// waits for, and what it runs.
	Waited    time.Duration
	Weight    int
	WaitsFor  []storage.TxnID
	Statement string
}

// DeadlockInfo is a cycle of waits: each for the next one, the last for the first.
type DeadlockInfo struct {
	Node    uint64 // whose transaction was the victim; the server fills it in
	Number  uint64 // counted by the node
	Time    time.Time
	Victim  storage.TxnID
	Members []LockInfo
}

// MetricInfo is one row of rowlock.metrics.
type MetricInfo struct {
	Node  uint64 // the server fills it in
	Name  string
	Value float64
	Help  string
}

// ErrClosed is returned by calls on a Server that was closed.
var ErrClosed = errors.New("sqlfront: server closed")

func (c *Config) defaults() error {
	if c.Coordinator == nil {
		return errors.New("sqlfront: Config.Coordinator is required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = DefaultVersion
	}
	if c.Collation == "" {
		c.Collation = DefaultCollation
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 1000
	}
	if c.PreparedStatements == 0 {
		c.PreparedStatements = 256
	}
	return nil
}
