package shard

import (
	"slices"
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

// Add names a further node with a replica of the shard.
func (d *Directory) Add(s ID, member NodeAddr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.mu.members[s], member) {
		d.mu.members[s] = append(slices.Clone(d.mu.members[s]), member)
	}
}

// Found says that a node owns the shard, or is said to.
func (d *Directory) Found(s ID, owner NodeAddr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.mu.members[s], owner)
	if i < 0 {
		d.mu.members[s] = append(slices.Clone(d.mu.members[s]), owner)
		i = len(d.mu.members[s]) - 1
	}
	d.mu.next[s] = i
}

// Update names the nodes with a replica of the shard and keeps the likely owner if
// it is among them.
func (d *Directory) Update(s ID, members []NodeAddr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.mu.members[s]
	if slices.Equal(old, members) {
		return
	}
	next := 0
	if len(old) > 0 {
		next = max(0, slices.Index(members, old[d.mu.next[s]]))
	}
	d.mu.members[s], d.mu.next[s] = members, next
}

// Suggest passes on what somebody else believes, who may be late: it counts only
// while nobody was found here.
func (d *Directory) Suggest(s ID, owner NodeAddr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.mu.members[s], owner); i >= 0 {
		d.mu.next[s] = i
	}
}

// Members returns the nodes that are believed to have a replica of the shard.
func (d *Directory) Members(s ID) []NodeAddr {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.mu.members[s]
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
