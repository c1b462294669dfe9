package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"

	"github.com/rowlockdb/rowlock/shard/transport"
	"github.com/rowlockdb/rowlock/shard/transport/transporttest"
)

// certificates are those of a node, in a folder and in memory.
type certificates struct {
	dir   string
	cert  tls.Certificate
	roots *x509.CertPool
}

// newCertificates writes them to dir, or returns nil if none are wanted.
func newCertificates(dir string, wanted bool) (*certificates, error) {
	if !wanted {
		return nil, nil
	}
	authority, err := transporttest.NewAuthority()
	if err != nil {
		return nil, err
	}
	if err := authority.Write(dir, transporttest.Node()); err != nil {
		return nil, err
	}
	c := &certificates{dir: dir, roots: x509.NewCertPool()}
	ca, err := os.ReadFile(filepath.Join(dir, transport.CAFile))
	if err != nil {
		return nil, err
	}
	c.roots.AppendCertsFromPEM(ca)
	c.cert, err = tls.LoadX509KeyPair(filepath.Join(dir, transport.CertFile), filepath.Join(dir, transport.KeyFile))
	return c, err
}

// server and client are what drpc gets; both sides prove who they are.
func (c *certificates) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.roots,
	}
}

func (c *certificates) client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.cert},
		RootCAs: c.roots, ServerName: "127.0.0.1",
	}
}
