//go:build cgo || gms_pure_go

package rowlock_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock"
	"github.com/rowlockdb/rowlock/shard/transport"
	"github.com/rowlockdb/rowlock/shard/transport/transporttest"
)

// TestClusterWithCertificates: nodes with certificates of one authority form a
// cluster, whose traffic the metrics show; nodes without are turned away at once.
func TestClusterWithCertificates(t *testing.T) {
	certificates := func() string {
		a, err := transporttest.NewAuthority()
		require.NoError(t, err)
		dir := t.TempDir()
		require.NoError(t, a.Write(dir, transporttest.Node()))
		return dir
	}
	ours := certificates()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	open := func(certificates string, join ...string) (*rowlock.Node, error) {
		n, err := rowlock.Open(ctx, rowlock.Options{Dir: t.TempDir(), Shards: 1, Cluster: "127.0.0.1:0", Join: join, Certificates: certificates})
		if err == nil {
			t.Cleanup(func() { require.NoError(t, n.Close(context.Background())) })
		}
		return n, err
	}
	first, err := open(ours)
	require.NoError(t, err)
	second, err := open(ours, first.ClusterAddress())
	require.NoError(t, err)
	for name, dir := range map[string]string{"none": "", "of another authority": certificates()} {
		_, err := open(dir, first.ClusterAddress())
		require.ErrorIs(t, err, rowlock.ErrRefused, name)
		require.ErrorIs(t, err, transport.ErrCertificate, name)
		require.NoError(t, ctx.Err())
	}

	db := sql.OpenDB(second.Connector(""))
	defer db.Close()
	_, err = db.ExecContext(ctx, "CREATE DATABASE d")
	require.NoError(t, err)
	var calls, out float64
	require.NoError(t, db.QueryRowContext(ctx, `SELECT value FROM rowlock.metrics WHERE node = 2 AND name = 'peer_calls{peer="1"}'`).Scan(&calls))
	require.NoError(t, db.QueryRowContext(ctx, `SELECT value FROM rowlock.metrics WHERE node = 2 AND name = 'peer_bytes_out{peer="1"}'`).Scan(&out))
	require.Positive(t, calls)
	require.Greater(t, out, calls)
}
