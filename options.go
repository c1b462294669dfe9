//go:build cgo || gms_pure_go

package rowlock

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/rowlockdb/rowlock/paxos/dragon"
	"github.com/rowlockdb/rowlock/ring"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// The errors of Open that a caller may decide by; compare with errors.Is.
var (
	// ErrLocked: another process, or another Node of this one, has the directory open.
	ErrLocked = storage.ErrLocked
	// ErrFormat: the directory was written by a release this one does not know,
	// or is not a Rowlock directory.
	ErrFormat = storage.ErrFormat
	// ErrCorrupt: stored bytes are damaged.
	ErrCorrupt = storage.ErrCorrupt
	// ErrClosed: the node was closed.
	ErrClosed = errors.New("rowlock: node is closed")
)

// DefaultCacheBytes is twice InnoDB's default buffer pool: blocks are cached
// uncompressed, with their filters, and a point read that finds neither costs
// several times one that finds both.
const DefaultCacheBytes = 256 << 20

// maxShards bounds Options.Shards. Each shard is a replica group of its own.
const maxShards = 4096

// Options say where a node keeps its data and how it behaves. Only Dir is
// required.
type Options struct {
	// Dir is the data directory; it is created if it does not exist.
	Dir string
	// Shards is the number of data shards of a new directory; 0 = 16. An
	// existing directory keeps the number it was made with.
	Shards int
	// CacheBytes bounds the caches of stored blocks and, with a quarter of it, of rows
	// that are read by their key; 0 = DefaultCacheBytes.
	CacheBytes int64
	// MemTableBytes bounds one table of writes in memory, of which there may be four;
	// 0 = 64 MiB.
	MemTableBytes int64
	// LockWait is how long a statement waits for a row lock before error 1205;
	// 0 = 50 s, as in MySQL. Sessions can set innodb_lock_wait_timeout.
	LockWait time.Duration
	// Retention is how long superseded row versions stay readable; 0 = 10 minutes.
	Retention time.Duration
	// MaxConnections bounds simultaneous client connections; 0 = 1000.
	MaxConnections int
	// TxnBytes bounds the writes of one transaction, which lie in memory until
	// COMMIT, 64 bytes counted for each beside key and value; 0 = 1 GiB. Beyond
	// it a statement gets error 1197. Sessions can set txn_total_size_limit lower.
	TxnBytes int64
	// Cluster is the host:port to listen on for other nodes; empty for a node that
	// is alone. It can be given to a directory that was alone before.
	Cluster string
	// Advertise is the host:port that other nodes reach this one by, if it is not
	// Cluster; SQLAddress is where clients do, for the view of nodes.
	Advertise, SQLAddress string
	// Join lists cluster addresses of nodes that a new directory joins through; a
	// directory that is a member already does not need them.
	Join []string
	// Name and Zone are the operator's: a name that no other node has, and a
	// failure domain. Replicas of one shard go to different zones where they can.
	Name, Zone string
	// Certificates is a folder with ca.crt, node.crt and node.key. Without it only
	// loopback addresses may be used for Cluster, unless Insecure.
	Certificates string
	Insecure     bool
	// TLSCert and TLSKey are files (PEM) with what MySQL clients that ask for TLS are
	// shown; without them it is the node's certificate, if there are Certificates. The
	// files may be replaced at any time. RequireTLS turns other clients away, those in
	// this process apart.
	TLSCert, TLSKey string
	RequireTLS      bool
	// MoveRate bounds the bytes a second that this node sends in copies of replicas to
	// others; 0 = 128 MiB, negative = no bound.
	MoveRate int64
	// DeadAfter is how long a node must be silent before its replicas are made anew
	// on others; 0 = 10 minutes.
	DeadAfter time.Duration
	// Lease is how long the owner of a shard with several replicas answers reads
	// without asking the others, counted from the last time it did; the next owner
	// waits as long after a crash. 0 = 750 ms; negative = no leases, for machines that
	// are stopped from outside without their clocks noticing.
	Lease time.Duration
	// LeaseDrift bounds by how much the rate of any node's clock is off; 0 = 0.01.
	LeaseDrift float64
	// Reserve is how much space the node keeps free for bad days, in a file that an
	// operator removes when the disk is full, and how little may be left before the
	// node hands over what it owns; with half of it left it refuses writes (MySQL's
	// 1021). 0 = none; negative = 1 % of the disk, at most 1 GiB.
	Reserve int64
	// User and Password are what Connector logs in with; "" = root without a
	// password, which is what a new directory accepts.
	User, Password string
	// Logger receives what an operator should see; nil = nothing.
	Logger *slog.Logger

	// versions is what the node speaks; tests play other releases.
	versions shard.Versions

	// Tests put other file systems under the stores.
	adjustStorage func(*storage.Options)
	adjustLog     func(*dragon.Options)
}

// withDefaults checks the options and fills in what is not set.
func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("rowlock: Options.Dir is empty")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("rowlock: data directory: %w", err)
	}
	o.Dir = dir
	if o.Shards < 0 || o.Shards > maxShards {
		return o, fmt.Errorf("rowlock: %d shards; 1 to %d are possible", o.Shards, maxShards)
	}
	if o.LeaseDrift < 0 || o.LeaseDrift >= 1 {
		return o, fmt.Errorf("rowlock: Options.LeaseDrift is %g; 0 to 1 is possible", o.LeaseDrift)
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return o, errors.New("rowlock: Options.TLSCert and Options.TLSKey belong together")
	}
	if o.RequireTLS && o.TLSCert == "" && o.Certificates == "" {
		return o, errors.New("rowlock: Options.RequireTLS needs a certificate")
	}
	if len(o.Join) > 0 && o.Cluster == "" {
		return o, errors.New("rowlock: Options.Join needs Options.Cluster, the address for other nodes")
	}
	o.Shards = cmp.Or(o.Shards, ring.DefaultShards)
	o.MoveRate = cmp.Or(o.MoveRate, 128<<20)
	o.CacheBytes = cmp.Or(o.CacheBytes, DefaultCacheBytes)
	o.User = cmp.Or(o.User, "root")
	o.versions = cmp.Or(o.versions, shard.Supported())
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
