//go:build cgo || gms_pure_go

package rowlock

import "github.com/rowlockdb/rowlock/shard"

// Speak makes the node play a release that speaks these versions.
func (o *Options) Speak(oldest, newest uint64) {
	o.versions = shard.Versions{Oldest: shard.Version(oldest), Newest: shard.Version(newest)}
}

// Active asks the gate of a version.
func (n *Node) Active(version uint64) bool { return n.shards.Active(shard.Version(version)) }
