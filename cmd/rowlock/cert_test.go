package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
)

// certs runs a cert command.
func certs(args ...string) (string, error) {
	root := rootCommand()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs(append([]string{"cert"}, args...))
	err := root.Execute()
	return out.String(), err
}

// TestCertificates makes all kinds and lets two nodes talk with them.
func TestCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	out, err := certs("create-ca", "--certs", dir)
	require.NoError(t, err)
	require.Contains(t, out, "ca.crt")
	_, err = certs("create-node", "--certs", dir, "--host", "127.0.0.1,node.example")
	require.NoError(t, err)
	_, err = certs("create-client", "alice", "--certs", dir, "--days", "7")
	require.NoError(t, err)

	contents := make(map[string][]byte)
	for _, name := range []string{"ca.crt", "ca.key", "node.crt", "node.key", "client.alice.crt", "client.alice.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode(), name)
		contents[name], err = os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
	}
	for _, again := range [][]string{{"create-ca"}, {"create-node"}, {"create-client", "alice"}} {
		_, err := certs(append(again, "--certs", dir)...)
		require.ErrorContains(t, err, "exists", again)
	}
	for name, content := range contents {
		after, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, content, after, name)
	}

	listen := func(dir string) (*transport.Transport, error) {
		return transport.Listen(transport.Options{
			Listen:  "127.0.0.1:0",
			Self:    func() transport.Identity { return transport.Identity{Cluster: [16]byte{1}, Node: 1} },
			Handler: func(_ context.Context, request []byte) []byte { return request },
			TLS:     &transport.TLS{Dir: dir},
		})
	}
	a, err := listen(dir)
	require.NoError(t, err)
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	response, err := a.Call(ctx, shard.NodeAddr(a.Addr()), []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello", string(response))

	// A user's certificate is not a node's.
	user := t.TempDir()
	for from, to := range map[string]string{"ca.crt": "ca.crt", "client.alice.crt": "node.crt", "client.alice.key": "node.key"} {
		require.NoError(t, os.WriteFile(filepath.Join(user, to), contents[from], 0o600))
	}
	_, err = listen(user)
	require.ErrorIs(t, err, transport.ErrCertificate)
}

func TestCertificateMistakes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	_, err := certs("create-node", "--certs", dir)
	require.ErrorContains(t, err, "create-ca")
	_, err = certs("create-ca", "--certs", dir, "--days", "10")
	require.NoError(t, err)
	for _, args := range [][]string{
		{"create-ca", "--days", "0", "--certs", filepath.Join(dir, "other")},
		{"create-node", "--days", "11"},
		{"create-node", "--host", "", "--days", "1"},
		{"create-client", "--days", "1"},
		{"create-client", "../alice", "--days", "1"},
		{"create-client", nodeCommonName, "--days", "1"},
	} {
		_, err := certs(append(args, "--certs", dir)...)
		var usage *usageError
		require.ErrorAs(t, err, &usage, args)
	}
	// The key of another authority.
	other := filepath.Join(t.TempDir(), "other")
	_, err = certs("create-ca", "--certs", other)
	require.NoError(t, err)
	_, err = certs("create-node", "--certs", dir, "--days", "1", "--ca-key", filepath.Join(other, "ca.key"))
	require.ErrorContains(t, err, "read the authority")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, transport.NodeName, nodeCommonName)
}
