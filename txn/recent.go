package txn

import (
	"strings"

	"github.com/rowlockdb/rowlock/storage"
)

// recentCommits is how many of its last commits a coordinator can name.
const recentCommits = 1024

// recentText is how much of a statement is kept: one may be of many megabytes.
const recentText = 256

// recent remembers the last commits by their start timestamp, which is all that a
// stored version says of its writer. Guarded by Coordinator.mu.
type recent struct {
	ring    [recentCommits]storage.Timestamp
	next    int
	byStart map[storage.Timestamp]Info
}

// remember keeps a transaction that has committed writes.
func (c *Coordinator) remember(t *Txn) {
	if t.buffer.Len() == 0 {
		return
	}
	info := t.Info()
	info.Shards = nil
	if len(info.Statement) > recentText {
		info.Statement = strings.ToValidUTF8(strings.Clone(info.Statement[:recentText]), "") + "…"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.mu.recent
	if r.byStart == nil {
		r.byStart = make(map[storage.Timestamp]Info, recentCommits)
	}
	delete(r.byStart, r.ring[r.next])
	r.ring[r.next] = t.id.Start
	r.byStart[t.id.Start] = info
	r.next = (r.next + 1) % recentCommits
}

// Recent describes a transaction that committed here lately, by its start. Its
// statement is the last one.
func (c *Coordinator) Recent(start storage.Timestamp) (Info, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, ok := c.mu.recent.byStart[start]
	return info, ok
}
