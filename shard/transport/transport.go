package transport

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rowlockdb/rowlock/shard"
)

// Transport is a node's end of the connections between nodes.
type Transport struct {
	o        Options
	log      *slog.Logger
	listener net.Listener
	handler  atomic.Pointer[Handler]
	raft     atomic.Pointer[func(conn net.Conn, snapshot bool)]

	life    context.Context
	endLife context.CancelFunc
	work    sync.WaitGroup
	// unidentified bounds connections that have not said who they are.
	unidentified chan struct{}

	mu struct {
		sync.Mutex
		peers  map[shard.NodeAddr]*peer
		conns  map[*tracked]struct{}
		cut    map[shard.NodeAddr]bool
		closed bool
	}
}

var _ shard.Transport = (*Transport)(nil)

// maxUnidentified is the capacity of Transport.unidentified.
const maxUnidentified = 256

// Listen opens the listener and answers from then on.
func Listen(o Options) (*Transport, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.TLS != nil {
		if err := o.TLS.load(o.Logger); err != nil {
			return nil, fmt.Errorf("transport: %w", err)
		}
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	t := &Transport{o: o, log: o.Logger, listener: listener, unidentified: make(chan struct{}, maxUnidentified)}
	t.life, t.endLife = context.WithCancel(context.Background())
	t.mu.peers = make(map[shard.NodeAddr]*peer)
	t.mu.conns = make(map[*tracked]struct{})
	t.mu.cut = make(map[shard.NodeAddr]bool)
	t.SetHandler(o.Handler)
	t.work.Go(t.accept)
	return t, nil
}

// SetHandler replaces the handler of requests; nil refuses them.
func (t *Transport) SetHandler(h Handler) {
	if h == nil {
		t.handler.Store(nil)
		return
	}
	t.handler.Store(&h)
}

func (t *Transport) handle() func(context.Context, []byte) []byte {
	if h := t.handler.Load(); h != nil {
		return *h
	}
	return nil
}

// Addr is where the node listens.
func (t *Transport) Addr() string { return t.listener.Addr().String() }

// Advertised is the address to tell others.
func (t *Transport) Advertised() string {
	if t.o.Advertise != "" {
		return t.o.Advertise
	}
	return t.Addr()
}

// Call implements shard.Transport. It returns when ctx ends at the latest. The
// request may be used again then.
func (t *Transport) Call(ctx context.Context, to shard.NodeAddr, request []byte) ([]byte, error) {
	if len(request) > MaxMessage {
		return nil, fmt.Errorf("call node %s: %w: %d bytes", to, ErrTooLarge, len(request))
	}
	p, err := t.peer(to)
	if err != nil {
		return nil, err
	}
	p.calls.Add(1)
	response, err := p.call(ctx, request)
	if err != nil {
		p.errors.Add(1)
		return nil, fmt.Errorf("call node %s: %w", to, err)
	}
	return response, nil
}

func (t *Transport) peer(addr shard.NodeAddr) (*peer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil, ErrClosed
	}
	p := t.mu.peers[addr]
	if p == nil {
		p = newPeer(t, addr)
		t.mu.peers[addr] = p
	}
	return p, nil
}

// Close ends all connections and calls, and waits for the handlers, whose
// contexts have ended.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.mu.closed {
		t.mu.Unlock()
		t.work.Wait()
		return nil
	}
	t.mu.closed = true
	conns := make([]*tracked, 0, len(t.mu.conns))
	for c := range t.mu.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	t.endLife()
	err := t.listener.Close()
	for _, c := range conns {
		c.Close()
	}
	t.work.Wait()
	return err
}

// goWork runs f on a goroutine that Close waits for, unless it has begun.
func (t *Transport) goWork(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return false
	}
	t.work.Go(f)
	return true
}

// nodeOf is the node that an address names, 0 if it is a host:port.
func nodeOf(addr shard.NodeAddr) uint64 {
	node, err := strconv.ParseUint(string(addr), 10, 64)
	if err != nil {
		return 0
	}
	return node
}

// addrOf is the reverse.
func addrOf(node uint64) shard.NodeAddr {
	if node == 0 {
		return ""
	}
	return shard.NodeAddr(strconv.FormatUint(node, 10))
}

// resolve returns the host:port of an address.
func (t *Transport) resolve(addr shard.NodeAddr) (string, error) {
	if strings.Contains(string(addr), ":") {
		return string(addr), nil
	}
	return t.o.Resolve(addr)
}

// PeerStats are counters about another node since the start.
type PeerStats struct {
	Addr      shard.NodeAddr
	Connected bool
	// Down is why the node is out of reach; empty when it is not, or when nobody
	// has tried lately.
	Down string
	// Calls and Errors count what this node asked, Served what the other asked.
	Calls, Errors, Served uint64
	// Version is what the sides talk in on the latest connection that was opened to the
	// node, 0 if there was none.
	Version shard.Version
	// Connects counts connections for requests that were opened to the node.
	Connects uint64
	// BytesOut and BytesIn are those of requests and responses both ways; the
	// traffic of the logs is not in them.
	BytesOut, BytesIn uint64
	// InFlight is the number of requests under way to the node, InFlightBytes
	// what they take of Options.InFlight.
	InFlight      int
	InFlightBytes int64
}

// Peers returns the counters of all nodes that were asked or that asked, by
// address.
func (t *Transport) Peers() []PeerStats {
	t.mu.Lock()
	peers := make([]*peer, 0, len(t.mu.peers))
	for _, p := range t.mu.peers {
		peers = append(peers, p)
	}
	t.mu.Unlock()
	stats := make([]PeerStats, 0, len(peers))
	for _, p := range peers {
		stats = append(stats, p.stats())
	}
	slices.SortFunc(stats, func(a, b PeerStats) int { return strings.Compare(string(a.Addr), string(b.Addr)) })
	return stats
}
