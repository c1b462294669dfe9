package transport

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// The files of a folder with certificates, in PEM.
const (
	CAFile   = "ca.crt"
	CertFile = "node.crt"
	KeyFile  = "node.key"
)

// NodeName is the common name in the certificate of every node. What a node may
// do, a client that has a certificate of the same authority may not.
const NodeName = "rowlock node"

// TLS proves to other nodes that this one belongs to their cluster, and wants
// the same proof. The files may be replaced while the node runs: connections
// that begin afterwards use the new ones.
type TLS struct {
	// Dir holds ca.crt, node.crt and node.key.
	Dir string

	log *slog.Logger
	mu  struct {
		sync.Mutex
		stamp   string
		checked time.Time
		keys    *keys
	}
}

// keys is what the files say.
type keys struct {
	cert  tls.Certificate
	roots *x509.CertPool
}

// recheck is how long files are believed to be what they were.
const recheck = time.Second

// load reads the files and fails if they are no good.
func (c *TLS) load(log *slog.Logger) error {
	c.log = log
	_, err := c.current(time.Now())
	return err
}

// current returns what the files say. Once they were good, they are used until
// good ones replace them: a node in the middle of a renewal goes on.
func (c *TLS) current(now time.Time) (*keys, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.keys != nil && now.Sub(c.mu.checked) < recheck && !now.Before(c.mu.checked) {
		return c.mu.keys, nil
	}
	stamp, err := c.stamp()
	if err == nil && (c.mu.keys == nil || stamp != c.mu.stamp) {
		var k *keys
		if k, err = readKeys(c.Dir); err == nil {
			c.mu.keys, c.mu.stamp = k, stamp
		}
	}
	c.mu.checked = now
	if c.mu.keys == nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if err != nil {
		c.log.Error("new certificates are not usable, the old ones are used on", "error", err)
	}
	return c.mu.keys, nil
}

// stamp changes with the files.
func (c *TLS) stamp() (string, error) {
	var s string
	for _, name := range []string{CAFile, CertFile, KeyFile} {
		info, err := os.Stat(filepath.Join(c.Dir, name))
		if err != nil {
			return "", err
		}
		s += fmt.Sprintln(info.ModTime().UnixNano(), info.Size())
	}
	return s, nil
}

func readKeys(dir string) (*keys, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, err
	}
	k := &keys{cert: cert, roots: x509.NewCertPool()}
	if !k.roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(dir, CAFile))
	}
	leaf := cmp.Or(cert.Leaf, &x509.Certificate{})
	if err := isNode(leaf); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, CertFile), err)
	}
	return k, nil
}

// isNode tells a node's certificate from a client's.
func isNode(c *x509.Certificate) error {
	if c.Subject.CommonName != NodeName || !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return fmt.Errorf("%w: it is of %q and not of a node", ErrCertificate, c.Subject.CommonName)
	}
	return nil
}

// otherIsNode refuses clients' certificates on connections between nodes.
func otherIsNode(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return fmt.Errorf("%w: there is none", ErrCertificate)
	}
	if mutated("T1.users-as-nodes") {
		return nil
	}
	return isNode(s.PeerCertificates[0])
}

// client is the configuration of a connection to a host.
func (c *TLS) client(host string) *tls.Config {
	k, err := c.current(time.Now())
	if err != nil {
		k = &keys{roots: x509.NewCertPool()} // trusts nobody
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: host, RootCAs: k.roots,
		Certificates: []tls.Certificate{k.cert}, VerifyConnection: otherIsNode,
		DynamicRecordSizingDisabled: true,
	}
}

// server is the configuration of connections that others open.
func (c *TLS) server() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		k, err := c.current(time.Now())
		if err != nil {
			return nil, errors.Join(ErrCertificate, err)
		}
		return &tls.Config{
			MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: k.roots,
			Certificates: []tls.Certificate{k.cert}, VerifyConnection: otherIsNode,
			DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true,
		}, nil
	}}
}
