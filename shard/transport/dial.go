package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/shard"
)

// dialLimit bounds an attempt to connect, with everything that is said at the
// beginning; greetLimit the same on the side that listens.
const (
	dialLimit  = 2 * time.Second
	greetLimit = 5 * time.Second
)

// tracked is a connection that Cut and Close can find.
type tracked struct {
	net.Conn          // encrypted, if it is
	raw      net.Conn // below the encryption
	t        *Transport
	addr     shard.NodeAddr
	version  shard.Version // that the sides talk in; set where the connection was opened
	once     sync.Once
}

// Close closes what is below the encryption: a farewell could wait for a node
// that does not read.
func (c *tracked) Close() error {
	err := c.raw.Close()
	c.once.Do(func() {
		c.t.mu.Lock()
		defer c.t.mu.Unlock()
		delete(c.t.mu.conns, c)
	})
	return err
}

// track makes a connection known under the node at its other end.
func (t *Transport) track(conn, raw net.Conn, addr shard.NodeAddr) (*tracked, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil, ErrClosed
	}
	if t.mu.cut[addr] {
		return nil, errCut
	}
	c := &tracked{Conn: conn, raw: raw, t: t, addr: addr}
	t.mu.conns[c] = struct{}{}
	return c, nil
}

// Cut ends the connections with another node and allows no new ones until Mend.
// It is for demonstrations and tests: to the two nodes each other looks dead.
func (t *Transport) Cut(addr shard.NodeAddr) {
	t.mu.Lock()
	t.mu.cut[addr] = true
	var conns []*tracked
	for c := range t.mu.conns {
		if c.addr == addr {
			conns = append(conns, c)
		}
	}
	p := t.mu.peers[addr]
	t.mu.Unlock()
	if p != nil {
		p.forgetLink()
	}
	for _, c := range conns {
		c.Close()
	}
}

// Mend ends Cut.
func (t *Transport) Mend(addr shard.NodeAddr) {
	t.mu.Lock()
	delete(t.mu.cut, addr)
	p := t.mu.peers[addr]
	t.mu.Unlock()
	if p != nil {
		p.nudge()
	}
}

func (t *Transport) isCut(addr shard.NodeAddr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.cut[addr]
}

// open connects to a node and says who this one is.
func (t *Transport) open(ctx context.Context, addr shard.NodeAddr, k kind, self Identity) (*tracked, error) {
	if t.isCut(addr) {
		return nil, errCut
	}
	target, err := t.resolve(addr)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	conn, version, err := t.greet(ctx, raw, target, hello{versions: t.o.Versions, kind: k, from: self, to: nodeOf(addr)})
	if err == nil {
		c, err := t.track(conn, raw, addr)
		if err == nil {
			c.version = version
			return c, nil
		}
	}
	raw.Close()
	if err == nil {
		err = errCut
	}
	return nil, fmt.Errorf("%s: %w", target, err)
}

// greet encrypts a connection, says hello and hears the answer, which says in which
// version the sides talk.
func (t *Transport) greet(ctx context.Context, raw net.Conn, target string, h hello) (net.Conn, shard.Version, error) {
	conn, err := t.encrypt(ctx, raw, target)
	if err != nil {
		return nil, 0, err
	}
	if _, err := conn.Write(h.append(nil)); err != nil {
		return nil, 0, described(err)
	}
	b, err := readOpening(conn, welcomeSize, h.versions)
	if err != nil {
		return nil, 0, described(err)
	}
	var w welcome
	if err := w.decode(b, h.versions); err != nil {
		return nil, 0, err
	}
	return conn, h.versions.Common(w.versions), w.refusal()
}

// encrypt does what Options.TLS says.
func (t *Transport) encrypt(ctx context.Context, raw net.Conn, target string) (net.Conn, error) {
	if t.o.TLS == nil {
		if a, ok := raw.RemoteAddr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && !t.o.Insecure {
			return nil, ErrNotLoopback
		}
		return raw, nil
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, t.o.TLS.client(host))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, described(err)
	}
	return conn, nil
}

// described gives the failures of TLS a type that a caller can decide by.
func described(err error) error {
	var remote *net.OpError
	var verify *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain):
		return fmt.Errorf("%w: the other side does not encrypt (%w)", ErrCertificate, err)
	case errors.As(err, &verify), errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return err
}

// Dial opens a connection for consensus traffic to the node that address names,
// like Call. What is written on it is what Serve's function reads on the other
// side; the connection is the caller's to watch and to close.
func (t *Transport) Dial(ctx context.Context, address string, snapshot bool) (net.Conn, error) {
	k := kindRaft
	if snapshot {
		k = kindSnapshot
	}
	conn, err := t.open(ctx, shard.NodeAddr(address), k, t.o.Self())
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w: %w", address, ErrUnreachable, err)
	}
	return conn, nil
}

// Serve says who takes connections for consensus traffic that others open; nil
// turns them away. f runs on a goroutine of its own for each, and the connection
// is closed when it returns.
func (t *Transport) Serve(f func(conn net.Conn, snapshot bool)) {
	if f == nil {
		t.raft.Store(nil)
		return
	}
	t.raft.Store(&f)
}
