package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"
)

// certConfig is what the flags of the cert commands say.
type certConfig struct {
	dir   string
	caKey string
	days  int
	hosts []string
}

// nodeCommonName is the name in the certificate of every node, by which nodes
// tell each other from clients. It is no possible user name.
const nodeCommonName = "rowlock node"

// The days for which certificates are good, unless --days says otherwise.
const (
	caDays   = 3650
	leafDays = 365
)

func certCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cert",
		Short: "Make the certificates that nodes and clients prove themselves with",
		Long: `Make the certificates that nodes and clients prove themselves with.

Make the authority once, on a machine that you trust, and keep ca.key there. Then
make a certificate for each node and bring ca.crt, node.crt and node.key to the
folder that the node's --certs names. Files that exist are never overwritten.`,
	}
	c.AddCommand(createCACommand(), createNodeCommand(), createClientCommand())
	return c
}

func (o *certConfig) flags(c *cobra.Command, days int) {
	c.Flags().StringVar(&o.dir, "certs", "./certs", "folder of the certificates; made if it does not exist")
	c.Flags().IntVar(&o.days, "days", days, "how long the certificate is good")
	if c.Name() != "create-ca" {
		c.Flags().StringVar(&o.caKey, "ca-key", "", "the authority's key (default <certs>/ca.key)")
	}
}

func createCACommand() *cobra.Command {
	var o certConfig
	c := &cobra.Command{
		Use:   "create-ca",
		Short: "Make the authority that signs all other certificates",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return createCA(o, c.OutOrStdout()) },
	}
	o.flags(c, caDays)
	return c
}

func createNodeCommand() *cobra.Command {
	var o certConfig
	c := &cobra.Command{
		Use:   "create-node",
		Short: "Make the certificate of a node",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return createNode(o, c.OutOrStdout()) },
	}
	o.flags(c, leafDays)
	c.Flags().StringSliceVar(&o.hosts, "host", []string{"localhost", "127.0.0.1", "::1"},
		"names and IP addresses by which others reach the node")
	return c
}

func createClientCommand() *cobra.Command {
	var o certConfig
	c := &cobra.Command{
		Use:   "create-client USER",
		Short: "Make the certificate of a user",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("create-client needs one user")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return createClient(o, args[0], c.OutOrStdout()) },
	}
	o.flags(c, leafDays)
	return c
}

func createCA(o certConfig, out io.Writer) error {
	template, err := o.template(pkix.Name{CommonName: "rowlock certificate authority"})
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	crt, key := filepath.Join(o.dir, "ca.crt"), filepath.Join(o.dir, "ca.key")
	if err := issue(template, nil, crt, key); err != nil {
		return err
	}
	wrote(out, template, crt, key)
	fmt.Fprintln(out, "Who has ca.key can make nodes: keep it off the nodes.")
	return nil
}

func createNode(o certConfig, out io.Writer) error {
	if len(o.hosts) == 0 {
		return usagef("--host is empty: others must reach the node somewhere")
	}
	template, err := o.template(pkix.Name{CommonName: nodeCommonName})
	if err != nil {
		return err
	}
	for _, host := range o.hosts {
		switch ip := net.ParseIP(host); {
		case host == "":
			return usagef("--host has an empty name")
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		default:
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return o.sign(template, "node", out)
}

// userForm is what a user's certificate may be called: it is a file name too.
var userForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

func createClient(o certConfig, user string, out io.Writer) error {
	if !userForm.MatchString(user) {
		return usagef("%q cannot be a user with a certificate: letters, digits, '_', '.' and '-' can", user)
	}
	template, err := o.template(pkix.Name{CommonName: user})
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return o.sign(template, "client."+user, out)
}

// template is what all certificates have in common. Clocks may differ by an hour.
func (o *certConfig) template(name pkix.Name) (*x509.Certificate, error) {
	if o.days < 1 {
		return nil, usagef("--days is %d", o.days)
	}
	now := time.Now()
	return &x509.Certificate{Subject: name, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, o.days)}, nil
}

// sign issues a certificate signed by the authority.
func (o *certConfig) sign(template *x509.Certificate, name string, out io.Writer) error {
	caKey := o.caKey
	if caKey == "" {
		caKey = filepath.Join(o.dir, "ca.key")
	}
	ca, err := readAuthority(filepath.Join(o.dir, "ca.crt"), caKey)
	if err != nil {
		return err
	}
	if ca.cert.NotAfter.Before(template.NotAfter) {
		return usagef("the authority is good until %s only, less than --days says", ca.cert.NotAfter.Format(time.DateOnly))
	}
	crt, key := filepath.Join(o.dir, name+".crt"), filepath.Join(o.dir, name+".key")
	if err := issue(template, ca, crt, key); err != nil {
		return err
	}
	wrote(out, template, crt, key)
	return nil
}

func wrote(out io.Writer, template *x509.Certificate, crt, key string) {
	fmt.Fprintf(out, "wrote %s and %s, good until %s\n", crt, key, template.NotAfter.Format(time.DateOnly))
}
