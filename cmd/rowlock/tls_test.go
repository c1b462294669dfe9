package main

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// Clients get TLS with the node's certificate, may have to use it, and can be sure who
// they talk to.
func TestTLSForClients(t *testing.T) {
	t.Parallel()
	certs := filepath.Join(t.TempDir(), "certs")
	for _, args := range [][]string{{"create-ca"}, {"create-node", "--host", "127.0.0.1"}} {
		_, errs, code := run(t, "", append([]string{"cert"}, append(args, "--certs", certs)...)...)
		require.Zero(t, code, errs)
	}
	ca := filepath.Join(certs, "ca.crt")
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--certs", certs)

	text, err := os.ReadFile(ca)
	require.NoError(t, err)
	authority := x509.NewCertPool()
	require.True(t, authority.AppendCertsFromPEM(text))
	open := func(change func(*mysql.Config)) *sql.DB {
		config := mysql.NewConfig()
		config.Net, config.Addr, config.User = "tcp", "127.0.0.1:"+s.port, "root"
		config.Logger = &mysql.NopLogger{}
		change(config)
		connector, err := mysql.NewConnector(config)
		require.NoError(t, err)
		db := sql.OpenDB(connector)
		t.Cleanup(func() { db.Close() })
		return db
	}
	plain := open(func(*mysql.Config) {})
	sure := open(func(c *mysql.Config) { c.TLS = &tls.Config{RootCAs: authority, ServerName: "127.0.0.1"} })
	deceived := open(func(c *mysql.Config) { c.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"} })

	require.NoError(t, plain.Ping())
	_, err = sure.Exec("CREATE USER 'app'@'%' IDENTIFIED BY 'secret'")
	require.NoError(t, err)
	_, err = sure.Exec("GRANT ALL ON *.* TO 'app'@'%'")
	require.NoError(t, err)
	var sum int
	require.NoError(t, sure.QueryRow("SELECT ? + 1", 41).Scan(&sum), "prepared statements go through it")
	require.Equal(t, 42, sum)
	require.ErrorContains(t, deceived.Ping(), "certificate")

	_, err = sure.Exec("SET GLOBAL require_secure_transport = ON")
	require.NoError(t, err)
	var refused *mysql.MySQLError
	err = open(func(*mysql.Config) {}).Ping()
	require.True(t, errors.As(err, &refused), "%v", err)
	require.EqualValues(t, 3159, refused.Number)
	client := []string{"sql", "-P", s.port, "-u", "app", "-psecret", "-e", "SELECT 41 + 1"}
	out, errs, code := run(t, "", client...)
	require.Zero(t, code, errs)
	require.Contains(t, out, "42")
	out, errs, code = run(t, "", append(client, "--ssl-ca", ca)...)
	require.Zero(t, code, errs)
	require.Contains(t, out, "42")
	_, errs, code = run(t, "", "node", "ls", "--port", s.port, "--ssl-ca", ca)
	require.Zero(t, code, errs)
	s.stop(t)

	// Who asks for it at the start needs a certificate, and gets it from the first connection on.
	_, errs, code = run(t, "", "start", "--data", t.TempDir(), "--require-secure-transport")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "needs a certificate")
	s = startServer(t, filepath.Join(t.TempDir(), "data"), "--require-secure-transport",
		"--tls-cert", filepath.Join(certs, "node.crt"), "--tls-key", filepath.Join(certs, "node.key"))
	require.Error(t, open(func(*mysql.Config) {}).Ping())
	require.NoError(t, open(func(c *mysql.Config) { c.TLSConfig = "skip-verify" }).Ping())
}
