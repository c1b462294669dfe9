package wire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	dsql "database/sql"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dolthub/go-mysql-server/server"
	"github.com/dolthub/vitess/go/mysql"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

func TestMaxExecutionTime(t *testing.T) {
	s := startServer(t, ListenerOptions{}, nil)
	c, err := s.db.Conn(context.Background())
	require.NoError(t, err)
	defer c.Close()
	_, err = drain(c, "SET max_execution_time = 2000")
	require.NoError(t, err)
	for query, want := range map[string]int{
		"SELECT SLEEP(30)": 3024,
		"/* c */ WITH x AS (SELECT 1) SELECT SLEEP(30)":       3024,
		"SELECT /*+ MAX_EXECUTION_TIME(20) */ SLEEP(30)":      3024,
		"SELECT /*+ MAX_EXECUTION_TIME(100000) */ SLEEP(0.1)": 0,
		"SELECT 1":            0,
		"DO SLEEP(0)":         1064,
		"SET @x = SLEEP(0.1)": 0,
	} {
		_, err := drain(c, query)
		num, _, message := number(err)
		require.Equal(t, want, num, "%s: %s", query, message)
	}
}

func TestKillIsAnInterruption(t *testing.T) {
	s := startServer(t, ListenerOptions{}, nil)
	num, state := killed(t, s)
	require.Equal(t, 1317, num)
	require.Equal(t, "70100", state)
}

// A client whose statement a stop interrupted is told so: it goes to another server.
func TestStopIsNoInterruption(t *testing.T) {
	var stopping atomic.Bool
	s := startServer(t, ListenerOptions{}, nil, func(_ *server.Config, o *HandlerOptions) { o.Stopping = stopping.Load })
	stopping.Store(true)
	num, state := killed(t, s)
	require.Equal(t, 1053, num)
	require.Equal(t, "08S01", state)
}

// killed is the error of a statement that KILL QUERY ended.
func killed(t *testing.T, s *testServer) (num int, state string) {
	ctx := context.Background()
	c, err := s.db.Conn(ctx)
	require.NoError(t, err)
	defer c.Close()
	id, err := scalar(t, c, "SELECT CONNECTION_ID()")
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		_, err := drain(c, "SELECT SLEEP(60)")
		done <- err
	}()
	// KILL of a connection that runs nothing yet does nothing: repeat it until the statement is there.
	for {
		_, err = s.db.ExecContext(ctx, "KILL QUERY "+id)
		require.NoError(t, err)
		select {
		case err := <-done:
			num, state, _ = number(err)
			return num, state
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var unknownID = storage.TxnID{Start: 0xabc, Gateway: 1, Seq: 7}

// failing answers one statement with an unknown outcome.
type failing struct{ mysql.Handler }

func (f failing) ComMultiQuery(ctx context.Context, c *mysql.Conn, query string, callback mysql.ResultSpoolFn) (string, error) {
	if query == "COMMIT" {
		return "", &txn.Error{Code: txn.Unknown, Txn: unknownID}
	}
	return f.Handler.ComMultiQuery(ctx, c, query, callback)
}

func TestExplainCanBeRead(t *testing.T) {
	s := startServer(t, ListenerOptions{}, nil)
	for _, query := range []string{
		"EXPLAIN SELECT 1 + 1", "explain /* c */ SELECT 1 + 1", "DESC WITH c AS (SELECT 1) SELECT 2",
		"EXPLAIN FORMAT=TREE SELECT 1 + 1", "EXPLAIN ANALYZE SELECT 'a', NOW(), 1",
	} {
		prepared, err := s.db.PrepareContext(context.Background(), query)
		require.NoError(t, err, query)
		defer prepared.Close()
		for _, ask := range []func() (*dsql.Rows, error){
			func() (*dsql.Rows, error) { return s.db.QueryContext(context.Background(), query) },
			func() (*dsql.Rows, error) { return prepared.QueryContext(context.Background()) },
		} {
			rows, err := ask()
			require.NoError(t, err, query)
			var plan string
			for rows.Next() {
				var line string
				require.NoError(t, rows.Scan(&line), query)
				plan += line
			}
			require.NoError(t, rows.Err(), query)
			require.NoError(t, rows.Close())
			require.Contains(t, plan, "Project", query)
		}
	}
}

// panicking panics in one statement, and answers as the engine does after a panic in a goroutine of its own in another.
type panicking struct{ mysql.Handler }

func (p panicking) ComMultiQuery(ctx context.Context, c *mysql.Conn, query string, callback mysql.ResultSpoolFn) (string, error) {
	switch query {
	case "SELECT 'panic'":
		panic("broken")
	case "SELECT 'goroutine'":
		return "", errors.New("panic recovered: broken\ngoroutine 1 [running]: ...")
	}
	return p.Handler.ComMultiQuery(ctx, c, query, callback)
}

func (p panicking) ComPrepare(context.Context, *mysql.Conn, string, *mysql.PrepareData) ([]*querypb.Field, error) {
	panic("broken")
}

func TestPanicEndsTheConnection(t *testing.T) {
	s := startServer(t, ListenerOptions{}, func(h mysql.Handler) mysql.Handler { return panicking{h} })
	ctx := context.Background()
	for _, statement := range []func(c *dsql.Conn) error{
		func(c *dsql.Conn) error { _, err := c.ExecContext(ctx, "SELECT 'panic'"); return err },
		func(c *dsql.Conn) error { _, err := c.ExecContext(ctx, "SELECT 'goroutine'"); return err },
		func(c *dsql.Conn) error { _, err := c.PrepareContext(ctx, "SELECT ?"); return err },
	} {
		c, err := s.db.Conn(ctx)
		require.NoError(t, err)
		num, _, message := number(statement(c))
		require.Equal(t, 1815, num, message)
		require.NotContains(t, message, "broken")
		_, err = c.ExecContext(ctx, "SELECT 1")
		require.Error(t, err)
		c.Close()
		require.NoError(t, s.db.PingContext(ctx), "the server goes on")
	}
}

func TestUnknownOutcomeEndsTheConnection(t *testing.T) {
	s := startServer(t, ListenerOptions{}, func(h mysql.Handler) mysql.Handler { return failing{h} })
	ctx := context.Background()
	c, err := s.db.Conn(ctx)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.ExecContext(ctx, "COMMIT")
	num, _, message := number(err)
	require.Equal(t, 1180, num, "%v", err)
	require.Contains(t, message, unknownID.String(), "the client's only handle")
	_, err = drain(c, "SELECT 1")
	require.Error(t, err, "nothing more may run on this connection")
	num, _, _ = number(err)
	require.Equal(t, -1, num, "the connection is gone, no error packet: %v", err)
}

func TestForShareInPreparedStatements(t *testing.T) {
	s := startServer(t, ListenerOptions{}, nil)
	ctx := context.Background()
	c, err := s.db.Conn(ctx)
	require.NoError(t, err)
	defer c.Close()
	// The in-memory engine has no AS OF, which shows that the marker got to the table.
	_, err = drain(c, "CREATE TABLE t (id INT PRIMARY KEY)")
	require.NoError(t, err)
	for _, query := range []string{"SELECT * FROM t WHERE id = ? FOR SHARE", "SELECT * FROM t WHERE id = ? FOR SHARE OF t SKIP LOCKED", "SELECT * FROM t WHERE id = ? FOR UPDATE"} {
		_, err = c.PrepareContext(ctx, query)
		require.ErrorContains(t, err, "AS OF not supported", query)
	}
	long := "SELECT '" + strings.Repeat("x", 100000) + "' FROM dual WHERE 1 = ? FOR SHARE"
	p, err := c.PrepareContext(ctx, long)
	require.NoError(t, err)
	var got string
	require.NoError(t, p.QueryRowContext(ctx, 1).Scan(&got))
	require.Len(t, got, 100000)
	_, err = c.PrepareContext(ctx, "SELEC ?")
	num, state, _ := number(err)
	require.Equal(t, 1064, num)
	require.Equal(t, "42000", state)
	_, err = drain(c, "SELECT ?", 1)
	require.NoError(t, err)
}

func TestPacketLimit(t *testing.T) {
	s := startServer(t, ListenerOptions{MaxPacket: func() int { return 1 << 20 }}, nil)
	c, err := s.db.Conn(context.Background())
	require.NoError(t, err)
	defer c.Close()
	_, err = scalar(t, c, "SELECT LENGTH('"+strings.Repeat("x", 1<<20-1000)+"')")
	require.NoError(t, err)
	_, err = drain(c, "SELECT '"+strings.Repeat("x", 1<<20)+"'")
	require.Error(t, err)
	_, err = drain(c, "SELECT 1")
	require.Error(t, err, "the connection is gone")
	require.NoError(t, s.db.Ping(), "others go on")
}

func TestSeveralFragmentsMakeOneCommand(t *testing.T) {
	s := startServer(t, ListenerOptions{MaxPacket: func() int { return 20 << 20 }}, nil)
	db := s.open(t, "maxAllowedPacket=0")
	c, err := db.Conn(context.Background())
	require.NoError(t, err)
	defer c.Close()
	got, err := scalar(t, c, "SELECT LENGTH('"+strings.Repeat("x", 17<<20)+"')")
	require.NoError(t, err)
	require.Equal(t, "17825792", got)
	_, err = drain(c, "SELECT LENGTH('"+strings.Repeat("x", 21<<20)+"')")
	require.Error(t, err)
}

func TestTooManyConnections(t *testing.T) {
	s := startServer(t, ListenerOptions{MaxConnections: 1}, nil)
	c, err := s.db.Conn(context.Background())
	require.NoError(t, err)
	err = s.open(t, "").Ping()
	num, _, _ := number(err)
	require.Equal(t, 1040, num, "%v", err)
	require.NoError(t, c.Close())
}

func TestHandshake(t *testing.T) {
	read := func(c net.Conn) {
		head := make([]byte, 4)
		_, err := io.ReadFull(c, head)
		require.NoError(t, err)
		_, err = io.CopyN(io.Discard, c, int64(binary.LittleEndian.Uint32(head)&0xFFFFFF))
		require.NoError(t, err)
	}
	t.Run("a client that says nothing is dropped", func(t *testing.T) {
		s := startServer(t, ListenerOptions{ConnectTimeout: 50 * time.Millisecond}, nil)
		c, err := net.Dial("tcp", s.addr)
		require.NoError(t, err)
		defer c.Close()
		_, err = io.Copy(io.Discard, c) // the greeting, unless the machine is too slow for it
		require.NoError(t, err)
	})
	t.Run("a client that says too much is dropped", func(t *testing.T) {
		s := startServer(t, ListenerOptions{ConnectTimeout: time.Hour}, nil)
		c, err := net.Dial("tcp", s.addr)
		require.NoError(t, err)
		defer c.Close()
		read(c)
		_, err = c.Write([]byte{0, 0, 0x10, 1})
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		require.Error(t, err)
	})
	t.Run("the deadline ends with the handshake", func(t *testing.T) {
		s := startServer(t, ListenerOptions{ConnectTimeout: 500 * time.Millisecond}, nil)
		c := patientConn(t, s.open(t, ""))
		got, err := scalar(t, c, "SELECT SLEEP(0.6)")
		require.NoError(t, err)
		require.Equal(t, "0", got)
	})
}

// patientConn is a connection from a client that tries again where the machine is too
// busy to shake hands in time.
func patientConn(t *testing.T, db *dsql.DB) *dsql.Conn {
	t.Helper()
	began := time.Now()
	c, err := db.Conn(t.Context())
	for ; err != nil && time.Since(began) < time.Minute; c, err = db.Conn(t.Context()) {
	}
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	s := startServer(t, ListenerOptions{ConnectTimeout: 500 * time.Millisecond}, nil, func(c *server.Config, o *HandlerOptions) {
		c.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
		o.RequireSecureTransport = func() bool { return true }
	})
	c := patientConn(t, s.open(t, "tls=skip-verify"))
	got, err := scalar(t, c, "SELECT SLEEP(0.6) + LENGTH('"+strings.Repeat("x", 100000)+"')")
	require.NoError(t, err, "the handshake's deadline ended behind TLS too")
	require.Equal(t, "100000", got)
	_, err = c.PrepareContext(context.Background(), "SELECT 1 FROM dual WHERE 1 = ? FOR SHARE")
	require.ErrorContains(t, err, "syntax error", "behind TLS the clause is an error, never ignored")
	require.Error(t, s.db.Ping(), "without TLS nobody gets in")
}

// A stream of packets must come out as it went in, however the network cuts it.
func TestConnPassesPacketsThrough(t *testing.T) {
	packet := func(sequence byte, body string) string {
		n := len(body)
		return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), sequence}) + body
	}
	stream := packet(0, "\x03SELECT 1") + packet(0, "\x16SELECT 1 FOR SHARE") + packet(0, "") + packet(0, "\x16SELECT 2") + packet(1, "\x16FOR SHARE") + packet(0, "\x0e")
	want := packet(0, "\x03SELECT 1") + packet(0, "\x16SELECT 1 LOCK IN SHARE MODE") + packet(0, "") + packet(0, "\x16SELECT 2") + packet(1, "\x16FOR SHARE") + packet(0, "\x0e")
	for cut := 1; cut <= len(stream); cut++ {
		c := &conn{Conn: &pieces{data: stream, cut: cut}, maxPacket: func() int { return 1000 }, closed: func() {}}
		c.trusted.Store(true)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, want, string(got), "cut %d", cut)
	}
}

// pieces is a connection that delivers its data a few bytes at a time.
type pieces struct {
	net.Conn
	data string
	cut  int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.data == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.cut)], p.data)
	p.data = p.data[n:]
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error) { return len(b), nil }

func FuzzConn(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x00\x16for "), true, uint8(3))
	f.Add(append([]byte{32, 0, 0, 1, 0, 8}, make([]byte, 40)...), false, uint8(7))
	f.Fuzz(func(t *testing.T, data []byte, trusted bool, cut uint8) {
		c := &conn{Conn: &pieces{data: string(data), cut: int(cut) + 1}, maxPacket: func() int { return 1 << 16 }, closed: func() {}}
		c.trusted.Store(trusted)
		got, err := io.ReadAll(c)
		if err == nil && !mayHold(string(data), "SHARE") && len(got) > len(data) {
			t.Fatalf("%d bytes came out of %d", len(got), len(data))
		}
	})
}
