package dragon

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
)

// Network connects hosts of one process without sockets. Addresses are host
// ids. The zero value is not usable; see NewNetwork.
type Network struct {
	mu struct {
		sync.Mutex
		hosts map[string]*endpoint
		cut   map[[2]string]bool
	}
}

// NewNetwork returns a network without hosts.
func NewNetwork() *Network {
	n := &Network{}
	n.mu.hosts = make(map[string]*endpoint)
	n.mu.cut = make(map[[2]string]bool)
	return n
}

// Cut drops everything that one host sends to another until Mend, in both
// directions.
func (n *Network) Cut(a, b string) { n.setCut(a, b, true) }

// Mend ends Cut.
func (n *Network) Mend(a, b string) { n.setCut(a, b, false) }

func (n *Network) setCut(a, b string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.cut[[2]string{a, b}], n.mu.cut[[2]string{b, a}] = cut, cut
}

var errUnreachable = errors.New("dragon: host is out of reach")

// lookup finds the host behind an address, if from can reach it.
func (n *Network) lookup(from, to string) (*endpoint, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.mu.hosts[to]
	if e == nil || n.mu.cut[[2]string{from, to}] {
		return nil, fmt.Errorf("%w: %s", errUnreachable, to)
	}
	return e, nil
}

// networkFactory makes a host's end of a network.
type networkFactory struct{ net *Network }

var _ config.TransportFactory = networkFactory{}

func (f networkFactory) Create(c config.NodeHostConfig, m raftio.MessageHandler, s raftio.ChunkHandler) raftio.ITransport {
	return &endpoint{net: f.net, address: c.RaftAddress, message: m, chunk: s}
}

func (networkFactory) Validate(address string) bool { return address != "" }

// endpoint is the receiving side of a host. Handlers are called on the
// sender's goroutine, under an in-flight count that Close waits for.
type endpoint struct {
	net      *Network
	address  string
	message  raftio.MessageHandler
	chunk    raftio.ChunkHandler
	inFlight sync.WaitGroup
	mu       struct {
		sync.Mutex
		closed bool
	}
}

var _ raftio.ITransport = (*endpoint)(nil)

func (e *endpoint) Name() string { return "in-process" }

func (e *endpoint) Start() error {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.net.mu.hosts[e.address] != nil {
		return fmt.Errorf("dragon: host %s is already on the network", e.address)
	}
	e.net.mu.hosts[e.address] = e
	return nil
}

func (e *endpoint) Close() error {
	e.net.mu.Lock()
	if e.net.mu.hosts[e.address] == e {
		delete(e.net.mu.hosts, e.address)
	}
	e.net.mu.Unlock()
	e.mu.Lock()
	e.mu.closed = true
	e.mu.Unlock()
	e.inFlight.Wait()
	return nil
}

// enter starts a delivery, unless the endpoint is closed.
func (e *endpoint) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		return errUnreachable
	}
	e.inFlight.Add(1)
	return nil
}

func (e *endpoint) GetConnection(_ context.Context, target string) (raftio.IConnection, error) {
	if _, err := e.net.lookup(e.address, target); err != nil {
		return nil, err
	}
	return &connection{from: e, to: target}, nil
}

func (e *endpoint) GetSnapshotConnection(_ context.Context, target string) (raftio.ISnapshotConnection, error) {
	if _, err := e.net.lookup(e.address, target); err != nil {
		return nil, err
	}
	return &connection{from: e, to: target}, nil
}

// connection sends to one host.
type connection struct {
	from *endpoint
	to   string
}

func (c *connection) Close() {}

// SendMessageBatch delivers a copy, as a wire would.
func (c *connection) SendMessageBatch(batch raftpb.MessageBatch) error {
	b, err := batch.Marshal()
	if err != nil {
		return err
	}
	var copied raftpb.MessageBatch
	if err := copied.Unmarshal(b); err != nil {
		return err
	}
	return c.deliver(func(e *endpoint) error {
		e.message(copied)
		return nil
	})
}

func (c *connection) SendChunk(chunk raftpb.Chunk) error {
	b, err := chunk.Marshal()
	if err != nil {
		return err
	}
	var copied raftpb.Chunk
	if err := copied.Unmarshal(b); err != nil {
		return err
	}
	return c.deliver(func(e *endpoint) error {
		if !e.chunk(copied) {
			return errors.New("dragon: snapshot refused")
		}
		return nil
	})
}

func (c *connection) deliver(f func(*endpoint) error) error {
	e, err := c.from.net.lookup(c.from.address, c.to)
	if err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.inFlight.Done()
	return f(e)
}
