package process

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ClusterOptions describe a cluster of processes on this machine.
type ClusterOptions struct {
	Binary string
	Nodes  int
	// Spare nodes have a place in the network and are started by Add.
	Spare  int
	Shards int
	// Network is "loopback", "namespaces", or "" for the latter when this is root.
	Network string
	// Args are more arguments of every node.
	Args []string
	// Dir is where the data goes; empty is a temporary directory, which Close
	// removes.
	Dir string
}

// Cluster is a number of servers that form one database. Its methods may be
// called by several goroutines, for different nodes.
type Cluster struct {
	Nodes   []*Node // the first has number 1
	Network Network

	options   ClusterOptions
	dir       string
	clustered bool // the binary knows --cluster
}

// Node is one member and its disk.
type Node struct {
	ID  int
	Dir string

	cluster    *Cluster
	generation int // how often it was replaced

	mu     sync.Mutex
	server *Server // nil: not running
	paused bool
}

// NewCluster starts the nodes, the first alone and the others by joining it, and
// waits until every shard has all the replicas that it should have.
func NewCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	c := &Cluster{options: o, Nodes: make([]*Node, 0, o.Nodes+o.Spare)} // clients read it while it grows
	help, err := exec.CommandContext(ctx, o.Binary, "start", "--help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", o.Binary, err)
	}
	c.clustered = strings.Contains(string(help), "--cluster")
	if o.Nodes > 1 && !c.clustered {
		return nil, fmt.Errorf("%s has no --cluster", o.Binary)
	}
	if c.dir = o.Dir; c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "rowlock-cluster-"); err != nil {
			return nil, err
		}
	}
	if err := c.openNetwork(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	for range o.Nodes {
		if _, err := c.Add(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if err := c.AwaitReplicas(ctx, min(o.Nodes, 3)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// openNetwork makes the network that was asked for, or the best that can be had:
// root in a container may not be allowed namespaces, or has no tool for them.
func (c *Cluster) openNetwork() (err error) {
	nodes := c.options.Nodes + c.options.Spare
	switch c.options.Network {
	case "namespaces":
		c.Network, err = NewNamespaces(nodes)
	case "loopback":
		c.Network = NewLoopback()
	case "":
		if c.clustered && os.Geteuid() == 0 {
			if c.Network, err = NewNamespaces(nodes); err == nil {
				return nil
			}
		}
		c.Network, err = NewLoopback(), nil
	default:
		err = fmt.Errorf("there is no network %q", c.options.Network)
	}
	return err
}

// Add starts one more node.
func (c *Cluster) Add(ctx context.Context) (*Node, error) {
	id := len(c.Nodes) + 1
	n := &Node{ID: id, Dir: filepath.Join(c.dir, fmt.Sprintf("n%d", id)), cluster: c}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	c.Nodes = append(c.Nodes, n)
	if id == 1 && c.Network.Cuts() {
		return n, c.letIn(ctx)
	}
	return n, nil
}

// letIn lets root in from this program's side of the bridge; a new database knows
// him on the loopback only.
func (c *Cluster) letIn(ctx context.Context) error {
	for _, s := range []string{"CREATE USER 'root'@'%'", "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION"} {
		words := append(c.Network.Front(1), c.options.Binary, "sql", "--host", "127.0.0.1", "--port", fmt.Sprint(sqlPort), "--execute", s)
		if err := run(words...); err != nil {
			return err
		}
	}
	return nil
}

// Close kills every node and removes the data.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Kill())
	}
	if c.Network != nil {
		errs = append(errs, c.Network.Close())
	}
	if c.options.Dir == "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}

// Dir is where the nodes keep their data.
func (c *Cluster) Dir() string { return c.dir }

// Binary is what the nodes run.
func (c *Cluster) Binary() string { return c.options.Binary }

// SQL is where clients of a node connect, also when it does not run.
func (n *Node) SQL() string {
	return fmt.Sprintf("%s:%d", n.cluster.Network.Host(n.ID), sqlPort)
}

// Cluster is where other nodes connect.
func (n *Node) Cluster() string {
	return fmt.Sprintf("%s:%d", n.cluster.Network.Host(n.ID), clusterPort)
}

// args are those of a start.
func (n *Node) args() []string {
	c := n.cluster
	listen := n.SQL()
	if c.Network.Cuts() {
		listen = fmt.Sprintf("0.0.0.0:%d", sqlPort) // also on the loopback of its namespace
	}
	args := []string{"--data", n.Dir, "--listen", listen, "--shards", fmt.Sprint(c.options.Shards), "--insecure"}
	if c.clustered {
		args = append(args, "--cluster", n.Cluster(), "--name", n.Name())
	}
	var others []string
	for _, other := range c.Nodes {
		if other != n {
			others = append(others, other.Cluster())
		}
	}
	if c.clustered && len(others) > 0 {
		args = append(args, "--join", strings.Join(others, ","))
	}
	return append(args, c.options.Args...)
}

// Start starts the node and returns when it serves.
func (n *Node) Start(ctx context.Context) error {
	s, err := StartBehind(ctx, n.cluster.Network.Front(n.ID), nil, n.cluster.options.Binary, n.args()...)
	if err != nil {
		return fmt.Errorf("node %d: %w", n.ID, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server = s
	return nil
}

// Server is the node's process, nil if it does not run.
func (n *Node) Server() *Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server
}

// Running tells whether the node's process is there and not paused.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil || n.paused {
		return false
	}
	select {
	case <-n.server.Ended():
		return false
	default:
		return true
	}
}

// Died tells how the node ended by itself, nil if it did not.
func (n *Node) Died() error {
	s := n.Server()
	if s == nil {
		return nil
	}
	select {
	case <-s.Ended():
		said := s.Said()
		return fmt.Errorf("node %d ended by itself with exit code %d: %s", n.ID, s.Wait(), said[:min(len(said), 4000)])
	default:
		return nil
	}
}

// Died tells which nodes ended by themselves, and how.
func (c *Cluster) Died() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Died())
	}
	return errors.Join(errs...)
}

// Kill ends the node's process as a crash would.
func (n *Node) Kill() error {
	n.mu.Lock()
	s := n.server
	n.server, n.paused = nil, false
	n.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.Kill()
}

// Stop ends the node cleanly.
func (n *Node) Stop() error {
	n.mu.Lock()
	s := n.server
	n.server = nil
	n.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.Stop()
}

// Pause stops the process where it is, until Resume.
func (n *Node) Pause() error { return n.pause(true, (*Server).Pause) }

// Resume lets it go on.
func (n *Node) Resume() error { return n.pause(false, (*Server).Resume) }

func (n *Node) pause(on bool, do func(*Server) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil {
		return fmt.Errorf("node %d does not run", n.ID)
	}
	n.paused = on
	return do(n.server)
}

// Erase removes the data of a node that does not run.
func (n *Node) Erase() error {
	if n.Server() != nil {
		return fmt.Errorf("node %d runs", n.ID)
	}
	n.generation++
	return os.RemoveAll(n.Dir)
}

// Name is what the node is called in the cluster.
func (n *Node) Name() string {
	if n.generation == 0 {
		return fmt.Sprintf("n%d", n.ID)
	}
	return fmt.Sprintf("n%d-%d", n.ID, n.generation)
}

// Replace starts a new node in the place of one whose disk was erased, and tells
// the cluster that the old one does not come back.
func (n *Node) Replace(ctx context.Context) error {
	old := fmt.Sprintf("n%d", n.ID)
	if n.generation > 1 {
		old = fmt.Sprintf("n%d-%d", n.ID, n.generation-1)
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	_, err := n.cluster.Tool(ctx, "node", "remove", old)
	return err
}

// Tool runs another command of the binary against a node that serves.
func (c *Cluster) Tool(ctx context.Context, args ...string) (string, error) {
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		host, port, _ := strings.Cut(n.SQL(), ":")
		args := append(slices.Clone(args), "--host", host, "--port", port)
		out, err := exec.CommandContext(ctx, c.options.Binary, args...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("rowlock %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return string(out), nil
	}
	return "", errors.New("no node runs")
}

// Restart starts nodes at the same time.
func Restart(ctx context.Context, nodes []*Node) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.Start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Any returns a connection to some node that serves.
func (c *Cluster) Any(ctx context.Context) (*sql.DB, error) {
	var last error
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		db, err := Open(n.SQL(), "")
		if err != nil {
			return nil, err
		}
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		last = db.PingContext(limited)
		cancel()
		if last == nil {
			return db, nil
		}
		db.Close()
	}
	return nil, fmt.Errorf("no node serves: %w", last)
}

// Replica is a line of rowlock.checksums.
type Replica struct {
	Shard, Node, Replica int
	Owner, Learner       bool
	Applied              uint64
	Checksum             string
}

// Replicas asks a node for all of them.
func Replicas(ctx context.Context, db *sql.DB) ([]Replica, error) {
	owners, err := Owners(ctx, db)
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `SELECT c.shard, c.node, c.replica, r.role = 'learner', c.applied, c.checksum
		FROM rowlock.checksums c JOIN rowlock.replicas r ON r.shard = c.shard AND r.node = c.node ORDER BY c.shard, c.node`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Replica
	for rows.Next() {
		var r Replica
		if err := rows.Scan(&r.Shard, &r.Node, &r.Replica, &r.Learner, &r.Applied, &r.Checksum); err != nil {
			return nil, err
		}
		r.Owner = owners[r.Shard] == r.Node
		all = append(all, r)
	}
	return all, rows.Err()
}

// Owners maps each shard to the node that owns it.
func Owners(ctx context.Context, db *sql.DB) (map[int]int, error) {
	rows, err := db.QueryContext(ctx, "SELECT shard, owner FROM rowlock.shards")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	owners := map[int]int{}
	for rows.Next() {
		var shard, owner int
		if err := rows.Scan(&shard, &owner); err != nil {
			return nil, err
		}
		owners[shard] = owner
	}
	return owners, rows.Err()
}

// awaitLimit bounds the wait for replicas to be made or to catch up.
const awaitLimit = 2 * time.Minute

// AwaitReplicas waits until each shard has so many replicas, all with a vote, and
// an owner.
func (c *Cluster) AwaitReplicas(ctx context.Context, factor int) error {
	return c.await(ctx, func(shards map[int][]Replica) error {
		for shard, replicas := range shards {
			owners, voters := 0, 0
			for _, r := range replicas {
				if r.Owner {
					owners++
				}
				if !r.Learner {
					voters++
				}
			}
			if len(replicas) != factor || voters != factor || owners != 1 {
				return fmt.Errorf("shard %d has %d replicas, %d voters and %d owners, not %d, %d and 1",
					shard, len(replicas), voters, owners, factor, factor)
			}
		}
		return nil
	})
}

// AwaitEqual waits until all replicas of each shard have been seen at an equal
// index, and returns an error as soon as two at the same index differ. Nobody
// may write much meanwhile.
func (c *Cluster) AwaitEqual(ctx context.Context, factor int) error {
	seen := map[int]bool{} // shards whose replicas were equal at one time
	return c.await(ctx, func(shards map[int][]Replica) error {
		for shard, replicas := range shards {
			equal := len(replicas) == factor
			for _, r := range replicas {
				first := replicas[0]
				if r.Applied == first.Applied && r.Checksum != first.Checksum {
					return &Differs{fmt.Sprintf("replicas of shard %d differ at index %d: node %d has %s, node %d has %s",
						shard, r.Applied, first.Node, first.Checksum, r.Node, r.Checksum)}
				}
				equal = equal && r.Applied == first.Applied
			}
			seen[shard] = seen[shard] || equal
		}
		for shard, replicas := range shards {
			if !seen[shard] {
				return fmt.Errorf("shard %d: no common index of %d replicas: %+v", shard, factor, replicas)
			}
		}
		return nil
	})
}

// Differs says that two replicas of a shard are not the same.
type Differs struct{ text string }

func (d *Differs) Error() string { return d.text }

// await asks for all replicas again and again until good is content.
func (c *Cluster) await(ctx context.Context, good func(map[int][]Replica) error) error {
	var last error
	for begun := time.Now(); time.Since(begun) < awaitLimit && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		var different *Differs
		if last = c.look(ctx, good); last == nil || errors.As(last, &different) {
			return last
		}
	}
	return fmt.Errorf("waited %v: %w", awaitLimit, errors.Join(last, ctx.Err()))
}

func (c *Cluster) look(ctx context.Context, good func(map[int][]Replica) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	db, err := c.Any(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	all, err := Replicas(ctx, db)
	if err != nil {
		return err
	}
	shards := map[int][]Replica{}
	for _, r := range all {
		shards[r.Shard] = append(shards[r.Shard], r)
	}
	if len(shards) != c.options.Shards+1 {
		return fmt.Errorf("%d of %d shards are seen", len(shards), c.options.Shards+1)
	}
	return good(shards)
}
