package shard

// SetFull makes the owners on this node refuse what would need space (DiskFull):
// exclusive locks, which are what a write begins with, and votes on writes. Reads,
// votes that were cast and everything that ends transactions go on, and so does the
// system shard: without it nothing could be handed over or put right. What other
// nodes own is written here as before; a replica cannot refuse its log.
func (n *Node) SetFull(full bool) { n.full.Store(full) }

// space refuses writes where there is no space for them.
func (r *Replica) space() error {
	if r.c.Full == nil || !r.c.Full.Load() || r.c.Shard == System {
		return nil
	}
	return &Error{Code: DiskFull, Shard: r.c.Shard, Detail: "the disk of the shard's owner is nearly full"}
}
