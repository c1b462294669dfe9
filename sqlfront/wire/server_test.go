package wire

import (
	"context"
	dsql "database/sql"
	"net"
	"strings"
	"sync"
	"testing"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/analyzer"
	"github.com/dolthub/vitess/go/mysql"
	driver "github.com/go-sql-driver/mysql"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

// testServer is the engine over its in-memory tables, with everything of this package around it.
type testServer struct {
	addr string
	db   *dsql.DB
}

type provider struct {
	*memory.DbProvider
	functions map[string]sql.Function
}

func (p provider) Function(ctx *sql.Context, schema, name string) (sql.Function, bool) {
	f, ok := p.functions[strings.ToLower(name)]
	return f, ok
}

func startServer(t *testing.T, o ListenerOptions, wrap func(mysql.Handler) mysql.Handler, change ...func(*server.Config, *HandlerOptions)) *testServer {
	logrus.SetLevel(logrus.PanicLevel)
	require.NoError(t, Variables())
	p := provider{memory.NewDBProvider(memory.NewDatabase("test")), map[string]sql.Function{}}
	for _, f := range Functions() {
		p.functions[f.FunctionName()] = f
	}
	overrides := sql.EngineOverrides{Builder: sql.BuilderOverrides{Parser: NewParser()}}
	engine := sqle.New(analyzer.NewBuilder(p).AddOverrides(overrides).Build(), nil)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var sessions sync.Map
	build := memory.NewSessionBuilder(p.DbProvider)
	builder := func(ctx context.Context, c *mysql.Conn, addr string) (sql.Session, error) {
		s, err := build(ctx, c, addr)
		sessions.Store(c, s)
		return s, err
	}
	config := server.Config{Listener: NewListener(tcp, o), Protocol: "tcp", Address: tcp.Addr().String(), Version: Version}
	options := HandlerOptions{Session: func(c *mysql.Conn) sql.Session {
		s, _ := sessions.Load(c)
		session, _ := s.(sql.Session)
		return session
	}}
	for _, f := range change {
		f(&config, &options)
	}
	s, err := server.NewServerWithHandler(config, engine, sql.NewContext, builder, nil, func(h mysql.Handler) (mysql.Handler, error) {
		if wrap != nil {
			h = wrap(h)
		}
		return NewHandler(h, options), nil
	})
	require.NoError(t, err)
	go func() { _ = s.Start() }()
	t.Cleanup(func() { _ = s.Close() })
	ts := &testServer{addr: tcp.Addr().String()}
	ts.db = ts.open(t, "multiStatements=true")
	return ts
}

func (s *testServer) open(t *testing.T, options string) *dsql.DB {
	db, err := dsql.Open("mysql", "root@tcp("+s.addr+")/test?"+options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// drain runs a query to its end.
func drain(c *dsql.Conn, query string, args ...any) (rows int, err error) {
	r, err := c.QueryContext(context.Background(), query, args...)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for r.Next() {
		rows++
	}
	return rows, r.Err()
}

func number(err error) (int, string, string) {
	if e, ok := err.(*driver.MySQLError); ok {
		return int(e.Number), string(e.SQLState[:]), e.Message
	}
	if err != nil {
		return -1, "", err.Error()
	}
	return 0, "", ""
}
