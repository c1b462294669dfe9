package transport_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
	"github.com/rowlockdb/rowlock/shard/transport/transporttest"
)

// authority makes folders of certificates.
type authority struct {
	*transporttest.Authority
	t *testing.T
}

func newAuthority(t *testing.T) *authority {
	a, err := transporttest.NewAuthority()
	require.NoError(t, err)
	return &authority{a, t}
}

func (a *authority) write(dir string, c *x509.Certificate) string {
	require.NoError(a.t, a.Write(dir, c))
	return dir
}

func (a *authority) dir(c *x509.Certificate) string { return a.write(a.t.TempDir(), c) }

func withTLS(dir string) func(*transport.Options) {
	return func(o *transport.Options) { o.TLS = &transport.TLS{Dir: dir} }
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	c := newCluster(t)
	a := c.listen(1, nil, withTLS(ca.dir(transporttest.Node())))
	b := c.listen(2, upper, withTLS(ca.dir(transporttest.Node())))
	response, err := a.Call(soon(t), "2", []byte("secret"))
	require.NoError(t, err)
	require.Equal(t, "SECRET", string(response))
	large := make([]byte, 5<<20)
	response, err = a.Call(soon(t), "2", large)
	require.NoError(t, err)
	require.Len(t, response, len(large))

	b.Serve(func(conn net.Conn, _ bool) {
		b := make([]byte, 4)
		conn.Read(b)
		conn.Write(b)
	})
	conn, err := a.Dial(soon(t), "2", true)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("abcd"))
	require.NoError(t, err)
	echoed := make([]byte, 4)
	_, err = conn.Read(echoed)
	require.NoError(t, err)
	require.Equal(t, "abcd", string(echoed))
}

// TestStrangeCertificates: who cannot prove to be a node of this cluster gets
// nothing, and learns that it is about the certificate.
func TestStrangeCertificates(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	client := transporttest.Node()
	client.Subject.CommonName = "alice"
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	elsewhere := transporttest.Node()
	elsewhere.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}
	expired := transporttest.Node()
	expired.NotAfter = time.Now().Add(-time.Hour)
	impostor := transporttest.Node()
	impostor.Subject.CommonName = "alice"

	good := withTLS(ca.dir(transporttest.Node()))
	plain := func(*transport.Options) {}
	for name, e := range map[string]struct{ caller, callee func(*transport.Options) }{
		"caller of another authority": {withTLS(foreign.dir(transporttest.Node())), good},
		"callee of another authority": {good, withTLS(foreign.dir(transporttest.Node()))},
		"caller without":              {plain, good},
		"callee without":              {good, plain},
		"callee at another address":   {good, withTLS(ca.dir(elsewhere))},
		"caller expired":              {withTLS(ca.dir(expired)), good},
		"callee expired":              {good, withTLS(ca.dir(expired))},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			a := c.listen(1, nil, e.caller)
			c.listen(2, echo, e.callee)
			_, err := a.Call(soon(t), "2", nil)
			require.ErrorIs(t, err, transport.ErrCertificate)
			require.ErrorIs(t, err, transport.ErrUnreachable)
			_, err = a.Dial(soon(t), "2", false)
			require.ErrorIs(t, err, transport.ErrCertificate)
		})
	}
	// A client's certificate opens no node, not even with a node's rights.
	for name, c := range map[string]*x509.Certificate{"a client's": client, "a client's with a node's use": impostor} {
		_, err := transport.Listen(transport.Options{Listen: "127.0.0.1:0", Self: is(clusterA, 1), TLS: &transport.TLS{Dir: ca.dir(c)}})
		require.ErrorIs(t, err, transport.ErrCertificate, name)
	}
}

// TestUsersAreNotNodes: a user's certificate of the right authority is turned
// away by the node that it calls, and is not taken for the node that was called.
func TestUsersAreNotNodes(t *testing.T) {
	ca := newAuthority(t)
	client := transporttest.Node()
	client.Subject.CommonName = "alice"
	pair, roots := loaded(t, ca.dir(client))
	c := newCluster(t)
	a := c.listen(1, echo, withTLS(ca.dir(transporttest.Node())))

	conn, err := tls.Dial("tcp", a.Addr(), &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: "127.0.0.1"})
	require.NoError(t, err, "with TLS 1.3 the side that calls learns it afterwards")
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "bad certificate")

	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	_, err = a.Call(soon(t), shard.NodeAddr(l.Addr().String()), nil)
	require.ErrorIs(t, err, transport.ErrCertificate)
}

// loaded reads a folder as a program of somebody else would.
func loaded(t *testing.T, dir string) (tls.Certificate, *x509.CertPool) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, transport.CertFile), filepath.Join(dir, transport.KeyFile))
	require.NoError(t, err)
	ca, err := os.ReadFile(filepath.Join(dir, transport.CAFile))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	return pair, roots
}

// TestNewCertificates: files are replaced while nodes run. New connections use
// them; files that are no good change nothing.
func TestNewCertificates(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	c := newCluster(t)
	dirs := []string{before.dir(transporttest.Node()), before.dir(transporttest.Node())}
	a := c.listen(1, nil, withTLS(dirs[0]))
	c.listen(2, echo, withTLS(dirs[1]))
	reaches(t, a, 2)
	require.NoError(t, os.WriteFile(filepath.Join(dirs[1], transport.CertFile), []byte("no certificate"), 0o600))
	a.Cut("2")
	a.Mend("2")
	reaches(t, a, 2)

	after.write(dirs[1], transporttest.Node())
	eventually(t, func() bool {
		a.Cut("2")
		a.Mend("2")
		_, err := a.Dial(soon(t), "2", false)
		return err != nil // the callee is of the new authority, the caller not yet
	})
	after.write(dirs[0], transporttest.Node())
	reaches(t, a, 2)
}

// TestTwoAuthorities: while an authority is replaced, nodes of both talk.
func TestTwoAuthorities(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	dirs := []string{before.dir(transporttest.Node()), after.dir(transporttest.Node())}
	var both []byte
	for _, dir := range dirs {
		ca, err := os.ReadFile(filepath.Join(dir, transport.CAFile))
		require.NoError(t, err)
		both = append(both, ca...)
	}
	c := newCluster(t)
	nodes := make([]*transport.Transport, len(dirs))
	for i, dir := range dirs {
		require.NoError(t, os.WriteFile(filepath.Join(dir, transport.CAFile), both, 0o600))
		nodes[i] = c.listen(uint64(i+1), echo, withTLS(dir))
	}
	_, err := nodes[0].Call(soon(t), "2", nil)
	require.NoError(t, err)
	_, err = nodes[1].Call(soon(t), "1", nil)
	require.NoError(t, err)
}
