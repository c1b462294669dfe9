package transport_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
)

var (
	clusterA = [16]byte{0xaa}
	clusterB = [16]byte{0xbb}
)

// patience bounds what has no bound of its own; no test waits that long.
const patience = time.Minute

// quick is a beat at which a silent node is known after a tenth of a second.
const quick = 20 * time.Millisecond

// cluster is the transports of some nodes that know each other.
type cluster struct {
	t         testing.TB
	mu        sync.Mutex
	addresses map[shard.NodeAddr]string
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t: t, addresses: make(map[shard.NodeAddr]string)}
}

func (c *cluster) resolve(a shard.NodeAddr) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to := c.addresses[a]; to != "" {
		return to, nil
	}
	return "", fmt.Errorf("no node %s", a)
}

func (c *cluster) set(node uint64, address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addresses[addr(node)] = address
}

func addr(node uint64) shard.NodeAddr { return shard.NodeAddr(fmt.Sprint(node)) }

func is(cluster [16]byte, node uint64) func() transport.Identity {
	return func() transport.Identity { return transport.Identity{Cluster: cluster, Node: node} }
}

// listen starts a node. The options may be changed first.
func (c *cluster) listen(node uint64, h transport.Handler, change ...func(*transport.Options)) *transport.Transport {
	c.t.Helper()
	o := transport.Options{Listen: "127.0.0.1:0", Self: is(clusterA, node), Resolve: c.resolve, Handler: h}
	for _, f := range change {
		f(&o)
	}
	n, err := transport.Listen(o)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { n.Close() })
	c.set(node, n.Addr())
	return n
}

func withQuickBeat(o *transport.Options) { o.Beat = quick }

func echo(_ context.Context, request []byte) []byte { return request }

func upper(_ context.Context, request []byte) []byte {
	return []byte(strings.ToUpper(string(request)))
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually calls f until it is content.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, patience, time.Millisecond)
}

// reaches waits until calls come through.
func reaches(t *testing.T, from *transport.Transport, to uint64) {
	t.Helper()
	eventually(t, func() bool {
		_, err := from.Call(soon(t), addr(to), []byte("ping"))
		return err == nil
	})
}

// proxy stands in front of a listener. It can fall silent, like a machine that
// is stopped or a cable that is cut: connections stay, nothing comes through.
type proxy struct {
	l      net.Listener
	target string
	work   sync.WaitGroup
	mu     sync.Mutex
	cond   *sync.Cond
	silent [2]bool // towards the target, and back
	closed bool
	conns  []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{l: l, target: target}
	p.cond = sync.NewCond(&p.mu)
	p.work.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		near, err := p.l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		closed := p.closed
		p.mu.Unlock()
		if closed {
			near.Close()
			far.Close()
			return
		}
		p.work.Go(func() { p.copy(far, near, 0) })
		p.work.Go(func() { p.copy(near, far, 1) })
	}
}

func (p *proxy) copy(to, from net.Conn, direction int) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		for p.silent[direction] && !p.closed {
			p.cond.Wait()
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// silence stops or resumes a direction: 0 towards the target, 1 back.
func (p *proxy) silence(silent bool, directions ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range directions {
		p.silent[d] = silent
	}
	p.cond.Broadcast()
}

func (p *proxy) close() {
	p.l.Close()
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		c.Close()
	}
	p.cond.Broadcast()
	p.mu.Unlock()
	p.work.Wait()
}
