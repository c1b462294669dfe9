package main

import (
	"context"
	"crypto/tls"
	"net"

	"storj.io/drpc"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcmux"
	"storj.io/drpc/drpcpool"
	"storj.io/drpc/drpcserver"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
)

// openOwn starts two nodes of the transport.
func openOwn(c *certificates) (system, error) {
	listen := func(node uint64) (*transport.Transport, error) {
		o := transport.Options{
			Listen:  "127.0.0.1:0",
			Self:    func() transport.Identity { return transport.Identity{Cluster: [16]byte{1}, Node: node} },
			Handler: func(_ context.Context, request []byte) []byte { return request },
		}
		if c != nil {
			o.TLS = &transport.TLS{Dir: c.dir}
		}
		return transport.Listen(o)
	}
	a, err := listen(1)
	if err != nil {
		return system{}, err
	}
	b, err := listen(2)
	if err != nil {
		a.Close()
		return system{}, err
	}
	to := shard.NodeAddr(b.Addr())
	return system{
		name: "own",
		call: func(ctx context.Context, request []byte) ([]byte, error) { return a.Call(ctx, to, request) },
		close: func() {
			a.Close()
			b.Close()
		},
	}, nil
}

// bytesMessage goes through drpc as it is, as encoded requests would.
type bytesMessage struct{ b []byte }

type bytesEncoding struct{}

func (bytesEncoding) Marshal(m drpc.Message) ([]byte, error) { return m.(*bytesMessage).b, nil }

func (bytesEncoding) Unmarshal(b []byte, m drpc.Message) error {
	m.(*bytesMessage).b = append([]byte(nil), b...) // b is the connection's
	return nil
}

type echoServer struct{}

func (echoServer) Echo(_ context.Context, in *bytesMessage) (*bytesMessage, error) { return in, nil }

type echoDescription struct{}

const echoName = "/echo/Echo"

func (echoDescription) NumMethods() int { return 1 }

func (echoDescription) Method(int) (string, drpc.Encoding, drpc.Receiver, any, bool) {
	return echoName, bytesEncoding{}, func(server any, ctx context.Context, in, _ any) (drpc.Message, error) {
		return server.(echoServer).Echo(ctx, in.(*bytesMessage))
	}, echoServer.Echo, true
}

// openDRPC starts a server of drpc and its own pool of connections: one carries
// one call at a time.
func openDRPC(c *certificates) (system, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return system{}, err
	}
	address := l.Addr().String()
	if c != nil {
		l = tls.NewListener(l, c.server())
	}
	mux := drpcmux.New()
	if err := mux.Register(echoServer{}, echoDescription{}); err != nil {
		return system{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		drpcserver.New(mux).Serve(ctx, l)
	}()
	pool := drpcpool.New[string, drpcpool.Conn](drpcpool.Options{})
	dial := func(ctx context.Context, address string) (drpcpool.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		if c != nil {
			conn = tls.Client(conn, c.client())
		}
		return drpcconn.New(conn), nil
	}
	conn := pool.Get(ctx, address, dial)
	return system{
		name: "drpc",
		call: func(ctx context.Context, request []byte) ([]byte, error) {
			var out bytesMessage
			err := conn.Invoke(ctx, echoName, bytesEncoding{}, &bytesMessage{request}, &out)
			return out.b, err
		},
		close: func() {
			pool.Close()
			cancel()
			<-served
		},
	}, nil
}
