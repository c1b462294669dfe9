package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// stack is everything below the SQL server on an in-memory log and file system,
// and the server itself. stop and start keep the data, as a restart does.
type stack struct {
	t       testing.TB
	network *memory.Network
	fs      *vfs.MemFS
	logger  *slog.Logger
	config  Config
	over    func(txn.Router) txn.Router // what the coordinator sees of the node's router; nil: itself
	chunk   int                         // size of staged chunks, 0: the default

	engine      *storage.Engine
	host        paxos.Host
	node        *shard.Node
	coordinator *txn.Coordinator
	server      *Server
}

func newStack(t testing.TB, config Config) *stack { return newStackOver(t, config, nil) }

// newStackOver lets a test stand between the transactions and the shards.
func newStackOver(t testing.TB, config Config, over func(txn.Router) txn.Router) *stack {
	return newStackWith(t, config, over, 0)
}

func newStackWith(t testing.TB, config Config, over func(txn.Router) txn.Router, chunk int) *stack {
	s := &stack{t: t, over: over, chunk: chunk, network: memory.NewNetwork(1), fs: vfs.NewMem(), logger: slog.New(slog.DiscardHandler), config: config}
	if os.Getenv("ROWLOCK_TEST_LOG") != "" {
		s.logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *stack) start() {
	var err error
	s.engine, err = storage.Open(storage.Options{Dir: "data", FS: s.fs, Logger: s.logger})
	require.NoError(s.t, err)
	s.host = s.network.Host("n1")
	s.node, err = shard.Open(context.Background(), shard.Config{
		Reducer: func(program []byte) (shard.Reduction, error) { return Reduce(program) },
		Filters: func(program []byte) (shard.RowFilter, error) { return Filter(program) },
		NodeID:  1, Engine: s.engine, Host: s.host, Shards: 3, Logger: s.logger})
	require.NoError(s.t, err)
	var router txn.Router = s.node.Router()
	if s.over != nil {
		router = s.over(router)
	}
	s.coordinator = txn.New(txn.Config{Router: router, Gateway: s.node.Gateway(), Logger: s.logger, ChunkBytes: s.chunk})
	config := s.config
	config.Coordinator, config.Logger = s.coordinator, s.logger
	s.server, err = New(config)
	require.NoError(s.t, err)
}

func (s *stack) stop() {
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(s.t, s.server.Close(ctx))
	s.stopNode(ctx)
}

// crash stops the node without the server's good-bye: nothing that Close would
// write is written. What runs has ended before, because the process goes on.
func (s *stack) crash() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s.server.stop()
	s.server.conns.Close()
	s.server.conns.closeConnections()
	<-s.server.accepting
	s.server.protocol.SessionManager().WaitForClosedConnections()
	s.server.background.Wait()
	s.stopNode(ctx)
}

func (s *stack) stopNode(ctx context.Context) {
	require.NoError(s.t, s.coordinator.Close(ctx))
	require.NoError(s.t, s.node.Close(ctx))
	require.NoError(s.t, s.host.Close())
	require.NoError(s.t, s.engine.Close())
	s.server = nil
}

// db opens a pool over the in-process listener.
func (s *stack) db(database string, params string) *sql.DB {
	return dialed(s.t, s.server, "root", database, params)
}

// dialed opens a pool of connections to a server.
func dialed(t testing.TB, server *Server, user, database, params string) *sql.DB {
	name := fmt.Sprintf("stack%p", server)
	mysql.RegisterDialContext(name, func(ctx context.Context, _ string) (net.Conn, error) { return server.Dial(ctx) })
	db, err := sql.Open("mysql", fmt.Sprintf("%s@%s(node)/%s?%s", user, name, database, params))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, statements ...string) {
	t.Helper()
	for _, q := range statements {
		_, err := db.ExecContext(context.Background(), q)
		require.NoError(t, err, q)
	}
}

type queryer interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

// query returns the rows as text, columns joined by commas.
func query(t testing.TB, db queryer, q string, args ...any) []string {
	t.Helper()
	out, err := tryQuery(db, q, args...)
	require.NoError(t, err, q)
	return out
}

func tryQuery(db queryer, q string, args ...any) ([]string, error) {
	rows, err := db.QueryContext(context.Background(), q, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	out := []string{}
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		targets := make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		line := ""
		for i, v := range values {
			if i > 0 {
				line += ","
			}
			if !v.Valid {
				v.String = "NULL"
			}
			line += v.String
		}
		out = append(out, line)
	}
	return out, rows.Err()
}
