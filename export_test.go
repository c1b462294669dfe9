//go:build cgo || gms_pure_go

package rowlock

import (
	"context"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// Speak makes the node play a release that speaks these versions.
func (o *Options) Speak(oldest, newest uint64) {
	o.versions = shard.Versions{Oldest: shard.Version(oldest), Newest: shard.Version(newest)}
}

// Active asks the gate of a version.
func (n *Node) Active(version uint64) bool { return n.shards.Active(shard.Version(version)) }

// Stored is a record of the system shard.
func (n *Node) Stored(ctx context.Context, key string) ([]byte, error) {
	tx := n.coordinator.Begin(txn.Options{ReadOnly: true})
	defer tx.Rollback(ctx)
	row, err := tx.Get(ctx, txn.InSystem(storage.Key(key)), txn.ReadOptions{})
	return row.Value, err
}
