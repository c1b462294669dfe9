package dragon

import (
	"fmt"
	"sync"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
)

// registry tells Dragonboat where replicas are: it remembers the node target
// of each, a host id, and asks the resolver for the address at every use.
type registry struct {
	resolve func(string) (string, error)
	mu      struct {
		sync.Mutex
		targets map[raftio.NodeInfo]string
	}
}

var (
	_ raftio.INodeRegistry       = (*registry)(nil)
	_ config.NodeRegistryFactory = registryFactory{}
)

func newRegistry(resolve func(string) (string, error)) *registry {
	r := &registry{resolve: resolve}
	r.mu.targets = make(map[raftio.NodeInfo]string)
	return r
}

// registryFactory hands our registry to Dragonboat.
type registryFactory struct{ r *registry }

func (f registryFactory) Create(string, uint64, config.TargetValidator) (raftio.INodeRegistry, error) {
	return f.r, nil
}

func (r *registry) Close() error { return nil }

func (r *registry) Add(shard, replica uint64, target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.targets[raftio.GetNodeInfo(shard, replica)] = target
}

func (r *registry) Remove(shard, replica uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.targets, raftio.GetNodeInfo(shard, replica))
}

func (r *registry) RemoveShard(shard uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.mu.targets {
		if n.ShardID == shard {
			delete(r.mu.targets, n)
		}
	}
}

// Resolve returns the address of a replica, and the key under which messages
// to it share a connection: one per address, so that the groups of two nodes
// share messages.
func (r *registry) Resolve(shard, replica uint64) (string, string, error) {
	r.mu.Lock()
	target, ok := r.mu.targets[raftio.GetNodeInfo(shard, replica)]
	r.mu.Unlock()
	if !ok {
		return "", "", fmt.Errorf("dragon: replica %d of group %d has no known target", replica, shard)
	}
	address, err := r.resolve(target)
	if err != nil {
		return "", "", fmt.Errorf("dragon: resolve %s: %w", target, err)
	}
	return address, address, nil
}
