package sqlfront

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/txn"
)

// hub is the network between servers of one process.
type hub struct {
	mu       sync.Mutex
	peers    []Peer
	handlers map[uint64]func(context.Context, uint64, []byte) ([]byte, error)
	silent   map[uint64]bool                            // nodes whose answers are lost
	answered func(ctx context.Context, question []byte) // called before an answer is handed back; may be nil
}

// hubPeers is the hub as one node sees it.
type hubPeers struct {
	*hub
	self uint64
}

func newHub(nodes int) *hub {
	h := &hub{handlers: map[uint64]func(context.Context, uint64, []byte) ([]byte, error){}, silent: map[uint64]bool{}}
	for n := range nodes {
		h.peers = append(h.peers, Peer{ID: uint64(n + 1), Up: true})
	}
	return h
}

func (h *hub) set(node uint64, up, silent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peers[node-1].Up, h.silent[node] = up, silent
}

func (p *hubPeers) Members() []Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Peer{}, p.peers...)
}

func (p *hubPeers) Handle(service byte, answer func(context.Context, uint64, []byte) ([]byte, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[p.self<<8|uint64(service)] = answer
}

func (p *hubPeers) Ask(ctx context.Context, node uint64, service byte, body []byte) ([]byte, error) {
	p.mu.Lock()
	answer, silent := p.handlers[node<<8|uint64(service)], p.silent[node] || p.silent[p.self]
	answered := p.answered
	p.mu.Unlock()
	if silent {
		return nil, context.DeadlineExceeded // as if the second for it had passed
	}
	if answer == nil {
		return nil, errors.New("nobody is there")
	}
	// Nobody is silent because the machine is busy: only a statement that ends is
	// heard of, not the end of its second.
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})()
	a, err := answer(patient, p.self, body)
	if answered != nil {
		answered(ctx, body)
	}
	return a, err
}

// gateways are several SQL servers on one key space, each with a coordinator of
// its own, as different nodes have them.
type gateways struct {
	*stack
	hub     *hub
	servers []*Server
}

// newGateways starts n servers, after the setup has run on the first.
func newGateways(t *testing.T, n int, config Config, setup ...string) *gateways {
	g := &gateways{hub: newHub(n)}
	config.Node, config.Peers = 1, &hubPeers{g.hub, 1}
	g.stack = newStack(t, config)
	g.servers = []*Server{g.stack.server}
	db := g.on(1, "root", "")
	for _, q := range setup {
		run(t, db, q)
	}
	for len(g.servers) < n {
		g.start(uint64(len(g.servers) + 1))
	}
	return g
}

// start opens the server of one more node.
func (g *gateways) start(node uint64) {
	co := txn.New(txn.Config{Router: g.node.Router(), Gateway: node<<48 | 1, Logger: g.logger})
	config := g.config
	config.Coordinator, config.Logger, config.Node, config.Peers = co, g.logger, node, &hubPeers{g.hub, node}
	server, err := New(config)
	require.NoError(g.t, err)
	g.servers = append(g.servers, server)
	g.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		require.NoError(g.t, server.Close(ctx))
		require.NoError(g.t, co.Close(ctx))
	})
}

// on opens a pool of the n-th server.
func (g *gateways) on(n int, user, params string) *sql.DB {
	server, name := g.servers[n-1], fmt.Sprintf("gateway%p", g.servers[n-1])
	mysql.RegisterDialContext(name, func(ctx context.Context, _ string) (net.Conn, error) { return server.Dial(ctx) })
	db, err := sql.Open("mysql", fmt.Sprintf("%s@%s(node)/?%s", user, name, params))
	require.NoError(g.t, err)
	g.t.Cleanup(func() { db.Close() })
	return db
}

// connQuerier is a connection of a pool.
type connQuerier interface {
	queryer
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}
