package shard

// Owned lists the shards that this node serves now. Another node may have taken
// one over already, of which this one has not heard: whoever acts on the list
// asks the shard.
func (r *Router) Owned() []ID {
	var owned []ID
	for _, s := range r.allShards() {
		if local := r.server.Replica(s); local != nil && local.serving.Load() != nil {
			owned = append(owned, s)
		}
	}
	return owned
}
