package txn

import (
	"context"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// giveBack releases row locks of a scan with SKIP LOCKED that were taken for
// rows it did not return. Such a scan locks no interval and promises nothing about
// the rows it leaves out, and nothing was decided on these. It does not depend on
// the statement's context: a killed statement gives back, too.
func (t *Txn) giveBack(sources []*source) {
	var from []*source
	var keys [][]storage.Key
	for _, s := range sources {
		if k := s.unreturned(); len(k) > 0 {
			from, keys = append(from, s), append(keys, k)
		}
	}
	if len(from) == 0 {
		return
	}
	ctx, cancel := t.c.detached(context.Background(), cleanupPatience)
	defer cancel()
	failed := make([]error, len(from))
	inParallel(len(from), func(i int) {
		failed[i] = t.c.router.Release(ctx, from[i].shard, &shard.ReleaseRequest{Txn: t.id, Keys: keys[i]})
	})
	for i, s := range from {
		if failed[i] != nil { // perhaps it holds them still: harmless, until the end
			t.c.log.Debug("give locks back", "txn", t.id, "shard", s.shard, "error", failed[i])
		}
		for _, k := range keys[i] {
			delete(s.part.rows, string(k))
		}
		t.addLocks(-len(keys[i]))
		s.mine = nil
	}
}
