package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/shard/transport"
	"github.com/rowlockdb/rowlock/shard/transport/transporttest"
)

// freeAddress is a loopback address that nobody listens on, nor will by chance.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := transporttest.FreeAddress()
	require.NoError(t, err)
	return address
}

// ended waits until a server ends by itself and returns what it said, and its exit code.
func (s *server) ended(t *testing.T) (string, int) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var rest strings.Builder
		s.out.WriteTo(&rest)
		_ = s.c.Wait() // the exit code is in ProcessState
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the server goes on")
	}
	return s.c.Stderr.(*bytes.Buffer).String(), s.c.ProcessState.ExitCode()
}

// A cluster of processes refuses who does not belong to it, with a sentence and an exit
// code of its own, and who was removed stops.
func TestClusterRefusals(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	dir := func(name string) string { return filepath.Join(folder, name) }
	first, foreign := freeAddress(t), freeAddress(t)
	one := startServer(t, dir("one"), "--cluster", first, "--name", "one")
	startServer(t, dir("foreign"), "--cluster", foreign, "--name", "one").stop(t)

	refused := func(want string, code int, args ...string) {
		t.Helper()
		_, errs, got := run(t, "", append([]string{"start", "--listen", "127.0.0.1:0"}, args...)...)
		require.Equal(t, code, got, errs)
		require.Contains(t, errs, want)
		require.Equal(t, 1, strings.Count(errs, "\n"), "one sentence: %q", errs)
	}
	refused(`has the name "one" already`, exitRefused, "--data", dir("named"), "--cluster", freeAddress(t), "--join", first, "--name", "ONE")
	refused("node of another cluster", exitRefused, "--data", dir("foreign"), "--cluster", foreign, "--join", first)

	two := startServer(t, dir("two"), "--cluster", freeAddress(t), "--join", first, "--name", "two")
	one.stop(t)
	require.NoError(t, os.Rename(filepath.Join(dir("one"), "CLUSTER"), filepath.Join(folder, "notes")))
	refused("notes of the cluster are missing", exitCorrupt, "--data", dir("one"), "--cluster", first)
	require.NoError(t, os.Rename(filepath.Join(folder, "notes"), filepath.Join(dir("one"), "CLUSTER")))
	one = startServer(t, dir("one"), "--cluster", first, "--name", "one")

	peer, err := transport.Listen(transport.Options{Listen: "127.0.0.1:0", Self: func() transport.Identity { return transport.Identity{} }})
	require.NoError(t, err)
	defer peer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	member := shard.Member{Host: "host", Cluster: peer.Advertised()}
	_, err = shard.Join(ctx, peer, shard.NodeAddr(first), member, time.Now().Add(-time.Hour))
	require.Equal(t, shard.Refused, shard.CodeOf(err))
	require.ErrorContains(t, err, "clock is 1h0m0s away")

	out, errs, code := run(t, "", "node", "remove", "two", "--port", one.port)
	require.Zero(t, code, out+errs)
	said, code := two.ended(t)
	require.Equal(t, exitRefused, code, said)
	require.Contains(t, said, "the node was removed from its cluster")
	refused("the node was removed from its cluster", exitRefused, "--data", dir("two"), "--cluster", freeAddress(t))
	require.Eventually(t, func() bool { // as a rule at once: see TestSettingIsSeenWhereItWasMade
		out, errs, code := run(t, "", "sql", "-P", one.port, "-e", "SELECT COUNT(*) FROM rowlock.nodes")
		require.Zero(t, code, errs)
		return strings.Contains(out, "\n1\n")
	}, time.Minute, 100*time.Millisecond)
}
