package sqlfront

import (
	"context"
	"errors"
	"net"
	"sync"
)

// acceptor joins any number of listeners into one net.Listener, so that one
// protocol server (one counter of connection ids, one process list) serves TCP
// clients and in-process clients alike.
type acceptor struct {
	conns  chan net.Conn
	closed chan struct{}
	mu     struct {
		sync.Mutex
		closed    bool
		listeners map[net.Listener]struct{}
		conns     map[*acceptedConn]struct{}
	}
}

func newAcceptor() *acceptor {
	a := &acceptor{conns: make(chan net.Conn), closed: make(chan struct{})}
	a.mu.listeners = map[net.Listener]struct{}{}
	a.mu.conns = map[*acceptedConn]struct{}{}
	return a
}

// feed accepts from l until one of them is closed.
func (a *acceptor) feed(l net.Listener) error {
	if !a.add(l) {
		l.Close()
		return ErrClosed
	}
	defer a.remove(l)
	for {
		c, err := l.Accept()
		if err != nil {
			if a.isClosed() || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		select {
		case a.conns <- c:
		case <-a.closed:
			c.Close()
			return nil
		}
	}
}

func (a *acceptor) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case a.conns <- loopbackConn{server}:
		return client, nil
	case <-a.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// loopbackConn is the server's end of an in-process connection. Accounts are
// matched by host, and this one is as local as can be.
type loopbackConn struct{ net.Conn }

var loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}

// RemoteAddr implements net.Conn.
func (loopbackConn) RemoteAddr() net.Addr { return loopback }

// LocalAddr implements net.Conn.
func (loopbackConn) LocalAddr() net.Addr { return loopback }

func (a *acceptor) add(l net.Listener) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.closed {
		return false
	}
	a.mu.listeners[l] = struct{}{}
	return true
}

func (a *acceptor) remove(l net.Listener) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.mu.listeners, l)
}

func (a *acceptor) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.closed
}

// Accept implements net.Listener.
func (a *acceptor) Accept() (net.Conn, error) {
	select {
	case c := <-a.conns:
		return a.track(c)
	case <-a.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: it closes every listener that feeds it.
func (a *acceptor) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.closed {
		return nil
	}
	a.mu.closed = true
	close(a.closed)
	for l := range a.mu.listeners {
		l.Close()
	}
	return nil
}

// Addr implements net.Listener. It has no address of its own.
func (a *acceptor) Addr() net.Addr { return loopback }

// acceptedConn is a connection that Close of the server can find.
type acceptedConn struct {
	net.Conn
	from *acceptor
}

// Close implements net.Conn.
func (c *acceptedConn) Close() error {
	c.from.mu.Lock()
	delete(c.from.mu.conns, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}

// NetConn is the connection underneath, for those who need its descriptor.
func (c *acceptedConn) NetConn() net.Conn { return c.Conn }

// track lets closeConnections find a connection; one that comes after Close nobody
// would end any more.
// InProcess implements wire.InProcess.
func (c *acceptedConn) InProcess() bool {
	_, local := c.Conn.(loopbackConn)
	return local
}

func (a *acceptor) track(c net.Conn) (net.Conn, error) {
	tracked := &acceptedConn{Conn: c, from: a}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	a.mu.conns[tracked] = struct{}{}
	return tracked, nil
}

// closeConnections ends every client.
func (a *acceptor) closeConnections() {
	a.mu.Lock()
	var conns []*acceptedConn
	for c := range a.mu.conns {
		conns = append(conns, c)
	}
	a.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// counted counts what it hands out. The protocol server has ended its own count of a
// connection before it ends the session.
type counted struct {
	net.Listener
	open *sync.WaitGroup
}

// Accept implements net.Listener.
func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.open.Add(1)
	}
	return c, err
}
