package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/process"
)

// target is the server under load: one that we start, and may kill, or one that
// runs already.
type target struct {
	settings settings
	dir      string
	kills    int
	config   *mysql.Config // of a server that runs already

	cluster *process.Cluster // nil: one server
	nemesis *nemesis         // of the cluster under load; nil: none

	mu     sync.Mutex
	server *process.Server // nil between two lives
}

func (s settings) open(ctx context.Context) (*target, error) {
	t := &target{settings: s}
	if s.dsn != "" {
		config, err := mysql.ParseDSN(s.dsn)
		if err != nil {
			return nil, fmt.Errorf("read -dsn: %w", err)
		}
		if s.kill > 0 {
			return nil, errors.New("-kill is for a server that this program has started")
		}
		t.config = config
		return t, nil
	}
	if s.nodes > 1 {
		var err error
		t.cluster, err = process.NewCluster(ctx, process.ClusterOptions{Binary: s.binary, Nodes: s.nodes, Shards: s.shards})
		return t, err
	}
	dir, err := os.MkdirTemp("", "rowlock-isolation-")
	if err != nil {
		return nil, err
	}
	t.dir = dir
	if err := t.start(ctx); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return t, nil
}

func (t *target) start(ctx context.Context) error {
	server, err := process.Start(ctx, t.settings.binary, "--data", t.dir, "--listen", "127.0.0.1:0", "--shards", fmt.Sprint(t.settings.shards))
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.server = server
	t.mu.Unlock()
	return nil
}

// silence is how long a session waits for a node of a cluster: it may be paused or
// cut off.
const silence = 10 * time.Second

// where is what a client connects with, or nil while there is no server. Of a
// cluster it is one node after the other.
func (t *target) where(database string, turn int) *mysql.Config {
	config := mysql.NewConfig()
	if t.cluster != nil {
		node := t.cluster.Nodes[turn%len(t.cluster.Nodes)]
		if !node.Running() {
			return nil
		}
		config.Net, config.Addr, config.User = "tcp", node.SQL(), "root"
		config.ReadTimeout = silence
	} else if t.config != nil {
		config = t.config.Clone()
	} else {
		t.mu.Lock()
		server := t.server
		t.mu.Unlock()
		if server == nil {
			return nil
		}
		config.Net, config.Addr, config.User = "tcp", server.Address, "root"
	}
	config.DBName = database
	config.InterpolateParams = true
	config.Timeout = 5 * time.Second
	config.Logger = &mysql.NopLogger{}
	return config
}

// killing kills the server and starts it again until ctx ends; then the server
// is there. In a cluster it does more than that.
func (t *target) killing(ctx context.Context, random *rand.Rand) error {
	if t.cluster != nil {
		return t.nemesis.run(ctx)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(1 + random.Int64N(int64(t.settings.kill)))):
		}
		t.mu.Lock()
		server := t.server
		t.server = nil
		t.mu.Unlock()
		if err := server.Kill(); err != nil {
			return err
		}
		t.kills++
		// Not ended by ctx: the last reads need a server.
		if err := t.start(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

func (t *target) close() {
	if t.cluster != nil {
		t.cluster.Close()
	}
	if t.server != nil {
		t.server.Kill()
	}
	if t.dir != "" {
		os.RemoveAll(t.dir)
	}
}
