//go:build cgo || gms_pure_go

package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock"
)

// A small run of what `make queue` does.
func TestQueueOverTheWire(t *testing.T) {
	node, err := rowlock.Open(context.Background(), rowlock.Options{Dir: t.TempDir(), Shards: 4})
	require.NoError(t, err)
	defer node.Close(context.Background())
	address, err := node.ListenMySQL("127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, run(context.Background(), settings{address: address.String(), jobs: 200, workers: 6}))
}
