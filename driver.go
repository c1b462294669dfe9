//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// DriverName is the name under which this package registers with database/sql.
const DriverName = "rowlock"

// closeLimit bounds the end of a shared node.
const closeLimit = 30 * time.Second

func init() { sql.Register(DriverName, &Driver{}) }

// Driver opens embedded nodes by name:
//
//	db, err := sql.Open("rowlock", "path/to/dir?database=shop&shards=4")
//
// The data source name is a data directory, and after '?' options: database,
// shards, lock_wait, retention (durations as Go writes them), user, password,
// and any parameter of github.com/go-sql-driver/mysql such as parseTime.
//
// The node opens at the first connection. All that a process opens with the
// same directory shares one node, which closes with the last sql.DB; its options
// are those of the first.
type Driver struct{}

// Open implements driver.Driver; database/sql calls OpenConnector instead. The
// node of a connection that is opened this way stays open with the process.
func (d *Driver) Open(name string) (driver.Conn, error) {
	c, err := d.OpenConnector(name)
	if err != nil {
		return nil, err
	}
	return c.Connect(context.Background())
}

// OpenConnector implements driver.DriverContext.
func (d *Driver) OpenConnector(name string) (driver.Connector, error) {
	o, config, err := parseName(name)
	if err != nil {
		return nil, err
	}
	return &sharedConnector{driver: d, options: o, config: config}, nil
}

// parseName splits a data source name into the node's options and the client's.
func parseName(name string) (Options, *mysql.Config, error) {
	dir, query, _ := strings.Cut(name, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return Options{}, nil, fmt.Errorf("rowlock: data source name: %w", err)
	}
	take := func(key string) string {
		defer values.Del(key)
		return values.Get(key)
	}
	o := Options{Dir: dir, User: take("user"), Password: take("password")}
	database := take("database")
	if text := take("shards"); text != "" {
		if o.Shards, err = strconv.Atoi(text); err != nil {
			return o, nil, fmt.Errorf("rowlock: data source name: shards: %w", err)
		}
	}
	for key, into := range map[string]*time.Duration{"lock_wait": &o.LockWait, "retention": &o.Retention} {
		if text := take(key); text != "" {
			if *into, err = time.ParseDuration(text); err != nil {
				return o, nil, fmt.Errorf("rowlock: data source name: %s: %w", key, err)
			}
		}
	}
	config, err := mysql.ParseDSN("/?" + values.Encode())
	if err != nil {
		return o, nil, fmt.Errorf("rowlock: data source name: %w", err)
	}
	config.DBName = database
	config.User, config.Passwd = o.User, o.Password
	return o, config, nil
}

// nodes are the nodes that the driver has open, by directory.
var nodes struct {
	sync.Mutex
	byDir map[string]*sharedNode
}

// sharedNode is a node and the number of connectors that use it. The mutex of
// nodes protects users; ready is closed once node and err are set, gone once
// the node is closed.
type sharedNode struct {
	users int
	ready chan struct{}
	gone  chan struct{}
	node  *Node
	err   error
}

// sharedConnector belongs to one sql.DB. It holds the node from its first
// connection until sql.DB.Close.
type sharedConnector struct {
	driver  *Driver
	options Options
	config  *mysql.Config

	mu struct {
		sync.Mutex
		shared *sharedNode
		closed bool
	}
}

// Driver implements driver.Connector.
func (c *sharedConnector) Driver() driver.Driver { return c.driver }

// Connect implements driver.Connector.
func (c *sharedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	node, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	connector, err := node.connector(c.config.Clone())
	if err != nil {
		return nil, fmt.Errorf("rowlock: connect: %w", err)
	}
	return connector.Connect(ctx)
}

// acquire returns the directory's node, opened by whoever comes first.
func (c *sharedConnector) acquire(ctx context.Context) (*Node, error) {
	dir, err := filepath.Abs(c.options.Dir)
	if err != nil {
		return nil, fmt.Errorf("rowlock: data directory: %w", err)
	}
	c.mu.Lock()
	if c.mu.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	if c.mu.shared == nil {
		c.mu.shared = share(dir, c.options)
	}
	shared := c.mu.shared
	c.mu.Unlock()
	select {
	case <-shared.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if shared.err != nil {
		c.giveUp(dir, shared)
	}
	return shared.node, shared.err
}

// giveUp lets the next Connect try again after a failed start.
func (c *sharedConnector) giveUp(dir string, shared *sharedNode) {
	c.mu.Lock()
	mine := c.mu.shared == shared
	if mine {
		c.mu.shared = nil
	}
	c.mu.Unlock()
	if mine {
		unshare(dir, shared)
	}
}

// share returns the directory's entry with one more user, and starts the node if
// there was none. A node on its way out is not used again: the new one starts
// when the directory is free.
func share(dir string, o Options) *sharedNode {
	nodes.Lock()
	defer nodes.Unlock()
	before := nodes.byDir[dir]
	if before != nil && before.users > 0 {
		before.users++
		return before
	}
	s := &sharedNode{users: 1, ready: make(chan struct{}), gone: make(chan struct{})}
	if nodes.byDir == nil {
		nodes.byDir = make(map[string]*sharedNode)
	}
	nodes.byDir[dir] = s
	go func() {
		defer close(s.ready)
		if before != nil {
			<-before.gone
		}
		s.node, s.err = Open(context.Background(), o)
	}()
	return s
}

// unshare takes a user away and closes the node after the last.
func unshare(dir string, s *sharedNode) error {
	nodes.Lock()
	s.users--
	last := s.users == 0
	nodes.Unlock()
	if !last {
		return nil
	}
	<-s.ready
	var err error
	if s.node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		err = s.node.Close(ctx)
	}
	close(s.gone)
	nodes.Lock()
	defer nodes.Unlock()
	if nodes.byDir[dir] == s {
		delete(nodes.byDir, dir)
	}
	return err
}

// Close implements io.Closer; sql.DB.Close calls it.
func (c *sharedConnector) Close() error {
	c.mu.Lock()
	shared := c.mu.shared
	c.mu.shared, c.mu.closed = nil, true
	c.mu.Unlock()
	if shared == nil {
		return nil
	}
	dir, err := filepath.Abs(c.options.Dir)
	if err != nil {
		return fmt.Errorf("rowlock: data directory: %w", err)
	}
	return unshare(dir, shared)
}
