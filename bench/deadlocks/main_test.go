//go:build cgo || gms_pure_go

package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock"
	"github.com/rowlockdb/rowlock/bench/explore"
)

// A small run of what `make deadlocks` does, without its limit on time.
func TestDeadlocksOverTheWire(t *testing.T) {
	node, err := rowlock.Open(context.Background(), rowlock.Options{Dir: t.TempDir(), Shards: 4})
	require.NoError(t, err)
	defer node.Close(context.Background())
	address, err := node.ListenMySQL("127.0.0.1:0")
	require.NoError(t, err)
	seed := explore.Seed(t)
	require.NoError(t, run(context.Background(), settings{address: address.String(), cycles: 40, parallel: 3,
		ordered: 200, workers: 8, limit: time.Hour, seed: seed}))
}
