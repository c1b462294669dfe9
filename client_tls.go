//go:build cgo || gms_pure_go

package rowlock

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/shard/transport"
)

// clientTLS is what MySQL clients that ask for TLS get, nil if there is no
// certificate: that of Options.TLSCert, else the node's own.
func (n *Node) clientTLS() (*tls.Config, error) {
	o := n.options
	if o.TLSCert == "" && o.Certificates == "" {
		return nil, nil
	}
	f := &certificateFiles{cert: o.TLSCert, key: o.TLSKey}
	if o.TLSCert == "" {
		f.cert, f.key = filepath.Join(o.Certificates, transport.CertFile), filepath.Join(o.Certificates, transport.KeyFile)
	}
	if _, err := f.get(nil); err != nil {
		return nil, fmt.Errorf("certificate for clients: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := f.get(h)
		if err != nil {
			n.log.Error("the certificate for clients is not usable, the old one is used on", "error", err)
		}
		return c, nil
	}}, nil
}

// certificateFiles is a certificate in files that may be replaced at any time.
type certificateFiles struct {
	cert, key string

	mu    sync.Mutex
	last  *tls.Certificate
	stamp [2]time.Time
}

// get reads the files if they have changed. It returns the last that was good, beside
// an error too.
func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var stamp [2]time.Time
	for i, path := range [...]string{f.cert, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return f.last, err
		}
		stamp[i] = info.ModTime()
	}
	if f.last != nil && stamp == f.stamp {
		return f.last, nil
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return f.last, err
	}
	f.last, f.stamp = &c, stamp
	return f.last, nil
}
