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
	failed := make([]error, len(from))
	t.c.crew.inParallel(len(from), func(i int) {
		ctx, cancel := t.c.detached(context.Background(), cleanupPatience)
		defer cancel()
		failed[i] = t.c.router.Release(ctx, from[i].shard, &shard.ReleaseRequest{Txn: t.id, Keys: keys[i]})
	})
	for i, s := range from {
		for _, k := range keys[i] {
			delete(s.part.rows, string(k))
		}
		t.addLocks(-len(keys[i]))
		s.mine = nil
	}
	for i, s := range from {
		if failed[i] != nil { // see letGo
			t.abort(context.Background(), &Error{Code: LockLost, Txn: t.id, Shard: s.shard, Err: failed[i],
				Detail: "giving locks back had no answer"})
			return
		}
	}
}
