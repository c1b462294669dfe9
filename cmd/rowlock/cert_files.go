package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
)

// certAuthority signs certificates.
type certAuthority struct {
	cert *x509.Certificate
	key  any
}

// readAuthority reads an authority and its key, which must belong together.
func readAuthority(crt, key string) (*certAuthority, error) {
	pair, err := tls.LoadX509KeyPair(crt, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the authority: %w (make it with 'rowlock cert create-ca')", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	if !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not the certificate of an authority", crt)
	}
	return &certAuthority{pair.Leaf, pair.PrivateKey}, nil
}

// issue makes a key pair, has it signed, by itself if there is no authority,
// and writes it to two new files.
func issue(template *x509.Certificate, ca *certAuthority, crt, key string) error {
	for _, path := range []string{crt, key} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s exists; move it away first", path)
		}
	}
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return fmt.Errorf("make a serial number: %w", err)
	}
	parent, signer := template, any(pair)
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &pair.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		return fmt.Errorf("encode the key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(crt), 0o700); err != nil {
		return err
	}
	if err := writePEM(key, "PRIVATE KEY", secret); err != nil {
		return err
	}
	return writePEM(crt, "CERTIFICATE", der)
}

// writePEM writes a file that did not exist and that only its owner reads.
func writePEM(path, kind string, der []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
