package shard

import (
	"sync"
)

// Directory is a hint where the owner of each shard answers. It may be wrong:
// whoever is asked in error says so (NotOwner), and the hint moves on to the
// next member.
type Directory struct {
	mu struct {
		sync.RWMutex
		members map[ID][]NodeAddr
		next    map[ID]int
	}
}

// NewDirectory returns an empty directory.
func NewDirectory() *Directory {
	d := &Directory{}
	d.mu.members = make(map[ID][]NodeAddr)
	d.mu.next = make(map[ID]int)
	return d
}

// Set names the nodes with a replica of the shard, the likely owner first.
func (d *Directory) Set(s ID, members ...NodeAddr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.members[s], d.mu.next[s] = members, 0
}

// Owner returns the node to ask first.
func (d *Directory) Owner(s ID) (NodeAddr, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m := d.mu.members[s]
	if len(m) == 0 {
		return "", false
	}
	return m[d.mu.next[s]], true
}

// Wrong says that addr was asked and is not the owner.
func (d *Directory) Wrong(s ID, addr NodeAddr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.mu.members[s]; len(m) > 0 && m[d.mu.next[s]] == addr {
		d.mu.next[s] = (d.mu.next[s] + 1) % len(m)
	}
}
