package sqlfront

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/server"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/analyzer"
	"github.com/dolthub/go-mysql-server/sql/rowexec"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/sirupsen/logrus"

	"github.com/rowlockdb/rowlock/sqlfront/wire"
)

// Server is a SQL engine over one Coordinator and the listeners that clients
// reach it by. All methods may be called from any goroutine.
type Server struct {
	config    Config
	collation sql.CollationID
	catalog   *Catalog
	garbage   *garbageCollector
	// loadedPlain counts rows that LOAD DATA has made without the engine.
	loadedPlain atomic.Int64
	provider    *Provider
	engine      *sqle.Engine
	conns       *acceptor
	numbers     *connectionIDs
	claims      *claims
	protocol    *server.Server
	fast        *fastPath

	jobs       *jobRunner
	sessions   sync.WaitGroup // connections whose session is not over
	background sync.WaitGroup // rollbacks of ended sessions, garbage removal
	stop       context.CancelFunc

	replication atomic.Uint64 // what ShowReplication showed last, plus one

	pushdowns pushdowns

	accepting chan struct{} // closed when the protocol server has returned
	stopping  atomic.Bool   // Close was called
}

// startTimeout bounds how long New waits for the store.
const startTimeout = time.Minute

// New loads the catalog (creating an empty one in a new store), starts the
// background work of schema changes and returns a server that does not listen
// yet.
func New(c Config) (*Server, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	s := &Server{config: c, conns: newAcceptor(), numbers: newConnectionIDs(c.Node), claims: newClaims(), accepting: make(chan struct{})}
	var err error
	if s.collation, err = sql.ParseCollation("", c.Collation, false); err != nil {
		return nil, fmt.Errorf("sqlfront: %w", err)
	}
	if err := wire.Variables(); err != nil {
		return nil, fmt.Errorf("sqlfront: system variables: %w", err)
	}
	if err := setDefaults(c); err != nil {
		return nil, fmt.Errorf("sqlfront: system variables: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if s.catalog, err = openCatalog(ctx, c.Coordinator, c.Announce); err != nil {
		return nil, err
	}
	if c.Peers != nil && c.Announce == nil {
		s.catalog.follower.told = s.tellPeers
	}
	if err := s.applyPersisted(ctx); err != nil {
		return nil, err
	}
	s.garbage = newGarbageCollector(s)
	if err := s.garbage.adopt(ctx); err != nil {
		return nil, fmt.Errorf("sqlfront: %w", err)
	}
	s.provider = newProvider(s)
	s.engine = s.newEngine()
	s.fast = newFastPath(s)
	s.fillInnodbTrx()
	s.fillProcesslist()
	if err := s.startProtocol(ctx); err != nil {
		return nil, err
	}
	if c.Peers != nil {
		c.Peers.Handle(PeerService, s.answerPeer)
		s.learnClaims(ctx)
	}
	s.jobs = newJobRunner(s)
	s.catalog.follower.buried = s.garbage.orphaned
	s.catalog.follower.setSettings(s.catalog.follower.settingsKnown(), s.applySettings)
	work, stop := context.WithCancel(context.Background())
	s.stop = stop
	if c.Peers != nil {
		s.background.Go(func() { s.tendClaims(work) })
	}
	s.background.Go(func() { s.garbage.run(work) })
	s.background.Go(func() { s.jobs.run(work) })
	s.background.Go(func() {
		s.catalog.stats.run(work, func(table string, err error) {
			c.Logger.Debug("rows could not be counted", "table", table, "error", err)
		})
	})
	s.background.Go(func() {
		s.catalog.follower.run(work, func(what string, err error) { c.Logger.Warn(what, "error", err) })
	})
	return s, nil
}

// setDefaults sets the variables that the configuration decides. The engine
// keeps them per process, so the last server to start decides.
func setDefaults(c Config) error {
	return sql.SystemVariables.AssignValues(map[string]any{
		"version": c.Version, "collation_server": c.Collation, "collation_database": c.Collation,
		"collation_connection": c.Collation,
	})
}

// making is held while an engine is made: that sets variables of the process, and
// several nodes may be opened in one.
var making sync.Mutex

// newEngine assembles the engine with everything this package replaces in it.
func (s *Server) newEngine() *sqle.Engine {
	overrides := sql.EngineOverrides{
		Builder:                         sql.BuilderOverrides{Parser: wire.NewParser()},
		CostedIndexScanExpressionFilter: indexConditions{},
	}
	a := analyzer.NewBuilder(s.provider).AddOverrides(overrides).Build()
	making.Lock()
	engine := sqle.New(a, nil)
	making.Unlock()
	first := &execBuilder{plain: &execBuilder{}}
	for _, b := range []*execBuilder{first, first.plain} {
		b.base = rowexec.NewBuilder(b, a.Overrides)
		b.base.Runner = engine
	}
	a.ExecBuilder = first.base
	a.Runner = bodyRunner{engine}
	a.Catalog.StatsProvider = newHistograms(s.catalog)
	return engine
}

// startProtocol loads the users and starts to accept from the listeners that
// Listen, Serve and Dial will feed.
func (s *Server) startProtocol(ctx context.Context) error {
	// The engine logs every connection and failed statement through a global
	// logger; the numbers of this server are in rowlock.metrics.
	logrus.SetLevel(logrus.ErrorLevel)
	logrus.SetOutput(engineLog{s.config.Logger})
	logrus.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true, DisableColors: true})
	if !s.config.NoAuthentication {
		if err := (grantStore{s.catalog}).load(ctx, s.engine.Analyzer.Catalog.MySQLDb); err != nil {
			return err
		}
	}
	config := server.Config{
		Protocol: "tcp", Address: "127.0.0.1:0", Version: s.config.Version, TLSConfig: s.config.TLS,
		Listener: counted{wire.NewListener(s.conns, wire.ListenerOptions{MaxConnections: int(s.config.MaxConnections)}), &s.sessions},
	}
	var err error
	s.protocol, err = server.NewServerWithHandler(config, s.engine, sql.NewContext, s.session, nil,
		func(h mysql.Handler) (mysql.Handler, error) {
			return wire.NewHandler(h, wire.HandlerOptions{Session: s.sessionOf, Stopping: s.stopping.Load, Logger: s.config.Logger, RequireSecureTransport: s.requiresTLS,
				NumberConnection: s.numbers.take, FreeNumber: s.connectionOver, Fast: s.fast}), nil
		})
	if err != nil {
		return fmt.Errorf("sqlfront: start the protocol server: %w", err)
	}
	go func() {
		defer close(s.accepting)
		s.protocol.Listener.Accept()
	}()
	return nil
}

// requiresTLS tells whether connections over the network must be encrypted.
func (s *Server) requiresTLS() bool {
	_, on, _ := sql.SystemVariables.GetGlobal(requireTLS)
	return s.config.RequireTLS || s.config.TLS != nil && on == int8(1)
}

// connectionOver is called when the session of a connection has ended.
func (s *Server) connectionOver(number uint32) {
	s.numbers.free(number)
	s.sessions.Done()
}

// session implements server.SessionBuilder.
func (s *Server) session(ctx context.Context, c *mysql.Conn, address string) (sql.Session, error) {
	base, err := sql.BaseSessionFromConnection(ctx, c, address)
	if err != nil {
		return nil, err
	}
	session := newSession(base, s)
	c.ClientData = session
	return session, nil
}

// sessionOf is the session of a connection, nil before it has one.
func (s *Server) sessionOf(c *mysql.Conn) sql.Session {
	if session, ok := c.ClientData.(*Session); ok {
		return session
	}
	return nil
}

// Listen binds a TCP address and serves it in the background. The returned
// address carries the port that was chosen for ":0".
func (s *Server) Listen(addr string) (net.Addr, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("sqlfront: listen on %s: %w", addr, err)
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		sql.SystemVariables.AssignValues(map[string]any{"port": int64(tcp.Port)})
	}
	go func() {
		if err := s.Serve(l); err != nil {
			s.config.Logger.Error("listener stopped", "address", l.Addr().String(), "error", err)
		}
	}()
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
	s.stopping.Store(true)
	s.conns.Close()
	s.protocol.Close()
	// Statements first: one that waits for a lock must not get it from a
	// connection that is closed before its own.
	for _, p := range s.engine.ProcessList.Processes() {
		s.engine.ProcessList.Kill(p.Connection)
	}
	s.conns.closeConnections()
	s.stop()
	s.dropAllClaims()
	done := make(chan struct{})
	go func() {
		<-s.accepting
		s.sessions.Wait()
		s.background.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("sqlfront: close: %w", ctx.Err())
	}
	s.engine.Close()
	s.catalog.follower.end()
	if err := s.catalog.follower.leave(ctx); err != nil {
		s.config.Logger.Warn("other gateways will wait for this one once", "error", err)
	}
	err := s.catalog.auto.flush(ctx, s.catalog.counted())
	if err != nil {
		return fmt.Errorf("sqlfront: close: %w", err)
	}
	return nil
}

// HangUp stops listening and cuts every connection, without an answer to what is
// under way: of a node that cannot store anything, none is true. Close may be
// left out after it.
func (s *Server) HangUp() {
	s.conns.Close()
	s.conns.closeConnections()
}

// Poke says that another gateway has changed the schema, users or variables
// (Config.Announce there). It returns at once; without it the change is noticed
// a little later.
func (s *Server) Poke() { s.catalog.follower.wake() }

// engineLog carries what the engine says into this server's log.
type engineLog struct{ to *slog.Logger }

func (l engineLog) Write(line []byte) (int, error) {
	l.to.Warn("engine", "said", strings.TrimSpace(string(line)))
	return len(line), nil
}
